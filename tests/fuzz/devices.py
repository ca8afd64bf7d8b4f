# SPDX-License-Identifier: Apache-2.0
"""Kinds of files that are compared with each other: traces, dumps and answers of devices."""

import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from fuzz import seeds
from fuzz.checkpoints import saved
from fuzz.edits import Files, dumps
from fuzz.kind import Kind
from numpy.typing import NDArray

import intsim
from intsim.io.exported import model_contents
from intsim.io.integer_checkpoint import FILE
from intsim.io.layout import Layout
from intsim.io.memh_export import write_memh
from intsim.io.safetensors_file import NUMPY_DTYPES
from intsim.io.trace_file import write_trace
from intsim.profile import INTSIM
from intsim.verify.vectors.cases import generate, minimum
from intsim.verify.vectors.formats import memh, named_arrays, write_safetensors
from intsim.verify.vectors.operators import OPERATORS, Operator, bind
from intsim.verify.vectors.text import format_header, format_lines

TRACED: Final = (
    "bert sequence-classification intsim",
    "bert none peg",
    "bert sequence-classification tm-iqr",
    "mobilebert none intsim",
)
DRAWN: Final = ("embed_tokens", "word_embeddings", "LayerNorm", "layernorm", ".probs", ".query", ".k_proj.rotated")
PLOT: Final = ["inspect FOLDER/trace --plot FOLDER/plot.html --reference FOLDER/in"]
REPLAY: Final = ["vectors replay FOLDER/trace --out FOLDER/out.npz --work FOLDER/sim"]
CASES: Final = 20


@cache
def _traced(seed: str) -> tuple[Any, bytes, dict[str, Any]]:
    """Return the tree of a trace, its bytes, and its arrays."""
    model = seeds.model(*seed.split())
    with TemporaryDirectory() as folder:
        with intsim.trace("steps") as trace:
            model([[int(word) for word in seeds.IDS.split()]])
        path = Path(folder) / "trace"
        write_trace(path, trace, model)
        return seeds.unsealed(path), path.read_bytes(), dict(trace)


def _trace(seed: str) -> Files:
    tree, data, _ = _traced(seed)
    return {"trace": tree, "good": data}


@cache
def _drawn(seed: str) -> Files:
    """Return a trace of few arrays, pictures taking their time, with the float model and the integer one."""
    tree, _, _ = _traced(seed)
    family, head, _ = seed.split()
    metadata = tree["metadata"]
    kept = [each for each in metadata["trace"] if each["name"].endswith(DRAWN)]
    trace = {"metadata": {**metadata, "trace": kept}, "tensors": tree["tensors"]}
    files = {f"in/{name}": content for name, content in seeds.checkpoint(family, head).items()}
    return {**files, f"model/{FILE}": seeds.sealed(saved(seed)), "trace": trace}


@cache
def _calls() -> dict[str, tuple[Any, Any]]:
    """Return the first call of every operator: the tree of its trace, and its entry there."""
    trees = [_traced(seed)[0] for seed in (TRACED[0], "bert none q8bert-dq", "llama causal-lm intsim")]
    found = [(tree, entry) for tree in trees for entry in tree["metadata"]["trace"] if "operands" in entry]
    return {entry["operator"]: (tree, entry) for tree, entry in reversed(found)}


@cache
def _call(operator: str) -> Files:
    """Return a trace of one call, and what a device made of it that is wrong."""
    tree, entry = _calls()[operator]
    name = entry["name"]
    kept = {key: each for key, each in tree["tensors"].items() if key == name or f'"{key}"' in json.dumps(entry)}
    result = np.frombuffer(kept[name]["data"], NUMPY_DTYPES[kept[name]["dtype"]]).reshape(entry["shape"])
    dump = io.BytesIO()
    np.savez(dump, **{name: result ^ 1})
    return {
        "trace": {"metadata": {**tree["metadata"], "trace": [entry]}, "tensors": kept},
        "dump.npz": dump.getvalue(),
    }


def _npz(seed: str) -> Files:
    arrays = dict([(name, values) for name, values in _traced(seed)[2].items() if ":" not in name][-8:])
    return {"dump.npz": _members(arrays), "good": _traced(seed)[1]}


