# SPDX-License-Identifier: Apache-2.0
"""Schemes: from the range of some reals to the scale, zero point and codes that represent them."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from intsim.fixedpoint import IntRange
from intsim.quantizers.affine import AffineParams, finite

__all__ = ["Convention", "Scheme"]

Convention: TypeAlias = Literal["narrow", "ibert-code", "full", "power-of-two"]

MAX_BITS: Final = 32
SMALLEST_SCALE: Final = 2.0**-126  # smallest normal float32: still 24 significant bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a range [low, high] is laid on the integers of ``bits`` bits.

    Symmetric, m = max(|low|, |high|), zero point 0:

    ============== ================= =========================== ===========================================
    convention     scale             codes                       used by
    ============== ================= =========================== ===========================================
    narrow         m / (2**(b-1)-1)  ``[-(2**(b-1)-1), same]``   Q8BERT; TM-IQR eq. (2)
    ibert-code     m / (2**(b-1)-1)  ``[-127, 126]`` for b = 8   I-BERT's released code, Hugging Face's port
    full           m / (2**(b-1)-1)  ``[-2**(b-1), 2**(b-1)-1]`` I-ViT
    full, by range as full, or       ``[0, 2**b-1]`` where no    Bondarenko et al.
                   m / (2**b - 1)    range of it is negative
    power-of-two   m / 2**(b-1)      ``[-2**(b-1), 2**(b-1)-1]`` DeepSpeed ZeroQuant
    ============== ================= =========================== ===========================================

    Asymmetric, all 2**b codes, lowest code q_min, zero point q_min + clamp(RHE(-low / scale), 0, 2**b - 1):

    ============== ========================= ==============================
    convention     scale                     used by
    ============== ========================= ==============================
    full           (high - low) / (2**b - 1) Bondarenko et al.; LiteRT; ONNX
    power-of-two   (high - low) / 2**b       DeepSpeed
    ============== ========================= ==============================

    Parameters
    ----------
    bits
        Width b of the codes, 2 to 32.
    symmetric
        Zero point 0, or one fitted to the range.
    convention
        A row of the tables.
    signed
        Codes from -2**(b-1), or from 0. Symmetric codes are signed, or ``by-range`` with the convention ``full``.

    Raises
    ------
    ValueError
        If ``bits`` is out of range or the other parameters are not a row of the tables.
    """

    bits: int
    symmetric: bool
    convention: Convention
    signed: bool | Literal["by-range"] = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MAX_BITS:
            msg = f"bits must be in [2, {MAX_BITS}], got {self.bits}"
            raise ValueError(msg)
        conventions = get_args(Convention) if self.symmetric else ("full", "power-of-two")
        if self.convention not in conventions:
            msg = (
                f"convention must be one of {', '.join(conventions)} for symmetric={self.symmetric}, "
                f"got {self.convention!r}"
            )
            raise ValueError(msg)
        if self.symmetric and not self.signed:
            msg = "signed must be True for a symmetric scheme, got False; use symmetric=False for codes from 0"
            raise ValueError(msg)
        if self.signed == "by-range" and not (self.symmetric and self.convention == "full"):
            msg = (
                "signed must be True or False but for symmetric codes of convention 'full', got 'by-range' for "
                f"symmetric={self.symmetric} and {self.convention!r}"
            )
            raise ValueError(msg)

    @property
    def range(self) -> IntRange:
        """The codes, before I-BERT's code leaves out the highest; of a negative range where it decides."""
        return self._range(signed=bool(self.signed))

    @property
    def divisor(self) -> int:
        """How many scales the range is cut into; a negative one where it decides."""
        return self._divisor(signed=bool(self.signed))

    def _range(self, *, signed: bool) -> IntRange:
        return IntRange(bits=self.bits, signed=signed, narrow=self.convention in {"narrow", "ibert-code"})

    def _divisor(self, *, signed: bool) -> int:
        power = 2 ** (self.bits - (self.symmetric and signed))
        return power if self.convention == "power-of-two" else power - 1

    def params(self, low: ArrayLike, high: ArrayLike) -> AffineParams:
        """Return the parameters for the range [low, high], or for one range for each parameter set.

        The range is first widened to contain 0, so that 0 has a code of its own. The scale is the nearest float32 (half
        to even) of the float64 quotient, at least 2**-126: an integer of 24 bits times a power of two. For a symmetric
        float32 range it is the float32 that the papers' code divides out. The zero point is found with this scale.

        A parameter set that holds only 0, such as the channel of a pruned weight, takes the largest scale of the
        others: its codes are all zero whatever the scale, and a bias quantized with this scale stays as fine as its
        neighbours'. Where there is nothing but 0 the scale is 1.

        Parameters
        ----------
        low, high
            Lowest and highest real, arrays that broadcast against each other and against the tensor.

        Raises
        ------
        ValueError
            If a bound is not finite, low > high, or a scale is beyond float32.

        Error
        -----
        Any x in [low, high] is represented within scale / 2 under symmetric ``narrow`` and ``full``. The others add
        2**-24 of high - low for the rounding of the scale; and x near the end for which there is no code is within 1
        scale under ``ibert-code`` and symmetric ``power-of-two``, 3/2 under asymmetric ``power-of-two``.
        """
        low, high = finite("low", low), finite("high", high)
        if (low > high).any():
            msg = f"low must not exceed high, got low={low} and high={high}"
            raise ValueError(msg)
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        signed = bool((low < 0).any()) if self.signed == "by-range" else self.signed
        with np.errstate(over="ignore"):  # AffineParams refuses an infinite scale
            span = np.maximum(-low, high) if self.symmetric else high - low
            scale = (span / self._divisor(signed=signed)).astype(np.float32).astype(np.float64)
        scale = np.where(span == 0, scale.max() if span.any() else 1.0, scale).clip(SMALLEST_SCALE)
        codes = self._range(signed=signed)
        zero_point = np.zeros_like(scale, np.int64)
        if not self.symmetric:
            zero_point = codes.min + np.rint(-low / scale).clip(0, codes.max - codes.min).astype(np.int64)
        return AffineParams(
            scale=scale, zero_point=zero_point, range=codes, unused_top=int(self.convention == "ibert-code")
        )
