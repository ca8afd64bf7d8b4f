# SPDX-License-Identifier: Apache-2.0
"""The rules of other projects in a profile: each is its kernel, and the whole integer BERT runs with them."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import intsim
from intsim import ops
from intsim.convert import default_calibration
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, Dyadic
from intsim.io.onnx import export
from intsim.io.safetensors_file import read
from intsim.io.tokenizer import encode, pad, parse_tokenizer
from intsim.io.trace_file import write_trace
from intsim.kernels import ibert, ita, ivit
from intsim.kernels.litert_nonlinear import softmax
from intsim.kernels.rules import (
    CodeGelu,
    CodeLayerNorm,
    CodeSoftmax,
    GeluTable,
    Ita2024Softmax,
    ItaGelu,
    ItaSoftmax,
    LitertSoftmax,
    ShiftGelu,
    Shiftmax,
    VitLayerNorm,
)
from intsim.models import intervals
from intsim.models.widths import recorded, widths
from intsim.ops import LayerNormParams
from intsim.profile import IBERT, INTSIM, LN2, NATIVE, PROFILES, Gelu, Profile, native
from intsim.requantization import RULES
from intsim.verify.diagnose import diagnose

TinyBert = Callable[..., Path]
Array = NDArray[Any]

FLOAT: Final = Path(__file__).parents[1] / "data" / "embedded-float"
FIXED_POINT: Final = dataclasses.replace(
    IBERT,
    name="fixed-point",
    softmax=LitertSoftmax(input_fraction=4),
    gelu=GeluTable(input_fraction=10, output_fraction=20),
)
BORROWED: Final = [*(profile for name, profile in PROFILES.items() if name not in NATIVE), FIXED_POINT]
TEXTS: Final = ("a good movie .", "the plot is bad ,", "is the movie good\tthe movie is bad")
SELF: Final = "encoder.layer.1.attention.self"
SMALL: Final = Fraction(1, 256)
CODES16: Final = np.arange(-(2**15), 2**15).astype(np.int16)
CODES8: Final = np.arange(-128, 128).astype(np.int8)
every_profile = pytest.mark.parametrize("profile", BORROWED, ids=lambda profile: profile.name)


def with_rule(**rules: Any) -> Profile:
    return dataclasses.replace(IBERT, name="other", **rules)


# ---- an operator is its kernel


def code_ratio(scale: Fraction) -> Dyadic:
    """Return 32767 over the largest exponential, to 31 bits."""
    return Dyadic.from_real(float(Fraction(32767, ibert.exp_constants(scale)[2])))


def litert_rows(x: Array, mask: Array) -> Array:
    """Return the kernel on what the mask leaves of every row, 0 elsewhere."""
    probs = np.zeros(x.shape, np.int64)
    for row, keep, out in zip(x, mask, probs, strict=True):
        if keep.any():
            out[keep] = softmax(row[None, keep], scale=Fraction(1, 16), to=INT8)[0].astype(np.int64) + 128
    return probs


SOFTMAXES: Final[Mapping[Any, Callable[..., Array]]] = {
    CodeSoftmax(input_fraction=8): lambda x, mask: ibert.softmax(x, scale=SMALL, ratio=code_ratio(SMALL), mask=mask),
    Shiftmax(input_fraction=4, bits=15): lambda x, mask: ivit.shiftmax(x, scale=Fraction(1, 16), bits=15, mask=mask),
    ItaSoftmax(streaming=True): lambda x, mask: ita.streaming_softmax(x.astype(np.int8), shift=5, mask=mask),
    ItaSoftmax(streaming=False): lambda x, mask: ita.softmax(x.astype(np.int8), shift=5, mask=mask),
    Ita2024Softmax(streaming=True): lambda x, mask: ita.streaming_softmax(x.astype(np.int8), shift=0, mask=mask),
    Ita2024Softmax(streaming=False): lambda x, mask: ita.softmax(x.astype(np.int8), shift=0, mask=mask),
    LitertSoftmax(input_fraction=4): lambda x, mask: litert_rows(x.astype(np.int8), mask),
}


def rule_id(value):
    return str(value) if hasattr(value, "rule") else "kernel"


@pytest.mark.parametrize(("rule", "kernel"), SOFTMAXES.items(), ids=rule_id)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.sampled_from([1, 2, 15, 16, 17, 40]))
def test_softmax_is_the_kernel_on_rescaled_scores(
    rule: Any, kernel: Callable[..., Array], seed: int, tokens: int
) -> None:
    rng = np.random.default_rng(seed)
    acc = rng.integers(-(2**20), 2**20, (5, tokens)).astype(np.int32)
    mask = rng.random((5, tokens)) < rng.choice([0, 0.5, 1])
    ratio, profile = Dyadic(int(rng.integers(1, 2**20)), 30), with_rule(softmax=rule, requantization=RULES["pulp-nn"])
    x_q = ops.requantize(acc, ratio, to=rule.input_range, rounding=profile.requantization)
    probs = ops.softmax(acc, ratio, profile=profile, mask=mask)
    assert probs.dtype == np.uint8
    assert np.array_equal(probs, kernel(x_q.astype(np.int64), mask).clip(0, 255))
    assert not probs[~mask].any()
    assert probs.sum(axis=-1).max() <= rule.row_sum(tokens)


def test_ita_s_codes_are_a_32nd_of_a_halving_and_since_2024_a_whole_one() -> None:
    assert ItaSoftmax(streaming=True).input_scale * 32 == LN2
    assert Ita2024Softmax(streaming=True).input_scale == LN2


@pytest.mark.parametrize("rule", SOFTMAXES, ids=str)
def test_one_score_far_above_the_rest_takes_nearly_all(rule: Any) -> None:
    acc = np.array([[-(2**20), 2**20, -(2**20), -(2**20)]], np.int32)
    probs = ops.softmax(acc, Dyadic(1, 0), profile=with_rule(softmax=rule))
    assert probs[0, 1] >= 0.98 * rule.one
    assert not probs[0, [0, 2, 3]].any()


def test_a_clamped_sum_of_shiftmax_normalises_nothing_and_reaches_its_bound() -> None:
    rule = Shiftmax(input_fraction=14, bits=17)
    probs = ops.softmax(np.zeros((1, 300), np.int32), Dyadic(1, 0), profile=with_rule(softmax=rule))
    assert probs.sum(dtype=np.int64) == rule.row_sum(300) == context_bound(rule, 300) == 300 * 128


def test_a_streamed_sum_of_ita_passes_one() -> None:
    """A maximum that rises by half a halving at a time halves the sum each time, and its terms half as often."""
    rise, mask = np.repeat(np.arange(-128, 127, 16), 16).astype(np.int32)[None], np.arange(256) % 16 == 0
    sums: dict[bool, int] = {}
    for streaming in (True, False):
        profile = with_rule(softmax=ItaSoftmax(streaming=streaming))
        sums[streaming] = int(ops.softmax(rise, Dyadic(1, 0), profile=profile, mask=mask).sum(dtype=np.int64))
    assert sums[False] <= 255 < sums[True]
    assert context_bound(ItaSoftmax(streaming=True), 256) >= sums[True]
    assert context_bound(ItaSoftmax(streaming=False), 256) == 255


def context_bound(rule: Any, tokens: int) -> int:
    """Return the proved maximum of probabilities times values of 1."""
    probs = np.array([0, min(rule.one, 255)], np.uint8).reshape(2, 1, 1, 1)
    values = np.ones((2, 1, 1, 1), np.int8)
    return int(intervals.attend(probs, values, tokens=tokens, profile=with_rule(softmax=rule))[""].max())


def gelu_like(rule: Any, x: Array) -> Array:
    real = x * 2.0**-rule.input_fraction
    return real * np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in real])


@pytest.mark.parametrize("fraction", [0, 5, 10, 12])
def test_gelu_of_i_bert_s_code_is_the_kernel_on_every_int16(fraction: int) -> None:
    rule = CodeGelu(input_fraction=fraction)
    y = ops.gelu(CODES16, profile=with_rule(gelu=rule))
    kernel = ibert.gelu(CODES16.astype(np.int64), scale=Fraction(1, 1 << fraction))
    assert y.dtype == np.int32
    assert np.array_equal(y, kernel)  # not saturated
    if fraction == 10:
        near = np.abs(CODES16.astype(np.int64)) <= 8 << fraction
        assert np.abs(y * float(rule.output_scale) - gelu_like(rule, CODES16))[near].max() < 0.03


@pytest.mark.parametrize("fraction", range(7))
def test_gelu_of_ita_is_the_kernel_on_every_int8(fraction: int) -> None:
    rule = ItaGelu(input_fraction=fraction)
    y = ops.gelu(CODES8, profile=with_rule(gelu=rule))
    assert np.array_equal(y, ita.gelu(CODES8, scale=Fraction(1, 1 << fraction)))
    if fraction >= 4:
        assert np.abs(y * float(rule.output_scale) - gelu_like(rule, CODES8)).max() < 0.02


@given(
    fraction=st.integers(0, 8),
    bits=st.integers(1, 31),
    rows=st.integers(1, 3).flatmap(
        lambda n: st.lists(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=n, max_size=n), min_size=1, max_size=4)
    ),
)
def test_shiftgelu_is_the_kernel_and_between_0_and_its_one(fraction: int, bits: int, rows: list[list[int]]) -> None:
    rule = ShiftGelu(input_fraction=fraction, bits=min(bits, 31 - fraction))
    x = np.array(rows, np.int16)
    y = ops.gelu(x, profile=with_rule(gelu=rule))
    wide = x.astype(np.int64)
    assert np.array_equal(y, ivit.shiftgelu(wide, scale=Fraction(1, 1 << fraction), bits=rule.bits))
    assert ((np.minimum(wide, 0) * rule.one <= y) & (y <= np.maximum(wide, 0) * rule.one)).all()


def test_shiftgelu_is_nearly_gelu() -> None:
    rule = ShiftGelu(input_fraction=3, bits=23)
    x = np.arange(-24, 25).astype(np.int16)
    y = ops.gelu(x[None], profile=with_rule(gelu=rule))[0] * float(rule.output_scale)
    assert np.abs(y - gelu_like(rule, x)).max() < 0.1


@every_profile
@given(seed=st.integers(0, 2**32 - 1))
def test_gelu_stays_between_its_ends(profile: Profile, seed: int) -> None:
    rng, to = np.random.default_rng(seed), profile.gelu.input_range
    low, high = np.sort(rng.integers(to.min, to.max + 1, (2, 6)) >> rng.integers(0, to.bits, 6), axis=0)
    ends = intervals.tabulated(
        recorded_here, ops.gelu, np.stack([low, high])[:, None].astype(to.dtype), profile=profile
    )
    x = np.concatenate([[low, high], rng.integers(low, high, (20, 6), endpoint=True)]).astype(to.dtype)
    y = ops.gelu(x, profile=profile)
    assert (ends[""][0] <= y).all()
    assert (y <= ends[""][1]).all()
    assert ends[""].dtype == y.dtype


def recorded_here(operator: Callable[..., Array], *operands: Any, **constants: Any) -> dict[str, Array]:
    return recorded("", operator, *operands, **constants)


@every_profile
def test_gelu_reads_the_dtype_of_its_rule_only(profile: Profile) -> None:
    other = CODES8 if profile.gelu.input_range == INT16 else CODES16
    with pytest.raises(TypeError, match="x_q must have dtype int"):
        ops.gelu(other, profile=profile)


NORMS: Final[Mapping[Any, Callable[[Array], Array]]] = {
    CodeLayerNorm(shift=0): lambda x: ibert.layer_norm(x, bias=np.zeros(1, np.int64), shift=0),
    CodeLayerNorm(shift=5): lambda x: ibert.layer_norm(x, bias=np.zeros(1, np.int64), shift=5),
    VitLayerNorm(): lambda x: ivit.layer_norm(x, bias=np.zeros(1, np.int64)),
}


@pytest.mark.parametrize(("rule", "kernel"), NORMS.items(), ids=rule_id)
@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([2, 5, 48]), size=st.sampled_from([100, 3000, 32767]))
def test_layer_norm_is_the_kernel_then_one_rounding(
    rule: Any, kernel: Callable[[Array], Array], seed: int, channels: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-size, size + 1, (4, channels)).astype(np.int16)
    x[:, :2] = [-size, size]
    multiplier, bias = rng.integers(-(2**20), 2**20, channels), rng.integers(-(2**40), 2**40, channels)
    params = LayerNormParams(weight=Dyadic(multiplier, np.full(channels, 44)), bias=bias, eps=1)
    steps = recorded("", ops.layer_norm, x, params, to=INT16, profile=with_rule(layer_norm=rule))
    y = kernel(x.astype(np.int64))
    assert np.array_equal(steps[":normalised"], y.clip(INT32.min, INT32.max))
    exact = [
        [round(Fraction(int(v) * int(m) + int(b), 1 << 44)) for v, m, b in zip(row, multiplier, bias, strict=True)]
        for row in y
    ]
    assert steps[""].tolist() == np.clip(exact, -(2**15), 2**15 - 1).tolist()
    real = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    if size > 100:
        unit = math.sqrt(rule.squared_unit(channels))
        assert np.abs(y * unit - real).max() < 0.05


def test_a_rule_of_another_operator_is_refused() -> None:
    with pytest.raises(TypeError, match="softmax must be"):
        with_rule(softmax=ItaGelu(input_fraction=5))


@pytest.mark.parametrize(("fraction", "output"), [(0, 0), (3, 10), (10, 14), (10, 25), (11, 26)])
def test_every_entry_of_the_table_is_the_nearest_code(fraction: int, output: int) -> None:
    profile = with_rule(gelu=GeluTable(input_fraction=fraction, output_fraction=output))
    exact = [x / 2**fraction * math.erfc(-x / 2**fraction / math.sqrt(2)) / 2 * 2**output for x in CODES16.tolist()]
    assert np.abs(ops.gelu(CODES16, profile=profile) - np.array(exact)).max() <= 0.5


def test_rows_beyond_the_sum_of_litert_are_refused() -> None:
    def softmax(tokens: int) -> Array:
        return ops.softmax(np.zeros((1, tokens), np.int32), Dyadic(1, 0), profile=FIXED_POINT)

    assert set(softmax(511).flat) == {1}
    with pytest.raises(IntsimError, match=r"^exponentials of a row must sum to less than 512 for 8-bit .*, got 512$"):
        softmax(512)


# ---- the whole model


@pytest.fixture(scope="module")
def tiny(tiny_bert: TinyBert) -> Callable[..., intsim.IntegerModel]:
    """Return a function that quantizes a tiny BERT."""
    made: dict[str, intsim.IntegerModel] = {}

    def quantize(profile: Profile, **options: Any) -> intsim.IntegerModel:
        key = repr((profile, options))
        if key not in made:
            made[key] = intsim.quantize(tiny_bert(**options), recipe="ibert", calibration=TEXTS, profile=profile)
        return made[key]

    return quantize


@every_profile
@pytest.mark.parametrize("hidden_act", ["gelu", "relu"])
def test_neither_the_batch_nor_padding_nor_the_carrier_changes_a_bit(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile, hidden_act: str
) -> None:
    model = tiny(profile, hidden_act=hidden_act)
    ids = np.random.default_rng(0).integers(0, 66, (4, 24))
    lengths = np.array([24, 1, 17, 5])
    mask = np.arange(24) < lengths[:, None]
    together = model(ids, attention_mask=mask)
    alone = [model(row[None, :tokens]).values[0] for row, tokens in zip(ids, lengths, strict=True)]
    assert np.array_equal(together.values, alone)
    assert np.array_equal(together.values, model(ids, attention_mask=mask, carrier="integer").values)
    with intsim.trace("steps"):
        assert np.array_equal(together.values, model(ids, attention_mask=mask).values)


@every_profile
def test_gelu_reads_the_range_of_its_rule_and_relu_16_bits(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile
) -> None:
    for hidden_act, to in (("gelu", profile.gelu.input_range), ("relu", INT16)):
        with intsim.trace() as trace:
            tiny(profile, hidden_act=hidden_act)([[2, 9, 10, 3]])
        assert trace["encoder.layer.0.intermediate.dense"].dtype == to.dtype


@every_profile
def test_a_saved_model_is_the_same_model(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile, tmp_path: Path
) -> None:
    model = tiny(profile)
    model.save(tmp_path)
    again = intsim.load(tmp_path)
    assert again.profile == profile
    assert again([[2, 9, 10, 3]]).digest == model([[2, 9, 10, 3]]).digest


@every_profile
@pytest.mark.parametrize("hidden_act", ["gelu", "relu"])
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=["classifier", "encoder"])
def test_no_text_leaves_the_widths(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile, hidden_act: str, labels: Any
) -> None:
    model = tiny(profile, hidden_act=hidden_act, labels=labels)
    proved = widths(model)
    rng = np.random.default_rng(5)
    for tokens in (1, 2, 7, 32):
        ids, mask = rng.integers(0, 66, (8, tokens)), rng.random((8, tokens)) < 0.8
        with intsim.trace("steps") as trace:
            model(ids, attention_mask=mask, token_type_ids=rng.integers(0, 2, (8, tokens)))
        assert list(proved) == list(trace)
        for name, values in trace.items():
            width = proved[name]
            assert values.dtype == width.dtype, name
            assert width.min <= values.min() <= values.max() <= width.max, name


@every_profile
def test_the_logits_are_close_to_those_of_the_paper(tiny: Callable[..., intsim.IntegerModel], profile: Profile) -> None:
    ids = np.random.default_rng(1).integers(5, 66, (16, 12))
    others, paper = tiny(profile)(ids), tiny(IBERT)(ids)
    assert others.digest != paper.digest
    assert np.abs(others.values - paper.values).max() < 0.25 * np.abs(paper.values).max()


@every_profile
def test_the_embedded_model_says_of_most_sentences_what_it_says_under_intsim(profile: Profile) -> None:
    texts = default_calibration()
    own, other = (intsim.quantize(FLOAT, recipe="ibert", profile=p) for p in (INTSIM, profile))
    tokenizer = parse_tokenizer(own.tokenizer or "")
    ids, mask, types = pad([encode(tokenizer, text, longest=128) for text in texts])
    inputs = {"attention_mask": mask, "token_type_ids": types}
    assert (own(ids, **inputs).labels == other(ids, **inputs).labels).sum() >= 0.95 * len(texts)


def test_a_constant_row_is_refused_where_i_bert_s_code_gives_nan(
    tiny: Callable[..., intsim.IntegerModel],
) -> None:
    with pytest.raises(ValueError, match="positive variance"):
        ops.layer_norm(
            np.zeros((2, 4), np.int16),
            tiny(PROFILES["ibert-code"]).layer_norm_params("embeddings.LayerNorm"),
            to=INT16,
            profile=PROFILES["ibert-code"],
        )


@every_profile
def test_constants_that_could_overflow_are_refused(tiny: Callable[..., intsim.IntegerModel], profile: Profile) -> None:
    model = tiny(profile)
    bias = np.full_like(model.tensors["pooler.dense.bias"], 2**31 - 1)
    with pytest.raises(CheckpointError, match=r"'pooler\.dense\.acc' must stay within the bounds"):
        dataclasses.replace(model, tensors={**model.tensors, "pooler.dense.bias": bias})


@every_profile
def test_the_scales_of_a_trace_are_those_of_its_rules(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile, tmp_path: Path
) -> None:
    model = tiny(profile)
    with intsim.trace() as trace:
        model([[2, 9, 10, 3]])
    write_trace(tmp_path / "trace.safetensors", trace, model)
    scales = {entry["name"]: entry["scale"] for entry in read(tmp_path / "trace.safetensors")[1]["trace"]}
    assert Fraction(scales[f"{SELF}.probs"]) == Fraction(1, profile.softmax.one)
    assert Fraction(scales["encoder.layer.1.intermediate.gelu"]) == profile.gelu.output_scale
    scores = Fraction(scales[f"{SELF}.query"]) * Fraction(scales[f"{SELF}.key"]) / 2
    precision = Fraction(1, 2 ** (profile.requantization.multiplier_bits - 2))
    assert abs(Fraction(scales[f"{SELF}.scores.acc"]) / scores - 1) < precision


# ---- what knows intsim's own rules only


@every_profile
def test_export_refuses_another_project_s_rules(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile, tmp_path: Path
) -> None:
    with pytest.raises(IntsimError, match="profile of a model to export must have intsim's own rules only"):
        export(tiny(profile), tmp_path / "model.onnx")


@every_profile
def test_a_diagnosis_counts_the_mismatches_and_explains_none(
    tiny: Callable[..., intsim.IntegerModel], profile: Profile
) -> None:
    with intsim.trace("steps") as trace:
        tiny(profile)([[2, 9, 10, 3]])
    probs = trace["encoder.layer.0.attention.self.probs"].copy()
    probs[0, 0, 0, 0] += 1
    found = diagnose(trace, {"encoder.layer.0.attention.self.probs": probs})
    assert (found.operator, found.mismatches) == ("softmax", 1)
    assert found.explain_all == found.explain_some == ()


def test_a_native_rule_is_given_back_and_another_refused() -> None:
    assert native(INTSIM.gelu, Gelu) is INTSIM.gelu
    with pytest.raises(IntsimError, match="rule must be intsim's own Gelu, got ItaGelu"):
        native(PROFILES["ita"].gelu, Gelu)


# ---- profiles


HASHES: Final = {  # a change says that models of that profile compute other bits: raise its version
    "ibert-code": "db5b8c3be162",
    "ivit": "b999682efab4",
    "ita": "51c9ab4668b8",
    "ita-2024": "620dad0a2572",
}


@pytest.mark.parametrize("profile", [p for p in BORROWED if p is not FIXED_POINT], ids=lambda profile: profile.name)
def test_the_hash_is_the_one_committed(profile: Profile) -> None:
    assert profile.hash[:12] == HASHES[profile.name]
    assert Profile.from_json(json.loads(json.dumps(profile.to_json()))).hash == profile.hash


@pytest.mark.parametrize(
    ("profile", "borrowed"),
    [
        (INTSIM, ()),
        (IBERT, ()),
        (PROFILES["ita"], ("softmax", "gelu")),
        (PROFILES["ita-2024"], ("softmax", "gelu")),
        (PROFILES["ivit"], ("softmax", "gelu", "layer_norm")),
        (PROFILES["ibert-code"], ("softmax", "gelu", "layer_norm")),
    ],
)
def test_a_profile_names_what_it_borrowed(profile: Profile, borrowed: tuple[str, ...]) -> None:
    assert profile.borrowed == borrowed


@pytest.mark.parametrize(
    "rule",
    [
        {"softmax": {"rule": "gemmini", "one": 255}},
        {"softmax": {"rule": "ita", "streaming": 1}},
        {"softmax": {"rule": "ita"}},
        {"softmax": {"rule": "ibert-code", "input_fraction": 14}},
        {"softmax": {"rule": "ivit", "input_fraction": 15, "bits": 15}},
        {"softmax": {"rule": "ivit", "input_fraction": 8, "bits": 24}},
        {"softmax": {"one": 255, "streaming": True}},
        {"gelu": {"rule": "ita", "input_fraction": 7}},
        {"gelu": {"rule": "ibert-code", "input_fraction": 13}},
        {"gelu": {"rule": "ivit", "input_fraction": 9, "bits": 20}},
        {"gelu": {"rule": "ivit", "input_fraction": 8, "bits": 24}},
        {"layer_norm": {"rule": "ita"}},
        {"layer_norm": {"rule": "ivit", "shift": 1}},
        {"layer_norm": {"rule": "ibert-code", "shift": 17}},
        {"layer_norm": {"rule": ["ivit"]}},
        {"layer_norm": {"rule": None}},
    ],
    ids=str,
)
def test_a_rule_that_is_none_or_leaves_its_bounds_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(IntsimError):
        Profile.from_json(IBERT.to_json() | rule)
