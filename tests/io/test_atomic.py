# SPDX-License-Identifier: Apache-2.0
"""A file appears complete or not at all, and nothing else is left beside it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from intsim.errors import IntsimError
from intsim.io.atomic import Kind, check_writable, complete_file

ROOT: Final = Path(__file__).resolve().parents[2]
ANY: Final = Kind("a file", lambda file: True)  # noqa: ARG005
OURS: Final = Kind("one of ours", lambda file: file.read(4) == b"ours")
WRITER: Final = """
import os, sys, time
from pathlib import Path
from intsim.io.atomic import Kind, complete_file

def moment(name, call):
    def stopping(*arguments, **options):
        if sys.argv[2] == name:
            print("there", flush=True)
            time.sleep(60)
        return call(*arguments, **options)
    return stopping

os.fsync = moment("before fsync", os.fsync)
Path.replace = moment("before rename", Path.replace)
os.open = moment("after rename", os.open)  # the folder, to be synchronised
with complete_file(Path(sys.argv[1]), Kind("a file", lambda file: True)) as file:
    moment("empty", lambda: None)()
    file.write(b"new" * 100_000)
    moment("half", lambda: None)()
    file.write(b"new" * 100_000)
"""


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def _write(path: Path, kind: Kind = ANY, content: bytes = b"ours, new") -> None:
    with complete_file(path, kind) as file:
        file.write(content)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _fail(path: Path, failure: BaseException) -> None:
    with complete_file(path, ANY) as file:
        file.write(b"half of it")
        raise failure


def test_the_file_appears_at_the_end_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with complete_file(path, ANY) as file:
        file.write(b"all of it")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("failure", [ValueError("a crash"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("there", [True, False])
def test_a_crash_in_the_middle_leaves_what_was_there(tmp_path: Path, there: bool, failure: BaseException) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"what was there")
    with pytest.raises(type(failure)) as raised:
        _fail(path, failure)
    assert raised.value is failure
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == (
        {"file": b"what was there"} if there else {}
    )


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"what was there")
    expected = f"{path} must be writable, got: No space left on device"
    with pytest.raises(IntsimError, match=f"^{re.escape(expected)}$"):
        _fail(path, OSError(28, "anything"))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"what was there"}


def test_a_folder_in_place_of_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with (
        pytest.raises(IntsimError, match="file must be writable, got: Is a directory"),
        complete_file(tmp_path / "file", ANY),
    ):
        pass
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_permissions_that_umask_leaves(tmp_path: Path) -> None:
    _write(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mode", [0o644, 0o664, 0o600])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    _write(path)
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_stays_one(tmp_path: Path, there: bool) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("folder") / "target")
    _write(link)
    assert link.readlink() == Path("folder") / "target"
    assert target.read_bytes() == b"ours, new"
    assert [*target.parent.iterdir()] == [target]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    check_writable(path, OURS)  # opens nothing: the reader would see an end
    _write(path, OURS)
    reader.join(timeout=10)
    assert read == [b"ours, new"]
    assert path.is_fifo()


def test_a_socket_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        server.listen()
        _write(Path("socket"), OURS)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b"ours, new"
    assert Path("socket").is_socket()


def test_a_device_is_written_to() -> None:
    _write(Path(os.devnull), OURS)
    assert Path(os.devnull).is_char_device()


def test_a_full_device_is_a_sentence() -> None:
    with pytest.raises(IntsimError, match=r"^/dev/full must be writable, got: No space left on device$"):
        _write(Path("/dev/full"))


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_is_written_to_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = f"""
from pathlib import Path
from intsim.io.atomic import Kind, complete_file, is_stdout
assert is_stdout(Path({name!r}))
with complete_file(Path({name!r}), Kind("one of ours", lambda file: False)) as file:
    file.write(b"first")
print("then")
"""
    command, there = [sys.executable, "-c", program], tmp_path / "there"
    piped = subprocess.run(command, cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, check=True)
    assert piped.stdout == b"firstthen\n"
    with there.open("wb") as file:
        subprocess.run(command, cwd=tmp_path, env=_environment(), stdout=file, check=True)
    assert there.read_bytes() == b"firstthen\n"


@pytest.mark.parametrize("check", [check_writable, _write])
def test_what_is_not_ours_is_refused_and_stays(tmp_path: Path, check: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"theirs")
    expected = f"{path} must be new, empty or one of ours to be written, got another file; name a new one"
    with pytest.raises(IntsimError, match=f"^{re.escape(expected)}$"):
        check(path, OURS)  # type: ignore[operator]
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"theirs"}


@pytest.mark.parametrize("content", [b"", b"ours, old"])
def test_what_is_ours_or_empty_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    check_writable(path, OURS)
    assert path.read_bytes() == content
    _write(path, OURS)
    assert path.read_bytes() == b"ours, new"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/proc/self/file", "No such file or directory"),
        ("/dev/null/file", "Not a directory"),
        ("/", "Is a directory"),
        ("n" * 256, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("nul\0", "embedded null byte"),
    ],
)
@pytest.mark.parametrize("check", [check_writable, _write])
def test_an_output_that_cannot_be_written_is_found_at_once(
    tmp_path: Path, check: object, name: str, reason: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(IntsimError, match=f"must be writable, got: {reason}"):
        check(tmp_path / name, ANY)  # type: ignore[operator]
    assert [*tmp_path.iterdir()] == [tmp_path / "loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
@pytest.mark.parametrize("check", [check_writable, _write])
def test_a_folder_or_a_file_that_is_read_only_is_respected(tmp_path: Path, check: object) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir(mode=0o555)
    file.touch(mode=0o444)
    for path in (folder / "file", file):
        with pytest.raises(IntsimError, match="must be writable, got: Permission denied"):
            check(path, ANY)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, name: str) -> None:
    check_writable(tmp_path / name, ANY)
    _write(tmp_path / name)
    assert [*tmp_path.iterdir()] == [tmp_path / name]


def test_a_check_makes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "file", ANY)
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)){WRITER}"
    command = [sys.executable, "-c", limit, str(path), "never"]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    assert "must be writable, got: File too large" in done.stderr
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"old"}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("moment", ["empty", "half", "before fsync", "before rename", "after rename"])
def test_kill_leaves_old_or_new_and_the_next_run_cleans_up(tmp_path: Path, moment: str, there: bool) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")
    command = [sys.executable, "-c", WRITER, str(path), moment]
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        _write(tmp_path / "beside")  # takes nothing away from one that is still being written
        process.send_signal(signal.SIGKILL)
    left = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    new = moment == "after rename"
    assert left.get("file") == (b"new" * 200_000 if new else b"old" if there else None)
    assert len([name for name in left if name.startswith(".intsim-")]) == (not new)
    _write(tmp_path / "beside")
    assert {each.name for each in tmp_path.iterdir()} == {"beside"} | ({"file"} if there or new else set())


def test_a_temporary_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with complete_file(tmp_path / "slow", ANY) as slow:
        slow.write(b"slow")
        _write(tmp_path / "quick")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"slow": b"slow", "quick": b"ours, new"}


def test_nobody_reading_is_no_sentence(tmp_path: Path) -> None:
    def write() -> None:
        with complete_file(path, ANY) as file:
            reader.join()
            file.write(b"x" * 10_000_000)

    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: path.open("rb").close())
    reader.start()
    with pytest.raises(BrokenPipeError):
        write()
