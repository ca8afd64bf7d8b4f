# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a tiny random checkpoint of every family and head, and the integer models made of them, each made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from families import calibration, tiny

import intsim


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
        path, texts = family_checkpoint(family, head, **config), calibration(family)
        return intsim.quantize(path, recipe=recipe, calibration=texts)

    return quantize
