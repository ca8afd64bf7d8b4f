# SPDX-License-Identifier: Apache-2.0
"""What a decoder runs for one token: weights carried block by block, and products of two factors."""

import numpy as np
import pytest

from intsim import ops
from intsim.carrier import blocks, exact
from intsim.carrier.blocks import cores_for
from intsim.carrier.dynamic_steps import Product, Scaled
from intsim.carrier.exact import WORDS, Weight, by_column, product
from intsim.fixedpoint import INT8, INT16, Dyadic, IntRange, Rounding


@pytest.mark.parametrize("laid_out", [np.asarray, by_column])
@pytest.mark.parametrize("rows", [1, 2, 8, 9])
@pytest.mark.parametrize(("columns", "depth"), [(1, 1040), (700, 576), (1025, 256), (3, 1 << 12)])
def test_weights_in_blocks_give_the_integers(rows, columns, depth, laid_out, monkeypatch):
    monkeypatch.setattr(exact, "IN_CACHE", 1 << 16)  # several blocks, the last of them short
    rng = np.random.default_rng(rows)
    x = rng.choice([-127, 127, 126, -1], (rows, depth)).astype(np.int8)
    weight = Weight(laid_out(rng.choice([-127, 127, 1], (columns, depth)).astype(np.int8)), keeps=False)
    expected = x.astype(np.int64) @ weight.codes.astype(np.int64).T
    assert np.array_equal(product(x, weight), expected)
    assert np.array_equal(ops.matmul(x, weight.codes, carrier=weight), expected)
    assert np.array_equal(ops.matmul(x, weight.codes, carrier="integer"), expected)


@pytest.mark.parametrize("rows", [1, 8])
def test_a_table_of_words_is_shared_between_threads(rows, monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 3)
    monkeypatch.setattr(blocks, "BLOCK", 1 << 12)
    rng = np.random.default_rng(rows)
    x, w = (rng.choice([-127, 127, 1], shape).astype(np.int8) for shape in ((rows, 64), (WORDS + 1, 64)))
    with cores_for(rows):
        found = product(x, Weight(w, keeps=False))
    assert np.array_equal(found, x.astype(np.int64) @ w.astype(np.int64).T)
    assert found.flags.c_contiguous


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (16, 40), (33, 7), (WORDS, 2)])
def test_a_weight_lies_column_by_column(shape):
    w = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    columns = by_column(w)
    assert np.array_equal(columns, w)
    assert columns.flags.f_contiguous
    assert by_column(columns) is columns


@pytest.mark.parametrize("w", [np.ones((WORDS + 1, 2), np.int8), np.ones((3, 4), np.int16), np.ones(7, np.int8)])
def test_what_is_no_weight_of_a_layer_stays_as_it_is(w):
    assert by_column(w) is w


@pytest.mark.parametrize(
    "rounding", [Rounding.FLOOR, Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.HALF_AWAY], ids=str
)
@pytest.mark.parametrize("to", [INT8, INT16, IntRange(20, narrow=True)], ids=str)
@pytest.mark.parametrize("ratio", [Dyadic(1, 4), Dyadic(3, 9), Dyadic(2**30 - 1, 45), Dyadic(2**30, 41)], ids=str)
def test_a_product_of_factors_is_that_of_the_operator_at_every_tie(rounding, to, ratio):
    values = np.array([-(2**15), -(2**15) + 1, -513, -24, -8, -3, -1, 0, 1, 2, 8, 24, 512, 2**15 - 1], np.int16)
    x, y = (each.reshape(1, -1) for each in np.meshgrid(values, values))
    scaled = Scaled.build(ratio, addend=np.zeros(1, np.int64), to=to, zero_point=0, rounding=rounding)
    assert scaled is not None
    expected = ops.multiply(x, y, ratio, to=to, rounding=rounding)
    assert np.array_equal(Product(scaled=scaled, to=to)(x, y), expected)
