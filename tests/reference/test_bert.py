# SPDX-License-Identifier: Apache-2.0
"""The float BERT equals the one of transformers; and the reference knows nothing of the integer world."""

import ast
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer, read_tokenizer
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.world import run

TinyBert = Callable[..., Path]
ROOT: Final = Path(__file__).resolve().parents[2]
TOLERANCE: Final = 1e-4  # of float32, on outputs of a size around 1
SENTENCES: Final = (
    "A man is repairing an old bicycle in front of his garage .",
    "good",
    "It is neither funny nor frightening, and it looks cheap.\tNobody knows exactly how many species live there!",
    "The bridge was closed for repairs in the spring of 1987; two teams of engineers are competing for the contract.",
)
TINY: Final = ("a good movie .", "bad", "the plot is not bad\tnot good xyz", "good " * 30)


@pytest.fixture(scope="module")
def torch() -> Any:
    return _import("torch")


@pytest.fixture(scope="module")
def transformers(torch: Any) -> Any:
    assert torch
    return _import("transformers")


def _import(name: str) -> Any:
    if os.environ.get("INTSIM_REQUIRE_SHARED") == "1":
        return __import__(name)
    return pytest.importorskip(name, reason=f"needs {name} (pip install 'intsim[kernels]') to compare with")


def _inputs(path: Path, texts: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    tokenizer = parse_tokenizer(read_tokenizer(path))
    longest = open_checkpoint(path).config.max_position_embeddings
    return pad([encode(tokenizer, text, longest=longest) for text in texts])


def _ours(path: Path, texts: tuple[str, ...], dtype: type[Any] = np.float32, **options: Any) -> NDArray[Any]:
    checkpoint = open_checkpoint(path)
    ids, mask, types = _inputs(path, texts)
    return run(
        checkpoint.family,
        {name: checkpoint.load(name, dtype) for name in checkpoint.names},
        checkpoint.config,
        checkpoint.head,
        ids,
        attention_mask=mask,
        token_type_ids=types,
        **options,
    )


def _theirs(
    torch: Any, transformers: Any, path: Path, texts: tuple[str, ...], *, classifier: bool, double: bool = False
) -> NDArray[Any]:
    kind = transformers.BertForSequenceClassification if classifier else transformers.BertModel
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = (
        kind.from_pretrained(path, attn_implementation="eager").to(torch.float64 if double else torch.float32).eval()
    )
    ids, mask, types = map(torch.tensor, _inputs(path, texts))
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=mask.long(), token_type_ids=types)
    return (outputs.logits if classifier else outputs.last_hidden_state).numpy()


def _difference(ours: NDArray[Any], theirs: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    difference = np.abs(ours - theirs)
    return float((difference if mask is None else difference[mask]).max())


# ---- transformers agrees


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("classifier", [True, False])
def test_the_tiny_model_equals_transformers(
    torch: Any, transformers: Any, tiny_bert: TinyBert, hidden_act: str, *, classifier: bool
) -> None:
    path = tiny_bert(hidden_act=hidden_act, **({} if classifier else {"labels": None}))
    mask = None if classifier else _inputs(path, TINY)[1]
    single = _difference(_ours(path, TINY), _theirs(torch, transformers, path, TINY, classifier=classifier), mask)
    double = _difference(
        _ours(path, TINY, np.float64),
        _theirs(torch, transformers, path, TINY, classifier=classifier, double=True),
        mask,
    )
    print(f"{hidden_act}: {single:.1e} in float32, {double:.1e} in float64")
    assert single <= TOLERANCE / 10
    assert double <= 1e-12


@pytest.mark.filterwarnings("ignore")
def test_minilm_equals_transformers(torch: Any, transformers: Any, minilm: Path) -> None:
    theirs = _theirs(torch, transformers, minilm, SENTENCES, classifier=False)
    ours, mask = _ours(minilm, SENTENCES), _inputs(minilm, SENTENCES)[1]
    pooled = torch.tensor(theirs * mask[..., None]).sum(1) / torch.tensor(mask).sum(1, keepdim=True)
    differences = (
        _difference(ours, theirs, mask),
        _difference(mean_pooling(ours, mask).astype(np.float32), pooled.numpy()),
    )
    print(
        f"MiniLM: {differences[0]:.1e} at most, {differences[1]:.1e} pooled, of values up to {np.abs(theirs).max():.1f}"
    )
    assert max(differences) <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["minilm-sst2", "minilm-cola"])
