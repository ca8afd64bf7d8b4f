# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["remove-cell"]
# SPDX-License-Identifier: Apache-2.0

# %% [markdown]
# # 2. Functions without floats
#
# A transformer needs $e^x$ (softmax, sigmoid), GELU or SiLU, sometimes tanh, and a square root (LayerNorm). None of
# them is a sum of products. On integers each becomes one anyway: first a **range reduction** brings the argument into a
# short interval, then a **polynomial** of low degree does the rest there.
#
# The idea is I-BERT's (Kim et al. 2021). We draw its functions against the real ones, get its published error figures
# again, find where one of them jumps, and then make better polynomials for the same price.

# %%
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.patheffects import withStroke
from scipy.optimize import linprog, minimize
from scipy.special import erf

from intsim import PROFILES, ops
from intsim.fixedpoint import isqrt
from intsim.models.widths import recorded, signed_bits
from intsim.reference.ops.gelu import gelu

plt.style.use("course.mplstyle")
INK, RUST, SEA, SAND = "#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e"
intsim, ibert, wide = (PROFILES[name] for name in ("intsim", "ibert", "intsim-wide"))
LN2 = np.log(2)

# %% [markdown]
# ## $e^x$: halve until it is easy
#
# Softmax subtracts the largest score first, so only $x \le 0$ matters. Take out whole factors of a half:
#
# $$x = p - z \ln 2, \qquad p \in (-\ln 2, 0], \qquad e^x = e^p\, 2^{-z}.$$
#
# $2^{-z}$ is a right shift. So one short piece of the curve is enough: every other piece is that one, halved again.

# %%
x = np.linspace(-6 * LN2 + 1e-9, 0, 3001)
z = np.floor(-x / LN2)
p = x + z * LN2

# %% tags=["hide-input"] alt="The exponential in pieces of ln 2; below, the same remainder p in each piece"
figure, (above, below) = plt.subplots(2, 1, figsize=(7.6, 4.2), sharex=True, height_ratios=[1.5, 1])
for piece in range(6):
    here = z == piece
    above.plot(x[here], np.exp(x[here]), color=INK if piece == 0 else SEA, linestyle="-", linewidth=2.4)
    below.plot(x[here], p[here], color=INK if piece == 0 else SEA, linestyle="-", linewidth=2.4)
    above.axvline(-piece * LN2, color="#dddddd", linewidth=0.8, zorder=0)
    above.text(-(piece + 0.5) * LN2, 1.04, f"$z={piece}$", ha="center", fontsize=9)
above.annotate(
    "the only piece that is computed", (-0.35, 0.7), (-2.0, 0.8), arrowprops={"arrowstyle": "->", "color": INK}
)
above.set(ylabel="$e^x$", ylim=(0, 1.15))
below.set(xlabel="$x$", ylabel="$p$", yticks=[-LN2, 0])
below.set_yticklabels(["−ln 2", "0"])
below.set_xticks([-k * LN2 for k in range(7)], ["0", "−ln 2", *(f"−{k} ln 2" for k in range(2, 7))])
plt.show()

# %% [markdown]
# On the piece, I-BERT takes a parabola, $e^p \approx a(p + b)^2 + c$. It is written like this because $a$ can be left
# to the scale and $c / a$ is an integer constant: one addition, **one multiplication** (the square), one addition.
#
# The paper states a largest error of 0.0019. With the coefficients as printed, of three or four digits, it is 0.0021:

# %%
piece = np.linspace(-LN2, 0, 100_001)
published = 0.35815147 * piece**2 + 0.96963238 * piece + 1
printed = 0.3585 * (piece + 1.353) ** 2 + 0.344
ours = 0.3509 * (piece + 1.3691) ** 2 + 0.3405
for what, parabola in (("I-BERT, all digits", published), ("I-BERT, as printed", printed), ("intsim", ours)):
    gap = np.abs(parabola - np.exp(piece))
    print(f"{what:<20} largest error {gap.max():.5f}   largest relative error {(gap / np.exp(piece)).max():.5f}")
assert round(np.abs(published - np.exp(piece)).max(), 4) == 0.0019
assert round(np.abs(printed - np.exp(piece)).max(), 4) == 0.0021

