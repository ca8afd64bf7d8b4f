# SPDX-License-Identifier: Apache-2.0
"""The kind of llama.cpp's files, GGUF: metadata with a vocabulary, and where tensors lie."""

import json
import math
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from fuzz import seeds
from fuzz.edits import Files, dumps, hostile
from fuzz.kind import Kind
from gguf_files import convert, package, vocabulary

from intsim.io.gguf_file import Gguf, read_gguf
from intsim.io.gguf_tokenizer import build_tokenizer

FILE: Final = "in/model.gguf"
ALIGNMENT: Final = 32
LARGEST: Final = float(np.finfo(np.float32).max)
SCORED: Final = vocabulary(
    ["<unk>", "<s>", "</s>", "<0x21>", "▁", *"abcdefg", "▁a", "bc"],
    [2, 3, 3, 6, *[1] * 10],
    "llama",
    scores=[0.0] * 4 + [-1.0, -2.0] * 5,
    bos_token_id=1,
    eos_token_id=2,
    add_bos_token=True,
    add_space_prefix=True,
)
PAIRS: Final = vocabulary(
    ["<|end|>", "[tool]", "Ġ", *"abcdefg!", "Ġb"],
    [3, 4, *[1] * 10],
    "gpt2",
    merges=["Ġ b"],
    bos_token_id=0,
    eos_token_id=0,
    add_eos_token=True,
)
LINEAR: Final = {"gptneox.rope.scaling.type": "linear", "gptneox.rope.scaling.factor": 2.0}
SEEDS: Final[dict[str, Any]] = {  # metadata, sizes, and the kinds of weights
    "llama": (SCORED, {}, "F32"),
    "gemma": (SCORED, {}, "BF16"),
    "qwen2": ({**PAIRS, "tokenizer.ggml.pre": "qwen2"}, {"hidden_size": 32, "intermediate_size": 32}, "Q8_0"),
    "gpt2": ({**PAIRS, "tokenizer.ggml.pre": "gpt-2"}, {}, "F16"),
    "gptj": ({**PAIRS, "tokenizer.ggml.pre": "smollm"}, {}, "F32"),
    "gpt_neox": ({**PAIRS, **LINEAR, "tokenizer.ggml.pre": "llama-bpe"}, {}, "F32"),
}


@cache
def _file(family: str) -> Any:
    """Return the tree of a file as llama.cpp's converter writes it."""
    metadata, sizes, kind = SEEDS[family]
    tensors = {"rope_freqs.weight": np.ones(2, np.float32)} if family == "llama" else {}
    with TemporaryDirectory() as folder:
        files = seeds.checkpoint(family, "causal-lm", **sizes)
        seeds.save(Path(folder), {name: seeds.write(content) for name, content in files.items()})
        names = ["token_embd.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"]
        more: Any = {"metadata": {"general.alignment": ALIGNMENT, **metadata}, "tensors": tensors}
        file = convert(Path(folder), Path(folder) / "a.gguf", kinds=dict.fromkeys(names, kind), **more)
        gguf, data = read_gguf(file), file.read_bytes()
    start = min(block.offset for block in gguf.tensors.values())
    numbers = {kind.name: int(kind) for kind in package().GGMLQuantizationType}
    return {
        "version": 3,
        "metadata": dict(gguf.metadata),
        "tensors": {
            name: {
                "kind": numbers[block.kind],
                "shape": [*block.shape[::-1]],
                "offset": block.offset - start,
                "data": data[block.offset : block.offset + block.size],
            }
            for name, block in gguf.tensors.items()
        },
    }


def tokenizer(family: str) -> Any:
    """Return the tokenizer.json of its vocabulary: one of pairs of bytes, or of scored pieces."""
    return json.loads(build_tokenizer(Gguf(file=Path(FILE), metadata=SEEDS[family][0], tensors={})))


def _files(family: str) -> Files:
    return {FILE: _file(family), "texts.txt": seeds.TEXTS}


def _write(content: Any) -> bytes:
    """Return a file of its tree, or of what an edit made of that."""
    if not isinstance(content, dict):
        return seeds.write(content)
    metadata, tensors = _object(content.get("metadata")), _object(content.get("tensors"))
    header = b"GGUF" + _number(content.get("version"), 4) + _number(len(tensors), 8) + _number(len(metadata), 8)
    for key, value in metadata.items():
        kind, written = _value(value)
        header += _text(key) + _number(kind, 4) + written
    data = b""
    for name, tensor in tensors.items():
        shape, blocks = (_object(tensor).get(part) for part in ("shape", "data"))
        sizes = shape if isinstance(shape, list) else []
        header += _text(name) + _number(len(sizes), 4) + b"".join(_number(size, 8) for size in sizes)
        header += _number(_object(tensor).get("kind"), 4) + _number(_object(tensor).get("offset"), 8)
        data += _aligned(blocks if isinstance(blocks, bytes) else b"")
    return _aligned(header) + data


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _value(value: Any) -> tuple[int, bytes]:
    """Return the number of the type of a value of the metadata, and its bytes."""
    match value:
        case bool():
            return 7, bytes([value])
        case int():
            return (4, _number(value, 4)) if 0 <= value < 1 << 32 else (11, _number(value, 8))
        case float():
            wide = LARGEST < abs(value) < math.inf
            return (12, struct.pack("<d", value)) if wide else (6, struct.pack("<f", value))
        case list():
            items = [_value(item) for item in value] or [(4, b"")]
            return 9, _number(items[0][0], 4) + _number(len(value), 8) + b"".join(written for _, written in items)
        case str() if not value.startswith(hostile("")):
            return 8, _text(value)
        case _:
            with suppress(RecursionError, ValueError):
                if isinstance(parsed := json.loads(dumps(value)), (int, float, list)):
                    return _value(parsed)
            return 8, _text(dumps(value))


def _number(value: Any, size: int) -> bytes:
    return ((value if isinstance(value, int) else -1) % 256**size).to_bytes(size, "little")


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return _number(len(data), 8) + data


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


KINDS: Final = {
    "gguf": Kind(
        [*SEEDS],
        _files,
        [(FILE, "metadata"), (FILE, "metadata"), (FILE, "tensors"), (FILE,)],
        [f"quantize FOLDER/{FILE} -o FOLDER/out --calibration FOLDER/texts.txt"],
        "out",
        _write,
    )
}
