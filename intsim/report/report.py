# SPDX-License-Identifier: Apache-2.0
"""Recipes side by side on one task: accuracy, size, and where in the model which kind of error arises."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim import ops
from intsim._trace import Interpreter, interpreted_by
from intsim.convert import quantize
from intsim.integer_model import IntegerModel
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.integer_checkpoint import stored_bytes
from intsim.io.tokenizer import read_tokenizer
from intsim.quantizers import Granularity, MinMax
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.world import run
from intsim.report.error_split import PARTS, stages
from intsim.report.evaluate import Batch, Example, Task, cosines, encode_examples, in_batches, score

__all__ = ["ErrorOf", "RecipeReport", "Report", "format_report", "report"]

Reals: TypeAlias = NDArray[np.floating]

OUTPUT: Final = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOf:
    """How far a tensor of the integer model is from that of the float model, over all tokens of all examples.

    Parameters
    ----------
    name
        ``embeddings.LayerNorm`` and ``encoder.layer.N.output.LayerNorm``: hidden states, of tokens, not of padding;
        ``output``: what is scored, logits or mean-pooled sentences.
    relative
        Mean over the elements of |x - x_float| / (|x_float| + 1e-8): Yao et al. 2022 (ZeroQuant), eq. (3).
    squared
        sum (x - x_float)**2 / sum x_float**2.
    parts
        What each stage of ``intsim.report.error_split.stages`` adds to ``squared``, so that the parts sum to it. Errors
        may cancel, and then a part is negative.
    """

    name: str
    relative: float
    squared: float
    parts: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeReport:
    """One recipe.

    Parameters
    ----------
    recipe
        As it was given.
    metrics
        Of the integer model.
    cosine
        Mean cosine of its outputs to those of the float model.
    bytes, ratio
        Size of its tensors as stored, and over that of the float model's in float32.
    errors
        In forward order; ``output`` comes last.
    """

    recipe: str
    metrics: dict[str, float]
    cosine: float
    bytes: int
    ratio: float
    errors: list[ErrorOf]


class ChannelRanges(NamedTuple):
    """Smallest and largest value in each channel of what a feed-forward network reads or gives."""

    low: Reals
    high: Reals
    side: Literal["input", "output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Recipes beside the float model.

    Parameters
    ----------
    task, n
        The task and its number of examples.
    reference
        Metrics of the float model.
    reference_bytes
        Its size in float32.
    recipes
        In the order given.
    ranges
        Name -> smallest and largest value in each channel, over the data, of the float model's feed-forward inputs
        (role ``ffn-input``) and outputs before the residual sum, and which of the two it is.
    """

    task: Task
    n: int
    reference: dict[str, float]
    reference_bytes: int
    recipes: list[RecipeReport]
    ranges: Mapping[str, ChannelRanges]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values; of the ranges, those of whole tensors."""
        ranges = {name: [float(each.low.min()), float(each.high.max())] for name, each in self.ranges.items()}
        return asdict(self) | {"ranges": ranges}


def report(
    path: str | Path,
    recipes: Sequence[str],
    task: Task,
    examples: Sequence[Example],
    *,
    calibration: Sequence[str] | None = None,
    progress: bool = False,
) -> Report:
    """Quantize a checkpoint by each recipe, and measure the integer models against the float one.

    Parameters
    ----------
    path
        Hugging Face folder of the float model.
    recipes
        As ``intsim.quantize`` takes them.
    task, examples
        As ``intsim.report.evaluate.evaluate`` takes them.
    calibration
        As ``intsim.quantize`` takes it.
    progress
        Whether to draw progress bars on stderr.

    Raises
    ------
    IntsimError
        If the checkpoint, a recipe or a text is invalid, or the model's head does not fit the task.
    """
    checkpoint = open_checkpoint(path)
    labels = None if checkpoint.head == "none" else len(checkpoint.config.labels)
    longest = checkpoint.config.longest
    encodings = encode_examples(task, examples, labels=labels, tokenizer=read_tokenizer(path), longest=longest)
    weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}
    models = [quantize(path, recipe=recipe, calibration=calibration, progress=progress) for recipe in recipes]

    floats: list[Reals] = [np.empty(0)] * len(encodings)
    outputs = [list(floats) for _ in models]
    sums = [_Sums() for _ in models]
    ranges: dict[str, MinMax] = {}
    for rows, batch in in_batches(encodings, progress=progress):
        expected = _float_states(checkpoint, weights, batch, ranges)
        _put(floats, rows, expected[OUTPUT])
        for model, output, total in zip(models, outputs, sums, strict=True):
            found = [_states(model, batch, interpreter) for interpreter in stages(model).values()]
            total.update(expected, found)
            _put(output, rows, found[-1][OUTPUT])

    targets = np.array([example.target for example in examples])
    float_bytes = sum(4 * w.size for w in weights.values())
    return Report(
        task=task,
        n=len(examples),
        reference=score(task, np.stack(floats), targets, labels),
        reference_bytes=float_bytes,
        recipes=[
            RecipeReport(
                recipe=recipe,
                metrics=score(task, np.stack(output), targets, labels),
                cosine=float(cosines(np.stack(output), np.stack(floats)).mean()),
                bytes=stored_bytes(model),
                ratio=stored_bytes(model) / float_bytes,
                errors=total.errors(),
            )
            for recipe, model, output, total in zip(recipes, models, outputs, sums, strict=True)
        ],
        ranges={
            name: ChannelRanges(*estimator.range(), "input" if name in checkpoint.outline.activations else "output")
            for name, estimator in ranges.items()
        },
    )


def _put(outputs: list[Reals], rows: Sequence[int], values: Reals) -> None:
    for row, output in zip(rows, values, strict=True):
        outputs[row] = output


class _Sums:
    """Of a recipe, over the data: the errors of its stages, in forward order of the tensors."""

    def __init__(self) -> None:
        self.squared: dict[str, Reals] = {}  # of every stage, then of the float tensor
        self.relative: dict[str, tuple[float, int]] = {}  # sum and number of elements

    def update(self, expected: Mapping[str, Reals], found: Sequence[Mapping[str, Reals]]) -> None:
        """Take in one batch: the float model's tensors, and those of every stage."""
        for name in found[-1]:
            x = expected[name].astype(np.float64)
            errors = [stage[name] - x for stage in found]
            squares = np.array([np.square(each).sum() for each in (*errors, x)])
            self.squared[name] = self.squared.get(name, 0) + squares
            total, count = self.relative.get(name, (0.0, 0))
            relative = np.abs(errors[-1]) / (np.abs(x) + 1e-8)
            self.relative[name] = total + float(relative.sum()), count + x.size

    def errors(self) -> list[ErrorOf]:
        """Return them relative to the float model."""
        result: list[ErrorOf] = []
        for name, (*stages_, reference) in self.squared.items():
            squared = np.array(stages_) / (reference or 1)
            total, count = self.relative[name]
            parts = dict(zip(PARTS, np.diff(squared, prepend=0).tolist(), strict=True))
            result.append(ErrorOf(name=name, relative=total / count, squared=float(squared[-1]), parts=parts))
        return result