# %% tags=["hide-input"] alt="Error and relative error of both parabolas on a piece: I-BERT's uneven, intsim's level"
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.3))
for parabola, colour, line, label in (
    (printed, RUST, "--", "I-BERT"),
    (ours, INK, "-", "intsim"),
):
    left.plot(piece, 1000 * (parabola - np.exp(piece)), color=colour, linestyle=line, label=label)
    right.plot(piece, 1000 * (parabola / np.exp(piece) - 1), color=colour, linestyle=line, label=label)
for axes, label in ((left, "error, $10^{-3}$"), (right, "relative error, $10^{-3}$")):
    axes.axhline(0, color="#888888", linewidth=0.8, linestyle="-")
    axes.set(xlabel="$p$", ylabel=label, ylim=(-3.2, 3.2))
    axes.set_xticks([-LN2, -LN2 / 2, 0], ["−ln 2", "−½ ln 2", "0"])
    axes.grid(visible=True, axis="y")
left.legend(loc="lower right")
plt.show()

# %% [markdown]
# The right panel is the one that counts. Softmax divides by a sum of such exponentials, so a factor common to all of
# them drops out, and what remains is the *relative* error. We come back to where the smoother line is from.
#
# Now on integers. The input is a 16-bit fixed-point number, so there are 32,769 arguments in all, and every one of them
# can be held against the real function:

# %%
codes = np.arange(-(2**15), 1).astype(np.int16)
real = codes / 2**intsim.exp.input_fraction
pieces = np.floor(-real / LN2).astype(int)

# %% tags=["hide-input"] alt="Largest error of exp by piece for three profiles: halving each time until half an LSB"
figure, axes = plt.subplots(figsize=(7.6, 3.2))
for profile, colour, mark in ((ibert, RUST, "s"), (intsim, INK, "o"), (wide, SEA, "^")):
    one = float(profile.exp.output_scale)
    error = np.abs(ops.exp(codes, profile=profile) * one - np.exp(real))
    largest = [error[pieces == piece].max() for piece in range(pieces.max() + 1)]
    axes.plot(largest, marker=mark, markersize=4.5, color=colour, label=profile.name)
    axes.plot([0, 23], [one / 2, one / 2], color=colour, linewidth=0.7, linestyle=":")
    print(f"{profile.name:<12} largest error {error.max():.1e}, half an LSB of the result {one / 2:.1e}")
axes.set(xlabel="piece $z$ of the argument", ylabel="largest error of $e^x$", yscale="log", xlim=(-0.5, 23.5))
axes.legend(loc="upper right")
axes.grid(visible=True, axis="y")
plt.show()

# %% [markdown]
# The error halves from piece to piece, because the curve does, until it meets the dotted line: half an LSB of the
# result, where rounding takes over. `intsim-wide` is no polynomial: it is a lookup table of the nearest integers, and
# lies on its line from the start.
#
# ## GELU, and where i-erf jumps
#
# $\mathrm{GELU}(x) = x \cdot \frac12 (1 + \mathrm{erf}(x / \sqrt 2))$. The error function is odd and flat beyond 2, so
# a parabola with its vertex at $-b$, cut off there, follows it:
#
# $$L(u) = \mathrm{sgn}(u)\,\bigl[a\,(\min(|u|, -b) + b)^2 + 1\bigr].$$

# %%
IBERT_AB, INTSIM_AB = (-0.2888, -1.769), (-0.2575, -1.8306)


def i_erf(u: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return I-BERT's stand-in for erf."""
    return np.sign(u) * (a * (np.minimum(np.abs(u), -b) + b) ** 2 + 1)


def i_gelu(x: np.ndarray, a: float, b: float) -> np.ndarray:
    """Return GELU with it."""
    return x * (1 + i_erf(x / np.sqrt(2), a, b)) / 2


u = np.linspace(-3, 3, 6000)  # an even number of points: 0 is not among them

# %% tags=["hide-input"] alt="The error function and i-erf, which jumps at 0; GELU's error by both polynomials, waves of 0.018"
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.5))
left.plot(u, erf(u), color="#999999", linestyle="-", linewidth=4, alpha=0.5, label="erf")
for side in (u < 0, u > 0):
    left.plot(u[side], i_erf(u[side], *IBERT_AB), color=RUST, linestyle="-", label="i-erf" if side[0] else None)
inset = left.inset_axes((0.58, 0.1, 0.4, 0.4))
inset.plot(u, erf(u), color="#999999", linestyle="-", linewidth=4, alpha=0.5)
for side in (u < 0, u > 0):
    inset.plot(u[side], i_erf(u[side], *IBERT_AB), color=RUST, linestyle="-")
