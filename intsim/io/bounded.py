# SPDX-License-Identifier: Apache-2.0
"""Files that anyone may have written, read within limits that are checked before memory is taken.

What breaks a limit raises a ValueError that reads on after "got"; the readers of each kind of file make their sentence
of it.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from intsim.errors import IntsimError

__all__ = [
    "MAX_DATA",
    "MAX_JSON",
    "MAX_LINE",
    "MAX_RECIPE",
    "bounded_lines",
    "check_depth",
    "parse_json",
    "read_json",
    "read_text",
    "standard_input",
]

MAX_JSON: Final = 1 << 26
"""Bytes of a JSON file: the largest tokenizer.json in use has half as many, SQuAD's training set 30 MB."""
MAX_DATA: Final = 1 << 28
"""Bytes of a file of texts: the largest one of GLUE has 80 MB."""
MAX_RECIPE: Final = 1 << 20
"""Bytes of a recipe: the presets have 1 or 2 KB, one with a rule for every tensor of a large model 100 KB."""
MAX_LINE: Final = 1 << 20
"""Bytes of a line, one text or pair: more tokens than any model reads."""
MAX_DEPTH: Final = 64
"""Objects and lists inside each other: no file of a checkpoint has ten."""
MAX_CONTAINERS: Final = 1 << 22
"""Objects and lists of a JSON text, brackets inside strings included: SQuAD's training set has 400,000."""
MAX_DIGITS: Final = 40
"""Digits of a whole number: transformers writes 10**30 for no limit."""

BLOCK: Final = 1 << 20
SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(
    path: str | Path, *, most: int, longest_line: int | None = None, encoding: str = "utf-8", newline: str | None = None
) -> str:
    r"""Return the text of a file of at most ``most`` bytes, in lines of at most ``longest_line``.

    Parameters
    ----------
    newline
        ``""`` leaves the ends of lines as they are; by default ``\r\n`` and ``\r`` become ``\n``.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it breaks a limit or its encoding.
    """
    parts: list[bytes] = []
    size = 0
    with Path(path).open("rb") as file:
        blocks = iter(lambda: file.read(BLOCK), b"") if longest_line is None else bounded_lines(file, longest_line)
        for part in blocks:
            size += len(part)
            if size > most:
                msg = f"more than {most} bytes"
                raise ValueError(msg)
            parts.append(part)
    text = b"".join(parts).decode(encoding)
    return text if newline == "" else text.replace("\r\n", "\n").replace("\r", "\n")


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises
    ------
    IntsimError
        If it is closed.
    """
    if sys.stdin is None:  # type: ignore[reportUnnecessaryComparison]  it is, where descriptor 0 was closed
        msg = "standard input must be open to be read, got a closed one"
        raise IntsimError(msg)
    return sys.stdin.buffer


def bounded_lines(file: BinaryIO, longest: int = MAX_LINE, *, first: int = 1) -> Iterator[bytes]:
    r"""Yield the lines of a stream with their ``\n``, numbered from ``first`` where one is refused.

    Raises
    ------
    ValueError
        If a line has more than ``longest`` bytes.
    """
    for number, line in enumerate(iter(lambda: file.readline(longest + 1), b""), start=first):
        if len(line) > longest:
            msg = f"a line {number} of more than {longest} bytes"
            raise ValueError(msg)
        yield line


def read_json(path: str | Path) -> Any:
    """Return the values in a JSON file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it breaks a limit or is no JSON.
    """
    return parse_json(read_text(path, most=MAX_JSON, encoding="utf-8-sig", newline=""))


def parse_json(text: str) -> Any:
    """Return the values in a JSON text.

    Raises
    ------
    ValueError
        If it breaks a limit or is no JSON.
    """
    if text.count("[") + text.count("{") > MAX_CONTAINERS:
        msg = f"JSON of more than {MAX_CONTAINERS} lists and objects"
        raise ValueError(msg)
    try:
        value: Any = json.loads(text)
    except RecursionError:
        raise ValueError(_DEEP) from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's own limit, 4300 digits
        raise ValueError(_LONG) from None
    check_depth(value)
    if SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            msg = "half of a character, a lone surrogate"
            raise ValueError(msg) from None
    return value


def check_depth(value: Any) -> None:
    """Refuse parsed values that are nested too deep, or a number among them that is too long.

    Raises
    ------
    ValueError
        If one is.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(type(each) is int and abs(each) >= 10**MAX_DIGITS for each in level):
            raise ValueError(_LONG)
        inner = [cast("dict[str, Any]", each).values() for each in level if isinstance(each, dict)]
        inner += [cast("list[Any]", each) for each in level if isinstance(each, list)]
        level = [each for values in inner for each in values]
        if not inner:
            return
    raise ValueError(_DEEP)


_DEEP: Final = f"lists or objects nested deeper than {MAX_DEPTH}"
_LONG: Final = f"a number of more than {MAX_DIGITS} digits"
