# SPDX-License-Identifier: Apache-2.0
"""Files that appear complete or not at all."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from intsim.errors import IntsimError

__all__ = ["complete_file"]


@contextmanager
def complete_file(path: Path) -> Generator[BinaryIO]:
    """Open a file to write, which takes the place of ``path`` when the ``with`` block has ended without an error.

    Missing folders on the way to it are made.

    Raises
    ------
    IntsimError
        If it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield cast("BinaryIO", file)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        msg = f"{path} must be writable, got: {os.strerror(error.errno) if error.errno else error}"
        raise IntsimError(msg) from None
    finally:
        if temporary is not None:  # after a replacement there is none left
            temporary.unlink(missing_ok=True)
