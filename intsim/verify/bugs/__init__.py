# SPDX-License-Identifier: Apache-2.0
"""The bugs that chips and kernels have: every operator written again with replaceable parts, and named single changes.

A file per operator, one for the unary ones, holds its rule on int64 fields that broadcast, and ``changes``: what the
rule gives under each change, ``CONTROL`` being none. ``feeds`` gives them the fields of test vectors or of a recorded
call. A register without further words is a signed one; those listed are some of its widths, ``widths_of_call`` and
``widths_of_operator`` have all.
"""

from intsim.verify.bugs.feeds import (
    Run,
    Sized,
    changes_of_call,
    changes_of_operator,
    rule_of_operator,
    widths_of_call,
    widths_of_operator,
)
from intsim.verify.bugs.parts import CONTROL

__all__ = [
    "CONTROL",
    "Run",
    "Sized",
    "changes_of_call",
    "changes_of_operator",
    "rule_of_operator",
    "widths_of_call",
    "widths_of_operator",
]
