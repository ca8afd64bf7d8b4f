# SPDX-License-Identifier: Apache-2.0
"""Does diagnose name first what was planted in units that share no line with intsim, from text vectors?"""

import io
import re
from typing import Final

import pytest
from verify.planted_units import BUGS, UNITS
from verify.vector_files import generated

from intsim.profile import INTSIM
from intsim.verify.diagnose import diagnose_answers
from intsim.verify.vectors import bind, read_answers

LEAST_NAMED: Final = 36  # of 40


def words(line, operator):
    """Return the operands of a line by their names, as Python integers."""
    tokens, case = iter(line.split()), {}
    for field in operator.operands:
        sign = 1 << field.bits - 1 if field.signed else 0
        values = [(int(next(tokens), 16) ^ sign) - sign for _ in range(field.count)]
        case[field.name] = values if field.count > 1 else values[0]
    return case


def answers(name, text, bug):
    """Return the file that a unit with a bug gives back: the results alone."""
    operator = bind(name, INTSIM)
    cases = [words(line, operator) for line in text.decode().splitlines() if not line.startswith("#")]
    mask = (1 << 4 * operator.result.digits) - 1
    rows = ([f"{value & mask:0{operator.result.digits}x}" for value in row] for row in UNITS[name](cases, bug))
    return "".join(" ".join(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def texts():
    return {name: generated(name) for name in UNITS}


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_without_bugs_is_the_golden_model(texts, name):
    expected = read_answers(io.BytesIO(texts[name]))
    found = read_answers(io.BytesIO(answers(name, texts[name], "")), like=expected)
    assert not found.differs.any()


@pytest.mark.slow
def test_most_planted_bugs_are_named_first(texts):
    named, missed = 0, {}
    for name, bugs in BUGS.items():
        expected = read_answers(io.BytesIO(texts[name]))
        for bug, acceptable in bugs.items():
            found = diagnose_answers(expected, read_answers(io.BytesIO(answers(name, texts[name], bug)), like=expected))
            assert found.mismatches, f"the vectors do not show {name}: {bug}"
            first = found.explain_all[:1] or tuple(cause.change for cause in found.explain_some[:1])
            if first and any(re.fullmatch(each, first[0]) for each in acceptable):
                named += 1
            else:
                missed[f"{name}: {bug}"] = (found.explain_all[:3], found.explain_some[:2], found.mismatches)
    total = sum(map(len, BUGS.values()))
    print(f"{named} of {total} named first; not:", *missed.items(), sep="\n")
    assert named >= LEAST_NAMED
