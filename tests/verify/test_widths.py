# SPDX-License-Identifier: Apache-2.0
"""The widths of a model: no text leaves them, and where elements move freely they are reached."""

import dataclasses
import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from edges import every_preset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import intsim
from intsim import ops
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import INT8, INT16, Dyadic, IntRange, Rounding
from intsim.models import intervals
from intsim.models.widths import Width, recorded, signed_bits, widths
from intsim.ops import LayerNormParams
from intsim.profile import IBERT, INTSIM, Exp, Softmax
from intsim.report.evaluate import read_task
from intsim.requantization import RULES
from intsim.verify.widths import observe

TinyBert = Callable[..., Path]
Ends = NDArray[Any]

TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good")
SENTENCES: Final = ("An honest, moving and quietly powerful film.", "Not bad.", "A waste\tof two hours, and of money!")
PROFILES: Final = {
    "exact": INTSIM,
    "rounded mean": IBERT,
    "rounded mean, half up": dataclasses.replace(
        INTSIM, layer_norm=dataclasses.replace(INTSIM.layer_norm, centring="rounded-mean")
    ),
    "rounded mean, floor": dataclasses.replace(IBERT, rounding=Rounding.FLOOR),
    "exact, floor": dataclasses.replace(IBERT, layer_norm=INTSIM.layer_norm),
}
FINE: Final = dataclasses.replace(INTSIM, name="fine", softmax=Softmax(one=65535))
seeds = st.integers(0, 2**32 - 1)


def _run(operator: Callable[..., Any], *operands: Any, **constants: Any) -> dict[str, Ends]:
    return recorded("", operator, *operands, **constants)


def _ends(low: Any, high: Any, dtype: str) -> Ends:
    return np.stack([np.asarray(low), np.asarray(high)]).astype(dtype)


def _box(low: Any, high: Any, dtype: str) -> Ends:
    """Return every vector between two: (n, K)."""
    return np.array(list(itertools.product(*(range(a, b + 1) for a, b in zip(low, high, strict=True))))).astype(dtype)


def _draw_box(rng: np.random.Generator, size: int, limit: int, *, widest: int = 5) -> tuple[Ends, Ends]:
    low = rng.integers(-limit, limit + 1, size)
    return low, low + rng.integers(0, widest, size)


def _assert_hull(steps: Mapping[str, Ends], values: Mapping[str, Ends]) -> None:
    """Check that the steps have the ends of what a brute force gave along its first axis."""
    assert list(steps) == list(values)
    for step, ends in steps.items():
        found = np.stack([values[step].min(axis=0), values[step].max(axis=0)])
        assert ends.dtype == found.dtype, step
        assert np.array_equal(ends.reshape(found.shape), found), step


def _assert_inside(steps: Mapping[str, Ends], values: Mapping[str, Ends]) -> None:
    assert list(steps) == list(values)
    for step, ends in steps.items():
        assert ends.dtype == values[step].dtype, step
        assert ends[0].min() <= values[step].min(), step
        assert values[step].max() <= ends[1].max(), step


def _assert_seen_inside(proved: Mapping[str, Width], seen: Mapping[str, tuple[int, int]]) -> None:
    assert list(proved) == list(seen)
    left = {name: (seen[name], width) for name, width in proved.items() if not _inside(width, *seen[name])}
    assert not left


def _inside(width: Width, low: int, high: int) -> bool:
    return width.min <= low <= high <= width.max


def _seen(trace: Mapping[str, Ends]) -> dict[str, tuple[int, int]]:
    return {name: (int(values.min()), int(values.max())) for name, values in trace.items()}


# ---- whole models


@pytest.fixture(scope="module")
def tiny(tiny_bert: TinyBert) -> Callable[..., intsim.IntegerModel]:
    """Return a function that quantizes a tiny BERT."""
    made: dict[str, intsim.IntegerModel] = {}

    def quantize(recipe: str = "intsim", **options: Any) -> intsim.IntegerModel:
        key = repr((recipe, options))
        if key not in made:
            made[key] = intsim.quantize(tiny_bert(**options), recipe=recipe, calibration=TEXTS)
        return made[key]

    return quantize


@pytest.fixture(scope="module")
def embedded() -> intsim.IntegerModel:
    return intsim.load(str(resources.files("intsim.embedded")))


