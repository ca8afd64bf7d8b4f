# SPDX-License-Identifier: Apache-2.0
"""The operators of ``intsim.ops`` as calls of C functions: the same integers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.carrier.rowwise import eps_by_shift
from intsim.errors import IntsimError
from intsim.fixedpoint import Dyadic, IntRange, Rounding
from intsim.io.c.program import Buffer, Rows
from intsim.io.c.rules import gelu_table, require_supported
from intsim.io.c.values import Causal, Mask, Probabilities, Scaled, Scores, Value, counted
from intsim.kernels import rules
from intsim.ops import LayerNormParams
from intsim.ops.rotary import Pairing
from intsim.profile import Gelu, LayerNorm, Profile
from intsim.requantization import Requantization
from intsim.rounded import RoundedSilu, RoundedTanh, table

__all__ = ["EMITTERS"]

Integers: TypeAlias = NDArray[Any]


def _new(x: Value, *, rows: Rows | None = None, columns: int | None = None, ctype: str = "int32_t") -> Buffer:
    program = x.program
    rows = x.rows if rows is None else rows
    return program.buffer(program.scope, rows, x.columns if columns is None else columns, ctype)


def _made(x: Value, target: Buffer, dtype: Any, *, shape: Any = None) -> Value:
    shape = (*x.shape[:-1], target.columns) if shape is None else shape
    return Value(x.program, target, shape, np.dtype(dtype))


def _rowwise(x: Value, function: str, *constants: object, dtype: Any = np.int32) -> Value:
    """Emit a function of (rows, columns) that gives as many."""
    target = _new(x)
    x.program.call(function, target, target.name, x, x.rows, x.columns, *constants, reads=(x.buffer,))
    return _made(x, target, dtype)


def requantize(
    acc: Value | Scaled,
    ratio: Dyadic,
    *,
    to: IntRange,
    rounding: Rounding | Requantization,
    zero_point: int | Integers = 0,
    addend: Integers | None = None,
) -> Value:
    """Emit ``ops.requantize``: by the profile's rule, or by one rounding."""
    x = acc.acc if isinstance(acc, Scaled) else acc
    program, name = x.program, x.program.scope
    constants = (
        program.dyadic(name, ratio),
        "NULL" if addend is None else program.array(f"{name}.addend", addend, "int64_t"),
        program.format(name, to, zero_point),
    )
    if isinstance(rounding, Rounding):
        return _rowwise(x, "rescale", *constants, dtype=to.dtype)
    if not isinstance(acc, Scaled):
        return _rowwise(x, "requantize", *constants, dtype=to.dtype)
    target, bound = _new(x), acc.bound
    program.call(
        "requantize_scaled",
        target,
        target.name,
        x,
        *_bound(bound),
        x.rows,
        x.columns,
        *constants,
        reads=(x.buffer, bound.buffer),
    )
    return _made(x, target, to.dtype)


def add(
    operands: Sequence[Value],
    ratios: Sequence[Dyadic],
    *,
    to: IntRange,
    profile: Profile,
    zero_point: int | Integers = 0,
) -> Value:
    """Emit ``ops.add``."""
    first, program = operands[0], operands[0].program
    target, name = _new(first), program.scope
    *terms, last = map(str, operands)
    terms = [*terms, f"{last}}}"]
    program.call(
        "add" if profile.sum == "once" else "add_each",
        target,
        target.name,
        first.rows,
        first.columns,
        len(operands),
        f"(const int32_t *const[]){{{terms[0]}",
        *terms[1:],
        program.dyadic(name, *ratios),
        program.format(name, to, zero_point),
        reads=tuple(x.buffer for x in operands),
    )
    return _made(first, target, to.dtype)


def matmul(
    x_q: Value | Probabilities,
    w_q: Value | Integers,
    *,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
    bias: Integers | None = None,
    carrier: str = "auto",  # noqa: ARG001  the same bits
) -> Value | Scores:
    """Emit ``ops.matmul``; the products of attention wait for one another."""
    if isinstance(x_q, Probabilities):
        return _attention(x_q, w_q, w_zero_point)
    if isinstance(w_q, Value):
        return Scores(x_q, w_q, x_zero_point, w_zero_point)
    if x_zero_point or w_zero_point:
        _refuse(x_q, "product without zero points", "zero points")
    program, (columns, depth) = x_q.program, w_q.shape
    target, name = _new(x_q, columns=columns), program.scope
    constants: list[object] = [
        program.weight(w_q),
        "NULL" if bias is None else program.array(f"{name.removesuffix('.acc')}.bias", bias, "int32_t"),
        x_q.rows,
        depth,
        columns,
    ]
    if depth == x_q.columns:
        program.call("matmul", target, target.name, x_q, *constants, reads=(x_q.buffer,))
    else:
        program.call("matmul_group", target, target.name, x_q, *constants, x_q.columns, reads=(x_q.buffer,))
    return _made(x_q, target, np.int32)