inset.set(xlim=(-0.25, 0.25), ylim=(-0.3, 0.3), xticks=[0], yticks=[0])
left.indicate_inset_zoom(inset, edgecolor="#888888")
left.set(xlabel="$u$", ylabel="erf$(u)$")
left.legend(loc="upper left")
x = np.linspace(-4, 4, 80_001)
for pair, colour, line, label in ((IBERT_AB, RUST, "--", "I-BERT"), (INTSIM_AB, INK, "-", "intsim")):
    right.plot(x, 1000 * (i_gelu(x, *pair) - gelu(x)), color=colour, linestyle=line, label=label)
right.set(xlabel="$x$", ylabel="error of GELU, $10^{-3}$", ylim=(-20, 26))
right.axhline(0, color="#888888", linewidth=0.8, linestyle="-")
right.grid(visible=True, axis="y")
right.legend(loc="upper center", ncols=2)
plt.show()

# %% [markdown]
# At 0 the parabola is not 0, and the sign flips it: i-erf **jumps**. GELU multiplies by $x$, which is 0 just there, so
# of the jump only a kink is left. A network that used i-erf itself would meet a cliff.

# %%
a, b = IBERT_AB
jump = 2 * (a * b**2 + 1)
slopes = [(1 - jump / 2) / 2, (1 + jump / 2) / 2]
print(f"i-erf jumps by {jump:.3f} at 0")
print(f"the slope of i-GELU goes from {slopes[0]:.3f} to {slopes[1]:.3f}, where 0.5 is right")

# %% [markdown]
# The paper compares three stand-ins for GELU on $[-4, 4]$. Its table, again:

# %%
stand_ins = {
    "x sigmoid(1.702 x)": (x / (1 + np.exp(-1.702 * x)), 0.020, 0.012),
    "h-GELU": (x * np.clip(1.702 * x + 3, 0, 6) / 6, 0.069, 0.031),
    "i-GELU": (i_gelu(x, *IBERT_AB), 0.018, 0.0082),
}
print(f"{'':<20} {'largest':>9} {'paper':>8} {'rms':>9} {'paper':>8}")
for what, (y, paper_largest, paper_rms) in stand_ins.items():
    error = y - gelu(x)
    largest, rms = np.abs(error).max(), np.sqrt(np.mean(error**2))
    print(f"{what:<20} {largest:>9.4f} {paper_largest:>8} {rms:>9.4f} {paper_rms:>8}")
    assert abs(largest - paper_largest) < 0.001
    assert abs(rms - paper_rms) < 0.001

# %% [markdown]
# ## SiLU, sigmoid, tanh: exponentials in disguise
#
# $$\sigma(x) = \frac{1}{1 + e^{-x}}, \qquad \mathrm{SiLU}(x) = x\,\sigma(x), \qquad
# \tanh x = \frac{1 - e^{-2x}}{1 + e^{-2x}}.$$
#
# One i-exp and one integer division each, for $x \ge 0$; symmetry gives the other side. Over all 65,536 inputs:

# %%
codes = np.arange(-(2**15), 2**15).astype(np.int16)
functions = {
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), (-8, 8)),
    "SiLU": (ops.silu, lambda x: x / (1 + np.exp(-x)), (-8, 8)),
    "tanh": (ops.tanh, np.tanh, (-4, 4)),
}


def formats(name: str, profile: object) -> tuple[Fraction, Fraction]:
    """Return the real values of one input code and of one output code."""
    match name:
        case "sigmoid":
            return Fraction(1, 2**profile.exp.input_fraction), Fraction(1, 2**profile.sigmoid.output_fraction)
        case "SiLU":
            return Fraction(1, 2**profile.silu.input_fraction), profile.silu_scale
        case _:
            return Fraction(1, 2 ** (profile.exp.input_fraction + 1)), Fraction(1, 2**profile.tanh.output_fraction)


