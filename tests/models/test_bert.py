# SPDX-License-Identifier: Apache-2.0
"""The whole integer BERT against the oracle, bit for bit, and everything that must not change a bit."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

import intsim
from intsim.errors import IntsimError
from intsim.io.tokenizer import encode, pad, parse_tokenizer

TinyBert = Callable[..., Path]
Trace = Mapping[str, NDArray[Any]]

ROOT: Final = Path(__file__).resolve().parents[2]
GOLDEN: Final = ROOT / "tests" / "golden" / "embedded.json"
CALIBRATION: Final = (
    "a good movie .",
    "the plot is not bad , not good",
    "is the movie good\tthe movie is bad",
    "good good good bad bad xyz .",
)
IDS: Final = (2, 9, 10, 11, 6, 12, 5, 13, 3)
CARRIER: Final = "INTSIM_MATMUL"

WIDE_NORM: Final = """
[[weights]]
names = "*"
bits = 4
granularity = "channel"

[[activations]]
names = ["*.query", "*.key", "*.value"]
bits = 6
symmetric = true

[[activations]]
names = ["*.LayerNorm", "*.sum"]
bits = 12
symmetric = false

[[activations]]
names = "*"
bits = 8
symmetric = true
estimator = "mse"
"""


@pytest.fixture(scope="module")
def tiny(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that quantizes a tiny BERT and returns the folder of the integer checkpoint."""
    made: dict[str, Path] = {}

    def quantize(recipe: str | Path = "intsim", calibration: Sequence[str] = CALIBRATION, **options: Any) -> Path:
        key = repr((recipe, calibration, options))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("integer")
            intsim.quantize(tiny_bert(**options), recipe=recipe, calibration=calibration).save(made[key])
        return made[key]

    return quantize


