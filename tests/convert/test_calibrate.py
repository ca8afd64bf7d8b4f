# SPDX-License-Identifier: Apache-2.0
"""The float model over calibration texts: few of its numbers are in memory together."""

import weakref
from collections import Counter
from importlib import import_module
from typing import Any, Final

import numpy as np
import pytest
from families import tiny
from family_runs import draw
from numpy.typing import NDArray

import intsim
from intsim.convert.calibrate import calibrate
from intsim.convert.permutation import permute_channels
from intsim.convert.smoothing import readers, smooth_channels
from intsim.convert.weights import Weights
from intsim.fixedpoint import Dyadic
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import Encoding
from intsim.reference.world import run

module: Final[Any] = import_module("intsim.convert.calibrate")


def encoding(length: int) -> Encoding:
    return Encoding(ids=[7] * length, type_ids=[0] * length, tokens=["good"] * length)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny("llama", "causal-lm", tmp_path_factory.mktemp("llama")))


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([3] * 40, [16, 16, 8]),
        ([20] * 10, [5, 5]),
        ([10, 10, 30, 10, 10, 10, 10, 40], [3, 4, 1]),  # padded to the longest
        ([101, 101, 5], [1, 1, 1]),
    ],
)
def test_texts_run_together_up_to_so_many_tokens_in_their_order(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], batches: list[int]
) -> None:
    monkeypatch.setattr(module, "TOKENS", 100)
    found = list(module._batches([encoding(length) for length in lengths]))
    assert [len(batch) for batch in found] == batches
    assert [len(each.ids) for batch in found for each in batch] == lengths


def test_every_weight_is_read_once_a_batch_and_none_is_kept(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS", 40)
    reads, alive = Counter[str](), list[Any]()

    def load(name: str) -> NDArray[np.float64]:
        reads[name] += 1
        alive[:] = [each for each in alive if each() is not None]
        assert sum(each().size for each in alive if each() is not None) <= 36 * 24  # the largest that is still in use
        values = checkpoint.load(name)
        alive.append(weakref.ref(values))
        return values

    calibrate(checkpoint, Weights(checkpoint.names, load), [encoding(20)] * 6, {})
    assert reads == Counter(dict.fromkeys(checkpoint.names, 3))


def test_folded_weights_are_made_when_they_are_asked_for(checkpoint: Checkpoint) -> None:
    asked: list[str] = []

    def load(name: str) -> NDArray[np.float64]:
        asked.append(name)
        return checkpoint.load(name)

    weights = Weights(checkpoint.names, load)
    scales = {name: Dyadic.from_real(np.full(24, 2.0)) for name in readers(checkpoint.outline)}
    folded = smooth_channels(
        permute_channels(weights, checkpoint.outline, np.arange(24)[::-1]), checkpoint.outline, scales
    )
    assert not asked
    assert [*folded] == [*checkpoint.names]
    assert len(folded) == len(checkpoint.names)
    assert "layers.0.mlp.up_proj.weight" in folded
    expected = 2 * checkpoint.load("layers.0.mlp.up_proj.weight")[:, ::-1]
    assert np.array_equal(folded["layers.0.mlp.up_proj.weight"], expected)
    assert asked == ["layers.0.mlp.up_proj.weight"]


def test_the_last_logits_are_those_of_each_texts_last_token(checkpoint: Checkpoint) -> None:
    feed = draw(checkpoint.config, 1, 4, 7)
    weights = Weights(checkpoint.names, checkpoint.load)
    how: dict[str, Any] = {"attention_mask": feed.mask.astype(bool), "token_type_ids": feed.types}
    model = (checkpoint.family, weights, checkpoint.config, checkpoint.head, feed.ids)
    every, last = run(*model, **how), run(*model, last=True, **how)
    ends = [np.flatnonzero(row).max() for row in feed.mask]
    np.testing.assert_allclose(last, every[np.arange(4), ends], rtol=1e-12)
    assert last.shape == (4, checkpoint.config.vocab_size)
    integers = intsim.quantize(checkpoint.path)
    assert integers(feed.ids, attention_mask=feed.mask, last=True).values.shape == last.shape
