# SPDX-License-Identifier: Apache-2.0
"""The embedded stories model: made from a LLaMA of llama2.c, small, near its float, the same text on every machine."""

import hashlib
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest

import intsim
from intsim.report.evaluate import evaluate, read_task

ROOT: Final = Path(__file__).resolve().parents[2]
STORIES: Final = Path(str(resources.files("intsim.embedded") / "stories"))
GOLDEN: Final = ROOT / "tests" / "golden" / "stories.json"
MACHINES: Final[list[dict[str, str]]] = [
    {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Sandybridge"},
    {"INTSIM_MATMUL": "integer"},
]


@pytest.fixture(scope="module")
def checkpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Hugging Face folder of the float model."""
    folder, source = tmp_path_factory.mktemp("stories"), shared / "models" / "stories260K"
    script = ROOT / "notebooks" / "stories_checkpoint.py"
    subprocess.run([sys.executable, script, source / "stories260K.bin", source / "tok512.bin", folder], check=True)
    return folder


def test_it_is_the_float_checkpoint_quantized_byte_for_byte(checkpoint: Path, tmp_path: Path) -> None:
    intsim.quantize(checkpoint, recipe="zeroquant", profile="intsim-wide").save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (STORIES / "model.safetensors").read_bytes()


def test_it_takes_at_most_a_megabyte() -> None:
    assert (STORIES / "model.safetensors").stat().st_size <= 1_000_000


def test_its_licence_is_beside_it() -> None:
    notice = (STORIES / "LICENSE").read_text(encoding="utf-8")
    assert "https://github.com/karpathy/llama2.c" in notice
    assert "MIT License" in notice


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "profile", "most"), [("zeroquant", "intsim-wide", 1.04)])
def test_its_perplexity_is_near_that_of_floats(
    shared: Path, checkpoint: Path, recipe: str, profile: str, most: float
) -> None:
    lines = read_task("perplexity", shared / "data" / "TinyStories" / "TinyStories-valid_30k.txt")
    model = intsim.quantize(checkpoint, recipe=recipe, profile=profile)
    result = evaluate(model, "perplexity", lines[:60], reference=checkpoint)
    assert result.reference is not None
    ratio = result.metrics["perplexity"] / result.reference["perplexity"]
    print(f"{recipe}, {profile}: perplexity {result.metrics['perplexity']:.3f}, float {ratio:.4f} times less")
    assert ratio < most


def told(text: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Return what a process of its own generates."""
    options = [str(each) for option, value in text["options"].items() for each in (f"--{option}", value)]
    program = [sys.executable, "-c", "from intsim.cli import main; main()", "generate", *options, "--json"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "OMP", "INTSIM"))}
    environment = kept | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(program, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


GOLDEN_TEXTS: Final = json.loads(GOLDEN.read_text(encoding="utf-8"))
AT_ONCE: Final = tuple(zip(MACHINES[1:], (1, 0, 1), strict=True))  # one of the two paragraphs


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        (MACHINES[0], [0, 1]),
        *((machine, [one]) for machine, one in AT_ONCE),
        *(pytest.param(machine, [1 - one], marks=pytest.mark.slow) for machine, one in AT_ONCE),
    ],
    ids=str,
)
def test_its_paragraphs_are_the_golden_ones_on_every_machine(
    environment: dict[str, str], wanted: list[int], tmp_path: Path
) -> None:
    golden = GOLDEN_TEXTS | {"paragraphs": [GOLDEN_TEXTS["paragraphs"][i] for i in wanted]}
    found = {"file": hashlib.sha256((STORIES / "model.safetensors").read_bytes()).hexdigest(), "paragraphs": []}
    for text in golden["paragraphs"]:
        made = told(text, environment)
        found["paragraphs"].append({"options": text["options"], "digest": made["digest"], "text": made["text"]})
    written = json.dumps(found, indent=1, ensure_ascii=False)
    (tmp_path / "stories.json").write_text(f"{written}\n", encoding="utf-8")
    changed = f"{tmp_path / 'stories.json'} differs from {GOLDEN}; copy the whole one only if the model was made anew"
    assert found == golden, changed
