# SPDX-License-Identifier: Apache-2.0
"""A document of a few kinds of blocks, and what it is as Markdown and as a page of HTML."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Block", "Code", "Heading", "Table", "Text", "to_html", "to_markdown"]

STYLE = (
    "body{max-width:60em;margin:2em auto;padding:0 1em;font:16px/1.5 sans-serif}"
    "pre,code{font:14px/1.4 monospace;background:#f4f4f4}pre{padding:.7em;overflow:auto}"
    "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left}"
)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1, 2 ..."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, or an item of a list; `...` marks what is literal."""

    text: str
    item: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Lines shown as they are."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]


Block: TypeAlias = Heading | Text | Code | Table


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return the document as Markdown."""
    return "\n".join(_markdown(blocks)).replace("\n\n\n", "\n\n")


def _markdown(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Heading(level, text):
                yield f"\n{'#' * level} {text}\n" if level > 1 else f"# {text}\n"
            case Text(text, item):
                yield f"* {_literal(text)}" if item else f"\n{_literal(text)}\n"
            case Code(lines):
                yield "\n".join(["\n```", *lines, "```\n"])
            case Table(header, rows):
                yield ""
                for row in (header, ["---"] * len(header), *rows):
                    cells = (_literal(str(cell)).replace("|", r"\|") for cell in row)
                    yield f"| {' | '.join(cells)} |"
                yield ""


def _literal(text: str) -> str:
    """Return a line whose powers, 2**t, are not taken for emphasis."""
    pieces = text.split("`")
    return "`".join(piece if n % 2 else piece.replace("*", r"\*") for n, piece in enumerate(pieces))


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the document as a page that needs nothing else."""
    body = "\n".join(_html(blocks))
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _html(blocks: Sequence[Block]) -> Iterator[str]:
    for i, block in enumerate(blocks):
        match block:
            case Heading(level, text):
                yield f"<h{level}>{_inline(text)}</h{level}>"
            case Text(text, item=True):
                before, after = (_is_item(blocks, at) for at in (i - 1, i + 1))
                yield f"{'' if before else '<ul>'}<li>{_inline(text)}</li>{'' if after else '</ul>'}"
            case Text(text):
                yield f"<p>{_inline(text)}</p>"
            case Code(lines):
                yield f"<pre>{html.escape(chr(10).join(lines))}</pre>"
            case Table(header, rows):
                cells = [f"<tr>{''.join(f'<td>{_inline(str(cell))}</td>' for cell in row)}</tr>" for row in rows]
                head = "".join(f"<th>{_inline(cell)}</th>" for cell in header)
                yield f"<table><tr>{head}</tr>{''.join(cells)}</table>"


def _is_item(blocks: Sequence[Block], i: int) -> bool:
    block = blocks[i] if 0 <= i < len(blocks) else None
    return isinstance(block, Text) and block.item


def _inline(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
