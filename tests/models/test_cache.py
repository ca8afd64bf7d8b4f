# SPDX-License-Identifier: Apache-2.0
"""A decoder with a cache gives the integers of the whole text at once, however that is split, padded and batched."""

import pickle
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import oracle_trace
import pytest
from family_runs import traced
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import intsim
from intsim.carrier import blocks, dynamic_steps
from intsim.io.trace_file import read_trace, write_trace
from intsim.models import FAMILIES, integers
from intsim.models.decoder import DecoderConfig
from intsim.recipes import recipe_names
from intsim.testing import assert_bit_exact
from intsim.verify.compare import compare

MakesModel = Callable[..., intsim.IntegerModel]

DECODERS: Final = [name for name, family in FAMILIES.items() if issubclass(family.config, DecoderConfig)]
ZEROQUANT: Final = "zeroquant:groups=4"

every_decoder = pytest.mark.parametrize("family", DECODERS)
both_recipes = pytest.mark.parametrize("recipe", ["intsim", ZEROQUANT])  # static, and by token while running


def make(family_model: MakesModel, family: str, recipe: str = ZEROQUANT, **config: Any) -> intsim.IntegerModel:
    return family_model(family, "causal-lm", recipe, **config)


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[list[int]], NDArray[np.bool_], list[int]]:
    """Texts of the ids of 70 words, where their tokens stand in columns, and where these columns are split."""
    batch, columns = draw(st.integers(1, 3)), draw(st.integers(1, 14))
    mask = np.zeros((batch, columns), np.bool_)
    for row in mask:
        length, kind = draw(st.integers(1, columns)), draw(st.sampled_from(["left", "right", "anywhere"]))
        if kind == "anywhere":
            row[draw(st.permutations(range(columns)))[:length]] = True
        else:
            row[slice(columns - length, None) if kind == "left" else slice(length)] = True
    ids = [draw(st.lists(st.integers(0, 69), min_size=int(n), max_size=int(n))) for n in mask.sum(axis=1)]
    splits = sorted(draw(st.sets(st.integers(1, columns - 1)))) if columns > 1 else []
    return ids, mask, splits


def in_columns(texts: list[list[int]], mask: NDArray[np.bool_], pad: int) -> NDArray[np.int64]:
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate(texts)
    return ids


def in_chunks(model: intsim.IntegerModel, ids: NDArray[Any], mask: NDArray[np.bool_], splits: list[int]) -> Any:
    """Return the logits of all columns, and the cache after them."""
    cache, parts = model.start(), []
    for chunk in zip(np.split(ids, splits, axis=1), np.split(mask, splits, axis=1), strict=True):
        result = model(chunk[0], attention_mask=chunk[1], cache=cache)
        cache = result.cache
        parts.append(result.values)
    return np.concatenate(parts, axis=1), cache


@both_recipes
@every_decoder
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=texts(), pad=st.integers(0, 69))
def test_any_split_and_any_padding_give_the_integers_of_each_text_alone(
    family_model: MakesModel, family: str, recipe: str, case: Any, pad: int
) -> None:
    model, (rows, mask, splits) = make(family_model, family, recipe), case
    found, cache = in_chunks(model, in_columns(rows, mask, pad), mask, splits)
    for values, own, ids in zip(found, mask, rows, strict=True):
        assert_bit_exact(values[own], model([ids]).values[0])
    assert np.array_equal(cache.mask, mask)


@every_decoder
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=texts())
def test_a_cache_keeps_what_the_whole_text_keeps(family_model: MakesModel, family: str, case: Any) -> None:
    model, (rows, mask, splits) = make(family_model, family), case
    ids = in_columns(rows, mask, 3)
    _, whole = in_chunks(model, ids, mask, [])
    _, parts = in_chunks(model, ids, mask, splits)
    assert list(parts.codes) == list(whole.codes)
    for name, codes in whole.codes.items():
        assert_bit_exact(parts.codes[name][mask], codes[mask], name=name)


@both_recipes
@every_decoder
def test_texts_worked_on_apart_have_caches_of_their_own(
    family_model: MakesModel, monkeypatch: pytest.MonkeyPatch, family: str, recipe: str
) -> None:
    model = make(family_model, family, recipe)
    mask = np.ones((5, 12), np.bool_)
    mask[1, :4] = mask[2, 8:] = mask[3, 5:7] = False
    ids = np.random.default_rng(4).integers(0, 70, mask.shape)
    expected, whole = in_chunks(model, ids, mask, [])
    for rows, threads in ((1, 3), (2, 1), (3, 2)):
        monkeypatch.setattr(integers, "BLOCK", rows)  # texts of one token at a time
        monkeypatch.setattr(blocks, "THREADS", threads)
        blocks._pool.cache_clear()
        found, cache = in_chunks(model, ids, mask, [2, 3, 9])
        assert_bit_exact(found[mask], expected[mask])
        for name, codes in whole.codes.items():
            assert_bit_exact(cache.codes[name][mask], codes[mask], name=name)
    blocks._pool.cache_clear()


