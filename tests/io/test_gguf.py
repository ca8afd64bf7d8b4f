# SPDX-License-Identifier: Apache-2.0
"""GGUF files: what the package gguf writes and its own reader reads, beside the Hugging Face folders they stand for."""

import importlib
import itertools
import json
import struct
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import gguf_files
import numpy as np
import pytest
from families import expected, modules, tiny
from gguf_files import convert, vocabulary, write
from numpy.typing import NDArray

import intsim
from intsim.cli import main
from intsim.convert.simulate import open_reference
from intsim.errors import CheckpointError
from intsim.io.gguf_file import KINDS, read_gguf
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import has_tokenizer, parse_tokenizer, read_tokenizer
from intsim.reference.world import run

IDS: Final = np.array([[5, 9, 2, 44, 31, 7, 7, 60]])
TOKENS: Final = (
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(3)),
    "▁",
    *"abcdefghijklmnop",
    "▁a",
    "ab",
    "▁ab",
)
KIND_OF: Final = (2, 3, 3, 6, 6, 6, *[1] * 20)
SCORES: Final = (*[0.0] * 6, *(-float(i) for i in range(20)))
WORDS: Final = vocabulary(TOKENS, KIND_OF, "llama", scores=SCORES, bos_token_id=1, eos_token_id=2)
TEXTS: Final = ("abba a babe", "a good old dog", "deadbeef")