@pytest.mark.parametrize("hidden_act", ["gelu", "relu"])
@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
def test_every_intermediate_has_a_width_in_forward_order_and_in_its_dtype(
    tiny: Callable[..., intsim.IntegerModel], hidden_act: str, recipe: str, labels: Any
) -> None:
    model = tiny(recipe, hidden_act=hidden_act, labels=labels)
    with intsim.trace("steps") as trace:
        model([[2, 5, 9, 3]])
    proved = widths(model)
    assert list(proved) == list(trace)
    assert {name: width.dtype for name, width in proved.items()} == {name: x.dtype for name, x in trace.items()}
    for name, width in proved.items():
        assert width.given == 8 * trace[name].itemsize
        assert width.bits <= width.given, name


def test_the_bits_given_are_those_of_the_declared_range(tiny: Callable[..., intsim.IntegerModel]) -> None:
    model = tiny()
    narrow = dataclasses.replace(model.formats["pooler"], range=IntRange(5), zero_point=0)
    proved = widths(dataclasses.replace(model, formats={**model.formats, "pooler": narrow}))
    assert proved["pooler"] == Width(min=-16, max=15, dtype=np.dtype("int8"), given=5)
    assert proved["pooler:rounded"].given == 64


def _shuffled(model: intsim.IntegerModel, seed: int) -> intsim.IntegerModel:
    """Return a model of the same formats whose weights, constants and rule are random, extreme ones included."""
    rng = np.random.default_rng(seed)
    tensors = dict(model.tensors)
    for name, values in tensors.items():
        if name.endswith(".weight"):
            bound = rng.choice([1, 4, 30, 127])
            tensors[name] = rng.integers(-bound - (bound == 127), bound + 1, values.shape).astype(np.int8)
        elif name.endswith(".bias") and values.dtype == np.int32:
            tensors[name] = (values * rng.choice([0, 1, 100])).astype(np.int32)
        elif name.endswith(".eps"):
            tensors[name] = np.array(rng.choice([1, 2, 5, 10**3, 10**8]))
        elif name.endswith(".multiplier") and ("LayerNorm" in name or "residual" in name or ".dense" in name):
            tensors[name] = np.where(rng.random(values.shape) < rng.choice([0, 0.3]), -values, values)
    profile = dataclasses.replace(model.profile, requantization=RULES[rng.choice(list(RULES))])
    return dataclasses.replace(model, tensors=tensors, profile=profile)


@settings(max_examples=40, deadline=None)
@given(
    recipe=st.sampled_from(["intsim", "ibert"]),
    hidden_act=st.sampled_from(["gelu", "relu"]),
    labels=st.sampled_from([("negative", "positive"), None]),
    seed=seeds,
)
def test_no_text_leaves_the_widths_of_a_random_model(
    tiny: Callable[..., intsim.IntegerModel], recipe: str, hidden_act: str, labels: Any, seed: int
) -> None:
    model = _shuffled(tiny(recipe, hidden_act=hidden_act, labels=labels), seed)
    rng = np.random.default_rng(seed)
    proved = widths(model)
    for tokens in (1, 2, 7, 32):
        ids = rng.integers(0, 66, (3, tokens))
        ids[1] = ids[1, 0]
        mask = rng.random((3, tokens)) < rng.choice([1, 0.5, 0])
        with intsim.trace("steps") as trace:
            model(ids, attention_mask=mask, token_type_ids=rng.integers(0, 2, (3, tokens)))
        _assert_seen_inside(proved, _seen(trace))


def test_no_text_leaves_the_widths_of_the_embedded_model(embedded: intsim.IntegerModel) -> None:
    proved = widths(embedded)
    _assert_seen_inside(proved, observe(embedded, SENTENCES))
    rng = np.random.default_rng(0)
    for tokens in (1, 40, embedded.config.longest):
        with intsim.trace("steps") as trace:
            embedded(rng.integers(0, embedded.config.vocab_size, (1, tokens)))
        _assert_seen_inside(proved, _seen(trace))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["intsim", "ibert"])
