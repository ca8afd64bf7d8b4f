# SPDX-License-Identifier: Apache-2.0
"""What the guides type: in the folder of the repository, and what it prints in one piece, errors among the rest."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from IPython import get_ipython

os.chdir(Path(__file__).parents[2])


def bash(line: str, cell: str) -> None:
    """Run a cell as bash does, from where the one before it left, and stop where it fails.

    Its line says what it needs, which may not be installed; and ``fails``, where that is what it shows.
    """
    words = line.split()
    missing = [word for word in words if word != "fails" and shutil.which(word) is None]
    if missing:
        print(f"(not run here, where {' and '.join(missing)} is not installed)")
        return
    with tempfile.NamedTemporaryFile("r") as place:
        command = f"trap 'pwd > {place.name}' EXIT\n{cell}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, end="")
        os.chdir(place.read().strip())
    failed = done.returncode not in (0, 141)  # 141: nobody reads the rest, as of | head
    if failed != ("fails" in words):
        raise subprocess.CalledProcessError(done.returncode, cell)


get_ipython().register_magic_function(bash, magic_kind="cell")