@every_decoder
def test_padding_takes_no_room_in_the_context(family_model: MakesModel, family: str) -> None:
    model = make(family_model, family)
    longest = model.config.longest
    ids = np.random.default_rng(5).integers(0, 70, (2, longest))
    mask = np.ones((2, longest + 7), np.bool_)
    mask[0, :7] = mask[1, longest:] = False
    wide = in_columns(ids.tolist(), mask, 0)
    expected = model(ids).values
    assert_bit_exact(model(wide, attention_mask=mask).values[mask].reshape(expected.shape), expected)
    found, cache = in_chunks(model, wide, mask, [5, longest])
    assert_bit_exact(found[mask].reshape(expected.shape), expected)
    with pytest.raises(intsim.IntsimError, match=f"^text must be at most {longest} tokens long, got {longest + 1}$"):
        model([[1], [1]], cache=cache)
    mask[1, longest] = True
    with pytest.raises(intsim.IntsimError, match=f"^text must be at most {longest} tokens long, got {longest + 1}$"):
        model(wide, attention_mask=mask)


@both_recipes
@every_decoder
def test_nobody_who_watches_or_shares_the_work_changes_a_bit(
    family_model: MakesModel, monkeypatch: pytest.MonkeyPatch, family: str, recipe: str
) -> None:
    model = make(family_model, family, recipe, **long(family))
    ids = np.random.default_rng(0).integers(0, 70, (1, 150))
    mask = np.ones_like(ids, np.bool_)
    expected, _ = in_chunks(model, ids, mask, [])
    for threads in (1, 3):
        monkeypatch.setattr(blocks, "THREADS", threads)
        blocks._pool.cache_clear()
        assert_bit_exact(in_chunks(model, ids, mask, [70, 71])[0], expected)
    blocks._pool.cache_clear()
    with intsim.trace("steps"):
        assert_bit_exact(in_chunks(model, ids, mask, [149])[0], expected)
    cache = model(ids[:, :100], cache=model.start(), carrier="integer").cache
    assert_bit_exact(model(ids[:, 100:], cache=cache, carrier="integer").values, expected[:, 100:])


def long(family: str) -> dict[str, int]:
    return {"n_positions" if family in {"gpt2", "gptj"} else "max_position_embeddings": 160}


@pytest.mark.parametrize(
    ("family", "recipe"),
    dict.fromkeys([*product(["gpt2", "llama"], recipe_names()), *product(DECODERS, ["intsim", ZEROQUANT])]),
)
def test_the_last_logits_are_those_of_the_last_tokens(
    family_model: MakesModel, monkeypatch: pytest.MonkeyPatch, family: str, recipe: str
) -> None:
    model = make(family_model, family, recipe)
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]], np.bool_)
    ids = np.random.default_rng(1).integers(0, 70, mask.shape)
    alone = [model([row[own]]).values[0, -1] for row, own in zip(ids, mask, strict=True)]
    every = model(ids, attention_mask=mask).values
    assert_bit_exact(every[[0, 1, 2, 3], [4, 4, 2, 3]], np.stack(alone))
    for rows, threads in ((1, 3), (2, 1), (1024, 3)):  # of the batch at a time
        monkeypatch.setattr(integers, "BLOCK", rows * ids.shape[1])
        monkeypatch.setattr(blocks, "THREADS", threads)
        blocks._pool.cache_clear()
        for carrier in ("auto", "integer"):
            last = model(ids, attention_mask=mask, last=True, carrier=carrier)
            assert_bit_exact(last.values, np.stack(alone))
            assert last.cache is None
        for row, own, expected in zip(ids, mask, alone, strict=True):
            assert_bit_exact(model([row[own]], last=True).values[0], expected)
            assert_bit_exact(model([row], attention_mask=[own], last=True).values[0], expected)
    blocks._pool.cache_clear()
    if all(how.per == "token" for how in model.dynamic.values()):
        cache = model(ids[:, :2], attention_mask=mask[:, :2], cache=model.start()).cache
        step = model(ids[:, 2:], attention_mask=mask[:, 2:], cache=cache, last=True)
        assert_bit_exact(step.values, np.stack(alone))


