# SPDX-License-Identifier: Apache-2.0
"""The list of bugs: nothing changed is the golden model for both feeds, and level 1 catches what some input shows."""

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from importlib import resources
from itertools import chain
from typing import Final

import numpy as np
import pytest
from click.testing import CliRunner
from edges import CROSSED, every_preset
from hypothesis import given
from hypothesis import strategies as st
from verify.vector_files import every_binding, every_operator, sample

import intsim
from intsim import ops
from intsim._trace import Call
from intsim.cli.vectors import vectors
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding, round_fraction
from intsim.ops import LayerNormParams
from intsim.profile import IBERT, INTSIM, NATIVE, Softmax
from intsim.requantization import RULES
from intsim.verify.bugs import CONTROL, changes_of_call, changes_of_operator
from intsim.verify.bugs.feeds import widths_of_call
from intsim.verify.kill import EQUIVALENT, kill_matrix
from intsim.verify.vectors import OPERATORS, bind, generate, minimum
from intsim.verify.vectors.cases import UNARY

FINE: Final = replace(INTSIM, name="fine", softmax=Softmax(one=65535))
every_profile = pytest.mark.parametrize("profile", [*NATIVE.values(), FINE, *CROSSED], ids=lambda profile: profile.name)

# What the specification asks of the list, by a name it has.
ASKED: Final = {
    "requantize": [
        *("rounding floor", "rounding toward-zero", "rounding half-away", "half added, then truncated"),
        *("two roundings (TFLite)", "shift one too small", "shift one too large", "logical shift", "result wraps"),
        *("clamped to [-127, 127]", "clamped to [0, 255]", "zero point before rounding", "zero point left out"),
        *("multiplier of 24 bits", "multiplier of 16 bits", "multiplier in float32", "accumulator wraps at 16 bits"),
        *("product wraps at 32 bits", "float32 arithmetic"),
    ],
    "add": ["sum wraps at 32 bits", "operand 1 left out", "zero point subtracted", "operands wrap at 16 bits"],
    "matmul": ["accumulator wraps at 16 bits", "bias left out", "activations read as unsigned"],
    "exp": ["quotient rounded up", "rounding floor", "q_ln2 +1", "shift by z left out"],
    "softmax": ["mask left out", "maximum not subtracted", "one = 256", "exp: rounding floor", "256 wraps"],
    "gelu": ["clip left out", "product wraps at 32 bits"],
    "sigmoid": ["negative side is the positive one", "reciprocal of 16 bits", "one fraction bit too few"],
    "silu": ["sigmoid of 1.702 x", "hard sigmoid", "sigmoid rounded to 8 bits", "sigmoid: rounding floor"],
    "isqrt": ["3 Newton updates", "5 Newton updates", "20 Newton updates", "float32 square root"],
    "layer_norm": ["eps left out", "bias left out", "5 Newton updates", "rounded mean subtracted", "result wraps"],
    "rms_norm": ["row not shifted", "row shift: rounding floor", "eps not shifted", "mean subtracted", "eps left out"],
    "l2_normalize": ["rounding half-even", "root without fraction bits", "root left out", "root: 3 Newton updates"],
    "multiply": [
        *("zero point of the first factor left out", "product of codes wraps at 32 bits", "two roundings (TFLite)"),
        *("cross terms of the zero points left out", "product of codes rounded to its high half", "result wraps"),
    ],
    "rotary": [
        *("the other pairing", "turned backwards", "each product rounded", "second channel from the turned first"),
        *("result saturates at 16 bits", "angle of the next pair", "rounding floor", "cos of 1 as the code below"),
    ],
    "linear": [
        *("activation minus zero point wraps at 8 bits", "activation minus zero point saturates at 8 bits"),
        *("zero point of the activations left out", "product: bias left out", "requantize: rounding floor"),
    ],
    "linear_add_norm": [
        *(
            "product: bias left out",
            "product: accumulator wraps at 24 bits",
            "sum: operand 1 left out",
            "sum: rounded each",
        ),
        *("sum: multipliers exchanged", "sum: result wraps", "norm: eps left out", "norm: bias of the next channel"),
    ],
    "quantize": ["zero point before rounding", "rounding half-away", "multiplied by the reciprocal"],
}


