# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all, and take the place of nothing that is not theirs."""

import errno
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

from intsim.errors import IntsimError, said

try:
    import fcntl
except ImportError:  # Windows: nothing tells a file that was left behind from one that is being written
    fcntl = None

__all__ = [
    "Kind",
    "check_folder_writable",
    "check_writable",
    "complete_file",
    "complete_folder",
    "is_regular",
    "is_stdout",
]

TEMPORARY: Final = ".intsim-{}.tmp"  # short whatever the file is called: a name may have 255 bytes
DESCRIPTORS: Final = ("/dev/fd", f"/proc/{os.getpid()}/fd")


class Kind(NamedTuple):
    """What is written, in words, and how a file of the same kind is recognised: only such a one is replaced."""

    name: str
    recognises: Callable[[BinaryIO], bool]


@contextmanager
def complete_file(path: Path, kind: Kind) -> Generator[BinaryIO]:
    """Open a file to write, which takes the place of ``path`` when the ``with`` block has ended without an error.

    Missing folders on the way to it are made, symbolic links followed; it is on the disk before it has its name. A new
    file has the permissions that the umask leaves, another one keeps its own. A device, a pipe, a socket or an open
    descriptor, such as /dev/stdout, is written to as it is. What a killed run has left in the folder is removed.

    Parameters
    ----------
    path
        What to write.
    kind
        What it becomes, and what it may replace.

    Raises
    ------
    IntsimError
        If it cannot be written, or there is something of another kind.
    BrokenPipeError
        If nobody reads what is written any longer.
    """
    with _one_sentence(path):
        if (stream := _stream(path)) is not None:
            with stream:
                yield stream
            return
        target = Path(os.path.realpath(path))
        there = _replaceable(path, target, kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        with _temporary(target.parent) as (file, temporary):
            yield file
            file.flush()
            if there is not None:
                with suppress(OSError):  # the owner is root's to give, the group its members'
                    os.chown(temporary, there.st_uid, there.st_gid)
                temporary.chmod(stat.S_IMODE(there.st_mode))
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file
            temporary.replace(target)
            _sync(target.parent)


@contextmanager
def complete_folder(path: Path, kind: Kind) -> Generator[Path]:
    """Make a folder for files, which takes the place of ``path`` when the ``with`` block has ended without an error.

    Parameters
    ----------
    path
        What to write.
    kind
        What the files in it become, and the only ones that it may replace.

    Raises
    ------
    IntsimError
        If it cannot be written, or there is something of another kind.
    """
    with _one_sentence(path):
        target = Path(os.path.realpath(path))
        there = _replaceable_folder(path, target, kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        with _temporary_folder(target.parent) as folder:
            yield folder
            for file in folder.iterdir():
                _sync(file)
            _sync(folder)
            if there is None:
                folder.rename(target)
            else:
                folder.chmod(stat.S_IMODE(there.st_mode))
                with _temporary_folder(target.parent) as former:  # removed when the other has its name
                    target.rename(former)
                    folder.rename(target)
            _sync(target.parent)


def check_folder_writable(path: Path, kind: Kind) -> None:
    """Refuse what ``complete_folder`` could not write, before the work whose result it would be.

    Raises
    ------
    IntsimError
        As ``complete_folder``.
    """
    with _one_sentence(path):
        target = Path(os.path.realpath(path))
        _replaceable_folder(path, target, kind)
        with _temporary_folder(next(each for each in target.parents if each.exists())):
            pass


def check_writable(path: Path, kind: Kind) -> None:
    """Refuse what ``complete_file`` could not write, before the work whose result it would be.

    Raises
    ------
    IntsimError
        As ``complete_file``.
    """
    with _one_sentence(path):
        if _descriptor(path) is not None:
            return
        target = Path(os.path.realpath(path))
        if path.exists() and _is_stream(path.stat().st_mode):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "")
            return
        _replaceable(path, target, kind)
        folder = next(each for each in target.parents if each.exists())
        with _temporary(folder):
            pass


def is_stdout(path: Path) -> bool:
    """Say whether ``path`` names this process's standard output."""
    return _descriptor(path) == 1


def is_regular(path: Path) -> bool:
    """Say whether ``path`` is a file, or would become one, that is, no descriptor or device."""
    return _descriptor(path) is None and not (path.exists() and _is_stream(path.stat().st_mode))


@contextmanager
def _one_sentence(path: Path) -> Generator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "\0" not in str(path):
            raise
        msg = f"{path} must be writable, got: {said(error)}"
        raise IntsimError(msg) from None


def _descriptor(path: Path) -> int | None:
    """Return which open descriptor of this process ``path`` names, directly or by symbolic links."""
    for _ in range(40):  # as many links as Linux follows
        folder = os.path.realpath(path.parent)
        if folder in DESCRIPTORS or str(path.parent) in DESCRIPTORS:
            return int(path.name) if path.name.isdecimal() else None
        if not path.is_symlink():
            return None
        path = Path(folder) / path.readlink()
    return None


def _is_stream(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _stream(path: Path) -> BinaryIO | None:
    """Open what has no content to replace."""
    if (number := _descriptor(path)) is not None:
        return os.fdopen(os.dup(number), "wb")
    if not path.exists() or not _is_stream(mode := path.stat().st_mode):
        return None
    if not stat.S_ISSOCK(mode):
        return path.open("wb")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        return cast("BinaryIO", connection.makefile("wb"))


def _replaceable(path: Path, target: Path, kind: Kind) -> os.stat_result | None:
    """Return what is known of the file that will be replaced, if there is one."""
    try:
        there = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "")
    if there.st_size:
        with target.open("rb") as file:
            if not kind.recognises(file):
                msg = f"{path} must be new, empty or {kind.name} to be written, got another file; name a new one"
                raise IntsimError(msg)
    return there


def _replaceable_folder(path: Path, target: Path, kind: Kind) -> os.stat_result | None:
    """Return what is known of the folder that will be replaced, if there is one."""
    try:
        there = target.stat()
    except FileNotFoundError:
        return None
    for file in target.iterdir():
        _require_ours(path, file, kind)
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "")
    return there


