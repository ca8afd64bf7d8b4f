# SPDX-License-Identifier: Apache-2.0
"""GPTQ against its definition, against all roundings of tiny layers, and where it has to be rounding to nearest."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import intsim
from intsim.convert.adaround import adaround
from intsim.convert.calibrate import Moments, calibrate
from intsim.convert.gptq import DAMPING, gptq
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, parse_tokenizer, read_tokenizer
from intsim.quantizers import AffineParams, quantize
from intsim.recipes import WeightRule, load_recipe, match

Reals = NDArray[np.float64]

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad", "xyz " * 6)
RULES: Final = {
    "tensor": WeightRule(names=("*",), bits=4, granularity="tensor", estimator="mse"),
    "channel": WeightRule(names=("*",), bits=3, granularity="channel"),
    "groups of rows": WeightRule(names=("*",), bits=4, granularity="group", groups=2),
    "groups of columns": WeightRule(names=("*",), bits=4, granularity="group", groups=2, axis="input"),
}


def _layer(seed: int, rows: int, columns: int, rule: WeightRule) -> tuple[Reals, AffineParams, Reals]:
    """Return a weight, its quantizer and the moment of inputs that depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (50, 3)) @ rng.normal(0, 1, (3, columns)) + rng.normal(0, 0.3, (50, columns))
    w = rng.normal(0, 0.3, (rows, columns))
    return w, rule.params(w, embedding=False), x.T @ x / len(x)


def _damped(moment: Reals) -> Reals:
    return moment + DAMPING * np.diag(moment).mean() * np.eye(len(moment))


def _loss(w: Reals, rounded: Reals, gram: Reals) -> float:
    return float(np.einsum("nk,kl,nl->", rounded - w, gram, rounded - w))


def _neighbours(w: Reals, params: AffineParams) -> tuple[Reals, Reals]:
    """Return the reals of the codes around each weight."""
    scale, top = np.broadcast_to(params.scale, w.shape), params.range.max
    return np.floor(w / scale).clip(-top, top) * scale, np.ceil(w / scale).clip(-top, top) * scale


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_column_is_rounded_where_least_squares_puts_it(rule: WeightRule, seed: int) -> None:
    w, params, moment = _layer(seed, 4, 6, rule)
    gram = _damped(moment)
    low, high = _neighbours(w, params)
    # the definition: of what is left, the reals that make up best for the errors so far; the loudest is rounded next
    done, left = [], sorted(range(6), key=lambda j: -moment[j, j])
    expected = w.copy()
    while left:
        error = (expected - w)[:, done]
        shift = np.linalg.solve(gram[np.ix_(left, left)], gram[np.ix_(left, done)] @ error.T).T
        j = left.pop(0)
        wanted = w[:, j] - shift[:, 0]
        nearer_high = np.abs(high[:, j] - wanted) < np.abs(low[:, j] - wanted)
        expected[:, j] = np.where(nearer_high, high[:, j], low[:, j])
        done.append(j)
    assert np.allclose(gptq(w, params, moment), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_weight_goes_to_a_code_beside_it(rule: WeightRule, seed: int) -> None:
    w, params, moment = _layer(seed, 4, 12, rule)
    rounded = gptq(w, params, moment)
    low, high = _neighbours(w, params)
    assert ((rounded == low) | (rounded == high)).all()
    codes = quantize(rounded, params)
    assert np.array_equal(codes * params.scale, rounded)
    assert np.abs(codes).max() <= params.range.max


@pytest.mark.parametrize("choose", [gptq, adaround])
def test_a_layer_that_reads_nothing_but_zeros_takes_the_nearest_codes(choose: Callable[..., Reals]) -> None:
    w, params, moment = _layer(0, 4, 12, RULES["tensor"])
    assert np.array_equal(quantize(choose(w, params, 0 * moment), params), quantize(w, params))


@given(
    st.lists(st.integers(-40, 40), min_size=12, max_size=12),
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
)
def test_inputs_that_do_not_depend_on_each_other_leave_rounding_to_nearest(halves: list[int], loud: list[int]) -> None:
    w = np.array(halves).reshape(3, 4) / 4  # in halves of the scale: ties, and weights beyond the codes
    params = AffineParams(scale=0.5, zero_point=0, range=intsim.IntRange(4, narrow=True))
    assert np.array_equal(quantize(gptq(w, params, np.diag(loud).astype(float)), params), quantize(w, params))


def test_the_loss_lies_between_the_least_there_is_and_that_of_the_nearest_codes() -> None:
    losses = []
    for seed in range(100):
        w, params, moment = _layer(seed, 1, 6, RULES["tensor"])
        low, high = _neighbours(w, params)
        every = [np.where(up, high, low) for up in product([False, True], repeat=6)]
        nearest = quantize(w, params) * params.scale
        gram = _damped(moment)
        losses.append([_loss(w, each, gram) for each in (gptq(w, params, moment), nearest)])
        losses[-1].append(min(_loss(w, each, gram) for each in every))
    chosen, nearest, least = np.array(losses).T
    assert (chosen >= least * (1 - 1e-12)).all()
    assert (chosen > nearest * (1 + 1e-12)).mean() < 0.1  # a greedy choice may lose to the nearest codes
    assert chosen.sum() < 1.2 * least.sum() < 0.6 * nearest.sum()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("seed", range(3))
def test_correlated_inputs_lose_less_than_half_of_what_the_nearest_codes_lose(rule: WeightRule, seed: int) -> None:
    w, params, moment = _layer(seed, 16, 48, rule)
    nearest = quantize(w, params) * params.scale
    assert _loss(w, gptq(w, params, moment), moment) < 0.5 * _loss(w, nearest, moment)


def test_a_recipe_rounds_its_low_bit_weights_by_it(tiny_bert: Callable[..., Path]) -> None:
    path = tiny_bert(config={"hidden_size": 48, "intermediate_size": 96})
    recipe = "zeroquant-w4:groups=2,rounding="
    nearest, chosen = (intsim.quantize(path, recipe=recipe + how, calibration=TEXTS) for how in ("nearest", "gptq"))
    changed = {name for name, t in nearest.tensors.items() if not np.array_equal(t, chosen.tensors[name])}
    low_bit = {f"encoder.layer.{i}.{part}.dense.weight" for i in range(2) for part in ("intermediate", "output")}
    assert changed == low_bit
    checkpoint, tokenizer = open_checkpoint(path), parse_tokenizer(read_tokenizer(path))
    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    name, source = "encoder.layer.1.intermediate.dense.weight", "encoder.layer.1.attention.output.LayerNorm"
    moments = Moments()
    encodings = [encode(tokenizer, text, longest=32) for text in TEXTS]
    calibrate(checkpoint, weights, encodings, {source: [moments.update]})
    params = (
        match(load_recipe("zeroquant-w4:groups=2"), checkpoint.outline)
        .weights[name]
        .params(weights[name], embedding=False)
    )
    expected = quantize(gptq(weights[name], params, moments.second), params)
    assert np.array_equal(chosen.tensors[name], expected)
