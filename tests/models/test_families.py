# SPDX-License-Identifier: Apache-2.0
"""What every family of the registry has to show, with every head: a new one inherits all of it.

All it needs is an entry in ``families.FAMILIES``: transformers makes its tiny random checkpoints.
"""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import families
import numpy as np
import pytest
from families import DECODERS, calibration, head_like, heads
from family_runs import (
    DISTINCT,
    GROUPED,
    Feed,
    assert_engine_agrees,
    assert_same,
    draw,
    floats,
    judged,
    known,
    traced,
    transformers,
    values,
)
from numpy.typing import NDArray
from safetensors.numpy import load_file

import intsim
from intsim import ops
from intsim.carrier import blocks
from intsim.convert import simulate
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.trace_file import write_trace
from intsim.models import FAMILIES
from intsim.models.decoder import DecoderConfig
from intsim.models.widths import widths
from intsim.quantizers import AffineParams, dequantize, quantize
from intsim.recipes import parse_recipe, recipe_names
from intsim.reference.world import run
from intsim.testing import assert_bit_exact
from intsim.verify.bugs import CONTROL, changes_of_call
from intsim.verify.diagnose import diagnose
from intsim.verify.replay import replay

WritesCheckpoint = Callable[..., Path]
MakesModel = Callable[..., intsim.IntegerModel]

ROTATED: Final = {*DECODERS} - {"gpt2", "opt"}
RECIPES: Final = ("intsim", "ibert", "zeroquant", "tm-iqr", "peg")  # static, two dynamic ones, groups
PAIRS: Final = [(family, head) for family in FAMILIES for head in heads(family)]
ALTERNATING: Final = [  # every kind of family under every recipe and with every head
    (family, heads(family)[(i + k) % len(heads(family))], RECIPES[(i + k) % len(RECIPES)])
    for i, family in enumerate(FAMILIES)
    for k in range(len(heads(family)))
    if family in DISTINCT or k % 3 == 0
]
ALL: Final = [(family, head, recipe) for family, head in PAIRS for recipe in recipe_names()]

every_family = pytest.mark.parametrize("family", FAMILIES)
every_kind = pytest.mark.parametrize(  # of the others some heads meet the oracle
    "family", [family if family in DISTINCT else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]
)
every_pair = pytest.mark.parametrize(("family", "head"), PAIRS)
some_products = pytest.mark.parametrize(
    ("family", "head", "recipe"),
    [*ALTERNATING, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in ALTERNATING)],
)
some_recipes = pytest.mark.parametrize(
    "recipe",
    [
        name if name in {"intsim", "tm-iqr", "peg"} else pytest.param(name, marks=pytest.mark.slow)
        for name in recipe_names()
    ],
)


def test_every_family_of_the_registry_has_a_checkpoint() -> None:
    assert set(FAMILIES) == set(families.FAMILIES)
    assert {name for name, family in FAMILIES.items() if issubclass(family.config, DecoderConfig)} == {*DECODERS}


# ---- floats


def tolerance(family: str) -> float:
    """Return how far transformers may be: of decoders it computes angles, norms or softmax in float32."""
    return 1e-5 if family in DECODERS and family != "gpt2" else 1e-11


def as_transformers_pads(family: str, path: Path, feed: Feed) -> Feed:
    """Put the id of padding where there is no token, if transformers lets other tokens see it, whatever the mask."""
    if family != "mobilebert":
        return feed
    return feed._replace(ids=np.where(feed.mask, feed.ids, open_checkpoint(path).config.pad_token_id))