# %% tags=["hide-input"] alt="Sigmoid, SiLU and tanh, and the errors of three profiles below: intsim-wide is flat"
figure, panels = plt.subplots(2, 3, figsize=(9, 4.4), height_ratios=[1, 1.3], sharex="col")
for (name, (operator, function, limits)), above, below in zip(functions.items(), *panels, strict=True):
    for profile, colour in ((ibert, RUST), (intsim, INK), (wide, SEA)):
        one_in, one_out = formats(name, profile)
        real = codes * float(one_in)
        y = operator(codes, profile=profile) * float(one_out)
        shown = (real >= limits[0]) & (real < limits[1])
        middle = real[shown].reshape(-1, 128).mean(axis=1)  # 128 neighbours are a point of the band
        error = 1000 * (y - function(real))[shown].reshape(-1, 128)
        band = {"color": colour, "alpha": 0.85, "linewidth": 0.8, "label": profile.name}
        below.fill_between(middle, error.min(axis=1), error.max(axis=1), **band)
    above.plot(real[shown], function(real[shown]), color=INK, linestyle="-")
    above.set_title(name)
    above.grid(visible=True)
    below.grid(visible=True)
    below.set_xlabel("$x$")
panels[0, 0].set_ylabel("value")
panels[1, 0].set_ylabel("error, $10^{-3}$")
figure.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## The square root, exactly
#
# LayerNorm divides by a standard deviation. Its square root needs no polynomial and has no error: Newton's iteration on
# integers, $r \leftarrow \lfloor (r + \lfloor n / r \rfloor) / 2 \rfloor$, started above the root, falls until it is
# $\lfloor \sqrt n \rfloor$, and then no further. Near the root each step about doubles the correct digits.


# %%
def newton(n: int) -> list[int]:
    """Return every iterate, from a power of two that is not below the root."""
    roots = [1 << (n.bit_length() + 1 >> 1)]
    while (lower := (roots[-1] + n // roots[-1]) >> 1) < roots[-1]:
        roots.append(lower)
    return roots


# %% tags=["hide-input"] alt="Newton's iterates fall to the root, faster each step; steps needed by bits of n, five at most"
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.2))
for n, mark in zip((2**31 - 1, 1_105_030_547, 2_000_000, 5000), "osD^", strict=True):
    excess = np.array(newton(n)) - int(isqrt(np.array(n)))
    left.plot(excess, marker=mark, markersize=5, label=f"$n = {n:,}$".replace(",", "{,}"))
left.set(yscale="symlog", ylim=(-0.3, 1e5), xlabel="step of Newton's iteration", ylabel="above the root, LSB")
left.set_xticks(range(6))
left.legend()
left.grid(visible=True)
rng = np.random.default_rng(0)
bits = np.arange(2, 33)
most = [max(len(newton(int(n))) - 1 for n in rng.integers(2 ** (b - 1), 2**b, 2000)) for b in bits]
right.bar(bits, most, color=INK, width=0.7)
right.set(xlabel="bits of $n$", ylabel="most steps that were needed", yticks=range(6))
plt.show()

# %%
print("iterates of 1,105,030,547:", newton(1_105_030_547))
drawn = [len(newton(int(n))) - 1 for n in rng.integers(2**30, 2**31, 100_000)]
print(f"{drawn.count(5)} of {len(drawn):,} random numbers of 31 bits need five steps, the others fewer")
assert 0 < drawn.count(5) < 30
assert max(drawn) == 5

# %% [markdown]
# A circuit with a fixed number of four steps passes almost every random test, and is wrong for that number. So is a
# float32, and more often: a square less one is what the rounding to 24 bits lifts over the edge.

# %%
k = np.arange(2, 46_341, dtype=np.int64)
n = k**2 - 1
by_float32 = np.floor(np.sqrt(n.astype(np.float32))).astype(np.int64)
exact = isqrt(n)
wrong = by_float32 != exact
print(
    f"float32 is wrong for {wrong.sum():,} of {k.size:,} numbers k**2 - 1 below 2**31, the first with k = {k[wrong][0]}"
)
assert np.array_equal(exact, k - 1)
assert wrong[k >= 4097].all()

# %% [markdown]
# ## A better polynomial
#
# I-BERT's parabola is far off at one place and better elsewhere. The best one spreads its error as evenly as it can,
# and touches the bound with alternating signs (Chebyshev's **equioscillation**). To find it is a linear program: choose
# coefficients and a bound $\varepsilon$, as small as possible, such that on a fine grid
#
# $$|c_d p^d + \dots + c_0 - e^p| \le \varepsilon\, e^p.$$


