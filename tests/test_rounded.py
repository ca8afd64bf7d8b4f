# SPDX-License-Identifier: Apache-2.0
"""Every entry of the correctly rounded tables is the one that 60 decimal digits decide."""

import time
from decimal import Decimal, localcontext

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intsim import ops, rounded
from intsim.profile import INTSIM, INTSIM_WIDE
from intsim.rounded import RoundedExp, RoundedGelu, RoundedSigmoid, RoundedSilu, RoundedTanh, table

CODES = np.arange(-(2**15), 2**15).astype(np.int16)
FORMATS = {
    "exp": (11, 23),
    "tanh": (12, 14),
    "sigmoid": (11, 14),
    "silu": (9, 15),
    "gelu": (9, 15),
    "gelu_tanh": (9, 15),
}

every_function = pytest.mark.parametrize("function", FORMATS)


@every_function
def test_every_input_of_the_preset_is_correctly_rounded(function):
    codes = CODES[CODES <= 0] if function == "exp" else CODES
    y = getattr(ops, function)(codes, profile=INTSIM_WIDE)
    assert y.dtype == (np.int16 if function in ("tanh", "sigmoid") else np.int32)
    assert y.tolist() == [oracle.correctly_rounded(function, x, *FORMATS[function]) for x in codes.tolist()]


@every_function
def test_the_formats_of_the_preset_are_those_tested_above(function):
    profile = INTSIM_WIDE
    rule = profile.gelu if function == "gelu_tanh" else getattr(profile, function)
    by_exp = {"tanh": profile.exp.input_fraction + 1, "sigmoid": profile.exp.input_fraction}
    fraction = by_exp[function] if function in by_exp else rule.input_fraction  # noqa: SIM401  some rules have none
    assert (fraction, rule.output_fraction) == FORMATS[function]


def formats(function):
    """Every format that a rule can have."""
    if function in ("silu", "gelu", "gelu_tanh"):
        inputs = st.integers(0, 14)
        return inputs.flatmap(lambda bits: st.tuples(st.just(bits), st.integers(bits, bits + 15)))
    return st.tuples(st.integers(1, 15), st.integers(1, 23 if function == "exp" else 14))


@every_function
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_format_is_correctly_rounded(function, data):
    fractions = data.draw(formats(function))
    entries = table(function, *fractions)
    lowest, highest = -(2**15), 0 if function == "exp" else 2**15 - 1
    ends = st.integers(lowest, highest) | st.sampled_from([lowest, lowest + 1, -1, 0, min(1, highest), highest])
    for x in data.draw(st.lists(ends, min_size=30, max_size=60)):
        index = -x if function == "exp" else x
        assert entries[index] == oracle.correctly_rounded(function, x, *fractions), x


@every_function
def test_too_few_bits_are_noticed_and_doubled(function, monkeypatch):
    first = table(function, *FORMATS[function])
    seen = []
    positive = rounded._positive

    def recorded(name, input_fraction, bits):
        seen.append(bits)
        return positive(name, input_fraction, bits)

    monkeypatch.setattr(rounded, "FIRST_BITS", 40)
    monkeypatch.setattr(rounded, "_positive", recorded)
    again = table.__wrapped__(function, *FORMATS[function])
    assert len(seen) > 1
    assert seen == [40 << n for n in range(len(seen))]
    assert np.array_equal(again, first)


@every_function
def test_the_error_bounds_hold_what_more_bits_give(function):
    (values, errors), drop = rounded._positive(function, FORMATS[function][0], 96)
    (exact, _), finer = rounded._positive(function, FORMATS[function][0], 256)
    gap = abs((values << finer - drop) - exact)
    assert (gap <= (errors + 1) << finer - drop).all()
    assert gap.max() > 0


@every_function
def test_a_table_is_built_once_and_soon(function):
    before = time.process_time()
    table.__wrapped__(function, *FORMATS[function])
    assert time.process_time() - before < 1.5  # 0.3 s or less on a machine at rest
    assert table(function, *FORMATS[function]) is table(function, *FORMATS[function])


def test_sqrt_two_over_pi_to_ten_digits_gives_the_same_entries():
    with localcontext() as context:
        context.prec = oracle.DIGITS
        ten_digits = Decimal("0.7978845608")
        for x in CODES.tolist():
            real = Decimal(x) / 2**9
            y = real / (1 + (-2 * ten_digits * real * (1 + Decimal("0.044715") * real * real)).exp())
            assert int((y * 2**15).to_integral_value()) == table("gelu_tanh", 9, 15)[x]


def test_the_forms_of_gelu_differ():
    erf, by_tanh = (operator(CODES, profile=INTSIM_WIDE) for operator in (ops.gelu, ops.gelu_tanh))
    assert 10 < abs(erf - by_tanh).max() <= 5e-4 * 2**15
    assert np.array_equal(ops.gelu_tanh(CODES, profile=INTSIM), ops.gelu(CODES, profile=INTSIM))


BEYOND = {
    "exp passes what softmax can sum": (RoundedExp, {"input_fraction": 11, "output_fraction": 24}),
    "exp of negative fraction": (RoundedExp, {"input_fraction": 0, "output_fraction": 23}),
    "tanh of 1 passes int16": (RoundedTanh, {"output_fraction": 15}),
    "sigmoid of 1 passes int16": (RoundedSigmoid, {"output_fraction": 15}),
    "sigmoid of 0 is a tie": (RoundedSigmoid, {"output_fraction": 0}),
    "silu passes int32": (RoundedSilu, {"input_fraction": 9, "output_fraction": 25}),
    "gelu coarser than its input": (RoundedGelu, {"input_fraction": 9, "output_fraction": 8}),
    "gelu of more bits than x has": (RoundedGelu, {"input_fraction": 15, "output_fraction": 15}),
}


@pytest.mark.parametrize(("rule", "fields"), BEYOND.values(), ids=list(BEYOND))
def test_a_format_beyond_the_bounds_is_refused(rule, fields):
    with pytest.raises(ValueError, match=r"fraction of .* must be in"):
        rule(**fields)