def _float_states(
    checkpoint: Checkpoint, weights: Mapping[str, Reals], batch: Batch, ranges: dict[str, MinMax]
) -> dict[str, Reals]:
    """Return the hidden states (tokens, C) and the output of the float model; widen ``ranges`` by its activations."""
    ids, mask, types = batch
    outline = checkpoint.outline
    states: dict[str, Reals] = {}
    seen: dict[str, Reals] = {}  # what goes into sums

    def widen(name: str, x: Reals) -> None:
        ranges.setdefault(name, MinMax(granularity=Granularity(kind="channel", axis=-1))).update(x)

    def observe(name: str, x: Reals) -> Reals:
        if name not in outline.activations or x.ndim < 3:
            return x
        seen[name], role = x[mask], outline.activations[name].role
        if name in outline.hidden_states:
            states[name] = seen[name]
        if role == "ffn-input":
            widen(name, seen[name])
        elif role == "residual.ffn" and (skip := outline.sums[name].skip) is not None:
            widen(outline.sums[name].terms[0], seen[name] - seen[skip])
        return x

    inputs: dict[str, Any] = {"attention_mask": mask, "token_type_ids": types}
    output = run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, observe=observe, **inputs)
    if checkpoint.head == "none":
        output = mean_pooling(output, mask)
    return states | {OUTPUT: output.astype(np.float64)}


