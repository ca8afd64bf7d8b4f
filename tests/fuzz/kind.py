# SPDX-License-Identifier: Apache-2.0
"""What the fuzzer knows of a kind of files."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fuzz import seeds
from fuzz.edits import Files


class Kind(NamedTuple):
    """A kind of files.

    Parameters
    ----------
    seeds
        Names of what it begins from.
    files
        From such a name to the files.
    targets
        What is edited: a file and, in its tree, where; those that come twice are edited twice as often.
    commands
        From a seed to the arguments of intsim that read the files, which are in FOLDER.
    model
        The folder with the integer checkpoint that is there when the first command has ended well.
    write
        From a file's content to its bytes.
    """

    seeds: Sequence[str]
    files: Callable[[str], Files]
    targets: Sequence[Sequence[Any]]
    commands: Callable[[str], Sequence[Sequence[str]]]
    model: str = ""
    write: Callable[[Any], bytes] = seeds.write