@every_pair
def test_the_float_world_is_transformers_in_float64(
    family_checkpoint: WritesCheckpoint, family: str, head: str
) -> None:
    path = family_checkpoint(family, head)
    checkpoint = open_checkpoint(path)
    feed = as_transformers_pads(family, path, draw(checkpoint.config, 1, 7, 9))
    seen: dict[str, NDArray[Any]] = {}

    def observe(name: str, x: NDArray[Any]) -> NDArray[Any]:
        seen[name] = x
        return x

    output = floats(path, feed, observe)
    expected, hidden_states = transformers(path, feed)
    kept, near = known(path, feed), {"rtol": 0, "atol": tolerance(family)}
    assert output.dtype == np.float64
    if checkpoint.outline.result.of_token:
        output, expected = output[kept], expected[kept]
    np.testing.assert_allclose(output, expected, **near)
    ours = iter(checkpoint.outline.hidden_states)
    for state in hidden_states:  # in this order, between others
        assert any(
            seen[name].shape == state.shape and np.allclose(seen[name][kept], state[kept], **near) for name in ours
        )
    assert [name for name in seen if name in checkpoint.outline.activations] == list(checkpoint.outline.activations)


@every_family
def test_the_longest_text_is_transformers_longest(family_checkpoint: WritesCheckpoint, family: str) -> None:
    path = family_checkpoint(family, "none")
    config = open_checkpoint(path).config
    ids = np.random.default_rng(2).integers(2, config.vocab_size, (1, config.longest))
    feed = Feed(ids, np.ones_like(ids), np.zeros_like(ids))
    np.testing.assert_allclose(floats(path, feed), transformers(path, feed)[0], rtol=0, atol=tolerance(family))
    if family in ROTATED - {"gptj"}:  # angles for any position
        return
    with pytest.raises((IndexError, RuntimeError)):
        families.expected(path, np.pad(ids, ((0, 0), (0, 1)), constant_values=2))


# ---- the outline


@every_pair
def test_what_is_stored_is_in_the_outline_or_is_not_used(
    family_checkpoint: WritesCheckpoint, family: str, head: str
) -> None:
    path = family_checkpoint(family, head)
    checkpoint = open_checkpoint(path)
    rename, prefix = checkpoint.family.rename, checkpoint.family.prefix
    stored, used = load_file(path / "model.safetensors"), used_names(checkpoint)
    for name, tensor in checkpoint.outline.tensors.items():
        sources = [stored[source] for source in used[name]]
        turned = [own_part(x, piece) for x, piece in zip(sources, checkpoint.pieces[name], strict=True)]
        whole = np.concatenate(turned, axis=-1)
        assert whole.shape == tensor.shape == checkpoint.shape(name), name
        assert np.array_equal(whole, checkpoint.load(name)), name
        assert tensor.view or [source.removeprefix(prefix) for source in used[name]] == [name]
    rest = stored.keys() - {source for sources in used.values() for source in sources} - {*checkpoint.ignored}
    for name in rest:  # what training with quantization leaves
        ours = rename(name.removeprefix(prefix))
        assert ours is None or ours in checkpoint.ranges, name
    assert used.keys() == checkpoint.outline.tensors.keys()
    assert not {*checkpoint.ignored} & {source for sources in used.values() for source in sources}


def own_part(x: NDArray[Any], piece: Any) -> NDArray[Any]:
    """Return what a tensor of the model is in a stored one, which may hold others: rows of its part of each head."""
    x = x.T if piece.transposed else x
    if piece.where is None:
        return x
    rows = np.arange(len(x)).reshape(piece.where.heads, piece.where.parts, -1)
    return x[rows[:, piece.where.part].ravel()]


