# SPDX-License-Identifier: Apache-2.0
"""GPTQ: round a weight column by column, each making up for what the others before it added to the layer's output."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from intsim.quantizers import AffineParams

__all__ = ["gptq"]

DAMPING: Final = 0.1  # of the mean of G's diagonal


def gptq(w: NDArray[np.float64], params: AffineParams, moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``w`` moved to the codes chosen for it: reals that ``quantize`` maps to those codes exactly.

    With H = G + DAMPING mean(diag G) I = L L.T, the error of the layer's output is, D being that of the weights,

        tr(D H D.T) = sum_j L_jj**2 |D_j + sum_(i > j) D_i L_ij / L_jj|**2,   D_j column j of D.

    From the last column to the first, each takes the codes that make its term smallest, of the two around each weight.
    Columns are sorted by the diagonal of G, so that the loudest input is rounded first, while all others can still
    make up for it.

    Parameters
    ----------
    w
        (N, K).
    params
        Their symmetric quantizer.
    moment
        G, (K, K): mean of x x.T over the layer's inputs.

    Returns
    -------
    ndarray
        (N, K), multiples of the scale.

    Source
    ------
    Frantar et al. 2023, with the order of its code's ``act_order``, written without the inverse of H; and, as in
    AdaRound, each weight goes up or down and no further.
    """
    scale, top = np.broadcast_to(params.scale, w.shape), params.range.max
    low, high = np.floor(w / scale).clip(-top, top), np.ceil(w / scale).clip(-top, top)
    order = np.argsort(np.diag(moment), kind="stable")
    damping = DAMPING * (np.trace(moment) / len(moment) or 1.0)
    factor = np.linalg.cholesky(moment[np.ix_(order, order)] + damping * np.eye(len(moment)))
    factor /= np.diag(factor)
    error = np.zeros((len(moment), len(w)))  # D.T, in that order
    rounded = np.empty_like(w)
    for j in reversed(range(len(order))):
        column = order[j]
        wanted = w[:, column] - factor[j + 1 :, j] @ error[j + 1 :]
        codes = np.rint(wanted / scale[:, column]).clip(low[:, column], high[:, column])
        rounded[:, column] = codes * scale[:, column]
        error[j] = rounded[:, column] - w[:, column]
    return rounded
