# SPDX-License-Identifier: Apache-2.0
"""What is said of the reach of vectors is what is in them."""

import re

import numpy as np
import pytest
from verify.vector_files import call, sample

from intsim.profile import INTSIM, PROFILES
from intsim.verify.coverage import coverage, covergroup
from intsim.verify.vectors import OPERATORS, bind


def test_ties_saturations_and_shifts_of_requantize_are_counted():
    operator, cases = sample("requantize", INTSIM)
    counts = coverage(operator)
    acc, multiplier, shift, zero_point = cases.T.tolist()
    ties = [a * m for a, m, t in zip(acc, multiplier, shift, strict=True) if t and a * m % (1 << t) == 1 << t - 1]
    assert counts["shifted: tie above 0"] == sum(product > 0 for product in ties) > 100
    assert counts["shifted: tie below 0"] == sum(product < 0 for product in ties) > 100
    whole = [((a * m + (1 << t >> 1)) >> t) + z for a, m, t, z in zip(acc, multiplier, shift, zero_point, strict=True)]
    assert counts["finish: saturated below"] == sum(y < -128 for y in whole) > 100
    assert counts["finish: saturated above"] == sum(y > 127 for y in whole) > 100
    values, numbers = np.unique(cases[:, 2], return_counts=True)
    reached = {int(key[6:]): count for key, count in counts.items() if key.startswith("shift ")}
    assert reached == dict(zip(values.tolist(), numbers.tolist(), strict=True))


def test_masks_of_softmax_are_counted():
    operator, cases = sample("softmax", INTSIM)
    counts, kept = coverage(operator), cases[:, 16:32].sum(axis=1)
    assert counts["mask keeps nothing"] == (kept == 0).sum() > 10
    assert counts["mask keeps one"] == (kept == 1).sum() > 10
    assert counts["mask keeps some"] == ((kept > 1) & (kept < 16)).sum() > 10
    assert counts["mask keeps everything"] == (kept == 16).sum() > 10


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_a_covergroup_of_its_ports(name):
    operator = bind(name, INTSIM)
    text = covergroup(operator, coverage(operator))
    assert text.startswith(f"covergroup intsim_{name}_cg with function sample(\n")
    assert text.endswith("endgroup\n")
    ports = re.findall(r"^    logic .*?(\w+)[,)]", text, re.MULTILINE)
    for point in re.findall(r"coverpoint (?:\$countones\()?([a-z]\w*)", text):
        assert point in ports
    assert text.count("{") == text.count("}")


def test_another_project_s_rule_counts_what_is_outside_it():
    counts = coverage(bind("softmax", PROFILES["ita"]))
    assert counts["mask keeps nothing"] > 10
    assert not any(key.startswith("shifted") for key in counts)


def test_the_command_prints_a_table_or_a_covergroup():
    status, out, _ = call("kill", "--coverage", "table", "requantize", "exp")
    assert status == 0
    assert out.decode().startswith("| operator | reached | count |\n|---|---|---|\n| requantize | ")
    assert b"| exp | shifted: nearer below | " in out
    status, out, _ = call("kill", "--coverage", "covergroup", "requantize")
    assert (status, out.decode().count("covergroup ")) == (0, 1)