# What a machine makes of rows beside each other and of registers, by a name it has.
OF_MACHINES: Final = {
    "matmul": [
        *("operands exchanged", "lanes of one operand reversed", "tiles of 4 of one operand reversed", "rows reversed"),
        *(
            "last tile of 8 products left out",
            "accumulator not cleared between tiles",
            "one row late",
            "lanes reversed",
        ),
    ],
    "softmax": [
        *("maximum not cleared between rows", "sum of 32 bits not cleared between rows", "one row late"),
        *("masked positions in the maximum", "reciprocal of 16 bits truncated, product rounded"),
    ],
    "layer_norm": [
        *("sum of 32 bits not cleared between rows", "sum of squares of 40 bits not cleared between rows"),
        *("bias wraps at 32 bits", "division: half added, then truncated", "one Newton update too few"),
        "last bit of the square root left out",
    ],
}
ORDERS: Final = {  # of rows and heads, which not all vectors have
    *("lanes reversed", "lanes of each word of 4 reversed", "lanes of each word of 2 reversed", "one lane late"),
    *("rows reversed", "heads reversed"),
}
UNARY_OPERATORS: Final = (ops.gelu, ops.gelu_tanh, ops.tanh, ops.sigmoid, ops.silu)


def call(operator, *operands, **constants):
    return Call(
        name="device",
        operator=operator,
        operands=operands,
        constants=constants,
        result=operator(*operands, **constants),
    )


def calls(profile, seed, to=None):
    """Return a call of every operator, on shapes that a model has, tie-dense where it rounds by a shift."""
    rng = np.random.default_rng(seed)
    shape = (2, 3, 7)
    acc = rng.integers(-(2**31), 2**31, shape) >> rng.integers(0, 31, shape)
    acc = acc.astype(np.int32)
    codes = rng.integers(-128, 128, (2, 5, 7)).astype(np.int8)
    weight = rng.integers(-128, 128, (4, 7)).astype(np.int8)
    probs = rng.integers(0, 256, (2, 3, 5)).astype(np.uint8)
    wide = rng.integers(-(2**15), 2**15, shape).astype(np.int16) >> rng.integers(0, 15, shape).astype(np.int16)
    channels = Dyadic(1 << rng.integers(0, 31, 7), rng.integers(0, 40, 7))
    scalar = Dyadic(int(rng.integers(1, 2**31)), int(rng.integers(20, 45)))
    to = to or [INT8, UINT8, INT16, IntRange(4), IntRange(8, narrow=True)][rng.integers(5)]
    zero_point = int(rng.integers(to.min, to.max + 1))
    mask = rng.integers(0, 4, (2, 1, 7)) > 0
    ratios = [Dyadic(np.int64(1) << rng.integers(0, 25), 24 + (profile.sum == "each") * k) for k in range(3)]
    terms = [codes[:, :3], wide >> 4, codes[:1, :3]]
    params = LayerNormParams(
        weight=Dyadic(rng.integers(-(2**30), 2**30, 7), np.full(7, 41)),
        bias=rng.integers(-(2**46), 2**46, 7) >> 40 << 40,
        eps=int(rng.integers(1, 2**20)),
    )
    bias = rng.integers(-(2**20), 2**20, 4).astype(np.int32)
    turns = rng.choice([2**13, -(2**13), 2**14, 0, 77], (2, 2, 3, 3)).astype(np.int16)  # cos and sin (B, T, pairs)
    return [
        *(
            call(ops.requantize, acc, ratio, to=to, rounding=rounding, zero_point=zero_point)
            for ratio in (channels, scalar)
            for rounding in (profile.rounding, profile.requantization)
        ),
        call(ops.requantize, acc, scalar, to=to, rounding=profile.requantization),
        call(ops.add, terms, ratios, to=to, profile=profile, zero_point=zero_point),
        call(ops.add, terms[:2], ratios[:2], to=INT16, profile=profile),
        call(ops.matmul, codes, weight, bias=bias),
        call(ops.matmul, codes, weight),
        call(ops.matmul, probs, codes[:, :4].swapaxes(-1, -2)[:, :5, :4].repeat(2, axis=-1)[..., :5]),
        call(ops.softmax, acc, scalar, profile=profile, mask=mask),
        call(ops.softmax, acc >> 12, scalar, profile=profile),
        call(ops.layer_norm, wide, params, to=to if to.bits == 8 else INT8, profile=profile),
        call(ops.rms_norm, acc, params, to=to if to.bits == 8 else INT8, profile=profile),
        call(ops.l2_normalize, wide, profile=profile),
        *(
            call(ops.multiply, *factors, ratio, to=of, rounding=profile.rounding, **zero_points)
            for ratio in (Dyadic(channels.multiplier >> 1, channels.shift + 20), scalar)
            for factors in ((codes, codes[::-1]), (wide, wide[:, ::-1]))
            for of, zero_points in (
                (INT16, {}),
                (to, {"a_zero_point": 3, "b_zero_point": -9, "zero_point": zero_point}),
            )
        ),
        *(
            call(ops.rotary, wide[:, None], *tables, pairing=pairing, rounding=profile.rounding)
            for tables in (turns, turns[:, 0])
            for pairing in ("halves", "neighbours")
        ),
        *(call(operator, wide, profile=profile) for operator in UNARY_OPERATORS),
        call(ops.exp, -np.abs(np.maximum(wide, -(2**15) + 1)), profile=profile),
        call(ops.isqrt, wide.astype(np.int64) ** 4),
    ]