def test_no_sentence_leaves_the_widths_of_minilm(minilm: Path, shared: Path, recipe: str) -> None:
    examples = read_task("stsb", shared / "data" / "STS-B" / "sts-dev.csv")
    texts = [text for example in examples[:100] for text in example.texts]
    model = intsim.quantize(minilm, recipe=recipe, calibration=texts[:32])
    _assert_seen_inside(widths(model), observe(model, texts))


def test_what_is_observed_is_what_a_trace_holds(embedded: intsim.IntegerModel) -> None:
    expected: dict[str, tuple[int, int]] = {}
    for text in SENTENCES:
        with intsim.trace("steps") as trace:
            assert observe(embedded, [text]) == observe(embedded, [text, text])
        assert not trace
        encoding = _encoded(embedded, text)
        with intsim.trace("steps") as trace:
            embedded([encoding.ids], token_type_ids=[encoding.type_ids])
        for name, (low, high) in _seen(trace).items():
            lowest, highest = expected.get(name, (low, high))
            expected[name] = min(low, lowest), max(high, highest)
    assert observe(embedded, SENTENCES) == expected


def _encoded(model: intsim.IntegerModel, text: str) -> Any:
    from intsim.io.tokenizer import encode, parse_tokenizer  # noqa: PLC0415

    return encode(parse_tokenizer(model.tokenizer or ""), text, longest=512)


def test_observing_more_texts_takes_no_more_memory(embedded: intsim.IntegerModel) -> None:
    def peak(texts: Iterator[str]) -> int:
        tracemalloc.start()
        observe(embedded, texts)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    text = " ".join(["good"] * 60)
    observe(embedded, [text])
    few = peak(itertools.repeat(text, 2))
    with intsim.trace("steps") as trace:
        embedded([_encoded(embedded, text).ids])
    assert peak(itertools.repeat(text, 12)) < 1.1 * few
    assert few < sum(values.nbytes for values in trace.values())


def test_a_model_without_a_tokenizer_observes_no_text(tiny_bert: TinyBert) -> None:
    model = intsim.quantize(tiny_bert(), calibration=TEXTS)
    with pytest.raises(IntsimError, match="must carry a tokenizer"):
        observe(dataclasses.replace(model, tokenizer=None), TEXTS)


def test_a_model_is_proved_beside_whatever_is_traced(tiny: Callable[..., intsim.IntegerModel]) -> None:
    model = tiny()
    with intsim.trace("steps") as trace:
        dataclasses.replace(model)
        widths(model)
    assert not trace


def test_the_bits_of_a_range_are_the_fewest() -> None:
    for low, high in itertools.combinations_with_replacement(range(-20, 20), 2):
        fewest = next(bits for bits in range(1, 9) if -(1 << bits - 1) <= low and high < 1 << bits - 1)
        assert signed_bits(low, high) == fewest
    assert Width(min=0, max=255, dtype=np.dtype("uint8"), given=8).bits == 8
    assert Width(min=0, max=255, dtype=np.dtype("int16"), given=16).bits == 9


# ---- one operator, ends that are reached


@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_an_accumulator_reaches_both_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = _draw_box(rng, 3, 120)
    w = rng.integers(-128, 128, (4, 3)).astype(np.int8)
    bias = rng.integers(-(2**20), 2**20, 4).astype(np.int32)
    values = {"": ops.matmul(_box(low, high, "int8"), w, bias=bias)}
    _assert_hull(intervals.matmul(_ends(low, high, "int8")[:, None], w, bias=bias), values)


def test_the_largest_accumulator_reaches_its_ends() -> None:
    w = np.array([[127] * 300, [-128] * 300, [-128, 127] * 150], np.int8)
    (low, high) = intervals.matmul(_ends([[-128] * 300], [[127] * 300], "int8"), w, bias=np.zeros(3, np.int32))[""]
    assert low.tolist() == [[-128 * 127 * 300, -128 * 127 * 300, -128 * 127 * 300]]
    assert high.tolist() == [[127 * 127 * 300, 128 * 128 * 300, 150 * (128**2 + 127**2)]]


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_product_of_two_activations_reaches_both_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (x_low, x_high), (w_low, w_high) = (_draw_box(rng, 2, 120, widest=4) for _ in range(2))
    x, w = _box(x_low, x_high, "int8"), _box(w_low, w_high, "int8")
    values = {"": ops.matmul(x, w).reshape(-1)}
    given_ends = [_ends(*ends, "int8")[:, None, None] for ends in ((x_low, x_high), (w_low, w_high))]
    _assert_hull(intervals.matmul(*given_ends), values)


