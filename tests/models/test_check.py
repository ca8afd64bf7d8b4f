# SPDX-License-Identifier: Apache-2.0
"""What is proved of an integer model before it runs: each way of being damaged has its sentence."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import intsim
from intsim.errors import CheckpointError
from intsim.models import Dynamic, Format
from intsim.models.widths import widths

TinyBert = Callable[..., Path]
TEXTS = ("a good movie .", "the plot is not bad\tnot good")
ATTENTION = "encoder.layer.1.attention"


@pytest.fixture(scope="module")
def model(tiny_bert: TinyBert) -> intsim.IntegerModel:
    return intsim.quantize(tiny_bert(), calibration=TEXTS)


def _refusal(model: intsim.IntegerModel, **changes: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        dataclasses.replace(model, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def _with(model: intsim.IntegerModel, name: str, values: Any) -> dict[str, Any]:
    assert name in model.tensors
    return {**model.tensors, name: np.asarray(values)}


def _without(values: Any, name: str) -> dict[str, Any]:
    assert name in values
    return {key: value for key, value in values.items() if key != name}


def test_the_undamaged_model_is_accepted(model: intsim.IntegerModel) -> None:
    assert dataclasses.replace(model, tensors=dict(model.tensors))([[2, 5, 3]]).values.shape == (1, 2)


def test_every_tensor_is_needed(model: intsim.IntegerModel) -> None:
    for name in model.tensors:
        message = _refusal(model, tensors=_without(model.tensors, name))
        assert message == f"integer checkpoint must hold tensor '{name}', got none of that name"


def test_the_tensors_of_a_head_that_the_model_has_not_are_refused(tiny_bert: TinyBert) -> None:
    model = intsim.quantize(tiny_bert(), recipe="ibert", calibration=TEXTS)  # hidden states without a zero point
    message = _refusal(model, head="none")
    assert message == "integer checkpoint must hold the tensors of its model only, got 'classifier.bias'"


def test_every_tensor_has_one_dtype(model: intsim.IntegerModel) -> None:
    for name, values in model.tensors.items():
        for dtype in (np.uint8, np.int16, np.float32, np.bool_):
            message = _refusal(model, tensors=_with(model, name, values.astype(dtype)))
            assert re.fullmatch(
                rf"tensor '{name}' must be int(8|32|64) of shape .*, got {np.dtype(dtype)} of .*", message
            )


def test_every_tensor_has_its_shape(model: intsim.IntegerModel) -> None:
    for name, values in model.tensors.items():
        for wrong in (values[None], np.concatenate([np.atleast_1d(values)] * 3)):
            message = _refusal(model, tensors=_with(model, name, wrong))
            if name.endswith(".shift"):
                assert message.startswith(f"tensor '{name}' must be int64 of shape {values.shape}")
            assert message.endswith(f" of shape {wrong.shape}")
            assert f"'{name}' must be " in message


def test_every_activation_needs_its_format(model: intsim.IntegerModel) -> None:
    for name in model.formats:
        message = _refusal(model, formats=_without(model.formats, name))
        assert message == f"integer checkpoint must give activation '{name}' a format, got none"


def test_a_tensor_too_many_is_refused(model: intsim.IntegerModel) -> None:
    message = _refusal(model, tensors={**model.tensors, "pooler.extra": np.zeros(3, np.int8)})
    assert message == "integer checkpoint must hold the tensors of its model only, got 'pooler.extra'"


@pytest.mark.parametrize("shift", [-1, 63, 64, 2**40])
def test_a_shift_outside_0_to_62_is_refused(model: intsim.IntegerModel, shift: int) -> None:
    for name, values in model.tensors.items():
        if name.endswith(".shift"):
            message = _refusal(model, tensors=_with(model, name, np.full_like(values, shift)))
            dyadic = name.removesuffix(".shift")
            assert message == f"dyadic '{dyadic}' must be valid, got: shift must be in [0, 62], got [{shift}, {shift}]"


@pytest.mark.parametrize("multiplier", [2**31, -(2**31), 2**62, -(2**63)])
def test_a_multiplier_of_more_than_31_bits_is_refused(model: intsim.IntegerModel, multiplier: int) -> None:
    for name, values in model.tensors.items():
        if name.endswith(".multiplier"):
            message = _refusal(model, tensors=_with(model, name, np.full_like(values, multiplier)))
            assert message.startswith(
                f"dyadic '{name.removesuffix('.multiplier')}' must be valid, got: multiplier must be"
            )


@pytest.mark.parametrize("bias", [2**31 - 1, -(2**31)])
def test_a_bias_that_could_overflow_the_accumulator_is_refused(model: intsim.IntegerModel, bias: int) -> None:
    for name, values in model.tensors.items():
        if name.endswith(".bias") and values.dtype == np.int32:
            damaged = values.copy()
            damaged[-1] = bias
            message = _refusal(model, tensors=_with(model, name, damaged))
            layer = name.removesuffix(".bias")
            assert re.fullmatch(
                rf"'{layer}.acc' must stay within the bounds of matmul, got: .* int32 accumulator, got a bound of \d+",
                message,
            )


def test_the_bound_of_the_accumulator_is_tight(model: intsim.IntegerModel) -> None:
    weight = model.tensors["classifier.weight"].astype(int)
    largest = np.full(2, 2**31 - 1 - 128 * np.abs(weight).sum(axis=-1).max(), np.int32)
    dataclasses.replace(model, tensors=_with(model, "classifier.bias", largest))([[2, 5, 3]])
    assert _refusal(model, tensors=_with(model, "classifier.bias", largest + 1)).endswith("got a bound of 2147483648")


@pytest.mark.parametrize("bits", [7, 8])
def test_a_model_that_is_accepted_runs(model: intsim.IntegerModel, bits: int) -> None:
    """Whatever the check lets pass must be within the bounds of the operators."""
    formats = _format(model, "pooler", range=intsim.IntRange(bits, narrow=True))
    weight = model.tensors["classifier.weight"].astype(int)
    largest = 2**31 - 1 - (2 ** (bits - 1) - 1) * np.abs(weight).sum(axis=-1)
    try:
        accepted = dataclasses.replace(
            model, formats=formats, tensors=_with(model, "classifier.bias", largest.astype(np.int32))
        )
    except CheckpointError:
        return
    accepted([[2, 5, 3]])


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("embeddings.position_embeddings", "embeddings.sum"),
        (f"{ATTENTION}.output.residual", f"{ATTENTION}.output.sum"),
        ("encoder.layer.0.output.dense", "encoder.layer.0.output.sum"),
    ],
)
def test_unequal_shifts_in_a_sum_are_refused(model: intsim.IntegerModel, name: str, total: str) -> None:
    shift = model.tensors[f"{name}.shift"]
    message = _refusal(model, tensors=_with(model, f"{name}.shift", shift + 1))
    assert message.startswith(f"'{total}' must stay within the bounds of add, got: ratios must share one shift")


def test_one_unequal_shift_among_the_channels_of_a_sum_is_refused(model: intsim.IntegerModel) -> None:
    name = f"{ATTENTION}.output.dense.shift"
    shift = model.tensors[name].copy()
    shift[-1] -= 1
    message = _refusal(model, tensors=_with(model, name, shift))
    assert message.startswith(
        f"'{ATTENTION}.output.sum' must stay within the bounds of add, got: ratios must share one"
    )


def test_a_profile_that_rounds_each_operand_takes_any_shifts(tiny_bert: TinyBert) -> None:
    model = intsim.quantize(tiny_bert(), calibration=TEXTS, recipe="ibert")
    dense, residual = (model.tensors[f"{ATTENTION}.output.{part}.shift"] for part in ("dense", "residual"))
    assert set(dense.tolist()) != {int(residual)}
    model([[2, 5, 3]])


def test_unequal_shifts_in_a_layer_norm_are_refused(model: intsim.IntegerModel) -> None:
    name = f"{ATTENTION}.output.LayerNorm"
    shift = model.tensors[f"{name}.shift"].copy()
    shift[3] += 1
    message = _refusal(model, tensors=_with(model, f"{name}.shift", shift))
    assert message.startswith(f"LayerNorm '{name}' must have valid constants, got: weight must have one common shift")


@pytest.mark.parametrize("eps", [0, -1, 2**61])
def test_an_eps_outside_its_range_is_refused(model: intsim.IntegerModel, eps: int) -> None:
    message = _refusal(model, tensors=_with(model, "embeddings.LayerNorm.eps", np.array(eps)))
    assert message.startswith("LayerNorm 'embeddings.LayerNorm' must have valid constants, got: eps must be in")


@pytest.mark.parametrize("bias", [2**63 - 1, -(2**63), 2**62 + 2**61])
def test_a_layer_norm_that_could_overflow_int64_is_refused(model: intsim.IntegerModel, bias: int) -> None:
    name = "encoder.layer.0.output.LayerNorm"
    tensors = _with(model, f"{name}.bias", np.full(16, bias))
    tensors[f"{name}.multiplier"] = np.full(16, -(2**31) + 1)
    tensors[f"{name}.shift"] = np.full(16, 62)
    assert _refusal(model, tensors=tensors).startswith(
        f"'{name}' must stay within the bounds of layer_norm, got: operands times multipliers must stay below 2**63"
    )


# ---- activations the arithmetic has no place for


def _format(model: intsim.IntegerModel, name: str, **changes: Any) -> dict[str, Any]:
    return {**model.formats, name: dataclasses.replace(model.formats[name], **changes)}


def test_a_zero_point_of_the_output_is_refused(tiny_bert: TinyBert) -> None:
    encoder = intsim.quantize(tiny_bert(labels=None), calibration=TEXTS)
    name = "encoder.layer.1.output.LayerNorm"
    assert f"'{name}'" in _refusal(encoder, formats=_format(encoder, name, zero_point=3))


def _wide(model: intsim.IntegerModel, *names: str) -> dict[str, Any]:
    """Return the changes that let activations take all of 16 bits, their weights as they are."""
    tensors, formats = dict(model.tensors), dict(model.formats)
    for name in names:
        tensors[f"{name}.shift"] = np.full_like(tensors[f"{name}.shift"], 20)  # a ratio of a thousand
        formats[name] = dataclasses.replace(formats[name], range=intsim.IntRange(16))
    return {"tensors": tensors, "formats": formats}


def test_scores_that_could_overflow_int32_are_refused(model: intsim.IntegerModel) -> None:
    name = f"{ATTENTION}.self"
    dataclasses.replace(model, **_wide(model, f"{name}.query"))
    assert f"'{name}.scores.acc'" in _refusal(model, **_wide(model, f"{name}.query", f"{name}.key"))


@pytest.mark.parametrize(("longest", "total"), [(16, 263), (258, 384), (512, 510), (600, 510)])
def test_the_bound_of_the_context_is_that_of_a_row_of_probabilities(
    tiny_bert: TinyBert, longest: int, total: int
) -> None:
    """Those of a text sum to 255 and half of its tokens at most, or to 510."""
    model = intsim.quantize(tiny_bert(config={"max_position_embeddings": longest}), calibration=TEXTS)
    wide = dataclasses.replace(model, **_wide(model, f"{ATTENTION}.self.value"))
    wide([[5] * longest])
    found = widths(wide)[f"{ATTENTION}.self.context.acc"]
    assert max(-found.min, found.max) <= total << 15


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("embeddings.LayerNorm", "encoder.layer.0.attention.self.query.acc"),
        (f"{ATTENTION}.self.key", f"{ATTENTION}.self.scores.acc"),
        (f"{ATTENTION}.self.context", f"{ATTENTION}.output.dense.acc"),
        ("encoder.layer.1.intermediate", "encoder.layer.1.output.dense.acc"),
        ("pooler", "classifier.acc"),
    ],
)
def test_an_operand_of_a_product_that_takes_more_than_16_bits_is_refused(
    model: intsim.IntegerModel, name: str, operator: str
) -> None:
    message = _refusal(model, formats=_format(model, name, range=intsim.IntRange(17)))
    assert (
        message
        == f"'{operator}' must stay within the bounds of matmul, got: "
        + ("w_q" if name.endswith("key") else "x_q")
        + " must have at most 16 bits, got int32"
    )


@pytest.mark.parametrize("multiplier", [0, -5])
def test_scores_with_a_ratio_that_is_not_positive_are_refused(model: intsim.IntegerModel, multiplier: int) -> None:
    tensors = _with(model, f"{ATTENTION}.self.scores.multiplier", np.array(multiplier))
    message = _refusal(model, tensors=tensors)
    assert message.startswith(
        f"'{ATTENTION}.self.probs' must stay within the bounds of softmax, got: ratio must be one"
    )


@pytest.mark.parametrize("zero_point", [128, -129, 10**9, 0.5])
def test_a_zero_point_that_is_not_a_code_is_refused(model: intsim.IntegerModel, zero_point: float) -> None:
    with pytest.raises((CheckpointError, ValueError, TypeError), match="zero_point"):
        dataclasses.replace(model, formats=_format(model, "pooler", zero_point=zero_point))


def test_a_sum_that_does_not_fit_int32_is_refused(model: intsim.IntegerModel) -> None:
    formats = _format(model, "embeddings.sum", range=intsim.IntRange(32, signed=False), zero_point=0)
    message = _refusal(model, formats=formats)
    assert message.startswith(
        "'embeddings.LayerNorm' must stay within the bounds of layer_norm, got: x_q must have codes"
    )


# Whatever passes runs, and gives what its operators give


RECIPES = ("intsim", "ibert", "mixed", "peg", "tm-iqr", "zeroquant")
CHANGES = ("format", "dynamic", "multiplier", "channels")


@pytest.fixture(scope="module")
def models(tiny_bert: Callable[..., Path]) -> dict[str, intsim.IntegerModel]:
    source = tiny_bert()
    return {recipe: intsim.quantize(source, recipe=recipe, calibration=["a good movie ."]) for recipe in RECIPES}


@st.composite
def forms(draw: st.DrawFn) -> Format:
    signed, narrow = draw(st.sampled_from([(True, False), (True, True), (False, False)]))
    to = intsim.IntRange(draw(st.sampled_from([2, 4, 8, 8, 9, 16, 17, 31, 32])), signed, narrow)
    zero_point = draw(st.sampled_from([0, to.min, min(to.max, 2**31 - 1), 1]))
    groups = draw(st.sampled_from([None, None, 2, 8]))
    if groups is None:
        return Format(range=to, zero_point=zero_point, scale=intsim.Dyadic(1, 5))
    return Format(range=to, zero_point=(zero_point,) * groups, scale=intsim.Dyadic([1] * groups, [5] * groups))


@given(data=st.data())
def test_a_changed_model_is_refused_or_runs_like_its_operators(
    models: dict[str, intsim.IntegerModel], data: st.DataObject
) -> None:
    model = models[data.draw(st.sampled_from(RECIPES))]
    formats, dynamic, tensors = dict(model.formats), dict(model.dynamic), dict(model.tensors)
    for change in data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=2)):
        name = data.draw(st.sampled_from([key for key in tensors if key.endswith(".multiplier")]))
        shift, values = name.replace("multiplier", "shift"), tensors[name]
        if change == "format":
            formats[data.draw(st.sampled_from([*formats]))] = data.draw(forms())
        elif change == "dynamic":
            per, clip = data.draw(st.sampled_from([("token", False), ("sequence", False), ("sequence", True)]))
            to = intsim.IntRange(data.draw(st.sampled_from([2, 4, 8])), narrow=True)
            dynamic[data.draw(st.sampled_from([*model.outline.inputs]))] = Dynamic(range=to, per=per, clip=clip)
        elif change == "multiplier":
            tensors[name] = data.draw(st.sampled_from([-values, values // 3, 0 * values, values * 0 + 2**31 - 1]))
        elif values.ndim == 0:
            channels = data.draw(st.sampled_from([2, 16, 32]))
            tensors[name], tensors[shift] = np.full(channels, values), np.full(channels, tensors[shift])
            tensors[name][0] *= -1
    try:
        changed = dataclasses.replace(model, formats=formats, dynamic=dynamic, tensors=tensors)
    except CheckpointError:
        return
    ids, mask = [[2, 9, 10, 11, 3], [2, 20, 21, 3, 0]], [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    with intsim.trace():
        expected = changed(ids, attention_mask=mask, carrier="integer").values
    assert np.array_equal(changed(ids, attention_mask=mask).values, expected)


def test_a_format_too_wide_to_be_quantized_while_running_is_refused(models: dict[str, intsim.IntegerModel]) -> None:
    wide = intsim.IntRange(32, signed=False)
    message = _refusal(models["zeroquant"], formats=_format(models["zeroquant"], "embeddings.LayerNorm", range=wide))
    name = "encoder.layer.0.attention.self.input.bound"
    rule = "must stay within the bounds of dynamic_bound, got: x_q must have codes that fit int32, got uint32"
    assert message == f"'{name}' {rule}"


def test_a_zero_point_beyond_int32_is_refused() -> None:
    with pytest.raises(ValueError, match=r"zero_point must be an integer in \[0, 2147483647\], got 2147483648"):
        Format(range=intsim.IntRange(32, signed=False), zero_point=2**31, scale=intsim.Dyadic(1, 0))
