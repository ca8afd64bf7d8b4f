# SPDX-License-Identifier: Apache-2.0
"""Files of vectors as the tests make them and take them apart."""

from functools import cache
from itertools import product
from typing import Final

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from intsim.cli.vectors import vectors
from intsim.errors import IntsimError
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE
from intsim.verify.vectors import OPERATORS, Field, bind, generate, minimum
from intsim.verify.vectors.cases import UNARY

# Presets and their operators; those that intsim-wide shares with intsim once.
every_binding = pytest.mark.parametrize(
    ("profile", "name"),
    [*product((INTSIM, IBERT), OPERATORS), *((INTSIM_WIDE, name) for name in UNARY)],
    ids=lambda value: getattr(value, "name", value),
)
AT_ONCE: Final = ("requantize", "softmax", "layer_norm", "matmul", "gelu", "isqrt", "rotary", "quantize")
every_operator = pytest.mark.parametrize(
    "name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in OPERATORS]
)
SIZES: Final = {
    "softmax": ["1", "2", "7", "33"],
    "layer_norm": ["1", "2", "5", "48"],
    "rms_norm": ["1", "2", "5", "48"],
    "l2_normalize": ["1", "2", "48"],
    "rotary": ["2x1", "7x3", "16x8"],
    "matmul": ["1x1x1", "3x2x5"],
    "linear": ["1x1x1", "3x2x5"],
    "linear_add_norm": ["1x1x1", "3x5x2"],
}


def call(*arguments, data=b""):
    """Run ``intsim vectors`` as its main does: exit status, bytes of stdout, text of stderr."""
    result = CliRunner().invoke(vectors, [str(argument) for argument in arguments], input=data)
    if isinstance(result.exception, IntsimError):
        return 3, result.stdout_bytes, f"intsim: {result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout_bytes, result.stderr


def generated(*arguments):
    status, out, err = call("gen", *arguments)
    assert status == 0, err
    return out


text_of = cache(generated)  # where the text is what something else is held against


def split(text):
    """Return the header lines and the case lines of a file of vectors."""
    lines = text.splitlines(keepends=True)
    header = [line for line in lines if line.startswith(b"#")]
    assert lines[: len(header)] == header
    return header, lines[len(header) :]


@cache
def cases_of(name, profile, size=None, level=1):
    """Return an operator and its cases of seed 1."""
    operator = bind(name, profile, size)
    cases = np.concatenate(list(generate(operator, seed=1, level=level, cases=minimum(operator, level))))
    cases.flags.writeable = False
    return operator, cases


def sample(name, profile, *, size=None, level=1, every=1):
    """Return an operator and an even sample of its cases, the random ones included."""
    operator, cases = cases_of(name, profile, size, level)
    return operator, cases[::every]


fields = st.builds(
    Field,
    name=st.sampled_from(["a", "b"]),
    bits=st.sampled_from([1, 6, 8, 16, 31, 32, 61, 62, 64]),
    count=st.integers(1, 5),
).map(lambda field: Field(name=field.name, bits=field.bits, signed=field.bits % 4 == 0, count=field.count))


def bounds(field):
    return (-(2 ** (field.bits - 1)), 2 ** (field.bits - 1) - 1) if field.signed else (0, 2**field.bits - 1)
