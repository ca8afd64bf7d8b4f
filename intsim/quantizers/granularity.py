# SPDX-License-Identifier: Apache-2.0
"""Granularity: which elements of a tensor share one scale and zero point."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.typing import ArrayLike

from intsim.quantizers.affine import Reals, finite

__all__ = ["PER_TENSOR", "PER_TOKEN", "Granularity", "min_max", "reduce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """How a tensor is cut into parameter sets.

    Parameters
    ----------
    kind
        ``"tensor"``: one set. ``"channel"``: one for each index along ``axis``. ``"group"``: one for each run of
        consecutive indices along ``axis``, in ``groups`` runs of equal length. ``"token"``: one for each vector along
        the last axis.
    axis
        For ``"channel"`` and ``"group"``; negative counts from the end.
    groups
        For ``"group"``.

    Raises
    ------
    ValueError
        If ``axis`` or ``groups`` is missing or superfluous, or ``groups`` is not positive.

    Source
    ------
    Per group: ZeroQuant (Yao et al. 2022) on the rows of a weight, 48 groups, axis 0; per-embedding-group
    quantization (Bondarenko et al. 2021, section 4) on the last axis, 3 to 6 groups. Per token: ZeroQuant.
    """

    kind: Literal["tensor", "channel", "group", "token"]
    axis: int | None = None
    groups: int | None = None

    def __post_init__(self) -> None:
        if (self.axis is not None) != (self.kind in {"channel", "group"}):
            msg = f"axis must be given for channel and group only, got axis={self.axis} for {self.kind}"
            raise ValueError(msg)
        if (self.groups is not None) != (self.kind == "group") or (self.groups is not None and self.groups < 1):
            msg = f"groups must be positive and given for group only, got groups={self.groups} for {self.kind}"
            raise ValueError(msg)

    def rows(self, x: ArrayLike) -> Reals:
        """Return the values of ``x`` by parameter set, (sets, values in each).

        Raises
        ------
        ValueError
            If ``x`` is empty or not finite, has no such axis, or ``groups`` does not divide its length.
        """
        real = finite("x", x)
        if not real.size:
            msg = f"x must hold at least one value, got shape {real.shape}"
            raise ValueError(msg)
        if self.kind == "tensor":
            return real.reshape(1, -1)
        if self.axis is None:
            return real.reshape(-1, real.shape[-1])
        channels = np.moveaxis(real, self.axis, 0)
        groups = self.groups or len(channels)
        if len(channels) % groups:
            msg = f"groups must divide the {len(channels)} channels along axis {self.axis}, got {groups}"
            raise ValueError(msg)
        return channels.reshape(groups, -1)

    def shape(self, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the parameters' shape for a tensor: no axis before the channels', so that it fits any batch."""
        if self.kind == "tensor":
            return ()
        if self.axis is None:
            return (*x_shape[:-1], 1)
        axis = normalize_axis_index(self.axis, len(x_shape))
        return (x_shape[axis], *(1,) * (len(x_shape) - 1 - axis))


PER_TENSOR: Final = Granularity(kind="tensor")
PER_TOKEN: Final = Granularity(kind="token")


def spread(values: ArrayLike, shape: tuple[int, ...]) -> Reals:
    """Give one value for each row of ``Granularity.rows`` the shape that broadcasts, repeating those of groups."""
    per_set = np.asarray(values, np.float64)
    return np.repeat(per_set, math.prod(shape) // len(per_set)).reshape(shape)


def reduce(x: ArrayLike, granularity: Granularity, fn: Callable[[Reals], ArrayLike]) -> Reals:
    """Reduce ``x`` over each parameter set.

    Parameters
    ----------
    x
        Finite reals, not empty.
    granularity
        The parameter sets.
    fn
        From (sets, values) to (sets,), such as ``lambda rows: rows.std(axis=-1)``.

    Returns
    -------
    Reals
        One value for each set, shaped to broadcast against ``x``; along the axis of groups each is repeated.

    Raises
    ------
    ValueError
        As ``Granularity.rows``.
    """
    return spread(fn(granularity.rows(x)), granularity.shape(np.shape(x)))


def min_max(x: ArrayLike, granularity: Granularity) -> tuple[Reals, Reals]:
    """Return the lowest and highest value of each parameter set, as ``reduce`` does."""
    return (
        reduce(x, granularity, lambda rows: rows.min(axis=-1)),
        reduce(x, granularity, lambda rows: rows.max(axis=-1)),
    )