def _members(arrays: Mapping[str, NDArray[Any]]) -> Files:
    """Return the tree of an archive of NumPy's files."""
    return {
        name: {
            "descr": values.dtype.str,
            "fortran_order": False,
            "shape": [*values.shape],
            "data": values.tobytes(),
            "ending": ".npy",
            "method": zipfile.ZIP_DEFLATED,
            "flags": 0,
            "declared": None,
        }
        for name, values in arrays.items()
    }


def _safetensors(seed: str) -> Files:
    arrays = [(name, values) for name, values in _traced(seed)[2].items() if ":" not in name][-8:]
    tensors = {name: values.astype(dtype) for (name, values), dtype in zip(arrays, cycle(("<i8", "<f4")), strict=False)}
    return {"dump.safetensors": seeds.container(tensors), "good": _traced(seed)[1]}


def _names(seed: str) -> Files:
    names = {name: name for name in _traced(seed)[2] if ":" not in name}
    return {"names.json": names, "good": _traced(seed)[1]}


def _write_npz(content: Any) -> bytes:
    """Return an archive of NumPy's files, or what an edit made of it, whose members may say another size or flags."""
    if not isinstance(content, dict) or {*content} == {"metadata", "tensors"}:
        return seeds.write(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in content.items():
            form = member if isinstance(member, dict) else {}
            ending, data = form.get("ending"), form.get("data")
            stored = zipfile.ZipInfo(f"{name}{ending}".encode("utf-8", "replace").decode().replace("\0", ""))
            stored.compress_type = zipfile.ZIP_STORED if form.get("method") == 0 else zipfile.ZIP_DEFLATED
            archive.writestr(stored, _npy(form) + (data if isinstance(data, bytes) else b""))
    written = bytearray(file.getvalue())
    place = 0
    for member in content.values():
        place = written.find(b"PK\1\2", place + 1)
        for key, offset, size in (("flags", 8, 2), ("declared", 24, 4)):
            if isinstance(member, dict) and isinstance(number := member.get(key), int) and number:
                written[place + offset : place + offset + size] = (number % 256**size).to_bytes(size, "little")
    return bytes(written)


def _npy(form: dict[str, Any]) -> bytes:
    parts = {key: dumps(form.get(key)).replace("false", "False") for key in ("descr", "fortran_order", "shape")}
    if isinstance(form.get("shape"), list):
        parts["shape"] = f"({parts['shape'][1:-1]},)" if form["shape"] else "()"
    fields = ", ".join(f"'{key}': {value}" for key, value in parts.items())
    text = f"{{{fields}}}\n".encode()[:65_000]
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


def _compared(file: str) -> list[str]:
    return [f"{command} FOLDER/good FOLDER/{file}" for command in ("compare", "diagnose")]


def _memh(seed: str) -> Files:
    name, values = next((name, each) for name, each in _traced(seed)[2].items() if each.dtype == np.int8)
    words = "\n".join(f"{int(value) & 255:02x}" for value in values.ravel())
    return {f"dump/{name}.memh": f"// a device\n{words}\n", "good": _traced(seed)[1]}


@cache
def _export(seed: str) -> Files:
    """Return the folder of a few tensors of a model, its manifest as a tree."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        contents = model_contents(seeds.model(*seed.split()), layer="*LayerNorm")
        write_memh(out, contents, Layout(word_bits=24, tile=(2, 3), banks=2))
        files = {f"out/{file.name}": file.read_text() for file in sorted(out.iterdir())}
    manifest = json.loads(files.pop("out/manifest.json"))
    good = {f"good/{name.partition('/')[2]}": text for name, text in files.items()}
    return {"out/manifest.json": manifest, "good/manifest.json": json.dumps(manifest), **files, **good}


def _arrays(seed: str) -> Files:
    """Return raw bytes, decimals and an array of NumPy, each in a file of its own."""
    name, values = next((name, each) for name, each in _traced(seed)[2].items() if each.dtype == np.int8)
    file = io.BytesIO()
    np.save(file, values)
    text = " ".join(map(str, values.ravel().tolist()))
    files: Files = {f"x/{name}.txt": text, f"y/{name}.npy": file.getvalue(), f"z/{name}.bin": values.tobytes()}
    return {**files, "good": _traced(seed)[1]}


@cache
def _cases(name: str) -> tuple[Operator, list[str], Any, Any]:
    """Return an operator, a header, operands and results of the last cases of a level."""
    operator = bind(name, INTSIM, None)
    batch = next(generate(operator, seed=1, level=1, cases=minimum(operator, 1)))[-CASES:]
    header = format_header(operator, seed=1, level=1, cases=CASES, operands_only=False)
    return operator, [line for line in header if not line.startswith("seed: ")], batch, operator.results(batch)


@cache
def _answers(name: str) -> str:
    operator, header, batch, results = _cases(name)
    lines = format_lines([*operator.operands, operator.result], np.concatenate([batch, results], 1))
    return "".join(f"# {line}\n" for line in header) + lines.tobytes().decode()


@cache
def _vector_files(name: str) -> Files:
    """Return vectors in the files that are no plain text, but for packed ones as trees."""
    operator, header, batch, results = _cases(name)
    arrays = named_arrays(operator, batch, results)
    with TemporaryDirectory() as folder:
        write_safetensors(Path(folder) / "x", header, arrays)
        tree = seeds.unsealed(Path(folder) / "x")
    return {
        "x.npz": _members({"header": np.array(header), **arrays}),
        "x.safetensors": tree,
        "x.memh": b"".join(memh(operator, header, batch, results, word_bits=32)).decode(),
    }


def _vectors(name: str) -> Files:
    return {"vectors": _answers(name), "good": _answers(name)}


VECTOR_FILES: Final = ("x.npz", "x.safetensors", "x.memh")
_FIRST_MEMH: Final = next(file for file in _memh(TRACED[0]) if file != "good")
_FIRST_IMAGE: Final = next(file for file in _export(TRACED[0]) if file.endswith(".memh"))
KINDS: Final = {
    "trace": Kind(
        TRACED,
        _trace,
        [("trace", "metadata", "trace"), ("trace", "metadata", "profile"), ("trace", "metadata"), ("trace", "tensors")],
        ["inspect FOLDER/trace", *_compared("trace"), "diagnose FOLDER/trace FOLDER/good"],
    ),
    "drawn": Kind(
        [TRACED[0], "llama causal-lm intsim"],
        _drawn,
        [("trace", "metadata", "trace"), ("trace", "metadata", "trace"), ("trace", "metadata"), ("trace", "tensors")],
        [
            *(PLOT if find_spec("matplotlib") else []),
            *(f"export FOLDER/model --trace FOLDER/trace --{form} FOLDER/{form}.{form}" for form in ("npz", "memh")),
        ],
    ),
    "call": Kind(
        [*_calls()],
        _call,
        [("trace", "metadata", "trace", 0, part) for part in ("operands", "constants")] * 3
        + [("trace", "metadata", "trace"), ("trace", "tensors")],
        ["diagnose FOLDER/trace FOLDER/dump.npz", *(REPLAY if shutil.which("iverilog") else [])],
    ),
    "names": Kind(TRACED[:1], _names, [("names.json",)], ["compare FOLDER/good FOLDER/good --names FOLDER/names.json"]),
    "safetensors": Kind(
        TRACED, _safetensors, [("dump.safetensors", "header"), ("dump.safetensors",)], _compared("dump.safetensors")
    ),
    "npz": Kind(TRACED, _npz, [("dump.npz",)], _compared("dump.npz"), write=_write_npz),
    "memh": Kind(TRACED[:1], _memh, [(_FIRST_MEMH,)], _compared("dump")),
    "export": Kind(
        TRACED[:1],
        _export,
        [("out/manifest.json", "tensors"), ("out/manifest.json",), (_FIRST_IMAGE,)],
        ["compare FOLDER/good FOLDER/out", "compare FOLDER/out FOLDER/good"],
    ),
    "arrays": Kind(
        TRACED[:1],
        _arrays,
        [(file,) for file in _arrays(TRACED[0]) if file != "good"],
        [f"compare FOLDER/good FOLDER/{folder}" for folder in "xyz"],
    ),
    "vector files": Kind(
        [*OPERATORS],
        _vector_files,
        [(file,) for file in VECTOR_FILES],
        [f"vectors verify SEED FOLDER/{file}" for file in VECTOR_FILES],
        write=_write_npz,
    ),
    "vectors": Kind(
        [*OPERATORS],
        _vectors,
        [("vectors",)],
        ["vectors verify SEED FOLDER/vectors", "diagnose FOLDER/vectors FOLDER/good"],
    ),
}
