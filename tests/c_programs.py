# SPDX-License-Identifier: Apache-2.0
"""Exported C, compiled: as a program that reads ids, or as a library."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from intsim.integer_model import IntegerModel
from intsim.io.c import export
from intsim.testing import assert_bit_exact

WARNINGS: Final = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
SANITIZED: Final = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")


def compiler() -> str:
    """Return the C compiler of this machine."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            pytest.fail("needs a C compiler, cc or $CC (INTSIM_REQUIRE_KERNELS=1)")
        pytest.skip("needs a C compiler, cc or $CC")
    return found


def compiled(source: Path, target: Path, *options: str) -> Path:
    """Compile one file, every warning an error."""
    done = subprocess.run(
        [compiler(), *WARNINGS, *options, str(source), "-o", str(target)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return target


def program(model: IntegerModel, folder: Path, *options: str) -> Path:
    """Export a model and compile its program."""
    export(model, folder)
    return compiled(folder / "model.c", folder / "model", *(options or ("-O1",)))


def library(model: IntegerModel, folder: Path) -> ctypes.CDLL:
    """Export a model and load it as a library."""
    export(model, folder)
    options = ("-O1", "-DMODEL_NO_MAIN", "-shared", "-fPIC")
    return ctypes.CDLL(str(compiled(folder / "model.c", folder / "model.so", *options)))


def lines(texts: Iterable[Sequence[int]]) -> str:
    """Return texts as the program reads them."""
    return "".join(f"{' '.join(map(str, ids))}\n" for ids in texts)


def answers(path: Path, texts: Iterable[Sequence[int]]) -> list[NDArray[np.int64]]:
    """Return what a program prints for each text."""
    done = subprocess.run([str(path)], input=lines(texts), check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [np.array(line.split(), np.int64) for line in done.stdout.splitlines()]


def integers(model: IntegerModel, ids: Sequence[int]) -> NDArray[np.int64]:
    """Return what the program should print: the output, of a decoder that of the last token."""
    (values,) = model([list(ids)]).values
    last: Any = values[-1] if model.outline.cached and values.ndim > 1 else values
    return last.ravel().astype(np.int64)


def drawn(model: IntegerModel, count: int, seed: int = 0) -> list[list[int]]:
    """Return random texts of one token, of two, of as many as there can be, and of any length between."""
    rng, longest = np.random.default_rng(seed), model.config.longest
    lengths = [1, 2, longest, *rng.integers(1, longest + 1, count)]
    return [rng.integers(0, model.config.vocab_size, length).tolist() for length in lengths]


def assert_same(model: IntegerModel, path: Path, texts: Sequence[Sequence[int]]) -> None:
    """Hold a program's answers against the golden model's."""
    found = answers(path, texts)
    assert len(found) == len(texts)
    for ids, values in zip(texts, found, strict=True):
        assert_bit_exact(values, integers(model, ids), name=f"{len(ids)} tokens")
