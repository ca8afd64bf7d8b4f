# SPDX-License-Identifier: Apache-2.0
"""intsim beside a user's own files, in a pickle, and in other processes."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pytest

import intsim

ROOT: Final = Path(__file__).resolve().parents[1]
TEXTS: Final = ("a good movie .", "the plot is not bad , not good")
IDS: Final = [[2, 9, 10, 11, 6, 3]]


def test_users_own_files_are_not_taken_for_ours(tiny_bert, tmp_path):
    names = ["reference", "ops", "models", "convert", "profile"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"golden = '{name}'\n")
    program = f"""
import sys
import intsim
import {", ".join(names)}
model = intsim.quantize(sys.argv[1], calibration=sys.argv[2:])
print({", ".join(f"{name}.golden" for name in names)})
print(model({IDS}).digest, intsim.reference.world.__name__)
"""
    path = tiny_bert()
    command = [sys.executable, "-c", program, str(path), *TEXTS]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # behind the working directory, as site-packages are
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    expected = intsim.quantize(path, calibration=TEXTS)(IDS).digest
    assert done.stdout.split() == [*names, expected, "intsim.reference.world"]


@pytest.mark.parametrize("recipe", ["intsim", "ibert", "peg:groups=4", "tm-iqr", "zeroquant-w4:groups=4"])
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
def test_a_model_is_pickled_before_and_after_a_run(tiny_bert, recipe, labels):
    model = intsim.quantize(tiny_bert(labels=labels), recipe=recipe, calibration=TEXTS)
    fresh = pickle.dumps(model)
    digest = model(IDS).digest
    assert model._built
    used = pickle.dumps(model)
    assert used == fresh  # what a run has prepared is not stored
    copy = pickle.loads(used)  # noqa: S301 - our own
    assert copy._built.keys() < model._built.keys()
    assert copy(IDS).digest == digest
    assert copy.outline.tensors == model.outline.tensors


def test_a_model_that_has_run_goes_to_another_process(tiny_bert):
    model = intsim.quantize(tiny_bert(), calibration=TEXTS)
    digest = model(IDS).digest
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(model, IDS).result().digest == digest
