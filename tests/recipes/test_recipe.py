# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.recipes: the presets, the files, and that every rule reaches the converter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import intsim
from intsim.errors import IntsimError
from intsim.models.bert import BERT, BertConfig
from intsim.models.outline import outline
from intsim.models.world import Head
from intsim.quantizers import MeanSquaredError, MinMax, Percentile, RunningMinMax
from intsim.recipes import Matched, load_recipe, match, recipe_names
from intsim.recipes.match import nearest_divisor

TinyBert = Callable[..., Path]
TEXTS: Final = ("a good movie .", "the plot is", "not", "bad", "x y z", "good " * 20)
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
symmetric = true
"""
ACTIVATIONS: Final = """
[[activations]]
names = "*"
bits = 8
symmetric = true
"""
LAST: Final = "encoder.layer.11.output.LayerNorm"
INPUTS: Final = """
[[inputs]]
names = "*"
bits = 8
symmetric = true
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    def write(*parts: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text("\n".join(parts), encoding="utf-8")
        return path

    return write


def _rules(recipe: str | Path, head: Head = "sequence-classification") -> Matched:
    """Return the rules of a BERT of 12 layers of 768 channels."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    config = BertConfig(vocab_size=66, max_position_embeddings=512, **sizes)
    return match(load_recipe(recipe), outline(BERT, config, head))


def _refusal(path: str | Path) -> str:
    with pytest.raises(IntsimError) as caught:
        load_recipe(path)
    assert caught.value.__cause__ is None
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


# ---- presets


def test_the_presets_are_listed() -> None:
    papers = {
        "embed2",
        "mixed",
        "peg",
        "q8bert",
        "q8bert-dq",
        "smoothquant",
        "tm-iqr",
        "w4a8",
        "w6",
        "w8a8",
        "zeroquant",
        "zeroquant-w4",
    }
    assert set(recipe_names()) == {"ibert", "intsim", *papers}


@pytest.mark.parametrize("name", recipe_names())
def test_every_preset_loads_under_its_own_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.profile in intsim.PROFILES
    rules, encoder = _rules(name), _rules(name, "none")
    for tensor in ("embeddings.word_embeddings.weight", "encoder.layer.3.output.dense.weight", "classifier.weight"):
        assert rules.weights[tensor].scheme.symmetric
    for activation in ("embeddings.sum", "encoder.layer.3.intermediate", "pooler"):
        assert rules.activations[activation].bits in range(2, 17)
    assert encoder.activations[LAST].bits in range(2, 17)
    assert (rules.notes, encoder.notes) == ((), ())


@pytest.mark.parametrize("name", ["intsim", "ibert"])
def test_presets_keep_16_bits_for_residual_sums_and_the_last_hidden_state(name: str) -> None:
    for head in ("none", "sequence-classification"):
        rules = _rules(name, head).activations
        assert rules["encoder.layer.0.attention.output.sum"].bits == 16
        assert rules["encoder.layer.0.output.LayerNorm"].bits == 8
        assert rules[LAST].bits == (16 if head == "none" else 8)
    assert _rules(name, "none").activations[LAST].symmetric


def test_the_intsim_preset_quantizes_activations_asymmetrically_but_for_the_operands_of_attention() -> None:
    rules = _rules("intsim").activations
    for part in ("query", "key", "value"):
        assert rules[f"encoder.layer.2.attention.self.{part}"].symmetric
    assert not rules["encoder.layer.2.attention.self.context"].symmetric
    assert not rules["encoder.layer.2.output.sum"].symmetric


def test_a_profile_may_be_chosen_beside_the_recipe(tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    assert intsim.quantize(path, recipe="ibert", calibration=TEXTS).profile.name == "ibert"
    crossed = intsim.quantize(path, recipe="ibert", profile="intsim", calibration=TEXTS)
    assert crossed.profile == intsim.PROFILES["intsim"]
    assert crossed.recipe["name"] == "ibert"
    given = intsim.quantize(path, recipe="ibert", profile=intsim.PROFILES["intsim"], calibration=TEXTS)
    assert given([[2, 5, 3]]).digest == crossed([[2, 5, 3]]).digest


# ---- the papers' presets, in the words of the papers


FFN: Final = "encoder.layer.3.output.dense.weight"
EMBEDDING: Final = "embeddings.word_embeddings.weight"


def test_bondarenkos_presets_differ_where_the_paper_says() -> None:
    w8a8, mixed, peg = (_rules(name).activations for name in ("w8a8", "mixed", "peg"))
    wide = {"encoder.layer.3.output.sum", "encoder.layer.11.attention.output.LayerNorm"}
    for name in (*wide, "embeddings.sum", "encoder.layer.3.attention.output.sum", "encoder.layer.3.intermediate"):
        rules = [each[name] for each in (w8a8, mixed, peg)]
        assert [rule.bits for rule in rules] == [8, 16 if name in wide else 8, 8]
        assert [rule.groups for rule in rules] == [1, 1, 6 if name in wide else 1]
        assert not any(rule.symmetric for rule in rules)
    assert (load_recipe("peg").permutation, load_recipe("mixed").permutation) == ("range", "none")
    stated = [rule for rule in load_recipe("peg").activations if "gate" not in rule.roles]
    assert {rule.estimator for rule in stated[:1] + stated[2:]} == {"running-min-max"}
    for name, bits in ("w4a8", (4, 8)), ("w6", (6, 8)), ("embed2", (8, 2)):
        weights = _rules(name).weights
        assert (weights[FFN].bits, weights[EMBEDDING].bits) == bits
        assert weights[EMBEDDING].estimator == "mse"


@pytest.mark.parametrize(
    ("name", "input_range", "clip"),
    [
        ("q8bert", "static", "none"),
        ("q8bert-dq", "sequence", "none"),
        ("tm-iqr", "sequence", "tm-iqr"),
        ("tm-iqr:everywhere=tm-iqr", "sequence", "tm-iqr"),
        ("zeroquant", "token", "none"),
        ("zeroquant-w4", "token", "none"),
    ],
)
def test_presets_that_quantize_inputs_anew_say_when(name: str, input_range: str, clip: str) -> None:
    rules = _rules(name).inputs
    second, first = rules["encoder.layer.11.output.input"], rules["encoder.layer.11.intermediate.input"]
    assert (second.range, second.clip, second.bits, second.symmetric) == (input_range, clip, 8, True)
    assert (first.range, first.clip) == (input_range, "tm-iqr" if "everywhere" in name else "none")
    assert rules["encoder.layer.11.attention.output.input"] == first


def test_zeroquants_presets_group_output_channels() -> None:
    for name, bits in ("zeroquant", 8), ("zeroquant-w4", 4):
        rules = _rules(name).weights
        rule = rules[FFN]
        assert (rule.granularity, rule.groups, rule.axis, rule.bits) == ("group", 48, "output", bits)
        assert rules["encoder.layer.3.attention.output.dense.weight"].bits == 8
        assert rules["pooler.dense.weight"].bits == 8


# ---- parameters


def test_parameters_are_put_where_the_recipe_names_them() -> None:
    recipe = "peg:groups=3,permutation=none,estimator=mse"
    rule = _rules(recipe).activations["encoder.layer.3.output.sum"]
    assert (rule.groups, rule.estimator, load_recipe(recipe).permutation) == (3, "mse", "none")
    assert _rules("peg").activations["encoder.layer.3.output.sum"].groups == 6
    wide = _rules("w8a8:symmetric=true,residual_bits=16").activations
    assert (wide["embeddings.sum"].bits, wide["pooler"].symmetric) == (16, True)
    assert _rules("q8bert:momentum=0.5").activations["encoder.layer.0.attention.self.key"].momentum == 0.5
    assert load_recipe("w4a8:rounding=adaround").needs_moments
    assert load_recipe("zeroquant-w4:rounding=gptq").needs_moments
    assert load_recipe("w6:bias_correction=true").needs_moments
    assert not load_recipe("w6").needs_moments


def test_the_record_of_a_model_holds_the_values_its_parameters_had(tiny_bert: TinyBert) -> None:
    model = intsim.quantize(tiny_bert(), recipe="peg:groups=2", calibration=TEXTS)
    assert "parameters" not in model.recipe
    assert [rule.get("groups") for rule in model.recipe["activations"]] == [None, 2, None, None]


def test_files_have_parameters_too(recipe: Callable[..., Path]) -> None:
    part = WEIGHTS.replace("bits = 8", 'bits = "$bits"')
    path = recipe("[parameters]\nbits = 5", part, ACTIVATIONS)
    assert _rules(path).weights[FFN].bits == 5
    assert _rules(f"{path}:bits=3").weights[FFN].bits == 3


def test_a_file_whose_name_holds_a_colon_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine:bits=3.toml"
    path.write_text(WEIGHTS + ACTIVATIONS)
    assert _rules(path).weights[FFN].bits == 8


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("peg:group=3", "parameter must be one of groups, permutation, estimator, got 'group'"),
        ("intsim:groups=3", "parameter must be one of none, got 'groups'"),
        ("peg:groups", "got: "),
        ("peg:groups=", "got: "),
        ("peg:groups=many", "got: "),
        ("peg:groups=6.0", "groups of an activation must be in [1, 16383], got 6.0"),
        ("peg:groups=0", "groups of an activation must be in [1, 16383], got 0"),
        ("peg:permutation=random", "permutation must be in 'none', 'range', got 'random'"),
        ("w8a8:symmetric=1", "symmetric must be in True, False, got 1"),
        ("w8a8:estimator=max", "estimator must be in 'min-max', 'running-min-max', 'percentile', 'mse', got 'max'"),
        ("w4a8:rounding=stochastic", "rounding of a weight must be in 'nearest', 'adaround', 'gptq', got 'stochastic'"),
        ("zeroquant-w4:rounding=GPTQ", "rounding of a weight must be in 'nearest', 'adaround', 'gptq', got 'GPTQ'"),
        ("w4a8:bias_correction=yes", "got: "),
        ("tm-iqr:everywhere=iqr", "clip must be in 'none', 'tm-iqr', got 'iqr'"),
        ("zeroquant:groups=1", "groups and axis must go with granularity 'group', got 'group' and 1 groups"),
        ("zeroquant-w4:granularity=tensor", "must go with granularity 'group', got 'tensor' and 48 groups"),
    ],
)
def test_parameters_that_no_recipe_has_or_no_rule_takes_are_refused(name: str, complaint: str) -> None:
    message = _refusal(name)
    assert message.startswith(f"recipe {name!r} must follow the form of the presets, got: ")
    assert complaint in message


def test_a_parameter_without_a_value_is_refused(recipe: Callable[..., Path]) -> None:
    message = _refusal(recipe(WEIGHTS.replace("bits = 8", 'bits = "$bits"'), ACTIVATIONS))
    assert message.endswith("got: $bits must stand in [parameters]")


def test_parameters_that_are_no_table_are_refused(recipe: Callable[..., Path]) -> None:
    assert "parameters" in _refusal(recipe("parameters = 5", WEIGHTS, ACTIVATIONS))


# ---- files


def test_the_first_rule_that_matches_decides(recipe: Callable[..., Path]) -> None:
    first = '[[weights]]\nnames = ["classifier.*", "pooler.*"]\nbits = 4\ngranularity = "tensor"'
    narrow = '[[activations]]\nnames = "*.output.sum"\nbits = 12\nsymmetric = false'
    loaded = _rules(recipe(first, WEIGHTS, narrow, ACTIVATIONS))
    pooler = loaded.weights["pooler.dense.weight"]
    assert (pooler.bits, pooler.granularity) == (4, "tensor")
    assert loaded.weights["embeddings.word_embeddings.weight"].bits == 8
    assert loaded.activations["encoder.layer.0.output.sum"].bits == 12
    assert loaded.activations["embeddings.sum"].bits == 8
    shadowed = _rules(recipe(WEIGHTS, first, ACTIVATIONS, narrow))
    assert shadowed.weights["pooler.dense.weight"].bits == 8
    assert shadowed.activations["encoder.layer.0.output.sum"].bits == 8


def test_a_role_covers_its_kinds_and_stands_beside_names(recipe: Callable[..., Path]) -> None:
    sums = '[[activations]]\nroles = "residual"\nnames = "pooler"\nbits = 12\nsymmetric = false'
    after = '[[activations]]\nroles = "residual.ffn"\nbits = 9\nsymmetric = false'
    heads = '[[weights]]\nroles = "head"\nbits = 4\ngranularity = "tensor"'
    reads = INPUTS.replace('names = "*"', 'roles = "ffn-hidden"')
    rules = _rules(recipe(heads, WEIGHTS, sums, after, ACTIVATIONS, reads))
    narrow = {name for name, rule in rules.activations.items() if rule.bits == 12}
    layers = [f"encoder.layer.{i}" for i in range(12)]
    assert narrow == {"pooler", *(f"{n}.{part}.sum" for n in layers for part in ("attention.output", "output"))}
    assert {name for name, rule in rules.weights.items() if rule.bits == 4} == {
        "pooler.dense.weight",
        "classifier.weight",
    }
    assert {*rules.inputs} == {f"{n}.output.input" for n in layers}
    earlier = _rules(recipe(WEIGHTS, after, sums, ACTIVATIONS)).activations
    assert earlier["encoder.layer.0.output.sum"].bits == 9
    assert earlier["encoder.layer.0.attention.output.sum"].bits == 12


@pytest.mark.parametrize(
    ("channels", "asked", "fitted"),
    [(768, 48, 48), (48, 5, 6), (20, 6, 5), (20, 7, 5), (20, 8, 10), (7, 4, 7), (7, 3, 1), (16, 1000, 16), (1, 6, 1)],
)
def test_groups_become_the_nearest_divisor_the_larger_of_two(channels: int, asked: int, fitted: int) -> None:
    assert nearest_divisor(channels, asked) == fitted


def test_groups_that_were_fitted_are_noted_once(recipe: Callable[..., Path]) -> None:
    groups = WEIGHTS.replace('"channel"', '"group"\ngroups = 5')
    rules = _rules(recipe(groups, ACTIVATIONS.replace("symmetric", "groups = 1\nsymmetric")))
    assert {rules.weights[name].groups for name in (EMBEDDING, FFN)} == {6}  # and 2 of the classifier's 2
    assert rules.weights["classifier.weight"].groups == 2
    assert len(rules.notes) == 3
    assert rules.notes[0] == "768 channels are in 6 groups, the nearest to 5 that divides them"


def test_name_and_profile_may_be_left_out(recipe: Callable[..., Path]) -> None:
    loaded = load_recipe(recipe(WEIGHTS, ACTIVATIONS))
    assert (loaded.name, loaded.profile) == ("", "intsim")


def test_a_file_is_found_by_path_or_text(recipe: Callable[..., Path]) -> None:
    path = recipe('name = "mine"\nprofile = "ibert"', WEIGHTS, ACTIVATIONS)
    assert load_recipe(path) == load_recipe(str(path))
    assert load_recipe(path).name == "mine"
    assert load_recipe(path).profile == "ibert"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("", MinMax),
        ('estimator = "min-max"', MinMax),
        ('estimator = "running-min-max"\nmomentum = 0.5', RunningMinMax),
        ('estimator = "percentile"\npercentile = 99', Percentile),
        ('estimator = "mse"', MeanSquaredError),
    ],
)
def test_every_estimator_is_made_with_its_parameters(recipe: Callable[..., Path], line: str, kind: type) -> None:
    rule = _rules(recipe(WEIGHTS, ACTIVATIONS, line)).activations["pooler"]
    estimator = rule.new_estimator()
    assert type(estimator) is kind
    assert getattr(estimator, "momentum", 0.5) == 0.5
    assert getattr(estimator, "percentile", 99) == 99
    assert getattr(estimator, "scheme", rule.scheme) == rule.scheme
    assert rule.new_estimator() is not estimator


# ---- and their errors


@pytest.mark.parametrize("name", ["nonsense", "", "intsim.toml", "/", "absent/recipe.toml"])
def test_an_unknown_name_is_refused(name: str) -> None:
    names = ", ".join(recipe_names())
    assert _refusal(name) == f"recipe must be one of {names}, or a readable TOML file, got {name!r}"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b'name = "\xff"')
    assert _refusal(tmp_path / "recipe.toml").startswith("recipe must be one of ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[weights", "Expected ']]' at the end of an array declaration"),
        ("surprise = 1", "unknown key 'surprise'"),
        ("inputs = 5", "inputs must be tables, each under [[inputs]], got 5"),
        ("permutation = true", "permutation must be in 'none', 'range', got True"),
        ("bias_correction = 1", "bias_correction must be in True, False, got 1"),
        ("name = 5", "name must be a text, got 5"),
        ("name = 1979-05-27", "name must be a text, got datetime.date"),
        ("profile = true", "profile must be a text, got True"),
        ("weights = 5", "weights must be tables, each under [[weights]], got 5"),
        ("weights = [1]", "weights must be tables, each under [[weights]], got [1]"),
        ('[activations]\nnames = "*"', "activations must be tables, each under [[activations]], got {'names': '*'}"),
        ("[[weights]]\nbits = 8", "weights must say which names or roles each is for"),
        ("[[weights]]\nnames = 5", "names must be a text or a list of texts, got 5"),
        ('[[weights]]\nnames = ["*", 5]', "names must be a text or a list of texts, got ['*', 5]"),
        ("[[inputs]]\nroles = true", "roles must be a text or a list of texts, got True"),
        ('[[weights]]\nnames = "*"\nbits = 8', "granularity must be given, got nothing"),
    ],
)
def test_a_file_of_another_form_is_refused(recipe: Callable[..., Path], text: str, complaint: str) -> None:
    path = recipe(text)
    message = _refusal(path)
    assert message.startswith(f"recipe '{path}' must follow the form of the presets, got: ")
    assert complaint in message


@pytest.mark.parametrize(
    ("part", "line", "complaint"),
    [
        (WEIGHTS, "bit = 8", ", got 'bit'"),
        (WEIGHTS, "roles = 'query'", "roles must be among embedding.word, embedding.position, "),
        (ACTIVATIONS, "roles = 'resid'", "roles must be among embedding, query, key, value, context, "),
        (INPUTS, "roles = ['norm', 'attention']", "or what stands before a dot, got 'attention'"),
        (WEIGHTS, "symmetric = true", ", got 'symmetric'"),
        (WEIGHTS, ("bits = 8", "bits = 1"), "bits of a weight must be in [2, 8], got 1"),
        (WEIGHTS, ("bits = 8", "bits = 9"), "bits of a weight must be in [2, 8], got 9"),
        (WEIGHTS, ("bits = 8", "bits = 8.0"), "bits of a weight must be in [2, 8], got 8.0"),
        (WEIGHTS, ("bits = 8", "bits = true"), "bits of a weight must be in [2, 8], got True"),
        (WEIGHTS, ("bits = 8", 'bits = "8"'), "bits of a weight must be in [2, 8], got '8'"),
        (WEIGHTS, ('"channel"', '"row"'), "granularity must be in 'tensor', 'channel', 'group', got 'row'"),
        (WEIGHTS, ('"channel"', "1"), "granularity must be in 'tensor', 'channel', 'group', got 1"),
        (ACTIVATIONS, "granularity = 'tensor'", ", got 'granularity'"),
        (ACTIVATIONS, ("bits = 8", "bits = 33"), "bits of an activation must be in [2, 32], got 33"),
        (ACTIVATIONS, ("bits = 8", "bits = 0"), "bits of an activation must be in [2, 32], got 0"),
        (ACTIVATIONS, ("bits = 8", "bits = true"), "bits of an activation must be in [2, 32], got True"),
        (ACTIVATIONS, ("symmetric = true", "symmetric = 1"), "symmetric must be in True, False, got 1"),
        (ACTIVATIONS, ("symmetric = true", "symmetric = 'yes'"), "symmetric must be in True, False, got 'yes'"),
        (ACTIVATIONS, "estimator = 'max'", "estimator must be in 'min-max', 'running-min-max', 'percentile', 'mse'"),
        (ACTIVATIONS, "estimator = 5", "estimator must be in 'min-max', 'running-min-max', 'percentile', 'mse'"),
        (ACTIVATIONS, "estimator = 'percentile'\npercentile = 0", "percentile must be in (0, 100], got 0"),
        (ACTIVATIONS, "estimator = 'percentile'\npercentile = 100.1", "percentile must be in (0, 100], got 100.1"),
        (ACTIVATIONS, "estimator = 'percentile'\npercentile = nan", "percentile must be in (0, 100], got nan"),
        (ACTIVATIONS, "estimator = 'percentile'\npercentile = true", "percentile must be a number, got True"),
        (ACTIVATIONS, "estimator = 'percentile'\npercentile = '99'", "percentile must be a number, got '99'"),
        (ACTIVATIONS, "estimator = 'running-min-max'\nmomentum = 1", "momentum must be in [0, 1), got 1"),
        (ACTIVATIONS, "estimator = 'running-min-max'\nmomentum = -0.1", "momentum must be in [0, 1), got -0.1"),
        (ACTIVATIONS, "momentum = [0.9]", "momentum must be a number, got [0.9]"),
        (WEIGHTS, "groups = 4", "groups and axis must go with granularity 'group', got 'channel' and 4 groups"),
        (WEIGHTS, "axis = 'input'", "groups and axis must go with granularity 'group', got 'channel' and 1 groups"),
        (
            WEIGHTS,
            ('"channel"', '"group"'),
            "groups and axis must go with granularity 'group', got 'group' and 1 group",
        ),
        (WEIGHTS, "axis = 0", "axis must be in 'output', 'input', got 0"),
        (WEIGHTS, "groups = 0", "groups of a weight must be in [1, 16383], got 0"),
        (WEIGHTS, "estimator = 'percentile'", "estimator of a weight must be in 'min-max', 'mse', got 'percentile'"),
        (WEIGHTS, "rounding = 'up'", "rounding of a weight must be in 'nearest', 'adaround', 'gptq', got 'up'"),
        (ACTIVATIONS, "groups = true", "groups of an activation must be in [1, 16383], got True"),
        (ACTIVATIONS, "range = 'token'", ", got 'range'"),
        (INPUTS, "range = 'batch'", "range must be in 'static', 'token', 'sequence', got 'batch'"),
        (INPUTS, "clip = 'iqr'", "clip must be in 'none', 'tm-iqr', got 'iqr'"),
        (INPUTS, "clip = 'tm-iqr'", "clip must go with range 'sequence', got 'static'"),
        (INPUTS, "clip = 'tm-iqr'\nrange = 'token'", "clip must go with range 'sequence', got 'token'"),
        (INPUTS, "groups = 4", "groups must be those of the activation, not of the input of a product"),
        (INPUTS, "rounding = 'nearest'", ", got 'rounding'"),
        (INPUTS, ("bits = 8", "bits = 17"), "bits of an input must be in [2, 16], got 17"),
        (INPUTS, ("bits = 8", "bits = 9\nrange = 'token'"), "bits of an input must be in [2, 8], got 9"),
        (
            INPUTS,
            ("symmetric = true", "symmetric = false\nrange = 'sequence'"),
            "inputs must be symmetric to be quantized while running, got symmetric=false for range 'sequence'",
        ),
    ],
)
def test_a_rule_that_breaks_its_form_is_refused(
    recipe: Callable[..., Path], part: str, line: str | tuple[str, str], complaint: str
) -> None:
    other = ACTIVATIONS if part is WEIGHTS else WEIGHTS
    changed = part + line if isinstance(line, str) else part.replace(*line)
    assert changed != part
    path = recipe(other, changed)
    message = _refusal(path)
    assert message.startswith(f"recipe '{path}' must follow the form of the presets, got: ")
    assert complaint in message


@pytest.mark.parametrize(
    ("parts", "name", "role"),
    [
        ((WEIGHTS,), "embeddings.sum", "embedding"),
        ((ACTIVATIONS,), "embeddings.word_embeddings.weight", "embedding.word"),
        ((WEIGHTS, ACTIVATIONS.replace('"*"', '"e*"')), "pooler", "head"),
        ((WEIGHTS.replace('"*"', "[]"), ACTIVATIONS), "embeddings.word_embeddings.weight", "embedding.word"),
        (
            (WEIGHTS.replace('"*"', '"EMBEDDINGS.*"'), ACTIVATIONS),
            "embeddings.word_embeddings.weight",
            "embedding.word",
        ),
    ],
)
def test_a_tensor_without_a_rule_is_named(
    recipe: Callable[..., Path], tiny_bert: TinyBert, parts: tuple[str, ...], name: str, role: str
) -> None:
    with pytest.raises(IntsimError) as caught:
        intsim.quantize(tiny_bert(), recipe=recipe(*parts), calibration=TEXTS)
    rest = f"got none for '{name}', role '{role}'; end with names = \"*\""
    assert str(caught.value) == f"recipe must have a rule for every tensor, {rest}"


def test_an_unknown_profile_is_refused(recipe: Callable[..., Path], tiny_bert: TinyBert) -> None:
    path = recipe('profile = "surprise"', WEIGHTS, ACTIVATIONS)
    with pytest.raises(IntsimError, match=r"profile must be one of intsim, ibert, .*, got 'surprise'"):
        intsim.quantize(tiny_bert(), recipe=path, calibration=TEXTS)


# ---- every rule reaches the model


def _quantized(path: Path, recipe: Path, **options: Any) -> intsim.IntegerModel:
    model = intsim.quantize(path, recipe=recipe, calibration=TEXTS, **options)
    assert model([[2, 9, 10, 3]]).values.shape == (1, 2)
    return model


def _steps(model: intsim.IntegerModel) -> dict[str, float]:
    """Return the real step of every activation."""
    return {name: int(f.scale.multiplier) / 2 ** int(f.scale.shift) for name, f in model.formats.items()}


def test_every_estimator_reaches_the_converter(recipe: Callable[..., Path], tiny_bert: TinyBert) -> None:
    path = tiny_bert()
    lines = {
        "min-max": "",
        "percentile": 'estimator = "percentile"\npercentile = 90',
        "wider percentile": 'estimator = "percentile"\npercentile = 99',
        "running": 'estimator = "running-min-max"',
        "slower running": 'estimator = "running-min-max"\nmomentum = 0.99',
        "mse": 'estimator = "mse"',
    }
    texts = [text for text in TEXTS for _ in range(3)]  # more than one batch, for the running estimators
    steps = {}
    for name, line in lines.items():
        model = intsim.quantize(path, recipe=recipe(WEIGHTS, ACTIVATIONS, line), calibration=texts)
        model([[2, 9, 10, 3]])
        steps[name] = _steps(model)
    hidden = [name for name in steps["mse"] if name != "classifier"]
    for first in lines:
        for second in lines:
            if first != second:
                assert any(steps[first][name] != steps[second][name] for name in hidden), (first, second)
    for name in hidden:
        largest = steps["min-max"][name] * (1 + 2**-12)  # a sample keeps 12 significant bits of each value
        assert steps["percentile"][name] < steps["wider percentile"][name] <= largest
        assert steps["mse"][name] <= largest
        assert steps["running"][name] <= largest


def test_bits_and_granularity_of_weights_reach_the_converter(recipe: Callable[..., Path], tiny_bert: TinyBert) -> None:
    for bits in (2, 4, 8):
        part = WEIGHTS.replace("bits = 8", f"bits = {bits}")
        model = _quantized(tiny_bert(), recipe(part, ACTIVATIONS))
        for name in ("classifier.weight", "embeddings.position_embeddings.weight"):
            assert model.tensors[name].max() == 2 ** (bits - 1) - 1
            assert model.tensors[name].min() >= -(2 ** (bits - 1) - 1)
    per_channel = _quantized(tiny_bert(), recipe(WEIGHTS, ACTIVATIONS))
    per_tensor = _quantized(tiny_bert(), recipe(WEIGHTS.replace('"channel"', '"tensor"'), ACTIVATIONS))
    for name, count in (("classifier", 2), ("embeddings.word_embeddings", 16), ("encoder.layer.0.output.dense", 16)):
        assert per_channel.tensors[f"{name}.multiplier"].shape == (count,)
        assert per_tensor.tensors[f"{name}.multiplier"].shape == ()
    assert (abs(per_channel.tensors["classifier.weight"]).max(axis=1) == 127).all()
    assert (abs(per_tensor.tensors["classifier.weight"]).max(axis=1) == 127).sum() == 1
    assert (abs(per_channel.tensors["embeddings.word_embeddings.weight"]).max(axis=0) == 127).all()


def test_bits_and_symmetry_of_activations_reach_the_converter(recipe: Callable[..., Path], tiny_bert: TinyBert) -> None:
    for bits in (4, 8, 10):
        part = ACTIVATIONS.replace("bits = 8", f"bits = {bits}")
        formats = _quantized(tiny_bert(), recipe(WEIGHTS, ATTENTION, part)).formats
        assert formats["pooler"].range == intsim.IntRange(bits, narrow=True)
        assert {f.zero_point for f in formats.values()} == {0}
    part = ACTIVATIONS.replace("true", "false")
    formats = _quantized(tiny_bert(), recipe(WEIGHTS, ATTENTION, part)).formats
    assert formats["pooler"].range == intsim.IntRange(8)
    assert formats["encoder.layer.0.intermediate"].zero_point < -50  # GELU is hardly ever below 0
    assert formats["encoder.layer.0.attention.self.key"].zero_point == 0


def test_the_output_of_an_encoder_follows_the_rule_of_its_role(
    recipe: Callable[..., Path], tiny_bert: TinyBert
) -> None:
    last = '[[activations]]\nroles = "output"\nbits = 13\nsymmetric = true'
    encoder = intsim.quantize(tiny_bert(labels=None), recipe=recipe(WEIGHTS, last, ACTIVATIONS), calibration=TEXTS)
    assert encoder.output_format.range.bits == 13
    classifier = _quantized(tiny_bert(), recipe(WEIGHTS, last, ACTIVATIONS))
    assert classifier.formats["encoder.layer.1.output.LayerNorm"].range.bits == 8


def test_a_recipe_that_the_arithmetic_has_no_place_for_is_refused(
    recipe: Callable[..., Path], tiny_bert: TinyBert
) -> None:
    path = recipe(WEIGHTS, ACTIVATIONS.replace("bits = 8", "bits = 16"))
    with pytest.raises(IntsimError, match="int32"):
        intsim.quantize(tiny_bert(), recipe=path, calibration=TEXTS)
