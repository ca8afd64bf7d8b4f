# SPDX-License-Identifier: Apache-2.0
"""A trace as a picture: its reals, how it uses its codes, its error, its attention. Needs matplotlib."""

import base64
import html
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from intsim._progress import counting, watched
from intsim._trace import Trace
from intsim.convert.permutation import permute_channels
from intsim.errors import CheckpointError, IntsimError, said
from intsim.io.atomic import Kind, complete_file
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.safetensors_file import read
from intsim.io.trace_file import parse_trace
from intsim.models.outline import Outline
from intsim.models.world import tensor_name
from intsim.reference.world import run
from intsim.report.plot import PICTURE

__all__ = ["PAGE", "kind_of", "plot_trace"]

Figure: Final[Any] = import_module("matplotlib.figure").Figure  # intsim.report.plot has said so if there is none
pairs: Final[Any] = import_module("scipy.optimize").linear_sum_assignment
INK: Final = "#1b2a49"
SIGNAL: Final = "#b8492a"
BINS: Final = 64
ROWS: Final = 4096  # of a table, by which channels are told apart
MOST: Final = 12
"""Layers, and heads of each, whose attention is drawn."""
START: Final = b"<!doctype html>"


def _is_page(file: BinaryIO) -> bool:
    return file.read(len(START)).lower() == START


PAGE: Final = Kind("an HTML page", _is_page)
Pixels = NDArray[np.uint8]  # (height, width, red green blue alpha)
Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Activation:
    """An array of a trace that has a scale: its codes, the lowest and highest they may be, scale and zero point."""

    name: str
    codes: NDArray[np.integer]
    low: int
    high: int
    scale: Reals
    zero_point: NDArray[np.integer]

    @property
    def reals(self) -> Reals:
        """What the codes stand for, made anew: of all arrays of a trace they are many times its size."""
        return (self.codes - self.zero_point) * self.scale

    @property
    def at_ends(self) -> float:
        """The share of codes at an end of their range."""
        return np.count_nonzero((self.codes == self.low) | (self.codes == self.high)) / self.codes.size


def kind_of(path: Path) -> Kind:
    """Return what a file of this name is to be.

    Raises
    ------
    IntsimError
        If its suffix is neither ``.png`` nor ``.html``.
    """
    kinds = {".png": PICTURE, ".html": PAGE}
    if path.suffix not in kinds:
        msg = f"a plot must be a .png or .html file, got {str(path)!r}"
        raise IntsimError(msg)
    return kinds[path.suffix]


def plot_trace(trace: str | Path, path: str | Path, *, reference: str | Path | None = None) -> None:
    """Write a PNG file, or an HTML page that holds the same pictures and a table.

    Drawn are, for every array of a known scale in forward order, the range of its reals and the share of its codes in
    each part of their range, its ends marked; the attention of each head in the first text; and beside a float
    checkpoint the relative error of every activation.

    Parameters
    ----------
    trace
        The file of a trace.
    path
        ``.png`` or ``.html``.
    reference
        Folder of the float checkpoint. The trace must be of level ``steps``: it then has the token ids.

    Raises
    ------
    IntsimError
        If the trace or the checkpoint cannot be read, they do not fit, or the file cannot be written.
    """
    path = Path(path)
    kind = kind_of(path)
    tensors, metadata = read(Path(trace))
    taken, _ = parse_trace(str(trace), tensors, metadata)
    activations = _activations(taken, metadata["trace"])
    figures = {"Ranges and codes": _ranges_and_codes(activations)}
    if reference is not None:
        try:
            errors = _relative_errors(taken, activations, reference)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            msg = f"{trace} must hold the operands of its calls, got damaged ones: {said(error)}; run the model again"
            raise CheckpointError(msg) from None
        figures["Error beside the float model"] = _errors(errors)
    if attention := {name: values for name, values in taken.items() if name.endswith(".probs")}:
        figures["Attention, first text"] = _attention(attention)
    if kind is PICTURE:
        for title, figure in figures.items():
            figure.suptitle(title, fontweight="bold")
    pictures = {title: _drawn(figure) for title, figure in watched(figures.items(), "drawing", unit="figure")}
    with complete_file(path, kind) as file, counting("writing", unit="picture"):
        file.write(_stacked(pictures.values()) if kind is PICTURE else _page(str(trace), pictures, activations))


def _activations(trace: Trace, manifest: Sequence[Mapping[str, Any]]) -> list[_Activation]:
    found: list[_Activation] = []
    for entry in manifest:
        codes = trace[entry["name"]]
        if entry["scale"] is None or entry["name"].endswith(".acc") or not codes.size:
            continue
        scales: list[str] = np.atleast_1d(entry["scale"]).tolist()
        scale = np.array([float(Fraction(each)) for each in scales])
        zero = np.asarray(entry["zero_point"])
        signed, bits = codes.dtype.kind == "i", entry["bits"]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if signed and not zero.any() and codes.min() > low:  # symmetric codes leave the lowest out
            low += 1
        found.append(_Activation(name=entry["name"], codes=codes, low=low, high=high, scale=scale, zero_point=zero))
    if not found:
        msg = "a trace must have arrays of a known scale to be drawn, got none"
        raise CheckpointError(msg)
    return found


