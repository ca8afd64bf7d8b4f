# SPDX-License-Identifier: Apache-2.0
"""The oracle accounts for every call of a trace, whatever the recipe, and finds whatever is planted in its file."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle_trace import OPERATORS, Difference, NotJudgedError, Tensor, _is_view, differences, judge

import intsim
from intsim import ops
from intsim._trace import call
from intsim.fixedpoint import INT8, INT16, Dyadic, Rounding
from intsim.io.safetensors_file import read, write
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.io.trace_file import write_trace
from intsim.models.integer_model import Format, IntegerModel
from intsim.profile import IBERT, IBERT_CODE, INTSIM, ITA, Profile
from intsim.requantization import RULES

Plant = Callable[[dict[str, NDArray[Any]], dict[str, Any]], None]

CALIBRATION: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
RECIPES: Final = (
    "intsim",
    "ibert",
    "zeroquant:groups=4",
    "zeroquant-w4:groups=4",
    "tm-iqr",
    "tm-iqr:everywhere=tm-iqr",
    "q8bert-dq",
    "peg:groups=4",
    "peg:groups=4,permutation=none",
    "w8a8",
    "mixed",
    "embed2",
)
FIRST: Final = (2, 9, 10, 11, 6, 12, 3)
SECOND: Final = (2, 5, 13, 3)
BATCHES: Final[dict[str, dict[str, Any]]] = {
    "single": {"input_ids": [FIRST]},
    "padded": {"input_ids": [FIRST, (*SECOND, 0, 0, 0)], "attention_mask": [[1] * 7, [1] * 4 + [0] * 3]},
    "left-padded": {"input_ids": [(0, 0, 0, *SECOND), FIRST], "attention_mask": [[0] * 3 + [1] * 4, [1] * 7]},
    "pair": {"input_ids": [FIRST, FIRST], "token_type_ids": [[0] * 7, [0] * 3 + [1] * 4]},
}
ASYMMETRIC: Final = """
[[weights]]
names = "*"
bits = 8
granularity = "channel"

