# SPDX-License-Identifier: Apache-2.0
"""A C program in the making: calls of operators in forward order, the buffers between them, and the constants."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.fixedpoint import INT32, Dyadic, IntRange

__all__ = ["SNIPPETS", "Buffer", "Program", "Rows", "array_text", "functions", "words"]

Rows: TypeAlias = int | str  # a name is a variable of the program
Integers: TypeAlias = NDArray[Any]

LINE: Final = 118
WORD: Final = re.compile(r"[A-Za-z_]\w*")
COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
TAKEN: Final = frozenset(  # keywords and what the text around the calls uses
    WORD.findall(
        "auto break case char const continue default do double else enum extern float for goto if inline int long "
        "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
        "main past kept tokens token values weights"
    )
)
WITH_WIDTH: Final = ("matmul", "matmul_group", "attention", "causal_attention")


@dataclass(slots=True, eq=False)
class Buffer:
    """Where a value lies: ``rows`` by ``columns`` integers, under a name of its own."""

    name: str
    ctype: str
    rows: Rows
    columns: int


class Statement(NamedTuple):
    """A call of an operator, which fills a buffer."""

    comment: str
    function: str
    arguments: tuple[str, ...]
    target: Buffer | None
    reads: tuple[Buffer, ...]


@dataclass(slots=True, kw_only=True)
class Program:
    """What is known of a program.

    Parameters
    ----------
    tensors
        Those of the model.
    longest
        The most tokens.
    past
        The variable that holds how many tokens were read before, or 0.
    widths
        Name of a call -> bits of its result, where they are said.
    kept
        The C type of keys and values as attention reads them.
    scope
        Name of the call that is being written.
    centred, statements, constants, weights, caches
        Filled by the walk.
    """

    tensors: Mapping[str, Integers]
    longest: int
    past: str = "0"
    widths: Mapping[str, int] = field(default_factory=dict[str, int])
    kept: str = "int32_t"
    scope: str = "input"
    centred: dict[str, Buffer] = field(default_factory=dict[str, Buffer])
    statements: list[Statement] = field(default_factory=list[Statement])
    constants: list[str] = field(default_factory=list[str])
    weights: dict[str, Integers] = field(default_factory=dict[str, Integers])
    caches: list[Buffer] = field(default_factory=list[Buffer])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _once: dict[str, str] = field(default_factory=dict[str, str])

    # ---- names

    def identifier(self, name: str) -> str:
        """Return a C identifier for ``name``, always the same one."""
        if name not in self._names:
            plain = re.sub(r"\W", "_", name)
            taken = {*self._names.values(), *TAKEN, *SNIPPETS}
            self._names[name] = next(each for each in _numbered(plain) if each not in taken)
        return self._names[name]

    # ---- constants

    def array(self, name: str, values: Integers, ctype: str) -> str:
        """Return the name of a constant array, made when it is first asked for."""
        if name not in self._once:
            self._once[name] = identifier = self.identifier(name)
            self.constants.append(array_text(identifier, values, ctype))
        return self._once[name]

    def dyadic(self, name: str, *ratios: Dyadic) -> str:
        """Return the address of a ratio, or of the first of several."""
        if name not in self._once:
            entries = list[str]()
            for i, ratio in enumerate(ratios):
                part = name if len(ratios) == 1 else f"{name}.{i}"
                multiplier = self.array(f"{part}.multiplier", ratio.multiplier, "int32_t")
                shift = self.array(f"{part}.shift", ratio.shift, "uint8_t")
                entries.append(f"{{{multiplier}, {shift}, {int(ratio.multiplier.size > 1)}}}")
            identifier = self.identifier(f"{name}.ratio")
            lines = "".join(f"    {entry},\n" for entry in entries)
            self.constants.append(f"static const dyadic {identifier}[{len(entries)}] = {{\n{lines}}};")
            self._once[name] = identifier
        return self._once[name]

    def zero_point(self, name: str, values: int | Integers) -> tuple[str, int]:
        """Return the name of zero points, and their step."""
        array = np.asarray(values)
        name = name if array.any() else "none"
        return self.array(f"{name}.zero_point", array if array.any() else np.zeros(1, np.int64), "int32_t"), int(
            bool(array.any()) and array.size > 1
        )

    def format(self, name: str, to: IntRange, zero_point: int | Integers) -> str:
        """Return the address of a format."""
        key = f"{name}.format"
        if key not in self._once:
            array, step = self.zero_point(name, zero_point)
            self._once[key] = identifier = self.identifier(key)
            self.struct("format", identifier, to.min, to.max, array, step)
        return f"&{self._once[key]}"

    def struct(self, ctype: str, identifier: str, *fields: object) -> None:
        """Append a constant of several fields."""
        lines = wrapped(f"static const {ctype} {identifier} = {{", tuple(map(str, fields)), "};", indent="")
        self.constants.append("\n".join(lines))

    def weight(self, values: Integers) -> str:
        """Return where a weight begins, which may be some columns of one."""
        name, tensor = next(
            (name, tensor)
            for name, tensor in self.tensors.items()
            if tensor.dtype == values.dtype and tensor.ndim == 2 and np.may_share_memory(tensor, values)
        )
        identifier = self.identifier(name)
        self.weights[identifier] = tensor
        offset = (_address(values) - _address(tensor)) // tensor.strides[1]
        return f"{identifier} + {offset}" if offset else identifier

    # ---- buffers and calls

    def buffer(self, name: str, rows: Rows, columns: int, ctype: str = "int32_t") -> Buffer:
        """Return a new buffer.

        Raises
        ------
        IntsimError
            If an int32 does not count its integers.
        """
        if (size := columns * (self.longest if isinstance(rows, str) else rows)) > INT32.max:
            msg = f"'{name}' must have fewer than 2**31 integers to be exported as C, got {size}"
            raise IntsimError(msg)
        return Buffer(self.identifier(name), ctype, rows, columns)

    def call(self, function: str, target: Buffer | None, *arguments: object, reads: tuple[Buffer, ...]) -> None:
        """Append a call."""
        bits = f"{self.widths[self.scope]} bits" if self.scope in self.widths and function in WITH_WIDTH else ""
        self.statements.append(Statement(bits, function, tuple(map(str, arguments)), target, reads))

    def body(self, output: Buffer) -> tuple[str, str]:
        """Return the scratch memory, and the calls: what is read last leaves its place to others."""
        last = {buffer: i for i, statement in enumerate(self.statements) for buffer in statement.reads}
        slots: list[tuple[str, int]] = []  # type and size of each
        free: set[int] = set()
        place: dict[Buffer, int] = {}
        lines, layer = list[str](), ""
        for i, statement in enumerate(self.statements):
            target = statement.target
            if target is not None and (found := re.match(r"\w*?_\d+(?=_)", target.name)) and found[0] != layer:
                layer = found[0]
                lines += ["", f"    /* ---- {layer} */"]
            if target is output:
                lines.append(f"    int32_t *const {output.name} = values;")
            elif target is not None:
                size = target.columns * (self.longest if isinstance(target.rows, str) else target.rows)
                fits = [slot for slot in sorted(free) if slots[slot][0] == target.ctype]
                fits.sort(key=lambda slot: (slots[slot][1] < size, abs(slots[slot][1] - size)))
                if fits:
                    slot = fits[0]
                    free.discard(slot)
                    slots[slot] = (target.ctype, max(size, slots[slot][1]))
                else:
                    slot = len(slots)
                    slots.append((target.ctype, size))
                place[target] = slot
                note = f" /* {statement.comment} */" if statement.comment else ""
                lines.append(f"    {target.ctype} *const {target.name} = scratch_{slot};{note}")
            lines += wrapped(f"{statement.function}(", statement.arguments, ");", indent="    ")
            free |= {place[buffer] for buffer in {*statement.reads} if last[buffer] == i and buffer in place}
        scratch = [f"static {ctype} scratch_{slot}[{size}];" for slot, (ctype, size) in enumerate(slots)]
        return "\n".join(scratch), "\n".join(lines)


def functions(wanted: set[str], defines: Mapping[str, str]) -> tuple[str, str]:
    """Return the macros and the functions that a text needs which has the words ``wanted``, callees first."""
    done: dict[str, None] = {}
    macros: dict[str, None] = {}

    def visit(word: str) -> None:
        if word in done or word in macros:
            return
        if word in defines:
            macros[word] = None
            for each in words(defines[word]):
                visit(each)
        elif word in SNIPPETS:
            for each in words(SNIPPETS[word]):
                if each != word:
                    visit(each)
            done[word] = None

    for word in sorted(wanted):
        visit(word)
    lines = [f"#define {name} {defines[name]}" for name in defines if name in macros]
    return "\n".join(lines), "\n".join(SNIPPETS[name] for name in done)


def words(text: str) -> list[str]:
    """Return the words of C text without its comments."""
    return list(dict.fromkeys(WORD.findall(COMMENT.sub("", text))))


def _numbered(name: str) -> Any:
    yield name
    n = 2
    while True:
        yield f"{name}_{n}"
        n += 1


def _address(values: Integers) -> int:
    return values.__array_interface__["data"][0]


def array_text(identifier: str, values: Integers, ctype: str) -> str:
    """Return the definition of a constant array."""
    return f"static const {ctype} {identifier}[{values.size}] = {{{_listed(values)}}};"


def _listed(values: Integers) -> str:
    """Return numbers separated by commas, on one line or on many."""
    numbers = [str(number) for number in values.ravel().tolist()]
    if len(numbers) <= 8:
        return ", ".join(numbers)
    width = max(map(len, numbers)) + 1
    per_line = max(1, LINE // width)
    lines = [",".join(numbers[i : i + per_line]) for i in range(0, len(numbers), per_line)]
    return "\n" + ",\n".join(lines)


def wrapped(opening: str, arguments: tuple[str, ...], closing: str, *, indent: str) -> list[str]:
    """Return the lines of a call, or of an initializer."""
    lines, line = list[str](), f"{indent}{opening}"
    for i, argument in enumerate(arguments):
        piece = argument + (", " if i < len(arguments) - 1 else closing)
        if len(line) + len(piece.rstrip()) > LINE and not line.isspace():
            lines.append(line.rstrip())
            line = f"{indent}    "
        line += piece
    return [*lines, line]


@cache
def _read(name: str) -> str:
    return Path(str(resources.files("intsim.io.c") / "source" / name)).read_text(encoding="utf-8")


def _snippets() -> dict[str, str]:
    folder = resources.files("intsim.io.c") / "source"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".c"))
    return {name.removesuffix(".c"): _read(name) for name in names}


SNIPPETS: Final[Mapping[str, str]] = _snippets()
"""Name of a C function or type -> its text."""
