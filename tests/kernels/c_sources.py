# SPDX-License-Identifier: Apache-2.0
"""Kernels that no package carries, compiled from their sources with the compiler of this machine.

INTSIM_KERNEL_SOURCES names a folder of clones at the commits of COMMITS::

    git clone https://github.com/ARM-software/CMSIS-NN && git -C CMSIS-NN checkout 99f736a63036
    git clone https://github.com/tensorflow/tflite-micro && git -C tflite-micro checkout 90b983c2b3f1
    git clone https://github.com/google/gemmlowp && git -C gemmlowp checkout 16e8662c3491
    git clone https://github.com/google/ruy && git -C ruy checkout 2af88863614a

Overflow wraps in what is compiled (-fwrapv), as it does on the processors it was written for.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

COMMITS: Final = {
    "CMSIS-NN": "99f736a63036",
    "tflite-micro": "90b983c2b3f1",
    "gemmlowp": "16e8662c3491",
    "ruy": "2af88863614a",
}
FLAGS: Final = ("-O2", "-fwrapv", "-shared", "-fPIC", "-w")
FOLDER: Final = "INTSIM_KERNEL_SOURCES"


class SourcesMissing(ImportError):  # noqa: N818  what it says
    """There is nothing to compile."""


def repository(name: str) -> Path:
    """Return the folder of a repository, which must be at its commit.

    Raises
    ------
    SourcesMissing
        If it is not, or there is none.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        msg = f"{FOLDER} must name the folder that tests/kernels/c_sources.py speaks of"
        raise SourcesMissing(msg)
    path = Path(folder, name)
    git = ["git", "-C", str(path), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    if not head.startswith(COMMITS[name]):
        msg = f"{path} must be a clone at {COMMITS[name]}, got {head or 'none'}"
        raise SourcesMissing(msg)
    return path


@cache
def library(compiler: str, sources: tuple[str | Path, ...], arguments: tuple[str, ...]) -> ctypes.CDLL:
    """Return what the sources compile to: paths, or the text of one."""
    folder = Path(tempfile.mkdtemp())
    try:
        texts = [source for source in sources if isinstance(source, str)]
        for number, text in enumerate(texts):
            (folder / f"{number}.{'c' if compiler == 'gcc' else 'cc'}").write_text(text)
        paths = [source for source in sources if isinstance(source, Path)] + sorted(folder.glob("*.c*"))
        output = folder / "kernels.so"
        subprocess.run([compiler, *FLAGS, *arguments, *map(str, paths), "-o", str(output)], check=True)
        return ctypes.CDLL(str(output))
    finally:
        shutil.rmtree(folder)


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    """Return where a contiguous array is, which must live as long as the call."""
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