@every_profile
def test_nothing_changed_is_the_golden_operator_on_calls(profile):
    for one in chain.from_iterable(calls(profile, seed) for seed in range(3)):
        given_ = changes_of_call(one)[CONTROL]()
        assert given_.dtype == one.result.dtype
        assert np.array_equal(given_, one.result), one.operator.__name__


def of_one_row(operand, axes=1):
    """Return the first row of an operand, or of each of several; what has no rows is left as it is."""
    if isinstance(operand, list):
        return [of_one_row(each) for each in operand]
    return operand[(0,) * (operand.ndim - axes)] if isinstance(operand, np.ndarray) else operand


def test_every_change_of_a_call_on_one_row_gives_one_row():
    profile = intsim.PROFILES["intsim"]
    for one in calls(profile, 0):
        kept = 2 if one.operator in (ops.matmul, ops.rotary) else 1
        x, *rest = one.operands
        row = of_one_row(x, 1 + (one.operator is ops.rotary))
        constants = {**one.constants, "mask": of_one_row(one.constants.get("mask"))}
        given_ = {name: each for name, each in constants.items() if each is not None}
        single = call(one.operator, row, *(of_one_row(each, kept) for each in rest), **given_)
        changes = changes_of_call(single)
        assert np.array_equal(changes[CONTROL](), single.result), one.operator.__name__
        for name, changed in changes.items():
            assert changed().shape == single.result.shape, (one.operator.__name__, name)
        for sized in widths_of_call(single).values():
            with suppress(ValueError):  # beyond the operator's bounds
                assert sized.at(16)().shape == single.result.shape


@every_profile
@pytest.mark.parametrize("eps", [1, 2**30, 2**61 - 1])
def test_nothing_changed_is_the_golden_layer_norm_of_wide_codes(profile, eps):
    rng = np.random.default_rng(eps % 97)
    x = (rng.integers(-(2**31), 2**31, (40, 7)) >> rng.integers(0, 31, (40, 1))).astype(np.int32)
    params = LayerNormParams(weight=Dyadic([3 << 28] * 7, [41] * 7), bias=np.arange(7) << 40, eps=eps)
    one = call(ops.layer_norm, x, params, to=INT8, profile=profile)
    changes = changes_of_call(one)
    assert np.array_equal(changes[CONTROL](), one.result)
    for name in (
        "mean not subtracted",
        "bias left out",
        "row not shifted",
        "one fraction bit too many",
        "eps not shifted",
    ):
        assert (name.startswith("eps") and eps == 1) or not np.array_equal(changes[name](), one.result), name


def test_nothing_changed_is_every_call_of_a_model():
    model = intsim.load(resources.files("intsim.embedded"))
    with intsim.trace("steps") as trace:
        model([[2, 187, 1194, 16, 994, 3], [2, 187, 3, 0, 0, 0]])
    computed = [one for one in trace.calls.values() if one.operator not in (ops.embedding, ops.relu)]
    assert len(computed) > 40
    for one in computed:
        assert np.array_equal(changes_of_call(one)[CONTROL](), one.result), one.name


@every_operator
def test_nothing_changed_is_the_golden_operator_on_vectors(name):
    for profile in (*NATIVE.values(), FINE, *CROSSED):
        preset = profile
        if profile in CROSSED and name not in UNARY:  # the cases of others do not depend on roundings, but for a few
            preset = IBERT if profile.name.startswith("ibert") else INTSIM
        operator, (_, cases) = bind(name, profile), sample(name, preset, every=29)
        nothing_changed = changes_of_operator(operator)[CONTROL].results(cases)
        assert np.array_equal(nothing_changed, operator.results(cases)), profile.name


@every_preset
def test_a_bug_has_one_name_in_both_uses(profile):
    seen = {}
    for one in calls(profile, 3, to=INT8):
        seen[one.operator.__name__] = set(changes_of_call(one)) | seen.get(one.operator.__name__, set())
    assert set(seen) == set(OPERATORS) - {"quantize", "linear", "linear_add_norm"}
    for name, names in seen.items():
        of_vectors = set(changes_of_operator(bind(name, profile)))
        more = names - of_vectors - ORDERS  # of channels, other codes, a third operand
        assert of_vectors <= names
        assert not more or name in ("requantize", "matmul", "add", "multiply"), (name, more)
        assert not [change for change in more if name == "requantize" and "channel" not in change]


