# SPDX-License-Identifier: Apache-2.0
"""The forward pass of an integer model walked over reals, each kind of error switched on after the other.

Every operator of the integer model has a real meaning: what it would compute if nothing were rounded, clipped or
approximated. ``in_reals`` interprets the very forward pass of ``intsim.models`` by these meanings, with the constants
of the integer model, so every recipe is covered and nothing is modelled twice.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import Interpreter
from intsim.fixedpoint import INT16, Dyadic, IntRange
from intsim.integer_model import IntegerModel
from intsim.ops.l2_normalize import UNIT_FRACTION
from intsim.ops.rotary import TURN_FRACTION, Pairing
from intsim.profile import Exp, Gelu, LayerNorm, Profile, Sigmoid, Silu, Softmax, Tanh, native
from intsim.reference.ops.activations import ACTIVATIONS
from intsim.reference.ops.l2_normalize import l2_normalize
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.ops.pick_token import pick_token
from intsim.reference.ops.rotary import rotary
from intsim.reference.ops.sigmoid import sigmoid
from intsim.rounded import RoundedExp, RoundedGelu

__all__ = ["PARTS", "in_integers", "in_reals", "stages"]

Reals: TypeAlias = NDArray[np.float64]

PARTS: Final[tuple[str, ...]] = ("quantization", "saturation", "approximation", "rounding")


def stages(model: IntegerModel) -> dict[str, Interpreter]:
    """Return how to run ``model`` with ever more of its errors; each part is the error that its stage adds.

    ``quantization``
        Weights, biases and ratios of scales as stored. Activations are rounded to codes (so are probabilities and the
        operands quantized while running), but not clipped; all else is exact.
    ``saturation``
        Codes, and the fixed-point inputs of GELU, SiLU, tanh, sigmoid and exp, are clipped to their ranges too.
    ``approximation``
        exp, GELU, SiLU, tanh and sigmoid are the profile's polynomials, in reals, where it has any.
    ``rounding``
        The integer model: fixed-point formats between the codes, integer roots and quotients.
    """
    return {
        "quantization": in_reals(model, saturate=False, approximate=False),
        "saturation": in_reals(model, saturate=True, approximate=False),
        "approximation": in_reals(model, saturate=True, approximate=True),
        "rounding": in_integers,
    }


def in_integers(_name: str, operator: Any, operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Any:
    """Call the integer operator."""
    return operator(*operands, **constants)


def in_reals(model: IntegerModel, *, saturate: bool, approximate: bool) -> Interpreter:
    """Return an interpreter that gives the real meaning of every operator, in units of its result's codes.

    Parameters
    ----------
    model
        Says which results are codes of an activation, and thus rounded, ties to even.
    saturate
        Whether results are clipped to their range.
    approximate
        Whether exp, GELU, SiLU, tanh and sigmoid are the profile's polynomials.
    """
    functions = model.outline.functions

    def interpret(name: str, operator: Any, operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Any:
        choices: dict[str, Any] = {}
        if operator in _CHOOSING:
            function = functions.get(name.rpartition(".")[0])
            choices = {"saturate": saturate, "approximate": approximate, "function": function}
        if operator in {ops.position_ids, ops.causal_mask}:  # numbers of rows, and masks: no codes
            return operator(*operands, **constants)
        values = _MEANING[operator](*operands, **constants, **choices)
        if name in model.formats or operator in {ops.quantize_dynamic, ops.softmax}:
            values = np.rint(values)
        to: IntRange | None = constants["profile"].probability_range if operator is ops.softmax else constants.get("to")
        if saturate and to is not None:
            values = values.clip(to.min, to.max)
        return values.view(_Codes)

    return interpret


class _Codes(np.ndarray[Any, np.dtype[np.float64]]):
    """Reals in the place of integers: where the model widens integers, they stay as they are."""

    def astype(self, *_args: Any, **_options: Any) -> "_Codes":
        return self


def _embedding(ids: NDArray[np.integer], table: NDArray[np.integer]) -> Reals:
    return np.asarray(table[ids], np.float64)


def _add(operands: list[Reals], ratios: list[Dyadic], *, zero_point: Any = 0, **_rules: Any) -> Reals:
    terms = [x * ratio.to_real() for x, ratio in zip(operands, ratios, strict=True)]
    return np.asarray(sum(terms[1:], terms[0]) + zero_point)


def _requantize(acc: Reals, ratio: Dyadic, *, zero_point: Any = 0, addend: Any = 0, **_rules: Any) -> Reals:
    return acc * ratio.to_real() + np.ldexp(np.asarray(addend, np.float64), -ratio.shift) + zero_point


def _matmul(x: Reals, w: Any, *, x_zero_point: int = 0, w_zero_point: int = 0, bias: Any = 0, **_rules: Any) -> Reals:
    return (x - x_zero_point) @ (np.asarray(w, np.float64) - w_zero_point).swapaxes(-1, -2) + bias


def _multiply(
    a: Reals,
    b: Reals,
    ratio: Dyadic,
    *,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int = 0,
    **_rules: Any,
) -> Reals:
    return (a - a_zero_point) * (b - b_zero_point) * ratio.to_real() + zero_point


def _rotary(x: Reals, cos: Any, sin: Any, *, pairing: Pairing, **_rules: Any) -> Reals:
    return np.asarray(rotary(x, *(np.ldexp(t, -TURN_FRACTION) for t in (cos, sin)), pairing=pairing), np.float64)


def _scale_rows(acc: Reals, bound: Reals) -> Reals:
    return acc * bound


def _dynamic_bound(
    x: Reals, *, per: str, clip: bool, zero_point: int = 0, mask: NDArray[np.bool_] | None = None
) -> Reals:
    maxima = np.abs(x - zero_point).max(axis=-1)  # (..., T)
    if per == "token":
        return maxima[..., None]
    seen = np.asarray(maxima if mask is None else np.where(mask, maxima, np.nan))
    bound = np.nanmax(seen, axis=-1)
    if clip:
        q1, q3 = np.nanquantile(seen, [0.25, 0.75], axis=-1)
        bound = 8 * np.minimum(bound, q3 + 1.5 * (q3 - q1))
    return bound[..., None, None]


def _quantize_dynamic(x: Reals, bound: Reals, *, unit: int, to: IntRange, zero_point: int = 0, **_rules: Any) -> Reals:
    return np.where(bound > 0, x - zero_point, 0) * (unit * to.max) / np.where(bound > 0, bound, 1)


def _layer_norm(x: Reals, params: ops.LayerNormParams, *, profile: Profile, **_rules: Any) -> Reals:
    rule = native(profile.layer_norm, LayerNorm)
    centred = x - x.mean(axis=-1, keepdims=True)
    eps = params.eps / (x.shape[-1] ** 2 if rule.centring == "exact" else 1)
    return _over_root_mean_square(centred, params, eps=eps, rule=rule)


def _rms_norm(x: Reals, params: ops.LayerNormParams, *, profile: Profile, **_rules: Any) -> Reals:
    return _over_root_mean_square(
        x, params, eps=params.eps / x.shape[-1] ** 2, rule=native(profile.layer_norm, LayerNorm)
    )


def _over_root_mean_square(x: Reals, params: ops.LayerNormParams, *, eps: float, rule: LayerNorm) -> Reals:
    y = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    bias = np.ldexp(params.bias.astype(np.float64), -params.weight.shift)
    return y * 2.0**rule.output_fraction * params.weight.to_real() + bias


def _softmax(
    acc: Reals,
    ratio: Dyadic,
    *,
    profile: Profile,
    mask: NDArray[np.bool_],
    saturate: bool,
    approximate: bool,
    **_choices: Any,
) -> Reals:
    native(profile.softmax, Softmax)
    keep = np.broadcast_to(mask, acc.shape)
    x = acc * ratio.to_real()
    x = np.minimum(x - x.max(axis=-1, keepdims=True, where=keep, initial=-np.inf), 0)
    x = np.maximum(x, INT16.min if saturate else -np.inf)
    e = np.where(keep, _exp(x * 2.0**-profile.exp.input_fraction, profile.exp if approximate else None), 0)
    return e / e.sum(axis=-1, keepdims=True) * profile.softmax.one


def _gelu(x: Reals, *, profile: Profile, approximate: bool, function: str, **_choices: Any) -> Reals:
    rule = profile.gelu if isinstance(profile.gelu, RoundedGelu) else native(profile.gelu, Gelu)
    x = x * 2.0**-rule.input_fraction
    y = _i_gelu(x, rule) if approximate and isinstance(rule, Gelu) else ACTIVATIONS[function](x)
    return np.asarray(y / float(rule.output_scale), np.float64)


def _tanh(x: Reals, *, profile: Profile, approximate: bool, **_choices: Any) -> Reals:
    x = x * 2.0 ** -(profile.exp.input_fraction + 1)
    y = np.tanh(x)
    if approximate and isinstance(profile.tanh, Tanh):
        one, e = (_exp(each, profile.exp) for each in (np.zeros(1), -2 * np.abs(x)))
        y = np.sign(x) * (one - e) / (one + e)
    return y * 2.0**profile.tanh.output_fraction


def _sigmoid(x: Reals, *, profile: Profile, approximate: bool, **_choices: Any) -> Reals:
    is_polynomial = approximate and isinstance(profile.sigmoid, Sigmoid)
    y = _logistic(x * 2.0**-profile.exp.input_fraction, profile.exp if is_polynomial else None)
    return np.asarray(y * 2.0**profile.sigmoid.output_fraction, np.float64)


def _silu(x: Reals, *, profile: Profile, approximate: bool, **_choices: Any) -> Reals:
    is_polynomial = approximate and isinstance(profile.silu, Silu) and isinstance(profile.sigmoid, Sigmoid)
    x = x * 2.0**-profile.silu.input_fraction
    return np.asarray(x * _logistic(x, profile.exp if is_polynomial else None) / float(profile.silu_scale), np.float64)


def _logistic(x: Reals, rule: Exp | RoundedExp | None) -> Reals:
    """Return sigmoid, or what ``rule`` makes of it."""
    if not isinstance(rule, Exp):
        return np.asarray(sigmoid(x), np.float64)
    one, e = (_exp(each, rule) for each in (np.zeros(1), -np.abs(x)))
    return np.asarray(np.where(x >= 0, one, e) / (one + e), np.float64)


def _relu(x: Reals) -> Reals:
    return np.maximum(x, 0)


def _mean_pooling(x: Reals, mask: NDArray[np.bool_], *, zero_point: int = 0, **_rules: Any) -> Reals:
    return np.asarray(mean_pooling(x - zero_point, mask), np.float64)


def _pick_token(x: Reals, mask: NDArray[np.bool_], *, which: str) -> Reals:
    return np.asarray(pick_token(x, mask, which=which), np.float64)


def _l2_normalize(x: Reals, **_rules: Any) -> Reals:
    return np.asarray(l2_normalize(x) * 2.0**UNIT_FRACTION, np.float64)


def _neighbours(x: Reals, *, mask: NDArray[np.bool_], zero_point: Any = 0) -> Reals:
    kept = np.pad(np.where(mask[..., None], x, zero_point), ((0, 0), (1, 1), (0, 0)), constant_values=zero_point)
    return np.concatenate([kept[:, 2:], x, kept[:, :-2]], axis=-1)


def _permute(x: Reals, order: NDArray[np.integer]) -> Reals:
    return x[..., order]


def _exp(x: Reals, rule: Exp | RoundedExp | None) -> Reals:
    """Return e**x for x <= 0, or the polynomial of ``rule`` for it."""
    if not isinstance(rule, Exp):
        return np.exp(x)
    z = np.floor(-x / math.log(2))
    return (float(rule.a) * (x + z * math.log(2) + float(rule.b)) ** 2 + float(rule.c)) * 2.0**-z


def _i_gelu(x: Reals, rule: Gelu) -> Reals:
    b = float(rule.b)
    erf = np.sign(x) * (float(rule.a) * (np.minimum(np.abs(x) / math.sqrt(2), -b) + b) ** 2 + 1)
    return x / 2 * (1 + erf)


_CHOOSING: Final = {ops.gelu, ops.gelu_tanh, ops.sigmoid, ops.silu, ops.softmax, ops.tanh}
_MEANING: Final[Mapping[Any, Any]] = {
    ops.add: _add,
    ops.dynamic_bound: _dynamic_bound,
    ops.embedding: _embedding,
    ops.gelu: _gelu,
    ops.gelu_tanh: _gelu,
    ops.l2_normalize: _l2_normalize,
    ops.layer_norm: _layer_norm,
    ops.matmul: _matmul,
    ops.mean_pooling: _mean_pooling,
    ops.multiply: _multiply,
    ops.neighbours: _neighbours,
    ops.permute: _permute,
    ops.pick_token: _pick_token,
    ops.quantize_dynamic: _quantize_dynamic,
    ops.relu: _relu,
    ops.requantize: _requantize,
    ops.rms_norm: _rms_norm,
    ops.rotary: _rotary,
    ops.scale_rows: _scale_rows,
    ops.sigmoid: _sigmoid,
    ops.silu: _silu,
    ops.softmax: _softmax,
    ops.tanh: _tanh,
}
