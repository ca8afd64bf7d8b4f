# SPDX-License-Identifier: Apache-2.0
"""What a decoder keeps of the tokens it has seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from intsim.carrier.exact import Integers

__all__ = ["Cache"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cache:
    """The keys and values of tokens that were read: a value, which no later call changes.

    Parameters
    ----------
    model
        The digest of the model that it belongs to.
    mask
        (B, S) bool, true where there is a token.
    codes
        Name of a key or value -> (B, S, C_kv) codes as attention reads them: keys after their rotation. For 8 bits that
        is S C_kv bytes each, 2 L S C_kv for the L layers of a sequence.
    """

    model: str
    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 0), np.bool_))
    codes: Mapping[str, Integers] = field(default_factory=dict[str, Integers])

    @property
    def columns(self) -> int:
        """How many columns of tokens, padding among them, it holds."""
        return self.mask.shape[1]

    def of(self, texts: NDArray[np.bool_]) -> "Cache":
        """Return that of some of its texts, (B,)."""
        codes = self.codes if texts.all() else {name: each[texts] for name, each in self.codes.items()}
        return replace(self, mask=self.mask[texts], codes=codes)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes."""
        return sum(codes.nbytes for codes in self.codes.values())