@pytest.mark.parametrize(("name", "asked"), [*ASKED.items(), *OF_MACHINES.items()])
def test_the_bugs_that_were_asked_for_are_there(name, asked):
    assert set(asked) <= set(changes_of_operator(bind(name, INTSIM)))


# Other arithmetic

OTHER_ARITHMETIC: Final = [rule for rule in RULES.values() if not rule.is_one_rounding]


@pytest.mark.parametrize("rule", OTHER_ARITHMETIC, ids=lambda rule: rule.name)
def test_the_changes_of_another_arithmetic_are_the_other_rules(rule):
    acc = np.arange(-(2**15), 2**15, 5, dtype=np.int32)
    one = call(ops.requantize, acc, Dyadic(3, 9), to=INT8, rounding=rule, zero_point=3)
    changes = changes_of_call(one)
    assert np.array_equal(changes[CONTROL](), one.result)
    assert changes.keys() > {CONTROL, "rule dyadic", "rule hawq"}
    assert f"rule {rule.name}" not in changes
    floored = ops.requantize(acc, Dyadic(3, 9), to=INT8, rounding=RULES["pulp-nn"], zero_point=3)
    assert np.array_equal(changes["rule pulp-nn"](), floored)

    operator = bind("requantize", replace(INTSIM, requantization=rule))
    cases = np.concatenate(list(generate(operator, seed=1, level=1, cases=minimum(operator, 1))))
    cases = cases[abs(cases[:, 0] * cases[:, 1]) < 2**40][::5]
    devices = changes_of_operator(operator)
    assert devices.keys() == changes.keys()
    assert np.array_equal(devices[CONTROL].results(cases), operator.results(cases))
    assert not np.array_equal(devices["rule pulp-nn"].results(cases), operator.results(cases))


# What the vectors are worth


@every_binding
def test_level_1_kills_every_bug_that_some_input_shows(profile, name):
    fates = list(kill_matrix(profile, 1, names=(name,)))
    assert len(fates) > 15
    assert [fate.bug for fate in fates if not fate.caught and fate.equivalent is None] == []
    assert [fate.bug for fate in fates if fate.caught and fate.equivalent is not None] == []
    assert (CONTROL, 0) in [(fate.bug, fate.caught) for fate in fates]


@pytest.mark.slow
@every_binding
def test_level_2_kills_no_bug_that_is_called_equivalent(profile, name):
    for fate in kill_matrix(profile, 2, names=(name,)):
        assert bool(fate.caught) == (fate.equivalent is None), fate.bug


def test_level_1_kills_as_many_bugs_of_16_bit_probabilities():
    fine, coarse = (list(kill_matrix(of, 1, names=("softmax",))) for of in (FINE, INTSIM))
    left = {fate.bug.replace("65536", "256") for fate in fine if not fate.caught}
    assert left == {fate.bug for fate in coarse if not fate.caught}
    assert len(fine) == len(coarse)


def test_every_equivalence_is_of_a_bug_that_exists():
    for name, bug, profile in EQUIVALENT:
        assert bug in changes_of_operator(bind(name, NATIVE[profile])), (name, bug, profile)


def test_the_kill_matrix_is_a_markdown_table():
    result = CliRunner().invoke(vectors, ["kill", "tanh"])
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[0] == "| operator | bug | caught at | cases |"
    assert all(line.count("|") == 5 for line in lines)
    assert any(line.startswith("| tanh | one fraction bit too many | level 1 | ") for line in lines)


# The parts


@given(
    total=st.integers(-(2**40), 2**40),
    shift=st.integers(0, 50),
    zero_point=st.integers(-200, 200),
    rounding=st.sampled_from(Rounding),
)
def test_a_zero_point_before_rounding_is_that_of_the_exact_sum(total, shift, zero_point, rounding):
    acc, ratio = np.array([total]), (np.array([1]), np.array([shift]))
    one = Call(
        name="device",
        operator=ops.requantize,
        operands=(acc, Dyadic(*ratio)),
        constants={"to": INT32, "rounding": rounding, "zero_point": zero_point},
        result=np.zeros(1, np.int32),
    )
    exact = round_fraction(Fraction(total, 2**shift) + zero_point, rounding)
    assert changes_of_call(one)["zero point before rounding"]()[0] == min(max(exact, INT32.min), INT32.max)
