# SPDX-License-Identifier: Apache-2.0
"""What is done to files: a list of edits that says so in JSON, so that it can be kept, shortened and done again.

An edit is ``[file, operation, *arguments]``. Files of JSON and containers are trees (dict, list, scalar, bytes) until they
are written, others are text; what is done to bytes is done to the file as written. An edit that finds nothing to change
changes nothing: edits stay good when others before them are left out.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

Edit: TypeAlias = list[Any]
Files: TypeAlias = dict[str, Any]

HOSTILE: Final[Mapping[str, str]] = {
    "null": "null",
    "true": "true",
    "empty object": "{}",
    "empty list": "[]",
    "empty text": '""',
    "zero": "0",
    "minus one": "-1",
    "half": "0.5",
    "eight point zero": "8.0",
    "text of a number": '"8"',
    "one": "1",
    "255": "255",
    "2**15": str(2**15),
    "2**31": str(2**31),
    "2**62": str(2**62),
    "2**63": str(2**63),
    "-2**63": str(-(2**63)),
    "2**64": str(2**64),
    "forty digits": "9" * 40,
    "5000 digits": "9" * 5000,
    "not a number": "NaN",
    "infinity": "Infinity",
    "1e999": "1e999",
    "list of numbers": "[1,2]",
    "nested list": "[[1],[2]]",
    "object": '{"a":1}',
    "same key twice": '{"a":1,"a":2}',
    "long list": f"[{','.join('0' * 10_000)}]",
    "long text": f'"{"x" * 100_000}"',
    "lines": r'"a\nintsim: b\r\nTraceback"',
    "escapes": r'"\u001b[2J\u202e\u0007"',
    "nul": r'"\u0000"',
    "half a character": r'"\ud800"',
    "formats": '"%s {0} {} %(x)d"',
    "path": '"../../../etc/passwd"',
    "deep list": "[" * 60 + "]" * 60,
    "deeper list": "[" * 5000 + "]" * 5000,
    "deep object": '{"a":' * 5000 + "1" + "}" * 5000,
    "no JSON": "x",
    "no end": '{"a":[',
}
"""Name -> JSON, or what stands in its place."""
SCRAPS: Final = ("", "-1", "0", "9" * 30, "9" * 5000, "nan", "1e999", "\0", "\t", "\n", "\r", "\ufeff", "é", "\U0001f600")
SCRAPS_MORE: Final = ("[" * 200, "'" * 3, '"', "x" * 100_000, "=", "#", "ffffffffffffffffffff", "\x1b[2J", "true", "{}")
WORD: Final = re.compile(r"[\w.+-]+|\s+|.", re.DOTALL)


def dumps(tree: Any) -> str:
    """Return a tree as JSON, hostile values as what they stand for."""
    text = json.dumps(tree, separators=(",", ":"), default=bytes.hex)
    return re.sub(r'"\\u0001(.*?)"', lambda found: HOSTILE[found[1]], text)


def _hostile(name: str) -> str:
    return f"\u0001{name}"


# ---- on trees and text


def _parent(tree: Any, path: Sequence[Any]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def _set(tree: Any, path: Sequence[Any], name: str) -> None:
    _parent(tree, path)[path[-1]] = _hostile(name)


def _put(tree: Any, path: Sequence[Any], value: Any) -> None:
    _parent(tree, path)[path[-1]] = value


def _drop(tree: Any, path: Sequence[Any]) -> None:
    del _parent(tree, path)[path[-1]]


def _copy(tree: Any, path: Sequence[Any], source: Sequence[Any]) -> None:
    _parent(tree, path)[path[-1]] = copy.deepcopy(_parent(tree, source)[source[-1]])


def _rename(tree: Any, path: Sequence[Any], name: str) -> None:
    parent = _parent(tree, path)
    parent[_hostile(name) if name in HOSTILE else name] = parent.pop(path[-1])


def _bytes(tree: Any, path: Sequence[Any], place: int, pattern: str) -> None:
    data = bytearray(_parent(tree, path)[path[-1]])
    new = bytes.fromhex(pattern)
    place %= max(1, len(data) - len(new) + 1)
    data[place : place + len(new)] = new
    _parent(tree, path)[path[-1]] = bytes(data)


def _resize(tree: Any, path: Sequence[Any], size: int) -> None:
    data = _parent(tree, path)[path[-1]]
    _parent(tree, path)[path[-1]] = data[:size] + bytes(max(0, size - len(data)))


TREE: Final[Mapping[str, Callable[..., None]]] = {
    "set": _set,
    "put": _put,
    "drop": _drop,
    "copy": _copy,
    "rename": _rename,
    "bytes": _bytes,
    "resize": _resize,
}


def _word(text: str, number: int, new: str) -> str:
    words = WORD.findall(text)
    words[number % len(words)] = new
    return "".join(words)


def _lines(text: str, number: int, times: int) -> str:
    lines = text.splitlines(keepends=True)
    number %= len(lines)
    return "".join([*lines[:number], *lines[number : number + 1] * times, *lines[number + 1 :]])


def _insert(text: str, place: int, new: str) -> str:
    place %= len(text) + 1
    return text[:place] + new + text[place:]


TEXT: Final[Mapping[str, Callable[..., str]]] = {"word": _word, "line": _lines, "insert": _insert}
BYTES: Final[Mapping[str, Callable[..., bytes]]] = {
    "flip": lambda data, bit: bytes(
        each ^ (1 << bit % 8) * (place == bit // 8 % len(data)) for place, each in enumerate(data)
    ),
    "cut": lambda data, size: data[: size % (len(data) + 1)],
    "append": lambda data, pattern: data + bytes.fromhex(pattern),
    "overwrite": lambda data, place, pattern: (
        data[: (at := place % (len(data) + 1))] + bytes.fromhex(pattern) + data[at + len(pattern) // 2 :]
    ),
    "encode": lambda data, encoding: data.decode("utf-8", "replace").encode(encoding, "replace"),
    "times": lambda data, times: data * times,
}


def apply(files: Files, edits: Sequence[Edit], write: Callable[[Any], bytes]) -> dict[str, bytes]:
    """Return the files as written, after the edits, in order; those of bytes come last. ``files`` is changed."""
    for file, operation, *arguments in edits:
        try:
            if operation in TREE:
                TREE[operation](files[file], *arguments)
            elif operation in TEXT:
                files[file] = TEXT[operation](files[file], *arguments)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, ZeroDivisionError):
            continue  # another edit has removed what this one is about
    written = {name: write(content) for name, content in files.items()}
    for file, operation, *arguments in edits:
        if operation in BYTES and written[file]:
            written[file] = BYTES[operation](written[file], *arguments)
    return written


# ---- drawing them


def draw(rng: Random, files: Files, targets: Sequence[Sequence[Any]]) -> list[Edit]:
    """Return one to four edits of the targets: each a file, and where in its tree the edits are to stay."""
    edits = list[Edit]()
    for _ in range(1 + min(3, int(rng.expovariate(1.2)))):
        file, *under = rng.choice(targets)
        content = files[file]
        if rng.random() < (0.1 if under else 0.2):
            edits.append([file, *_draw_bytes(rng)])
        elif isinstance(content, str):
            edits.append([file, *_draw_text(rng)])
        else:
            edits.append([file, *_draw_tree(rng, content, under)])
    return edits


def _draw_bytes(rng: Random) -> Edit:
    place = rng.choice((rng.randrange(16), rng.randrange(1 << 20)))
    pattern = rng.choice(("00" * 8, "ff" * 8, "ffffff7f00000000", rng.randbytes(rng.randrange(1, 9)).hex()))
    return rng.choice(
        (
            ["flip", rng.choice((rng.randrange(128), rng.randrange(1 << 23)))],
            ["cut", place],
            ["append", pattern],
            ["overwrite", place, pattern],
            ["overwrite", 0, rng.choice(("00" * 8, "0100000000000000", "ff" * 8, "ffe0f50500000000"))],
            ["encode", rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp037"))],
            ["times", rng.choice((0, 2, 100))],
        )
    )


def _draw_text(rng: Random) -> Edit:
    scrap = rng.choice((*SCRAPS, *SCRAPS_MORE))
    kind = rng.randrange(4)
    if kind < 2:
        return ["word", rng.randrange(1 << 20), scrap]
    if kind == 2:
        return ["insert", rng.randrange(1 << 20), scrap]
    return ["line", rng.randrange(1 << 16), rng.choice((0, 2, 3, 100))]


def _draw_tree(rng: Random, tree: Any, under: Sequence[Any]) -> Edit:
    path, value = _draw_place(rng, tree, under)
    if isinstance(value, bytes):
        pattern = rng.choice(("00", "ff", "80", "7f", "007e", "00fc", "ff7b", "ffffff7f", "00000080", "f" * 16))
        place = rng.randrange(1 << 20)
        size = rng.choice((0, max(0, len(value) - 1), len(value) + 1, 2 * len(value)))
        return rng.choice(
            (["bytes", path, place, pattern * rng.choice((1, 2, 8, 64))],) * 5 + (["resize", path, size],)
        )
    numbers = [-1, 0, 1, 2, 8, 16, 31, 62, 64, 2**31 - 1]
    if type(value) is int:
        numbers += [value + 1, value - 1, -value, 2 * value, value // 2, value + 2**32]
    other, _ = _draw_place(rng, tree, under)
    names = [*HOSTILE]
    return rng.choice(
        (
            ["set", path, rng.choice(names)],
            ["set", path, rng.choice(names)],
            ["put", path, rng.choice(numbers)],
            ["put", path, rng.choice(numbers)],
            ["copy", path, other],
            ["drop", path],
            ["set", [*path[:-1], f"new {rng.randrange(9)}"], rng.choice(names)],
            ["rename", path, rng.choice(("a\nb", "", "\u2028", "x" * 600, "__metadata__", "\ud800"))],
        )
    )


def _draw_place(rng: Random, tree: Any, under: Sequence[Any]) -> tuple[list[Any], Any]:
    path = [*under]
    value = _parent(tree, [*path, None])
    while isinstance(value, (dict, list)) and value and (len(path) == len(under) or rng.random() < 0.85):
        key = rng.choice([*value]) if isinstance(value, dict) else rng.randrange(len(value))
        path.append(key)
        value = value[key]
    return path, value
