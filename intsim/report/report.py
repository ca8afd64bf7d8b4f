# SPDX-License-Identifier: Apache-2.0
"""Recipes side by side on one task: accuracy, size, and where in the model which kind of error arises."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim._progress import bars, watched
from intsim._trace import Interpreter, interpreted_by
from intsim.carrier.blocks import one_blas_thread
from intsim.convert import quantize_each
from intsim.integer_model import IntegerModel
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.integer_checkpoint import stored_bytes
from intsim.io.tokenizer import read_tokenizer
from intsim.quantizers import Granularity, MinMax
from intsim.reference.ops.pool import pool
from intsim.reference.world import run
from intsim.report.error_split import PARTS, stages
from intsim.report.evaluate import in_batches, in_processes, pooled, prepare, reader
from intsim.report.tasks import GlueTask
from intsim.report.tasks.glue import Example, cosines
from intsim.report.tasks.inquiry import Batch

__all__ = ["ErrorOf", "RecipeReport", "Report", "format_report", "report"]

Reals: TypeAlias = NDArray[np.floating]

OUTPUT: Final = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOf:
    """How far a tensor of the integer model is from that of the float model, over all tokens of all examples.

    Parameters
    ----------
    name
        One of the outline's ``hidden_states``, of tokens, not of padding;
        ``output``: what is scored, logits or pooled sentences.
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
    model_digest
        Of the integer model.
    """

    recipe: str
    metrics: dict[str, float]
    cosine: float
    bytes: int
    ratio: float
    errors: list[ErrorOf]
    model_digest: str


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

    task: GlueTask
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
    task: GlueTask,
    examples: Sequence[Example],
    *,
    calibration: Sequence[str] | None = None,
    jobs: int = 1,
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
    jobs
        Processes that run the models, each on its share of the cores. Any number gives the same report.
    progress
        Whether to draw progress bars on stderr.

    Raises
    ------
    IntsimError
        If the checkpoint, a recipe or a text is invalid, or the model's head does not fit the task.
    """
    checkpoint = open_checkpoint(path)
    config = checkpoint.config
    inquiry = prepare(
        task,
        examples,
        reader(
            head=checkpoint.head,
            labels=config.labels,
            tokenizer=read_tokenizer(path, head=checkpoint.head),
            longest=config.longest,
            pad_id=config.pad_token_id,
        ),
    )
    models = quantize_each(path, recipes, calibration=calibration, progress=progress)

    floats: list[Reals] = [np.empty(0)] * len(inquiry.encodings)
    outputs = [list(floats) for _ in models]
    sums: list[dict[str, _Sum]] = [{} for _ in models]
    ranges: dict[str, MinMax] = {}
    places, batches = zip(*in_batches(inquiry.encodings, pad_id=inquiry.pad_id), strict=True)
    with bars(progress or None), in_processes(_measurer, path, models, jobs=jobs) as work:
        for rows, measured in zip(
            places,
            watched(work(batches), "evaluating", unit="batch", total=len(places)),
            strict=True,
        ):
            _put(floats, rows, measured.output)
            for name, bounds in measured.ranges.items():
                ranges.setdefault(name, _per_channel()).update(np.stack(bounds))
            for output, total, values, found in zip(outputs, sums, measured.outputs, measured.errors, strict=True):
                _put(output, rows, values)
                total |= {name: total[name] + each if name in total else each for name, each in found.items()}

    float_bytes = sum(4 * math.prod(checkpoint.shape(name)) for name in checkpoint.names)
    return Report(
        task=task,
        n=len(examples),
        reference=inquiry.score(floats),
        reference_bytes=float_bytes,
        recipes=[
            RecipeReport(
                recipe=recipe,
                metrics=inquiry.score(output),
                cosine=float(cosines(np.stack(output), np.stack(floats)).mean()),
                bytes=stored_bytes(model),
                ratio=stored_bytes(model) / float_bytes,
                errors=[_error_of(name, each) for name, each in total.items()],
                model_digest=model.digest,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum:
    """Over some of the data, the errors of a tensor: of every stage and then the float tensor, sums of squares."""

    squared: Reals
    relative: float
    count: int

    def __add__(self, other: "_Sum") -> "_Sum":
        return _Sum(
            squared=self.squared + other.squared,
            relative=self.relative + other.relative,
            count=self.count + other.count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Of a batch: the float model's output and ranges; the output and the errors of every integer model."""

    output: Reals
    ranges: dict[str, tuple[Reals, Reals]]
    outputs: list[Reals]
    errors: list[dict[str, _Sum]]


def _measurer(path: str | Path, models: Sequence[IntegerModel]) -> Callable[[Batch], _Measured]:
    """Return what runs a batch through the float model once, and through every stage of the integer models."""
    checkpoint = open_checkpoint(path)
    weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}

    def measure(batch: Batch) -> _Measured:
        ranges: dict[str, MinMax] = {}
        outputs: list[Reals] = []
        errors: list[dict[str, _Sum]] = []
        with one_blas_thread():  # so that no bit depends on how many there are
            expected = _float_states(checkpoint, weights, batch, ranges)
            for model in models:
                found = [_states(model, batch, interpreter) for interpreter in stages(model).values()]
                outputs.append(found[-1][OUTPUT])
                errors.append(_errors(expected, found))
        return _Measured(
            output=expected[OUTPUT],
            ranges={name: estimator.range() for name, estimator in ranges.items()},
            outputs=outputs,
            errors=errors,
        )

    return measure


def _errors(expected: Mapping[str, Reals], found: Sequence[Mapping[str, Reals]]) -> dict[str, _Sum]:
    """Return the errors of a batch: ``expected`` by the float model, ``found`` by each stage."""
    sums: dict[str, _Sum] = {}
    for name in found[-1]:
        x = expected[name].astype(np.float64)
        errors = [stage[name] - x for stage in found]
        relative = np.abs(errors[-1]) / (np.abs(x) + 1e-8)
        squared = np.array([np.square(each).sum() for each in (*errors, x)])
        sums[name] = _Sum(squared=squared, relative=float(relative.sum()), count=x.size)
    return sums


def _error_of(name: str, total: _Sum) -> ErrorOf:
    """Return an error relative to the float model."""
    *errors, reference = total.squared
    squared = np.array(errors) / (reference or 1)
    parts = dict(zip(PARTS, np.diff(squared, prepend=0).tolist(), strict=True))
    return ErrorOf(name=name, relative=total.relative / total.count, squared=float(squared[-1]), parts=parts)


def _per_channel() -> MinMax:
    return MinMax(granularity=Granularity(kind="channel", axis=-1))


def _float_states(
    checkpoint: Checkpoint, weights: Mapping[str, Reals], batch: Batch, ranges: dict[str, MinMax]
) -> dict[str, Reals]:
    """Return the hidden states (tokens, C) and the output of the float model; widen ``ranges`` by its activations."""
    ids, mask, types = batch
    outline = checkpoint.outline
    seen: dict[str, Reals] = {}

    def widen(name: str, x: Reals) -> None:
        ranges.setdefault(name, _per_channel()).update(x)

    def observe(name: str, x: Reals) -> Reals:
        if name not in outline.activations or not outline.activations[name].of_token:
            return x
        seen[name], role = x[mask], outline.activations[name].role
        if role == "ffn-input":
            widen(name, seen[name])
        elif role == "residual.ffn" and (skip := outline.sums[name].skip) is not None:
            widen(outline.sums[name].terms[0], seen[name] - seen[skip])
        return x

    inputs: dict[str, Any] = {"attention_mask": mask, "token_type_ids": types}
    output = run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, observe=observe, **inputs)
    if checkpoint.head == "none":
        output = pool(output, mask, checkpoint.config.pooling)
    return {name: seen[name] for name in outline.hidden_states} | {OUTPUT: output.astype(np.float64)}


def _states(model: IntegerModel, batch: Batch, interpreter: Interpreter) -> dict[str, Reals]:
    """Return the hidden states (tokens, C) and the output of ``model`` run by ``interpreter``, as reals."""
    ids, mask, types = batch
    outline, order = model.outline, model.tensors.get("order")  # of the checkpoint's channels
    states: dict[str, Reals] = {}

    def keep(name: str, operator: Any, operands: tuple[Any, ...], constants: Mapping[str, Any]) -> Any:
        codes = interpreter(name, operator, operands, constants)
        if name in outline.hidden_states:
            form = model.formats[name]
            scale = np.repeat(form.scale.to_real(), codes.shape[-1] // form.groups)
            reals = (codes[mask].astype(np.float64) - form.offset(codes.shape[-1])) * scale
            moved = order is not None and outline.axis(outline.activations[name].axis) == outline.stream
            states[name] = np.asarray(reals[:, order] if moved else reals)
        return codes

    with interpreted_by(keep):
        result = model(ids, attention_mask=mask, token_type_ids=types)
    values: NDArray[Any] = result.values
    if model.head == "none":
        in_reals = values.dtype.kind == "f"
        values = pool(values, mask, model.config.pooling) if in_reals else pooled(model, values, mask)
    return states | {OUTPUT: np.asarray(values * result.scale.to_real())}


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
