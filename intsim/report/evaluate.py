# SPDX-License-Identifier: Apache-2.0
"""What an integer model scores on a task, and what the float model it was made from scores beside it.

Floats here are metrics and the reference; the integer model's outputs stay integers until they are scored.
"""

import hashlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import repeat
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from intsim._progress import bars, watched
from intsim.carrier import blocks
from intsim.carrier.exact import Integers
from intsim.convert.simulate import open_reference
from intsim.errors import IntsimError, ResourceError
from intsim.integer_model import IntegerModel
from intsim.io.tokenizer import Encoding, pad, parse_tokenizer
from intsim.models.functions import pooling_operator
from intsim.models.world import Head
from intsim.reference.ops.pool import pool
from intsim.reference.world import run as run_floats
from intsim.report.tasks import Task, glue, language, masked, squad, tagging
from intsim.report.tasks.glue import Example, cosines
from intsim.report.tasks.inquiry import Batch, Inquiry, Method, Reader, Runner, Unit

__all__ = [
    "Evaluation",
    "Example",
    "evaluate",
    "evaluate_runner",
    "in_batches",
    "in_processes",
    "pooled",
    "prepare",
    "read_task",
    "reader",
]

BATCH: Final = 32
AT_ONCE: Final = 1 << 22
"""Logits that are made float64 together."""