def test_no_token_but_the_last_goes_on_behind_the_last_values_where_its_logits_are_asked_for(
    family_model: MakesModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = make(family_model, "llama"), list[int]()
    ids = np.random.default_rng(3).integers(0, 70, (2, 6))

    def seen(x: Any, w: Any) -> Any:
        rows.append(x.shape[-2])
        return product_of(x, w)

    product_of = dynamic_steps.product
    monkeypatch.setattr(dynamic_steps, "product", seen)
    monkeypatch.setattr(blocks, "THREADS", 1)
    for padding, going_on in ([0, 0, 1, 1, 1, 1], 4), ([1, 1, 1, 1, 0, 0], 0):  # o, gate, up and down
        rows.clear()
        model(ids, attention_mask=[[1] * 6, padding], last=True)
        assert rows.count(1) == going_on


def test_a_range_of_a_sequence_is_that_of_all_its_tokens_where_the_last_logits_are_asked_for(
    family_model: MakesModel,
) -> None:
    model = make(family_model, "llama", "tm-iqr")
    assert model.dynamic["lm_head.input"].per == "sequence"
    for row in np.random.default_rng(2).integers(0, 70, (8, 6)):
        with intsim.trace("steps") as whole:
            model([row])
        with intsim.trace("steps") as last:
            model([row], last=True)
        assert_bit_exact(last["lm_head.input.bound"], whole["lm_head.input.bound"])
        assert_bit_exact(last["lm_head"], whole["lm_head"][:, -1])


@every_decoder
def test_a_cache_is_a_value(family_model: MakesModel, family: str) -> None:
    model = make(family_model, family)
    first = model([[5, 9, 11]], cache=model.start()).cache
    assert first is not None
    before = {name: codes.copy() for name, codes in first.codes.items()}
    expected = {token: model([[token, 4]], cache=first).values for token in (7, 8)}
    assert not np.array_equal(expected[7], expected[8])
    for token, values in expected.items():
        assert_bit_exact(model([[token, 4]], cache=first).values, values)
        assert_bit_exact(model([[5, 9, 11, token, 4]]).values[:, 3:], values)
    again = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    assert_bit_exact(model([[7, 4]], cache=again).values, expected[7])
    for name, codes in first.codes.items():
        assert_bit_exact(codes, before[name], name=name)


@both_recipes
@every_decoder
def test_a_cache_takes_two_bytes_for_each_layer_token_and_channel_of_keys(
    family_model: MakesModel, family: str, recipe: str
) -> None:
    model = make(family_model, family, recipe)
    cache = model([[5, 9, 11, 2, 3]] * 2, cache=model.start()).cache
    assert cache is not None
    (channels,) = {model.outline.activations[name].channels for name in cache.codes}
    heads = {"llama": 2, "mistral": 2, "qwen2": 2, "gemma": 1}.get(family, 4)
    assert channels == heads * (8 if family in {"mistral", "gemma"} else 6)
    assert cache.nbytes == 2 * 2 * (2 * 5) * channels  # of 2 layers, for 2 texts of 5 tokens
    assert sum(len(codes.tobytes()) for codes in cache.codes.values()) == cache.nbytes


# ---- refusals


def test_a_cache_of_another_model_or_batch_is_refused(family_model: MakesModel) -> None:
    model, other = make(family_model, "llama"), make(family_model, "llama", "intsim")
    cache = model([[5, 9]], cache=model.start()).cache
    with pytest.raises(intsim.IntsimError, match=f"cache must be of this model, {other.digest[:12]}, got one of"):
        other([[5]], cache=cache)
    with pytest.raises(intsim.IntsimError, match="cache must be of as many texts as input_ids, 2, got 1"):
        model([[5], [6]], cache=cache)
    encoder = family_model("bert", "none", "intsim")
    with pytest.raises(intsim.IntsimError, match="cache must be of this model"):
        encoder([[5]], cache=cache)


@pytest.mark.parametrize("value", [3, {}, [], "cache"])
def test_what_is_no_cache_is_refused(family_model: MakesModel, value: Any) -> None:
    said = f"^cache must be what start\\(\\) or a result has, got {type(value).__name__}$"
    with pytest.raises(intsim.IntsimError, match=said):
        make(family_model, "llama")([[5]], cache=value)


def test_nobody_writes_into_a_cache(family_model: MakesModel) -> None:
    model = make(family_model, "llama")
    cache = model([[5, 9, 11]], cache=model.start()).cache
    assert cache is not None
    for values in (cache.mask, *cache.codes.values()):
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0


def test_a_model_that_cannot_have_a_cache_says_why(family_model: MakesModel) -> None:
    with pytest.raises(intsim.IntsimError, match="model must be a decoder to have a cache, got a bert"):
        family_model("bert", "none", "intsim").start()
    with pytest.raises(intsim.IntsimError, match=r"must be quantized per token for a cache .* got per sequence"):
        make(family_model, "llama", "tm-iqr").start()


@every_decoder
def test_the_context_ends_the_cache_too(family_model: MakesModel, family: str) -> None:
    model = make(family_model, family)
    ids = np.random.default_rng(2).integers(0, 70, (1, 40))
    cache = model(ids[:, :39], cache=model.start()).cache
    assert_bit_exact(model(ids[:, 39:], cache=cache).values, model(ids).values[:, 39:])
    with pytest.raises(intsim.IntsimError, match="text must be at most 40 tokens long, got 41"):
        model([[1, 2]], cache=cache)


# ---- traces


@both_recipes
@every_decoder
def test_the_trace_of_a_step_is_the_oracles_and_reads_back(
    family_model: MakesModel, tmp_path: Path, family: str, recipe: str
) -> None:
    model = make(family_model, family, recipe)
    mask = np.array([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]], np.bool_)
    ids = np.random.default_rng(3).integers(0, 70, mask.shape)
    cache = model(ids[:, :6], attention_mask=mask[:, :6], cache=model.start()).cache
    with intsim.trace("steps") as trace:
        model(ids[:, 6:], cache=cache, last=True)
    write_trace(tmp_path / "trace", trace, model)
    assert oracle_trace.judge(tmp_path / "trace") == []
    again, profile = read_trace(tmp_path / "trace")
    assert profile == model.profile
    assert compare(trace, again).first is None
    kept = [name for name in trace if name.endswith(".kept")]
    assert [name.removesuffix(".kept") for name in kept] == list(model.outline.cached)
    whole = traced(model, feed(ids, mask))
    for name in kept:
        assert_bit_exact(trace[name][mask], whole[name.removesuffix(".kept")][mask], name=name)
    logits = model.outline.result.name
    assert_bit_exact(trace[logits], whole[logits][:, -1])


