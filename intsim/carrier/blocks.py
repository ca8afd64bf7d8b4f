# SPDX-License-Identifier: Apache-2.0
"""Rows of arrays worked on block by block, the blocks spread over threads.

A block's intermediates stay in the cache, and NumPy leaves the interpreter lock while it computes, so threads help.
Each thread does its matrix products alone: OpenBLAS's own threads wait busily after every product, on cores that the
element-wise steps need.
"""

import ctypes
import math
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib import import_module
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from intsim._trace import recording_steps

__all__ = [
    "THREADS",
    "Part",
    "all_cores",
    "blas_description",
    "cores_for",
    "in_blocks",
    "in_parts",
    "is_alone",
    "one_blas_thread",
    "one_thread",
]

THREADS: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""How many threads work; fewer where several processes share the cores, if set before the first block."""
BLOCK: Final = 1 << 18  # elements at a time: they stay in the cache, and are worth a wait for the interpreter lock
BUFFER: Final = 512  # elements; the copies that NumPy fills a larger one with cost more than the short loops they save
FEW: Final = 160  # rows of a product, which BLAS shares better between its threads than we do
OPENBLAS: Final = (("scipy_openblas", "64_"), ("scipy_openblas", ""), ("openblas", "64_"), ("openblas", ""))

_working: Final = threading.local()
_blas_lock: Final = threading.Lock()
_blas_users: list[int] = []  # the number of threads that each `one_blas_thread` still open has found


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of the threads


def in_blocks(function: Callable[..., Any], *arrays: Any, core: int = 1, rows: int | None = None) -> Any:
    """Apply a function of rows block by block over the rows of the first array.

    Parameters
    ----------
    function
        Treats each row alone, so that the split cannot change a bit; returns an array or a tuple of arrays, a row for a
        row. Called inside another call's function, it works through its blocks in order.
    arrays
        Those of at most ``core`` axes are passed whole to every call, the others broadcast over the leading axes of the
        first.
    core
        How many trailing axes make a row.
    rows
        At most so many in a block, and as many blocks for every thread; by default as many rows as BLOCK elements are.

    Returns
    -------
    ndarray or tuple of ndarray
        With the leading axes of the first array.
    """
    first = arrays[0]
    if rows is None and first.size <= BLOCK:
        return function(*arrays)
    leading, row = first.shape[: first.ndim - core], first.shape[first.ndim - core :]
    count = math.prod(leading)
    if rows is None:
        rows = max(1, BLOCK // max(1, math.prod(row)))
    else:
        threads = 1 if is_alone() else THREADS
        rounds = max(1, -(-count // (rows * threads)))
        rows = max(1, -(-count // (rounds * threads)))
    if count <= rows or recording_steps():  # one block: no thread waits for another's; steps are recorded whole
        return function(*arrays)
    split = [
        array
        if array.ndim <= core
        else np.broadcast_to(array, (*leading, *(n := array.shape[array.ndim - core :]))).reshape(count, *n)
        for array in arrays
    ]
    starts = range(0, count, rows)
    done: list[Any] = [None] * len(starts)

    def work(i: int) -> None:
        part = slice(starts[i], starts[i] + rows)
        done[i] = function(*(array if array.ndim <= core else array[part] for array in split))

    _share(work, len(starts))
    if isinstance(done[0], tuple):
        return tuple(_joined(parts, leading) for parts in zip(*done, strict=True))
    return _joined(done, leading)


def _joined(parts: Sequence[Any], leading: tuple[int, ...]) -> Any:
    whole = np.concatenate(parts)
    return whole.reshape(*leading, *whole.shape[1:])


def _share(work: Callable[[int], None], count: int) -> None:
    """Call work(0) ... work(count - 1), each from the next free thread; in order inside such a call."""
    numbers = iter(range(count))  # next() of it is one step of the interpreter: no number is given twice

    def drain() -> None:
        for number in numbers:
            work(number)

    if is_alone():
        drain()
        return

    def helper() -> None:
        with one_thread():
            drain()

    others = [_pool().submit(helper) for _ in range(min(THREADS, count) - 1)]
    try:
        helper()
    finally:
        for other in others:
            other.exception()  # wait for it
    for other in others:
        other.result()


class Part:
    """The rows that one of several threads takes through a whole computation, and its way to those of the others.

    Attributes
    ----------
    rows
        Which they are.
    """

    def __init__(self, rows: slice, number: int, ways: list[list[SimpleQueue[Any]]], axis: int) -> None:
        self.rows = rows
        self._number, self._ways, self._axis = number, ways, axis  # from each part (outer) to each

    def all_of(self, *arrays: Any) -> tuple[Any, ...]:
        """Return arrays with the rows of all threads for those with mine; all ask for the same, in one order."""
        return self._exchanged(arrays, to=range(len(self._ways)), of=range(len(self._ways)))

    def up_to_mine(self, *arrays: Any) -> tuple[Any, ...]:
        """Return the same with the rows up to the last of mine: nobody waits for later ones."""
        return self._exchanged(arrays, to=range(self._number, len(self._ways)), of=range(self._number + 1))

    def _exchanged(self, arrays: tuple[Any, ...], *, to: range, of: range) -> tuple[Any, ...]:
        for part in to:
            self._ways[self._number][part].put(arrays)
        parts = [self._ways[part][self._number].get() for part in of]
        if None in parts:
            raise _AbandonedError
        return tuple(np.concatenate(each, axis=self._axis) for each in zip(*parts, strict=True))

    def give_up(self) -> None:
        """Let nobody wait for this one any longer."""
        for way in self._ways[self._number]:
            way.put(None)


class _AbandonedError(Exception):
    """Another part has failed."""


def in_parts(
    function: Callable[[Part | None], Any], count: int, *, axis: int, first: int = 1, growth: int = 0
) -> list[Any]:
    """Run ``function`` once for each of several runs of ``count`` rows, every run in a thread of its own.

    Every run is as much work: ``first`` for the first row, and ``growth`` more for each that follows.

    Parameters
    ----------
    function
        Called with its part, or with None for all rows where one thread works.
    count
        Rows, along ``axis`` of what a part is asked for.
    first, growth
        In any unit.

    Returns
    -------
    list
        What each run gave, in the order of the rows.
    """
    threads = 1 if is_alone() else min(THREADS, count)
    if threads == 1:
        return [function(None)]
    work_of_all = count * (2 * first + growth * count) / 2
    shares = [work_of_all * i / threads for i in range(1, threads)]
    ends = [math.ceil(2 * share / (first + math.sqrt(first**2 + 2 * growth * share))) for share in shares]
    runs = [slice(start, end) for start, end in pairwise([0, *ends, count]) if start < end]
    ways = [[SimpleQueue[Any]() for _ in runs] for _ in runs]

    def work(number: int) -> tuple[Any, BaseException | None]:
        part = Part(runs[number], number, ways, axis)
        try:
            with one_thread():
                return function(part), None
        except BaseException as error:  # noqa: BLE001 - raised below, once nobody works
            part.give_up()
            return None, error

    _keep_what_is_freed()
    # a pool of its own: who waits for others must not wait for their turn
    with ThreadPoolExecutor(max(1, len(runs) - 1)) as pool:
        others = [pool.submit(work, number) for number in range(1, len(runs))]
        done = [work(0), *(other.result() for other in others)]
    errors = [error for _, error in done if error is not None]
    for error in errors:
        if not isinstance(error, _AbandonedError):
            raise error
    return [values for values, _ in done]


def _keep_what_is_freed() -> None:
    """Let the memory that arrays leave be that of the next ones, whose pages the system need not clear again.

    glibc keeps twice the size of the largest array that it has asked the system for and given back, up to 32 MB.
    """
    np.empty(31 << 20, np.uint8)


def is_alone() -> bool:
    """Say whether ``in_blocks`` works through its blocks in order."""
    return getattr(_working, "alone", False)


@contextmanager
def one_thread() -> Generator[None, None, None]:
    """Let ``in_blocks`` work through all its blocks in this thread, in order."""
    alone, size = is_alone(), np.setbufsize(BUFFER)
    _working.alone = True
    try:
        yield
    finally:
        np.setbufsize(size)
        _working.alone = alone


def cores_for(rows: int) -> AbstractContextManager[None]:
    """Return the ``with`` block of matrix products with so many rows, and of all that is done with them.

    Few rows keep a thread too short a time for it to be worth the handing over of the interpreter's lock, and each
    thread's products would prepare the whole weight for its share of them: BLAS does better on its own threads.
    """
    return _others_idle() if rows <= FEW and THREADS > 1 else one_blas_thread()


@contextmanager
def _others_idle() -> Generator[None, None, None]:
    with one_thread():
        _working.idle = True
        try:
            yield
        finally:
            _working.idle = False


@contextmanager
def all_cores() -> Generator[None, None, None]:
    """Let ``in_blocks`` share its blocks with the threads that ``cores_for`` has left idle for the sake of few rows."""
    if not getattr(_working, "idle", False):
        yield
        return
    _working.alone = _working.idle = False
    try:
        with one_blas_thread():
            yield
    finally:
        _working.alone = _working.idle = True


@cache
def _blas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return the functions that get and set the threads of NumPy's OpenBLAS, or None where it uses another BLAS."""
    library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    for prefix, suffix in OPENBLAS:
        try:
            return getattr(library, f"{prefix}_get_num_threads{suffix}"), getattr(
                library, f"{prefix}_set_num_threads{suffix}"
            )
        except AttributeError:
            continue
    return None


def blas_description() -> dict[str, Any] | None:
    """Return version, kernels and threads of NumPy's OpenBLAS, or None where it uses another BLAS."""
    library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    for prefix, suffix in OPENBLAS:
        try:
            texts = [getattr(library, f"{prefix}_get_{what}{suffix}") for what in ("config", "corename")]
            threads = getattr(library, f"{prefix}_get_num_threads{suffix}")
        except AttributeError:
            continue
        for text in texts:
            text.restype = ctypes.c_char_p
        config, kernels = (text().decode() for text in texts)
        return {"config": config.strip(), "kernels": kernels, "threads": threads()}
    return None


@contextmanager
def one_blas_thread() -> Generator[None, None, None]:
    """Keep OpenBLAS from starting threads of its own until the last of those who ask has left the ``with`` block."""
    blas = _blas()
    if blas is None:
        yield
        return
    get, set_ = blas
    with _blas_lock:
        _blas_users.append(get())
        set_(1)
    try:
        yield
    finally:
        with _blas_lock:
            set_(_blas_users.pop())  # 1, but for the last of them
