# SPDX-License-Identifier: Apache-2.0
"""I-BERT's released code: its integers against rationals, and what its float32 makes of them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.fixedpoint import Dyadic
from intsim.float32 import decode
from intsim.kernels import ibert

SCALES = st.one_of(
    st.integers(-14, -1).map(lambda e: Fraction(2) ** e),
    st.floats(2**-14, 1, width=32).map(Fraction),
    st.fractions(Fraction(1, 10_000), 1, max_denominator=10_000),
)
RATIOS = st.builds(Dyadic, st.integers(1, 2**31 - 1), st.integers(0, 62))
LOGITS = st.lists(st.tuples(st.integers(-(2**20), 2**20) | st.integers(-40, 0), st.booleans()), min_size=1, max_size=9)


# The same rules in rationals


def exp_oracle(x, scale):
    """exp in units of the polynomial: L / 2**z."""
    lowest = math.floor(Fraction(-6931, 10_000) / scale)
    a, b = Fraction(35_815_147, 10**8), Fraction(96_963_238, 10**8)
    x = max(x, 30 * lowest)
    z = math.floor(Fraction(x, lowest))
    r = x - lowest * z
    return Fraction((r + math.floor(b / a / scale)) * r + math.floor(1 / (a * scale * scale)), 2**z)


def normalise_oracle(row):
    factor = math.floor(Fraction(2**32, max(sum(row), 1)))
    return [math.floor(Fraction(e * factor, 2**24)) for e in row]


def softmax_oracle(row, keep, scale, ratio):
    real = Fraction(int(ratio.multiplier), 2 ** int(ratio.shift))
    largest = max((x for x, kept in zip(row, keep, strict=True) if kept), default=0)
    e = [
        min(round(exp_oracle(x - largest, scale) * real), 32767) if kept else 0
        for x, kept in zip(row, keep, strict=True)
    ]
    return normalise_oracle(e)


def gelu_oracle(x, scale):
    inner = scale / Fraction(14_142, 10_000)
    a = Fraction(-2888, 10_000)
    b, c = math.floor(Fraction(-1769, 1000) / inner), math.floor(1 / a / inner**2)
    parabola = (min(abs(x), -b) + b) ** 2 + c
    erf = math.floor(Fraction((x > 0) * parabola - (x < 0) * parabola, 2**14))
    return x * (erf + math.floor(1 / (inner**2 * a * 2**14)))


def layer_norm_oracle(row, bias, shift):
    mean = round(Fraction(sum(row), len(row)))
    std = math.isqrt(sum(math.floor(Fraction(x - mean, 2**shift)) ** 2 for x in row)) * 2**shift
    factor = math.floor(Fraction(2**31, std))
    return [math.floor(Fraction((x - mean) * factor, 2)) + b for x, b in zip(row, bias, strict=True)]


@given(st.integers(-(2**20), 0), SCALES)
@example(-(2**20), Fraction(1, 4))  # cut off after 30 halvings
def test_exp_equals_the_oracle(x, scale):
    polynomial, z = ibert.exp(np.array([x]), scale=scale)
    assert Fraction(int(polynomial[0]), 2 ** int(z[0])) == exp_oracle(x, scale)


@given(LOGITS, SCALES, RATIOS)
@example(
    [(x, True) for x in (0, -1, -(2**20))], Fraction(1, 16_000), Dyadic(2**31 - 1, 62)
)  # q_c close to 2**30, shifts up to 92
@example([(0, True), (-1, True)], Fraction(1), Dyadic(5, 2))  # 2.5 becomes 2
def test_softmax_equals_the_oracle(cells, scale, ratio):
    row, keep = zip(*cells, strict=True)
    expected = [softmax_oracle(row, keep, scale, ratio)]
    assert ibert.softmax(np.array([row]), scale=scale, ratio=ratio, mask=np.array([keep])).tolist() == expected
    if all(keep):
        assert ibert.softmax(np.array([row]), scale=scale, ratio=ratio).tolist() == expected


@given(st.integers(-(2**22), 2**22), SCALES)
def test_gelu_equals_the_oracle(x, scale):
    assert ibert.gelu(np.array([x]), scale=scale).tolist() == [gelu_oracle(x, scale)]


@given(st.data(), st.integers(1, 12), st.integers(0, 8))
def test_layer_norm_equals_the_oracle(data, channels, shift):
    bits = data.draw(st.integers(shift + 1, 22))
    numbers = st.integers(-(2**bits), 2**bits)
    row = [*data.draw(st.lists(numbers, min_size=channels, max_size=channels)), -(2**bits), 2**bits]
    bias = data.draw(st.lists(st.integers(-(2**31), 2**31), min_size=channels + 2, max_size=channels + 2))
    assert ibert.layer_norm(np.array([row]), bias=np.array(bias), shift=shift).tolist() == [
        layer_norm_oracle(row, bias, shift)
    ]


def nearest_float32(value):
    return Fraction(float(np.float32(float(value))))


@given(st.floats(-(2**10), 2**10, width=32), st.floats(2**-10, 1, width=32), st.sampled_from([4, 8, 16]))
@example(4.5, 1.0, 4)
@example(127.0, 1.0, 8)
@example(100.0, 3 * 2**-4, 16)
def test_quantize_equals_the_oracle(x, scale, bits):
    # products and quotients of float32 are rounded to float64, then to float32: as good as once, with 53 >= 2 * 24 + 2
    product = nearest_float32(Fraction(x) * nearest_float32(1 / Fraction(scale)))
    n = 2 ** (bits - 1) - 1
    numbers = [decode(np.array([value], np.float32).view(np.uint32)) for value in (x, scale)]
    assert ibert.quantize(*numbers, bits=bits).tolist() == [min(max(round(product), -n), n - 1)]


# Edges


def test_the_constants_of_gelu_are_floored():
    assert ibert.gelu_constants(Fraction(1, 100)) == (-251, -69_251, -5)  # of -250.2, -69250.7 and -4.2


def test_a_row_with_one_power_of_two_gives_256():
    assert ibert.normalise(np.array([0, 2**14, 0])).tolist() == [0, 256, 0]
    assert ibert.normalise(np.array([0, 32767, 0])).tolist() == [0, 255, 0]


def test_a_row_of_zeros_gives_zeros():
    assert ibert.normalise(np.array([0, 0])).tolist() == [0, 0]


def test_a_row_need_not_sum_to_one():
    assert ibert.normalise(np.full(3, 1000)).sum() == 255


@pytest.mark.parametrize("scale", [Fraction(17, 10), Fraction(1, 20_000)])
def test_a_scale_without_room_for_the_polynomial_is_refused(scale):
    with pytest.raises(ValueError, match=r"^scale must give q_c in \[1, 2\*\*30\), got"):
        ibert.exp(np.array([0]), scale=scale)
    ibert.exp(np.array([0]), scale=Fraction(33, 20))
    ibert.exp(np.array([0]), scale=Fraction(1, 19_600))


def test_a_gelu_that_could_leave_int64_is_refused():
    _, _, one = ibert.gelu_constants(Fraction(1, 2**14))
    largest = 2**62 // (1 - 2 * one)
    assert ibert.gelu(np.array([largest]), scale=Fraction(1, 2**14)).tolist() == [
        gelu_oracle(largest, Fraction(1, 2**14))
    ]
    with pytest.raises(ValueError, match=r"^x_q must keep the product below 2\*\*62, got"):
        ibert.gelu(np.array([largest + 1]), scale=Fraction(1, 2**14))
    with pytest.raises(ValueError, match=r"^scale must keep q_b\*\*2 and q_c below 2\*\*61, got"):
        ibert.gelu(np.array([1]), scale=Fraction(1, 2**40))


def test_a_constant_row_is_refused_by_layer_norm():
    with pytest.raises(ValueError, match=r"^every row of x_q must have a positive variance after the shift, got 0$"):
        ibert.layer_norm(np.array([[7, 7, 7]]), bias=np.zeros(3, np.int64), shift=0)


# As shipped, in float32: each shows the module away from the integers, and why


@pytest.fixture(scope="module")
def modules():
    return pytest.importorskip("transformers.models.ibert.quant_modules")


def float32_run(module, x_q, scale):
    """Return what the module says on codes times scale, in units of the scale it returns."""
    torch = pytest.importorskip("torch")
    x = (x_q * np.float32(scale)).astype(np.float32)
    y, y_scale = module.eval()(torch.tensor(x), torch.tensor([scale], dtype=torch.float32))
    return (y.detach().double() / y_scale.detach().double() if torch.is_tensor(y_scale) else y / y_scale).numpy()


def shipped_softmax(modules, scale):
    """Return the module with a 16-bit activation that exp(0) fills, and the ratio that its golden takes."""
    torch = pytest.importorskip("torch")
    _, _, q_c = ibert.exp_constants(Fraction(float(np.float32(scale))))
    step = np.float32(q_c * 2**30 / 32767)
    module = modules.IntSoftmax(8, quant_mode=True)
    module.act.x_max = torch.tensor([np.float32(32767) * step])
    module.act.x_min = -module.act.x_max
    return module, Dyadic.from_real(2.0**30 / float(step))


def test_float32_makes_256_of_a_one_hot_row(modules):
    x_q, scale = np.array([[[0, -30_000]]]), 0.05
    module, ratio = shipped_softmax(modules, scale)
    golden = ibert.softmax(x_q, scale=Fraction(float(np.float32(scale))), ratio=ratio)
    assert golden.tolist() == [[[255, 0]]]
    assert float32_run(module, x_q, scale).tolist() == [[[256, 0]]]
    product = 32767 * (2**32 // 32767)
    assert product < 2**32 == int(np.float32(product))


def test_the_quotient_inside_softmax_takes_81_bits():
    _, _, q_c = ibert.exp_constants(Fraction(1, 20))
    exp_scale = Fraction(35_815_147, 10**8) * Fraction(1, 20) ** 2 / 2**30
    assert math.floor(q_c * 2**30 / exp_scale).bit_length() == 81


def test_float32_does_not_give_a_code_back_from_its_multiple():
    codes, scale = np.arange(-128, 128), np.float32(0.01)
    back = (codes * scale).astype(np.float32) / scale
    assert np.count_nonzero(back != codes) == 32
    assert (np.rint(back) == codes).all()  # FixedPointMul rounds what it reads; the other modules do not


def test_float32_exp_reads_a_code_that_is_none_and_halves_once_less(modules):
    torch = pytest.importorskip("torch")
    scale = np.float32(0.01)
    polynomial, z = ibert.exp(np.array([-910]), scale=Fraction(float(scale)))
    assert (polynomial.tolist(), z.tolist()) == ([27921], [13])  # -910 = 13 * -70
    x = np.array([-910]).astype(np.float32) * scale / scale
    assert x == np.float32(-909.99994)
    module_exp, _ = modules.IntSoftmax(8).int_exp(torch.tensor(x), torch.tensor([scale]))
    assert module_exp.item() / 2**17 == pytest.approx(27842.0156)  # the polynomial near its other end


def test_float32_gelu_loses_the_square_of_b_at_the_scale_of_an_accumulator(modules):
    scale = float(np.float32(2e-4))
    x_q = np.random.default_rng(0).integers(-20_000, 20_000, 4000)
    y, golden = float32_run(modules.IntGELU(), x_q, scale), ibert.gelu(x_q, scale=Fraction(scale))
    q_b, _, _ = ibert.gelu_constants(Fraction(scale))
    assert q_b**2 > 2**24
    assert np.mean(np.rint(y) != golden) > 0.4


def test_float32_takes_the_root_of_the_next_square(modules):
    half = [64 * 44, 64 * 7, 64 * 8]
    row = np.array([[[*half, *(-x for x in half)]]])
    assert (row**2).sum() == 4097**2 - 1
    golden = ibert.layer_norm(row, bias=np.zeros(6, np.int64), shift=0)
    module = modules.IntLayerNorm(6, 1e-5, 32, quant_mode=True)
    module.weight.data[:] = 1
    y = float32_run(module, row, 1.0)
    assert golden[0, 0, 0] == half[0] * (2**31 // 4096) // 2
    assert y[0, 0, 0] == pytest.approx(half[0] * (2**31 // 4097) // 2, rel=1e-6)


def test_a_constant_row_is_not_a_number_to_the_module(modules):
    module = modules.IntLayerNorm(3, 1e-5, 32, quant_mode=True)
    module.weight.data[:] = 1
    assert np.isnan(float32_run(module, np.array([[[7, 7, 7]]]), 1.0)).all()


@pytest.mark.parametrize(("depth", "exact"), [(1040, True), (1041, False)])
def test_float32_sums_of_int8_products_are_exact_to_depth_1040(modules, depth, exact):
    module = modules.QuantLinear(depth, 1, quant_mode=True)
    module.weight.data[:] = -127
    acc = float32_run(module, np.full((1, depth), -127), 1.0)
    assert (acc.item() == 127 * 127 * depth) is exact


def test_a_product_beyond_53_bits_is_rounded_twice(modules):
    torch = pytest.importorskip("torch")
    x, multiplier = 369_103_149, 1_450_639_673
    scale = torch.tensor([multiplier / 2**36], dtype=torch.float64)
    y = modules.FixedPointMul.apply(x * scale.view(1, 1, 1), scale, 32, torch.tensor([1.0]))
    assert round(Fraction(x * multiplier, 2**36)) == 7_791_615
    assert y.item() == 7_791_614


def test_the_largest_weight_loses_one(modules):
    torch = pytest.importorskip("torch")
    table = modules.QuantEmbedding(2, 2, quant_mode=True)
    table.weight.data = torch.tensor([[127.0, -127.0], [126.0, 1.0]])
    rows, scale = table(torch.tensor([0, 1]))
    assert (rows / scale).tolist() == [[126, -127], [126, 1]]
