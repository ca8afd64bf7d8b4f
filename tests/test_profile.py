# SPDX-License-Identifier: Apache-2.0
import copy
import hashlib
import json
import math
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import oracle
import pytest
from edges import both_presets, every_preset

from intsim.errors import IntsimError
from intsim.fixedpoint import Rounding
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, LN2, NATIVE, PROFILES, SQRT2, Profile, Silu, find_profile

# A change of these lines says that every integer checkpoint of that profile computes other bits. Raise the version.
HASHES = {
    "intsim": "1d9df3e4132626215097a77e916b2fd70123dc7b6ed7bcc6e0a2021a93d5db29",
    "ibert": "d5cbe54b0d4e29b0a7f752d91b16ab67ac8d02deaa3e77fe6e9f95fcacd17552",
    "intsim-wide": "aa31ec9dad916ebbb340cdf1cee963beeabd9215228bda07b08f214b4125b77c",
}
OTHER_CHOICE = {
    "sum": {"once": "each", "each": "once"},
    "centring": {"exact": "rounded-mean", "rounded-mean": "exact"},
    "multiplier_from": {"real": "binary32"},
    "arithmetic": {"one-rounding": "two-roundings"},
    "zero_point": {"after": "before"},
}


def leaves(data, path=()):
    """Paths of the values that are not dictionaries."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def replaced(data, path, change):
    """A copy of the nested dictionary with one leaf changed."""
    data = copy.deepcopy(data)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    change(inner, path[-1])
    return data


def another_value(inner, name):
    value = inner[name]
    if name in OTHER_CHOICE:
        inner[name] = OTHER_CHOICE[name][value]
    elif isinstance(value, Rounding):
        inner[name] = Rounding.TOWARD_ZERO
    elif isinstance(value, str):
        inner[name] = value + "1"
    else:  # in the direction that leaves the operators inside their bounds
        inner[name] = value + 1 if name == "output_shift" or value == 0 else value - 1


every_leaf = pytest.mark.parametrize("path", list(leaves(INTSIM.to_json())), ids="/".join)


def test_every_field_is_one_of_the_27_leaves_walked_below():
    assert len(list(leaves(INTSIM.to_json()))) == 27
    assert list(leaves(INTSIM.to_json())) == list(leaves(IBERT.to_json()))


@every_preset
def test_a_profile_survives_json(profile):
    text = json.dumps(profile.to_json())
    again = Profile.from_json(json.loads(text))
    assert again == profile
    assert again.hash == profile.hash
    assert json.dumps(again.to_json()) == text
    assert isinstance(again.rounding, Rounding)
    assert isinstance(again.step_rounding, Rounding)


@every_preset
def test_the_hash_is_the_one_committed(profile):
    assert profile.hash == HASHES[profile.name]


@every_preset
def test_the_hash_is_that_of_the_canonical_json(profile):
    text = json.dumps(json.loads(json.dumps(profile.to_json())), sort_keys=True, separators=(",", ":"))
    assert profile.hash == hashlib.sha256(text.encode("ascii")).hexdigest()


every_leaf_of_a_preset = pytest.mark.parametrize(
    ("profile", "path"),
    [(profile, path) for profile in NATIVE.values() for path in leaves(profile.to_json()) if path[-1] != "rule"],
    ids=lambda value: getattr(value, "name", None) or "/".join(value),
)


@every_leaf_of_a_preset
def test_the_hash_changes_with_every_field(profile, path):
    changed = Profile.from_json(replaced(profile.to_json(), path, another_value))
    assert changed != profile
    assert changed.hash != profile.hash


@every_preset
def test_the_hash_does_not_depend_on_the_order_of_the_fields(profile):
    def backwards(data):
        return {name: backwards(value) if isinstance(value, dict) else value for name, value in reversed(data.items())}

    assert Profile.from_json(backwards(profile.to_json())).hash == profile.hash


@pytest.mark.parametrize("path", [("spare",), ("exp", "spare"), ("layer_norm", "eps")], ids="/".join)
def test_an_unknown_field_is_refused(path):
    with pytest.raises(IntsimError, match="profile must have exactly the fields"):
        Profile.from_json(replaced(INTSIM.to_json(), path, lambda inner, name: inner.update({name: 1})))


@every_leaf
def test_a_missing_field_is_refused(path):
    with pytest.raises(IntsimError, match="profile must have exactly the fields"):
        Profile.from_json(replaced(INTSIM.to_json(), path, lambda inner, name: inner.pop(name)))


@pytest.mark.parametrize("part", ["requantization", "exp", "softmax", "gelu", "tanh", "sigmoid", "layer_norm"])
def test_a_missing_operator_is_refused(part):
    data = INTSIM.to_json()
    del data[part]
    with pytest.raises(IntsimError, match="profile must have exactly the fields"):
        Profile.from_json(data)
    with pytest.raises(IntsimError, match="profile must have exactly the fields"):
        Profile.from_json(data | {part: 5})


@pytest.mark.parametrize("field", ["rounding", "step_rounding"])
@pytest.mark.parametrize("name", ["nearest", "HALF_UP", "", 0, None])
def test_an_unknown_rounding_is_refused(field, name):
    with pytest.raises(IntsimError, match="is not a valid Rounding"):
        Profile.from_json(INTSIM.to_json() | {field: name})


@pytest.mark.parametrize("path", [("sum",), ("layer_norm", "centring")], ids="/".join)
def test_an_unknown_convention_is_refused(path):
    with pytest.raises(IntsimError):
        Profile.from_json(replaced(INTSIM.to_json(), path, lambda inner, name: inner.update({name: "twice"})))


def test_a_field_of_the_wrong_type_is_refused():
    accepted = []
    for path in leaves(INTSIM.to_json()):
        try:
            Profile.from_json(replaced(INTSIM.to_json(), path, lambda inner, name: inner.update({name: [1.5]})))
        except IntsimError:
            continue
        accepted.append("/".join(path))
    assert accepted == []


@pytest.mark.parametrize("data", [[], "intsim", None])
def test_what_is_not_a_mapping_is_refused(data):
    with pytest.raises(IntsimError):
        Profile.from_json(data)


def test_a_profile_is_frozen_and_hashable():
    with pytest.raises(FrozenInstanceError):
        INTSIM.version = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        INTSIM.exp.a = "1"  # type: ignore[misc]
    assert len({INTSIM, IBERT, Profile.from_json(INTSIM.to_json())}) == 2


def test_presets_are_found_by_their_names():
    assert list(PROFILES) == ["intsim", "ibert", "intsim-wide", "ibert-code", "ivit", "ita", "ita-2024"]
    assert [find_profile(name) for name in NATIVE] == [INTSIM, IBERT, INTSIM_WIDE]
    assert all(find_profile(name) is profile for name, profile in PROFILES.items())


def test_silu_is_said_where_it_is_not_the_default():
    assert "silu" not in INTSIM.to_json()
    assert Profile.from_json(INTSIM.to_json() | {"silu": {"input_fraction": 9}}).hash == INTSIM.hash
    other = replace(INTSIM, silu=Silu(input_fraction=11))
    assert other.to_json()["silu"] == {"input_fraction": 11}
    assert other.hash != INTSIM.hash
    assert Profile.from_json(other.to_json()) == other


def test_intsim_wide_reaches_what_decoders_need():
    assert INTSIM_WIDE.softmax.one == 65535
    assert 2 ** (15 - INTSIM_WIDE.gelu.input_fraction) == 2 ** (15 - INTSIM_WIDE.silu.input_fraction) == 64
    unary = ("exp", "gelu", "tanh", "sigmoid", "silu")
    assert {getattr(INTSIM_WIDE, name).rule for name in unary} == {"rounded"}
    assert INTSIM_WIDE.borrowed == ()
    same = ("requantization", "rounding", "step_rounding", "sum", "layer_norm")
    assert all(getattr(INTSIM_WIDE, name) == getattr(INTSIM, name) for name in same)


def test_an_unknown_preset_is_refused_with_the_names_of_the_presets():
    with pytest.raises(
        IntsimError,
        match="profile must be one of intsim, ibert, intsim-wide, ibert-code, ivit, ita, ita-2024, got 'gpt'",
    ):
        find_profile("gpt")


# Constants


def test_ln2_and_sqrt2_are_the_float_constants_and_more():
    assert float(LN2) == math.log(2)
    assert float(SQRT2) == math.sqrt(2)
    assert abs(SQRT2**2 - 2) < Fraction(1, 10**37)
    assert (LN2, SQRT2) == (oracle.LN2, oracle.SQRT2)
    # ln 2 = sum of 1 / (n 2**n); 130 terms leave less than 2**-130
    assert abs(LN2 - sum(Fraction(1, n * 2**n) for n in range(1, 131))) < Fraction(1, 10**37)


def test_ibert_has_the_constants_of_the_paper():
    assert (float(IBERT.gelu.a), float(IBERT.gelu.b)) == (-0.2888, -1.769)
    assert (float(IBERT.exp.a), float(IBERT.exp.b), float(IBERT.exp.c)) == (0.3585, 1.353, 0.344)


def test_ibert_has_the_conventions_of_the_paper_and_its_code():
    assert (IBERT.rounding, IBERT.step_rounding) == (Rounding.HALF_EVEN, Rounding.FLOOR)
    assert (IBERT.sum, IBERT.softmax.one, IBERT.layer_norm.centring) == ("each", 256, "rounded-mean")


def test_intsim_has_the_conventions_written_in_the_specification():
    assert INTSIM.rounding is INTSIM.step_rounding is Rounding.HALF_UP
    assert (INTSIM.sum, INTSIM.softmax.one, INTSIM.layer_norm.centring) == ("once", 255, "exact")
    assert (INTSIM.gelu.a, INTSIM.gelu.b, INTSIM.gelu.output_shift) == ("-0.2575", "-1.8306", 24)
    assert (INTSIM.exp.a, INTSIM.exp.b, INTSIM.exp.c, INTSIM.exp.output_shift) == ("0.3509", "1.3691", "0.3405", 14)


@both_presets
def test_integer_constants_are_the_exact_rationals_rounded(profile):
    exp, gelu, mode = profile.exp, profile.gelu, profile.step_rounding
    fraction = exp.input_fraction + exp.guard_bits
    assert exp.fraction == fraction
    assert exp.constants(mode) == (
        oracle.round_fraction(oracle.LN2 * 2**fraction, mode),
        oracle.round_fraction(Fraction(exp.b) * 2**fraction, mode),
        oracle.round_fraction(Fraction(exp.c) / Fraction(exp.a) * 4**fraction, mode),
    )
    assert gelu.constants(mode) == (
        oracle.round_fraction(Fraction(gelu.b) * oracle.SQRT2 * 2**gelu.input_fraction, mode),
        oracle.round_fraction(2 / Fraction(gelu.a) * 4**gelu.input_fraction, mode),
    )


def test_integer_constants_are_these():
    assert IBERT.exp.constants(IBERT.step_rounding) == (1419, 2770, 4024659)
    assert IBERT.gelu.constants(IBERT.step_rounding) == (-2562, -7261607)
    assert INTSIM.exp.constants(INTSIM.step_rounding) == (11357, 22431, 260479546)
    assert INTSIM.gelu.constants(INTSIM.step_rounding) == (-2651, -8144280)


@both_presets
def test_output_scales_are_exact(profile):
    exp, gelu = profile.exp, profile.gelu
    assert exp.output_scale == Fraction(exp.a) * 2**exp.output_shift / 4 ** (exp.input_fraction + exp.guard_bits)
    assert gelu.output_scale == -Fraction(gelu.a) * 2**gelu.output_shift / (4 * 8**gelu.input_fraction)
    assert gelu.output_scale > 0


BEYOND = {  # constants with which an operator leaves the integers it is proved for
    "exp passes int32": {"exp": {"guard_bits": 5, "output_shift": 0}},
    "exp of 0 is 0": {"exp": {"output_shift": 31}},
    "exp shifts to the left": {"exp": {"output_shift": -5}},
    "exp has negative guard bits": {"exp": {"guard_bits": -1}},
    "exp has a coefficient that is no number": {"exp": {"a": "a third"}},
    "exp has no parabola": {"exp": {"a": "0"}},
    "gelu passes int32": {"gelu": {"output_shift": 0}},
    "gelu shifts by more than 62": {"gelu": {"output_shift": 63}},
    "gelu shifts to the left": {"gelu": {"output_shift": -1}},
    "tanh of 1 passes int16": {"tanh": {"output_fraction": 15}},
    "sigmoid of 1 passes int16": {"sigmoid": {"output_fraction": 15}},
    "softmax has no unit": {"softmax": {"one": 0}},
    "layer_norm passes int32": {"layer_norm": {"output_fraction": 24}},
    "layer_norm has a negative fraction": {"layer_norm": {"output_fraction": -1}},
}


def test_a_shift_of_exp_beyond_62_is_refused():
    data = INTSIM.to_json()
    with pytest.raises(IntsimError, match="exp must shift by at most 62 bits"):
        Profile.from_json(data | {"exp": data["exp"] | {"output_shift": 60}})


@pytest.mark.parametrize("changes", BEYOND.values(), ids=list(BEYOND))
def test_constants_beyond_the_bounds_of_an_operator_are_refused(changes):
    data = INTSIM.to_json()
    for name, value in changes.items():
        data[name] = data[name] | value if isinstance(value, dict) else value
    with pytest.raises(IntsimError):
        Profile.from_json(data)


@both_presets
def test_no_constant_is_near_the_limit_of_its_bound(profile):
    q_ln2, q_b, q_c = profile.exp.constants(profile.step_rounding)
    assert (2**15 << profile.exp.guard_bits) // q_ln2 < 32  # the largest shift of exp
    assert q_b**2 + q_c < 2**30
    q_b, q_c = profile.gelu.constants(profile.step_rounding)
    assert q_b < 0 > q_c
    assert q_b**2 <= -q_c  # so that |q_erf + q_1| <= 2 |q_1|
    assert 2**15 * 2 * -q_c < 2**39
