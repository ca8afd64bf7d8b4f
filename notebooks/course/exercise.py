# SPDX-License-Identifier: Apache-2.0
"""Answers of the exercises, checked without being given away."""

import hashlib

import numpy as np


def check(answer: object, *fingerprints: str) -> str:
    """Say whether an answer, an integer or several, is right."""
    if answer is ...:
        return "your turn"
    integers = np.asarray(answer)
    assert integers.dtype.kind in "iub", f"an answer is made of integers, got {integers.dtype}"
    assert hashlib.sha256(integers.astype("<i8").tobytes()).hexdigest()[:8] in fingerprints, "not yet"
    return "right"