@pytest.fixture(scope="module")
def wide(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an integer BERT large enough for BLAS to use threads, and whose last product passes 2**24: float64's."""
    sizes = {"hidden_size": 64, "intermediate_size": 2048, "num_hidden_layers": 1, "num_attention_heads": 2}
    large = np.random.default_rng(3).uniform(0.019, 0.02, (64, 2048)).astype(np.float32)
    path = tiny_bert(config=sizes, tensors={"bert.encoder.layer.0.output.dense.weight": large})
    folder = tmp_path_factory.mktemp("wide")
    intsim.quantize(path, calibration=CALIBRATION).save(folder)
    return folder


@pytest.fixture(scope="session")
def embedded_folder() -> Path:
    return Path(str(resources.files("intsim.embedded")))


@pytest.fixture(scope="session")
def embedded(embedded_folder: Path) -> intsim.IntegerModel:
    return intsim.load(embedded_folder)


def _judged(
    folder: Path, ids: Sequence[int], types: Sequence[int] | None = None, mask: Sequence[bool] | None = None
) -> dict[str, Any]:
    """Run the oracle on what is in the file, nothing of intsim in between."""
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        metadata = json.loads(file.metadata()["intsim"])
        tensors = {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118 - not a dict
    for name, form in metadata["packed"].items():
        rows, columns = form["shape"]
        codes = oracle.unpack(tensors[name], form["bits"], rows * columns)
        tensors[name] = [codes[row * columns : (row + 1) * columns] for row in range(rows)]
    for name, values in tensors.items():
        if name.endswith("LayerNorm.shift"):  # stored per channel, one for all: the oracle takes the one
            (tensors[name],) = set(values)
    if metadata["config"]["hidden_act"] == "gelu_new":  # i-GELU stands for both forms
        metadata["config"]["hidden_act"] = "gelu"
    return oracle.bert(metadata, tensors, ids, types or [0] * len(ids), mask or [True] * len(ids))


def _run(model: intsim.IntegerModel, ids: Any, **inputs: Any) -> dict[str, NDArray[Any]]:
    with intsim.trace() as trace:
        model(ids, **inputs)
    return trace


def _sequence(trace: Trace, row: int, tokens: int) -> dict[str, NDArray[Any]]:
    """Return what a trace has of one sequence of a batch, padding left out."""
    part: dict[str, NDArray[Any]] = {}
    for name, values in trace.items():
        if name == "embeddings.position_embeddings":  # (T, C), the same for all
            part[name] = values[:tokens]
        elif name.endswith(".context.acc"):  # (B, H, T, D)
            part[name] = values[row, :, :tokens]
        elif values.ndim == 4:  # (B, H, T, T)
            part[name] = values[row, :, :tokens, :tokens]
        else:  # (B, T, C), or (B, C) behind the pooler
            part[name] = values[row, :tokens] if values.ndim == 3 else values[row]
    return part


def _assert_same(actual: Trace, expected: Mapping[str, Any]) -> None:
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert np.array_equal(actual[name], np.array(values)), f"{name} differs"


def _digest(trace: Mapping[str, Any]) -> str:
    """Return the SHA-256 of every name and integer of a trace, as int64, from either side."""
    digest = hashlib.sha256()
    for name, values in trace.items():
        digest.update(name.encode())
        digest.update(np.array(values, "<i8").tobytes())
    return digest.hexdigest()


# ---- the oracle agrees


@pytest.mark.parametrize("hidden_act", ["gelu", "relu", "gelu_new"])
@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
def test_every_intermediate_equals_the_oracles(
    tiny: Callable[..., Path], hidden_act: str, recipe: str, labels: Sequence[str] | None
) -> None:
    folder = tiny(recipe, hidden_act=hidden_act, labels=labels)
    trace = _run(intsim.load(folder), [IDS])
    _assert_same(_sequence(trace, 0, len(IDS)), _judged(folder, IDS))


@pytest.mark.parametrize(
    "options", [{"prefix": ""}, {"dtype": "F16", "shards": 3}, {"labels": ("a", "b", "c")}], ids=str
)
def test_every_intermediate_equals_the_oracles_however_the_model_was_stored(
    tiny: Callable[..., Path], options: dict[str, Any]
) -> None:
    folder = tiny(**options)
    _assert_same(_sequence(_run(intsim.load(folder), [IDS]), 0, len(IDS)), _judged(folder, IDS))


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_intermediate_equals_the_oracles_at_the_greatest_length(
    tiny: Callable[..., Path], recipe: str, seed: int
) -> None:
    folder = tiny(recipe, seed=seed)
    ids = np.random.default_rng(seed).integers(0, 66, 32).tolist()
    _assert_same(_sequence(_run(intsim.load(folder), [ids]), 0, 32), _judged(folder, ids))


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_a_pair_equals_the_oracles(tiny: Callable[..., Path], recipe: str) -> None:
    folder = tiny(recipe)
    model = intsim.load(folder)
    pair = encode(parse_tokenizer(model.tokenizer or ""), CALIBRATION[2], longest=32)
    assert set(pair.type_ids) == {0, 1}
    trace = _run(model, [pair.ids], token_type_ids=[pair.type_ids])
    _assert_same(_sequence(trace, 0, len(pair.ids)), _judged(folder, pair.ids, pair.type_ids))


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
def test_each_sequence_of_a_padded_batch_equals_the_oracles_of_it_alone(
    tiny: Callable[..., Path], recipe: str, labels: Sequence[str] | None
) -> None:
    folder = tiny(recipe, labels=labels)
    lengths = (9, 1, 4, 6)
    ids = np.random.default_rng(0).integers(0, 66, (4, 9))  # whatever stands in the padding
    types = np.random.default_rng(1).integers(0, 2, (4, 9))
    mask = np.arange(9) < np.array(lengths)[:, None]
    trace = _run(intsim.load(folder), ids, attention_mask=mask, token_type_ids=types)
    for row, tokens in enumerate(lengths):
        part = slice(0, tokens)
        _assert_same(_sequence(trace, row, tokens), _judged(folder, ids[row, part].tolist(), types[row, part].tolist()))
        assert not trace["encoder.layer.1.attention.self.probs"][row, :, :, tokens:].any()


def test_a_mask_with_holes_equals_the_oracles(tiny: Callable[..., Path]) -> None:
    folder = tiny()
    mask = [True, False, True, True, False, False, True, True, False]
    trace = _run(intsim.load(folder), [IDS], attention_mask=[mask])
    _assert_same(_sequence(trace, 0, len(IDS)), _judged(folder, IDS, mask=mask))


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_activations_beyond_the_calibrated_range_saturate_as_the_oracles_do(
    tiny: Callable[..., Path], recipe: str
) -> None:
    folder = tiny(recipe, calibration=("a",))
    ids = np.random.default_rng(7).integers(5, 66, 12).tolist()
    trace = _run(intsim.load(folder), [ids])
    assert (np.abs(trace["embeddings.sum"].astype(int)) >= 32767).sum() > 3
    _assert_same(_sequence(trace, 0, len(ids)), _judged(folder, ids))


def test_a_recipe_of_odd_widths_equals_the_oracles(tiny: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(WIDE_NORM)
    folder = tiny(recipe)
    _assert_same(_sequence(_run(intsim.load(folder), [IDS]), 0, len(IDS)), _judged(folder, IDS))


def test_layer_norms_of_16_bits_with_a_zero_point_equal_the_oracles(tiny: Callable[..., Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(WIDE_NORM.replace("bits = 12", "bits = 16"))
    folder = tiny(recipe)
    model = intsim.load(folder)
    assert model.formats["embeddings.LayerNorm"].zero_point != 0
    _assert_same(_sequence(_run(model, [IDS]), 0, len(IDS)), _judged(folder, IDS))


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_an_eps_of_many_integer_units_equals_the_oracles(tiny: Callable[..., Path], recipe: str) -> None:
    folder = tiny(recipe, config={"layer_norm_eps": 0.3})
    model = intsim.load(folder)
    assert int(model.tensors["embeddings.LayerNorm.eps"]) > 2**16
    _assert_same(_sequence(_run(model, [IDS]), 0, len(IDS)), _judged(folder, IDS))


def test_a_product_carried_by_float64_equals_the_oracles(wide: Path) -> None:
    ids = IDS[:3]
    model = intsim.load(wide)
    trace = _run(model, [ids])
    name = "encoder.layer.0.output.dense"
    products = trace[f"{name}.acc"].astype(int) - model.tensors[f"{name}.bias"]
    assert np.abs(products).max() > 2**24
    assert (products % 2).any()
    _assert_same(_sequence(trace, 0, len(ids)), _judged(wide, ids))


@pytest.mark.parametrize(
    "text",
    [
        "An honest, moving and quietly powerful film.",
        "dull",
        "I would rather watch paint dry than sit through this again!",
        "the best film of the year\tit is not",
    ],
)
def test_every_intermediate_of_the_embedded_model_equals_the_oracles(
    embedded: intsim.IntegerModel, embedded_folder: Path, text: str
) -> None:
    encoding = encode(parse_tokenizer(embedded.tokenizer or ""), text, longest=128)
    trace = _run(embedded, [encoding.ids], token_type_ids=[encoding.type_ids])
    expected = _judged(embedded_folder, encoding.ids, encoding.type_ids)
    _assert_same(_sequence(trace, 0, len(encoding.ids)), expected)


# ---- goldens: integers that must never change, made by intsim, by the oracle, and kept


def _golden(trace: Mapping[str, Any]) -> dict[str, Any]:
    return {"classifier": np.array(trace["classifier"]).tolist(), "trace": _digest(trace)}


def test_embedded_model_gives_the_golden_integers(
    embedded: intsim.IntegerModel, embedded_folder: Path, tmp_path: Path
) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    tokenizer = parse_tokenizer(embedded.tokenizer or "")
    actual, expected = {}, {}
    for text in golden["sentences"]:
        encoding = encode(tokenizer, text, longest=128)
        trace = _run(embedded, [encoding.ids], token_type_ids=[encoding.type_ids])
        actual[text] = _golden(_sequence(trace, 0, len(encoding.ids)))
        expected[text] = _golden(_judged(embedded_folder, encoding.ids, encoding.type_ids))
    assert actual == expected
    file = hashlib.sha256((embedded_folder / "model.safetensors").read_bytes()).hexdigest()
    found = json.dumps({"file": file, "sentences": actual}, indent=1, ensure_ascii=False)
    (tmp_path / "embedded.json").write_text(f"{found}\n", encoding="utf-8")
    changed = f"{tmp_path / 'embedded.json'} differs from {GOLDEN}; copy it only if the embedded model was made anew"
    assert json.loads(found) == golden, changed


def test_one_padded_batch_gives_the_golden_logits(embedded: intsim.IntegerModel) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["sentences"]
    tokenizer = parse_tokenizer(embedded.tokenizer or "")
    ids, mask, types = pad([encode(tokenizer, text, longest=128) for text in golden])
    result = embedded(ids, attention_mask=mask, token_type_ids=types)
    assert result.values.tolist() == [sentence["classifier"] for sentence in golden.values()]


# ---- what must not change a bit


@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
def test_a_batch_of_16_gives_each_sequence_the_bits_it_has_alone(
    tiny: Callable[..., Path], labels: Sequence[str] | None
) -> None:
    model = intsim.load(tiny(labels=labels))
    ids = np.random.default_rng(0).integers(0, 66, (16, 11))
    together = _run(model, ids)
    for row in range(16):
        _assert_same(_sequence(together, row, 11), _sequence(_run(model, ids[row : row + 1]), 0, 11))


@pytest.mark.parametrize("padding", [1, 2, 7, 23])
def test_padding_changes_no_bit(tiny: Callable[..., Path], padding: int) -> None:
    model = intsim.load(tiny())
    ids = np.zeros((1, len(IDS) + padding), int)
    ids[0, : len(IDS)] = IDS
    padded = _run(model, ids, attention_mask=np.arange(ids.shape[1])[None] < len(IDS))
    _assert_same(_sequence(padded, 0, len(IDS)), _sequence(_run(model, [IDS]), 0, len(IDS)))


def test_both_carriers_give_the_same_bits(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = intsim.load(wide)
    ids = np.random.default_rng(0).integers(0, 66, (4, 32))
    auto = _digest(_run(model, ids))
    assert _digest(_run(model, ids, carrier="integer")) == auto
    monkeypatch.setenv(CARRIER, "integer")
    assert _digest(_run(model, ids)) == auto


def test_saving_and_loading_changes_no_bit(tiny_bert: TinyBert, tmp_path: Path) -> None:
    model = intsim.quantize(tiny_bert(), calibration=CALIBRATION)
    model.save(tmp_path)
    before, after = _run(model, [IDS]), _run(intsim.load(tmp_path), [IDS])
    assert list(before) == list(after)
    assert _digest(before) == _digest(after)


def test_tracing_changes_no_bit_and_ends_with_its_block(tiny: Callable[..., Path]) -> None:
    model = intsim.load(tiny())
    untraced = model([IDS])
    with intsim.trace() as trace:
        traced = model([IDS])
    count = len(trace)
    model([IDS[:4]])
    assert untraced.digest == traced.digest
    assert np.array_equal(trace["classifier"], traced.values)
    assert len(trace) == count
    assert trace["embeddings.sum"].shape[1] == len(IDS)


def test_nothing_is_left_over_from_an_earlier_run(tiny: Callable[..., Path]) -> None:
    folder = tiny()
    model = intsim.load(folder)
    before = {name: values.copy() for name, values in model.tensors.items()}
    rng = np.random.default_rng(0)
    for tokens in (32, 1, 17):
        trace = _run(model, rng.integers(0, 66, (5, tokens)))
        for values in trace.values():
            if values.flags.writeable:
                values[...] = 1  # what a user does to a trace stays in the trace
    _assert_same(model.tensors, before)
    assert _digest(_run(model, [IDS])) == _digest(_run(intsim.load(folder), [IDS]))


def test_inputs_are_not_changed_and_may_have_any_integer_dtype(tiny: Callable[..., Path]) -> None:
    model = intsim.load(tiny())
    ids, mask = np.array([IDS, IDS], np.uint8), np.arange(9)[None] < np.array([[9], [4]])
    kept = ids.copy(), mask.copy()
    result = model(ids, attention_mask=mask)
    assert np.array_equal(ids, kept[0])
    assert np.array_equal(mask, kept[1])
    for dtype in (np.int16, np.int32, np.int64, np.uint32):
        again = model(ids.astype(dtype), attention_mask=mask.astype(dtype), token_type_ids=np.zeros_like(ids, dtype))
        assert again.digest == result.digest
    assert model(IDS).digest == model([IDS]).digest


DIGEST_OF_A_RUN: Final = """
import hashlib, sys
import numpy as np
import intsim
ids = np.random.default_rng(0).integers(0, 66, (16, 32))
digest = hashlib.sha256()
with intsim.trace() as trace:
    intsim.load(sys.argv[1])(ids)
for name, values in trace.items():
    digest.update(name.encode() + values.tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_blas_threads_and_the_carrier_change_no_bit(wide: Path) -> None:
    def digest(**environment: str) -> str:
        threads = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", DIGEST_OF_A_RUN, str(wide)]
        run = subprocess.run(
            command, env=os.environ | threads | environment, capture_output=True, text=True, check=True, cwd=wide
        )
        return run.stdout

    one = digest()
    assert len(one) == 65
    assert digest(OPENBLAS_NUM_THREADS="2") == one
    assert digest(OPENBLAS_NUM_THREADS="2", INTSIM_MATMUL="integer") == one


def test_result_carries_scale_digest_and_labels(tiny: Callable[..., Path]) -> None:
    result = intsim.load(tiny())([IDS, IDS[::-1]])
    assert result.values.dtype == np.int32
    assert result.values.shape == (2, 2)
    assert (int(result.scale.multiplier), int(result.scale.shift)) == (1, 16)
    assert result.digest == hashlib.sha256(result.values.astype("<i4").tobytes()).hexdigest()
    assert result.labels.tolist() == [row.index(max(row)) for row in result.values.tolist()]


def test_an_encoder_gives_its_last_hidden_state_in_16_bits(tiny: Callable[..., Path]) -> None:
    model = intsim.load(tiny(labels=None))
    result = model([IDS])
    assert model.head == "none"
    assert result.values.dtype == np.int16
    assert result.values.shape == (1, len(IDS), 16)
    assert result.scale == model.formats["encoder.layer.1.output.LayerNorm"].scale
    assert model.output_format.zero_point == 0


# ---- invalid input


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": [[1.0, 2.0]]}, "input_ids must be integers"),
        ({"input_ids": [[True, False]]}, "input_ids must be integers"),
        ({"input_ids": ["ab"]}, "input_ids must be integers"),
        ({"input_ids": [[[1]]]}, "input_ids must be integers"),
        ({"input_ids": []}, r"input_ids must have a token at least, got shape \(1, 0\)"),
        ({"input_ids": [[]]}, r"input_ids must have a token at least, got shape \(1, 0\)"),
        ({"input_ids": [[10**30]]}, "input_ids must be integers"),
        ({"input_ids": [[1, 66]]}, r"input_ids must be in \[0, 66\), got 66$"),
        ({"input_ids": [[1, -1]]}, r"input_ids must be in \[0, 66\), got -1$"),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0, 2]]}, r"token_type_ids must be in \[0, 2\), got 2$"),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0]]}, "token_type_ids must be integers of shape"),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0.0, 0.0]]}, "token_type_ids must be integers"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, "attention_mask must be integers of shape"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]}, r"attention_mask must be in \[0, 2\)"),
        ({"input_ids": [[1] * 33]}, "text must be at most 32 tokens long, got 33"),
    ],
    ids=str,
)
def test_invalid_input_is_refused_in_one_sentence(
    tiny: Callable[..., Path], inputs: dict[str, Any], message: str
) -> None:
    with pytest.raises(IntsimError, match=message) as caught:
        intsim.load(tiny())(**inputs)
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


def test_a_ragged_batch_is_refused_in_one_sentence(tiny: Callable[..., Path]) -> None:
    with pytest.raises(IntsimError, match="input_ids must be"):
        intsim.load(tiny())([[1, 2], [3]])


@pytest.mark.parametrize("mask", [[[0.5, 1.0]], [[float("nan"), 1.0]]], ids=str)
def test_a_mask_of_fractions_is_refused(tiny: Callable[..., Path], mask: list[list[float]]) -> None:
    with pytest.raises(IntsimError, match="attention_mask must be"):
        intsim.load(tiny())([[1, 2]], attention_mask=mask)
