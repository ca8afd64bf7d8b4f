# SPDX-License-Identifier: Apache-2.0
"""What is there after the writing of a real checkpoint was killed, or met a full disk, a link, a pipe or a lock.

``python -m tests.io.kill_table [MOMENTS]`` prints the table, ``--json`` behind it the rows. Every happening has a
process and a folder of its own. A moment is a call or a return of a function, Python's or C's; those that ``save`` is
killed at are spread evenly over all that it has once it makes a file.
"""

import ctypes
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

import intsim
from intsim.errors import IntsimError
from intsim.io.integer_checkpoint import FILE

MOMENTS: Final = 200
LIMIT: Final = 100_000  # bytes, of the 1.3 MB of the checkpoint
NOBODY: Final = 65534
NEW_NAMESPACE: Final = 0x20000  # CLONE_NEWNS: what is mounted ends with this process

On: TypeAlias = Callable[[Path], object]
"""What is done to a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was there before, how the writing ended, what is there then, and after a run that nothing ends."""

    happening: str
    before: str
    end: str
    afterwards: str
    beside: str
    next_run: str


class Table:
    """Makes the rows, in folders below ``root``, which everybody may enter."""

    def __init__(self, root: Path) -> None:
        self.root, self.numbers, self.contents = root, count(), {b"": "an empty file"}
        self.new = intsim.load(resources.files("intsim.embedded"))
        self.old = replace(self.new, tokenizer=None)
        for name, model in (("the old file", self.old), ("the new file", self.new)):
            model.save(folder := self.folder())
            self.contents[(folder / FILE).read_bytes()] = name

    def folder(self) -> Path:
        folder = self.root / str(next(self.numbers))
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def seen(self, path: Path) -> str:
        if path.is_symlink():
            return f"a link to {self.seen(path.parent / path.readlink())}"
        if not path.exists():
            return "nothing"
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return "a pipe" if stat.S_ISFIFO(mode) else "a device"
        return f"{self.contents.get(path.read_bytes(), 'a part')}, {stat.S_IMODE(mode):o}"

    def beside(self, folder: Path) -> str:
        left = [path.name for path in folder.iterdir() if path.name not in (FILE, "target")]
        if len(left) == 1 and left[0].startswith(".intsim-"):
            return "a temporary file"
        return ", ".join(left) or "nothing"

    def row(self, happening: str, before: On, work: On, *, again: bool = True) -> Row:
        folder = self.folder()
        before(folder)
        was, end = self.seen(folder / FILE), ended(work, folder)
        then, beside, after = self.seen(folder / FILE), self.beside(folder), "-"
        if again:
            self.new.save(folder)
            after = self.seen(folder / FILE) + ("" if (left := self.beside(folder)) == "nothing" else f" and {left}")
        return Row(happening=happening, before=was, end=end, afterwards=then, beside=beside, next_run=after)

    def killed(self, moments: int) -> Iterator[Row]:
        for before in (nothing, self.old.save):
            before(folder := self.folder())
            every = watched(self.new.save, folder)
            for moment in range(moments):
                last = 1 + moment * (every - 1) // max(moments - 1, 1)
                yield self.row("kill -9", before, lambda folder, last=last: watched(self.new.save, folder, last))

    def others(self) -> Iterator[Row]:
        save, locked = self.new.save, "read-only"

        def masked(folder: Path) -> None:
            os.umask(0o077)
            save(folder)

        def limited(folder: Path) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
            save(folder)

        def unprivileged(folder: Path) -> None:
            if os.geteuid() == 0:  # writes everywhere
                os.setuid(NOBODY)
            save(folder)

        for before in (nothing, self.old.save):
            yield self.row("umask 077", before, masked)
            yield self.row("full disk: RLIMIT_FSIZE", before, limited)
        yield self.row("symbolic link", self.linked("target"), save)
        yield self.row("device", self.linked("/dev/null"), save)
        yield self.row("full device", self.linked("/dev/full"), save, again=False)
        yield self.pipe()
        yield self.row(f"{locked} folder", self.locked(".", 0o555), unprivileged)
        yield self.row(f"{locked} file", self.locked(FILE, 0o444), unprivileged)
        if reason := cannot_mount():
            print(f"full disk and read-only file system: no tmpfs, {reason}", file=sys.stderr)
            return
        yield self.row("full disk: tmpfs", lambda folder: mount(folder, f"size={LIMIT}"), save, again=False)
        yield self.row("full disk: tmpfs", self.mounted("size=1900k"), save, again=False)
        yield self.row(f"{locked} tmpfs", self.mounted("ro"), save, again=False)

    def linked(self, target: str) -> On:
        def before(folder: Path) -> None:
            self.old.save(folder)
            (folder / FILE).rename(folder / "target")
            (folder / FILE).symlink_to(target)

        return before

    def locked(self, name: str, mode: int) -> On:
        def before(folder: Path) -> None:
            self.old.save(folder)
            folder.chmod(0o777)
            (folder / name).chmod(mode)

        return before

    def mounted(self, option: str) -> On:
        def before(folder: Path) -> None:
            mount(folder, "size=4m")
            self.old.save(folder)
            mount(folder, f"remount,{option}")

        return before

    def pipe(self) -> Row:
        folder = self.folder()
        os.mkfifo(folder / FILE)
        was = self.seen(folder / FILE)
        with (
            (self.root / "read").open("wb") as sink,
            subprocess.Popen(["/bin/cat", folder / FILE], stdout=sink) as reader,
        ):
            end = ended(self.new.save, folder)
            reader.wait(timeout=60)
        then = f"{self.seen(folder / FILE)} that gave {self.contents.get((self.root / 'read').read_bytes(), 'a part')}"
        return Row(happening="pipe", before=was, end=end, afterwards=then, beside=self.beside(folder), next_run="-")


def nothing(folder: Path) -> None:
    del folder


def watched(save: On, folder: Path, last: int | None = None) -> int:
    """Return how many moments ``save`` has once it makes a file; with ``last``, do not get beyond that one."""
    passed = 0

    def moment(frame: FrameType, *_: object) -> None:
        nonlocal passed
        passed += passed > 0 or frame.f_code.co_name == "_temporary"
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(moment)
    try:
        save(folder)
    finally:
        sys.setprofile(None)
    return passed


def ended(work: On, folder: Path) -> str:
    """Say how a child process that does the work ended: by what its exception says, or a signal."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            work(folder)
        except IntsimError as error:
            os.write(write, str(error).rpartition(": ")[2].encode())
            os._exit(3)
        except BaseException as error:  # noqa: BLE001 - a child that went on would make the rows of its parent
            os.write(write, repr(error).encode())
            os._exit(70)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status < 0:
        return f"{signal.Signals(-status).name}"
    return {0: "done", 3: f"refused: {said}"}.get(status, said)


def cannot_mount() -> str:
    """Give this process mounts of its own, or say why it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE):
        return os.strerror(ctypes.get_errno())
    done = subprocess.run(["/bin/mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def mount(folder: Path, options: str) -> None:
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def shown(rows: list[Row]) -> str:
    """Return the table: equal rows once, with how many they are."""
    counted: dict[Row, int] = Counter(rows)
    lines = [("times", *Row.__slots__), *((str(times), *asdict(row).values()) for row, times in counted.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def main(moments: str = str(MOMENTS), *form: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        os.umask(0o022)
        table = Table(Path(root))
        rows = [*table.killed(int(moments)), *table.others()]
        for folder in filter(Path.is_mount, Path(root).iterdir()):
            subprocess.run(["/bin/umount", folder], check=True)
    print(json.dumps([asdict(row) for row in rows]) if form else shown(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
