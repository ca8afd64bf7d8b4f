# SPDX-License-Identifier: Apache-2.0
"""Progress bars: on stderr, on terminals only, and only for what takes a while."""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

__all__ = ["clear_bars", "watched"]

Item = TypeVar("Item")
PATIENCE: Final = 1.0
"""Seconds before a bar appears."""


def watched(
    items: Iterable[Item], doing: str, *, unit: str, total: int | None = None, shown: bool = True
) -> Iterable[Item]:
    """Return ``items``, with a bar on stderr while they are taken, if it is a terminal and it takes a while.

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
    shown
        Whether a bar is wanted at all.
    """
    from tqdm import tqdm  # noqa: PLC0415

    quiet: Any = None if shown else True  # None: unless stderr is a terminal
    # miniters: what follows quick items may be slow ones
    return tqdm(items, doing, total, unit=unit, disable=quiet, delay=PATIENCE, leave=False, miniters=1)


def clear_bars() -> None:
    """Take the bars away from where something else is printed; the next item brings them back."""
    from tqdm import tqdm  # noqa: PLC0415

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.clear()
