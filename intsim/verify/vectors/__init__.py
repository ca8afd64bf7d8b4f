# SPDX-License-Identifier: Apache-2.0
"""Test vectors for one operator: generate them, and judge what a device makes of them.

``draw`` makes integers that are the same forever, ``operators`` says what a case is made of and evaluates it with
``intsim.ops``, ``cases`` lists the edges and draws the rest, ``text`` and ``formats`` write them, ``judge`` reads a
device's answers.
"""

from intsim.verify.vectors.cases import generate, minimum
from intsim.verify.vectors.judge import Answers, Mismatch, Verdict, read_answers, verify
from intsim.verify.vectors.operators import OPERATORS, Field, Operator, bind

__all__ = [
    "OPERATORS",
    "Answers",
    "Field",
    "Mismatch",
    "Operator",
    "Verdict",
    "bind",
    "generate",
    "minimum",
    "read_answers",
    "verify",
]
