# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import strategies as st

from intsim.fixedpoint import INT8, Dyadic, Rounding
from intsim.ops import requantize
from intsim.testing import Witness, examine, telling_neighbours

HALF = Dyadic(1, 1)


def halved(rounding):
    return lambda acc: requantize(acc, HALF, to=INT8, rounding=rounding)


def a_kernel(acc):  # ties toward plus infinity
    return np.floor(acc / 2 + 0.5).clip(-128, 127).astype(np.int8)


def witness(**change):
    operands = st.integers(0, 2**32).map(lambda seed: (np.random.default_rng(seed).integers(-300, 300, 100),))
    neighbours = {str(mode): halved(mode) for mode in Rounding if mode is not Rounding.HALF_UP}
    fields = {
        "operator": "requantize",
        "kernel": "a kernel",
        "package": "numpy",
        "rule": "dyadic",
        "operands": operands,
    }
    fields |= {"device": a_kernel, "golden": halved(Rounding.HALF_UP), "neighbours": neighbours, "note": "on odd days"}
    return Witness(**fields | change)


def test_a_kernel_that_equals_its_rule_differs_in_no_case():
    row = examine(witness())
    assert (row.cases, row.differing) == (20_000, 0)
    assert (row.operator, row.kernel, row.package, row.rule) == ("requantize", "a kernel", "numpy", "dyadic")
    assert (row.version, row.note) == (np.__version__, "on odd days")


@pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode is not Rounding.HALF_UP])
def test_every_differing_element_is_counted(rounding):
    row = examine(witness(golden=halved(rounding)), cases=5000)
    assert 0 < row.differing < row.cases == 5000


def test_a_kernel_of_another_dtype_or_shape_differs_everywhere():
    wide = examine(witness(device=lambda acc: a_kernel(acc).astype(np.int16)), cases=1000)
    flat = examine(witness(device=lambda acc: a_kernel(acc)[None]), cases=1000)
    assert wide.differing == wide.cases
    assert flat.differing == flat.cases


def test_the_draw_is_the_same_every_time():
    drawn = [[], []]
    for seen in drawn:
        examine(witness(device=lambda acc, seen=seen: seen.append(acc.tolist()) or a_kernel(acc)), cases=3000)
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 30


def test_neighbours_are_told_from_the_kernel_and_the_rule_itself_is_not():
    mine = witness()
    assert telling_neighbours(mine) == set(mine.neighbours)
    assert telling_neighbours(witness(neighbours={"itself": mine.golden})) == set()


def test_a_domain_that_is_used_up_ends_the_examination():
    row = examine(witness(operands=st.sampled_from([(np.arange(7),), (np.arange(9),)])))
    assert row.cases == 16


def test_what_a_kernel_raises_is_raised():
    def broken(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine(witness(device=broken))