# %%
def minimax(degree: int) -> tuple[np.ndarray, float]:
    """Return the coefficients, highest first, of least largest relative error on [-ln 2, 0], and that error."""
    p = np.linspace(-LN2, 0, 2001)
    powers = np.vander(p, degree + 1) / np.exp(p)[:, None]
    ones = np.ones((p.size, 1))
    least = linprog(
        np.r_[np.zeros(degree + 1), 1],
        A_ub=np.block([[powers, -ones], [-powers, -ones]]),
        b_ub=np.r_[np.ones(p.size), -np.ones(p.size)],
        bounds=(None, None),
    )
    return least.x[:-1], least.x[-1]


found = {degree: minimax(degree) for degree in range(1, 6)}

# %% tags=["hide-input"] alt="Relative error of the best polynomials of degree 1 to 4: waves that all touch the bound"
figure, panels = plt.subplots(1, 4, figsize=(9.2, 2.6))
for axes, degree in zip(panels, (1, 2, 3, 4), strict=True):
    coefficients, bound = found[degree]
    error = np.polyval(coefficients, piece) / np.exp(piece) - 1
    power = int(np.floor(np.log10(bound)))
    axes.axhline(bound / 10**power, color=RUST, linewidth=1, linestyle="--")
    axes.axhline(-bound / 10**power, color=RUST, linewidth=1, linestyle="--")
    axes.plot(piece, error / 10**power, color=INK, linestyle="-")
    axes.set_title(f"degree {degree}")
    axes.set(xlabel="$p$", ylabel=f"relative error, $10^{{{power}}}$", ylim=np.array([-1.4, 1.4]) * bound / 10**power)
    axes.set_xticks([-LN2, 0], ["−ln 2", "0"])
plt.show()

# %%
(c2, c1, c0), _ = found[2]
print(f"degree 2 as a(p + b)**2 + c:  a = {c2:.4f}, b = {c1 / 2 / c2:.4f}, c = {c0 - c1**2 / 4 / c2:.4f}")
print(f"profile intsim:               a = {intsim.exp.a}, b = {intsim.exp.b}, c = {intsim.exp.c}")

# %% [markdown]
# These are the coefficients of the profile `intsim`, and the smoother line from above. Same form, same cost, and little
# more than half of the relative error.
#
# Could we afford more? A polynomial of degree $d$ with leading coefficient 1 (the scale takes the other) costs $d - 1$
# multiplications by Horner's rule. Their width counts too: a multiplier of $m \times n$ bits adds up $m n$ products of
# bits, and its area on a chip grows like that number. Let us build it on integers, watch the widths, and see what is
# worth paying.


# %%
def integer_exp(degree: int, fraction: int) -> tuple[float, list[tuple[int, int]]]:
    """Return the largest relative error of e**p by Horner's rule on integers, and the widths of its multipliers."""
    coefficients, _ = found[degree]
    monic = [round(c / coefficients[0] * 2**fraction) for c in coefficients[1:]]
    p = np.arange(-int(LN2 * 2**fraction), 1, dtype=np.int64)  # every p of so many fraction bits
    y, multipliers = p + monic[0], []
    for constant in monic[1:]:
        multipliers.append((signed_bits(int(y.min()), int(y.max())), signed_bits(int(p.min()), 0)))
        y = ((y * p + (1 << fraction - 1)) >> fraction) + constant
    return np.abs(y * coefficients[0] / 2**fraction / np.exp(p / 2**fraction) - 1).max(), multipliers


# %% tags=["hide-input"] alt="Largest relative error by degree, a line for each number of fraction bits: 8 bits level out first"
figure, axes = plt.subplots(figsize=(7.6, 3.5))
built = {(degree, fraction): integer_exp(degree, fraction) for fraction in (8, 12, 16, 20) for degree in found}
for fraction, mark, colour in zip((8, 12, 16, 20), "osD^", (SAND, SEA, RUST, INK), strict=True):
    line = [built[degree, fraction][0] for degree in found]
    axes.plot(list(found), line, marker=mark, color=colour, label=f"{fraction} fraction bits", linestyle="-")
axes.plot(list(found), [bound for _, bound in found.values()], color="#999999", linestyle=":", label="reals")
axes.set(yscale="log", ylabel="largest relative error")
axes.set_xticks(list(found), [f"{d}\n{d - 1} mult." for d in found])
axes.set_xlabel("degree, and multiplications")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
axes.grid(visible=True)
plt.show()

