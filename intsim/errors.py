# SPDX-License-Identifier: Apache-2.0
"""The errors a user's input can cause, and how they read on a terminal."""

import os
from typing import Final

__all__ = ["CheckpointError", "IntsimError", "ResourceError", "escaped", "one_line", "said"]

LONGEST: Final = 500
"""Characters of a message: more would be a file's content, not a sentence about it."""
HEAD, TAIL, GAP = 330, 160, " [...] "  # of a longer one: what is wrong, and at its end what to do


class IntsimError(Exception):
    """Invalid input.

    The message is one clear sentence; the command line prints it and exits with status 3.
    """


class CheckpointError(IntsimError):
    """A checkpoint that cannot be read, is not valid or is not supported."""


class ResourceError(IntsimError):
    """What the machine took away: a process that was killed. The command line exits with status 70."""


def said(error: BaseException) -> str:
    """Return what an exception of Python or a library means, as the end of a sentence."""
    match error:
        case OSError():
            return os.strerror(error.errno) if error.errno else str(error)
        case UnicodeDecodeError():
            return f"bytes that are not {error.encoding.upper()}, the first at {error.start}"
        case EOFError():
            return "an end too early"
        case KeyError():
            return f"no {error.args[0]!r}" if error.args else "a missing key"
        case AttributeError() | IndexError() | TypeError() if ", got " not in str(error):
            return "a value of another kind"  # Python speaks of its own types there, which no file has
        case _:
            return str(error) or "what its reader gives no reason for"


def one_line(text: str) -> str:
    """Return ``text`` as one line of at most LONGEST characters, what a terminal would obey or not show escaped."""
    head, tail = escaped(text[:LONGEST]), escaped(text[-LONGEST:])
    return head if len(text) <= LONGEST >= len(head) else head[:HEAD] + GAP + tail[-TAIL:]


def escaped(text: str) -> str:
    """Return ``text`` with what a terminal would obey or not show as escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
