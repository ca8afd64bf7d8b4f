# SPDX-License-Identifier: Apache-2.0
"""Several recipes at once: the models of each alone, and as few runs of the float model as they need."""

from importlib import import_module

import numpy as np
import pytest
from families import tiny

import intsim
from intsim.convert import quantize_each

TEXTS = ("a good movie .", "the plot is not bad , not good")
RECIPES = ("intsim", "w4a8:rounding=gptq", "tm-iqr", "peg:groups=4", "zeroquant:groups=4")


@pytest.fixture
def runs(monkeypatch):
    """Count the runs of the float model over the calibration texts."""
    found = []
    module = import_module("intsim.convert.quantize")
    calibrate = module.calibrate

    def counted(*arguments, **options):
        found.append(1)
        calibrate(*arguments, **options)

    monkeypatch.setattr(module, "calibrate", counted)
    return found


def test_each_is_what_the_recipe_gives_alone(tiny_bert):
    path = tiny_bert()
    for recipe, model in zip(RECIPES, quantize_each(path, RECIPES, calibration=TEXTS), strict=True):
        alone = intsim.quantize(path, recipe=recipe, calibration=TEXTS)
        assert model.recipe == alone.recipe
        assert model.formats == alone.formats
        assert model.tensors.keys() == alone.tensors.keys()
        for name, values in alone.tensors.items():
            assert np.array_equal(model.tensors[name], values), (recipe, name)


def test_the_float_model_runs_once_for_all_and_once_more_for_one_that_permutes(tiny_bert, runs):
    path = tiny_bert()
    quantize_each(path, [recipe for recipe in RECIPES if not recipe.startswith("peg")], calibration=TEXTS)
    assert len(runs) == 1
    runs.clear()
    quantize_each(path, RECIPES, calibration=TEXTS)
    assert len(runs) == 2


def test_one_that_smooths_runs_before_for_its_scales_and_after_for_its_ranges(tmp_path, runs):
    path = tiny("llama", "causal-lm", tmp_path)
    intsim.quantize(path, recipe="smoothquant", calibration=TEXTS)
    assert len(runs) == 2
    runs.clear()
    quantize_each(path, ["intsim", "smoothquant", "smoothquant:alpha=0.75"], calibration=TEXTS)
    assert len(runs) == 3  # the first of all three is one
