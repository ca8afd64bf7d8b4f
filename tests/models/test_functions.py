# SPDX-License-Identifier: Apache-2.0
"""Activation functions of a model: the operator of each, and models whose functions of one code are tables."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import oracle_trace
import pytest

import intsim
from intsim import ops
from intsim.fixedpoint import INT16
from intsim.io.trace_file import write_trace
from intsim.models import integers
from intsim.models.functions import function_rule
from intsim.models.widths import widths
from intsim.models.world import FUNCTIONS
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, PROFILES, Profile
from intsim.reference.ops.activations import ACTIVATIONS
from intsim.verify.bugs import CONTROL, changes_of_call
from intsim.verify.diagnose import diagnose

TinyBert = Callable[..., Path]

TEXTS: Final = ("a good movie .", "the plot is not bad , not good")
IDS: Final = [[2, 5, 6, 7, 13, 3], [2, 8, 3, 0, 0, 0]]
MASK: Final = [[1] * 6, [1, 1, 1, 0, 0, 0]]
BY_TANH: Final = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"}
CODES: Final = np.arange(INT16.min, INT16.max + 1).astype(np.int16)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_correctly_rounded_every_function_is_within_half_a_code_of_its_own(function: Any) -> None:
    rule = function_rule(function, INTSIM_WIDE)
    assert rule.input_range == INT16
    x = CODES * float(rule.input_scale)
    constants = {} if rule.operator is ops.relu else {"profile": INTSIM_WIDE}
    y = rule.operator(CODES, **constants)
    real = ACTIVATIONS[function](x) / float(rule.output_scale)
    assert np.abs(y - real).max() <= 0.5 + 1e-4  # gelu_fast has ten digits of a constant


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_forms_of_gelu_part_only_where_they_are_rounded_correctly(profile: Profile) -> None:
    operators = {name: function_rule(name, profile).operator for name in FUNCTIONS if name.startswith("gelu")}
    by_tanh = {name for name, operator in operators.items() if operator is ops.gelu_tanh}
    assert by_tanh == (BY_TANH if profile is INTSIM_WIDE else set())
    assert {operator for name, operator in operators.items() if name not in by_tanh} == {ops.gelu}


@pytest.mark.parametrize("profile", [INTSIM, IBERT, INTSIM_WIDE], ids=lambda profile: profile.name)
def test_a_gate_of_60_is_not_cut_off(profile: Profile) -> None:
    rule = function_rule("silu", profile)
    x_q = np.array([round(60 / rule.input_scale)], np.int16)
    assert abs(int(rule.operator(x_q, profile=profile)[0]) * rule.output_scale - 60) < Fraction(1, 100)


@pytest.fixture(scope="module", params=["gelu", "gelu_new", "silu", "quick_gelu", "relu"])
def model(request: pytest.FixtureRequest, tiny_bert: TinyBert) -> intsim.IntegerModel:
    return intsim.quantize(tiny_bert(hidden_act=request.param), profile=INTSIM_WIDE, calibration=TEXTS)


@pytest.fixture(scope="module")
def recorded(model: intsim.IntegerModel) -> Any:
    with intsim.trace("steps") as trace:
        model(IDS, attention_mask=MASK)
    return trace


def test_every_integer_is_the_oracles(model: intsim.IntegerModel, recorded: Any, tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.safetensors", recorded, model)
    assert oracle_trace.judge(tmp_path / "trace.safetensors") == []


def test_the_fused_steps_give_the_integers_of_the_plain_ones(
    model: intsim.IntegerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = model(IDS, attention_mask=MASK).values
    seen = []
    monkeypatch.setattr(integers.fused, "dense_activated", lambda *_: seen.append("plain"))
    assert np.array_equal(model(IDS, attention_mask=MASK).values, fused)
    assert len(seen) == 3  # two layers and the pooler


def test_no_integer_leaves_its_width(model: intsim.IntegerModel, recorded: Any) -> None:
    proved = widths(model)
    for name, values in recorded.items():
        assert proved[name].min <= values.min(), name
        assert values.max() <= proved[name].max, name


def test_a_changed_table_is_named(recorded: Any) -> None:
    results = {name: recorded[name] for name in recorded.calls}
    tables = (ops.gelu, ops.gelu_tanh, ops.silu, ops.tanh)
    names = [name for name, call in recorded.calls.items() if call.operator in tables]
    assert names
    for name in names:
        changes = changes_of_call(recorded.calls[name])
        assert np.array_equal(changes[CONTROL](), results[name])
        found = diagnose(recorded, results | {name: changes["entries rounded floor"]()})
        assert found.comparison.first is not None
        assert found.comparison.first.name == name
        assert "entries rounded floor" in found.explain_all


def test_it_loads_as_it_was_saved(model: intsim.IntegerModel, tmp_path: Path) -> None:
    model.save(tmp_path / "integers")
    again = intsim.load(tmp_path / "integers")
    assert again.profile == INTSIM_WIDE
    assert again(IDS, attention_mask=MASK).digest == model(IDS, attention_mask=MASK).digest