@pytest.fixture(scope="module", params=gguf_files.ARCHITECTURES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a checkpoint of each family as a folder, and as a GGUF file."""
    head = "causal-lm-tied" if request.param == "gemma" else "causal-lm"  # a Gemma has no other
    folder = tiny(request.param, head, tmp_path_factory.mktemp(request.param))
    return folder, convert(folder, folder.parent / f"{request.param}.gguf")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny("llama", "causal-lm-tied", tmp_path_factory.mktemp("llama"), vocab_size=26)
    convert(folder, folder / "llama.gguf", metadata=WORDS)
    (folder / "tokenizer.json").write_text(read_tokenizer(folder / "llama.gguf"))
    (folder / "tokenizer_config.json").unlink()
    return folder


def test_a_file_has_the_tensors_and_the_configuration_of_the_folder(pair: tuple[Path, Path]) -> None:
    folder, file = map(open_checkpoint, pair)
    assert (file.model_type, file.head, file.names) == (folder.model_type, "causal-lm", folder.names)
    apart = {name for name, value in folder.config.to_json().items() if file.config.to_json()[name] != value}
    assert apart <= {"partial_rotary_factor", "head_dim", "pad_token_id", "num_key_value_heads"}  # said another way
    for name in folder.names:
        exact = file.model_type != "gemma" or "norm" not in name
        np.testing.assert_allclose(file.load(name), folder.load(name), rtol=0, atol=0 if exact else 2**-23)
        assert file.dtype(name) == "F32"


def _logits(path: Path) -> NDArray[Any]:
    file = open_checkpoint(path)
    weights = {name: file.load(name) for name in file.names}
    mask, types = np.ones_like(IDS, bool), np.zeros_like(IDS)
    return run(file.family, weights, file.config, file.head, IDS, attention_mask=mask, token_type_ids=types)


def test_a_file_gives_the_logits_of_transformers(pair: tuple[Path, Path]) -> None:
    folder, path = pair
    reference = expected(folder, IDS)["logits"]
    np.testing.assert_allclose(_logits(path), reference, rtol=0, atol=1e-6 * np.abs(reference).max())


@pytest.mark.parametrize("family", gguf_files.ARCHITECTURES)
def test_a_file_without_a_head_ties_it_to_the_words(family: str, tmp_path: Path) -> None:
    folder = tiny(family, "causal-lm-tied", tmp_path)
    reference = expected(folder, IDS)["logits"]
    file = convert(folder, tmp_path / "tied.gguf")
    assert "output.weight" not in read_gguf(file).tensors
    np.testing.assert_allclose(_logits(file), reference, rtol=0, atol=1e-6 * np.abs(reference).max())


@pytest.mark.parametrize(
    ("scaling", "metadata"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
        ({"rope_type": "linear", "factor": 2.0}, {"rope.scale_linear": 2.0}),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            {},
        ),
    ],
)
def test_scaled_rotations_are_those_of_transformers(
    tmp_path: Path, scaling: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    config = {"hidden_size": 64, "max_position_embeddings": 131072}
    scaling = {"rope_theta": 500000.0, **scaling}
    folder = tiny("llama", "causal-lm", tmp_path, **config, rope_parameters=scaling)
    tensors = {}
    if scaling["rope_type"] == "llama3":
        rotary = importlib.import_module("transformers.modeling_rope_utils")
        read = importlib.import_module("transformers").AutoConfig.from_pretrained(folder)
        scaled, _ = rotary.ROPE_INIT_FUNCTIONS["llama3"](read, "cpu")
        plain = 500000.0 ** -(np.arange(0, 16, 2, dtype=np.float32) / 16)
        tensors = {"rope_freqs.weight": plain / scaled.numpy()}
        assert any(1.1 < each < 7.9 for each in tensors["rope_freqs.weight"])
    file = convert(
        folder, tmp_path / "scaled.gguf", metadata={f"llama.{k}": v for k, v in metadata.items()}, tensors=tensors
    )
    assert open_checkpoint(file).config.rope_type == scaling["rope_type"]
    reference = expected(folder, IDS)["logits"]
    np.testing.assert_allclose(_logits(file), reference, rtol=0, atol=1e-6 * np.abs(reference).max())


HALVES: Final = {"Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q4_K": (0, 2), "Q6_K": (208,)}  # where scales lie


def _blocks(kind: str) -> NDArray[np.uint8]:
    """Return (256, 256) random values as bytes of a kind, of every code."""
    gguf = gguf_files.package()
    columns, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    rng = np.random.default_rng(7)
    if kind not in HALVES:
        values = rng.normal(size=(256, 256)).astype(np.float32)
        return {
            "F32": values.view(np.uint8),
            "F16": values.astype(np.float16).view(np.uint8),
            "BF16": np.ascontiguousarray(values.view(np.uint8).reshape(256, 256, 4)[..., 2:]).reshape(256, 512),
        }[kind]
    blocks = rng.integers(0, 256, (256, 256 // columns, size), np.uint8)
    for at in HALVES[kind]:
        blocks[..., at : at + 2] = rng.normal(size=(*blocks.shape[:2], 1)).astype("<f2").view(np.uint8)
    return blocks.reshape(256, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_torch_and_transformers_read_it(kind: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 256}
    folder, blocks = tiny("llama", "causal-lm", tmp_path, **sizes), _blocks(kind)
    torch = importlib.import_module("torch")
    if kind in HALVES:
        number = gguf_files.package().GGMLQuantizationType[kind].value
        dequantize = importlib.import_module("transformers.integrations.gguf.dequant").dequantize
        reference = dequantize(torch.from_numpy(blocks), number).reshape(256, 256)
    else:
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
        reference = torch.from_numpy(blocks).view(dtype).float()
    name = "blk.1.ffn_up.weight"
    file = open_checkpoint(convert(folder, tmp_path / "a.gguf", kinds={name: kind}, tensors={name: blocks}))
    assert file.dtype("layers.1.mlp.up_proj.weight") == kind
    found = file.load("layers.1.mlp.up_proj.weight", np.float32)
    np.testing.assert_allclose(found, reference.numpy(), rtol=0, atol=2**-20 * np.abs(found).max())
    assert len(np.unique(found)) > 256


def test_the_header_is_what_the_package_reads(llama: Path) -> None:
    gguf = gguf_files.package()
    ours, theirs = read_gguf(llama / "llama.gguf"), gguf.GGUFReader(llama / "llama.gguf")
    fields = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert ours.metadata == fields
    assert {name: (block.kind, block.shape, block.offset, block.size) for name, block in ours.tensors.items()} == {
        each.name: (each.tensor_type.name, tuple(each.shape.tolist()[::-1]), each.data_offset, each.n_bytes)
        for each in theirs.tensors
    }


def test_an_integer_model_of_a_file_is_that_of_the_folder(llama: Path) -> None:
    file = llama / "llama.gguf"
    models = [
        intsim.quantize(path, recipe="zeroquant", profile="intsim-wide", calibration=TEXTS) for path in (llama, file)
    ]
    assert open_reference(file, models[0]).names == open_checkpoint(llama).names
    unstated = replace(models[0], config=replace(models[0].config, head_dim=0))
    assert open_reference(file, unstated).names == open_checkpoint(llama).names
    assert parse_tokenizer(str(models[0].tokenizer)).to_str() == models[1].tokenizer
    assert models[0].tensors.keys() == models[1].tensors.keys()
    for name, values in models[0].tensors.items():
        np.testing.assert_array_equal(models[1].tensors[name], values, err_msg=name)


def test_commands_take_a_file(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone"  # a folder with a file in it
    alone.mkdir()
    (alone / "model.gguf").write_bytes((llama / "llama.gguf").read_bytes())
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    texts, recipe = ("--calibration", str(tmp_path / "texts.txt")), ("--recipe", "zeroquant")
    printed = []
    for path in (alone, alone / "model.gguf"):
        for command in (
            ("quantize", str(path), "-o", str(tmp_path / "out"), *recipe, *texts),
            ("inspect", str(path)),
            ("recipes", "zeroquant", "--checkpoint", str(path)),
        ):
            assert _status(*command) == 0, capsys.readouterr().err
            printed.append(capsys.readouterr().out)
    assert printed[:3] == printed[3:]
    assert "F32" in printed[1]


def test_perplexity_is_told_beside_that_of_the_file(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_text("\n".join(TEXTS * 3))
    told = []
    for path in (llama / "llama.gguf", llama):  # the same numbers in two forms
        out = tmp_path / path.name
        intsim.quantize(path, recipe="zeroquant:groups=4", calibration=TEXTS).save(out)
        how = ("--task", "perplexity", "--data", str(tmp_path / "texts"), "--reference", str(path), "--json")
        assert _status("eval", str(out), *how) == 0, capsys.readouterr().err
        told.append(json.loads(capsys.readouterr().out))
    metrics, reference = told[0]["metrics"], told[0]["reference"]
    assert metrics["tokens"] == reference["tokens"] > 10
    assert metrics["perplexity"] == pytest.approx(reference["perplexity"], rel=0.05)
    assert metrics["perplexity"] != reference["perplexity"]
    assert (told[1]["metrics"], told[1]["reference"]) == (metrics, reference)


def _status(*command: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["intsim", *command])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """Return the sentence by which ``intsim inspect`` refuses a checkpoint, its path as FILE."""

    def sentence(path: Path) -> str:
        assert _status("inspect", str(path)) == 3
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        return line.replace(str(path), "FILE").removeprefix("error: ").removeprefix("intsim: ")

    return sentence


def test_a_file_that_ends_early_is_refused_wherever_it_ends(llama: Path, tmp_path: Path) -> None:
    whole, cut = (llama / "llama.gguf").read_bytes(), tmp_path / "cut.gguf"
    header = min(block.offset for block in read_gguf(llama / "llama.gguf").tensors.values())
    for end in (*range(header + 1), header + 100, len(whole) // 2, len(whole) - 32):
        cut.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match="must be a complete GGUF file, got"):
            open_checkpoint(cut)


def test_a_command_refuses_a_file_that_ends_early_in_one_sentence(
    llama: Path, tmp_path: Path, refusal: Callable[[Path], str]
) -> None:
    whole = (llama / "llama.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-100])
    assert refusal(tmp_path / "cut.gguf").startswith("FILE must be a complete GGUF file, got")


def _header(
    *, magic: bytes = b"GGUF", version: int = 3, tensors: int = 0, metadata: int = 0, rest: bytes = b""
) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, metadata) + rest


NAME: Final = struct.pack("<Q", 1) + b"a"


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "cannot mmap an empty file"),
        (_header(magic=b"GGML"), "a file that begins with b'GGML'"),
        (_header(version=1), "version 1"),
        (_header(version=3 << 24), "version 50331648"),
        (_header(metadata=1, rest=NAME + struct.pack("<I", 13)), "metadata of type 13"),
        (_header(metadata=1, rest=NAME + struct.pack("<IIQ", 9, 9, 1)), "a list of values of type 9"),
        (_header(metadata=1, rest=NAME + struct.pack("<IIQ", 9, 0, 1 << 60)), f"a list of {1 << 60} values"),
        (_header(metadata=1 << 60), "an end at byte 24 in its header"),
        (_header(metadata=1, rest=struct.pack("<Q", 1 << 63)), "an end at byte 32 in its header"),
        (_header(metadata=1, rest=struct.pack("<Q", 1) + b"\xff"), "bytes that are not UTF-8, the first at 0"),
        (_header(metadata=2, rest=2 * (NAME + struct.pack("<IB", 0, 7))), "'a' twice"),
        (_header(tensors=1, rest=NAME + struct.pack("<I", 9)), "a tensor of 9 dimensions"),
    ],
)
def test_a_damaged_header_is_refused(content: bytes, got: str, tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    sentence = f"FILE must be a complete GGUF file, got {got}; download it again"
    assert refusal(tmp_path / "bad.gguf") == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"metadata": {"llama.context_length": None}},
            "llama.context_length of FILE must be a positive integer, got nothing",
        ),
        (
            {"metadata": {"llama.rope.scaling.type": "yarn"}},
            "llama.rope.scaling.type of FILE must be none or linear, got 'yarn'",
        ),
        (
            {"metadata": {"llama.rope.dimension_count": 4}},
            "llama.rope.dimension_count of FILE must be 6, the channels of a head, got 4",
        ),
        (
            {"metadata": {"llama.attention.value_length": 8}},
            "llama.attention.value_length of FILE must be 6, that of keys, got 8",
        ),
        (
            {"metadata": {"llama.logit_scale": 2.0}},
            "llama.logit_scale of FILE must be left out, since no llama here has it, got 2.0",
        ),
        (
            {"metadata": {"llama.rope.dimension_count": "six"}},
            "llama.rope.dimension_count of FILE must be a positive integer, got 'six'",
        ),
        (
            {"metadata": {"llama.attention.head_count": 3, "llama.attention.head_count_kv": 2}},
            (
                "FILE must hold what config.json holds of a llama, got: num_attention_heads in config.json must be a "
                "multiple of num_key_value_heads, 2, got 3"
            ),
        ),
        (
            {"metadata": {"llama.embedding_length": 3, "llama.attention.key_length": None}},
            "llama.embedding_length of FILE must be at least attention.head_count, 4, got 3",
        ),
        (
            {"metadata": {"split.count": 2}},
            "FILE must be one file, got one of 2; merge them with llama-gguf-split",
        ),
        (
            {"tensors": {"blk.0.attn_q.bias": np.zeros(24, np.float32)}},
            "FILE must hold the tensors of a llama, got 'blk.0.attn_q.bias' too",
        ),
        (
            {"tensors": {"rope_freqs.weight": np.array([1, 2, 9], np.float32)}},
            "rope_freqs.weight of FILE must hold the divisors of LLaMA 3, got others",
        ),
        (
            {"tensors": {"blk.0.ffn_up.weight": np.zeros((36, 32), np.float32)}},
            (
                "tensor 'layers.0.mlp.up_proj.weight' of FILE must have shape (36, 24) by its configuration, "
                "got (36, 32); correct one of the two"
            ),
        ),
        (
            {"tensors": {"a": np.zeros((2, 22), np.uint8)}, "kinds": {"a": "Q5_0"}},
            "tensor 'a' of FILE must be stored as one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K, got Q5_0",
        ),
    ],
)
def test_a_file_that_is_no_model_here_is_refused(
    change: Mapping[str, Any], sentence: str, llama: Path, tmp_path: Path, refusal: Callable[[Path], str]
) -> None:
    assert refusal(convert(llama, tmp_path / "other.gguf", **change)) == sentence


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    file = write(tmp_path / "mamba.gguf", "mamba", {}, {}, {})
    known = "gemma, gpt2, gptj, gptneox, llama, qwen2"
    assert refusal(file) == f"general.architecture of FILE must be one of {known}, got 'mamba'"


def test_a_kind_that_nobody_knows_is_refused(tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    pytest.importorskip("gguf")
    info = NAME + struct.pack("<IQIQ", 1, 32, 99, 0)
    (tmp_path / "kind.gguf").write_bytes(_header(tensors=1, rest=info) + bytes(256))
    assert refusal(tmp_path / "kind.gguf").endswith("Q6_K, got kind 99")


def test_numbers_that_are_not_finite_are_refused(llama: Path, tmp_path: Path) -> None:
    nan = {"output_norm.weight": np.full(24, np.nan, np.float32)}
    file = open_checkpoint(convert(llama, tmp_path / "nan.gguf", tensors=nan))
    with pytest.raises(CheckpointError, match=r"must hold finite numbers only, got nan at index \(0,\)"):
        file.load("norm.weight")


def test_a_folder_with_two_files_is_refused(llama: Path, tmp_path: Path, refusal: Callable[[Path], str]) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes((llama / "llama.gguf").read_bytes())
    assert refusal(tmp_path) == "checkpoint FILE must have one GGUF file in it, got 2; give the file to read"


def test_a_machine_without_the_package_is_told_so(
    llama: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[[Path], str]
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    sentence = "package gguf must be installed to read GGUF files, got none; pip install 'intsim[gguf]'"
    assert refusal(llama / "llama.gguf") == sentence


BYTES: Final = tuple(chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)))
MERGES: Final = ("Ġ t", "h e", "Ġt he", "1 2", "12 3", "Ċ Ċ", "i n", "Ġ Ġ", "' s", "Ã ©", "q u")
BYTE_PAIRS: Final = (*BYTES, *(merge.replace(" ", "") for merge in MERGES), "xyz", "<|end|>", "<|user|>", "[tool]")
ODD: Final = (
    "the quick the's 1234 12 in\n\n the  end\t x",
    "café cafe\u0301 naïve — “quoted” 日本語 🎉",
    "<|user|>the<|end|>[tool] they",
    "xyz xyzx I'LL we'll 1²3 a\r\n\r\n  b \n",
)


def _byte_pairs(pre: str, **more: Any) -> dict[str, Any]:
    kinds = (*[1] * (len(BYTE_PAIRS) - 3), 3, 3, 4)
    end = BYTE_PAIRS.index("<|end|>")
    ends = {"bos_token_id": end, "eos_token_id": end}
    return vocabulary(BYTE_PAIRS, kinds, "gpt2", merges=MERGES, pre=pre, **ends, **more)


def _ids(file: Path, text: str) -> list[int]:
    return parse_tokenizer(read_tokenizer(file)).encode(text).ids


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2"])
@pytest.mark.parametrize("text", ODD)
def test_pairs_of_bytes_are_those_of_transformers(pre: str, text: str, tmp_path: Path) -> None:
    _, transformers = modules()
    metadata = {**_byte_pairs(pre), "llama.block_count": 1}
    file = write(tmp_path / "a.gguf", "llama", metadata, {"a": np.zeros(1, np.float32)}, {})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    if (
        pre == "qwen2"
    ):  # whose tokenizer composes accents first, where the one that transformers makes of a file does not
        text = unicodedata.normalize("NFC", text)
    bos = [BYTE_PAIRS.index("<|end|>")] if pre == "llama-bpe" else []  # as llama.cpp where a file does not say
    if pre == "llama-bpe" and "xyz" in text:  # a word that is a token stays whole
        assert BYTE_PAIRS.index("xyz") in _ids(file, text)
    else:
        assert _ids(file, text) == bos + theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", "Ġ 123 4 e Ì ģ"),
        ("smollm", "Ġ 1 2 3 4 e Ì ģ"),
        ("llama-bpe", "<|end|> Ġ 123 4 e Ì ģ"),
        ("qwen2", "Ġ 1 2 3 4 Ã©"),
    ],
)
def test_digits_and_accents_are_cut_as_each_vocabulary_was_learned(pre: str, pieces: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf", "llama", _byte_pairs(pre), {}, {})
    tokens = parse_tokenizer(read_tokenizer(file)).encode(" 1234e\u0301").tokens
    assert tokens == pieces.split()


@pytest.mark.parametrize(
    ("more", "first", "last"),
    [({}, 0, 0), ({"add_bos_token": True}, 1, 0), ({"add_eos_token": True}, 0, 1)],
)
def test_a_file_says_what_comes_before_and_after_a_text(
    more: Mapping[str, bool], first: int, last: int, tmp_path: Path
) -> None:
    end = [BYTE_PAIRS.index("<|end|>")]
    file = write(tmp_path / "a.gguf", "llama", _byte_pairs("gpt-2", **more), {}, {})
    assert _ids(file, "the") == first * end + [BYTES.index("t"), BYTE_PAIRS.index("he")] + last * end
    pair = parse_tokenizer(read_tokenizer(file)).encode("h", "i")
    assert pair.ids == first * end + [BYTES.index("h")] + last * end + first * end + [BYTES.index("i")] + last * end
    assert set(pair.type_ids) == {0}


def test_scored_pieces_are_merged_as_sentencepiece_merges_them(shared: Path, tmp_path: Path) -> None:
    """stories260K's vocabulary in a file, beside a search for the best pair, again and again, as its paper has it."""
    data, place, pieces = (shared / "models" / "stories260K" / "tok512.bin").read_bytes(), 4, list[tuple[str, float]]()
    while place < len(data):
        score, length = struct.unpack("<fi", data[place : place + 8])
        pieces.append((data[place + 8 : place + 8 + length].decode(), score))
        place += 8 + length
    names = ["<unk>", "<s>", "</s>", *(piece.replace(" ", "▁") for piece, _ in pieces[3:])]
    scores = {name: score for name, (_, score) in zip(names, pieces, strict=True)}
    kinds = [2, 3, 3, *(6 if name.startswith("<0x") else 1 for name in names[3:])]
    metadata = vocabulary(names, kinds, "llama", scores=[s for _, s in pieces], bos_token_id=1, eos_token_id=2)
    file = write(tmp_path / "a.gguf", "llama", metadata, {}, {})

    def slow(text: str) -> list[str]:
        symbols = list("▁" + text.replace(" ", "▁"))
        while True:
            pairs = [(scores.get(a + b), -i) for i, (a, b) in enumerate(itertools.pairwise(symbols))]
            found = [pair for pair in pairs if pair[0] is not None]
            if not found:
                break
            at = -max(found)[1]
            symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
        as_bytes = [[s] if s in scores else [f"<0x{byte:02X}>" for byte in s.encode()] for s in symbols]
        return ["<s>", *itertools.chain.from_iterable(as_bytes)]

    texts = ["Once upon a time, there was a little girl named Lily.", "  two  spaces ", "zürich 日", "<s"]
    for text in texts:
        assert parse_tokenizer(read_tokenizer(file)).encode(text).tokens == slow(text), text


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({}, "tokenizer.ggml.model of FILE must be one of gpt2, llama to read text, got nothing"),
        (
            {"tokenizer.ggml.model": "t5"},
            "tokenizer.ggml.model of FILE must be one of gpt2, llama to read text, got t5",
        ),
        (
            _byte_pairs("tekken"),
            "tokenizer.ggml.pre of FILE must be one of gpt-2, smollm, llama-bpe, qwen2 to read text, got tekken",
        ),
        (
            {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a"]},
            "FILE must hold a whole vocabulary to read text, got no 'scores'",
        ),
        (
            {**WORDS, "tokenizer.ggml.bos_token_id": 99},
            "FILE must hold a whole vocabulary to read text, got a value of another kind",
        ),
    ],
)
def test_a_vocabulary_that_is_not_known_is_refused(metadata: Mapping[str, Any], sentence: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf", "llama", metadata, {"a": np.zeros(1, np.float32)}, {})
    with pytest.raises(CheckpointError) as refused:
        read_tokenizer(file)
    assert str(refused.value).replace(str(file), "FILE") == sentence


def test_without_a_vocabulary_the_tokenizer_beside_the_file_is_read(tmp_path: Path) -> None:
    other = write(tmp_path / "other.gguf", "llama", _byte_pairs("gpt-2"), {"a": np.zeros(1, np.float32)}, {})
    text = read_tokenizer(other)
    for name, metadata in {"without": {}, "with": WORDS}.items():
        folder = tmp_path / name
        folder.mkdir()
        file = write(folder / "a.gguf", "llama", metadata, {"a": np.zeros(1, np.float32)}, {})
        own = None if name == "without" else read_tokenizer(file)
        assert has_tokenizer(file) == (own is not None)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        assert has_tokenizer(folder)
        assert read_tokenizer(file) == read_tokenizer(folder) == (own or text)


def test_a_file_of_changed_bytes_is_read_or_refused(llama: Path, tmp_path: Path) -> None:
    whole, file = bytearray((llama / "llama.gguf").read_bytes()), tmp_path / "changed.gguf"
    header = min(block.offset for block in read_gguf(llama / "llama.gguf").tensors.values())
    rng, refused = np.random.default_rng(11), 0
    for at in rng.choice(header, 600, replace=False):
        changed = whole.copy()
        changed[at] = rng.integers(256)
        file.write_bytes(changed)
        try:
            open_checkpoint(file)
            read_tokenizer(file)
        except CheckpointError:
            refused += 1
    assert 200 < refused < 600
