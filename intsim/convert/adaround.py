# SPDX-License-Identifier: Apache-2.0
"""AdaRound: round each weight up or down so that the layer's output moves least (Nagel et al. 2020)."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from intsim.quantizers import AffineParams

__all__ = ["adaround"]

Reals = NDArray[np.float32]

ITERATIONS: Final = 1000
LEARNING_RATE: Final = 1e-2
REGULARISATION: Final = 0.01
WARM_UP: Final = 0.2  # share of the iterations before the regularisation sets in
STRETCH: Final = (1.1, -0.1)  # of the sigmoid, so that h reaches 0 and 1
BETA: Final = (20.0, 2.0)  # annealed: at first only what is nearly 0 or 1 is pulled there


def adaround(w: NDArray[np.float64], params: AffineParams, moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``w`` moved to the codes chosen for it: reals that ``quantize`` maps to those codes exactly.

    Minimises over V, by gradient descent (Adam), the mean square error of the layer's output

        tr(D G D.T) / tr(W G W.T),   D = scale (floor(w / scale) + h(V)) - w,   h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)

    plus REGULARISATION * mean(1 - |2 h(V) - 1|**beta), which drives every h to 0 or 1.

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
    Nagel et al. 2020, eq. (21) to (25); Bondarenko et al. 2021, table 7.
    """
    scale, top = params.scale, params.range.max
    low = np.floor(w / scale)
    rest = (w / scale - low).astype(np.float32)
    gram = (moment / (np.trace(moment) or 1.0)).astype(np.float32)
    spread: Reals = np.broadcast_to(scale, w.shape).astype(np.float32)
    norm = float(np.einsum("nk,nk->", (w.astype(np.float32) @ gram), w.astype(np.float32))) or 1.0
    v = _inverse(rest)
    first, second = np.zeros_like(v), np.zeros_like(v)
    warm = int(WARM_UP * ITERATIONS)
    for i in range(ITERATIONS):
        sigmoid = expit(v)  # in float32, as everything here: Python's own floats leave it so
        h = ((STRETCH[0] - STRETCH[1]) * sigmoid + STRETCH[1]).clip(0, 1)
        gradient = 2 / norm * ((spread * (h - rest)) @ gram) * spread
        if i >= warm:
            progress = (i - warm) / (ITERATIONS - warm)
            beta = BETA[1] + (BETA[0] - BETA[1]) * 0.5 * (1 + math.cos(progress * math.pi))
            centred = 2 * h - 1
            gradient -= REGULARISATION / h.size * 2 * beta * np.abs(centred) ** (beta - 1) * np.sign(centred)
        gradient *= (STRETCH[0] - STRETCH[1]) * sigmoid * (1 - sigmoid) * ((h > 0) & (h < 1))
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        step = math.sqrt(1 - 0.999 ** (i + 1)) / (1 - 0.9 ** (i + 1))
        v -= LEARNING_RATE * step * first / (np.sqrt(second) + 1e-12)
    up = expit(v) >= (0.5 - STRETCH[1]) / (STRETCH[0] - STRETCH[1])
    return (low + up).clip(-top, top) * scale


def _inverse(h: Reals) -> Reals:
    """Return V with h(V) = h, away from the ends, where the gradient vanishes."""
    sigmoid = ((h - STRETCH[1]) / (STRETCH[0] - STRETCH[1])).astype(np.float32)
    return np.log(sigmoid / (1 - sigmoid)).astype(np.float32)
