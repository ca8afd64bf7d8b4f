# SPDX-License-Identifier: Apache-2.0
"""A report as a picture: what the activations look like, and where each recipe goes wrong. Needs matplotlib."""

from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from intsim.errors import IntsimError
from intsim.io.atomic import Kind, complete_file
from intsim.report.error_split import PARTS
from intsim.report.report import RecipeReport, Report

try:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
except ImportError:
    message = "a plot must have matplotlib to draw it, got none; pip install 'intsim[notebooks]'"
    raise IntsimError(message) from None

__all__ = ["PICTURE", "plot_report"]

PNG: Final = b"\x89PNG\r\n\x1a\n"


def _is_png(file: BinaryIO) -> bool:
    return file.read(len(PNG)) == PNG


PICTURE: Final = Kind("a PNG file", _is_png)
PART_COLOURS: Final = ("#1b2a49", "#b8492a", "#8cc2bc", "#c99a2e")  # of distinct lightness
PART_HATCHES: Final = ("", "//", "..", "xx")
MARKERS: Final = "osD^v"
STROKES: Final = ("-", "--", "-.", ":")  # with the markers, no two of twenty lines are alike
RANGE_COLOUR: Final = "#34495e"


def plot_report(report: Report, path: str | Path) -> None:
    """Write a PNG file: feed-forward ranges by channel (Bondarenko et al. 2021, fig. 2), errors by layer and by kind.

    Raises
    ------
    IntsimError
        If the file cannot be written.
    """
    layers = len(report.ranges) // 2
    figure: Any = Figure(figsize=(max(10, 1.6 * layers), 8.6), layout="constrained")
    rows = figure.subfigures(2, 1, height_ratios=[1, 1.1])
    above, below = rows[0].subplots(2, 1, sharex=True)
    _ranges(above, report, "input")
    _ranges(below, report, "output")
    below.set_xlabel("channels of each layer")
    rows[0].suptitle("Range of every channel in the float model", fontweight="bold")
    left, right = rows[1].subfigures(1, 2)
    ordered = sorted(report.recipes, key=lambda each: each.errors[-1].squared)
    _errors(left.subplots(), ordered)
    _parts(right.subplots(), ordered)
    placed = {"loc": "outside lower center", "fontsize": 8, "frameon": False}
    left.legend(**placed, ncols=3, reverse=True)
    right.legend(**placed, ncols=len(PARTS))
    rows[1].suptitle(f"Error of the integer models, {report.task}, {report.n} examples", fontweight="bold")
    with complete_file(Path(path), PICTURE) as file:
        figure.savefig(file, format="png", dpi=140)


def _ranges(axes: Any, report: Report, side: str) -> None:
    """Draw a line from the lowest to the highest value of every channel, layer beside layer."""
    kept = [each for each in report.ranges.values() if each.side == side]
    channels = kept[0].low.size
    gap = channels // 8
    for layer, (low, high, _) in enumerate(kept):
        start = layer * (channels + gap)
        axes.vlines(start + np.arange(channels), low.ravel(), high.ravel(), color=RANGE_COLOUR, linewidth=0.7)
        text = f"[{low.min():.3g}, {high.max():.3g}]\nfarthest: channel {np.maximum(-low, high).argmax()}"
        middle = start + channels / 2, 0.97
        axes.annotate(text, middle, xycoords=axes.get_xaxis_transform(), ha="center", va="top", fontsize=8)
    middles = [layer * (channels + gap) + channels / 2 for layer in range(len(kept))]
    axes.set_xticks(middles, [f"layer {layer}" for layer in range(len(kept))])
    axes.set_ylabel(f"FFN {side}")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.3 * (high - low))  # room for the text
    axes.margins(x=0.01)
    axes.grid(axis="y", alpha=0.3)


def _errors(axes: Any, recipes: list[RecipeReport]) -> None:
    """Draw the error of every hidden state, a line for each recipe."""
    shades = colormaps["cividis"](np.linspace(0, 0.85, len(recipes)))  # the lighter the worse, on a grey page too
    for each, shade, marker, stroke in zip(recipes, shades, cycle(MARKERS), cycle(STROKES)):
        squared = [error.squared for error in each.errors]
        style = {"marker": marker, "markersize": 4, "linestyle": stroke, "linewidth": 1.3}
        axes.plot(squared, **style, color=shade, label=each.recipe)
    layers = len(recipes[0].errors) - 2
    axes.set_xticks(range(layers + 2), ["embeddings", *(f"layer {i}" for i in range(layers)), "output"], rotation=30)
    axes.set_yscale("log")
    axes.set_title("of each layer: sum (x - float)² / sum float²", fontsize=10)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)


def _parts(axes: Any, recipes: list[RecipeReport]) -> None:
    """Draw the shares of the output's error, those that lessen it to the left of 0."""
    for row, each in enumerate(recipes):
        error = each.errors[-1]
        ends = {True: 0.0, False: 0.0}
        for part, colour, hatch in zip(PARTS, PART_COLOURS, PART_HATCHES, strict=True):
            share = 100 * error.parts[part] / (error.squared or 1)
            style = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
            axes.barh(row, share, left=ends[share > 0], label=part if row == 0 else None, **style)
            ends[share > 0] += share
    axes.set_yticks(range(len(recipes)), [each.recipe.replace(":", ":\n") for each in recipes])
    spare = max(0, 4 - len(recipes)) / 2  # a single bar is no wall
    axes.set_ylim(-0.6 - spare, len(recipes) - 0.4 + spare)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("% of it; what is left of 0 lessens it")
    axes.set_title("of the output: what it comes from", fontsize=10)