# %%
print(f"{'degree':>6} {'fraction':>9} {'multipliers':>26} {'bit products':>13} {'largest relative error':>23}")
for degree, fraction in ((2, 8), (2, 12), (2, 16), (3, 12), (3, 16), (4, 16), (4, 20)):
    error, multipliers = built[degree, fraction]
    shown, area = ", ".join(f"{m} x {n}" for m, n in multipliers), sum(m * n for m, n in multipliers)
    print(f"{degree:>6} {fraction:>9} {shown:>26} {area:>13} {error:>23.1e}")

# %% [markdown]
# Degree and width go together. With 20 bits two more degrees divide the error of a parabola by hundreds, with 8 bits by
# sixteen; and the parabola itself has nothing from more than 16. Softmax gives 8-bit probabilities, steps of 1 / 255,
# and a parabola of 12 bits is off by less than half a step. Whoever ends in 8 bits does not buy a cubic.

# %%
assert built[2, 20][0] / built[4, 20][0] > 600
assert 15 < built[2, 8][0] / built[4, 8][0] < 17
assert built[2, 20][0] > 0.99 * built[2, 16][0]
assert built[2, 12][0] < 0.5 / 255

# %% [markdown]
# For GELU there are just two numbers to choose, $a$ and $b$, and the whole landscape fits in a picture. I-BERT's are
# nearly those of least squares; we make the largest error least.

# %%
x = np.linspace(0, 6, 1201)  # the error is even


def largest_error(pair: tuple[float, float]) -> float:
    """Return how far i-GELU with a and b gets from GELU."""
    return float(np.abs(i_gelu(x, *pair) - gelu(x)).max())