def _attention(probs: Probabilities, value: Any, zero_point: int) -> Value:
    query, key, scores = probs.scores.query, probs.scores.key, probs.scores
    program = query.program
    size = query.shape[-1]
    assert isinstance(size, int)  # noqa: S101  channels are numbers
    heads, key_heads = query.columns // size, key.columns // size
    rows = query.buffer.rows
    target = _new(query, rows=rows)
    shared = (
        heads,
        key_heads,
        size,
        program.dyadic(probs.name, probs.ratio),
        scores.query_zero_point,
        scores.key_zero_point,
        zero_point,
    )
    if isinstance(probs.mask, Causal):
        window = program.longest if probs.mask.window is None else min(probs.mask.window, program.longest)
        function, places = "causal_attention", (program.past, rows, window)
    else:
        function, places = "attention", (rows,)
    program.call(
        function,
        target,
        target.name,
        query,
        key,
        value,
        *places,
        *shared,
        reads=(query.buffer, key.buffer, value.buffer),
    )
    return _made(query, target, np.int32, shape=(1, heads, rows, size))


def softmax(acc: Scores, ratio: Dyadic, *, profile: Profile, mask: Any) -> Probabilities:
    """Wait for the values."""
    require_supported(acc.query.program.scope, "softmax", profile.softmax)
    return Probabilities(acc, acc.query.program.scope, ratio, mask)


def causal_mask(mask: Mask, *, queries: Rows, window: int | None = None) -> Causal:  # noqa: ARG001  all that ask
    """Return what attention makes of itself."""
    return Causal(window)


def append(past: Value, new: Value) -> Value:
    """Emit ``ops.append`` into memory that stays."""
    program = new.program
    program.call("append", None, past, new, program.past, new.buffer.rows, new.columns, reads=(new.buffer,))
    return past


def dynamic_bound(
    x_q: Value,
    *,
    per: Literal["token", "sequence"],
    clip: bool = False,
    zero_point: int = 0,
    mask: Any = None,  # noqa: ARG001  no token is masked
) -> Value:
    """Emit ``ops.dynamic_bound``."""
    function = "token_bound" if per == "token" else "clipped_bound" if clip else "sequence_bound"
    target = _new(x_q, rows=x_q.rows if per == "token" else 1, columns=1, ctype="int64_t")
    x_q.program.call(function, target, target.name, x_q, x_q.rows, x_q.columns, zero_point, reads=(x_q.buffer,))
    return _made(x_q, target, np.int64)


def _bound(bound: Value) -> tuple[str, int]:
    """Return the bound as an argument, and the step from row to row."""
    return str(bound), int(isinstance(bound.buffer.rows, str))


def quantize_dynamic(
    x_q: Value, bound: Value, *, unit: int, to: IntRange, rounding: Rounding, zero_point: int = 0
) -> Value:
    """Emit ``ops.quantize_dynamic``."""
    _ = rounding  # the profile's
    target = _new(x_q)
    x_q.program.call(
        "quantize_dynamic",
        target,
        target.name,
        x_q,
        *_bound(bound),
        x_q.rows,
        x_q.columns,
        unit,
        zero_point,
        to.min,
        to.max,
        reads=(x_q.buffer, bound.buffer),
    )
    return _made(x_q, target, to.dtype)


def scale_rows(acc: Value, bound: Value) -> Scaled:
    """Leave the product to the requantization that follows."""
    return Scaled(acc, bound)


def permute(x_q: Value, order: Integers) -> Value:
    """Emit ``ops.permute``."""
    return _rowwise(x_q, "permute", x_q.program.array(x_q.program.scope + ".order", order, "int32_t"), dtype=x_q.dtype)


def embedding(ids: Value, table_q: Integers) -> Value:
    """Emit ``ops.embedding``."""
    program, tokens, columns = ids.program, ids.shape[-1], table_q.shape[1]
    target = _new(ids, rows=tokens, columns=columns)
    if table_q.dtype == np.int8:
        function, rows = "embedding", program.weight(table_q)
    else:
        function, rows = "embedding_int16", program.array(f"{program.scope}.table", table_q, "int16_t")
    program.call(function, target, target.name, ids, rows, tokens, columns, reads=(ids.buffer,))
    return _made(ids, target, table_q.dtype, shape=(*ids.shape, columns))


