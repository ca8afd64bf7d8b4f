# SPDX-License-Identifier: Apache-2.0
"""The specification of a profile: a document from which its integers can be built without Python.

Everything in it is made from the profile: the equations from its rules, the constants by its rounding, the examples by
the operators. The words of a rule stand in ``rules`` and ``borrowed``.
"""

from pathlib import Path
from typing import BinaryIO, Final

from intsim.errors import IntsimError
from intsim.io.atomic import Kind, complete_file
from intsim.profile import Profile
from intsim.specification.document import to_html, to_markdown
from intsim.specification.rules import blocks

__all__ = ["KINDS", "specification", "write_specification"]

TITLE: Final = "Numerics of profile "
KINDS: Final = (".md", ".html")
"""What a specification is written as, by the suffix of its file."""


def _is_specification(file: BinaryIO) -> bool:
    return TITLE.encode() in file.read(4096)


def specification(profile: Profile, kind: str = ".md") -> str:
    """Return the specification of a profile, as Markdown or as a page of HTML that needs nothing else."""
    title = f"{TITLE}{profile.name}"
    document = blocks(profile, title)
    return to_markdown(document) if kind == ".md" else to_html(title, document)


def write_specification(profile: Profile, path: Path) -> None:
    """Write it as the suffix of the path says.

    Raises
    ------
    IntsimError
        If the suffix is neither ``.md`` nor ``.html``, or the file cannot be written or is another's.
    """
    if path.suffix not in KINDS:
        msg = f"specification must be a file of {' or '.join(KINDS)}, got {path}"
        raise IntsimError(msg)
    text = specification(profile, path.suffix)
    with complete_file(path, Kind("a specification", _is_specification)) as file:
        file.write(text.encode())
