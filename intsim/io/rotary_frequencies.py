# SPDX-License-Identifier: Apache-2.0
"""The frequencies of a rotary embedding, the same on every machine."""

from decimal import Context, Decimal, localcontext
from typing import Any, Final

__all__ = ["rotary_frequencies"]

DIGITS: Final = 50
PI: Final = Decimal("3.14159265358979323846264338327950288419716939937510582")


def rotary_frequencies(config: Any, size: int) -> tuple[float, ...]:
    """Return theta**(-2 i / R) for R = ``size`` channels, stretched as ``config`` says: R / 2 rounded numbers.

    By decimal arithmetic of 50 digits, so that no library's power decides a bit of a table.
    """
    with localcontext(Context(prec=DIGITS)):
        theta, factor = Decimal(config.rope_theta), Decimal(config.factor)
        low, high = Decimal(config.low_freq_factor), Decimal(config.high_freq_factor)
        frequencies: list[float] = []
        for i in range(0, size, 2):
            w = theta ** (Decimal(-i) / size)
            slow = w / factor
            match config.rope_type:
                case "linear":
                    w = slow
                case "llama3":
                    waves = config.original_max_position_embeddings * w / (2 * PI)  # in the original context
                    share = min(max((waves - low) / (high - low), Decimal(0)), Decimal(1))
                    w = (1 - share) * slow + share * w
                case _:
                    pass
            frequencies.append(float(w))
        return tuple(frequencies)