[[activations]]
names = "*"
bits = 8
symmetric = false
"""


@pytest.fixture(scope="module")
def tiny(tiny_bert: Callable[..., Path]) -> Callable[..., IntegerModel]:
    """Return a function that quantizes a tiny BERT."""
    made: dict[str, IntegerModel] = {}

    def quantize(recipe: str | Path = "intsim", profile: str | Profile | None = None, **options: Any) -> IntegerModel:
        key = repr((recipe, profile, options))
        if key not in made:
            path = tiny_bert(**options)
            made[key] = intsim.quantize(path, recipe=recipe, profile=profile, calibration=CALIBRATION)
        return made[key]

    return quantize


def taken(folder: Path, model: IntegerModel, written_of: IntegerModel | None = None, **inputs: Any) -> Path:
    """Run the model and return the file of its trace."""
    with intsim.trace("steps") as trace:
        model(**inputs)
    write_trace(folder / "trace.safetensors", trace, written_of or model)
    return folder / "trace.safetensors"


# ---- nothing differs


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_no_call_of_any_recipe_differs(
    tiny: Callable[..., IntegerModel], tmp_path: Path, recipe: str, labels: Sequence[str] | None, batch: str
) -> None:
    assert judge(taken(tmp_path, tiny(recipe, labels=labels), **BATCHES[batch])) == []


@pytest.mark.parametrize("hidden_act", ["relu", "gelu"])
@pytest.mark.parametrize("profile", ["intsim", "ibert"])
def test_zero_points_in_products_do_not_differ(
    tiny: Callable[..., IntegerModel], tmp_path: Path, profile: str, hidden_act: str
) -> None:
    (tmp_path / "recipe.toml").write_text(ASYMMETRIC)
    model = tiny(tmp_path / "recipe.toml", profile, hidden_act=hidden_act)
    path = taken(tmp_path, model, **BATCHES["left-padded"])
    entries = {entry["name"]: entry for entry in read(path)[1]["trace"]}
    assert {"x_zero_point", "w_zero_point"} <= set(entries["encoder.layer.0.attention.self.scores.acc"]["constants"])
    assert judge(path) == []


@pytest.mark.parametrize("sum_", ["once", "each"])
@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_no_rule_of_requantization_differs(
    tiny: Callable[..., IntegerModel], tmp_path: Path, rule: Any, sum_: str
) -> None:
    profile = replace(INTSIM, name=rule.name, requantization=rule, sum=sum_)
    assert judge(taken(tmp_path, tiny("w8a8", profile), **BATCHES["padded"])) == []


@pytest.mark.parametrize("rounding", list(Rounding))
def test_no_rounding_differs(tiny: Callable[..., IntegerModel], tmp_path: Path, rounding: Rounding) -> None:
    profile = replace(IBERT, name="rounded", rounding=rounding, step_rounding=rounding)
    assert judge(taken(tmp_path, tiny("zeroquant:groups=4", profile), **BATCHES["padded"])) == []


def test_no_call_of_the_embedded_model_differs(tmp_path: Path) -> None:
    model = intsim.load(Path(str(resources.files("intsim.embedded"))))
    text = "a gripping, funny film that is never dull"
    ids = encode(parse_tokenizer(model.tokenizer or ""), text, longest=32).ids
    assert len(ids) > 10
    assert judge(taken(tmp_path, model, input_ids=[ids])) == []


def test_every_operator_is_judged() -> None:
    operators = {name for name in ops.__all__ if name.islower()}
    assert operators <= set(OPERATORS)


@pytest.mark.parametrize("profile", ["intsim", "ibert"])
def test_operators_that_no_bert_calls_do_not_differ(
    tiny: Callable[..., IntegerModel], tmp_path: Path, profile: str
) -> None:
    model = tiny("intsim", profile)
    rng = np.random.default_rng(0)
    table = rng.integers(-(2**15), 1, (16, 6)).astype(np.int16)
    with intsim.trace("steps") as trace:
        x = call("x", ops.embedding, rng.integers(0, 16, (2, 5)), table)
        mask = np.array([[True] * 5, [False, True, True, False, False]])
        call("mean", ops.mean_pooling, x, mask, profile=model.profile, zero_point=-100)
        call("exp", ops.exp, x, profile=model.profile)
        for name in {"sigmoid", "silu", "tanh", "gelu"} & set(ops.__all__):
            call(name, getattr(ops, name), x, profile=model.profile)
        call("relu", ops.relu, x, zero_point=-20_000)
        call("largest", ops.argmax, x)
        call("turned", ops.permute, x, np.array([5, 0, 3, 1, 4, 2]))
        call("root", ops.isqrt, call("root.read", ops.relu, x.astype(np.int64), zero_point=0))
        ratio, zero_point = Dyadic.from_real(np.full(6, 2.0**-9)), np.arange(6)
        addend = np.array([1 << 20, 0, -(1 << 31), 5, 6, 7])
        constants = {"rounding": model.profile.requantization, "zero_point": zero_point, "addend": addend}
        call("codes", ops.requantize, x, ratio, to=INT8, **constants)
    write_trace(tmp_path / "trace.safetensors", trace, model)
    assert judge(tmp_path / "trace.safetensors") == []
    assert len(trace.calls) == len([name for name in trace if ":" not in name])


# ---- what is planted is found, under its name


@pytest.fixture(scope="module")
def files(tiny: Callable[..., IntegerModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        recipe: taken(tmp_path_factory.mktemp("trace"), tiny(recipe), **BATCHES["left-padded"])
        for recipe in ("intsim", "ibert", "tm-iqr:everywhere=tm-iqr", "zeroquant:groups=4", "peg:groups=4")
    }


def found(path: Path, folder: Path, plant: Plant) -> list[str]:
    """Return the names that the oracle reports once something is planted in a copy of the file."""
    tensors, metadata = read(path)
    plant(tensors, metadata)
    write(folder / "planted.safetensors", tensors, metadata)
    return judge(folder / "planted.safetensors")


def calls(path: Path) -> Iterator[dict[str, Any]]:
    _, metadata = read(path)
    return (entry for entry in metadata["trace"] if entry["operator"] != "step")


def entry_of(metadata: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = (entry for entry in metadata["trace"] if entry["name"] == name)
    return entry


def changed(values: NDArray[Any], index: int, by: int = 1) -> NDArray[Any]:
    """Return a copy with one element changed, within the dtype."""
    copied = values.copy()
    flat = copied.reshape(-1)
    flat[index] = flat[index] - by if flat[index] > 0 else flat[index] + by
    return copied


@pytest.mark.parametrize("recipe", ["intsim", "ibert", "tm-iqr:everywhere=tm-iqr", "zeroquant:groups=4", "peg:groups=4"])
def test_one_changed_integer_of_any_result_is_reported_alone(
    files: dict[str, Path], tmp_path: Path, recipe: str
) -> None:
    rng = np.random.default_rng(0)
    for name in [entry["name"] for entry in calls(files[recipe])]:

        def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any], name: str = name) -> None:
            tensors[name] = changed(tensors[name], int(rng.integers(tensors[name].size)))

        assert found(files[recipe], tmp_path, plant) == [name]
