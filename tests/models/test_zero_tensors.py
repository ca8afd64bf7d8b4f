# SPDX-License-Identifier: Apache-2.0
"""Zeros, as zeroed token types and pruning leave them: their codes are 0, and nothing else loses by them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from families import DECODERS, ENCODERS
from family_runs import DISTINCT, assert_engine_agrees, draw, floats, judged, traced, values
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import intsim
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.models.widths import widths
from intsim.models.world import tensor_name
from intsim.recipes import recipe_names

WritesCheckpoint = Callable[..., Path]
Zeroed = Iterator[tuple[str, slice]]  # a tensor, and its rows

TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
TINY: Final = 1e-4  # where weights are 0.2
ALL: Final = slice(None)


def of_role(role: str) -> Callable[[Checkpoint], Zeroed]:
    """Zero the tensors of a role."""

    def zeroed(checkpoint: Checkpoint) -> Zeroed:
        for name, tensor in checkpoint.outline.tensors.items():
            if tensor.role == role:
                yield name, ALL

    return zeroed


def pruned(role: str) -> Callable[[Checkpoint], Zeroed]:
    """Zero what is added to a residual stream."""

    def zeroed(checkpoint: Checkpoint) -> Zeroed:
        for name, total in checkpoint.outline.sums.items():
            if checkpoint.outline.activations[name].role == role and total.skip:
                for term in total.terms:
                    yield from whole(term)

    return zeroed


def layer(role: str, *, bias: bool = True, rows: slice = ALL) -> Callable[[Checkpoint], Zeroed]:
    """Zero the products that are the activations of a role."""

    def zeroed(checkpoint: Checkpoint) -> Zeroed:
        for name, activation in checkpoint.outline.activations.items():
            if activation.role == role:
                yield from ((part, rows) for part, _ in whole(name) if bias or not part.endswith("bias"))

    return zeroed


def activated(*, bias: bool) -> Callable[[Checkpoint], Zeroed]:
    """Zero what activation functions in feed-forward networks read."""

    def zeroed(checkpoint: Checkpoint) -> Zeroed:
        outline = checkpoint.outline
        added = {tensor_name(term) for total in outline.sums.values() for term in total.terms}
        for name, tensor in outline.tensors.items():
            linear = name.removesuffix(".weight")
            if tensor.role == "ffn" and linear not in added:
                yield from ((part, rows) for part, rows in whole(linear) if bias or not part.endswith("bias"))

    return zeroed


def whole(linear: str) -> Zeroed:
    for part in ("weight", "bias"):
        yield f"{tensor_name(linear)}.{part}", ALL


def biases(checkpoint: Checkpoint) -> Zeroed:
    """Zero every bias of a product."""
    for name, tensor in checkpoint.outline.tensors.items():
        if len(tensor.shape) == 2 and not tensor.role.startswith("embedding") and not tensor.view:
            yield f"{name.removesuffix('weight')}bias", ALL


def one_head(checkpoint: Checkpoint) -> Zeroed:
    """Zero the queries, keys and values of the first head: rows of 5 channels, or of 4."""
    for role in ("query", "key", "value"):
        yield from layer(role, rows=slice(4))(checkpoint)


def everything_pruned(checkpoint: Checkpoint) -> Zeroed:
    """Leave nothing but the embeddings and the norms."""
    yield from pruned("residual.attention")(checkpoint)
    yield from pruned("residual.ffn")(checkpoint)


CASES: Final[dict[str, Callable[[Checkpoint], Zeroed]]] = {
    "token types": of_role("embedding.type"),
    "positions": of_role("embedding.position"),
    "attention sublayers": pruned("residual.attention"),
    "feed-forward sublayers": pruned("residual.ffn"),
    "all sublayers": everything_pruned,
    "queries": layer("query"),
    "keys but for biases": layer("key", bias=False),
    "values": layer("value"),
    "values but for biases": layer("value", bias=False),
    "one head": one_head,
    "feed-forward inputs": activated(bias=True),
    "feed-forward inputs but for biases": activated(bias=False),
    "biases": biases,
}
PRODUCTS: Final = [(family, case, recipe) for family in ENCODERS for case in CASES for recipe in recipe_names()]
FAST: Final = [
    (family, case, list(recipe_names())[(i + 5 * j) % len(recipe_names())])
    for i, family in enumerate(family for family in DISTINCT if family in ENCODERS)
    for j, case in enumerate(CASES)
]
products = pytest.mark.parametrize(
    ("family", "case", "recipe"),
    [*FAST, *(pytest.param(*each, marks=pytest.mark.slow) for each in PRODUCTS if each not in FAST)],
)


def written(path: Path, folder: Path, zeroed: Zeroed, fill: Callable[[NDArray[Any]], NDArray[Any]]) -> Path:
    """Write the checkpoint with other values in place of the tensors named."""
    folder.mkdir()
    tensors = load_file(path / "model.safetensors")
    stored = {name.removeprefix(open_checkpoint(path).family.prefix): name for name in tensors}
    for name, rows in zeroed:
        target = tensors[stored[name]]
        target[rows] = fill(target[rows])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((path / file).read_bytes())
    return folder


def error(path: Path, model: intsim.IntegerModel) -> float:
    """Return how far the integers are from the floats, as a part of these."""
    feed = draw(model.config, 1, 8, 7)
    feed = feed._replace(mask=np.ones_like(feed.mask))
    expected, form = floats(path, feed), model.output_format
    scale = np.ldexp(1.0 * form.scale.multiplier, -form.scale.shift)
    found = (values(model, feed) - np.float64(form.zero_point)) * scale
    return float(np.sqrt(((found - expected) ** 2).mean() / ((expected**2).mean() or 1)))


@products
def test_zeros_have_codes_of_0_and_nothing_loses_by_them(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, case: str, recipe: str
) -> None:
    path = family_checkpoint(family, "token-classification")
    checkpoint, rng = open_checkpoint(path), np.random.default_rng(2)
    zeroed = list(CASES[case](checkpoint))
    if not zeroed:
        assert (family, case) == ("distilbert", "token types")
        return
    zero = written(path, tmp_path / "zero", iter(zeroed), np.zeros_like)
    near = written(path, tmp_path / "near", iter(zeroed), lambda x: rng.normal(0, TINY, x.shape).astype(x.dtype))
    models = [intsim.quantize(folder, recipe=recipe, calibration=TEXTS) for folder in (zero, near)]
    for name, rows in zeroed:
        if name.endswith("weight"):
            assert not models[0].codes(name)[rows].any(), name
    errors = [error(folder, model) for folder, model in zip((zero, near), models, strict=True)]
    assert errors[0] < 1.3 * errors[1] + 0.01, errors
    assert judged(models[0], draw(models[0].config, 3, 2, 4), tmp_path / "trace") == []
    proved, seen = widths(models[0]), traced(models[0], draw(models[0].config, 4, 8, 9))
    assert all(proved[name].min <= x.min() <= x.max() <= proved[name].max for name, x in seen.items() if name)


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_head_of_zeros_gives_zeros(family_checkpoint: WritesCheckpoint, tmp_path: Path, recipe: str) -> None:
    path = family_checkpoint("roberta", "two-classes")
    zeroed = [*whole("classifier.out_proj"), *whole("classifier.dense")]
    model = intsim.quantize(
        written(path, tmp_path / "zero", iter(zeroed), np.zeros_like), recipe=recipe, calibration=TEXTS
    )
    assert not values(model, draw(model.config, 5, 4, 6)).any()


@pytest.mark.parametrize("recipe", ["intsim", "tm-iqr", "peg"])
def test_zeros_are_the_engines_too(family_checkpoint: WritesCheckpoint, tmp_path: Path, recipe: str) -> None:
    path = family_checkpoint("mobilebert", "masked-lm")
    zeroed = [*everything_pruned(open_checkpoint(path)), *of_role("embedding.type")(open_checkpoint(path))]
    model = intsim.quantize(
        written(path, tmp_path / "zero", iter(zeroed), np.zeros_like), recipe=recipe, calibration=TEXTS
    )
    assert_engine_agrees(model, [draw(model.config, 6, 4, 6)], tmp_path / "model.onnx")


# ---- decoders


def streams(checkpoint: Checkpoint) -> Zeroed:
    """Zero what is added to the stream between the layers."""
    for name, total in checkpoint.outline.sums.items():
        if checkpoint.outline.activations[name].role.startswith("residual") and total.skip:
            for term in total.terms:
                yield from stored_parts(checkpoint, tensor_name(term))


def stored_parts(checkpoint: Checkpoint, *layers: str) -> Zeroed:
    """Zero the tensors of layers in the file, whole ones: what shares a tensor with a layer goes with it."""
    for layer in layers:
        view = checkpoint.outline.tensors[f"{layer}.weight"].view
        name = getattr(view, "name", layer)
        yield from ((f"{name}.{part}", ALL) for part in ("weight", "bias"))


def of_layers(*roles: str) -> Callable[[Checkpoint], Zeroed]:
    """Zero the layers whose products are activations of the roles, or are rotated to be."""

    def zeroed(checkpoint: Checkpoint) -> Zeroed:
        for name, activation in checkpoint.outline.activations.items():
            layer = tensor_name(name.removesuffix(".rotated"))
            if activation.role in roles and f"{layer}.weight" in checkpoint.outline.tensors:
                yield from stored_parts(checkpoint, layer)

    return zeroed


def gates(checkpoint: Checkpoint) -> Zeroed:
    """Zero the gates, or what activation functions read where there are none."""
    for name in checkpoint.outline.tensors:
        layer = name.removesuffix(".weight")
        if layer.endswith((".gate_proj", ".c_fc", ".fc_in", ".dense_h_to_4h", ".fc1")):
            yield from stored_parts(checkpoint, layer)


DECODER_CASES: Final[dict[str, Callable[[Checkpoint], Zeroed]]] = {
    "sublayers": streams,
    "queries": of_layers("query"),
    "keys": of_layers("key"),
    "values": of_layers("value"),
    "gates": gates,
    "words": of_role("embedding.word"),
    "head": lambda _: iter([("lm_head.weight", ALL), ("lm_head.bias", ALL), ("embed_out.weight", ALL)]),
}
DECODER_RECIPES: Final = ("intsim", "zeroquant:groups=4")
DECODER_PRODUCTS: Final = [(f, c, r) for f in DECODERS for c in DECODER_CASES for r in DECODER_RECIPES]
DECODER_FAST: Final = [
    (family, case, DECODER_RECIPES[(i + j) % 2])
    for i, family in enumerate(("llama", "gpt2"))
    for j, case in enumerate(DECODER_CASES)
]


@pytest.mark.parametrize(
    ("family", "case", "recipe"),
    [
        *DECODER_FAST,
        *(pytest.param(*each, marks=pytest.mark.slow) for each in DECODER_PRODUCTS if each not in DECODER_FAST),
    ],
)
def test_zeros_in_a_decoder_are_zeros_to_the_integers(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, case: str, recipe: str
) -> None:
    path = family_checkpoint(family, "causal-lm")
    there = {name.removeprefix(open_checkpoint(path).family.prefix) for name in load_file(path / "model.safetensors")}
    zeroed = [each for each in DECODER_CASES[case](open_checkpoint(path)) if each[0] in there]
    assert zeroed
    zero = written(path, tmp_path / "zero", iter(zeroed), np.zeros_like)
    model = intsim.quantize(zero, recipe=recipe, calibration=[text.replace("\t", " ") for text in TEXTS])
    feed = draw(model.config, 3, 3, 6)
    # nothing is left to score: no bias, or (Qwen2, whose queries, keys and values have one) no head
    if (case == "words" and family in {"llama", "mistral", "gemma"}) or (
        case == "head" and family in {"llama", "mistral", "qwen2", "gemma"}
    ):
        assert not values(model, feed).any()
    assert error(zero, model) < 0.35
    assert judged(model, feed, tmp_path / "trace") == []
    proved, seen = widths(model), traced(model, feed)
    assert all(proved[name].min <= x.min() <= x.max() <= proved[name].max for name, x in seen.items() if name)
    assert_engine_agrees(model, [feed], tmp_path / "model.onnx")
