# SPDX-License-Identifier: Apache-2.0
"""What the fuzzer knows of a kind of files."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fuzz import seeds
from fuzz.edits import Files


class Kind(NamedTuple):
    """A kind of files.

    ``seeds`` name what it begins from, ``files`` makes that. ``targets`` are what is edited, a file and where in its
    tree, those that come twice twice as often. ``commands`` of intsim read the files in FOLDER; SEED stands for the
    name and HEAD for its second word. ``model`` is where the integer checkpoint is that the first command leaves or
    takes, and ``write`` makes bytes of a file.
    """

    seeds: Sequence[str]
    files: Callable[[str], Files]
    targets: Sequence[Sequence[Any]]
    commands: Sequence[str]
    model: str = ""
    write: Callable[[Any], bytes] = seeds.write
