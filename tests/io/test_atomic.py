# SPDX-License-Identifier: Apache-2.0
"""A file appears complete or not at all, and nothing else is left beside it."""

import re
from pathlib import Path

import pytest

from intsim.errors import IntsimError
from intsim.io.atomic import complete_file


def _fail(path: Path, failure: BaseException) -> None:
    with complete_file(path) as file:
        file.write(b"half of it")
        raise failure


def test_the_file_appears_at_the_end_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with complete_file(path) as file:
        file.write(b"all of it")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert path.stat().st_mode & 0o777 == 0o644
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
        complete_file(tmp_path / "file"),
    ):
        pass
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
