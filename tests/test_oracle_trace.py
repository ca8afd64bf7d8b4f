# SPDX-License-Identifier: Apache-2.0
"""The oracle accounts for every call of a trace, whatever the recipe, and finds whatever is planted in its file."""

from collections.abc import Callable
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
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic, Rounding
from intsim.integer_model import IntegerModel
from intsim.io.safetensors_file import read, write
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.io.trace_file import TRACE, write_trace
from intsim.ops import LayerNormParams
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


LABELS: Final = {"classifier": ("negative", "positive"), "encoder": None}


@pytest.mark.parametrize(
    ("recipe", "head", "batch"),
    [
        pytest.param(recipe, head, batch, marks=[] if (i + j + k) % 2 == 0 else [pytest.mark.slow])
        for i, recipe in enumerate(RECIPES)
        for j, head in enumerate(LABELS)
        for k, batch in enumerate(BATCHES)
    ],
)
def test_no_call_of_any_recipe_differs(
    tiny: Callable[..., IntegerModel], tmp_path: Path, recipe: str, head: str, batch: str
) -> None:
    assert judge(taken(tmp_path, tiny(recipe, labels=LABELS[head]), **BATCHES[batch])) == []


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
    operators = {name for name in ops.__all__ if name.islower()} - {"causal_mask"}  # no trace holds a mask
    assert operators <= set(OPERATORS)


@pytest.mark.parametrize("profile", ["intsim", "ibert", "intsim-wide"])
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
        for name in {"sigmoid", "silu", "tanh", "gelu", "gelu_tanh"} & set(ops.__all__):
            call(name, getattr(ops, name), x, profile=model.profile)
        positive = call("relu", ops.relu, x, zero_point=-20_000)
        call("largest", ops.argmax, x)
        call("turned", ops.permute, x, np.array([5, 0, 3, 1, 4, 2]))
        call("root", ops.isqrt, call("root.read", ops.relu, x.astype(np.int64), zero_point=0))
        turns = rng.integers(-(2**14), 2**14, (2, 5, 2)).astype(np.int16)
        for pairing, (cos, sin) in (("halves", turns), ("neighbours", turns[:, None])):
            how = {"pairing": pairing, "rounding": model.profile.rounding}
            call(f"rotated.{pairing}", ops.rotary, x.reshape(2, 5, 1, 6).swapaxes(1, 2), cos, sin, **how)
        ratio, zero_point = Dyadic.from_real(np.full(6, 2.0**-9)), np.arange(6)
        how = {"to": INT8, "rounding": model.profile.rounding, "a_zero_point": -9, "zero_point": 3}
        call("gated", ops.multiply, x, positive, Dyadic(2**30, 54), **how)
        addend = np.array([1 << 20, 0, -(1 << 31), 5, 6, 7])
        constants = {"rounding": model.profile.requantization, "zero_point": zero_point, "addend": addend}
        call("codes", ops.requantize, x, ratio, to=INT8, **constants)
    write_trace(tmp_path / "trace.safetensors", trace, model)
    assert judge(tmp_path / "trace.safetensors") == []
    assert len(trace.calls) == len([name for name in trace if ":" not in name])


# ---- what is planted is found, under its name


SMALL: Final = {"input_ids": [(0, 0, 2, 9, 3), (2, 9, 10, 6, 3)], "attention_mask": [[0, 0, 1, 1, 1], [1] * 5]}
PLANTED: Final = (
    "intsim",
    "zeroquant:groups=4",
    *(pytest.param(recipe, marks=pytest.mark.slow) for recipe in ("ibert", "tm-iqr:everywhere=tm-iqr", "peg:groups=4")),
)


