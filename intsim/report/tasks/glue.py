# SPDX-License-Identifier: Apache-2.0
"""GLUE (Wang et al. 2019): TAB-separated sentences and pairs of them, a class or a score for each.

Files are read as they are distributed: UTF-8, split at every TAB, quotes are text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from intsim.errors import IntsimError
from intsim.io.tokenizer import Line, encode
from intsim.report.tasks import GlueTask
from intsim.report.tasks.inquiry import NAMES, Inquiry, Method, Reader, data_lines

__all__ = ["FORMS", "Example", "Form", "cosines", "model_targets", "prepare", "read", "score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One labelled row: a text (two for a pair) and its score or the number of its class."""

    texts: tuple[str, ...]
    target: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a task is laid out and scored.

    Parameters
    ----------
    target
        Column of the class or score.
    texts
        Columns of the text, or of both texts of a pair.
    labels
        How many classes there are; one for a score.
    names
        What stands for them in GLUE's order, where it is not their number.
    metrics
        Names of the metrics.
    columns
        Of a file without a header line, where there is such.
    """

    target: str
    texts: tuple[str, ...]
    labels: int = 2
    names: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    columns: tuple[str, ...] = ()


FORMS: Final[Mapping[GlueTask, Form]] = {
    "sst2": Form(target="label", texts=("text_a",), columns=("label", "text_a")),
    "cola": Form(
        target="label", texts=("sentence",), metrics=("matthews",), columns=("source", "label", "mark", "sentence")
    ),
    "stsb": Form(
        target="score",
        texts=("sentence1", "sentence2"),
        labels=1,
        metrics=("spearman", "pearson"),
        columns=("genre", "file", "year", "id", "score", "sentence1", "sentence2"),
    ),
    "mrpc": Form(target="Quality", texts=("#1 String", "#2 String"), metrics=("accuracy", "f1")),
    "qqp": Form(target="is_duplicate", texts=("question1", "question2"), metrics=("accuracy", "f1")),
    "mnli": Form(
        target="gold_label",
        texts=("sentence1", "sentence2"),
        labels=3,
        names=("entailment", "neutral", "contradiction"),
    ),
    "qnli": Form(target="label", texts=("question", "sentence"), names=("entailment", "not_entailment")),
    "rte": Form(target="label", texts=("sentence1", "sentence2"), names=("entailment", "not_entailment")),
}
HEAD: Final = {
    1: "no classifier, or one of a single label",
    2: "a classifier of two labels",
    3: "a classifier of three labels",
}


def read(task: GlueTask, path: str | Path) -> list[Example]:
    """Read the examples of a task.

    A header line names the columns, those of ``FORMS`` among others (SST-2's text may be called ``sentence``). SST-2,
    CoLA and STS-B may come without one; the columns are then the original data sets'.

    Raises
    ------
    IntsimError
        If the file cannot be read, or a line lacks a column or has another class.
    """
    form = FORMS[task]
    lines = [line for line in data_lines(path) if line.strip()]
    rows = [line.split("\t") for line in lines]
    columns: Sequence[str] = form.columns
    if rows and (form.target in rows[0] or not columns):
        columns, rows, lines = rows[0], rows[1:], lines[1:]
    wanted = (form.target, *(("sentence",) if task == "sst2" and "sentence" in columns else form.texts))
    if not rows or not set(wanted) <= set(columns):
        got = f"columns {', '.join(columns)}" if rows else "no row"
        msg = f"data {path} must have rows with the columns {', '.join(wanted)}, got {got}"
        raise IntsimError(msg)
    places = [columns.index(name) for name in wanted]
    examples: list[Example] = []
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        try:
            target, *texts = (row[place] for place in places)
            value = float(form.names.index(target) if form.names else target)
        except (IndexError, ValueError):
            allowed = f"one of {', '.join(form.names)}" if form.names else "a number"
            msg = f"row {number} of {path} must have {allowed} for {form.target} and a text, got {row}"
            raise IntsimError(msg) from None
        if not (math.isfinite(value) if form.labels == 1 else value in range(form.labels)):
            allowed = "a finite number" if form.labels == 1 else "0 or 1"
            msg = f"row {number} of {path} must have {allowed} for {form.target}, got {target}"
            raise IntsimError(msg)
        examples.append(Example(texts=tuple(Line(text, line.place) for text in texts), target=value))
    return examples


def prepare(task: GlueTask, examples: Sequence[Example], reader: Reader) -> Inquiry:
    """Return what a task asks of a model: each example, or each of its texts for a model without a classifier.

    Raises
    ------
    IntsimError
        If the model's head or number of labels does not fit the task, or a text is too long.
    """
    needed = FORMS[task].labels
    labels = len(reader.labels) if reader.head == "sequence-classification" else None
    if labels != needed and not (task == "stsb" and reader.head in ("none", "sentence-embedding")):
        got = f"{labels} labels" if labels is not None else "none" if reader.head == "none" else NAMES[reader.head]
        msg = f"model must have {HEAD[needed]} for {task}, got {got}"
        raise IntsimError(msg)
    texts = [text for each in examples for text in (each.texts if labels is None else (_together(each.texts),))]
    expected = model_targets(task, examples, reader.labels)
    return Inquiry(
        encodings=[encode(reader.tokenizer, text, longest=reader.longest, truncate=reader.truncate) for text in texts],
        method=Method(),
        score=lambda outputs: score(task, np.stack(outputs).astype(np.float64), expected, labels),
    )


def _together(texts: Sequence[str]) -> str:
    """Return the texts as ``encode`` reads them, from where the first was read."""
    joined = "\t".join(texts)
    return Line(joined, texts[0].place) if isinstance(texts[0], Line) else joined


def model_targets(task: GlueTask, examples: Sequence[Example], labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the scores, or the classes as the model numbers them, (examples,).

    Where the classes have names (MNLI, QNLI, RTE) and the model's labels are these names, upper or lower case, they say
    which logit is whose. Other labels (``LABEL_0``) are taken in GLUE's order: entailment, neutral, contradiction;
    entailment, not_entailment.
    """
    names, own = FORMS[task].names, [label.lower() for label in labels]
    values = np.array([example.target for example in examples])
    if sorted(names) != sorted(own):
        return values
    return np.array([float(own.index(name)) for name in names])[values.astype(np.int64)]


def score(
    task: GlueTask, outputs: NDArray[np.floating], targets: NDArray[np.float64], labels: int | None
) -> dict[str, float]:
    """Return the metrics of outputs, in any scale: logits, or (``labels`` None) the vectors of both texts by turns.

    F1 is that of class 1, and 0 where it is neither given nor predicted.
    """
    if task == "stsb":
        scores = cosines(outputs[0::2], outputs[1::2]) if labels is None else outputs[:, 0]
        return {
            "spearman": _correlation(stats.rankdata(scores), stats.rankdata(targets)),
            "pearson": _correlation(scores, targets),
        }
    predicted = outputs.argmax(axis=-1)
    if task == "cola":
        return {"matthews": _correlation(predicted, targets)}
    metrics = {"accuracy": float((predicted == targets).mean())}
    if "f1" in FORMS[task].metrics:
        hits = ((predicted == 1) & (targets == 1)).sum()
        positives = (predicted == 1).sum() + (targets == 1).sum()
        metrics["f1"] = float(2 * hits / max(positives, 1))
    return metrics


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each row of ``a`` with that of ``b``, 0 where one of them is 0."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.where(norms > 0, norms, 1)


def _correlation(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return Pearson's correlation, or 0 where one side is constant, as scikit-learn defines it for Matthews'."""
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
