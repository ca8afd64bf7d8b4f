# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on stderr, on terminals only, and only for what takes a while."""

import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

__all__ = ["bars", "clear_bars", "counted", "counting", "watched"]

Item = TypeVar("Item")
PATIENCE: Final = 0.5
"""Seconds before a bar appears."""
TICK: Final = 0.1
"""Seconds between two looks at the time, at least."""
_wanted: Final[ContextVar[bool]] = ContextVar("wanted", default=False)
_counting: Final[ContextVar[Any]] = ContextVar("counting", default=None)


@contextmanager
def bars(wanted: bool | None) -> Generator[None]:  # noqa: FBT001 - its name says what is true
    """Want bars in the block, or none; or what is wanted around it, with None."""
    token = _wanted.set(_wanted.get() if wanted is None else wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def watched(items: Iterable[Item], doing: str, *, unit: str, total: int | None = None) -> Iterable[Item]:
    """Return ``items``, with a bar on stderr while they are taken, if one is wanted there and it takes a while.

    Parameters
    ----------
    items
        What is worked on, one after another.
    doing
        What is done with them, one word in front of the bar.
    unit
        What one of them is called.
    total
        How many there are, where ``items`` cannot say.
    """
    return _bar(items, doing, total, unit=unit) if _wanted.get() else items


@contextmanager
def counting(doing: str, *, unit: str) -> Generator[None]:
    """Show such a bar in the block, which ``counted`` moves."""
    if not _wanted.get():
        yield
        return
    with _bar(None, doing, None, unit=unit) as bar:
        token = _counting.set(bar)
        try:
            yield
        finally:
            _counting.reset(token)


def counted(total: int) -> None:
    """Move the bar of the ``counting`` around it, if there is one, by one of ``total``."""
    if (bar := _counting.get()) is not None:
        bar.total = total
        bar.update()


def _bar(items: Iterable[Any] | None, doing: str, total: int | None, *, unit: str) -> Any:
    from tqdm import tqdm  # noqa: PLC0415

    # disable: unless stderr is a terminal; miniters: what follows quick items may be slow ones
    bar: Any = tqdm(items, doing, total, unit=unit, disable=None, delay=PATIENCE, leave=False, miniters=1)
    if not bar.disable:
        threading.Thread(target=_show_time, args=(weakref.ref(bar),), daemon=True).start()
    return bar


def _show_time(bar: Callable[[], Any]) -> None:
    """Let the time beside a bar go on where one item takes long."""
    while True:
        time.sleep(max(PATIENCE, TICK))
        if (shown := bar()) is None or shown.disable:  # gone, or closed
            return
        shown.last_print_t = time.time()  # so that what is drawn is wiped away in the end
        shown.refresh()


def clear_bars() -> None:
    """Take the bars away from where something else is printed; the next item brings them back."""
    from tqdm import tqdm  # noqa: PLC0415

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.clear()
