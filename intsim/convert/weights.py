# SPDX-License-Identifier: Apache-2.0
"""The tensors of a float model, each made when it is used, so that they are never in memory together."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reals", "Weights"]

Reals: TypeAlias = NDArray[np.float64]


class Weights(Mapping[str, Reals]):
    """Tensors by name.

    Parameters
    ----------
    names
        Those there are.
    load
        Makes the tensor of a name: reads it, or folds something into one of other ``Weights``. It is called each time.
    """

    def __init__(self, names: Iterable[str], load: Callable[[str], Reals]) -> None:
        self._names, self._load = dict.fromkeys(names), load

    def __getitem__(self, name: str) -> Reals:
        return self._load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
