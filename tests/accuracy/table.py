# SPDX-License-Identifier: Apache-2.0
"""How far the integer operators are from the real functions: ``python -m tests.accuracy.table`` prints it in Markdown.

Every input of every operator is taken. Beside them stand the published figures of I-BERT's polynomials, and the same
polynomials evaluated here in float64, so that a reader sees what the integers cost and what the coefficients gain.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim.profile import IBERT, INTSIM, NATIVE, Profile
from intsim.reference.ops import exp, gelu, sigmoid, silu, tanh

__all__ = ["OPERATORS", "POLYNOMIALS", "Error", "comparison", "operator_error", "table"]

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The error of one function over one set of inputs.

    Parameters
    ----------
    what, source
        The function, and the profile or paper that defines it.
    inputs
        The inputs in words.
    largest, at
        Largest absolute error, and the real input where it is.
    rms
        Root mean square error.
    lsb
        Real value of one output code, where the outputs are codes.
    """

    what: str
    source: str
    inputs: str
    largest: float
    at: float
    rms: float
    lsb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An integer operator of one 16-bit input, its float twin, and the real values of its codes."""

    integer: Callable[..., NDArray[np.integer]]
    real: Callable[[Reals], Reals]
    input_fraction: Callable[[Profile], int]
    output_scale: Callable[[Profile], Any]
    highest: int = 2**15 - 1


OPERATORS: Final = {
    "exp": Operator(
        integer=ops.exp,
        real=exp.exp,
        input_fraction=lambda profile: profile.exp.input_fraction,
        output_scale=lambda profile: profile.exp.output_scale,
        highest=0,
    ),
    "gelu": Operator(
        integer=ops.gelu,
        real=gelu.gelu,
        input_fraction=lambda profile: profile.gelu.input_fraction,
        output_scale=lambda profile: profile.gelu.output_scale,
    ),
    "gelu_tanh": Operator(
        integer=ops.gelu_tanh,
        real=gelu.gelu_new,
        input_fraction=lambda profile: profile.gelu.input_fraction,
        output_scale=lambda profile: profile.gelu.output_scale,
    ),
    "tanh": Operator(
        integer=ops.tanh,
        real=tanh.tanh,
        input_fraction=lambda profile: profile.exp.input_fraction + 1,
        output_scale=lambda profile: 2.0**-profile.tanh.output_fraction,
    ),
    "sigmoid": Operator(
        integer=ops.sigmoid,
        real=sigmoid.sigmoid,
        input_fraction=lambda profile: profile.exp.input_fraction,
        output_scale=lambda profile: 2.0**-profile.sigmoid.output_fraction,
    ),
    "silu": Operator(
        integer=ops.silu,
        real=silu.silu,
        input_fraction=lambda profile: profile.silu.input_fraction,
        output_scale=lambda profile: profile.silu_scale,
    ),
}


def i_gelu(a: str, b: str) -> Callable[[Reals], Reals]:
    """Return x / 2 (1 + L(x / sqrt 2)) with L(x) = sgn(x) (a (min(|x|, -b) + b)**2 + 1), in float64."""

    def function(x: Reals) -> Reals:
        r = x / math.sqrt(2)
        erf = np.sign(r) * (float(a) * (np.minimum(np.abs(r), -float(b)) + float(b)) ** 2 + 1)
        return x / 2 * (1 + erf)

    return function


def i_exp(a: str, b: str, c: str) -> Callable[[Reals], Reals]:
    """Return a (p + b)**2 + c in float64."""
    return lambda p: float(a) * (p + float(b)) ** 2 + float(c)


GELU_GRID: Final = np.arange(-(4 << 14), (4 << 14) + 1) / 2**14
EXP_GRID: Final = -np.arange(int(math.log(2) * 2**17) + 1) / 2**17

POLYNOMIALS: Final[dict[tuple[str, str], tuple[Callable[[Reals], Reals], Callable[[Reals], Reals], Reals, str]]] = {
    ("i-GELU", "paper's coefficients"): (
        i_gelu("-0.2888", "-1.769"),
        gelu.gelu,
        GELU_GRID,
        "[-4, 4]",
    ),
    ("i-GELU", "intsim's coefficients"): (
        i_gelu(INTSIM.gelu.a, INTSIM.gelu.b),
        gelu.gelu,
        GELU_GRID,
        "[-4, 4]",
    ),
    ("i-exp", "paper's coefficients"): (i_exp("0.3585", "1.353", "0.344"), np.exp, EXP_GRID, "(-ln 2, 0]"),
    ("i-exp", "released code's coefficients"): (
        lambda p: 0.35815147 * p * p + 0.96963238 * p + 1,
        np.exp,
        EXP_GRID,
        "(-ln 2, 0]",
    ),
    ("i-exp", "intsim's coefficients"): (
        i_exp(INTSIM.exp.a, INTSIM.exp.b, INTSIM.exp.c),
        np.exp,
        EXP_GRID,
        "(-ln 2, 0]",
    ),
}
PUBLISHED: Final = {"i-GELU": ("0.018", "0.0082"), "i-exp": ("1.9e-3", "")}  # Kim et al. 2021, table 1 and section 3.5


def operator_error(
    name: str, profile: Profile, *, lowest: float = -math.inf, highest: float = math.inf, inputs: str | None = None
) -> Error:
    """Return the error of an integer operator over all of its inputs in [lowest, highest]."""
    operator = OPERATORS[name]
    x_q = np.arange(-(2**15), operator.highest + 1).astype(np.int16)
    x = x_q * 2.0 ** -operator.input_fraction(profile)
    inside = (x >= lowest) & (x <= highest)
    x_q, x = x_q[inside], x[inside]
    lsb = float(operator.output_scale(profile))
    y = operator.integer(x_q, profile=profile) * lsb
    words = inputs or f"all {len(x)}, [{x[0]:g}, {x[-1]:.5g}]"
    return _error(name, profile.name, words, x, y, operator.real(x), lsb)


def comparison() -> list[Error]:
    """Return the errors of the polynomials in float64, and of the integer operators over the same intervals."""
    rows = [
        _error(what, f"{source}, float64", interval, x, approximation(x), exact(x))
        for (what, source), (approximation, exact, x, interval) in POLYNOMIALS.items()
    ]
    for profile in (IBERT, INTSIM):
        rows.append(operator_error("gelu", profile, lowest=-4, highest=4, inputs="[-4, 4]"))
        rows.append(operator_error("exp", profile, lowest=math.nextafter(-math.log(2), 0), inputs="(-ln 2, 0]"))
    return rows


def table() -> str:
    """Return everything in Markdown."""
    lines = _header(
        "operator", "profile", "inputs", "largest error", "at x =", "RMS error", "LSB", "largest, LSB", "RMS, LSB"
    )
    for name in OPERATORS:
        for profile in NATIVE.values():
            error = operator_error(name, profile)
            lsb = error.lsb or 1.0
            cells = [f"{error.largest:.3g}", f"{error.at:.6g}", f"{error.rms:.3g}", f"{lsb:.3g}"]
            cells += [f"{error.largest / lsb:.2f}", f"{error.rms / lsb:.2f}"]
            lines.append(_line(f"`{name}`", f"`{profile.name}`", error.inputs, *cells))
    lines += ["", *_header("function", "evaluated as", "inputs", "largest error", "at x =", "RMS error")]
    for what, (largest, rms) in PUBLISHED.items():
        lines.append(_line(what, "published (Kim et al. 2021)", "", largest, "", rms))
        operator = {"i-GELU": "gelu", "i-exp": "exp"}[what]
        for error in comparison():
            if error.what in {what, operator}:
                source = f"`{operator}`, profile `{error.source}`" if error.lsb else error.source
                numbers = f"{error.largest:.3g}", f"{error.at:.6g}", f"{error.rms:.3g}"
                lines.append(_line(what, source, error.inputs, *numbers))
    return "\n".join(lines)


def _error(what: str, source: str, inputs: str, x: Reals, y: Reals, exact: Reals, lsb: float | None = None) -> Error:
    gap = np.abs(y - exact)
    worst = int(gap.argmax())
    return Error(
        what=what,
        source=source,
        inputs=inputs,
        largest=float(gap[worst]),
        at=float(x[worst]),
        rms=float(np.sqrt(np.mean(gap * gap))),
        lsb=lsb,
    )


def _header(*cells: str) -> list[str]:
    return [
        _line(*cells),
        _line(
            *(
                "---" if cell in {"operator", "profile", "function", "evaluated as", "inputs"} else "--:"
                for cell in cells
            )
        ),
    ]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table())