def feed(ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> Any:
    from family_runs import Feed  # noqa: PLC0415

    return Feed(ids, mask.astype(np.int64), np.zeros_like(ids))


def test_a_changed_key_of_an_earlier_token_is_found_in_a_trace(family_model: MakesModel, tmp_path: Path) -> None:
    model = make(family_model, "llama")
    cache = model([[5, 9, 11]], cache=model.start()).cache
    with intsim.trace("steps") as trace:
        model([[7]], cache=cache)
    name = next(name for name in trace if name.endswith(".kept"))
    changed = trace[name].copy()
    changed[0, 1, 0] ^= 1
    trace[name] = changed
    write_trace(tmp_path / "trace", trace, model)
    assert oracle_trace.judge(tmp_path / "trace")[0] == name


# ---- generation


def by_hand(model: intsim.IntegerModel, ids: list[int], count: int) -> list[int]:
    """Return greedy tokens, the whole text read anew for each."""
    found: list[int] = []
    for _ in range(count):
        found.append(int(model([[*ids, *found]]).values[0, -1].argmax()))
        if found[-1] in model.config.eos_token_id:
            break
    return found


@every_decoder
def test_generated_tokens_are_those_of_whole_passes(family_model: MakesModel, family: str) -> None:
    model = make(family_model, family)
    prompts = [[5, 9, 11, 30], [8], [61, 2, 7]]
    expected = [by_hand(model, ids, 9) for ids in prompts]
    assert [model.generate([ids], max_new_tokens=9)[0] for ids in prompts] == expected
    for left in (True, False):
        mask = np.zeros((3, 5), np.bool_)
        for row, ids in zip(mask, prompts, strict=True):
            row[slice(5 - len(ids), None) if left else slice(len(ids))] = True
        batch = in_columns(prompts, mask, 4)
        assert model.generate(batch, max_new_tokens=9, attention_mask=mask) == expected


def test_a_text_ends_at_its_end_and_at_that_of_the_context(family_model: MakesModel) -> None:
    model = make(family_model, "gpt2", eos_token_id=None)
    prompts = [[5, 9, 11, 30], [30, 5, 5, 61]]
    found = model.generate(prompts, max_new_tokens=100)
    assert [len(each) for each in found] == [40 - 4 + 1] * 2
    end = next(token for token in found[0] if token not in found[1][:8])
    count = found[0].index(end) + 1
    assert count < 12
    ending = make(family_model, "gpt2", eos_token_id=end)
    assert ending.generate(prompts, max_new_tokens=100)[0] == found[0][:count]
    both = ending.generate(prompts, max_new_tokens=8)
    assert [len(each) for each in both] == [min(count, 8), 8]
    assert both[1] == found[1][:8]


@pytest.mark.parametrize("top_k", [1, 20])
def test_a_text_goes_on_where_that_of_its_neighbour_has_filled_the_context(
    family_model: MakesModel, top_k: int
) -> None:
    model = make(family_model, "llama", eos_token_id=None)
    short, long = [5, 6], list(range(3, 42))
    how: dict[str, Any] = {"max_new_tokens": 30, "top_k": top_k, "seed": 3}
    (alone,) = model.generate([short], **how)
    assert len(alone) == 30
    for left in (True, False):
        padded = [0] * 37 + short if left else short + [0] * 37
        mask = [[0] * 37 + [1, 1] if left else [1, 1] + [0] * 37, [1] * 39]
        found = model.generate([padded, long], attention_mask=mask, **how)
        assert found[0] == alone
        assert len(found[1]) == 2


def test_samples_depend_on_the_seed_alone(family_model: MakesModel) -> None:
    model = make(family_model, "llama")
    how: dict[str, Any] = {"max_new_tokens": 20, "top_k": 50, "temperature": 2.0}
    found = {seed: model.generate([[5, 9]], seed=seed, **how) for seed in range(4)}
    assert len({str(each) for each in found.values()}) == 4
    assert model.generate([[5, 9]], seed=2, **how) == found[2]
    (cold,) = model.generate([[5, 9]], max_new_tokens=20, top_k=50, temperature=0.01, seed=1)
    logits = model([[5, 9, *cold]]).values[0, 1:-1].astype(np.int64)
    behind = logits.max(axis=-1) - logits[np.arange(len(cold)), cold]
    assert (behind <= 0.16 * 2**16).all()  # e**-16 of the likeliest is the least that the profile's exp tells from 0


@pytest.mark.parametrize(
    ("ids", "change", "message"),
    [
        ([[]], {}, "input_ids must have a token to go on from, got none"),
        ([[5, 70]], {}, r"input_ids must be in \[0, 70\), got 70$"),
        ([[5] * 41], {}, "text must be at most 40 tokens long, got 41"),
        ([[5]], {"max_new_tokens": 0}, "max_new_tokens must be a positive integer, got 0"),
        ([[5]], {"max_new_tokens": None}, "max_new_tokens must be a positive integer, got None"),
        ([[5]], {"max_new_tokens": 2.5}, "max_new_tokens must be a positive integer, got 2.5"),
        ([[5]], {"seed": 1.5}, "seed must be an integer, got 1.5"),
        ([[5]], {"seed": True}, "seed must be an integer, got True"),
        ([[5]], {"temperature": "1"}, r"temperature must be in \[0.01, 100\], got '1'"),
        ([[5]], {"temperature": True}, r"temperature must be in \[0.01, 100\], got True"),
        ([[5]], {"top_k": 0}, "top_k must be a positive integer, got 0"),
        ([[5]], {"temperature": 0}, r"temperature must be in \[0.01, 100\], got 0"),
        ([[5]], {"attention_mask": [[0]]}, "attention_mask must have a token in every text"),
    ],
)
def test_what_cannot_go_on_is_refused(family_model: MakesModel, ids: Any, change: Any, message: str) -> None:
    with pytest.raises(intsim.IntsimError, match=message):
        make(family_model, "llama").generate(ids, **({"max_new_tokens": 3} | change))


def test_integers_of_numpy_are_integers_of_generate_too(family_model: MakesModel) -> None:
    model, plain = make(family_model, "llama"), {"max_new_tokens": 5, "top_k": 3, "seed": -7}
    of_numpy: Any = {name: np.int64(value) for name, value in plain.items()}
    assert model.generate([[5, 9]], **of_numpy) == model.generate([[5, 9]], **plain)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_only_causal_language_models_go_on(family_model: MakesModel, family: str) -> None:
    with pytest.raises(intsim.IntsimError, match=r"must have a causal language model's head .* got head none"):
        family_model(family, "none", "intsim").generate([[5]], max_new_tokens=3)
