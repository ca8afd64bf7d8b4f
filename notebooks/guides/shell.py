# SPDX-License-Identifier: Apache-2.0
"""What the guides type: in the folder of the repository, and what it prints in one piece, errors among the rest."""

import os
import subprocess
from pathlib import Path

from IPython import get_ipython

os.chdir(Path(__file__).parents[2])


def bash(_line: str, cell: str) -> None:
    """Run a cell as bash does, and stop where it fails."""
    done = subprocess.run(
        ["bash", "-c", cell], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(done.stdout, end="")
    done.check_returncode()


get_ipython().register_magic_function(bash, magic_kind="cell")
