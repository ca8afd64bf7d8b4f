# SPDX-License-Identifier: Apache-2.0
"""What quantization costs a real BERT: MiniLM on STS-B, SST-2 and CoLA, the integer model beside the float one.

The figures are printed: ``pytest -m slow -s tests/accuracy/test_minilm.py``.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest
from numpy.typing import NDArray

import intsim
from intsim.io.huggingface import open_checkpoint
from intsim.report import evaluate as module
from intsim.report.evaluate import Evaluation, evaluate, read_task

pytestmark = pytest.mark.slow

SENTENCES: Final = 64  # of calibration
FLOAT_SPEARMAN: Final = 0.8672


@pytest.fixture(scope="module", autouse=True)
def _each_float_output_once() -> Iterator[None]:
    """Remember what the float model gave for a batch: every recipe is compared with the same."""
    outputs: dict[tuple[str, bytes, bytes], NDArray[Any]] = {}
    make_runner = module._float_runner

    def remembering(path: str | Path, model: intsim.IntegerModel) -> module.Runner:
        run = make_runner(path, model)

        def remembered(ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> NDArray[Any]:
            key = (str(path), ids.tobytes(), mask.tobytes() + types.tobytes())
            if key not in outputs:
                outputs[key] = run(ids, mask, types)
            return outputs[key]

        return remembered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_float_runner", remembering)
        yield


@pytest.fixture(scope="module")
def stsb_texts(shared: Path) -> list[str]:
    return [example.texts[0] for example in read_task("stsb", shared / "data" / "STS-B" / "sts-train.csv")[:SENTENCES]]


@pytest.fixture(scope="module")
def stsb(minilm: Path, shared: Path, stsb_texts: list[str]) -> Callable[..., Evaluation]:
    """Return a function that scores a recipe on STS-B dev, the float model beside it."""
    examples = read_task("stsb", shared / "data" / "STS-B" / "sts-dev.csv")
    scored: dict[str, Evaluation] = {}

    def score(recipe: str | Path) -> Evaluation:
        name = Path(recipe).name
        if name not in scored:
            model = intsim.quantize(minilm, recipe=recipe, calibration=stsb_texts)
            scored[name] = evaluate(model, "stsb", examples, reference=minilm)
            _show(name, scored[name])
        return scored[name]

    return score


def _show(name: str, result: Evaluation) -> None:
    for metric, value in result.metrics.items():
        beside = "" if result.reference is None else f"  float {100 * result.reference[metric]:.2f}"
        print(f"{result.task} {name:<12} {metric:<9} {100 * value:.2f}{beside}")
    if result.cosine is not None:
        print(f"{result.task} {name:<12} {'cosine':<9} {result.cosine:.5f}")


def _points(result: Evaluation, metric: str) -> float:
    """Return how many points the integer model loses."""
    assert result.reference is not None
    return 100 * (result.reference[metric] - result.metrics[metric])


def _with_8_bit_sums(recipe: str, folder: Path) -> Path:
    """Write the preset with residual sums of 8 bits."""
    text = (resources.files("intsim.recipes") / f"{recipe}.toml").read_text(encoding="utf-8")
    head, names, tail = text.partition('["embedding", "residual"')
    assert names
    assert tail.count("bits = 16") >= 1
    path = folder / f"{recipe}-8"
    path.write_text(head + names + tail.replace("bits = 16", "bits = 8", 1), encoding="utf-8")
    return path


def test_the_float_model_scores_what_is_published(stsb: Callable[..., Evaluation]) -> None:
    result = stsb("intsim")
    assert result.reference is not None
    assert result.reference["spearman"] == pytest.approx(FLOAT_SPEARMAN, abs=0.0005)


def test_recipe_intsim_costs_at_most_six_tenths_of_a_point_of_spearman(stsb: Callable[..., Evaluation]) -> None:
    result = stsb("intsim")
    assert result.n == 1500
    assert _points(result, "spearman") <= 0.6
    assert result.cosine is not None
    assert result.cosine > 0.98


def test_recipe_ibert_follows_at_some_distance(stsb: Callable[..., Evaluation]) -> None:
    assert _points(stsb("ibert"), "spearman") <= 3
    assert stsb("ibert").cosine < stsb("intsim").cosine


@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_residual_sums_of_8_bits_lose(stsb: Callable[..., Evaluation], tmp_path: Path, recipe: str) -> None:
    narrow, wide = stsb(_with_8_bit_sums(recipe, tmp_path)), stsb(recipe)
    assert narrow.cosine < wide.cosine - 0.05
    assert narrow.metrics["spearman"] < wide.metrics["spearman"]


@pytest.mark.parametrize(
    ("model", "task", "train", "dev", "metric", "most"),
    [
        ("minilm-sst2", "sst2", "SST-2/train.tsv", ["SST-2/dev.tsv"], "accuracy", 0.5),
        (
            "minilm-cola",
            "cola",
            "CoLA/in_domain_train.tsv",
            ["CoLA/in_domain_dev.tsv", "CoLA/out_of_domain_dev.tsv"],
            "matthews",
            3,
        ),
    ],
)
def test_a_classifier_follows_its_float_model(
    shared: Path, model: str, task: Any, train: str, dev: Sequence[str], metric: str, most: float
) -> None:
    path = shared / "models" / model
    examples = [example for file in dev for example in read_task(task, shared / "data" / file)]
    texts = [example.texts[0] for example in read_task(task, shared / "data" / train)[:SENTENCES]]
    assert open_checkpoint(path).dtype("classifier.weight") == "F16"
    results = {}
    for recipe in ("intsim", "ibert"):
        integers = intsim.quantize(path, recipe=recipe, calibration=texts)
        results[recipe] = evaluate(integers, task, examples, reference=path)
        _show(recipe, results[recipe])
    published = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    assert (results["intsim"].n, results["intsim"].reference) == (
        published["n"],
        {metric: pytest.approx(published[metric], abs=1e-5)},
    )
    assert _points(results["intsim"], metric) <= most