def test_a_fine_tuned_minilm_equals_transformers(torch: Any, transformers: Any, shared: Path, name: str) -> None:
    path = shared / "models" / name
    difference = _difference(_ours(path, SENTENCES), _theirs(torch, transformers, path, SENTENCES, classifier=True))
    print(f"{name}: {difference:.1e}")
    assert difference <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
def test_the_embedded_model_equals_transformers(torch: Any, transformers: Any) -> None:
    path = ROOT / "tests" / "data" / "embedded-float"
    texts = SENTENCES[:3]
    assert _difference(_ours(path, texts), _theirs(torch, transformers, path, texts, classifier=True)) <= TOLERANCE


# ---- what stands on its own


def test_padding_moves_no_output_by_more_than_rounding(tiny_bert: TinyBert) -> None:
    path = tiny_bert(labels=None)
    together = _ours(path, TINY, np.float64)
    for row, text in enumerate(TINY):
        alone = _ours(path, (text,), np.float64)[0]
        assert np.abs(together[row, : len(alone)] - alone).max() < 1e-12


def test_the_dtype_of_the_weights_is_that_of_the_arithmetic(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    seen: dict[str, set[np.dtype[Any]]] = {}

    def observe(name: str, x: NDArray[Any]) -> NDArray[Any]:
        seen.setdefault(name, set()).add(x.dtype)
        return x

    for dtype in (np.float32, np.float64):
        seen.clear()
        assert _ours(path, TINY, dtype, observe=observe).dtype == dtype
        assert set().union(*seen.values()) == {np.dtype(dtype)}


def test_what_the_observer_returns_takes_the_place_of_the_activation(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    names: list[str] = []

    def observe(name: str, x: NDArray[Any]) -> NDArray[Any]:
        names.append(name)
        return np.zeros_like(x) if name == "pooler" else x

    outputs = _ours(path, TINY, np.float64, observe=observe)
    assert np.array_equal(outputs, np.tile(open_checkpoint(path).load("classifier.bias"), (len(TINY), 1)))
    assert len(names) == len(set(names)) == 2 + 2 * 12 + 3
    assert names[:3] == ["embeddings.sum", "embeddings.LayerNorm", "encoder.layer.0.attention.self.query"]
    assert names[-3:] == ["pooler.dense", "pooler", "classifier"]


def test_what_the_reader_returns_goes_into_the_product_alone(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    names: list[str] = []
    seen: dict[str, NDArray[Any]] = {}

    def read(name: str, x: NDArray[Any]) -> NDArray[Any]:
        names.append(name)
        return np.zeros_like(x)

    _ours(path, TINY, np.float64, observe=seen.setdefault, read=read)
    assert names == [*open_checkpoint(path).outline.inputs]
    load = open_checkpoint(path).load
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        assert (seen[f"{layer}.attention.self.query"] == load(f"{layer}.attention.self.query.bias")).all()
        assert (seen[f"{layer}.intermediate.dense"] == load(f"{layer}.intermediate.dense.bias")).all()
        skip = seen[f"{layer}.attention.output.LayerNorm"]
        assert np.array_equal(seen[f"{layer}.output.sum"], skip + load(f"{layer}.output.dense.bias"))
    assert (seen["classifier"] == load("classifier.bias")).all()


def test_the_float_trace_has_the_names_of_the_integer_trace(tiny_bert: TinyBert) -> None:
    import intsim  # noqa: PLC0415 - the reference alone comes first in this file

    path = tiny_bert()
    names: list[str] = []
    _ours(path, TINY, observe=lambda name, x: (names.append(name), x)[1])
    with intsim.trace() as trace:
        intsim.quantize(path, calibration=TINY)([[2, 5, 3]])
    same = [name for name in trace if name in names]
    assert same == [name for name in names if not name.endswith("self.scores")]


def test_mean_pooling_is_the_mean_of_the_tokens() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    mask = np.array([[True, False, True], [True, True, True]])
    assert mean_pooling(x, mask).tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} must import absolutely"
            yield node.module or ""


def test_the_reference_imports_numpy_scipy_and_itself_alone() -> None:
    files = sorted((ROOT / "reference").rglob("*.py"))
    assert len(files) > 10
    allowed = {"numpy", "scipy", "math", "re", "collections", "typing"}
    for file in files:
        for name in _imports(file):
            assert name.split(".")[0] in allowed or name.startswith("intsim.reference."), f"{file} imports {name}"


def test_config_of_the_real_models_is_what_the_figures_are_of(shared: Path) -> None:
    for name in ("minilm-sst2", "minilm-cola"):
        config = json.loads((shared / "models" / name / "config.json").read_text())
        assert (config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]) == (384, 6, 12)
