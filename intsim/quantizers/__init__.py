# SPDX-License-Identifier: Apache-2.0
"""The compile-time border between reals and integers: which range, which scale, which code.

A granularity cuts a tensor into parameter sets, an estimator finds each set's range, a scheme turns ranges into affine
parameters, and ``quantize`` turns reals into codes::

    estimator.update(batch) …  ->  estimator.range()  ->  scheme.params(low, high)  ->  quantize(x, params)
"""

from intsim.quantizers.affine import AffineParams, dequantize, quantize
from intsim.quantizers.estimators import (
    MeanSquaredError,
    MinMax,
    Percentile,
    RangeEstimator,
    RunningMinMax,
)
from intsim.quantizers.granularity import PER_TENSOR, PER_TOKEN, Granularity, min_max, reduce
from intsim.quantizers.scheme import Convention, Scheme

__all__ = [
    "PER_TENSOR",
    "PER_TOKEN",
    "AffineParams",
    "Convention",
    "Granularity",
    "MeanSquaredError",
    "MinMax",
    "Percentile",
    "RangeEstimator",
    "RunningMinMax",
    "Scheme",
    "dequantize",
    "min_max",
    "quantize",
    "reduce",
]