def used_names(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Return the names in the file of what each tensor of the outline is made of, found by where they lie in it."""
    data = (checkpoint.path / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    at = {start + entry["data_offsets"][0]: name for name, entry in header.items() if name != "__metadata__"}
    return {name: [at[piece.stored.offset] for piece in pieces] for name, pieces in checkpoint.pieces.items()}


@every_pair
def test_what_is_not_used_changes_nothing_of_transformers(
    family_checkpoint: WritesCheckpoint, family: str, head: str
) -> None:
    path = family_checkpoint(family, head)
    checkpoint, model = open_checkpoint(path), families.load(path)
    used = {name for names in used_names(checkpoint).values() for name in names}
    ids = model.dummy_inputs["input_ids"][:1] % checkpoint.config.vocab_size
    before = model(ids)
    for name in load_file(path / "model.safetensors").keys() - used:
        model.state_dict()[name].add_(1)
    after = model(ids)
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before if name != "pooler_output")


# ---- integers against the oracle


@some_products
def test_every_integer_is_the_oracles(
    family_model: MakesModel, tmp_path: Path, family: str, head: str, recipe: str
) -> None:
    model = family_model(family, head, recipe)
    assert judged(model, draw(model.config, 3, 4, 5), tmp_path / "trace") == []


@some_recipes
@every_kind
def test_the_chain_starts_at_what_is_given(family_model: MakesModel, family: str, recipe: str) -> None:
    model = family_model(family, head_like(family, "token-classification"), recipe)
    feed = draw(model.config, 4, 4, 6)
    looked_up: dict[str, Any] = {
        "embedding.word": feed.ids,
        "embedding.type": feed.types,
        "embedding.position": np.arange(6),
    }
    tables = {name.removesuffix(".weight"): t.role for name, t in model.outline.tensors.items() if t.role in looked_up}
    calls = traced(model, feed).calls
    for name, call in calls.items():
        if call.operator is ops.position_ids:
            assert_bit_exact(call.operands[0], feed.ids, name=name)
            looked_up["embedding.position"] = call.result
        elif call.operator is ops.token_positions:
            assert np.array_equal(call.operands[0], feed.mask.astype(bool)), name
            looked_up["embedding.position"] = looked_up["rotary.cos"] = looked_up["rotary.sin"] = call.result
        elif name in {"rotary.cos", "rotary.sin"}:
            assert_bit_exact(call.operands[0], looked_up[name], name=name)
            assert np.array_equal(call.operands[1], model.tensors[name]), name
        elif call.operator is ops.embedding:
            ids, table = call.operands
            assert_bit_exact(ids, looked_up[tables.pop(name)], name=name)
            assert np.array_equal(table, model.codes(f"{name}.weight")), name
        elif call.operator is ops.neighbours:  # 0 stands beside a text
            assert call.constants.get("zero_point", 0) == model.formats[name].zero_point
        if (mask := call.constants.get("mask")) is None:
            continue
        if call.operator is ops.softmax and family in DECODERS:
            window = getattr(model.config, "sliding_window", None)
            seen = ops.causal_mask(feed.mask.astype(bool), queries=6, window=window)  # (B, 1, 6, 6)
            shared = mask.shape[-2] // 6  # heads that share keys, one below another
            assert np.array_equal(mask, np.tile(seen, (1, 1, shared, 1))), name
        else:
            assert np.array_equal(np.squeeze(mask), feed.mask.astype(bool)), name
    assert not tables
    last = calls[model.outline.result.name]
    assert_bit_exact(last.result, values(model, feed))


# ---- invariance


def part_of(
    whole: NDArray[Any], row: int, batch: int, shape: tuple[int, ...], *, tokens: int, left: bool
) -> NDArray[Any]:
    """Return what ``whole`` says of one sequence of ``tokens``: their axes are those that are longer than in ``shape``.

    Of heads that share keys, such an axis has the tokens of one head after those of another.
    """
    rows = whole[row : row + 1] if whole.shape[0] == batch else whole
    for axis, (n, m) in enumerate(zip(rows.shape, shape, strict=True)):
        if n != m:
            places = np.arange(n).reshape(m // tokens, -1)
            rows = rows.take(places[:, -tokens:].ravel() if left else places[:, :tokens].ravel(), axis)
    return rows


@some_recipes
@every_kind
def test_no_integer_depends_on_the_batch_or_on_padding(family_model: MakesModel, family: str, recipe: str) -> None:
    batch, tokens, longer = 3, 5, 11
    rng = np.random.default_rng(6)
    for head in ("two-classes", head_like(family, "masked-lm")):
        model = family_model(family, head, recipe)
        texts = draw(model.config, 5, batch, tokens)
        alone = [traced(model, texts.rows(slice(row, row + 1), slice(None))) for row in range(batch)]
        padding = Feed(
            *rng.integers(0, (model.config.vocab_size, 1, model.config.type_vocab_size), (batch, longer, 3)).transpose(
                2, 0, 1
            )
        )
        cases = [(texts, False), (padding, False)]
        counting = {ops.position_ids, ops.token_positions}
        counted = any(call.operator in counting for call in alone[0].calls.values())
        if counted and (model.outline.result.of_token or family in DECODERS):  # others read the first token
            pads = Feed(np.full_like(padding.ids, model.config.pad_token_id), 0 * padding.mask, 0 * padding.types)
            cases.append((pads, True))
        for feed, left in cases:
            for values_of_all, values_of_texts in zip(feed, texts, strict=True):
                values_of_all[:, -tokens if left else 0 :][:, :tokens] = values_of_texts
            whole = traced(model, feed)
            for row, single in enumerate(alone):
                assert list(single) == list(whole)
                for name, integers in single.items():
                    found = part_of(whole[name], row, batch, integers.shape, tokens=tokens, left=left)
                    assert_bit_exact(found, integers, name=name)


def longest(family: str, tokens: int) -> dict[str, int]:
    return {"n_positions" if family in {"gpt2", "gptj"} else "max_position_embeddings": tokens}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    def spread(count: int) -> None:
        monkeypatch.setattr(blocks, "THREADS", count)
        blocks._pool.cache_clear()

    yield spread
    blocks._pool.cache_clear()


@pytest.mark.parametrize("shape", [(1, 7), (1, 203), (4, 97)], ids=str)
@some_recipes
@every_kind
def test_no_integer_depends_on_the_number_of_threads(
    family_model: MakesModel, threads: Callable[[int], None], family: str, recipe: str, shape: tuple[int, int]
) -> None:
    model = family_model(family, head_like(family, "question-answering"), recipe, **longest(family, 210))
    feed = draw(model.config, 7, *shape)
    threads(1)
    expected = traced(model, feed)
    for count in (1, 2, 3):
        threads(count)
        assert_bit_exact(values(model, feed), expected[""])
        assert_same(traced(model, feed), expected)


@some_recipes
@every_kind
def test_no_integer_depends_on_the_carrier_the_file_or_the_process(
    family_model: MakesModel, tmp_path: Path, family: str, recipe: str
) -> None:
    model = family_model(family, head_like(family, "masked-lm"), recipe)
    feed = draw(model.config, 8, 4, 9)
    expected = traced(model, feed)
    assert_bit_exact(values(model, feed), expected[""])
    assert_same(traced(model, feed, carrier="integer"), expected)
    model.save(tmp_path / "saved")
    loaded = intsim.load(tmp_path / "saved")
    for again in (loaded, pickle.loads(pickle.dumps(model))):  # noqa: S301 - our own
        assert_same(traced(again, feed), expected)
        for field in ("config", "model_type", "head", "profile", "recipe", "tokenizer", "dynamic"):
            assert getattr(again, field) == getattr(model, field), field
    assert open_bytes(loaded, tmp_path / "again") == open_bytes(model, tmp_path / "first")


def open_bytes(model: intsim.IntegerModel, path: Path) -> dict[str, bytes]:
    model.save(path)
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


# ---- widths


@some_recipes
@every_kind
def test_widths_contain_what_is_observed(family_model: MakesModel, family: str, recipe: str) -> None:
    model = family_model(family, "two-classes", recipe)
    proved = widths(model)
    for seed in range(8):
        trace = traced(model, draw(model.config, seed, 16, 1 + 2 * seed))
        del trace[""]
        assert list(trace) == list(proved)
        for name, integers in trace.items():
            width = proved[name]
            assert width.min <= integers.min() <= integers.max() <= width.max, name
            assert integers.dtype == width.dtype, name


# ---- ONNX


@pytest.mark.parametrize(
    ("head", "recipe"),
    [
        ("masked-lm", "intsim"),
        ("two-classes", "zeroquant"),
        *(
            pytest.param(head, recipe, marks=pytest.mark.slow)
            for head, recipe in [
                ("none", "tm-iqr"),
                ("token-classification", "peg"),
                ("question-answering", "ibert"),
                ("masked-lm-untied", "zeroquant"),
            ]
        ),
    ],
)
@every_kind
def test_every_integer_is_that_of_onnx_runtime(
    family_model: MakesModel, tmp_path: Path, family: str, head: str, recipe: str
) -> None:
    model = family_model(family, head_like(family, head), recipe)
    feeds = [draw(model.config, 9, *shape) for shape in ((6, 9), (1, 1), (2, model.config.longest))]
    if not model.outline.cached or head == "masked-lm":  # a decoder's class is that of a text's last token
        feeds.append(feeds[0]._replace(mask=np.zeros_like(feeds[0].mask)))
    assert_engine_agrees(model, feeds, tmp_path / "model.onnx")


@pytest.mark.parametrize("recipe", ["zeroquant", pytest.param("intsim", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", DECODERS)
def test_every_integer_of_a_decoder_with_wide_probabilities_is_that_of_onnx_runtime(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, recipe: str
) -> None:
    path = family_checkpoint(family, "causal-lm")
    model = intsim.quantize(path, recipe=recipe, profile="intsim-wide", calibration=calibration(family))
    assert_engine_agrees(model, [draw(model.config, 14, 6, 11)], tmp_path / "model.onnx")


@pytest.mark.parametrize("head", ["masked-lm", "two-classes", "none"])
@every_kind
def test_every_world_agrees_on_groups_and_zero_points_everywhere(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, head: str
) -> None:
    path, recipe = family_checkpoint(family, head_like(family, head)), tmp_path / "grouped.toml"
    recipe.write_text(GROUPED, encoding="utf-8")
    model = intsim.quantize(path, recipe=recipe, calibration=calibration(family))
    feed = draw(model.config, 13, 4, 6)
    assert judged(model, feed, tmp_path / "trace") == []
    assert_engine_agrees(model, [feed], tmp_path / "model.onnx")
    seen, proved = traced(model, feed), widths(model)
    assert_bit_exact(values(model, feed), seen.pop(""))
    assert list(seen) == list(proved)
    assert all(proved[name].min <= x.min() <= x.max() <= proved[name].max for name, x in seen.items())
    kept = feed.mask.astype(bool) if model.outline.result.of_token else slice(None)
    exact = floats(path, feed)[kept]
    least = 0.75 if family in families.DECODERS else 0.95  # 8 bits are few for what the layers of a decoder add up
    assert cosine(reals(model, values(model, feed))[kept], exact) > least


def test_words_that_trigrams_are_made_of_are_in_no_groups(family_checkpoint: WritesCheckpoint, tmp_path: Path) -> None:
    recipe = tmp_path / "grouped.toml"
    recipe.write_text(GROUPED.replace("*.word_embeddings.sum", "none"), encoding="utf-8")
    with pytest.raises(intsim.IntsimError, match=r"'embeddings.trigrams' has its format, got 2"):
        intsim.quantize(family_checkpoint("mobilebert", "none"), recipe=recipe, calibration=calibration("mobilebert"))


# ---- simulation


def params(form: intsim.Format, channels: int) -> AffineParams:
    scale = np.repeat(form.scale.multiplier / np.exp2(form.scale.shift), channels // form.groups)
    return AffineParams(scale=scale, zero_point=np.broadcast_to(form.offset(channels), channels), range=form.range)


@some_products
def test_a_simulation_has_the_codes_of_the_integer_quantizers(
    family_checkpoint: WritesCheckpoint,
    family_model: MakesModel,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    head: str,
    recipe: str,
) -> None:
    path, model = family_checkpoint(family, head), family_model(family, head, recipe)
    if parse_recipe(model.recipe).bias_correction:
        pytest.skip("corrected biases cannot be simulated")
    seen: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def watching(hook: Any) -> Any:
        def call(name: str, x: NDArray[Any]) -> NDArray[Any]:
            y = hook(name, x)
            seen[name] = x, y
            return y

        return call

    def watched(*operands: Any, observe: Any, read: Any, **options: Any) -> NDArray[Any]:
        return run(*operands, observe=watching(observe), read=watching(read), **options)

    monkeypatch.setattr(simulate, "run_floats", watched)
    feed = draw(model.config, 10, 5, 8)
    feed = feed._replace(mask=np.sort(feed.mask)[:, ::-1])
    output = simulate.simulation(path, model)(feed.ids, feed.mask.astype(bool), feed.types)
    outline = model.outline
    for name in outline.activations:
        x, y = seen[name]
        how = params(model.formats[name], x.shape[-1])
        assert np.array_equal(y, dequantize(quantize(x, how), how)), name
    for name in {*model.formats, *model.dynamic} & outline.inputs.keys():
        x, y = seen[name]
        form = model.formats[outline.inputs[name].source]
        codes = quantize(x, params(form, x.shape[-1]))
        zero_point = form.offset(x.shape[-1])
        if (dynamic := model.dynamic.get(name)) is not None:
            kept = feed.mask.astype(bool) if x.ndim == 3 else None
            bound = ops.dynamic_bound(codes, per=dynamic.per, clip=dynamic.clip, mask=kept, zero_point=zero_point)
            options = {"unit": dynamic.unit, "to": dynamic.range, "rounding": model.profile.rounding}
            codes = ops.quantize_dynamic(codes, bound, zero_point=zero_point, **options)
            step = float(form.scale.multiplier) / 2.0 ** float(form.scale.shift) / dynamic.unit
            wanted = codes * (bound * step) / dynamic.range.max
        else:
            new = model.formats[name]
            centred = codes.astype(np.int32) - np.asarray(zero_point, np.int32)
            rounding = model.profile.requantization
            codes = ops.requantize(
                centred, model.ratio(name), rounding=rounding, to=new.range, zero_point=new.zero_point
            )
            wanted = dequantize(codes, params(new, x.shape[-1]))
        assert np.array_equal(y, wanted), name
    integers = reals(model, values(model, feed))
    rows = feed.mask.astype(bool) if outline.result.of_token else slice(None)
    assert output.shape == integers.shape
    assert cosine(output[rows], integers[rows]) > 0.98


def reals(model: intsim.IntegerModel, output: NDArray[Any]) -> NDArray[np.float64]:
    """Return what the integers of an output stand for."""
    return dequantize(output, params(model.output_format, output.shape[-1]))


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


# ---- traces


@some_recipes
@every_kind
def test_a_trace_replays(family_model: MakesModel, tmp_path: Path, family: str, recipe: str) -> None:
    model = family_model(family, head_like(family, "masked-lm"), recipe)
    with intsim.trace("steps") as trace:
        model(**arguments(draw(model.config, 11, 2, 6)))
    write_trace(tmp_path / "trace", trace, model)
    names = {call.operator.__name__ for call in trace.calls.values()}
    comparison = replay(tmp_path / "trace", {name: getattr(ops, name) for name in names})
    assert comparison.first is None
    assert comparison.compared == len(trace.calls)
    for kind in names:

        def flipped(*operands: Any, kind: str = kind, **constants: Any) -> NDArray[Any]:
            return getattr(ops, kind)(*operands, **constants) ^ 1

        calls = [name for name, call in trace.calls.items() if call.operator.__name__ == kind]
        assert list(replay(trace, {kind: flipped}).differing) == calls


@some_recipes
@every_kind
def test_a_planted_change_is_named(family_model: MakesModel, family: str, recipe: str) -> None:
    model = family_model(family, "two-classes", recipe)
    with intsim.trace("steps") as trace:
        model(**arguments(draw(model.config, 12, 2, 6)))
    results = {name: call.result for name, call in trace.calls.items()}
    named = set()
    for name, call in trace.calls.items():
        if call.operator in named:
            continue
        for change, device in changes_of_call(call).items():
            if change == CONTROL or np.array_equal(planted := device(), call.result):
                continue
            result = diagnose(trace, results | {name: planted})
            assert result.comparison.first is not None
            assert (result.comparison.first.name, result.operator) == (name, call.operator.__name__)
            assert change in result.explain_all
            named.add(call.operator)
            break
    assert {ops.matmul, ops.requantize, ops.softmax, ops.add} <= named


def arguments(feed: Feed) -> Mapping[str, Any]:
    return {"input_ids": feed.ids, "attention_mask": feed.mask, "token_type_ids": feed.types}
