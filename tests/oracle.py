# SPDX-License-Identifier: Apache-2.0
"""The slow oracle: the operators and the integer BERT again, in Python ``int`` and ``Fraction``.

This is the judge the NumPy implementation is tested against, what "slow float" is to TestFloat.
It was written from the specification alone and shares no code with ``intsim``: no import, no NumPy,
no floats. Where bits are dropped, the exact rational is built first and then rounded, in the one
function ``round_fraction``; transcendental functions are the decimal library's, to 60 digits, and
refuse to round what those digits do not decide. Nothing can overflow, and nothing is fast.

Rounding modes are strings: ``"floor"``, ``"toward-zero"``, ``"half-up"`` (ties toward +infinity),
``"half-away"``, ``"half-even"``. A *dyadic* is a pair ``(m, t)`` standing for ``m / 2**t``. A
*profile* is the plain dict of its JSON; its ``requantization`` is a rule, its ``rounding`` serves
sums, what softmax reads and LayerNorm writes, its ``step_rounding`` every constant, shift and
quotient inside a nonlinear operator.

Dims: T tokens, C channels, H heads, D = C / H head dim. There is no batch axis.
"""

import hashlib
import math
import operator
from collections.abc import Sequence
from decimal import MAX_EMAX, ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import accumulate, chain
from typing import Any, NamedTuple, TypeAlias

Row: TypeAlias = Sequence[int]
Rows: TypeAlias = Sequence[Sequence[int]]
Profile: TypeAlias = dict[str, Any]

HALF = Fraction(1, 2)
LN2 = Fraction("0.69314718055994530941723212145817656808")
SQRT2 = Fraction("1.41421356237309504880168872420969807857")

MAX_SHIFT = 62  # of a dyadic
EXP_MIN = -(2**15)  # exp is defined on [EXP_MIN, 0]
DIGITS = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803")
INT32_RANGE = (-(2**31), 2**31 - 1)


# Rounding, ranges and dyadics


def round_fraction(r: Fraction, mode: str) -> int:
    """Round an exact rational to an integer."""
    if mode == "floor":
        return math.floor(r)
    if mode == "toward-zero":
        return math.trunc(r)
    if mode == "half-up":
        return math.floor(r + HALF)
    if mode == "half-away":
        return _sign(r) * math.floor(abs(r) + HALF)
    if mode == "half-even":
        return round(r)  # Fraction.__round__ is exact and ties to even
    msg = f"mode must be a rounding mode, got {mode!r}"
    raise ValueError(msg)


def rounding_shift(p: int, t: int, mode: str) -> int:
    """RS: round ``p / 2**t``, t >= 0."""
    _require(t >= 0, "t must be at least 0", t)
    return round_fraction(Fraction(p, 2**t), mode)


def rounding_divide(a: int, b: int, mode: str) -> int:
    """DIV: round ``a / b``, b > 0."""
    _require(b > 0, "b must be positive", b)
    return round_fraction(Fraction(a, b), mode)


def fix(r: Fraction, f: int, mode: str) -> int:
    """FIX: round ``r * 2**f``, the fixed-point constant with f fraction bits."""
    return round_fraction(r * 2**f, mode)


def saturate(x: int, lo: int, hi: int) -> int:
    """SAT: clip x to ``[lo, hi]``."""
    return min(max(x, lo), hi)


