# SPDX-License-Identifier: Apache-2.0
"""Arguments of the wrong kind from Python: a sentence, or what is obviously meant."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import intsim

IDS: Final = [[2, 187, 1194, 16, 994, 3]]
TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good")


@pytest.fixture(scope="module")
def model() -> intsim.IntegerModel:
    return intsim.load(str(resources.files("intsim.embedded")))


@pytest.mark.parametrize("calibration", ["texts.txt", b"texts.txt"])
def test_one_text_for_calibration_is_refused(tiny_bert: Callable[..., Path], calibration: Any) -> None:
    with pytest.raises(intsim.IntsimError, match=r"must be a list of texts, got one text, b?'texts\.txt'; "):
        intsim.quantize(tiny_bert(), calibration=calibration)


def test_calibration_with_something_else_in_it_is_refused(tiny_bert: Callable[..., Path]) -> None:
    with pytest.raises(intsim.IntsimError, match="calibration must be a list of texts, got 5 in it"):
        intsim.quantize(tiny_bert(), calibration=["a", 5])  # type: ignore[list-item]


def test_a_generator_of_texts_calibrates(tiny_bert: Callable[..., Path]) -> None:
    source = tiny_bert()
    model = intsim.quantize(source, calibration=(text for text in TEXTS))
    assert model.digest == intsim.quantize(source, calibration=TEXTS).digest


@pytest.mark.parametrize("level", ["nope", None, 1, ["steps"]])
def test_a_trace_of_no_level_is_refused(level: Any) -> None:
    with pytest.raises(ValueError, match="level must be one of tensors, steps, got "), intsim.trace(level):
        pass


@pytest.mark.parametrize("carrier", ["nope", None, 1, "INTEGER"])
def test_no_carrier_is_refused(model: intsim.IntegerModel, carrier: Any) -> None:
    with pytest.raises(intsim.IntsimError, match="carrier must be one of auto, integer, got "):
        model(IDS, carrier=carrier)


@pytest.mark.parametrize("dtype", ["uint64", "uint8", "int16", ">i4", "uint32"])
def test_ids_of_every_integer_dtype_are_ids(model: intsim.IntegerModel, dtype: str) -> None:
    ids = np.minimum(IDS, 255)
    types, mask = np.zeros_like(ids), np.ones_like(ids)
    given: dict[str, Any] = {"token_type_ids": types.astype(dtype), "attention_mask": mask.astype(dtype)}
    assert model(ids.astype(dtype), **given).digest == model(ids).digest
    with intsim.trace("steps") as trace:
        model(ids.astype(dtype), **given)
    with intsim.trace("steps") as expected:
        model(ids)
    assert {name: str(x.dtype) for name, x in trace.items()} == {name: str(x.dtype) for name, x in expected.items()}


def test_a_uint64_id_that_no_int64_holds_is_refused(model: intsim.IntegerModel) -> None:
    with pytest.raises(intsim.IntsimError, match=r"input_ids must be in \[0, "):
        model(np.array([[2**64 - 1]], np.uint64))


def test_generators_of_ids_are_ids(model: intsim.IntegerModel) -> None:
    assert model(iter(IDS)).digest == model(IDS).digest  # type: ignore[arg-type]
    assert model((i for i in IDS[0]), attention_mask=(1 for _ in IDS[0])).digest == model(IDS).digest  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", ["2 3", {2, 3}, {2: 3}, None, [["2"]], [[2.0]], object(), [[True]]])
def test_what_is_no_array_of_integers_is_refused(model: intsim.IntegerModel, ids: Any) -> None:
    with pytest.raises(intsim.IntsimError, match="input_ids must be integers of shape"):
        model(ids)
