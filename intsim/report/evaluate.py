# SPDX-License-Identifier: Apache-2.0
"""GLUE accuracy of an integer model, and of the float model it was made from beside it.

Floats here are metrics and the reference; the integer model's outputs stay integers until they are scored.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from tqdm import tqdm

from intsim import ops
from intsim.carrier import blocks
from intsim.convert.simulate import open_reference
from intsim.errors import IntsimError
from intsim.integer_model import IntegerModel
from intsim.io.tokenizer import Encoding, Line, encode, pad, parse_tokenizer, read_lines
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.world import run as run_floats

__all__ = [
    "TASKS",
    "Evaluation",
    "Example",
    "Task",
    "cosines",
    "encode_examples",
    "evaluate",
    "in_batches",
    "read_task",
    "score",
]

Task: TypeAlias = Literal["sst2", "cola", "stsb"]
TASKS: Final[tuple[Task, ...]] = ("sst2", "cola", "stsb")
BATCH: Final = 32

Batch: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]  # ids, mask, types
Runner: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]], NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One labelled row: a text (two for a pair) and its class or score."""

    texts: tuple[str, ...]
    target: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics as fractions of 1.

    Parameters
    ----------
    task, n
        The task and its number of examples.
    metrics, reference
        ``accuracy`` (SST-2), ``matthews`` (CoLA), ``spearman`` and ``pearson`` (STS-B) of the integer and float model.
    cosine
        Mean cosine of integer to float outputs.
    digest
        SHA-256 of the integer outputs, in the order of the data.
    """

    task: Task
    n: int
    metrics: dict[str, float]
    reference: dict[str, float] | None
    cosine: float | None
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as plain JSON values."""
        return asdict(self)


def read_task(task: Task, path: str | Path) -> list[Example]:
    """Read the examples of a GLUE task from a TAB-separated file.

    A header line names the columns (``label``, ``text_a`` or ``sentence``, ``sentence1``, ``sentence2``, ``score``).
    Without one the columns are the original data sets': CoLA source, label, mark, sentence; STS-B genre, file, year,
    id, score, sentence1, sentence2.

    Raises
    ------
    IntsimError
        If the file cannot be read or a line lacks a column.
    """
    lines = read_lines(path)
    rows = [line.split("\t") for line in lines]
    columns = {"sst2": ["label", "text_a"], "cola": ["source", "label", "mark", "sentence"]}.get(
        task, ["genre", "file", "year", "id", "score", "sentence1", "sentence2"]
    )
    header = rows[0] if rows else []
    if {"label", "score"} & set(header):
        columns, rows, lines = header, rows[1:], lines[1:]
    if task == "stsb":
        wanted = ["score", "sentence1", "sentence2"]
    else:
        wanted = ["label", "sentence" if "sentence" in columns else "text_a"]
    if not rows or not set(wanted) <= set(columns):
        msg = f"data {path} must have rows with the columns {', '.join(wanted)}, got columns {', '.join(columns)}"
        raise IntsimError(msg)
    places = [columns.index(name) for name in wanted]
    examples: list[Example] = []
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        try:
            target, *texts = (Line(row[place], line.place) for place in places)
            examples.append(Example(texts=tuple(texts), target=float(target)))
        except (IndexError, ValueError):
            msg = f"row {number} of {path} must have a number for {wanted[0]} and a text, got {row}"
            raise IntsimError(msg) from None
        if not (math.isfinite(examples[-1].target) if task == "stsb" else examples[-1].target in (0, 1)):
            allowed = "a finite number" if task == "stsb" else "0 or 1"
            msg = f"row {number} of {path} must have {allowed} for {wanted[0]}, got {target}"
            raise IntsimError(msg)
    return examples


