# SPDX-License-Identifier: Apache-2.0
"""The papers' schemes in the whole integer BERT: against the oracle, bit for bit, and against layers split by hand."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

import intsim
from intsim import ops
from intsim.recipes import recipe_names

TinyBert = Callable[..., Path]
Trace = Mapping[str, NDArray[Any]]

CALIBRATION: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
IDS: Final = (2, 9, 10, 11, 6, 12, 3)
SIZES: Final = {"hidden_size": 48, "intermediate_size": 96}  # divisible by the groups of every preset

WEIGHTS: Final = """
[[weights]]
names = "*"
bits = 8
granularity = "channel"
"""
ATTENTION: Final = """
[[activations]]
names = ["*.self.query", "*.self.key", "*.self.value"]
bits = 8
symmetric = false
"""
ASYMMETRIC: Final = """
[[activations]]
names = "*"
bits = 8
symmetric = false
"""
FILES: Final = {
    "asymmetric attention": WEIGHTS + ASYMMETRIC,
    "groups of input channels": """
[[weights]]
names = "encoder.*"
bits = 3
granularity = "group"
groups = 4
axis = "input"
"""
    + WEIGHTS
    + ASYMMETRIC,
    "groups of activations everywhere": WEIGHTS
    + ATTENTION
    + """
[[activations]]
names = "last_hidden_state"
bits = 16
symmetric = true

[[activations]]
names = "*"
bits = 8
symmetric = false
groups = 3
""",
    "groups of weights on groups of activations": """
[[weights]]
names = "encoder.*.intermediate.dense.weight"
bits = 4
granularity = "group"
groups = 6
axis = "input"
"""
    + WEIGHTS
    + """
[[activations]]
names = "*.attention.output.LayerNorm"
bits = 12
symmetric = false
groups = 6
"""
    + ASYMMETRIC,
    "inputs without the groups of their source": WEIGHTS
    + ATTENTION
    + """
[[inputs]]
names = "*.intermediate.input"
bits = 6
symmetric = false

[[activations]]
names = ["*.attention.output.LayerNorm", "*.sum"]
bits = 10
symmetric = false
groups = 8
"""
    + ASYMMETRIC,
    "dynamic inputs of asymmetric activations": WEIGHTS
    + ATTENTION
    + """
[[inputs]]
names = "*.output.input"
bits = 5
symmetric = true
range = "sequence"
clip = "tm-iqr"

[[inputs]]
names = ["*.self.input", "pooler.input"]
bits = 8
symmetric = true
range = "token"

[[activations]]
names = "*"
bits = 16
symmetric = false
""",
}
VARIANTS: Final = (
    *recipe_names(),
    "peg:groups=3,permutation=none",
    "w8a8:symmetric=true,estimator=mse",
    "w8a8:estimator=running-min-max,residual_bits=4",
    "tm-iqr:everywhere=tm-iqr",
    "zeroquant:groups=4",
    "zeroquant-w4:granularity=tensor,groups=1",
    "w4a8:rounding=adaround,bias_correction=true",
    "embed2:granularity=channel",
    *FILES,
)
KINDS: Final = ("peg", "q8bert", "q8bert-dq", "tm-iqr", "zeroquant-w4", *FILES)  # one of each arithmetic


@pytest.fixture(scope="module")
def quantized(tiny_bert: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that quantizes a tiny BERT and returns the folder of the integer checkpoint."""
    made: dict[str, Path] = {}

    def quantize(recipe: str, profile: str | None = None, **options: Any) -> Path:
        key = repr((recipe, profile, options))
        if key not in made:
            folder = tmp_path_factory.mktemp("integer")
            file: str | Path = recipe
            if recipe in FILES:
                file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
                file.write_text(FILES[recipe])
            path = tiny_bert(config=SIZES, **options)
            intsim.quantize(path, recipe=file, profile=profile, calibration=CALIBRATION).save(folder)
            made[key] = folder
        return made[key]

    return quantize


