# SPDX-License-Identifier: Apache-2.0
"""What commands read from files of texts and numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from intsim._progress import watched
from intsim.errors import IntsimError, said
from intsim.io.bounded import MAX_LINE, read_text
from intsim.io.tokenizer import read_lines

__all__ = ["calibration_texts", "read_ids", "read_texts"]


def calibration_texts(file: Path | None, size: int | None, *, running: bool = False) -> Sequence[str] | None:
    """Return the first texts, or lines of running text, of a file or of the default ones; None is all of these."""
    if file is not None:
        return read_lines(file, blank=running)[:size]
    if size is None:
        return None
    from intsim.convert import default_calibration, default_running_text  # noqa: PLC0415  brings SciPy

    return (default_running_text() if running else default_calibration())[:size]


def read_texts(path: Path) -> Iterable[str]:
    """Return the texts of a file, with a progress bar."""
    texts = read_lines(path)
    if not texts:
        msg = f"{path} must hold a text on a line, got none"
        raise IntsimError(msg)
    return watched(texts, "observing", unit="text")


def read_ids(path: Path | None) -> list[int]:
    """Return the token ids in a file."""
    words = _read_text(path).replace(",", " ").split() if path is not None else []
    if not words or not all(word.isascii() and word.isdecimal() for word in words):
        msg = f"{path} must hold token ids separated by white space or commas, got {' '.join(words)[:40]!r}"
        raise IntsimError(msg)
    if len(longest := max(words, key=len)) > 18:
        msg = f"ids in {path} must fit 64 bits, got one of {len(longest)} digits"
        raise IntsimError(msg)
    return [int(word) for word in words]


def _read_text(path: Path) -> str:
    try:
        return read_text(path, most=MAX_LINE, longest_line=MAX_LINE)
    except (OSError, ValueError) as error:
        msg = f"{path} must be a readable UTF-8 file, got {said(error)}"
        raise IntsimError(msg) from None
