# SPDX-License-Identifier: Apache-2.0
"""Run PyTorch's quantized operators on the CPU, the engine set for each call, one thread."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from intsim.float32 import Float32
from intsim.requantization import RULES
from intsim.verify.witness import Witness

Array = NDArray[Any]
QTYPES: Final = {"uint8": torch.quint8, "int8": torch.qint8, "int32": torch.qint32}


@contextmanager
def engine(name: str) -> Iterator[None]:
    before = torch.backends.quantized.engine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.backends.quantized.engine = name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the quantized dtypes are deprecated
            yield
    finally:
        torch.backends.quantized.engine = before
        torch.set_num_threads(threads)


def tensor(codes: Array, scale: Any, zero: Any) -> torch.Tensor:
    return torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), float(scale), int(zero))


def integers(x: Any) -> Array:
    return np.asarray(x).astype(np.int64)


def real(x: Float32) -> Array:
    return np.ldexp(x.significand.astype(np.float64), x.exponent)


def row(operator: str, kernel: str, rule: str, operands: Any, device: Any, function: Any, **options: Any) -> Witness:
    known = rule in RULES or rule.startswith("ops.")
    return Witness(
        operator=operator,
        kernel=kernel,
        package="torch",
        rule=rule if known else f"kernels.torch.{rule}",
        operands=operands,
        device=device,
        golden=function,
        **options,
    )