def _relative_errors(trace: Trace, activations: Sequence[_Activation], path: str | Path) -> dict[str, float]:
    """Return sum (x - float)² / sum float² of every activation that the float model has under the same name."""
    checkpoint = open_checkpoint(path)
    ids = _ids(trace, checkpoint.outline, "embedding.word")
    if ids is None:
        msg = "trace must be of level steps to be held against a reference, got one without token ids"
        raise IntsimError(msg)
    types = _ids(trace, checkpoint.outline, "embedding.type")
    mask = np.ones(ids.shape, bool)
    for call in trace.calls.values():
        given = call.constants.get("mask")
        if call.operator.__name__ == "softmax" and given is not None and given.size == ids.size:  # (B, 1, 1, T)
            mask = given.reshape(ids.shape)
    seen: dict[str, Reals] = {}

    def observe(name: str, x: NDArray[np.floating]) -> NDArray[np.floating]:
        seen[name] = x.astype(np.float64)
        return x

    own: Mapping[str, Any] = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}
    weights = permute_channels(own, checkpoint.outline, _order(trace, checkpoint))
    run(
        checkpoint.family,
        weights,
        checkpoint.config,
        checkpoint.head,
        ids,
        attention_mask=mask,
        token_type_ids=np.zeros_like(ids) if types is None else types,
        observe=observe,
    )
    errors: dict[str, float] = {}
    for each in activations:
        if (real := seen.get(each.name)) is not None:
            reals = each.reals
            if real.ndim > reals.ndim:  # the logits of the last token alone
                real = real[:, -1]
            if real.shape != reals.shape:
                msg = f"'{each.name}' must have the shape of the reference's, {real.shape}, got {reals.shape}"
                raise IntsimError(msg)
            real = real * _smoothing(trace, each, checkpoint.outline, weights)
            errors[each.name] = float(np.square(reals - real).sum() / (np.square(real).sum() or 1))
    if not errors:
        msg = f"trace must be of a model made of {path}, got one that has no activation in common with it"
        raise IntsimError(msg)
    return errors


def _order(trace: Trace, checkpoint: Checkpoint) -> NDArray[np.int64]:
    """Return which of the float model's channels each channel of the hidden states is: a recipe may permute them."""
    outline = checkpoint.outline
    for name, call in trace.calls.items():
        weight = tensor_name(f"{name.removesuffix('.acc')}.weight")
        tensor = outline.tensors.get(weight)
        if call.operator.__name__ not in ("embedding", "matmul") or tensor is None:
            continue
        for axis, number in enumerate(tensor.axes):
            if number >= 0 and outline.axis(number) == outline.stream:
                of_both = np.asarray(call.operands[1], np.float32), checkpoint.load(weight, np.float32)
                codes, reals = (np.moveaxis(each, axis, -1)[:ROWS] for each in of_both)
                alike = codes.T @ (reals / np.linalg.norm(reals, axis=0).clip(min=1e-30))
                return pairs(alike, maximize=True)[1]
    return np.arange(outline.activations[outline.hidden_states[-1]].channels)


def _smoothing(trace: Trace, each: _Activation, outline: Outline, weights: Mapping[str, Any]) -> Reals | float:
    """Return what a recipe that smooths has put into the channels of a norm: its products hold the inverse."""
    call, norm = trace.calls.get(each.name), outline.norms.get(each.name)
    if call is None or norm is None or call.operator.__name__ not in ("layer_norm", "rms_norm"):
        return 1.0
    weight = weights[tensor_name(f"{each.name}.weight")].astype(np.float64) + norm.unit_offset
    unit = float(call.constants["profile"].layer_norm.squared_unit(weight.size)) ** 0.5
    gain = call.operands[1].weight.to_real() * each.scale / unit
    return np.divide(gain, weight, out=np.ones_like(weight), where=weight != 0)


def _ids(trace: Trace, outline: Outline, role: str) -> NDArray[np.integer] | None:
    """Return the ids that the table of this role was read by."""
    for name, call in trace.calls.items():
        table = outline.tensors.get(tensor_name(f"{name}.weight"))
        if call.operator.__name__ == "embedding" and table is not None and table.role == role:
            return np.asarray(call.operands[0])
    return None