def evaluate(
    model: IntegerModel,
    task: Task,
    examples: Sequence[Example],
    *,
    reference: str | Path | None = None,
    truncate: bool = False,
    jobs: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Score ``model`` on ``examples``.

    A model with a classifier gives classes (SST-2, CoLA) or, with one label, a score for the pair (STS-B). A model
    without one is scored on STS-B by the cosine of its mean-pooled sentences.

    Parameters
    ----------
    model
        The integer model.
    task
        Decides the metric.
    examples
        As ``read_task`` returns them.
    reference
        Hugging Face folder of the float model, run in float32 and scored the same way.
    truncate
        Whether texts that are too long are shortened instead of refused, see ``encode``.
    jobs
        Processes that run the integer model, each on its share of the cores. Any number gives the same digest.
    progress
        Whether to draw a progress bar on stderr.

    Raises
    ------
    IntsimError
        If the model's head does not fit the task, a text is too long, or the reference is invalid.
    """
    labels = None if model.head == "none" else len(model.config.labels)
    longest = model.config.longest
    encodings = encode_examples(
        task, examples, labels=labels, tokenizer=model.tokenizer, longest=longest, truncate=truncate
    )

    if jobs == 1:
        outputs = _run(partial(_run_integers, model), encodings, progress=progress)
    else:
        unused = replace(model)  # what a run has prepared stays here
        with ProcessPoolExecutor(jobs, get_context("spawn"), _keep_model, (unused, jobs)) as pool:
            outputs = _run(_run_kept_model, encodings, pool.map, progress=progress)
    targets = np.array([example.target for example in examples])
    metrics = score(task, outputs.astype(np.float64), targets, labels)
    floats = None
    if reference is not None:
        run_floats = _float_runner(reference, model)
        floats = _run(run_floats, encodings, progress=progress).astype(np.float64)
    return Evaluation(
        task=task,
        n=len(examples),
        metrics=metrics,
        reference=None if floats is None else score(task, floats, targets, labels),
        cosine=None if floats is None else float(cosines(outputs.astype(np.float64), floats).mean()),
        digest=hashlib.sha256(outputs.astype("<i4").tobytes()).hexdigest(),
    )


def encode_examples(
    task: Task,
    examples: Sequence[Example],
    *,
    labels: int | None,
    tokenizer: str | None,
    longest: int,
    truncate: bool = False,
) -> list[Encoding]:
    """Return the tokens a model reads: of each example, or of each of its texts for a model without a head.

    Parameters
    ----------
    task, examples
        As ``evaluate`` takes them.
    labels
        Of the model's classifier, None where it has none.
    tokenizer
        The text of its tokenizer.json.
    longest, truncate
        As ``encode`` takes them.

    Raises
    ------
    IntsimError
        If the head does not fit the task, there is no tokenizer, or a text is too long.
    """
    if (task == "stsb" and labels not in (None, 1)) or (task != "stsb" and labels != 2):
        needed = "no classifier, or one of a single label" if task == "stsb" else "a classifier of two labels"
        msg = f"model must have {needed} for {task}, got {'none' if labels is None else f'{labels} labels'}"
        raise IntsimError(msg)
    if tokenizer is None:
        msg = "model must carry a tokenizer to read text, got none"
        raise IntsimError(msg)
    texts = [text for each in examples for text in (each.texts if labels is None else (_joined(each.texts),))]
    parsed = parse_tokenizer(tokenizer)
    return [encode(parsed, text, longest=longest, truncate=truncate) for text in texts]


def _joined(texts: Sequence[str]) -> str:
    text = "\t".join(texts)
    return Line(text, texts[0].place) if isinstance(texts[0], Line) else text


def _float_runner(path: str | Path, model: IntegerModel) -> Runner:
    checkpoint = open_reference(path, model)
    weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}

    def run(ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]) -> NDArray[Any]:
        inputs: dict[str, Any] = {"attention_mask": mask, "token_type_ids": types}
        values = run_floats(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, **inputs)
        return mean_pooling(values, mask) if model.head == "none" else values

    return run


def in_batches(encodings: Sequence[Encoding], *, progress: bool) -> Iterator[tuple[list[int], Batch]]:
    """Yield sequences of similar length together: where they stand in ``encodings``, and their ids, mask and types."""
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
    for start in tqdm(range(0, len(order), BATCH), desc="evaluating", unit="batch", disable=not progress):
        rows = order[start : start + BATCH]
        yield rows, pad([encodings[i] for i in rows])


def _run_integers(model: IntegerModel, ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
    values = model(ids, attention_mask=mask, token_type_ids=types).values
    return ops.mean_pooling(values, mask, profile=model.profile) if model.head == "none" else values


_kept: list[IntegerModel] = []  # the model of this process, in a process of a pool


def _keep_model(model: IntegerModel, jobs: int) -> None:
    blocks.THREADS = max(1, blocks.THREADS // jobs)
    _kept[:] = [model]


def _run_kept_model(ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
    return _run_integers(_kept[0], ids, mask, types)


def _run(
    run: Runner, encodings: Sequence[Encoding], map_: Callable[..., Iterable[Any]] = map, *, progress: bool
) -> NDArray[Any]:
    """Return the outputs in the order of ``encodings``."""
    outputs: list[NDArray[Any]] = [np.empty(0)] * len(encodings)
    places, batches = zip(*in_batches(encodings, progress=False), strict=True)
    done = map_(run, *zip(*batches, strict=True))
    for rows, batch in zip(
        places, tqdm(done, "evaluating", len(places), unit="batch", disable=not progress), strict=True
    ):
        for row, output in zip(rows, batch, strict=True):
            outputs[row] = output
    return np.stack(outputs)


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each row of ``a`` with that of ``b``, 0 where one of them is 0."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.where(norms > 0, norms, 1)


def score(
    task: Task, outputs: NDArray[np.floating], targets: NDArray[np.float64], labels: int | None
) -> dict[str, float]:
    """Return the metrics of outputs, in any scale: logits, or (``labels`` None) the vectors of both texts by turns."""
    if task == "stsb":
        scores = cosines(outputs[0::2], outputs[1::2]) if labels is None else outputs[:, 0]
        return {
            "spearman": _correlation(stats.rankdata(scores), stats.rankdata(targets)),
            "pearson": _correlation(scores, targets),
        }
    predicted = outputs.argmax(axis=-1)
    if task == "sst2":
        return {"accuracy": float((predicted == targets).mean())}
    return {"matthews": _correlation(predicted, targets)}


def _correlation(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return Pearson's correlation, or 0 where one side is constant, as scikit-learn defines it for Matthews'."""
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
