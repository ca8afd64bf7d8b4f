# SPDX-License-Identifier: Apache-2.0
"""Edits drawn by chance, of the kinds of damage that readers stumble over."""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from fuzz.edits import HOSTILE, Edit, Files, Path, parent_of

SCRAPS: Final = ("-1 0 nan 1e999 = # true {} ''' \" \x1b[2J é \U0001f600 " + "9" * 30 + " " + "9" * 5000).split(" ")
SPACES: Final = ("", "\0", "\t", "\n", "\r", "\ufeff", "[" * 200, "x" * 100_000, "f" * 20)
FLOATS: Final = ("00", "ff", "80", "7f", "007e", "00fc", "ff7b", "ffffff7f", "00000080", "f" * 16, "017c", "0100807f")
SIZES: Final = ("00" * 8, "0100000000000000", "ff" * 8, "ffe0f50500000000")  # of a header: 0, 1, all, the largest
NAMES: Final = ("a\nb", "", "\u2028", "x" * 600, "__metadata__", "\ud800")


def draw(rng: Random, files: Files, targets: Sequence[Path]) -> list[Edit]:
    """Return one to four edits of the targets: each a file, and where in its tree the edits are to stay."""
    edits = list[Edit]()
    for _ in range(1 + min(3, int(rng.expovariate(1.2)))):
        file, *under = rng.choice(targets)
        content = files[file]
        if rng.random() < (0.1 if under else 0.2):
            edits.append([file, *_of_bytes(rng)])
        elif isinstance(content, str):
            edits.append([file, *_of_text(rng)])
        else:
            edits.append([file, *_of_tree(rng, content, under)])
    return edits


def _of_bytes(rng: Random) -> Edit:
    place = rng.choice((rng.randrange(16), rng.randrange(1 << 20)))
    pattern = rng.choice(("00" * 8, "ff" * 8, rng.randbytes(rng.randrange(1, 9)).hex()))
    return rng.choice(
        (
            ["flip", rng.choice((rng.randrange(128), rng.randrange(1 << 23)))],
            ["cut", place],
            ["append", pattern],
            ["overwrite", place, pattern],
            ["overwrite", 0, rng.choice(SIZES)],
            ["encode", rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp037"))],
            ["times", rng.choice((0, 2, 5))],
        )
    )


def _of_text(rng: Random) -> Edit:
    operation = rng.choice(("word", "word", "insert", "line"))
    what = rng.choice((0, 2, 20)) if operation == "line" else rng.choice((*SCRAPS, *SPACES))
    return [operation, rng.randrange(1 << 20), what]


def _of_tree(rng: Random, tree: Any, under: Path) -> Edit:
    path, value = _place(rng, tree, under)
    if isinstance(value, bytes):
        if rng.random() < 0.2:
            return ["resize", path, rng.choice((0, max(0, len(value) - 1), len(value) + 1, 2 * len(value)))]
        return ["bytes", path, rng.randrange(1 << 20), rng.choice(FLOATS) * rng.choice((1, 2, 8, 64))]
    numbers = [-1, 0, 1, 2, 8, 16, 31, 62, 64, 2**31 - 1]
    if type(value) is int:
        numbers += [value + 1, value - 1, -value, 2 * value, value // 2, value + 2**32]
    name = rng.choice([*HOSTILE])
    return rng.choice(
        (
            ["set", path, name],
            ["set", path, name],
            ["put", path, rng.choice(numbers)],
            ["put", path, rng.choice(numbers)],
            ["copy", path, _place(rng, tree, under)[0]],
            ["drop", path],
            ["set", [*path[:-1], f"new {rng.randrange(9)}"], name],
            ["rename", path, rng.choice(NAMES)],
        )
    )


def _place(rng: Random, tree: Any, under: Path) -> tuple[list[Any], Any]:
    path, value = [*under], parent_of(tree, [*under, None])
    while isinstance(value, (dict, list)) and value and (len(path) == len(under) or rng.random() < 0.85):
        keys = [*value] if isinstance(value, dict) else range(len(value))
        key = "data" if "data" in keys and rng.random() < 0.5 else rng.choice(keys)
        path.append(key)
        value = value[key]
    return path, value