def position_ids(ids: Value, *, padding: int) -> Value:
    """Emit ``ops.position_ids``."""
    program, tokens = ids.program, ids.shape[-1]
    target = program.buffer(program.scope, tokens, 1)
    program.call("padded_positions", target, target.name, ids, tokens, padding, reads=(ids.buffer,))
    return Value(program, target, ids.shape, np.dtype(np.int64))


def relu(x_q: Value, *, zero_point: int = 0) -> Value:
    """Emit ``ops.relu``."""
    return _rowwise(x_q, "relu", zero_point, dtype=x_q.dtype)


def gelu(x_q: Value, *, profile: Profile) -> Value:
    """Emit ``ops.gelu``."""
    require_supported(x_q.program.scope, "gelu", profile.gelu)
    match profile.gelu:
        case Gelu():
            return _rowwise(x_q, "i_gelu")
        case rules.CodeGelu():
            return _rowwise(x_q, "ibert_gelu")
        case rules.ShiftGelu():
            return _rowwise(x_q, "shiftgelu")
        case rules.ItaGelu():
            return _rowwise(x_q, "ita_gelu")
        case rule:
            return _tabulated(x_q, gelu_table("gelu", rule))


def gelu_tanh(x_q: Value, *, profile: Profile) -> Value:
    """Emit ``ops.gelu_tanh``."""
    if isinstance(profile.gelu, Gelu | rules.CodeGelu | rules.ShiftGelu | rules.ItaGelu | rules.GeluTable):
        return gelu(x_q, profile=profile)
    return _tabulated(x_q, gelu_table("gelu_tanh", profile.gelu))


def _tabulated(x_q: Value, entries: tuple[str, Integers]) -> Value:
    name, values = entries
    return _rowwise(x_q, "tabulated", x_q.program.array(f"{name}.table", values, "int32_t"))


def tanh(x_q: Value, *, profile: Profile) -> Value:
    """Emit ``ops.tanh``."""
    if isinstance(profile.tanh, RoundedTanh):
        values = table("tanh", profile.exp.input_fraction + 1, profile.tanh.output_fraction)
        return _tabulated(x_q, ("tanh", values))
    return _rowwise(x_q, "tanh_exp")


def silu(x_q: Value, *, profile: Profile) -> Value:
    """Emit ``ops.silu``."""
    rule = profile.silu
    if isinstance(rule, RoundedSilu):
        return _tabulated(x_q, ("silu", table("silu", rule.input_fraction, rule.output_fraction)))
    return _rowwise(x_q, "silu_finer" if profile.exp.input_fraction >= rule.input_fraction else "silu_coarser")


def _norm(x_q: Value, params: LayerNormParams, function: str, to: IntRange, *, eps: Integers, least: int = 0) -> Value:
    program, name = x_q.program, x_q.program.scope
    key = f"{name}.params"
    fields = (
        program.array(f"{name}.multiplier", params.weight.multiplier, "int32_t"),
        int(params.weight.shift[0]),
        program.array(f"{name}.bias", params.bias, "int64_t"),
        program.array(f"{name}.eps", eps, "int64_t"),
        least,
        to.min,
        to.max,
    )
    identifier = program.identifier(key)
    program.struct("norm_params", identifier, *fields)
    return _rowwise(x_q, function, f"&{identifier}", dtype=to.dtype)


