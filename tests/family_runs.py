# SPDX-License-Identifier: Apache-2.0
"""Inputs for a model of any family, and what its worlds and others make of them: floats, traces, the engine of ONNX."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import families
import numpy as np
import oracle_trace
import pytest
from numpy.typing import NDArray

import intsim
from intsim._trace import Trace
from intsim.io import onnx as exporter
from intsim.io.huggingface import open_checkpoint
from intsim.io.trace_file import write_trace
from intsim.models import FAMILIES
from intsim.reference.world import run
from intsim.testing import assert_bit_exact

Ids = NDArray[np.int64]


DISTINCT: Final = tuple({FAMILIES[name].forward: name for name in reversed(list(FAMILIES))}.values())
"""A family of each kind; others have the same function under other names."""


GROUPED: Final = """
profile = "intsim"

[[weights]]
roles = "ffn"
bits = 8
granularity = "group"
groups = 2
axis = "input"

[[weights]]
names = "*"
bits = 8
granularity = "channel"

[[inputs]]
roles = "norm"
bits = 6
symmetric = false

[[activations]]
roles = ["query", "key", "value", "rotation", "gate"]
bits = 8
symmetric = false

[[activations]]
roles = "output"
bits = 16
symmetric = true

[[activations]]
names = "*.word_embeddings.sum"
bits = 8
symmetric = false

[[activations]]
names = "*"
bits = 8
symmetric = false
groups = 2
"""
"""A recipe: whatever may be in groups is, norms' outputs are also read in fewer bits, attention has zero points."""


class Feed(NamedTuple):
    """What a model is called with, each (B, T); ``mask`` is 1 where there is a token."""

    ids: Ids
    mask: Ids
    types: Ids

    def rows(self, rows: slice, tokens: slice) -> "Feed":
        """Return a part of the batch."""
        return Feed(*(values[rows, tokens] for values in self))


def draw(config: Any, seed: int, batch: int, tokens: int) -> Feed:
    """Return any ids under masks of every kind: all tokens, padding on the left, on the right, and holes.

    No sequence is without a token. The first has the id of padding within.
    """
    rng = np.random.default_rng(seed)
    columns, lengths = np.arange(tokens), rng.integers(1, tokens + 1, (batch, 1))
    mask = columns < lengths
    mask[1::3] = mask[1::3, ::-1]
    mask[2::3] = rng.integers(0, 2, mask[2::3].shape)
    mask[2::3, -1] = True
    mask[0] = True
    ids = rng.integers(0, config.vocab_size, (batch, tokens))
    ids[0, tokens // 2] = config.pad_token_id
    types = rng.integers(0, config.type_vocab_size, (batch, tokens))
    return Feed(ids, mask.astype(np.int64), types)


def floats(path: Path, feed: Feed, observe: Callable[[str, Any], Any] = lambda _, x: x) -> NDArray[np.floating]:
    """Return what the float world computes."""
    checkpoint = open_checkpoint(path)
    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    return run(
        checkpoint.family,
        weights,
        checkpoint.config,
        checkpoint.head,
        feed.ids,
        attention_mask=feed.mask.astype(bool),
        token_type_ids=feed.types,
        observe=observe,
    )


def transformers(path: Path, feed: Feed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the output of transformers' model as ours has it, and its hidden states.

    A decoder reads each text alone, since its positions count padding too; where there is no token stands 0.
    """
    if open_checkpoint(path).model_type in families.DECODERS:
        return _each_alone(path, feed)
    outputs = families.expected(path, feed.ids, feed.mask, feed.types if feed.types.any() else None)
    if "start_logits" in outputs:
        return np.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1), outputs["hidden_states"]
    return outputs["logits" if "logits" in outputs else "last_hidden_state"], outputs["hidden_states"]


def _each_alone(path: Path, feed: Feed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = feed.mask.astype(bool)
    outputs = [families.expected(path, ids[None, own]) for ids, own in zip(feed.ids, kept, strict=True)]
    hidden = np.zeros((len(outputs[0]["hidden_states"]), *kept.shape, outputs[0]["hidden_states"].shape[-1]))
    hidden[:, kept] = np.concatenate([each["hidden_states"][:, 0] for each in outputs], axis=1)
    values = [each["logits" if "logits" in each else "last_hidden_state"][0] for each in outputs]
    if values[0].ndim == 1:
        return np.stack(values), hidden
    output = np.zeros((*kept.shape, values[0].shape[-1]))
    output[kept] = np.concatenate(values)
    return output, hidden


def known(path: Path, feed: Feed) -> NDArray[np.bool_]:
    """Say for which tokens ``transformers`` has values, (B, T): a decoder's of padding are nobody's."""
    decodes = open_checkpoint(path).model_type in families.DECODERS
    return feed.mask.astype(bool) if decodes else np.ones_like(feed.mask, np.bool_)


def traced(model: intsim.IntegerModel, feed: Feed, **options: Any) -> Trace:
    """Return every integer of a run, steps inside operators too, and the output under the name ``""``."""
    with intsim.trace("steps") as trace:
        result = model(feed.ids, attention_mask=feed.mask, token_type_ids=feed.types, **options)
    trace[""] = result.values
    return trace


def values(model: intsim.IntegerModel, feed: Feed, **options: Any) -> NDArray[Any]:
    """Return the output of a run that nobody watches."""
    return model(feed.ids, attention_mask=feed.mask, token_type_ids=feed.types, **options).values


def assert_same(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> None:
    """Hold every integer of one run against those of another."""
    assert list(found) == list(expected)
    for name, integers in expected.items():
        assert_bit_exact(found[name], integers, name=name)


def judged(model: intsim.IntegerModel, feed: Feed, file: Path) -> list[str]:
    """Return what the oracle finds wrong in a trace."""
    with intsim.trace("steps") as trace:
        model(feed.ids, attention_mask=feed.mask, token_type_ids=feed.types)
    write_trace(file, trace, model)
    return oracle_trace.judge(file)


def assert_engine_agrees(model: intsim.IntegerModel, feeds: Iterable[Feed], file: Path) -> None:
    """Export the model and hold every integer that a trace shows against ONNX Runtime's value of that name."""
    onnx: Any = pytest.importorskip("onnx", reason="needs the package onnx")
    runtime: Any = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    exporter.export(model, file)
    engine = None
    for feed in feeds:
        with intsim.trace() as trace:
            model(feed.ids, attention_mask=feed.mask, token_type_ids=feed.types)
        if engine is None:
            proto = onnx.shape_inference.infer_shapes(onnx.load(file), strict_mode=True, data_prop=True)
            known = {info.name for info in proto.graph.output}
            proto.graph.output.extend(i for i in proto.graph.value_info if i.name in trace and i.name not in known)
            options = runtime.SessionOptions()
            options.enable_mem_reuse = False  # whose plan takes longer than all else
            providers = ["CPUExecutionProvider"]
            engine = runtime.InferenceSession(proto.SerializeToString(), options, providers=providers)
        names: Sequence[str] = [output.name for output in engine.get_outputs()]
        assert sorted(names) == sorted(trace)
        inputs = dict(zip(("input_ids", "attention_mask", "token_type_ids"), feed, strict=True))
        for name, found in zip(names, engine.run(None, inputs), strict=True):
            assert_bit_exact(found, trace[name], name=name)
