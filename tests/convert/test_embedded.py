# SPDX-License-Identifier: Apache-2.0
"""The embedded model: made from the float checkpoint beside the tests, small, and as accurate as it."""

from importlib import resources
from pathlib import Path

import pytest

import intsim
from intsim.report.evaluate import evaluate, read_task

FLOAT = Path(__file__).parents[1] / "data" / "embedded-float"
EMBEDDED = resources.files("intsim.embedded") / "model.safetensors"


def test_it_is_the_float_checkpoint_quantized_byte_for_byte(tmp_path):
    intsim.quantize(FLOAT).save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == EMBEDDED.read_bytes()


def test_it_takes_at_most_two_megabytes():
    assert len(EMBEDDED.read_bytes()) <= 2_000_000


@pytest.mark.slow
def test_it_classifies_sst2_as_well_as_the_float_model(shared):
    examples = read_task("sst2", shared / "data" / "SST-2" / "dev.tsv")
    result = evaluate(intsim.load(resources.files("intsim.embedded")), "sst2", examples, reference=FLOAT)
    assert result.reference is not None
    print(f"SST-2 dev: float {result.reference['accuracy']:.4f}, integers {result.metrics['accuracy']:.4f}")
    assert result.reference["accuracy"] >= 0.80
    assert result.metrics["accuracy"] >= result.reference["accuracy"] - 0.005