best = minimize(largest_error, IBERT_AB, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
squares = minimize(lambda pair: np.square(i_gelu(x, *pair) - gelu(x)).sum(), IBERT_AB, method="Nelder-Mead")
print(f"least squares: a = {squares.x[0]:.4f}, b = {squares.x[1]:.4f}")
assert np.abs(squares.x - IBERT_AB).max() < 0.005
print(f"a = {best.x[0]:.4f}, b = {best.x[1]:.4f}: largest error {best.fun:.4f}, I-BERT's {largest_error(IBERT_AB):.4f}")
grid_a, grid_b = np.linspace(-0.34, -0.2, 141), np.linspace(-2.1, -1.55, 111)
landscape = np.array([[1000 * largest_error((a, b)) for a in grid_a] for b in grid_b])

# %% tags=["hide-input"] alt="Largest error of GELU over a and b, a narrow valley: I-BERT's pair beside it, the best one in it"
figure, axes = plt.subplots(figsize=(7.6, 4.4))
levels = [14, 15, 16, 18, 20, 25, 30, 40, 60, 100]
shades = BoundaryNorm(levels, 256, extend="max")
filled = axes.contourf(grid_a, grid_b, landscape, levels=levels, norm=shades, extend="max")
axes.contour(grid_a, grid_b, landscape, levels=filled.levels, colors="white", linewidths=0.6)
for pair, name, rise in ((IBERT_AB, "I-BERT", 12), (best.x, "best", -13)):
    axes.plot(*pair, "o", color="white", markeredgecolor=INK, markersize=8)
    where = {"xytext": (0, rise), "textcoords": "offset points", "ha": "center", "va": "center"}
    axes.annotate(name, pair, **where, color="white", path_effects=[withStroke(linewidth=3, foreground=INK)])
axes.set(xlabel="$a$", ylabel="$b$")
figure.colorbar(filled, label="largest error of GELU, $10^{-3}$", ticks=filled.levels)
plt.show()

# %% [markdown]
# ## How wide is everything?
#
# A chip has no "integers", it has wires. Since each function has only 2¹⁶ inputs, we can run all of them, look at every
# intermediate, and count the bits that it takes.

# %%
every = np.arange(-(2**15), 2**15).astype(np.int16)
bits = {}
for operator, codes in ((ops.exp, every[every <= 0]), (ops.gelu, every), (ops.silu, every), (ops.tanh, every)):
    steps = recorded(operator.__name__, operator, codes, profile=intsim)
    bits[operator.__name__] = {"input": signed_bits(int(codes.min()), int(codes.max()))} | {
        name.partition(":")[2] or "result": signed_bits(int(values.min()), int(values.max()))
        for name, values in steps.items()
    }
rows = [(operator, step, width) for operator, steps in bits.items() for step, width in steps.items()]

# %% tags=["hide-input"] alt="Bits of every intermediate of exp, GELU, SiLU and tanh: one product has 40, the others at most 31"
figure, axes = plt.subplots(figsize=(7.6, 4.6))
places = np.arange(len(rows)) + np.repeat(np.arange(len(bits)) * 0.8, [len(steps) for steps in bits.values()])
ends = [step in {"input", "result"} for _, step, _ in rows]
axes.barh(places, [width for *_, width in rows], color=np.where(ends, SEA, INK), height=0.75)
for place, (_, _, width) in zip(places, rows, strict=True):
    axes.text(width + 0.4, place, width, va="center", fontsize=8.5, bbox={"color": "white", "pad": 0.5})
for limit in (16, 32):
    axes.axvline(limit, color=RUST, linewidth=1, linestyle="--", zorder=0)
    axes.text(limit, -1.1, f"int{limit}", color=RUST, ha="center", fontsize=8.5)
axes.set_yticks(places, [f"{operator}:  {step.removeprefix(f'{operator}.')}" for operator, step, _ in rows])
axes.set(xlabel="bits, with sign", ylim=(places[-1] + 0.7, -0.7), xlim=(0, 42))
axes.tick_params(left=False)
plt.show()

# %% [markdown]
# Only the last product of GELU needs more than 32 bits. Such a table exists for a whole model, proved rather than
# counted: `intsim inspect MODEL --widths`.
#
# ## Exercises

# %%
from exercise import check

# %% [markdown]
# **1.** The profile `intsim` reduces the range with 14 fraction bits, $q_{\ln 2} = \mathrm{round}(2^{14} \ln 2)$. What
# are $z$ and the integer $p$ for $x = -2$?

# %%
answer = ...
check(answer, "23c502a9")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
q, q_ln2 = -2 << 14, round(np.log(2) * 2**14)
solution = [-q // q_ln2, q + -q // q_ln2 * q_ln2]
check(solution, "23c502a9")

# %% [markdown]
# **2.** By how much does `q_erf` of the profile `ibert` jump between the input codes −1 and 1? `recorded` shows it.

# %%
answer = ...
check(answer, "652240eb")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
steps = recorded("gelu", ops.gelu, np.array([-1, 1], np.int16), profile=ibert)
solution = int(abs(np.diff(steps["gelu:q_erf"])[0]))
check(solution, "652240eb")

# %% [markdown]
# **3.** Which polynomial degree is the least whose largest relative error on the piece is below $2^{-16}$, in reals?

# %%
answer = ...
check(answer, "f0a0278e")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
solution = min(degree for degree, (_, bound) in found.items() if bound < 2**-16)
check(solution, "f0a0278e")

# %% [markdown]
# **4.** $\tanh x = 2\sigma(2x) - 1$. The input codes of `ops.tanh` are one bit finer than those of `ops.sigmoid`, so
# the same code means $x$ to the one and $2x$ to the other. For how many of the 65,536 codes do the two sides differ, in
# the profile `intsim`, and by how much at most?

# %%
answer = ...
check(answer, "c256f122")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
left_side = ops.tanh(every, profile=intsim).astype(int)
right_side = 2 * ops.sigmoid(every, profile=intsim).astype(int) - 2**14
solution = [int((left_side != right_side).sum()), int(np.abs(left_side - right_side).max())]
check(solution, "c256f122")

# %% [markdown]
# **5.** Write i-exp of the profile `ibert` yourself, on Python integers: 11 fraction bits, constants rounded down,
# $\lfloor L / 2^z \rfloor$. The answer is the list of its results for the codes 0, −1000, −2000, ..., −9000.

# %%
answer = ...
check(answer, "1a578fc7")

# %% tags=["hide-cell"] jupyter={"source_hidden": true}
q_ln2, q_b = int(np.log(2) * 2**11), int(1.353 * 2**11)
q_c = int(Fraction("0.344") / Fraction("0.3585") * 2**22)
solution = []
for q in range(0, -10_000, -1000):
    z = -q // q_ln2
    solution.append(((q + z * q_ln2 + q_b) ** 2 + q_c) >> z)
assert solution == ops.exp(np.arange(0, -10_000, -1000).astype(np.int16), profile=ibert).tolist()
check(solution, "1a578fc7")

# %% [markdown]
# Next: [attention and LayerNorm](03_attention_and_layernorm.py), where these functions meet a sentence.