def layer_norm(x_q: Value, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Value:
    """Emit ``ops.layer_norm``."""
    require_supported(x_q.program.scope, "layer_norm", profile.layer_norm)
    rule, one = profile.layer_norm, np.array([params.eps])
    wide = not np.can_cast(x_q.dtype, np.int16)
    if isinstance(rule, rules.CodeLayerNorm | rules.VitLayerNorm):
        if wide:
            _refuse(x_q, "LayerNorm of codes that fit int16", f"{x_q.dtype} under another project's rule")
        function = "ibert_layer_norm" if isinstance(rule, rules.CodeLayerNorm) else "ivit_layer_norm"
        return _norm(x_q, params, function, to, eps=one)
    function = "layer_norm" if rule.centring == "exact" else "layer_norm_rounded_mean"
    if not wide:
        return _norm(x_q, params, function, to, eps=one)
    least, eps = eps_by_shift(x_q.columns**2 * params.eps, profile.step_rounding)
    return _norm(x_q, params, f"{function}_wide", to, eps=eps, least=least)


def rms_norm(x_q: Value, params: LayerNormParams, *, to: IntRange, profile: Profile) -> Value:
    """Emit ``ops.rms_norm``."""
    if not isinstance(profile.layer_norm, LayerNorm):
        require_supported(x_q.program.scope, "rms_norm", None)
    least, eps = eps_by_shift(params.eps, profile.step_rounding)
    return _norm(x_q, params, "rms_norm", to, eps=eps, least=least)


def multiply(
    a_q: Value,
    b_q: Value,
    ratio: Dyadic,
    *,
    to: IntRange,
    rounding: Rounding,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int | Integers = 0,
) -> Value:
    """Emit ``ops.multiply``."""
    _ = rounding  # the profile's
    program, name = a_q.program, a_q.program.scope
    target = _new(a_q)
    program.call(
        "multiply",
        target,
        target.name,
        a_q,
        b_q,
        a_q.rows,
        a_q.columns,
        program.dyadic(name, ratio),
        a_zero_point,
        b_zero_point,
        program.format(name, to, zero_point),
        reads=(a_q.buffer, b_q.buffer),
    )
    return _made(a_q, target, to.dtype)


def rotary(x_q: Value, cos: Value, sin: Value, *, pairing: Pairing, rounding: Rounding) -> Value:
    """Emit ``ops.rotary``."""
    _ = rounding  # the profile's
    size = x_q.shape[-1]
    assert isinstance(size, int)  # noqa: S101  channels are numbers
    rows = x_q.buffer.rows
    target = _new(x_q, rows=rows)
    x_q.program.call(
        f"rotary_{pairing}",
        target,
        target.name,
        x_q,
        cos,
        sin,
        rows,
        x_q.columns // size,
        size,
        cos.columns,
        reads=(x_q.buffer, cos.buffer, sin.buffer),
    )
    return _made(x_q, target, np.int32, shape=x_q.shape)


def mean_pooling(x_q: Value, mask: Any, *, profile: Profile, zero_point: int = 0) -> Value:  # noqa: ARG001
    """Emit ``ops.mean_pooling``."""
    target = _new(x_q, rows=1)
    x_q.program.call("mean_pooling", target, target.name, x_q, x_q.rows, x_q.columns, zero_point, reads=(x_q.buffer,))
    return _made(x_q, target, np.int32, shape=(1, x_q.columns))


def pick_token(x_q: Value, mask: Any, *, which: Literal["first", "last"]) -> Value:  # noqa: ARG001
    """Emit ``ops.pick_token``."""
    target = _new(x_q, rows=1)
    token = "0" if which == "first" or x_q.rows == 1 else f"{x_q.rows} - 1"
    x_q.program.call("pick_token", target, target.name, x_q, token, x_q.columns, reads=(x_q.buffer,))
    return _made(x_q, target, x_q.dtype, shape=(1, x_q.columns))


def l2_normalize(x_q: Value, *, profile: Profile) -> Value:  # noqa: ARG001
    """Emit ``ops.l2_normalize``."""
    return _rowwise(x_q, "l2_normalize")


def token_positions(mask: Mask, *, queries: Rows, first: int) -> Value:
    """Emit ``ops.token_positions``."""
    program = mask.program
    return counted(program, program.scope, queries, " + ".join(filter(None, [program.past, str(first or "")])))


def neighbours(x_q: Value, *, mask: Any, zero_point: int = 0) -> Value:  # noqa: ARG001
    """Emit ``ops.neighbours``."""
    target = _new(x_q, columns=3 * x_q.columns)
    x_q.program.call("neighbours", target, target.name, x_q, x_q.rows, x_q.columns, zero_point, reads=(x_q.buffer,))
    return _made(x_q, target, x_q.dtype)


def _refuse(x: Value, what: str, got: str) -> NoReturn:
    msg = f"'{x.program.scope}' must be a {what} to be exported as C, got {got}"
    raise IntsimError(msg)


EMITTERS: Final[Mapping[Callable[..., Any], Callable[..., Any]]] = {
    getattr(ops, emitter.__name__): emitter
    for emitter in (
        add,
        append,
        causal_mask,
        dynamic_bound,
        embedding,
        gelu,
        gelu_tanh,
        l2_normalize,
        layer_norm,
        matmul,
        mean_pooling,
        multiply,
        neighbours,
        permute,
        pick_token,
        position_ids,
        quantize_dynamic,
        relu,
        requantize,
        rms_norm,
        rotary,
        scale_rows,
        silu,
        softmax,
        tanh,
        token_positions,
    )
}
