# SPDX-License-Identifier: Apache-2.0
"""What a process says at its end: its exit status, and one line on stderr for whatever ended it early."""

import errno
import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress
from io import TextIOWrapper
from typing import Final, TextIO

import click

from intsim.errors import IntsimError, ResourceError, one_line, said

__all__ = ["MISMATCH", "run_command"]

DONE: Final = 0
MISMATCH: Final = 1
"""A difference was found, and nothing else."""
USAGE: Final = 2
INVALID_INPUT: Final = 3
FAILURE: Final = 70
"""Not the input's fault: no memory, a process that was killed, a mistake in intsim (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141

UNWRITABLE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
REPORT: Final = "please report it to intsim's issue tracker with what `intsim info` prints (INTSIM_DEBUG=1 shows where)"


def run_command(command: click.Group) -> int:
    """Run the command line and return the exit status; SystemExit, raised for one, passes."""
    try:
        _open_streams()
        _speak_in_lines()
        if "_INTSIM_COMPLETE" in os.environ:
            command()
        with command.make_context("intsim", sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except KeyboardInterrupt:
        return _ended("interrupted", INTERRUPTED)
    except ResourceError as error:
        return _ended(str(error), FAILURE)
    except IntsimError as error:
        return _ended(str(error), INVALID_INPUT)
    except BrokenPipeError:
        _discard(sys.stdout)
        return CLOSED_PIPE
    except MemoryError as error:
        return _failed(f"memory must suffice for the work, got too little: {said(error)}; give less at once")
    except OSError as error:
        if error.errno in UNWRITABLE and error.filename is None:
            _discard(sys.stdout)
            return _ended(f"standard output must take what is printed, got: {said(error)}", INVALID_INPUT)
        return _unforeseen(error)
    except Exception as error:  # noqa: BLE001  the last place where it can become a sentence
        return _unforeseen(error)
    return DONE


def _unforeseen(error: Exception) -> int:
    what = said(error) if isinstance(error, OSError) else str(error)  # Python's own words, for who repairs it
    return _failed(f"unforeseen {type(error).__name__}, {one_line(what)[:200]}; {REPORT}")


def _failed(message: str) -> int:
    if os.environ.get("INTSIM_DEBUG") == "1":
        traceback.print_exc()
    return _ended(message, FAILURE)


def _ended(message: str, status: int) -> int:
    try:
        click.echo(one_line(f"intsim: {message}"), err=True)
    except OSError:  # stderr may be full or closed too; Python would end with a status of its own
        _discard(sys.stderr)
    return status


def _open_streams() -> None:
    """Let stdout escape what its terminal cannot show, and no file get the number of a stream that is closed.

    What stands in for a closed stream is open for the other direction, so that its use is an error.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdout is None:  # type: ignore[reportUnnecessaryComparison]  it is, where descriptor 1 was closed
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def _speak_in_lines() -> None:
    """Let notes of intsim and warnings of libraries be one line each, whatever they quote of a file."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_OneLine())
    warnings.formatwarning = _format_warning


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return one_line(f"intsim: warning: {message}") + "\n"


def _discard(stream: TextIO) -> None:
    """Forget what is still in the buffer of a stream, which Python would write at its end and complain of."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