def _states(model: IntegerModel, batch: Batch, interpreter: Interpreter) -> dict[str, Reals]:
    """Return the hidden states (tokens, C) and the output of ``model`` run by ``interpreter``, as reals."""
    ids, mask, types = batch
    order = model.tensors["order"] if "order" in model.tensors else slice(None)  # of the checkpoint's channels
    names = model.outline.hidden_states
    states: dict[str, Reals] = {}

    def keep(name: str, operator: Any, operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Any:
        codes = interpreter(name, operator, operands, constants)
        if name in names:
            form = model.formats[name]
            every = codes.shape[-1] // form.groups
            scale = np.repeat(np.ldexp(form.scale.multiplier.astype(np.float64), -form.scale.shift), every)
            reals = (codes[mask].astype(np.float64) - form.offset(codes.shape[-1])) * scale
            states[name] = np.asarray(reals[:, order])
        return codes

    with interpreted_by(keep):
        result = model(ids, attention_mask=mask, token_type_ids=types)
    values: NDArray[Any] = result.values
    if model.head == "none":
        in_reals = values.dtype.kind == "f"
        values = mean_pooling(values, mask) if in_reals else ops.mean_pooling(values, mask, profile=model.profile)
    return states | {OUTPUT: np.asarray(values * np.ldexp(1.0 * result.scale.multiplier, -result.scale.shift))}


def format_report(report: Report) -> str:
    """Return the report as text: a row for each recipe, then the errors of its layers."""
    names = list(report.reference)
    width = max(12, *(len(each.recipe) for each in report.recipes)) + 2
    head = "".join(f"{title:>10}" for title in (*names, "cosine", "eq. (3)"))
    lines = [f"{report.task}, {report.n} examples", "", f"{'recipe':<{width}}{head}{'bytes':>13}{'of float':>10}"]
    floats = "".join(f"{100 * value:10.2f}" for value in report.reference.values())
    lines.append(f"{'float32':<{width}}{floats}{'':20}{report.reference_bytes:>13}{100:>9.2f}%")
    for each in report.recipes:
        metrics = "".join(f"{100 * each.metrics[name]:10.2f}" for name in names)
        distance = f"{each.cosine:10.5f}{each.errors[-1].relative:10.4f}"
        lines.append(f"{each.recipe:<{width}}{metrics}{distance}{each.bytes:>13}{100 * each.ratio:>9.2f}%")
    for each in report.recipes:
        columns = "".join(f"{title:>15}" for title in (*PARTS, "sum"))
        lines += ["", f"{each.recipe:<36}{'eq. (3)':>9}{columns}"]
        for error in each.errors:
            parts = "".join(f"{100 * part:+14.4f}%" for part in error.parts.values())
            lines.append(f"{error.name:<36}{error.relative:9.4f}{parts}{100 * error.squared:14.4f}%")
    return "\n".join([*lines, "", LEGEND])


LEGEND: Final = """\
cosine: mean over the outputs. eq. (3): mean of |x - float| / (|float| + 1e-8) as in ZeroQuant, above of the outputs,
below of each tensor over real tokens. sum: sum (x - float)^2 / sum float^2. Its parts are what is added by quantization
(stored constants, rounded codes), saturation (clipped codes), approximation (polynomials for exp, GELU, tanh) and
rounding (whatever else the integers do). Errors may cancel: a part may be negative."""