@pytest.fixture(scope="module")
def saved(tiny: Callable[..., IntegerModel], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns the file of a trace of a model of one layer."""
    made: dict[str, Path] = {}

    def trace(recipe: str = "intsim", profile: Profile | None = None) -> Path:
        key = repr((recipe, profile))
        if key not in made:
            model = tiny(recipe, profile, config={"num_hidden_layers": 1})
            made[key] = taken(tmp_path_factory.mktemp("trace"), model, **SMALL)
        return made[key]

    return trace


def found(path: Path, plant: Plant) -> list[str]:
    """Return the names that the oracle reports once something is planted in a copy of the file."""
    return judge(planted(path, plant))


def planted(path: Path, plant: Plant) -> Path:
    tensors, metadata = read(path)
    entries = {entry["name"]: entry for entry in metadata["trace"]}
    plant(tensors, entries)
    metadata["trace"] = list(entries.values())
    write(path.with_name("planted.safetensors"), tensors, metadata, TRACE)
    return path.with_name("planted.safetensors")


def changed(values: NDArray[Any], index: int, by: int = 1) -> NDArray[Any]:
    """Return a copy with one element nearer to 0, or away from it where it is 0."""
    copied = values.copy()
    flat = copied.reshape(-1)
    flat[index] = int(flat[index]) + (-by if flat[index] > 0 else by)
    return copied


def placed(path: Path) -> tuple[set[str], set[str], set[str]]:
    """Return the names of the results, the constants and inputs, and the operands stored anew."""
    tensors, metadata = read(path)
    results = {entry["name"] for entry in metadata["trace"] if entry["operator"] != "step"}
    others = {name for name in tensors if "@" in name}
    activations = ("scores.acc@0", "scores.acc@1", "context.acc@1", "context@0", "sum@0.1", "wide@0", "pooler.input@0")
    heads = ("pooler.input.bound@0", "pooler.dense.acc@0")
    groups = {name for name in others if ".dense.acc." in name and name.endswith("@0")}
    operands = {name for name in others if name.endswith(activations + heads)} | groups
    return results, others - operands, operands


@pytest.mark.parametrize("recipe", PLANTED)
def test_one_changed_integer_of_any_result_is_reported_alone(saved: Callable[..., Path], recipe: str) -> None:
    rng = np.random.default_rng(0)
    results, _, _ = placed(saved(recipe))
    assert len(results) > 20
    for name in results:

        def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any], name: str = name) -> None:
            tensors[name] = changed(tensors[name], int(rng.integers(tensors[name].size)))

        assert found(saved(recipe), plant) == [name]


@pytest.mark.parametrize("recipe", PLANTED)
def test_one_changed_constant_of_any_call_is_reported_as_its_result(saved: Callable[..., Path], recipe: str) -> None:
    _, constants, _ = placed(saved(recipe))
    constants = {name for name in constants if recipe != "zeroquant:groups=4" or not name.endswith("bound@mask")}
    assert len(constants) > 50
    for name in constants:

        def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any], name: str = name) -> None:
            values = tensors[name]
            if values.dtype == np.bool_:
                tensors[name] = ~values
            elif name.endswith("shift"):
                tensors[name] = values - 2
            else:
                tensors[name] = changed(values, 0, max(1, abs(int(values.flat[0])) // 2))

        assert found(saved(recipe), plant) == [name.split("@")[0]], name


@pytest.mark.parametrize("recipe", PLANTED)
def test_one_changed_integer_of_an_operand_breaks_the_chain_there(saved: Callable[..., Path], recipe: str) -> None:
    _, _, operands = placed(saved(recipe))
    assert len(operands) > 5
    for name in operands:

        def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any], name: str = name) -> None:
            tensors[name] = changed(tensors[name], -1)

        operand, *result = found(saved(recipe), plant)
        assert operand == name
        assert result in ([], [name.split("@")[0]])  # a probability of 0 hides what it meets


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.sum",
        "encoder.layer.0.attention.output.sum",
        "encoder.layer.0.attention.self.scores.acc",
        "encoder.layer.0.attention.self.query.acc",
    ],
)
def test_two_swapped_operands_are_reported_as_their_result(saved: Callable[..., Path], name: str) -> None:
    def plant(_: dict[str, NDArray[Any]], entries: dict[str, Any]) -> None:
        operands = entries[name]["operands"]
        swapped = operands[0].get("list", operands)
        if name.endswith("query.acc"):  # the weights of key, whose shape is the same
            others = entries[name.replace("query", "key")]["operands"]
            swapped[1], others[1] = others[1], swapped[1]
        else:
            swapped[0], swapped[1] = swapped[1], swapped[0]

    partner = [name.replace("query", "key")] if name.endswith("query.acc") else []
    assert found(saved(), plant) == [name, *partner]


def test_two_changed_results_are_both_reported(saved: Callable[..., Path]) -> None:
    names = ["encoder.layer.0.attention.self.key", "encoder.layer.0.intermediate"]

    def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any]) -> None:
        for name in names:
            tensors[name] = changed(tensors[name], 0)

    assert found(saved(), plant) == names


def test_a_wrong_zero_point_is_reported_where_it_was_taken_off(
    tiny: Callable[..., IntegerModel], tmp_path: Path
) -> None:
    model, name = tiny(), "embeddings.LayerNorm"
    moved = replace(model.formats[name], zero_point=model.formats[name].zero_point + 1)
    path = taken(tmp_path, replace(model, formats={**model.formats, name: moved}), model, **SMALL)
    assert judge(path) == ["encoder.layer.0.attention.output.sum@0.1"]


def test_a_result_that_comes_later_is_no_operand(saved: Callable[..., Path]) -> None:
    def plant(_: dict[str, NDArray[Any]], entries: dict[str, Any]) -> None:
        entries["encoder.layer.0.attention.self.query.acc"]["operands"][0] = {
            "tensor": "encoder.layer.0.attention.output.LayerNorm"
        }

    name = "encoder.layer.0.attention.self.query.acc"
    assert found(saved(), plant) == [f"{name}@0", name]


def test_a_step_inside_an_operator_is_no_operand(saved: Callable[..., Path]) -> None:
    name = "encoder.layer.0.attention.self.query"

    def plant(_: dict[str, NDArray[Any]], entries: dict[str, Any]) -> None:
        entries[f"{name}"]["operands"][0] = {"tensor": f"{name}:rounded"}

    assert found(saved(), plant) == [f"{name}@0", name]


def test_a_call_left_out_of_the_manifest_is_missed_by_its_readers(saved: Callable[..., Path]) -> None:
    def plant(_: dict[str, NDArray[Any]], entries: dict[str, Any]) -> None:
        del entries["encoder.layer.0.attention.self.query"]

    assert found(saved(), plant) == ["encoder.layer.0.attention.self.scores.acc@0"]


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("intsim", "encoder.layer.0.intermediate"),
        ("zeroquant:groups=4", "encoder.layer.0.intermediate.input"),
    ],
)
def test_a_rounding_that_is_not_the_profile_s_is_reported(saved: Callable[..., Path], recipe: str, name: str) -> None:
    def plant(_: dict[str, NDArray[Any]], entries: dict[str, Any]) -> None:
        constants = entries[name]["constants"]
        if isinstance(constants["rounding"], str):
            constants["rounding"] = "floor"
        else:
            constants["rounding"]["requantization"]["rounding"] = "floor"

    assert found(saved(recipe), plant) == [f"{name}@rounding", name]


def test_a_call_that_breaks_a_rule_of_its_operator_is_reported_with_the_rule(saved: Callable[..., Path]) -> None:
    def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any]) -> None:
        tensors["embeddings.sum@1.0.shift"] -= 1

    (difference,) = differences(planted(saved(), plant))
    assert difference.name == "embeddings.sum"
    assert str(difference.expected).startswith("shifts must all be equal to round once, got [")


def test_a_result_of_another_shape_is_reported(saved: Callable[..., Path]) -> None:
    def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any]) -> None:
        tensors["classifier"] = tensors["classifier"].reshape(-1)

    (difference,) = differences(planted(saved(), plant))
    assert (difference.name, difference.expected.shape, difference.recorded.shape) == ("classifier", (2, 2), (4,))


# ---- what is no judgement is said


@pytest.mark.parametrize(
    ("profile", "borrowed"),
    [(IBERT_CODE, {"softmax", "gelu", "layer_norm"}), (ITA, {"softmax", "gelu"})],
    ids=lambda value: getattr(value, "name", ""),
)
def test_another_project_s_rules_are_named_and_everything_else_is_judged(
    saved: Callable[..., Path], profile: Profile, borrowed: set[str]
) -> None:
    path = saved("ibert", profile)
    _, metadata = read(path)
    names = [entry["name"] for entry in metadata["trace"] if entry["operator"] in borrowed]
    assert len(names) >= 2
    reported: list[Difference] = []
    with pytest.raises(NotJudgedError) as raised:
        reported.extend(differences(path))
    assert not reported
    assert [part.split(" (")[0] for part in str(raised.value).split("got ")[1].split(", ")] == names

    def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any]) -> None:
        tensors["classifier"] = changed(tensors["classifier"], 0)

    with pytest.raises(NotJudgedError):
        reported.extend(differences(planted(path, plant)))
    assert [difference.name for difference in reported] == ["classifier"]


def test_unknown_operators_constants_and_kinds_are_no_silent_pass(saved: Callable[..., Path]) -> None:
    def operator(entry: dict[str, Any]) -> None:
        entry["operator"] = "convolution"

    def constant(entry: dict[str, Any]) -> None:
        entry["constants"]["stride"] = 2

    def kind(entry: dict[str, Any]) -> None:
        entry["constants"]["to"] = {"float": "e4m3"}

    for change, message in (
        (operator, "convolution"),
        (constant, "requantize: got an unexpected keyword argument 'stride'"),
        (kind, "kind float"),
    ):

        def plant(
            _: dict[str, NDArray[Any]], entries: dict[str, Any], change: Callable[[dict[str, Any]], None] = change
        ) -> None:
            change(entries["pooler"])

        with pytest.raises(NotJudgedError, match=f"pooler .*{message}"):
            found(saved(), plant)


def test_a_trace_without_calls_is_refused(tiny: Callable[..., IntegerModel], tmp_path: Path) -> None:
    model = tiny()
    with intsim.trace() as trace:
        model(**SMALL)
    write_trace(tmp_path / "trace.safetensors", trace, model)
    with pytest.raises(ValueError, match="level of the trace must be 'steps', got 'tensors'"):
        judge(tmp_path / "trace.safetensors")


def test_a_profile_changed_in_the_file_is_refused(saved: Callable[..., Path]) -> None:
    tensors, metadata = read(saved())
    metadata["profile"]["step_rounding"] = "floor"
    path = saved().with_name("planted.safetensors")
    write(path, tensors, metadata, TRACE)
    with pytest.raises(ValueError, match="hash of the profile must be"):
        judge(path)


def test_norms_of_wide_codes_are_judged_by_their_own_rules(tiny: Callable[..., IntegerModel], tmp_path: Path) -> None:
    model, rng = tiny(), np.random.default_rng(0)
    table = (rng.integers(-(2**31), 2**31, (9, 6)) >> rng.integers(0, 31, (9, 1))).astype(np.int32)
    params = LayerNormParams(weight=Dyadic([3 << 28] * 6, [41] * 6), bias=np.arange(6) << 40, eps=12345)
    how: dict[str, Any] = {"to": INT8, "profile": model.profile}
    path = tmp_path / "trace.safetensors"
    with intsim.trace("steps") as trace:
        rows = call("rows", ops.embedding, np.arange(9)[None], table)
        for to in (INT32, INT16):
            x = call(f"{to.bits}", ops.requantize, rows, Dyadic(1, 3), to=to, rounding=model.profile.rounding)
            call(f"{to.bits}.layer_norm", ops.layer_norm, x, params, **how)
            call(f"{to.bits}.rms_norm", ops.rms_norm, x, params, **how)
    write_trace(path, trace, model)
    assert judge(path) == []
    norms = [f"{bits}.{norm}" for bits in (32, 16) for norm in ("layer_norm", "rms_norm")]

    def plant(tensors: dict[str, NDArray[Any]], _: dict[str, Any]) -> None:
        tensors |= {name: changed(tensors[name], 4) for name in norms}

    assert found(path, plant) == norms


# ---- views


CODES: Final = np.random.default_rng(5).permutation(2 * 6 * 12).reshape(2, 6, 12)
HEADS: Final = CODES.reshape(2, 6, 3, 4).swapaxes(1, 2)  # (B, H, T, D)


def tensor(values: NDArray[Any]) -> Tensor:
    return Tensor(values.shape, values.ravel().tolist())


@pytest.mark.parametrize(
    ("operand", "source"),
    [
        (CODES, CODES),
        (HEADS, CODES),
        (HEADS.swapaxes(2, 3), CODES),
        (CODES, HEADS),
        (CODES[:, 0], CODES),
        (CODES[:, -1], CODES),
        (CODES[..., 4:8], CODES),
        (CODES[:, 1:], CODES),
        (HEADS[:, 1:2], CODES),
        (CODES.reshape(2, 6, 4, 3), CODES),
    ],
    ids=["itself", "heads", "turned", "joined", "first", "last", "group", "rest", "one head", "other heads"],
)
def test_heads_groups_and_tokens_are_views(operand: NDArray[Any], source: NDArray[Any]) -> None:
    assert _is_view(tensor(operand), [tensor(-source), tensor(source), tensor(source + 1)])
    assert not _is_view(tensor(operand), [tensor(-source), tensor(source + 1)])


@pytest.mark.parametrize(
    "operand",
    [
        HEADS.reshape(2, 6, 12),  # heads joined without bringing the tokens to the front
        HEADS.transpose(0, 2, 3, 1).reshape(2, 6, 12),  # channels of a head joined before heads
        CODES.reshape(2, 6, 4, 3).transpose(0, 3, 1, 2),  # every third channel to a head
        CODES[::-1],
        CODES.reshape(12, 12),
        CODES[:, ::-1],
        CODES[..., ::2],
        np.stack([CODES[0, 0], CODES[1, 1]]),
    ],
    ids=[
        "unswapped",
        "interleaved",
        "every third",
        "other sequences",
        "sequences joined",
        "reversed",
        "every other",
        "two tokens",
    ],
)
def test_whatever_else_holds_the_same_integers_is_no_view(operand: NDArray[Any]) -> None:
    assert not _is_view(tensor(operand), [tensor(CODES), tensor(HEADS)])