def _judged(folder: Path, ids: Sequence[int], mask: Sequence[bool] | None = None) -> dict[str, Any]:
    """Run the oracle on what is in the file, nothing of intsim in between."""
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        metadata = json.loads(file.metadata()["intsim"])
        tensors = {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118 - not a dict
    for name, form in metadata["packed"].items():
        rows, columns = form["shape"]
        codes = oracle.unpack(tensors[name], form["bits"], rows * columns)
        tensors[name] = [codes[row * columns : (row + 1) * columns] for row in range(rows)]
    for name, values in tensors.items():
        if name.endswith("LayerNorm.shift"):  # stored per channel, one for all: the oracle takes the one
            (tensors[name],) = set(values)
    return oracle.bert(metadata, tensors, ids, [0] * len(ids), mask or [True] * len(ids))


def _run(model: intsim.IntegerModel, ids: Any, level: Any = "tensors", **inputs: Any) -> dict[str, NDArray[Any]]:
    with intsim.trace(level) as trace:
        model(ids, **inputs)
    return {name: values for name, values in trace.items() if ":" not in name}


def _sequence(trace: Trace, row: int, tokens: int) -> dict[str, NDArray[Any]]:
    """Return what a trace has of one sequence of a batch, padding left out."""
    part: dict[str, NDArray[Any]] = {}
    for name, values in trace.items():
        if name == "embeddings.position_embeddings":  # (T, C), the same for all
            part[name] = values[:tokens]
        elif name.endswith(".context.acc"):  # (B, H, T, D)
            part[name] = values[row, :, :tokens]
        elif values.ndim == 4:  # (B, H, T, T)
            part[name] = values[row, :, :tokens, :tokens]
        else:  # (B, T, C), (B, 1, 1) of a bound, or (B, C) behind the pooler
            part[name] = values[row, :tokens] if values.ndim == 3 else values[row]
    return part


def _assert_same(actual: Trace, expected: Mapping[str, Any]) -> None:
    assert list(actual) == list(expected)
    for name, values in expected.items():
        judged = np.array(values)
        assert actual[name].shape == judged.shape, f"{name} has another shape"
        assert np.array_equal(actual[name], judged), f"{name} differs"


def _digest(trace: Trace) -> str:
    digest = hashlib.sha256()
    for name, values in trace.items():
        digest.update(name.encode())
        digest.update(np.array(values, "<i8").tobytes())
    return digest.hexdigest()


# ---- the oracle agrees


@pytest.mark.parametrize(
    ("recipe", "profile"),
    [
        *((recipe, "intsim") for recipe in VARIANTS),
        *(pytest.param(recipe, "ibert", marks=[] if recipe in KINDS else [pytest.mark.slow]) for recipe in VARIANTS),
    ],
)
def test_every_intermediate_equals_the_oracles(quantized: Callable[..., Path], recipe: str, profile: str) -> None:
    folder = quantized(recipe, profile)
    _assert_same(_sequence(_run(intsim.load(folder), [IDS]), 0, len(IDS)), _judged(folder, IDS))


@pytest.mark.parametrize("recipe", ["peg", "tm-iqr", "zeroquant", "w4a8"])
def test_every_intermediate_of_an_encoder_equals_the_oracles(quantized: Callable[..., Path], recipe: str) -> None:
    folder = quantized(recipe, labels=None, hidden_act="relu")
    trace = _sequence(_run(intsim.load(folder), [IDS]), 0, len(IDS))
    assert ("last_hidden_state" in trace) == (recipe == "peg")
    _assert_same(trace, _judged(folder, IDS))


@pytest.mark.parametrize("recipe", KINDS)
def test_each_sequence_of_a_padded_batch_equals_the_oracles_of_it_alone(
    quantized: Callable[..., Path], recipe: str
) -> None:
    folder = quantized(recipe)
    lengths = (6, 1, 4)
    ids = np.random.default_rng(0).integers(0, 66, (3, 6))  # whatever stands in the padding
    trace = _run(intsim.load(folder), ids, attention_mask=np.arange(6) < np.array(lengths)[:, None])
    for row, tokens in enumerate(lengths):
        _assert_same(_sequence(trace, row, tokens), _judged(folder, ids[row, :tokens].tolist()))


@pytest.mark.parametrize("recipe", ["q8bert-dq", "tm-iqr:everywhere=tm-iqr", "zeroquant"])
@pytest.mark.parametrize("holes", [(1, 4, 5), (0, 2), tuple(range(7))], ids=str)
def test_a_mask_with_holes_equals_the_oracles(
    quantized: Callable[..., Path], recipe: str, holes: tuple[int, ...]
) -> None:
    folder = quantized(recipe)
    mask = [i not in holes for i in range(len(IDS))]
    trace = _run(intsim.load(folder), [IDS], attention_mask=[mask])
    _assert_same(_sequence(trace, 0, len(IDS)), _judged(folder, IDS, mask))


def test_the_clip_of_tm_iqr_saturates_codes(quantized: Callable[..., Path]) -> None:
    folder = quantized("tm-iqr:everywhere=tm-iqr")
    ids = np.random.default_rng(3).integers(5, 66, 24).tolist()
    trace = _run(intsim.load(folder), [ids])
    inputs = [name for name in trace if f"{name}.bound" in trace and not name.startswith(("pooler", "classifier"))]
    clipped = [name for name in inputs if (np.abs(trace[name]).max(axis=-1) == 127).sum() > 1]
    assert len(inputs) == 8
    assert clipped
    _assert_same(_sequence(trace, 0, len(ids)), _judged(folder, ids))


# ---- what must not change a bit


@pytest.mark.parametrize("recipe", KINDS)
def test_neither_batch_nor_padding_nor_carrier_changes_a_bit(
    quantized: Callable[..., Path], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = intsim.load(quantized(recipe))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 66, (5, 9))
    alone = [_digest(_sequence(_run(model, row[None]), 0, 9)) for row in ids]
    together = _run(model, ids)
    padded = np.concatenate([ids, rng.integers(0, 66, (5, 14))], axis=1)
    with_padding = _run(model, padded, attention_mask=np.broadcast_to(np.arange(23) < 9, (5, 23)))
    assert [_digest(_sequence(together, row, 9)) for row in range(5)] == alone
    assert [_digest(_sequence(with_padding, row, 9)) for row in range(5)] == alone
    steps = _run(model, ids, level="steps")
    monkeypatch.setenv("INTSIM_MATMUL", "integer")
    assert _digest(_run(model, ids)) == _digest(steps) == _digest(together)


@pytest.mark.parametrize("recipe", ["peg", "tm-iqr", "zeroquant-w4:groups=4", "embed2", "groups of input channels"])
def test_saving_and_loading_changes_nothing(quantized: Callable[..., Path], recipe: str, tmp_path: Path) -> None:
    model = intsim.load(quantized(recipe))
    model.save(tmp_path)
    again = intsim.load(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (quantized(recipe) / "model.safetensors").read_bytes()
    assert (again.formats.keys(), again.dynamic) == (model.formats.keys(), model.dynamic)
    for name, values in model.tensors.items():
        assert again.tensors[name].dtype == values.dtype
        assert np.array_equal(again.tensors[name], values)
    assert _digest(_run(again, [IDS])) == _digest(_run(model, [IDS]))


def test_weights_of_fewer_bits_take_fewer_bytes(quantized: Callable[..., Path]) -> None:
    sizes = {recipe: (quantized(recipe) / "model.safetensors").stat().st_size for recipe in ("w4a8", "w6", "mixed")}
    layers = 2 * (4 * 48 * 48 + 2 * 48 * 96) + 48 * 48 + 2 * 48  # codes that mixed keeps in 8 bits
    for recipe, bits in ("w4a8", 4), ("w6", 6):
        assert abs(sizes["mixed"] - sizes[recipe] - layers * (8 - bits) // 8) < 2000  # what the recipe's text takes
    model = intsim.load(quantized("w4a8"))
    assert {values.dtype for name, values in model.tensors.items() if name.endswith(".weight")} == {np.dtype(np.int8)}


# ---- PEG is the network split into layers (Bondarenko et al. 2021, fig. 4)


def _slices(size: int, groups: int) -> list[slice]:
    return [slice(k * size // groups, (k + 1) * size // groups) for k in range(groups)]


def _exact(scale: Any, k: int) -> Fraction:
    return Fraction(int(scale.multiplier[k]), 2 ** int(scale.shift[k]))


@pytest.mark.parametrize("profile", ["intsim", "ibert"])
def test_a_layer_on_groups_is_the_elementwise_sum_of_layers_of_their_own(
    quantized: Callable[..., Path], profile: str
) -> None:
    model = intsim.load(quantized("peg", profile))
    trace, tensors = _run(model, [IDS]), model.tensors
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        name, source = f"{layer}.intermediate.dense", f"{layer}.attention.output.LayerNorm"
        fmt = model.formats[source]
        assert len(set(fmt.zero_point)) > 1
        own = tensors[f"{name}.bias"][0] + fmt.zero_point[0] * tensors[f"{name}.weight"][:, :8].astype(int).sum(axis=1)
        terms, ratios = [], []
        for k, part in enumerate(_slices(48, 6)):
            codes, weight = trace[source][..., part], np.ascontiguousarray(tensors[f"{name}.weight"][:, part])
            bias = own.astype(np.int32) if k == 0 else None  # the bias of the whole layer goes in once
            terms.append(ops.matmul(codes, weight, bias=bias, x_zero_point=fmt.zero_point[k]))
            ratios.append(intsim.Dyadic(tensors[f"{name}.multiplier"][k], tensors[f"{name}.shift"][k]))
            step = Fraction(int(ratios[k].multiplier[0]), 2 ** int(ratios[k].shift[0])) / _exact(fmt.scale, k)
            first = Fraction(int(ratios[0].multiplier[0]), 2 ** int(ratios[0].shift[0])) / _exact(fmt.scale, 0)
            assert abs(step / first - 1) < Fraction(1, 2**20)  # each layer is rescaled from its own scale
        total = ops.add(terms, ratios, to=intsim.IntRange(16), profile=model.profile)
        assert np.array_equal(total, trace[name])


@pytest.mark.parametrize("profile", ["intsim", "ibert"])
def test_a_sum_in_groups_is_the_sums_of_layers_that_give_one_group_each(
    quantized: Callable[..., Path], profile: str
) -> None:
    model = intsim.load(quantized("peg", profile))
    trace, tensors = _run(model, [IDS]), model.tensors
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        block, source = f"{layer}.output", f"{layer}.attention.output.LayerNorm"
        fmt, skip = model.formats[f"{block}.sum"], model.formats[source]
        assert len(set(fmt.zero_point)) > 1
        for k, part in enumerate(_slices(48, 6)):
            weight, bias = tensors[f"{block}.dense.weight"][part], tensors[f"{block}.dense.bias"][part]
            acc = ops.matmul(trace[f"{layer}.intermediate"], weight, bias=bias)
            residual = trace[source][..., part].astype(np.int32) - np.int32(skip.zero_point[k])
            ratios = [
                intsim.Dyadic(tensors[f"{term}.multiplier"][part], tensors[f"{term}.shift"][part])
                for term in (f"{block}.dense", f"{block}.residual")
            ]
            to = {"to": fmt.range, "zero_point": fmt.zero_point[k], "profile": model.profile}
            total = ops.add([acc, residual], ratios, **to)
            assert np.array_equal(total, trace[f"{block}.sum"][..., part])
            (multiplier,) = set(tensors[f"{block}.sum.wide.multiplier"][part].tolist())
            (shift,) = set(tensors[f"{block}.sum.wide.shift"][part].tolist())
            wide = ops.requantize(
                total.astype(np.int32) - np.int32(fmt.zero_point[k]),
                intsim.Dyadic(multiplier, shift),
                to=intsim.IntRange(16),
                rounding=model.profile.requantization,
            )
            assert np.array_equal(wide, trace[f"{block}.sum.wide"][..., part])


@pytest.mark.parametrize("groups", [1, 48])
def test_one_group_and_a_group_for_each_channel_are_groups_too(quantized: Callable[..., Path], groups: int) -> None:
    folder = quantized(f"peg:groups={groups},permutation=none")
    model = intsim.load(folder)
    assert model.formats["encoder.layer.0.output.sum"].groups == groups
    _assert_same(_sequence(_run(model, [IDS]), 0, len(IDS)), _judged(folder, IDS))