T = TypeVar("T")
Work: TypeAlias = Callable[[Iterable[Batch]], Iterable[T]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics as fractions of 1, and perplexities.

    Parameters
    ----------
    task, n
        The task and its number of examples.
    metrics, reference
        Of the integer and of the float model: ``accuracy`` (SST-2, MNLI, QNLI, RTE), ``accuracy`` and ``f1`` (MRPC,
        QQP), ``matthews`` (CoLA), ``spearman`` and ``pearson`` (STS-B), ``exact_match`` and ``f1`` (SQuAD),
        ``precision``, ``recall``, ``f1`` and ``accuracy`` (token classification), ``perplexity`` and how many
        ``tokens`` it is of (language models), ``accuracy`` (LAMBADA).
    cosine
        Mean cosine of integer to float outputs: of the logits of a sequence, of those of a token (token classification,
        masked tokens, language models), or of those of a window's starts and of its ends (SQuAD).
    digest
        SHA-256 of the integer outputs, int32 little-endian, in the order of the data; of a language model, of the
        SHA-256 of each text's or window's.
    model_digest
        The integer model's own digest, where it was one that ran.
    """

    task: Task
    n: int
    metrics: dict[str, float]
    reference: dict[str, float] | None
    cosine: float | None
    digest: str
    model_digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as plain JSON values."""
        return asdict(self)


def read_task(task: Task, path: str | Path) -> Sequence[Any]:
    """Read the examples of a task from a file in its original layout, see ``intsim.report.tasks``.

    Raises
    ------
    IntsimError
        If the file cannot be read or is laid out otherwise.
    """
    match task:
        case "squad":
            return squad.read(path)
        case "ner":
            return tagging.read(path)
        case "mlm":
            return masked.read(path)
        case "perplexity":
            return language.read_lines(path)
        case "lambada":
            return language.read_texts(path)
        case _:
            return glue.read(task, path)


def prepare(
    task: Task, examples: Sequence[Any], reader: Reader, *, window: int | None = None, stride: int | None = None
) -> Inquiry:
    """Return what a task asks of a model.

    Parameters
    ----------
    task, examples
        As ``evaluate`` takes them.
    reader
        What the model brings along.
    window, stride
        Of ``perplexity``, see ``language.prepare_perplexity``.

    Raises
    ------
    IntsimError
        If the head does not fit the task, or a text is too long.
    """
    match task:
        case "squad":
            inquiry = squad.prepare(examples, reader)
        case "ner":
            inquiry = tagging.prepare(examples, reader)
        case "mlm":
            inquiry = masked.prepare(examples, reader)
        case "perplexity":
            inquiry = language.prepare_perplexity(examples, reader, window=window, stride=stride)
        case "lambada":
            inquiry = language.prepare_last_words(examples, reader)
        case _:
            inquiry = glue.prepare(task, examples, reader)
    return replace(inquiry, pad_id=reader.pad_id)


def reader(
    *,
    head: Head,
    labels: Sequence[str],
    tokenizer: str | None,
    longest: int,
    truncate: bool = False,
    pad_id: int = 0,
) -> Reader:
    """Return what a model brings along to read a task.

    Parameters
    ----------
    head
        What the model ends in.
    labels
        Names of its logits.
    tokenizer
        The text of its tokenizer.json.
    longest, truncate
        As ``encode`` takes them.
    pad_id
        What batches are padded with.

    Raises
    ------
    IntsimError
        If there is no tokenizer.
    """
    if tokenizer is None:
        msg = "model must carry a tokenizer to read text, got none"
        raise IntsimError(msg)
    parsed = parse_tokenizer(tokenizer)
    return Reader(head=head, labels=labels, tokenizer=parsed, longest=longest, truncate=truncate, pad_id=pad_id)


def evaluate(
    model: IntegerModel,
    task: Task,
    examples: Sequence[Any],
    *,
    reference: str | Path | None = None,
    truncate: bool = False,
    window: int | None = None,
    stride: int | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Score ``model`` on ``examples``.

    A model with a classifier gives classes or, with one label, a score for the pair (STS-B). A model without one is
    scored on STS-B by the cosine of its sentences, pooled as its checkpoint says, and so is one that embeds sentences.

    Parameters
    ----------
    model
        The integer model.
    task
        Decides what is asked of the model, and the metrics.
    examples
        As ``read_task`` returns them.
    reference
        Hugging Face folder of the float model, run in float32 and scored the same way.
    truncate
        Whether texts that are too long are shortened instead of refused, see ``encode``; contexts of questions are cut
        into windows in any case.
    window, stride
        As ``prepare`` takes them.
    jobs
        Processes that run the models, each on its share of the cores. Any number gives the same evaluation.
    progress
        Whether to draw a progress bar on stderr.

    Raises
    ------
    IntsimError
        If the model's head does not fit the task, a text is too long, or the reference is invalid.
    """
    inquiry = prepare(
        task,
        examples,
        reader(
            head=model.head,
            labels=model.config.labels,
            tokenizer=model.tokenizer,
            longest=model.config.longest,
            truncate=truncate,
            pad_id=model.config.pad_token_id,
        ),
        window=window,
        stride=stride,
    )
    if reference is not None:
        open_reference(reference, model)  # is refused here, not in a process
    with bars(progress or None), in_processes(_answerer, model, reference, inquiry.method, jobs=jobs) as work:
        result = _gather(task, examples, inquiry, work)
    return replace(result, model_digest=model.digest)


def evaluate_runner(
    task: Task,
    examples: Sequence[Any],
    inquiry: Inquiry,
    run: Runner,
    *,
    unit: Unit | float = 1.0,
    reference: Runner | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score whatever runs batches as ``evaluate`` scores a model.

    Parameters
    ----------
    task, examples
        As ``evaluate`` takes them.
    inquiry
        As ``prepare`` returns it for them.
    run
        From ids, mask and types, each (B, T), to integer outputs: logits (B, labels), (B, T, labels), of starts and
        ends (B, T, 2), or of the vocabulary (B, T, V); or pooled sentences (B, C).
    unit
        What 1 is in these integers.
    reference
        The same for the float model's outputs.
    progress
        Whether to draw a progress bar on stderr.
    """
    work = partial(map, partial(_answer, inquiry.method, run, np.float64(unit), reference))
    with bars(progress or None):
        return _gather(task, examples, inquiry, work)


@contextmanager
def in_processes(build: Callable[..., Callable[[Batch], T]], *arguments: Any, jobs: int) -> Generator[Work[T]]:
    """Let ``build(*arguments)`` work on batches, in this process or in ``jobs`` that have each built their own.

    Yields
    ------
    Callable
        From batches to results, in their order.

    Raises
    ------
    ResourceError
        If a process was killed.
    """
    if jobs == 1:
        yield partial(map, build(*arguments))
        return
    others = set(active_children())
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (jobs, build, *arguments))
    try:
        yield partial(pool.map, _work_here)
    except BaseException as error:
        for process in set(active_children()) - others:  # the pool forgets one that it was starting, and waits for it
            process.terminate()
        if not isinstance(error, (BrokenProcessPool, BrokenPipeError)):
            raise
        msg = f"each of {jobs} processes must live until its work is done, got one that was killed; take fewer --jobs"
        raise ResourceError(msg) from None
    finally:
        pool.shutdown(cancel_futures=True)


_here: list[Callable[[Batch], Any]] = []  # what works on batches, in a process of a pool


def _begin(jobs: int, build: Callable[..., Callable[[Batch], Any]], *arguments: Any) -> None:
    logging.getLogger("intsim.io.huggingface").disabled = True  # the parent opens the same files and has said it
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends all processes at once; the parent speaks
    threading.Thread(target=_end_with_parent, daemon=True).start()
    blocks.THREADS = max(1, blocks.THREADS // jobs)

    def first(batch: Batch) -> Any:  # what cannot be built is refused by the work, whose errors reach the caller
        _here[:] = [build(*arguments)]
        return _here[0](batch)

    _here[:] = [first]


def _end_with_parent() -> None:
    """Wait for the parent's end, however it ends: nobody else would tell this process that there is no more work."""
    if (parent := parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work_here(batch: Batch) -> Any:
    return _here[0](batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What is left of a sequence's outputs; nothing of the float model's where there is none."""

    kept: NDArray[Any]
    bytes: bytes
    reference: NDArray[Any]
    cosines: NDArray[np.float64]


def _answer(method: Method, run: Runner, unit: Unit, reference: Runner | None, batch: Batch) -> list[_Answer]:
    """Run a batch, a sequence's outputs at a time where there are many of them."""
    answers: list[_Answer] = []
    nothing = np.empty(0)
    beside = repeat(nothing) if reference is None else method.ask(reference, batch)
    for ids, mask, values, reals in zip(*batch[:2], method.ask(run, batch), beside, strict=False):
        raw = values.astype("<i4").tobytes()
        own = ids[mask]
        answers.append(
            _Answer(
                kept=method.keep(values, unit, own),
                bytes=hashlib.sha256(raw).digest() if method.hashed else raw,
                reference=nothing if reference is None else method.keep(reals, np.float64(1), own),
                cosines=nothing if reference is None else _cosines(values, reals),
            )
        )
    return answers


def _cosines(values: NDArray[Any], reals: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine of each row, some rows at a time where they are long."""
    parts = (np.array_split(np.atleast_2d(each), 1 + values.size // AT_ONCE) for each in (values, reals))
    return np.concatenate([cosines(*(part.astype(np.float64) for part in pair)) for pair in zip(*parts, strict=True)])


def _answerer(model: IntegerModel, reference: str | Path | None, method: Method) -> Callable[[Batch], list[_Answer]]:
    unit = model.output_format.scale.to_real()
    floats = None if reference is None else _float_runner(reference, model)
    return partial(_answer, method, partial(_run_integers, model), unit, floats)


def _gather(task: Task, examples: Sequence[Any], inquiry: Inquiry, work: Work[list[_Answer]]) -> Evaluation:
    places, batches = zip(*in_batches(inquiry.encodings, pad_id=inquiry.pad_id), strict=True)
    done = work(batches)
    found: dict[int, _Answer] = {}
    for rows, answers in zip(places, watched(done, "evaluating", unit="batch", total=len(places)), strict=True):
        found |= zip(rows, answers, strict=True)
    ordered = [found[i] for i in range(len(inquiry.encodings))]
    every = np.concatenate([np.atleast_1d(each.cosines) for each in ordered])
    return Evaluation(
        task=task,
        n=len(examples) - (examples[-1] == ""),  # what follows the end of a text's last line is none
        metrics=inquiry.score([each.kept for each in ordered]),
        reference=inquiry.score([each.reference for each in ordered]) if every.size else None,
        cosine=float(every.mean()) if every.size else None,
        digest=hashlib.sha256(b"".join(each.bytes for each in ordered)).hexdigest(),
    )


def _float_runner(path: str | Path, model: IntegerModel) -> Runner:
    checkpoint = open_reference(path, model)
    weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}

    def run(ids: NDArray[np.int64], mask: NDArray[np.bool_], types: NDArray[np.int64]) -> NDArray[Any]:
        with blocks.one_blas_thread():  # so that no bit depends on how many there are
            values = run_floats(
                checkpoint.family,
                weights,
                checkpoint.config,
                checkpoint.head,
                ids,
                attention_mask=mask,
                token_type_ids=types,
            )
        return pool(values, mask, model.config.pooling) if model.head == "none" else values

    return run


def in_batches(encodings: Sequence[Encoding], *, pad_id: int) -> Iterator[tuple[list[int], Batch]]:
    """Yield sequences of similar length together: where they stand in ``encodings``, and their ids, mask and types."""
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i].ids))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield rows, pad([encodings[i] for i in rows], pad_id=pad_id)


def _run_integers(model: IntegerModel, ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
    values = model(ids, attention_mask=mask, token_type_ids=types).values
    return pooled(model, values, mask) if model.head == "none" else values


def pooled(model: IntegerModel, values: Integers, mask: NDArray[np.bool_]) -> Integers:
    """Return the hidden states (B, T, C) of a model without a head pooled as its configuration says, (B, C)."""
    operator, constants = pooling_operator(model.config.pooling, model.profile)
    return operator(values, mask, **constants)
