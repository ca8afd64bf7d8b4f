# SPDX-License-Identifier: Apache-2.0
"""The fake quantizers choose the codes of the integer path, every one, on random, tied and real activations."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import intsim
from intsim import ops
from intsim.fixedpoint import IntRange, Rounding
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer, read_tokenizer
from intsim.models.integer_model import Dynamic, Format
from intsim.quantizers import AffineParams, Granularity, Scheme, dequantize, min_max, quantize
from intsim.recipes import load_recipe
from reference import fake_quant
from reference.models.bert import bert

Reals = NDArray[np.float64]

CONVENTIONS: Final = [(True, name) for name in ("narrow", "ibert-code", "full", "power-of-two")]
CONVENTIONS += [(False, name) for name in ("full", "power-of-two")]
GRANULARITIES: Final = [
    Granularity(kind="tensor"),
    Granularity(kind="channel", axis=0),
    Granularity(kind="channel", axis=-1),
    Granularity(kind="group", axis=-1, groups=3),
]
HALVES: Final = {"up": Rounding.HALF_UP, "even": Rounding.HALF_EVEN}
TEXTS: Final = (
    "A man is repairing an old bicycle in front of his garage .",
    "good",
    "Nobody knows exactly how many species live in the deep sea .",
    "The bridge was closed for repairs in the spring of 1987; two teams of engineers are competing for the contract.",
)
HELD_OUT: Final = ("It is neither funny nor frightening, and it looks cheap .", "the film is a delight !", "why ?")


def _assert_same(x: Reals, params: AffineParams, twin: fake_quant.Affine) -> None:
    assert np.array_equal(twin.scale, params.scale)
    assert np.array_equal(twin.zero_point, params.zero_point)
    assert (twin.lowest, twin.highest) == (params.range.min, params.max_code)
    codes = quantize(x, params)
    assert np.array_equal(fake_quant.quantize(x, twin), codes)
    assert np.array_equal(fake_quant.fake_quantize(x, twin), dequantize(codes, params))


def _tied(x: Reals, params: AffineParams) -> Reals:
    """Return reals on the boundaries between codes, beside them, and beyond both ends."""
    halves = np.arange(params.range.min - 3, params.range.max + 4)[:, *(None,) * x.ndim] + 0.5
    ties = (halves - params.zero_point) * params.scale
    return np.stack([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])


# ---- static


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=lambda g: f"{g.kind} {g.axis}")
@pytest.mark.parametrize(("symmetric", "convention"), CONVENTIONS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_static_codes_equal(symmetric: bool, convention: Any, bits: int, granularity: Granularity) -> None:
    rng = np.random.default_rng(bits)
    x = rng.normal(0.3, 1, (4, 6)) * np.exp2(rng.integers(-20, 20, 6))
    x[:, 2], x[1] = np.abs(x[:, 2]), 0
    params = Scheme(bits=bits, symmetric=symmetric, convention=convention).params(*min_max(x, granularity))
    low, high = fake_quant.extremes(x, axis=granularity.axis, groups=granularity.groups)
    twin = fake_quant.affine(low, high, bits=bits, symmetric=symmetric, convention=convention)
    _assert_same(x, params, twin)
    _assert_same(_tied(x, params), params, twin)


@given(st.data())
def test_static_codes_of_any_range_equal(data: st.DataObject) -> None:
    symmetric, convention = data.draw(st.sampled_from(CONVENTIONS))
    bits = data.draw(st.integers(2, 16))
    signed = symmetric or data.draw(st.booleans())
    ends = st.floats(-(2.0**40), 2.0**40)
    low, high = sorted(data.draw(st.tuples(ends, ends).filter(any)))
    rule = {"bits": bits, "symmetric": symmetric, "convention": convention, "signed": signed}
    params = Scheme(**rule).params(low, high)
    code = data.draw(st.integers(params.range.min - 2, params.range.max + 2))
    tie = (code + 0.5 - float(params.zero_point)) * float(params.scale)
    x = np.array([low, high, 0, tie, np.nextafter(tie, np.inf), np.nextafter(tie, -np.inf)])
    _assert_same(x, params, fake_quant.affine(low, high, **rule))


# ---- dynamic, on fixed-point numbers


def _assert_same_dynamic(
    x_q: NDArray[np.int16], zero_point: int, scale: float, mask: NDArray[np.bool_], how: Dynamic, half: Any
) -> None:
    bound_q = ops.dynamic_bound(x_q, per=how.per, clip=how.clip, zero_point=zero_point, mask=mask)
    x_codes = ops.quantize_dynamic(
        x_q, bound_q, unit=how.unit, to=how.range, rounding=HALVES[half], zero_point=zero_point
    )
    x = (x_q.astype(np.int64) - zero_point) * scale
    bound = fake_quant.dynamic_bound(x, per=how.per, clip=how.clip, mask=mask)
    assert np.array_equal(bound, bound_q * (scale / how.unit))
    codes = fake_quant.quantize_dynamic(x, bound, bits=how.range.bits, half=half)
    assert np.array_equal(codes, x_codes)
    fake = fake_quant.fake_quantize_dynamic(x, bound, bits=how.range.bits, half=half)
    assert np.array_equal(fake, codes * bound / how.range.max)


def _dynamic(bits: int, per: Any, clip: bool) -> Dynamic:
    return Dynamic(range=IntRange(bits, narrow=True), per=per, clip=clip)


KINDS: Final = [("token", False), ("sequence", False), ("sequence", True)]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("per", "clip"), KINDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_dynamic_codes_of_all_16_bit_numbers_equal(bits: int, per: str, clip: bool, half: str) -> None:
    rng = np.random.default_rng(0)
    x_q = rng.permutation(np.arange(-(2**15), 2**15)).astype(np.int16).reshape(4, 64, 256)
    x_q[0, 7:] >>= 4  # a few tokens far above the others, which are clipped
    x_q[1] >>= 9  # small bounds, many ties
    x_q[2, 5] = 0
    mask = np.arange(64) < np.array([[64], [37], [1], [50]])
    _assert_same_dynamic(x_q, -7, float(np.float32(1e-3)), mask, _dynamic(bits, per, clip), half)


@given(st.data())
@example(None)
def test_dynamic_codes_of_ties_equal(data: st.DataObject | None) -> None:
    """x * top / bound is a tie where x = bound * odd / (2 top): all of them for a bound that 2 top divides."""
    bits = 4 if data is None else data.draw(st.integers(2, 8))
    factor = 3 if data is None else data.draw(st.integers(1, 32767 // (2 ** (bits - 1) - 1) // 2))
    per, clip = ("sequence", False) if data is None else data.draw(st.sampled_from(KINDS))
    half = "up" if data is None else data.draw(st.sampled_from(sorted(HALVES)))
    top = 2 ** (bits - 1) - 1
    odd = np.arange(-2 * top + 1, 2 * top, 2) * factor
    x_q = np.append(odd, 2 * top * factor).astype(np.int16)[None, None]
    scale = 2.0**-9 if data is None else data.draw(st.floats(2.0**-30, 2.0**30, width=32))
    _assert_same_dynamic(x_q, 0, scale, np.ones((1, 1), np.bool_), _dynamic(bits, per, clip), half)


# ---- real activations


class Case(NamedTuple):
    model: intsim.IntegerModel
    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    floats: dict[str, Reals]
    trace: Any
    weights: dict[str, Reals]
    values: NDArray[Any]


RECIPES: Final = (
    "intsim",
    "q8bert",
    "w8a8",
    "w8a8:estimator=percentile",
    "w8a8:estimator=running-min-max",
    pytest.param("w8a8:estimator=mse", marks=pytest.mark.slow),
    "zeroquant",
    "tm-iqr",
    "peg:permutation=none",
)


@pytest.fixture(scope="module")
def case(minilm: Path) -> Callable[[str], Case]:
    cases: dict[str, Case] = {}
    checkpoint = open_checkpoint(minilm)
    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    tokenizer = parse_tokenizer(read_tokenizer(minilm))
    ids, mask, _ = pad([encode(tokenizer, text, longest=128) for text in HELD_OUT])
    floats: dict[str, Reals] = {}
    _run(weights, checkpoint.config, ids, mask, floats.setdefault)

    def build(recipe: str) -> Case:
        if recipe not in cases:
            model = intsim.quantize(minilm, recipe=recipe, calibration=TEXTS)
            with intsim.trace() as trace:
                values = model(ids, attention_mask=mask).values
            cases[recipe] = Case(model, ids, mask, floats, trace, weights, values)
        return cases[recipe]

    return build


def _run(weights: dict[str, Reals], config: Any, ids: Any, mask: Any, observe: Any) -> Reals:
    return bert(
        weights,
        ids,
        num_heads=config.num_attention_heads,
        num_layers=config.num_hidden_layers,
        hidden_act=config.hidden_act,
        eps=config.layer_norm_eps,
        attention_mask=mask,
        token_type_ids=np.zeros_like(ids),
        observe=observe,
    )


def _twin(form: Format, channels: int) -> fake_quant.Affine:
    """Return the fake quantizer of a format."""
    scale = form.scale.multiplier / np.exp2(form.scale.shift)
    every = channels // form.groups if form.groups > 1 else 1
    zero_point = np.array(form.zero_point, np.float64)
    return fake_quant.Affine(
        np.repeat(scale, every) if form.groups > 1 else scale,
        np.repeat(zero_point, every) if form.groups > 1 else zero_point,
        form.range.min,
        form.range.max,
    )


def _params(form: Format, channels: int) -> AffineParams:
    scale = _twin(form, channels).scale
    return AffineParams(scale=scale, zero_point=np.asarray(form.offset(channels)), range=form.range)


@pytest.mark.parametrize("recipe", RECIPES)
def test_codes_of_real_activations_equal_at_every_static_quantizer(case: Callable[[str], Case], recipe: str) -> None:
    found = case(recipe)
    forms = {name: form for name, form in found.model.formats.items() if name in found.floats}
    assert len(forms) == 2 + 6 * 9
    for name, form in forms.items():
        x = found.floats[name]
        params = _params(form, x.shape[-1])
        _assert_same(x, params, _twin(form, x.shape[-1]))


@pytest.mark.parametrize("recipe", ["q8bert", "zeroquant", "tm-iqr"])
def test_codes_of_the_running_integer_model_equal_at_every_input(case: Callable[[str], Case], recipe: str) -> None:
    found = case(recipe)
    model, trace = found.model, found.trace
    half = {rounding: half for half, rounding in HALVES.items()}[model.profile.rounding]
    sources = {
        f"encoder.layer.{i}.{part}.input": source
        for i in range(6)
        for part, source in (
            ("attention.self", f"encoder.layer.{i - 1}.output.LayerNorm" if i else "embeddings.LayerNorm"),
            ("attention.output", f"encoder.layer.{i}.attention.self.context"),
            ("intermediate", f"encoder.layer.{i}.attention.output.LayerNorm"),
            ("output", f"encoder.layer.{i}.intermediate"),
        )
    }
    for name, source in sources.items():
        codes = trace[source]
        form = model.formats[source]
        x = (codes.astype(np.float64) - form.zero_point) * float(_twin(form, 1).scale)
        if name in model.dynamic:
            how = model.dynamic[name]
            bound = fake_quant.dynamic_bound(x, per=how.per, clip=how.clip, mask=found.mask)
            assert np.array_equal(fake_quant.quantize_dynamic(x, bound, bits=how.range.bits, half=half), trace[name])
        else:
            assert _mismatches(x, _twin(model.formats[name], 1), trace[name]) == 0
    assert len(sources) == 24


def _mismatches(x: Reals, twin: fake_quant.Affine, codes: NDArray[Any]) -> int:
    """Count codes that differ other than where x / scale is a tie, which the integer profile rounds up."""
    differ = fake_quant.quantize(x, twin) != codes
    ties = np.array([Fraction(v) / Fraction(float(twin.scale)) % 1 == Fraction(1, 2) for v in x[differ].tolist()])
    return int((~ties).sum()) if differ.any() else 0


# ---- the whole model


@pytest.mark.parametrize(
    "recipe", ["intsim", "w8a8", "peg:permutation=none", pytest.param("w4a8", marks=pytest.mark.slow)]
)
def test_simulated_quantization_does_the_damage_of_the_integer_model(
    case: Callable[[str], Case], minilm: Path, recipe: str
) -> None:
    """Within a fifth: rounding errors take their own ways, so the two outputs need not be near each other."""
    found = case(recipe)
    rules = load_recipe(recipe)
    fake = {
        name: fake_quant.fake_quantize(w, _weight_twin(rules.weight(name).params(w, embedding="embeddings." in name)))
        for name, w in found.weights.items()
        if name.endswith(".weight") and "LayerNorm" not in name
    }

    def observe(name: str, x: Reals) -> Reals:
        form = found.model.formats.get(name)
        return x if form is None else fake_quant.fake_quantize(x, _twin(form, x.shape[-1]))

    config = open_checkpoint(minilm).config
    simulated = _run(found.weights | fake, config, found.ids, found.mask, observe)[found.mask]
    plain = _run(found.weights, config, found.ids, found.mask, lambda _name, x: x)[found.mask]
    integers = found.values[found.mask] - np.float64(found.model.output_format.zero_point)
    damage, predicted = 1 - _cosine(integers, plain), 1 - _cosine(simulated, plain)
    print(
        f"{recipe}: 1 - cosine {damage:.4f}, simulated {predicted:.4f}; one to other {_cosine(integers, simulated):.4f}"
    )
    assert abs(predicted - damage) < damage / 5


def _weight_twin(params: AffineParams) -> fake_quant.Affine:
    return fake_quant.Affine(params.scale, params.zero_point.astype(np.float64), params.range.min, params.range.max)


def _cosine(a: Reals, b: Reals) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