def int_range(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the least and the greatest integer of a format; narrow only matters when signed."""
    if not signed:
        return 0, 2**bits - 1
    hi = 2 ** (bits - 1) - 1
    return (-hi if narrow else -hi - 1), hi


def dyadic_from_real(ratio: Fraction, bits: int = 31) -> tuple[int, int]:
    """Return ``(m, t)`` with ``m / 2**t`` near ratio and ``2**(bits-1) <= |m| < 2**bits``.

    Ratios too small for that with t <= 62 keep t = 62 and a shorter m; zero is ``(0, 0)``.
    """
    if ratio == 0:
        return 0, 0
    magnitude = abs(Fraction(ratio))
    e = 0  # magnitude == q * 2**e with q in [1/2, 1)
    while _scaled(magnitude, -e) >= 1:
        e += 1
    while _scaled(magnitude, -e) < HALF:
        e -= 1
    m = math.floor(_scaled(magnitude, bits - e) + HALF)
    if m == 2**bits:
        m = 2 ** (bits - 1)
        e += 1
    t = bits - e
    if t > MAX_SHIFT:
        t = MAX_SHIFT
        m = math.floor(_scaled(magnitude, t) + HALF)
    _require(t >= 0, f"ratio must be below 2**{bits} after rounding", ratio)
    return _sign(ratio) * m, t


def aligned_dyadics(ratios: Sequence[Fraction], bits: int = 30) -> list[tuple[int, int]]:
    """Return one dyadic per ratio, all with the shift of the ratio of largest magnitude."""
    _, t = dyadic_from_real(max(abs(Fraction(ratio)) for ratio in ratios), bits)
    return [(_sign(ratio) * math.floor(_scaled(abs(Fraction(ratio)), t) + HALF), t) for ratio in ratios]


# Linear operators


def quantize(x: Fraction, scale: Fraction, zero_point: int, lo: int, hi: int) -> int:
    """Quantize a real; the quotient is exact and ties to even."""
    return saturate(round_fraction(Fraction(x) / Fraction(scale), "half-even") + zero_point, lo, hi)


def requantize(
    acc: int, m: int, t: int, *, zero_point: int, lo: int, hi: int, rounding: str | dict[str, Any], addend: int = 0
) -> int:
    """Rescale an accumulator by ``m / 2**t``, add the zero point, saturate; by one rounding or by a rule's JSON."""
    if isinstance(rounding, str):
        return saturate(rounding_shift(acc * m + addend, t, rounding) + zero_point, lo, hi)
    rule = rounding
    acc = saturate(acc, *int_range(rule["accumulator_bits"], signed=True, narrow=False))
    if rule["arithmetic"] == "binary32":
        value = Fraction(significant(significant(acc) * m), 2**t)
    elif rule["arithmetic"] == "two-roundings":
        first = min(t, 31)
        value = Fraction(rounding_shift(acc * m + addend, first, "half-up"), 2 ** (t - first))
    else:
        value = Fraction(acc * m + addend, 2**t)
    if rule["zero_point"] == "before":
        return saturate(round_fraction(value + zero_point, rule["rounding"]), lo, hi)
    return saturate(round_fraction(value, rule["rounding"]) + zero_point, lo, hi)


def significant(x: int, bits: int = 24) -> int:
    """Round to the leading bits, ties to even, as float32 does."""
    unit = 2 ** max(x.bit_length() - bits, 0)
    return round_fraction(Fraction(x, unit), "half-even") * unit


def add(
    operands: Row,
    dyadics: Sequence[tuple[int, int]],
    *,
    zero_point: int,
    lo: int,
    hi: int,
    rounding: str,
    once: bool,
) -> int:
    """Sum rescaled operands, rounding the exact sum once (one common shift) or each term, which saturates at int32."""
    terms = list(zip(operands, dyadics, strict=True))
    if once:
        shifts = {t for _, t in dyadics}
        _require(len(shifts) == 1, "shifts must all be equal to round once", sorted(shifts))
        total = rounding_shift(sum(x * m for x, (m, _) in terms), shifts.pop(), rounding)
    else:
        total = sum(saturate(rounding_shift(x * m, t, rounding), *INT32_RANGE) for x, (m, t) in terms)
    return saturate(total + zero_point, lo, hi)


def matmul(
    x_rows: Rows,
    w_rows: Rows,
    bias: Row | None = None,
    x_zero_point: int = 0,
    w_zero_point: int = 0,
) -> list[list[int]]:
    """Multiply (rows, K) by weights stored (outputs, K) -> (rows, outputs), plus a bias."""
    x_rows = [[x - x_zero_point for x in row] for row in x_rows]
    w_rows = [[w - w_zero_point for w in row] for row in w_rows]
    bias = [0] * len(w_rows) if bias is None else bias
    return [[_dot(x, w) + b for w, b in zip(w_rows, bias, strict=True)] for x in x_rows]


def mean_pooling(rows: Rows, mask: Sequence[bool], zero_point: int, profile: Profile) -> list[int]:
    """Average the unmasked tokens of every channel, (T, C) -> (C); one must be unmasked."""
    kept = [row for row, keep in zip(rows, mask, strict=True) if keep]
    _require(bool(kept), "mask must keep at least one token", mask)
    return [
        rounding_divide(sum(x - zero_point for x in column), len(kept), profile["step_rounding"])
        for column in _transpose(kept)
    ]


def position_ids(ids: Row, padding: int) -> list[int]:
    """Count the ids that are not ``padding``, from padding + 1 on; padding itself has position ``padding``."""
    counts = accumulate(int(i != padding) for i in ids)
    return [padding if i == padding else padding + count for i, count in zip(ids, counts, strict=True)]


def token_positions(mask: Sequence[bool], queries: int, first: int) -> list[int]:
    """Return the position of each of the last columns: a token's is how many tokens stand before it."""
    places, seen = [], 0
    for here in mask:
        seen += bool(here)
        places.append(first + max(seen - 1, 0))
    return places[len(places) - queries :]


def sample_token(logits: Row, m: int, t: int, *, top_k: int, seed: int, draw: int, text: int, profile: Profile) -> int:
    """Return the token of text number ``text`` that a number from SHA-256 falls on, likelier ones having more room."""
    largest = max(logits)
    ranks = {token: rank for rank, token in enumerate(sorted(range(len(logits)), key=lambda v: (-logits[v], v)))}
    shares = []
    for token, logit in enumerate(logits):
        x = saturate(round_fraction(Fraction((logit - largest) * m, 2**t), profile["rounding"]), -(2**15), 2**15 - 1)
        shares.append(exp(x, profile) if ranks[token] < top_k else 0)
    number = int(hashlib.sha256(f"{seed}:{draw}:{text}".encode()).hexdigest(), 16) % sum(shares)
    for token, share in enumerate(shares):
        number -= share
        if number < 0:
            return token
    raise AssertionError


def neighbours(rows: Rows, mask: Sequence[bool], zero_point: int) -> list[list[int]]:
    """Put each token between its next and its previous one, 0 where there is none or ``mask`` leaves it out."""
    nothing = [zero_point] * len(rows[0])
    kept = [nothing, *(row if keep else nothing for row, keep in zip(rows, mask, strict=True)), nothing]
    return [[*kept[t + 2], *row, *kept[t]] for t, row in enumerate(rows)]


def rotary(row: Row, cos: Row, sin: Row, *, pairing: str, mode: str) -> list[int]:
    """Turn the pairs of channels of one token and head by cosines and sines in 2**-14; channels beyond stay."""
    turned = list(row)
    for i, (c, s) in enumerate(zip(cos, sin, strict=True)):
        a, b = {"halves": (i, i + len(cos)), "neighbours": (2 * i, 2 * i + 1)}[pairing]
        turned[a] = rounding_shift(row[a] * c - row[b] * s, 14, mode)
        turned[b] = rounding_shift(row[b] * c + row[a] * s, 14, mode)
    return turned


def multiply(
    a: int,
    b: int,
    m: int,
    t: int,
    *,
    a_zero_point: int,
    b_zero_point: int,
    zero_point: int,
    lo: int,
    hi: int,
    mode: str,
) -> int:
    """Multiply two codes, each less its zero point, and rescale the product."""
    return saturate(rounding_shift((a - a_zero_point) * (b - b_zero_point) * m, t, mode) + zero_point, lo, hi)


def causal_mask(mask: Sequence[bool], queries: int, window: int | None = None) -> list[list[bool]]:
    """Return the columns that each of the last ``queries`` columns sees: tokens up to there, at most ``window``.

    A token's position is how many tokens there are up to it; a column without a token has that of the last token.
    """
    rows = []
    for query in range(len(mask) - queries, len(mask)):
        here = sum(mask[: query + 1])
        near = [window is None or sum(mask[: column + 1]) > here - window for column in range(len(mask))]
        rows.append([column <= query and mask[column] and near[column] for column in range(len(mask))])
    return rows


def unpack(packed: Row, bits: int, count: int) -> list[int]:
    """Return the codes stored in bytes: two's complement of ``bits`` bits, the first code in the lowest."""
    stream = sum(byte << 8 * place for place, byte in enumerate(packed))
    fields = [stream >> bits * place & (1 << bits) - 1 for place in range(count)]
    return [field - (field >> bits - 1 << bits) for field in fields]


# Inputs quantized while running


def dynamic_bounds(rows: Rows, zero_points: Row, mask: Sequence[bool], *, per: str, clip: bool) -> list[int]:
    """Return what the greatest code of every token stands for, (T), in eighths where it is clipped.

    Per token that is the greatest magnitude of its own channels, per sequence that of all unmasked tokens. The clip of
    El-Kurdi et al. is at q3 + 1.5 (q3 - q1) of those tokens' magnitudes.
    """
    greatest = [max(abs(x - z) for x, z in zip(row, zero_points, strict=True)) for row in rows]
    if per == "token":
        return greatest
    _require(per == "sequence", "per must be 'token' or 'sequence'", per)
    kept = [m for m, keep in zip(greatest, mask, strict=True) if keep]
    bound = max(kept, default=0)
    if clip and kept:
        bound = _whole(min(8 * bound, 8 * outlier_threshold(kept)))
    return [bound] * len(rows)


def outlier_threshold(values: Row) -> Fraction:
    """Return q3 + 1.5 (q3 - q1)."""
    q1, q3 = quartile(values, 1), quartile(values, 3)
    return q3 + Fraction(3, 2) * (q3 - q1)


def quartile(values: Row, k: int) -> Fraction:
    """Return the k-th quartile, linear between the two values whose ranks surround k (n - 1) / 4."""
    ranked = sorted(values)
    position = Fraction(k * (len(ranked) - 1), 4)
    below = math.floor(position)
    above = math.ceil(position)
    return ranked[below] + (position - below) * (ranked[above] - ranked[below])


def quantize_dynamic(x: int, bound: int, *, zero_point: int, unit: int, bits: int, rounding: str) -> int:
    """Return the code of x - zero_point on a scale of bound / unit over the greatest code."""
    lo, hi = int_range(bits, signed=True, narrow=True)
    if bound == 0:
        return 0
    return saturate(round_fraction(Fraction((x - zero_point) * unit * hi, bound), rounding), lo, hi)


# Nonlinear operators


def exp(x: int, profile: Profile) -> int:
    """Return exp of ``x / 2**f`` for -2**15 <= x <= 0 (I-BERT, Algorithm 2)."""
    p = profile["exp"]
    if _is_rounded(p):
        return correctly_rounded("exp", x, p["input_fraction"], p["output_fraction"])
    constants = (p["input_fraction"], p["guard_bits"], p["a"], p["b"], p["c"], p["output_shift"])
    return _exp(x, *constants, profile["step_rounding"])


@cache
def _exp(x: int, f: int, g: int, a: str, b: str, c: str, s: int, mode: str) -> int:
    _require(EXP_MIN <= x <= 0, f"x must lie in [{EXP_MIN}, 0]", x)
    q_ln2, q_b, q_c = _exp_constants(f + g, a, b, c, mode)
    q = x * 2**g
    z = -q // q_ln2  # floor of a nonnegative quotient, whatever the rounding mode
    p = q + z * q_ln2  # in (-q_ln2, 0]
    return rounding_shift((p + q_b) ** 2 + q_c, z + s, mode)


@cache
def _exp_constants(fraction: int, a: str, b: str, c: str, mode: str) -> tuple[int, int, int]:
    q_ln2 = fix(LN2, fraction, mode)
    q_b = fix(Fraction(b), fraction, mode)
    q_c = fix(Fraction(c) / Fraction(a), 2 * fraction, mode)
    return q_ln2, q_b, q_c


def softmax(row: Row, m: int, t: int, mask: Sequence[bool] | None, profile: Profile) -> list[int]:
    """Return the probabilities of one row of accumulators, in 8 or 16 bits; masked entries (False) get 0."""
    mask = [True] * len(row) if mask is None else mask
    kept = [acc for acc, keep in zip(row, mask, strict=True) if keep]
    if not kept:
        return [0] * len(row)
    peak = max(kept)
    e_row = []
    for acc, keep in zip(row, mask, strict=True):
        if keep:
            x = saturate(rounding_shift((acc - peak) * m, t, profile["rounding"]), EXP_MIN, 0)
            e_row.append(exp(x, profile))
        else:
            e_row.append(0)
    total = sum(e_row)
    one = profile["softmax"]["one"]
    greatest = 255 if one <= 256 else 65535
    return [min(rounding_divide(e * one, total, profile["step_rounding"]), greatest) for e in e_row]


def gelu(x: int, profile: Profile) -> int:
    """Return gelu of ``x / 2**f``, x int16 (I-BERT, Algorithm 1, with the sign put back)."""
    p = profile["gelu"]
    if _is_rounded(p):
        return correctly_rounded("gelu", x, p["input_fraction"], p["output_fraction"])
    constants = (p["input_fraction"], p["a"], p["b"], p["output_shift"])
    return _gelu(x, *constants, profile["step_rounding"])


@cache
def _gelu(x: int, f: int, a: str, b: str, s: int, mode: str) -> int:
    q_b, q_c = _gelu_constants(f, a, b, mode)
    u = min(abs(x), -q_b)
    q_erf = _sign(x) * ((u + q_b) ** 2 + q_c)
    return rounding_shift(-x * (q_erf + q_c), s, mode)


@cache
def _gelu_constants(f: int, a: str, b: str, mode: str) -> tuple[int, int]:
    return fix(Fraction(b) * SQRT2, f, mode), fix(2 / Fraction(a), 2 * f, mode)


def gelu_tanh(x: int, profile: Profile) -> int:
    """Return GELU's form by tanh where it is correctly rounded, else what stands for all of its forms."""
    p = profile["gelu"]
    if _is_rounded(p):
        return correctly_rounded("gelu_tanh", x, p["input_fraction"], p["output_fraction"])
    return gelu(x, profile)


def relu(x: int, zero_point: int = 0) -> int:
    """Return x, or the zero point where x lies below it."""
    return max(x, zero_point)


def tanh(x: int, profile: Profile) -> int:
    """Return tanh of int16 ``x / 2**12`` with 14 fraction bits, as (1 - e) / (1 + e).

    With one fraction bit less, exp reads the same integer as twice the real: e = exp(-2 |real|).
    """
    p = profile["tanh"]
    if _is_rounded(p):
        return correctly_rounded("tanh", x, profile["exp"]["input_fraction"] + 1, p["output_fraction"])
    one = exp(0, profile)
    e = exp(-abs(x), profile)
    numerator = (one - e) * 2 ** profile["tanh"]["output_fraction"]
    return _sign(x) * rounding_divide(numerator, one + e, profile["step_rounding"])


def sigmoid(x: int, profile: Profile) -> int:
    """Return sigmoid of int16 x, in the input fraction of exp, with 14 fraction bits."""
    p = profile["sigmoid"]
    if _is_rounded(p):
        return correctly_rounded("sigmoid", x, profile["exp"]["input_fraction"], p["output_fraction"])
    unit = 2 ** p["output_fraction"]
    one = exp(0, profile)
    e = exp(-abs(x), profile)
    y = rounding_divide(one * unit, one + e, profile["step_rounding"])
    return y if x >= 0 else unit - y


def silu(x: int, profile: Profile) -> int:
    """Return silu of int16 x, in its own input fraction, with as many fraction bits as x and sigmoid together.

    sigmoid reads x in the input fraction of exp, saturated. A profile that does not say how reads 9 fraction bits.
    """
    p = profile.get("silu", {"input_fraction": 9})
    if _is_rounded(p):
        return correctly_rounded("silu", x, p["input_fraction"], p["output_fraction"])
    real = Fraction(x, 2 ** p["input_fraction"])
    argument = round_fraction(real * 2 ** profile["exp"]["input_fraction"], profile["step_rounding"])
    return x * sigmoid(saturate(argument, -(2**15), 2**15 - 1), profile)


def _is_rounded(rule: dict[str, Any]) -> bool:
    return rule.get("rule") == "rounded"


@cache
def correctly_rounded(function: str, x: int, input_fraction: int, output_fraction: int) -> int:
    """Return the integer nearest to f(x / 2**input_fraction) * 2**output_fraction."""
    with localcontext() as context:
        context.prec, context.Emax = DIGITS, MAX_EMAX
        real = Decimal(x) / 2**input_fraction
        if function == "exp":
            y = real.exp()
        elif function == "tanh":
            y = 1 - 2 / ((2 * real).exp() + 1)
        elif function == "sigmoid":
            y = 1 / (1 + (-real).exp())
        elif function == "silu":
            y = real / (1 + (-real).exp())
        elif function == "gelu":
            y = real * _phi(real)
        elif function == "gelu_tanh":
            u = (2 / PI).sqrt() * (real + Decimal("0.044715") * real**3)
            y = real / (1 + (-2 * u).exp())
        else:
            msg = f"function must be a known one, got {function!r}"
            raise ValueError(msg)
        scaled = y * 2**output_fraction
        code = scaled.to_integral_value(ROUND_HALF_EVEN)
        _require(abs(abs(scaled - code) * 2 - 1) > Decimal("1e-12"), "x must not be near a tie", x)
        return int(code)


def _phi(x: Decimal) -> Decimal:
    """Return the normal distribution function to 1e-14: its Taylor series, or 0 or 1 from |x| = 8 on."""
    if abs(x) >= 8:
        return Decimal(int(x > 0))
    square, power, total, n = x * x / 2, x, Decimal(0), 0
    while abs(power) > Decimal("1e-50"):
        total += power / (2 * n + 1)
        n += 1
        power *= -square / n
    return Decimal("0.5") + total / (2 * PI).sqrt()


def isqrt(n: int) -> int:
    """Return floor(sqrt(n)) for 0 <= n < 2**62."""
    _require(0 <= n < 2**62, "n must lie in [0, 2**62)", n)
    return math.isqrt(n)


def l2_normalize(row: Row, profile: Profile) -> list[int]:
    """Bring one row of codes of at most 16 bits to length 1, in 2**-16."""
    _require(all(-(2**15) <= x <= 2**15 for x in row), "codes must have at most 16 bits", row)
    length = math.isqrt(2**16 * sum(x * x for x in row)) or 1
    return [rounding_divide(x * 2**24, length, profile["step_rounding"]) for x in row]


def pick_token(rows: Rows, mask: Sequence[bool], which: str) -> list[int]:
    """Return the first or the last unmasked token, (T, C) -> (C); one must be unmasked."""
    kept = [row for row, keep in zip(rows, mask, strict=True) if keep]
    _require(bool(kept), "mask must keep at least one token", mask)
    return list(kept[{"first": 0, "last": -1}[which]])


def layer_norm(
    row: Row,
    multipliers: Row,
    biases: Row,
    shift: int,
    eps: int,
    lo: int,
    hi: int,
    profile: Profile,
    *,
    wide: bool = False,
) -> list[int]:
    """Normalize one row; multiplier and bias (zero point included) are per channel, eps >= 1.

    A wide row is shifted to 16 bits once it is centred.
    """
    _require(eps >= 1, "eps must be at least 1", eps)
    count = len(row)
    total = sum(row)
    centring = profile["layer_norm"]["centring"]
    if centring == "exact":  # N times the centred value, N**2 times the variance
        centred = [count * x - total for x in row]
        variance = count * sum(x * x for x in row) - total**2 + eps
    elif centring == "rounded-mean":
        mean = rounding_divide(total, count, profile["rounding"])
        centred = [x - mean for x in row]
        variance = sum(c * c for c in centred) // count + eps
    else:
        msg = f"centring must be 'exact' or 'rounded-mean', got {centring!r}"
        raise ValueError(msg)
    if wide:
        normalized = _over_root_mean_square(centred, count**2 * eps, profile)
    else:
        deviation = isqrt(variance)
        unit = 2 ** profile["layer_norm"]["output_fraction"]
        normalized = [rounding_divide(c * unit, deviation, profile["step_rounding"]) for c in centred]
    return _affine(normalized, multipliers, biases, shift, lo, hi, profile)


def rms_norm(
    row: Row,
    multipliers: Row,
    biases: Row,
    shift: int,
    eps: int,
    lo: int,
    hi: int,
    profile: Profile,
) -> list[int]:
    """Divide one row by its root mean square; the parameters are those of ``layer_norm``."""
    _require(eps >= 1, "eps must be at least 1", eps)
    normalized = _over_root_mean_square(row, eps, profile)
    return _affine(normalized, multipliers, biases, shift, lo, hi, profile)


def _over_root_mean_square(row: Row, eps: int, profile: Profile) -> list[int]:
    """Shift a row to 15 bits and a sign, so far that eps stays below 2**61 with it, and divide by its root."""
    mode, count = profile["step_rounding"], len(row)
    k = 0
    while max(map(abs, row)) >= 2 ** (15 + k) or eps >= 2 ** (61 + 2 * k):
        k += 1
    row = [rounding_shift(x, k, mode) for x in row]
    eps = max(1, rounding_shift(eps, 2 * k, mode))
    root = isqrt(count * sum(x * x for x in row) + eps)
    unit = 2 ** profile["layer_norm"]["output_fraction"]
    return [rounding_divide(count * x * unit, root, mode) for x in row]


def _affine(row: Row, multipliers: Row, biases: Row, shift: int, lo: int, hi: int, profile: Profile) -> list[int]:
    return [
        saturate(rounding_shift(y * m + b, shift, profile["rounding"]), lo, hi)
        for y, m, b in zip(row, multipliers, biases, strict=True)
    ]


# The integer BERT


class _Model(NamedTuple):
    """What every step of the model reads, and the trace it writes."""

    tensors: dict[str, Any]
    formats: dict[str, Any]
    dynamic: dict[str, Any]
    profile: Profile
    trace: dict[str, Any]


class _Read(NamedTuple):
    """What layers read: codes, and where they were quantized while running, the bound of every token."""

    rows: Rows
    bounds: Row | None = None


class _Product(NamedTuple):
    """The accumulators (T, N) of every group of input channels, and what is added to the rescaled product."""

    terms: list[Rows]
    addend: Row | None = None


INT16 = {"bits": 16, "signed": True, "narrow": False, "zero_point": 0}
INT32 = {"bits": 32, "signed": True, "narrow": False, "zero_point": 0}


def bert(
    metadata: dict[str, Any],
    tensors: dict[str, Any],
    ids: Row,
    types: Row,
    mask: Sequence[bool],
) -> dict[str, Any]:
    """Run the post-LayerNorm integer BERT on one sequence and return its trace.

    Parameters
    ----------
    metadata
        Holds "config" (num_attention_heads, num_hidden_layers, hidden_act), "profile", "formats", and "dynamic" where
        inputs of products are quantized while running.
    tensors
        The integer checkpoint, name -> nested lists of ints (an int where 0-d).
    ids, types
        T token ids and token types.
    mask
        T bools, False for padding.

    Returns
    -------
    dict
        Trace name -> nested lists of ints, in the order of computation.

    """
    _require(metadata["model_type"] == "bert", "model_type must be 'bert'", metadata["model_type"])
    config, head = metadata["config"], metadata["head"]
    _require(head in {"none", "sequence-classification"}, "head must be none or sequence-classification", head)
    model = _Model(tensors, metadata["formats"], metadata.get("dynamic", {}), metadata["profile"], trace={})

    x_name = "embeddings.LayerNorm"
    x = _embeddings(model, ids, types)  # (T, C)
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        block = f"{layer}.attention"
        context = _self_attention(model, f"{block}.self", x, x_name, mask, config["num_attention_heads"])
        x = _add_and_norm(model, f"{block}.output", context, f"{block}.self.context", x, x_name, mask)
        x_name = f"{block}.output.LayerNorm"
        hidden = _intermediate(model, f"{layer}.intermediate", x, x_name, mask, config["hidden_act"])
        x = _add_and_norm(model, f"{layer}.output", hidden, f"{layer}.intermediate", x, x_name, mask)
        x_name = f"{layer}.output.LayerNorm"
    if head == "sequence-classification":
        _classifier(model, x[0], x_name)
    elif "order" in tensors:
        model.trace["last_hidden_state"] = [[row[c] for c in tensors["order"]] for row in x]
    return model.trace


def _embeddings(model: _Model, ids: Row, types: Row) -> Rows:
    """Look up, sum and normalize the three embeddings -> (T, C)."""
    operands = {}
    for kind, indices in ("word", ids), ("position", range(len(ids))), ("token_type", types):
        name = f"embeddings.{kind}_embeddings"
        table = model.tensors[f"{name}.weight"]
        rows = model.trace[name] = [list(table[i]) for i in indices]  # (T, C)
        operands[name] = [rows]
    total = _sum(model, "embeddings.sum", operands, model.formats["embeddings.sum"])
    return _norm(model, "embeddings", total)


def _self_attention(model: _Model, block: str, x: Rows, source: str, mask: Sequence[bool], head_count: int) -> Rows:
    """Attend from every token to the unmasked keys, (T, C) -> (T, C)."""
    tensors, formats, profile, trace = model.tensors, model.formats, model.profile, model.trace
    read = _read(model, f"{block}.input", x, source, mask)
    heads, zero_points = {}, {}
    for part in "query", "key", "value":
        name = f"{block}.{part}"
        rows = _rescale(model, name, _product(model, name, read), formats[name])  # (T, C)
        heads[part] = _split_heads(rows, head_count)
        zero_points[part] = formats[name]["zero_point"]

    scores = [
        matmul(q, k, x_zero_point=zero_points["query"], w_zero_point=zero_points["key"])
        for q, k in zip(heads["query"], heads["key"], strict=True)
    ]
    trace[f"{block}.scores.acc"] = scores  # (H, T, T)
    m, t = tensors[f"{block}.scores.multiplier"], tensors[f"{block}.scores.shift"]
    probs = [[softmax(row, m, t, mask, profile) for row in head] for head in scores]
    trace[f"{block}.probs"] = probs  # (H, T, T)
    context = [
        matmul(p, _transpose(v), w_zero_point=zero_points["value"]) for p, v in zip(probs, heads["value"], strict=True)
    ]
    trace[f"{block}.context.acc"] = context  # (H, T, D)
    merged = [list(chain(*rows)) for rows in zip(*context, strict=True)]  # (H, T, D) -> (T, C)
    return _rescale(model, f"{block}.context", _Product([merged]), formats[f"{block}.context"])


def _intermediate(model: _Model, block: str, x: Rows, source: str, mask: Sequence[bool], act: str) -> Rows:
    """Expand and activate, (T, C) -> (T, intermediate)."""
    read = _read(model, f"{block}.input", x, source, mask)
    hidden = _rescale(model, f"{block}.dense", _product(model, f"{block}.dense", read), INT16)
    if act == "gelu":
        activated = [[gelu(v, model.profile) for v in row] for row in hidden]
    elif act == "relu":
        activated = [[relu(v) for v in row] for row in hidden]
    else:
        msg = f"hidden_act must be 'gelu' or 'relu', got {act!r}"
        raise ValueError(msg)
    model.trace[f"{block}.{act}"] = activated
    return _rescale(model, block, _Product([activated]), model.formats[block])


def _add_and_norm(
    model: _Model, block: str, x: Rows, source: str, skip: Rows, skip_source: str, mask: Sequence[bool]
) -> Rows:
    """Project x, add what was skipped (its zero point is taken off here), normalize -> (T, C)."""
    read = _read(model, f"{block}.input", x, source, mask)
    product = _product(model, f"{block}.dense", read)
    if read.bounds is not None:
        product = _Product([_rescale(model, f"{block}.dense.wide", product, INT32)])
    operands = {f"{block}.dense": product.terms, f"{block}.residual": [_centred(model, skip, skip_source)]}
    total = _sum(model, f"{block}.sum", operands, model.formats[f"{block}.sum"])
    return _norm(model, block, total)


def _classifier(model: _Model, first: Row, source: str) -> None:
    """Classify by the first token, (C) -> (labels)."""
    trace, before = model.trace, set(model.trace)
    read = _read(model, "pooler.input", [first], source, [True])  # (1, C) up to the end, where the trace drops the 1
    rows = _rescale(model, "pooler.dense", _product(model, "pooler.dense", read), INT16)
    rows = trace["pooler.tanh"] = [[tanh(v, model.profile) for v in rows[0]]]
    rows = _rescale(model, "pooler", _Product([rows]), model.formats["pooler"])
    read = _read(model, "classifier.input", rows, "pooler", [True])
    _rescale(model, "classifier", _product(model, "classifier", read), INT32)
    for name in trace.keys() - before:
        (trace[name],) = trace[name]


def _read(model: _Model, name: str, x: Rows, source: str, mask: Sequence[bool]) -> _Read:
    """Return what layers read of the activation ``source``: itself, or codes of fewer bits."""
    if name in model.dynamic:
        how, zero_points = model.dynamic[name], _zero_points(model.formats[source], len(x[0]))
        bounds = dynamic_bounds(x, zero_points, mask, per=how["per"], clip=how["clip"])
        model.trace[f"{name}.bound"] = [[bound] for bound in (bounds if how["per"] == "token" else bounds[:1])]
        code = {"unit": 8 if how["clip"] else 1, "bits": how["bits"], "rounding": model.profile["rounding"]}
        model.trace[name] = [
            [quantize_dynamic(v, bound, zero_point=z, **code) for v, z in zip(row, zero_points, strict=True)]
            for row, bound in zip(x, bounds, strict=True)
        ]
        return _Read(model.trace[name], bounds)
    if name in model.formats:
        return _Read(_rescale(model, name, _Product([_centred(model, x, source)]), model.formats[name]))
    return _Read(x)


def _product(model: _Model, name: str, read: _Read) -> _Product:
    """Multiply by the weights, each group of input channels by its own; zero points of x are already in the bias."""
    trace, weight, bias = model.trace, model.tensors[f"{name}.weight"], model.tensors[f"{name}.bias"]
    if read.bounds is not None:  # the bias is added to the product rescaled by the bound
        acc = trace[f"{name}.acc"] = matmul(read.rows, weight)
        scaled = [[v * bound for v in row] for row, bound in zip(acc, read.bounds, strict=True)]
        trace[f"{name}.scaled"] = scaled
        return _Product([scaled], addend=bias)
    if isinstance(bias[0], int):
        trace[f"{name}.acc"] = matmul(read.rows, weight, bias)
        return _Product([trace[f"{name}.acc"]])
    channels, groups = len(weight[0]), len(bias)
    _require(channels % groups == 0, f"channels must be a multiple of {groups}", channels)
    terms: list[Rows] = []
    for k, row in enumerate(bias):
        run = slice(k * channels // groups, (k + 1) * channels // groups)
        terms.append(matmul([x[run] for x in read.rows], [w[run] for w in weight], row))
        trace[f"{name}.acc.{k}"] = terms[-1]
    return _Product(terms)


def _rescale(model: _Model, name: str, product: _Product, fmt: dict[str, Any]) -> Rows:
    """Bring a product into the format by the dyadic of the name; that of several groups is a sum of as many terms."""
    if len(product.terms) > 1:
        return _sum(model, name, {name: product.terms}, fmt)
    (rows,) = product.terms
    channels = len(rows[0])
    lo, hi = _limits(fmt)
    (dyadics,) = _dyadics(model, name, 1, channels)
    addend = [0] * channels if product.addend is None else product.addend
    columns = list(zip(dyadics, _zero_points(fmt, channels), addend, strict=True))
    rule = model.profile["requantization"]
    if product.addend is not None:  # scaled by its bound, it is no accumulator any more
        rule = rule | {"accumulator_bits": 64}
    model.trace[name] = [
        [
            requantize(acc, m, t, zero_point=z, lo=lo, hi=hi, rounding=rule, addend=b)
            for acc, ((m, t), z, b) in zip(row, columns, strict=True)
        ]
        for row in rows
    ]
    return model.trace[name]


def _sum(model: _Model, name: str, operands: dict[str, list[Rows]], fmt: dict[str, Any]) -> Rows:
    """Add operands (T, C), of one term or more, each term rescaled by its dyadic under the operand's name."""
    how = model.profile["sum"]
    _require(how in {"once", "each"}, "sum must be 'once' or 'each'", how)
    terms = [term for each in operands.values() for term in each]
    channels = len(terms[0][0])
    pairs = [row for each, its in operands.items() for row in _dyadics(model, each, len(its), channels)]
    columns = list(zip(_transpose(pairs), _zero_points(fmt, channels), strict=True))
    lo, hi = _limits(fmt)
    into = {"lo": lo, "hi": hi, "rounding": model.profile["rounding"], "once": how == "once"}
    model.trace[name] = [
        [
            add(values, dyadics, zero_point=z, **into)
            for values, (dyadics, z) in zip(_transpose(rows), columns, strict=True)
        ]
        for rows in zip(*terms, strict=True)
    ]
    return model.trace[name]


def _norm(model: _Model, block: str, rows: Rows) -> Rows:
    """Normalize every token; a sum keeps its zero point, unless its groups are first brought to one scale."""
    source, name = f"{block}.sum", f"{block}.LayerNorm"
    if _has_groups(model.formats[source]):
        rows = _rescale(model, f"{source}.wide", _Product([_centred(model, rows, source)]), INT16)
    multiplier, bias, shift, eps = (model.tensors[f"{name}.{part}"] for part in ("multiplier", "bias", "shift", "eps"))
    lo, hi = _limits(model.formats[name])
    model.trace[name] = [layer_norm(row, multiplier, bias, shift, eps, lo, hi, model.profile) for row in rows]
    return model.trace[name]


def _limits(fmt: dict[str, Any]) -> tuple[int, int]:
    return int_range(fmt["bits"], fmt["signed"], fmt["narrow"])


def _has_groups(fmt: dict[str, Any]) -> bool:
    return isinstance(fmt["zero_point"], list)


def _zero_points(fmt: dict[str, Any], channels: int) -> list[int]:
    """Return one zero point per channel."""
    each = fmt["zero_point"] if _has_groups(fmt) else [fmt["zero_point"]]
    _require(channels % len(each) == 0, f"channels must be a multiple of {len(each)}", channels)
    return [z for z in each for _ in range(channels // len(each))]


def _centred(model: _Model, rows: Rows, source: str) -> Rows:
    """Take the zero points of the activation ``source`` off its codes."""
    zero_points = _zero_points(model.formats[source], len(rows[0]))
    return [[v - z for v, z in zip(row, zero_points, strict=True)] for row in rows]


def _dyadics(model: _Model, name: str, terms: int, channels: int) -> list[list[tuple[int, int]]]:
    """Return (m, t) per term and channel, repeating what is 0-d or has one channel; one term is not stacked."""
    ms, ts = model.tensors[f"{name}.multiplier"], model.tensors[f"{name}.shift"]
    if terms == 1:
        ms, ts = [ms], [ts]
    rows = [list(zip(_spread(m, channels), _spread(t, channels), strict=True)) for m, t in zip(ms, ts, strict=True)]
    _require(len(rows) == terms, f"dyadics must be {terms}", len(rows))
    return rows


def _spread(value: Any, channels: int) -> list[int]:
    """Return one value per channel from one value, a list of one or a list of all."""
    values = [value] if isinstance(value, int) else value
    return values * channels if len(values) == 1 else values


def _split_heads(rows: Rows, head_count: int) -> list[list[Row]]:
    """Cut (T, C) into H consecutive blocks of channels, (H, T, D)."""
    channels = len(rows[0])
    _require(channels % head_count == 0, f"channels must be a multiple of {head_count}", channels)
    d = channels // head_count
    return [[row[h * d : (h + 1) * d] for row in rows] for h in range(head_count)]


# Small pieces


def _dot(a: Row, b: Row) -> int:
    _require(len(a) == len(b), f"b must have {len(a)} terms", len(b))
    return sum(map(operator.mul, a, b))


def _transpose(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _whole(r: Fraction) -> int:
    _require(r.denominator == 1, "value must be an integer", r)
    return r.numerator


def _sign(r: int | Fraction) -> int:
    return (r > 0) - (r < 0)


def _scaled(r: Fraction, exponent: int) -> Fraction:
    """Return ``r * 2**exponent`` exactly, for either sign of the exponent."""
    return r * Fraction(2) ** exponent


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        msg = f"{rule}, got {value!r}"
        raise ValueError(msg)