@pytest.mark.parametrize("rounding", [*Rounding, *RULES.values()], ids=lambda rule: getattr(rule, "name", rule))
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_a_requantized_accumulator_reaches_both_ends(rounding: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = _draw_box(rng, 3, int(rng.choice([10, 2**16, 2**31 - 500])), widest=400)
    shift = rng.integers(0, 45, 3)
    multiplier = rng.integers(-(2**23), 2**23, 3) >> rng.integers(0, 20, 3)
    constants = {"to": IntRange(8, narrow=True), "rounding": rounding, "zero_point": int(rng.integers(-100, 100))}
    acc = np.stack([np.linspace(a, b, 401).astype(np.int64) for a, b in zip(low, high, strict=True)], axis=-1)
    values = _run(ops.requantize, acc.astype(np.int32), Dyadic(multiplier, shift), **constants)
    ends = _ends(low, high, "int32")[:, None]
    _assert_hull(intervals.monotone(_run, ops.requantize, ends, Dyadic(multiplier, shift), **constants), values)


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_a_sum_reaches_both_ends(profile: intsim.Profile, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [_draw_box(rng, 2, 2**20, widest=4) for _ in range(3)]
    ratios = [Dyadic(rng.integers(-(2**29), 2**29, 2), [33, 33]) for _ in range(3)]
    constants = {"to": INT16, "profile": profile, "zero_point": int(rng.integers(-9, 9))}
    grids = [_box(*box, "int32") for box in boxes]
    rows = [np.array(part) for part in zip(*itertools.product(*grids), strict=True)]
    values = _run(ops.add, rows, ratios, **constants)
    ends = [_ends(*box, "int32")[:, None] for box in boxes]
    _assert_hull(intervals.add(_run, ends, ratios, **constants), values)


@pytest.mark.parametrize(
    "operator", [ops.gelu, ops.gelu_tanh, ops.sigmoid, ops.silu, ops.tanh], ids=lambda operator: operator.__name__
)
@every_preset
@settings(max_examples=25, deadline=None)
@given(low=st.integers(-(2**15), 2**15 - 1), size=st.integers(1, 2**16))
@example(low=-(2**15), size=2**16)
@example(low=-700, size=1)
@example(low=-1000, size=1024)
def test_a_function_of_one_code_reaches_both_ends(
    operator: Callable[..., Any], profile: intsim.Profile, low: int, size: int
) -> None:
    high = min(low + size, 2**15) - 1
    values = _run(operator, np.arange(low, high + 1).astype(np.int16), profile=profile)
    _assert_hull(intervals.tabulated(_run, operator, _ends([low], [high], "int16"), profile=profile), values)


def test_relu_reaches_both_ends() -> None:
    steps = intervals.monotone(_run, ops.relu, _ends([-5, 2, -3], [4, 3, -1], "int16"))
    assert steps[""].tolist() == [[0, 2, 0], [4, 3, 0]]


def test_a_table_reaches_both_ends_of_each_column() -> None:
    table = np.random.default_rng(0).integers(-128, 128, (9, 5)).astype(np.int8)
    _assert_hull(intervals.embedding(np.zeros((2, 1), np.int64), table), {"": table})


@settings(max_examples=40, deadline=None)
@given(seed=seeds, rounding=st.sampled_from(Rounding))
def test_a_gated_product_reaches_both_ends(rounding: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [_draw_box(rng, 2, 100, widest=3) for _ in range(2)]
    corners = [_box(*box, "int8") for box in boxes]
    ratio = Dyadic(int(rng.integers(-(2**31) + 1, 2**31)), int(rng.integers(30, 50)))
    constants: dict[str, Any] = {"to": INT8, "rounding": rounding}
    za, zb, z = rng.integers(-99, 99, 3).tolist()
    constants |= {"a_zero_point": za, "b_zero_point": zb, "zero_point": z}
    a, b = (np.broadcast_arrays(corners[0][:, None], corners[1])[i].reshape(-1, 2) for i in range(2))
    values = _run(ops.multiply, a, b, ratio, **constants)
    steps = intervals.multiply(_run, *(_ends(*box, "int8")[:, None] for box in boxes), ratio, **constants)
    _assert_hull(steps, values)


@pytest.mark.parametrize("pairing", ["halves", "neighbours"])
@settings(max_examples=40, deadline=None)
@given(seed=seeds, rounding=st.sampled_from(Rounding))
def test_a_turned_pair_reaches_both_ends(pairing: Any, rounding: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.choice([-(2**15), -900, -1, 0, 5, 2**15 - 1], (2, 3)), axis=0)
    turns = np.sort(rng.choice([-(2**14), -77, 0, 1, 9000, 2**14], (2, 2)), axis=0)  # of cos and sin
    every = np.array(list(itertools.product(*zip(low, high, strict=True), *zip(*turns, strict=True)))).astype(np.int16)
    constants: dict[str, Any] = {"pairing": pairing, "rounding": rounding}
    values = _run(ops.rotary, every[:, None, None, :3], every[:, None, 3:4], every[:, None, 4:], **constants)
    ends = _ends(low, high, "int16").reshape(2, 1, 1, 3)
    steps = intervals.rotary(ends, *(turns.astype(np.int16)[:, i].reshape(2, 1, 1) for i in range(2)), **constants)
    _assert_hull(steps, {step: array.reshape(len(array), 1, 1, -1) for step, array in values.items()})


# ---- one operator whose elements depend on each other


@pytest.mark.parametrize("profile", [INTSIM, IBERT, FINE], ids=lambda profile: profile.name)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_softmax_and_what_it_attends_to_stay_inside(profile: intsim.Profile, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = int(rng.integers(1, 9))
    low, high = np.sort(rng.integers(-(2 ** int(rng.integers(1, 30))), 2 ** int(rng.integers(1, 30)), 2))
    ratio = Dyadic(int(rng.integers(1, 2**31)), int(rng.integers(25, 50)))
    acc = rng.integers(low, high, (40, 1, 1, tokens), endpoint=True).astype(np.int32)
    mask = rng.random((40, 1, 1, tokens)) < rng.choice([1, 0.5])
    values = _run(ops.softmax, acc, ratio, profile=profile, mask=mask)
    ends = _ends(low, high, "int32").reshape(2, 1, 1, 1)
    steps = intervals.softmax(_run, ends, ratio, tokens=tokens, profile=profile)
    _assert_inside(steps, values)

    v_low, v_high = _draw_box(rng, 3, 100, widest=27)
    value = rng.integers(v_low[:, None], v_high[:, None], (40, 1, 3, tokens), endpoint=True).astype(np.int8)
    v_ends = _ends(v_low, v_high, "int8").reshape(2, 1, 3, 1)
    context = intervals.attend(steps[""], v_ends, tokens=tokens, profile=profile)
    acc = ops.matmul(values[""], value)
    assert (context[""][0] <= acc).all()
    assert (acc <= context[""][1]).all()


def test_the_exponentials_reach_their_ends() -> None:
    ratio = Dyadic(2**30, 30)
    steps = intervals.softmax(_run, _ends(-900, 100, "int32").reshape(2, 1, 1, 1), ratio, tokens=3, profile=INTSIM)
    acc = np.concatenate([np.tile(np.arange(-900, 101), (1, 1)), np.full((1, 1001), 100)]).astype(np.int32)
    values = _run(ops.softmax, acc, ratio, profile=INTSIM)
    for step in (":product", ":rounded", ":exp.x_q", ":exp.z", ":exp.p", ":exp.polynomial"):
        assert _seen(steps)[step] == _seen(values)[step], step
    equal = _run(ops.softmax, np.zeros((1, 3), np.int32), ratio, profile=INTSIM)
    assert steps[":sum"].max() == equal[":sum"].max()
    assert steps[":exp"].max() == equal[":exp"].max()


@pytest.mark.parametrize(
    ("profile", "kept", "tokens", "total"),
    [
        (INTSIM, 1, 1, 255),
        (INTSIM, 2, 2, 256),  # 127.5 each
        (INTSIM, 510, 510, 510),  # 0.5 each
        (INTSIM, 510, 2000, 510),
        (IBERT, 1, 1, 255),  # 256 saturates
        (IBERT, 256, 256, 256),
        (FINE, 1, 1, 65535),
        (FINE, 2, 2, 65536),
        (FINE, 131_070, 131_070, 131_070),  # 0.5 each
    ],
)
def test_the_sum_of_a_row_of_probabilities_is_reached(
    profile: intsim.Profile, kept: int, tokens: int, total: int
) -> None:
    mask = np.arange(tokens) < kept
    probs = ops.softmax(np.zeros((1, tokens), np.int32), Dyadic(1, 0), profile=profile, mask=mask)
    assert probs.sum(dtype=np.int64) == total
    ends = _ends(0, min(profile.softmax.one, profile.probability_range.max), probs.dtype.name).reshape(2, 1, 1, 1)
    value = _ends([-3, 1], [-2, 7], "int8").reshape(2, 1, 2, 1)
    context = intervals.attend(ends, value, tokens=tokens, profile=profile)
    assert context[""].tolist() == [[[[-3 * total, 0]]], [[[0, 7 * total]]]]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@settings(max_examples=80, deadline=None)
@given(seed=seeds, eps=st.sampled_from([1, 2, 3, 7, 50, 10**4, 2**40]))
def test_layer_norm_stays_inside(profile: intsim.Profile, seed: int, eps: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = _draw_box(rng, 4, int(rng.choice([0, 2, 30, 3000])), widest=4)
    _check_layer_norm(profile, rng, low, high, _box(low, high, "int16"), eps)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@settings(max_examples=80, deadline=None)
@given(seed=seeds, channels=st.integers(1, 40), eps=st.sampled_from([1, 2, 30, 10**6]))
def test_layer_norm_of_many_channels_stays_inside(profile: intsim.Profile, seed: int, channels: int, eps: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.integers(-(2**15), 2**15, (2, channels)) >> rng.integers(0, 16, channels), axis=0)
    rows = [np.where(rng.random(channels) < p, low, high) for p in rng.random(30)]
    rows += [np.where(np.arange(channels) == k, high, low) for k in range(channels)]
    rows += list(rng.integers(low, high, (30, channels), endpoint=True))
    _check_layer_norm(profile, rng, low, high, np.array(rows, np.int16), eps)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@settings(max_examples=80, deadline=None)
@given(seed=seeds, channels=st.integers(1, 40), eps=st.sampled_from([1, 2, 30, 10**6, 2**40, 2**61 - 1]))
def test_norms_of_wide_codes_stay_inside(
    norm: str, profile: intsim.Profile, seed: int, channels: int, eps: int
) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(1, 32) if rng.random() < 0.5 else rng.integers(1, 32, channels)
    low, high = np.sort(rng.integers(-(2**31), 2**31, (2, channels)) >> 32 - bits, axis=0)
    rows = [np.where(rng.random(channels) < p, low, high) for p in rng.random(30)]
    rows += [np.where(np.arange(channels) == k, high, low) for k in range(channels)]
    rows += [np.clip(0, low, high)] + [np.clip(at, low, high) for at in rng.integers(low.min(), high.max() + 1, 20)]
    rows += list(rng.integers(low, high, (30, channels), endpoint=True))
    _check_layer_norm(profile, rng, low, high, np.array(rows, np.int32), eps, norm=norm)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@settings(max_examples=80, deadline=None)
@given(seed=seeds, eps=st.sampled_from([1, 2, 3, 7, 50, 10**4, 2**40]))
def test_rms_norm_of_narrow_codes_stays_inside(profile: intsim.Profile, seed: int, eps: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = _draw_box(rng, 4, int(rng.choice([0, 2, 30, 3000])), widest=4)
    _check_layer_norm(profile, rng, low, high, _box(low, high, "int16"), eps, norm="rms_norm")


@pytest.mark.parametrize("channels", [8, 128, 768])
def test_the_ends_of_an_rms_norm_are_reached(channels: int) -> None:
    ends = _ends(np.full(channels, 1 - 2**31), np.full(channels, 2**31 - 1), "int32")[:, None]
    params = _params(channels)
    rows = [
        np.zeros(channels),
        np.full(channels, 2**31 - 1),
        np.full(channels, 1 - 2**31),
        [2**15 - 1] + [0] * (channels - 1),
    ]
    values = _run(ops.rms_norm, np.array(rows).astype(np.int32), params, to=INT8, profile=INTSIM)
    steps = intervals.rms_norm(_run, ends, params, to=INT8, profile=INTSIM)
    for step in (":shift", ":shifted", ":variance", ":std"):
        assert steps[step].max() == values[step].max()
        assert steps[step].min() == values[step].min()
    assert 0.57 * steps[":normalised"].max() < values[":normalised"].max() <= steps[":normalised"].max()


def _check_layer_norm(
    profile: intsim.Profile,
    rng: np.random.Generator,
    low: Ends,
    high: Ends,
    rows: Ends,
    eps: int,
    *,
    norm: str = "layer_norm",
) -> None:
    channels = len(low)
    weight = Dyadic(rng.integers(-(2**28), 2**28, channels), np.full(channels, 40))
    params = LayerNormParams(weight=weight, bias=rng.integers(-(2**45), 2**45, channels), eps=eps)
    constants = {"to": INT8, "profile": profile}
    steps = getattr(intervals, norm)(_run, _ends(low, high, str(rows.dtype))[:, None], params, **constants)
    values = _run(getattr(ops, norm), rows, params, **constants)
    assert list(steps) == list(values)
    for step, ends in steps.items():
        assert ends.dtype == values[step].dtype, step
        assert (ends[0] <= values[step]).all(), step
        assert (values[step] <= ends[1]).all(), step
    if ":centred" in steps and len(rows) == np.prod(high - low + 1):
        _assert_hull({":centred": steps[":centred"]}, {":centred": values[":centred"]})


@pytest.mark.parametrize("channels", [2, 4, 128, 768])
def test_the_variance_of_two_values_half_and_half_reaches_its_end(channels: int) -> None:
    ends = _ends(np.full(channels, -(2**15)), np.full(channels, 2**15 - 1), "int16")[:, None]
    params = _params(channels)
    steps = intervals.layer_norm(_run, ends, params, to=INT8, profile=INTSIM)
    row = np.where(np.arange(channels) % 2, -(2**15), 2**15 - 1).astype(np.int16)[None]
    values = _run(ops.layer_norm, row, params, to=INT8, profile=INTSIM)
    for step in (":variance", ":std"):
        assert steps[step].max() == values[step].max()
    constant = _run(ops.layer_norm, np.full((1, channels), 5, np.int16), params, to=INT8, profile=INTSIM)
    assert steps[":variance"].min() == constant[":variance"].min()


def test_the_variance_about_a_rounded_mean_reaches_its_end() -> None:
    """(1 + 1 + 1) / 3 about 3, where 8 / 3 is the mean and (2, 2, 4) varies by 8 / 9."""
    ends, params = _ends([[2, 2, 1]], [[2, 3, 4]], "int16"), _params(3)
    steps = intervals.layer_norm(_run, ends, params, to=INT8, profile=IBERT)
    values = _run(ops.layer_norm, np.array([[2, 2, 4]], np.int16), params, to=INT8, profile=IBERT)
    assert steps[":variance"].max() == values[":variance"].max() == 2


@pytest.mark.parametrize("channels", [8, 128, 384, 768])
def test_a_row_with_one_value_apart_comes_close_to_the_bound_of_the_normalised(channels: int) -> None:
    ends = _ends(np.full(channels, -(2**15)), np.full(channels, 2**15 - 1), "int16")[:, None]
    params = _params(channels)
    steps = intervals.layer_norm(_run, ends, params, to=INT8, profile=INTSIM)
    rows = (np.arange(channels) == 0).astype(np.int16)[None] * np.arange(1, 60, dtype=np.int16)[:, None]
    values = _run(ops.layer_norm, rows, params, to=INT8, profile=INTSIM)
    assert 0.8 * steps[":normalised"].max() < values[":normalised"].max() <= steps[":normalised"].max()


def test_a_rounded_mean_can_leave_all_the_variance_to_one_element() -> None:
    """7 and sixteen 0: floor(49 / 17) + 1 = 3, whose root is 1, where the bound is sqrt(3 * 17)."""
    x = (np.arange(17) == 0).astype(np.int16)[None] * np.int16(7)
    values = _run(ops.layer_norm, x, _params(17), to=INT8, profile=IBERT)
    steps = intervals.layer_norm(_run, np.stack([x * 0, x]), _params(17), to=INT8, profile=IBERT)
    assert values[":normalised"].max() == 7 << 16
    assert 7 << 16 <= steps[":normalised"].max() <= math.isqrt(51 << 32) + 1


def _params(channels: int) -> LayerNormParams:
    weight = Dyadic(np.full(channels, 2**20), np.full(channels, 40))
    return LayerNormParams(weight=weight, bias=np.zeros(channels, np.int64), eps=1)


# ---- what is refused


def test_an_int32_accumulator_that_could_overflow_is_refused() -> None:
    x, w = _ends([[-128]], [[127]], "int8"), np.full((1, 1), 127, np.int8)
    intervals.matmul(x, w, bias=np.array([2**31 - 1 - 128 * 127], np.int32))
    with pytest.raises(ValueError, match="int32 accumulator, got a bound of 2147483648"):
        intervals.matmul(x, w, bias=np.array([2**31 - 128 * 127], np.int32))


def test_an_int32_accumulator_of_two_activations_that_could_overflow_is_refused() -> None:
    """2**15 (2**15 + 2**15 - 1 + 1) takes the lower end of one element and the upper one of the others."""
    x = _ends([-(2**15), 0, 0], [0, 2**15 - 1, 1], "int16").reshape(2, 1, 1, 3)
    intervals.matmul(x[..., :2], x[..., :2])
    with pytest.raises(ValueError, match="int32 accumulator"):
        intervals.matmul(x, x)


def test_a_sum_that_could_leave_int64_is_refused() -> None:
    """|x| |m| is below 2**61 thrice, and its half 2**61: at most four of them fit."""
    x = _ends([[0]], [[2**31 - 1]], "int32")
    ratio = Dyadic(2**30, 62)
    intervals.add(_run, [x] * 3, [ratio] * 3, to=INT16, profile=INTSIM)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        intervals.add(_run, [x] * 4, [ratio] * 4, to=INT16, profile=INTSIM)


def test_a_difference_of_scores_that_could_leave_int64_is_refused() -> None:
    scores = _ends(-(2**31) + 1, 2**31 - 1, "int32").reshape(2, 1, 1, 1)
    intervals.softmax(_run, scores, Dyadic(2**31 - 1, 30), tokens=1, profile=INTSIM)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        intervals.softmax(_run, scores, Dyadic(2**31 - 1, 40), tokens=1, profile=INTSIM)


def test_a_layer_norm_that_could_leave_int64_is_refused() -> None:
    """2**16 sqrt(1 + 1 / eps) times 2**31 and the half: what is left of int64 is the bias's."""
    x = _ends([[-5, -5]], [[5, 5]], "int16")

    def steps(bias: int) -> dict[str, Ends]:
        params = LayerNormParams(weight=Dyadic([2**31 - 1] * 2, [62] * 2), bias=np.array([bias] * 2), eps=1)
        return intervals.layer_norm(_run, x, params, to=INT8, profile=INTSIM)

    limit = int(steps(0)[":normalised"].max())
    largest = 2**63 - 1 - 2**61 - limit * (2**31 - 1)
    steps(largest)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*63"):
        steps(largest + 1)


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_a_layer_norm_of_codes_that_do_not_fit_int32_is_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match="must have codes that fit int32"):
        intervals.layer_norm(_run, _ends([[0, 0]], [[1, 1]], dtype), _params(2), to=INT8, profile=INTSIM)


def test_a_layer_norm_of_too_many_channels_is_refused() -> None:
    channels = 2**14 + 1
    ends = _ends(np.zeros((1, channels)), np.ones((1, channels)), "int8")
    with pytest.raises(ValueError, match="at most 16384 channels"):
        intervals.layer_norm(_run, ends, _params(channels), to=INT8, profile=INTSIM)


def test_a_profile_with_negative_exponentials_is_refused(tiny: Callable[..., intsim.IntegerModel]) -> None:
    exp = Exp(input_fraction=11, guard_bits=3, a="0.3509", b="1.3691", c="-0.3405", output_shift=14)
    with pytest.raises(
        CheckpointError, match=r"probs' must stay within the bounds of softmax, got: exp must not be neg"
    ):
        dataclasses.replace(tiny(), profile=dataclasses.replace(INTSIM, exp=exp))
