# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a tiny random checkpoint of every family and head, and the integer models made of them, each made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from families import tiny

import intsim

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")


@pytest.fixture(scope="session")
def family_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function from a family, a head and fields of config.json to a checkpoint."""

    @cache
    def write(family: str, head: str = "none", **config: Any) -> Path:
        return tiny(family, head, tmp_path_factory.mktemp(f"{family}-{head}"), **config)

    return write


@pytest.fixture(scope="session")
def family_model(family_checkpoint: Callable[..., Path]) -> Callable[..., intsim.IntegerModel]:
    """Return a function from a family, a head, a recipe and fields of config.json to an integer model."""

    @cache
    def quantize(family: str, head: str = "none", recipe: str = "intsim", **config: Any) -> intsim.IntegerModel:
        return intsim.quantize(family_checkpoint(family, head, **config), recipe=recipe, calibration=TEXTS)

    return quantize
