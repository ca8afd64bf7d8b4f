# SPDX-License-Identifier: Apache-2.0
"""Conversion of decoders under the papers' schemes: what they compute is near the float model, and the oracle's."""

from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from families import tiny
from family_runs import assert_engine_agrees, draw, floats, judged, values
from numpy.typing import NDArray

import intsim
from intsim.io.huggingface import open_checkpoint

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good")
DECODERS: Final = ("llama", "mistral", "qwen2", "gemma", "gpt2", "gptj", "gpt_neox", "opt")
COSINE: Final = {  # the least, of all logits to those of the float model; TEXTS leave out most words and their ranges
    "intsim": 0.98,
    "w8a8": 0.93,
    "smoothquant": 0.97,
    "zeroquant": 0.98,
    "zeroquant-w4": 0.94,
    "zeroquant-w4:groups=12": 0.94,
    "zeroquant-w4:rounding=gptq": 0.95,
    "w4a8:rounding=gptq": 0.75,
}
CASES: Final = [(family, recipe) for family in DECODERS for recipe in COSINE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @cache
    def write(family: str, **config: Any) -> Path:
        return tiny(family, "causal-lm", tmp_path_factory.mktemp(family), **config)

    return write


def cosine(ours: NDArray[Any], theirs: NDArray[np.floating]) -> float:
    return float((ours * theirs).sum() / np.sqrt(np.square(1.0 * ours).sum() * np.square(theirs).sum()))


@pytest.mark.parametrize(("family", "recipe"), CASES)
def test_every_scheme_stays_near_the_float_model(folder: Callable[..., Path], family: str, recipe: str) -> None:
    path = folder(family)
    model = intsim.quantize(path, recipe=recipe, calibration=TEXTS)
    feed = draw(model.config, 1, 3, 8)
    there = feed.mask > 0
    assert cosine(values(model, feed)[there], floats(path, feed)[there]) > COSINE[recipe]


@pytest.mark.parametrize(("family", "recipe"), [case for i, case in enumerate(CASES) if i % (len(COSINE) - 1) == 3])
def test_the_oracle_finds_nothing_wrong(folder: Callable[..., Path], tmp_path: Path, family: str, recipe: str) -> None:
    model = intsim.quantize(folder(family), recipe=recipe, calibration=TEXTS)
    assert judged(model, draw(model.config, 2, 2, 5), tmp_path / "trace") == []


@pytest.mark.parametrize("groups", [64, 128])
@pytest.mark.parametrize("recipe", ["zeroquant", "zeroquant-w4"])
@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("gpt2", {"n_embd": 128, "n_inner": 256}),
        ("llama", {"hidden_size": 128, "intermediate_size": 256, "num_key_value_heads": 4}),
    ],
)
def test_weights_are_in_as_many_groups_as_for_the_papers_decoders(
    folder: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    family: str,
    sizes: dict[str, int],
    recipe: str,
    groups: int,
) -> None:
    model = intsim.quantize(folder(family, **sizes), recipe=f"{recipe}:groups={groups}", calibration=TEXTS)
    assert "groups" not in caplog.text  # none was fitted
    for name, tensor in model.outline.tensors.items():
        if tensor.role == "ffn":
            top = 7 if recipe == "zeroquant-w4" else 127
            rows = np.abs(model.codes(name), dtype=np.int64).reshape(groups, -1).max(axis=1)
            assert (rows == top).all(), name
    feed = draw(model.config, 1, 2, 6)
    there = feed.mask > 0
    assert cosine(values(model, feed)[there], floats(folder(family, **sizes), feed)[there]) > 0.9


@pytest.mark.parametrize("bits", [16, 17, 19, 20, 24, 25, 28, 32])
@pytest.mark.parametrize("family", ["llama", "gptj"])
def test_sums_between_the_layers_have_any_bits_up_to_32(
    folder: Callable[..., Path], tmp_path: Path, family: str, bits: int
) -> None:
    text = (resources.files("intsim.recipes") / "zeroquant.toml").read_text(encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(text.replace("bits = 24", f"bits = {bits}"))
    model = intsim.quantize(folder(family), recipe=tmp_path / "recipe.toml", calibration=TEXTS, profile="intsim-wide")
    sums = [name for name, each in model.outline.activations.items() if each.role == "residual.ffn.stream"]
    assert {model.formats[name].range.bits for name in sums} == {bits}
    feed = draw(open_checkpoint(folder(family)).config, 1, 3, 8)
    there = feed.mask > 0
    assert cosine(values(model, feed)[there], floats(folder(family), feed)[there]) > COSINE["zeroquant"]


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt2", "opt"])
def test_a_tied_head_of_the_rule_of_the_words_is_stored_once(tmp_path: Path, family: str) -> None:
    path, recipe = tiny(family, "causal-lm-tied", tmp_path / "float"), tmp_path / "one.toml"
    text = (resources.files("intsim.recipes") / "zeroquant.toml").read_text(encoding="utf-8")
    recipe.write_text(text.replace('granularity = "channel"', 'granularity = "tensor"').replace("= 48", "= 4"))
    model = intsim.quantize(path, recipe=recipe, calibration=TEXTS)
    head = model.outline.result.name
    assert f"{head}.weight" not in model.tensors
    (words,) = (name for name, tensor in model.outline.tensors.items() if tensor.role == "embedding.word")
    assert model.codes(f"{head}.weight") is model.tensors[words]
    apart = intsim.quantize(path, recipe="zeroquant:groups=4", calibration=TEXTS)
    assert f"{head}.weight" in apart.tensors
    model.save(tmp_path / "integers")
    again, feed = intsim.load(tmp_path / "integers"), draw(model.config, 1, 3, 8)
    assert np.array_equal(values(again, feed), values(model, feed))
    there = feed.mask > 0
    assert cosine(values(model, feed)[there], floats(path, feed)[there]) > COSINE["zeroquant"]
    assert_engine_agrees(model, [feed], tmp_path / "model.onnx")


@pytest.mark.parametrize("bits", [16, 17, 20, 24, 32])
@pytest.mark.parametrize("heaped", [0.01, 1.0, 300.0], ids="{} times the sum".format)
def test_a_product_has_room_for_all_that_it_may_take_from_a_wide_sum_and_wastes_no_bit(
    folder: Callable[..., Path], tmp_path: Path, bits: int, heaped: float
) -> None:
    text = (resources.files("intsim.recipes") / "zeroquant.toml").read_text(encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(text.replace("bits = 24", f"bits = {bits}"))
    total, skip = "layers.1.mlp.sum", "layers.1.self_attn.sum"
    ranges = {total: [-4.0, 4.0], skip: [-4 * heaped, 4 * heaped]}
    model = intsim.quantize(folder("llama"), recipe=tmp_path / "recipe.toml", calibration=TEXTS, ranges=ranges)
    assert model.outline.sums[total].skip == skip
    scale, codes = real(model.formats[total].scale), model.formats[total].range
    step = real(model.ratio("layers.1.mlp.down_proj")) * scale  # of the int32 that is added
    if bits == 16:
        assert step == pytest.approx(scale / 2**8, rel=2**-20)
        return
    other = model.formats[skip]
    spans = scale * (codes.max - codes.min) + real(other.scale) * (other.range.max - other.range.min)
    assert 2**29 * step < spans <= 2**30 * step  # skip + product within the sum: |product| is at most both


def real(ratio: intsim.Dyadic) -> float:
    return float(np.ldexp(float(ratio.multiplier), -int(ratio.shift)))
