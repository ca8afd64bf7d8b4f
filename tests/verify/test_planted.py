# SPDX-License-Identifier: Apache-2.0
"""Does diagnose name the cause of a bug that was planted in an independent device?"""

from collections import Counter
from importlib import resources
from typing import Final

import numpy as np
import pytest
from verify.planted import DEVICE, planted
from verify.planted_names import BUGS
from verify.planted_parts import Bug

import intsim
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.verify.diagnose import diagnose

PLANTINGS: Final = 240
SENTENCES: Final = [
    "An honest, moving and quietly powerful film.",
    "bad",
    "The plot is a mess, and the acting is worse than that.",
    "not good , not bad",
]


@pytest.fixture(scope="module")
def trace():
    """Return the trace of a padded batch of sentences of several lengths."""
    model = intsim.load(resources.files("intsim.embedded"))
    tokenizer = parse_tokenizer(model.tokenizer)
    rows = [encode(tokenizer, text, longest=32).ids for text in SENTENCES]
    longest = max(map(len, rows))
    ids = [[*row, *[0] * (longest - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    with intsim.trace("steps") as recorded:
        model(ids, attention_mask=mask)
    return recorded


def acceptable(call, bug):
    """Return the names that describe the bug at this call."""
    names = BUGS[call.operator.__name__][bug.place][bug.change]
    numbers = {}
    if (to := call.constants.get("to")) is not None:
        numbers |= {"low": to.min, "high": to.max, "under": to.max - 1, "over": to.max + 1, "lowest": -to.max - 1}
    if call.operator.__name__ == "add":
        numbers["last"] = len(call.operands[0]) - 1
    return set(names.format(**numbers).split(" | "))


def test_the_device_without_bugs_is_the_golden_model(trace):
    operators = Counter()
    for name, call in trace.calls.items():
        if (operator := call.operator.__name__) in DEVICE:
            assert np.array_equal(planted(call), call.result), name
            operators[operator] += 1
    assert set(operators) == set(BUGS) == set(DEVICE)


def test_no_place_of_a_bug_is_misspelt(trace):
    first = {call.operator.__name__: call for call in trace.calls.values()}
    for operator, places in BUGS.items():
        for place, changes in places.items():
            used = set()

            class Watched(Bug):
                def at(self, place, correct="", used=used):
                    used.add(place)
                    return super().at(place, correct)

            planted(first[operator], Watched(place, next(iter(changes))))
            assert place in used, (operator, place)


@pytest.mark.slow
def test_the_planted_cause_is_named_for_95_percent_of_random_plantings(trace):
    pairs = [
        (name, Bug(place, change))
        for name, call in trace.calls.items()
        for place, changes in BUGS.get(call.operator.__name__, {}).items()
        for change in changes
    ]
    results = {name: trace[name] for name in trace.calls}
    shown, named, missed = Counter(), Counter(), Counter()
    for i in np.random.default_rng(0).permutation(len(pairs)):
        name, bug = pairs[i]
        call = trace.calls[name]
        values, operator = planted(call, bug), call.operator.__name__
        if np.array_equal(values, call.result):
            continue  # these operands do not show the bug
        causes = set(diagnose(trace, {**results, name: values}).explain_all)
        shown[operator] += 1
        if causes & acceptable(call, bug):
            named[operator] += 1
        else:
            missed[f"{operator}: {bug.place} {bug.change}"] += 1
        if shown.total() == PLANTINGS:
            break
    table = [f"{operator}: {named[operator]} of {count}" for operator, count in shown.items()]
    print(f"\n{named.total()} of {shown.total()} planted bugs named;", "; ".join(table))
    print("not named:", dict(missed))
    assert shown.total() == PLANTINGS
    assert shown.keys() == DEVICE.keys()
    assert named.total() >= 0.95 * PLANTINGS
