# SPDX-License-Identifier: Apache-2.0
"""What is done to files: a list of edits that says so in JSON, so that it can be kept, shortened and done again.

An edit is ``[file, operation, *arguments]``. Files of JSON and containers are trees of dicts, lists, scalars and bytes
until they are written, others are text; what is done to bytes is done to the file as written. An edit that finds
nothing to change changes nothing, so that edits stay good when others before them are left out.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Edit: TypeAlias = list[Any]
Files: TypeAlias = dict[str, Any]
Path: TypeAlias = Sequence[Any]

SHORT: Final = (
    "null true {} [] 0 1 -1 0.5 8.0 255 32768 2147483648 NaN Infinity 1e999 1e308 -1e308 1e-9 5e-324 [1,2] [[1]] x"
)
HOSTILE: Final[Mapping[str, str]] = {each: each for each in SHORT.split()} | {
    "empty text": '""',
    "number as text": '"8"',
    "2**62": str(2**62),
    "2**63": str(2**63),
    "-2**63": str(-(2**63)),
    "2**64": str(2**64),
    "40 digits": "9" * 40,
    "5000 digits": "9" * 5000,
    "key twice": '{"a":1,"a":2}',
    "long list": f"[{','.join('0' * 10_000)}]",
    "long text": f'"{"x" * 100_000}"',
    "lines": r'"a\nintsim: b\r\nc"',
    "escapes": r'"\u001b[2J\u202e\u0007"',
    "nul": r'"\u0000"',
    "surrogate": r'"\ud800"',
    "formats": '"%s {0} {} %(x)d"',
    "pattern": '"re:("',
    "path": '"../../../etc/passwd"',
    "deep": "[" * 60 + "]" * 60,
    "deeper": "[" * 5000 + "]" * 5000,
    "deeper object": '{"a":' * 5000 + "1" + "}" * 5000,
    "no end": '{"a":[',
}
"""Name -> JSON, or what stands in its place."""
WORD: Final = re.compile(r"[\w.+-]+|\s+|.", re.DOTALL)


def hostile(name: str) -> str:
    """Return what stands for a hostile value in a tree."""
    return f"\u0001{name}"


def dumps(tree: Any) -> str:
    """Return a tree as JSON, hostile values as what they stand for."""
    text = json.dumps(tree, separators=(",", ":"), default=bytes.hex)
    return re.sub(r'"\\u0001(.*?)"', lambda found: HOSTILE.get(found[1], found[0]), text)


def parent_of(tree: Any, path: Path) -> Any:
    """Return the dict or list that holds what is at ``path``."""
    for key in path[:-1]:
        tree = tree[key]
    return tree


def _at(change: Callable[..., Any]) -> Callable[..., None]:
    """Return the edit of a tree that puts in a place what ``change`` makes of the tree and of what is there."""

    def edit(tree: Any, path: Path, *arguments: Any) -> None:
        parent = parent_of(tree, path)
        inside = path[-1] in parent if isinstance(parent, dict) else True
        parent[path[-1]] = change(tree, parent[path[-1]] if inside else None, *arguments)

    return edit


def _drop(tree: Any, path: Path) -> None:
    del parent_of(tree, path)[path[-1]]


def _rename(tree: Any, path: Path, name: str) -> None:
    parent = parent_of(tree, path)
    parent[name] = parent.pop(path[-1])


def _overwritten(data: bytes, place: int, pattern: str) -> bytes:
    new = bytes.fromhex(pattern)
    place %= max(1, len(data) - len(new) + 1)
    return data[:place] + new + data[place + len(new) :]


def _flipped(data: bytes, bit: int) -> bytes:
    place = bit // 8 % len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit % 8]) + data[place + 1 :]


def _word(text: str, number: int, new: str) -> str:
    words = WORD.findall(text)
    words[number % len(words)] = new
    return "".join(words)


def _line(text: str, number: int, times: int) -> str:
    lines = text.splitlines(keepends=True)
    number %= len(lines)
    return "".join([*lines[:number], *lines[number : number + 1] * times, *lines[number + 1 :]])


def _insert(text: str, place: int, new: str) -> str:
    place %= len(text) + 1
    return text[:place] + new + text[place:]


TREE: Final[Mapping[str, Callable[..., None]]] = {
    "set": _at(lambda _, __, name: hostile(name)),
    "put": _at(lambda _, __, value: value),
    "copy": _at(lambda tree, _, path: copy.deepcopy(parent_of(tree, path)[path[-1]])),
    "bytes": _at(lambda _, data, *how: _overwritten(data, *how)),
    "resize": _at(lambda _, data, size: data[:size] + bytes(max(0, size - len(data)))),
    "drop": _drop,
    "rename": _rename,
}
TEXT: Final[Mapping[str, Callable[..., str]]] = {"word": _word, "line": _line, "insert": _insert}
BYTES: Final[Mapping[str, Callable[..., bytes]]] = {
    "flip": _flipped,
    "overwrite": _overwritten,
    "cut": lambda data, size: data[: size % (len(data) + 1)],
    "append": lambda data, pattern: data + bytes.fromhex(pattern),
    "encode": lambda data, encoding: data.decode("utf-8", "replace").encode(encoding, "replace"),
    "times": lambda data, times: data * times,
}


def apply(files: Files, edits: Sequence[Edit], write: Callable[[Any], bytes]) -> dict[str, bytes]:
    """Return the files as written, after the edits, in order; those of bytes come last."""
    files = copy.deepcopy(files)
    for file, operation, *arguments in edits:
        try:
            if operation in TREE:
                TREE[operation](files[file], *arguments)
            elif operation in TEXT:
                files[file] = TEXT[operation](files[file], *arguments)
        except (KeyError, IndexError, TypeError, AttributeError, ZeroDivisionError):
            continue  # another edit has removed what this one is about
    written = {name: write(content) for name, content in files.items()}
    for file, operation, *arguments in edits:
        if operation in BYTES and written[file]:
            written[file] = BYTES[operation](written[file], *arguments)
    return written
