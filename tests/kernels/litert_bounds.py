# SPDX-License-Identifier: Apache-2.0
"""The longest sum of exponentials that LiteRT's int8 softmax divides by, and whether it divides by the next one.

``python -m kernels.litert_bounds below`` runs the kernel; ``at``, one part higher, ends the process.
"""

import sys
from fractions import Fraction
from typing import Final

import numpy as np

from intsim.kernels import gemmlowp

SCALE: Final = Fraction(1, 8)


def just_below_512() -> tuple[list[int], int]:
    """Return codes whose exponentials sum to 512 less the smallest part, and a code whose exponential is that part."""
    codes = np.arange(-1, -128, -1)
    parts = (gemmlowp.exp_on_negative_values(codes << 23, 5) + (1 << 11) >> 12).tolist()  # of 2**-19
    row, missing = [0] * 511, (1 << 19) - 1
    for code, part in zip(codes.tolist(), parts, strict=True):
        while 0 < part <= missing:
            row.append(code)
            missing -= part
    assert not missing
    return row, int(codes[parts.index(1)])


def main() -> None:
    from kernels.litert_nonlinear_witnesses import INT8, REFERENCE, softmax  # noqa: PLC0415  needs LiteRT

    row, one = just_below_512()
    codes = np.array([row if sys.argv[1] == "below" else [*row, one]], np.int8)
    print(*softmax(codes, float(SCALE), 1.0, resolver=REFERENCE, to=INT8)[0].tolist())


if __name__ == "__main__":
    main()