def _require_ours(path: Path, file: Path, kind: Kind) -> None:
    if file.is_file() and not file.is_symlink():
        with file.open("rb") as content:
            if kind.recognises(content):
                return
    msg = f"{path} must be new, empty or {kind.name} to be written, got '{file.name}' in it; name a new one"
    raise IntsimError(msg)


@contextmanager
def _temporary_folder(parent: Path) -> Generator[Path]:
    """Make a folder that is locked while it is in use, and removed at the end if it still has its name."""
    folder = parent / TEMPORARY.format(secrets.token_hex(8))
    folder.mkdir()
    try:
        descriptor = None if fcntl is None else os.open(folder, os.O_RDONLY)
        try:
            if descriptor is not None:
                _lock(descriptor, wait=True)
            yield folder
        finally:
            if descriptor is not None:
                os.close(descriptor)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _temporary(folder: Path) -> Generator[tuple[BinaryIO, Path]]:
    """Make a file that is locked while it is open, and removed at the end if it still has its name."""
    while True:
        temporary = folder / TEMPORARY.format(secrets.token_hex(8))
        try:
            with temporary.open("x+b") as file:
                _lock(file.fileno(), wait=True)
                if not os.fstat(file.fileno()).st_nlink:  # another run took it for abandoned before it was locked
                    continue
                yield file, temporary
                return
        finally:
            temporary.unlink(missing_ok=True)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Say whether the file is locked now; some file systems have no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders that nobody has locked: their writers were killed."""
    if fcntl is None:
        return
    for left in folder.glob(TEMPORARY.format("*")):
        with suppress(OSError):  # gone by now, or not ours to remove
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if _lock(descriptor, wait=False):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def _sync(path: Path) -> None:
    with suppress(OSError):  # Windows opens no folder, some network file systems sync none
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
