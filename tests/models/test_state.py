# SPDX-License-Identifier: Apache-2.0
"""What a model keeps: what a run has prepared belongs to it alone, and does not go where it is copied to."""

import asyncio
import copy
import dataclasses
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextvars import copy_context
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

import intsim
from intsim._trace import Trace
from intsim.convert import quantize_each
from intsim.models.widths import widths

IDS: Final = [[2, 9, 10, 11, 3], [2, 20, 21, 22, 3]]
TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good")
RECIPES: Final = ("intsim", "ibert", "mixed", "peg", "tm-iqr", "zeroquant")
WEIGHT: Final = "encoder.layer.0.output.dense.weight"


@pytest.fixture(scope="module")
def source(tiny_bert: Callable[..., Path]) -> Path:
    return tiny_bert()


@pytest.fixture(params=RECIPES)
def model(request: pytest.FixtureRequest, source: Path) -> intsim.IntegerModel:
    return intsim.quantize(source, calibration=TEXTS, recipe=request.param)


def _changed(weight: NDArray[Any]) -> None:
    weight.setflags(write=True)
    weight[:] = weight[::-1].copy()


def test_a_model_of_changed_arrays_never_sees_what_was_prepared_of_the_old_ones(model: intsim.IntegerModel) -> None:
    before, tensors = model(IDS).digest, dict(model.tensors)
    with intsim.trace():
        model(IDS)
    _changed(tensors[WEIGHT])  # in place: the same object at the same address
    changed = dataclasses.replace(model, tensors=tensors)
    fresh = dataclasses.replace(model, tensors={name: values.copy() for name, values in tensors.items()})
    assert changed.digest == fresh.digest
    assert changed(IDS).digest == fresh(IDS).digest == fresh(IDS, carrier="integer").digest != before
    with intsim.trace() as trace:
        changed(IDS)
    with intsim.trace() as expected:
        fresh(IDS)
    assert all(np.array_equal(values, expected[name]) for name, values in trace.items())


def test_two_models_that_share_arrays_prepare_them_for_themselves(model: intsim.IntegerModel) -> None:
    other = dataclasses.replace(model)
    model(IDS)
    other(IDS)
    assert model.weight(WEIGHT) is model.weight(WEIGHT)
    assert model.weight(WEIGHT) is not other.weight(WEIGHT)
    assert model.weight(WEIGHT).codes is other.weight(WEIGHT).codes


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_copy_is_the_same_model(
    model: intsim.IntegerModel, ran: bool, way: Callable[[intsim.IntegerModel], intsim.IntegerModel]
) -> None:
    if ran:
        with intsim.trace("steps"):
            model(IDS)
        model(IDS)
    other = way(model)
    assert type(other) is intsim.IntegerModel
    assert other.digest == model.digest
    assert other(IDS).digest == model(IDS).digest
    assert not other.tensors[WEIGHT].flags.writeable


def test_a_deep_copy_has_arrays_of_its_own(model: intsim.IntegerModel) -> None:
    before, other = model(IDS).digest, copy.deepcopy(model)
    _changed(other.tensors[WEIGHT])
    assert model(IDS).digest == before


def test_results_and_traces_pickle(model: intsim.IntegerModel) -> None:
    with intsim.trace("steps") as trace:
        result = model(IDS)
    again: Any = pickle.loads(pickle.dumps((result, trace)))  # noqa: S301
    assert again[0].digest == result.digest
    assert again[0].scale == result.scale
    assert list(again[1]) == list(trace)
    assert again[1].calls.keys() == trace.calls.keys()


def test_models_go_through_a_pool_of_spawned_processes_before_and_after_they_ran(source: Path) -> None:
    models = quantize_each(source, RECIPES, calibration=TEXTS)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        fresh = [pool.submit(model, IDS).result().digest for model in models]
        here = [model(IDS).digest for model in models]
        used = [pool.submit(model, IDS).result().digest for model in models]
    assert fresh == used == here
    assert len({*here}) == len(RECIPES)


def test_a_model_that_is_traced_or_interpreted_pickles(model: intsim.IntegerModel) -> None:
    with intsim.trace("steps"):
        model(IDS)
        again: intsim.IntegerModel = pickle.loads(pickle.dumps(model))  # noqa: S301
    expected = widths(model)
    after: intsim.IntegerModel = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert again(IDS).digest == after(IDS).digest == model(IDS).digest
    assert widths(after) == expected


def test_a_thread_is_traced_where_it_runs_in_the_context_of_the_block(source: Path) -> None:
    model = intsim.quantize(source, calibration=TEXTS)
    with intsim.trace() as trace:
        own = Thread(target=model, args=(IDS,))
        own.start()
        own.join()
        untraced = len(trace)
        in_context = Thread(target=copy_context().run, args=(model, IDS))
        in_context.start()
        in_context.join()
    with intsim.trace() as expected:
        model(IDS)
    assert untraced == 0
    assert list(trace) == list(expected)
    assert all(np.array_equal(values, expected[name]) for name, values in trace.items())


def test_a_thread_of_asyncio_is_traced_and_two_traces_at_once_are_kept_apart(source: Path) -> None:
    model = intsim.quantize(source, calibration=TEXTS)
    texts = [[row] for row in IDS]

    async def traced(ids: list[list[int]]) -> Trace:
        with intsim.trace() as trace:
            await asyncio.to_thread(model, ids)
        return trace

    async def both() -> list[Trace]:
        return await asyncio.gather(*map(traced, texts))

    for ids, trace in zip(texts, asyncio.run(both()), strict=True):
        with intsim.trace() as expected:
            model(ids)
        assert list(trace) == list(expected)
        assert all(np.array_equal(values, expected[name]) for name, values in trace.items())