def _ranges_and_codes(activations: Sequence[_Activation]) -> Any:
    """Draw a row for each activation: its reals within what its codes can say, and how often each code comes."""
    rows = range(len(activations))
    figure: Any = Figure(figsize=(10, 1.6 + 0.2 * len(activations)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1, 1.1])
    shares = np.empty((len(activations), BINS))
    for row, each in zip(rows, watched(activations, "measuring", unit="array"), strict=True):
        reals, shares[row] = each.reals, _shares(each)
        left.plot([reals.min(), reals.max()], [row, row], color=INK, linewidth=3.5, solid_capstyle="butt")
        if each.at_ends:
            text = f"{100 * each.at_ends:.2g} %"
            right.annotate(text, (1.035, row), va="center", fontsize=8, color=SIGNAL, annotation_clip=False)
        for place, mark, code in ((-0.012, "<", each.low), (1.012, ">", each.high)):
            if (each.codes == code).any():
                right.plot(place, row, marker=mark, color=SIGNAL, markersize=5, clip_on=False)
    left.set_xscale("symlog", linthresh=1)
    left.axvline(0, color="#888888", linewidth=0.8)
    left.set_yticks(rows, [each.name for each in activations], fontsize=8)
    left.set_xlabel("values; logarithmic beyond ±1")
    _readable_from_both_ends(left, len(rows))
    right.imshow(
        np.sqrt(shares),
        aspect="auto",
        cmap="Greys",
        vmin=0,
        interpolation="nearest",
        extent=(0, 1, len(rows) - 0.5, -0.5),
    )
    right.set_xticks([0, 0.5, 1], ["lowest", "middle", "highest"])
    right.set_xlabel("codes; darker: more; marked: at an end")
    right.tick_params(top=True, labeltop=True)
    right.set_xlim(0, 1)
    return figure


def _shares(each: _Activation) -> Reals:
    edges = np.linspace(each.low, each.high + 1.0, BINS + 1)  # as reals: 2**64 is no integer of NumPy
    return np.histogram(each.codes, edges)[0] / each.codes.size


def _errors(errors: Mapping[str, float]) -> Any:
    figure: Any = Figure(figsize=(10, 1.4 + 0.2 * len(errors)), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(errors.values()), range(len(errors)), marker="o", color=INK, linewidth=0.8)
    axes.set_yticks(range(len(errors)), list(errors), fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("sum (x - float)² / sum float²")
    _readable_from_both_ends(axes, len(errors))
    return figure


def _readable_from_both_ends(axes: Any, rows: int) -> None:
    """Set the first of many rows at the top, and the values above and below."""
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(top=True, labeltop=True)
    axes.grid(axis="x", alpha=0.3)


def _attention(attention: Mapping[str, NDArray[np.integer]]) -> Any:
    """Draw the probabilities of the first text, a row for each layer and a column for each head."""
    kept = dict(list(attention.items())[:MOST])
    heads = min(MOST, max(values.shape[1] for values in kept.values()))
    figure: Any = Figure(figsize=(10, 0.6 + 9.2 / heads * len(kept)), layout="constrained")
    for row, (axes, (name, values)) in enumerate(
        zip(figure.subplots(len(kept), heads, squeeze=False), kept.items(), strict=True)
    ):
        for head, each in enumerate(axes):
            each.set(xticks=[], yticks=[])
            if head < values.shape[1]:
                each.imshow(values[0, head], cmap="Greys", vmin=0, interpolation="nearest")
            if row == 0:
                each.set_title(f"head {head}", fontsize=8)
        axes[0].set_ylabel(name.removesuffix(".probs"), fontsize=8)
    left_out = len(attention) - len(kept)
    figure.supxlabel(
        "keys across, queries down; black: the most of each head" + (f"; {left_out} more layers" if left_out else ""),
        fontsize=8,
    )
    return figure


def _drawn(figure: Any) -> Pixels:
    figure.set_dpi(110)
    canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    import_module("matplotlib.image").imsave(file, pixels, format="png")
    return file.getvalue()


def _stacked(pictures: Collection[Pixels]) -> bytes:
    """Return one PNG file of several pictures, one below the other."""
    width = max(each.shape[1] for each in pictures)
    padded = [np.pad(each, ((0, 0), (0, width - each.shape[1]), (0, 0)), constant_values=255) for each in pictures]
    return _png(np.concatenate(padded))


def _page(name: str, pictures: Mapping[str, Pixels], activations: Sequence[_Activation]) -> bytes:
    rows = "".join(
        f"<tr><td>{html.escape(each.name)}<td>{each.codes.dtype}<td>{' x '.join(map(str, each.codes.shape))}"
        f"<td>{each.codes.min()} … {each.codes.max()}<td>{(reals := each.reals).min():.4g} … {reals.max():.4g}"
        f"<td>{100 * each.at_ends:.3g} %"
        for each in activations
    )
    images = "".join(
        f'<h2>{title}</h2><div><img alt="{title}" '
        f'src="data:image/png;base64,{base64.b64encode(_png(picture)).decode()}"></div>'
        for title, picture in pictures.items()
    )
    return (
        f'{START.decode()}<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(name)}</title><style>{STYLE}</style><h1>{html.escape(name)}</h1>{images}"
        "<h2>Arrays</h2><div><table><tr><th>name<th>dtype<th>shape<th>codes<th>values<th>at an end"
        f"{rows}</table></div>"
    ).encode()


STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}img{max-width:100%}"
    "@media(max-width:46em){img{max-width:none;width:56em}}"  # labels are read, and pictures scrolled
    "div{overflow-x:auto}table{border-collapse:collapse;font-size:13px}td,th{padding:.2em .8em;text-align:left;"
    "border-bottom:1px solid #ddd;white-space:nowrap}"
)
