# SPDX-License-Identifier: Apache-2.0
"""Models that embed sentences: as sentence-transformers has them among floats, as the oracle has them on integers."""

import importlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import families
import numpy as np
import oracle_trace
import pytest
from numpy.typing import NDArray

import intsim
from intsim import ops
from intsim.carrier import blocks
from intsim.convert import simulation
from intsim.errors import CheckpointError, IntsimError
from intsim.io import onnx as exporter
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer, read_tokenizer
from intsim.io.trace_file import read_trace, write_trace
from intsim.models.check import check
from intsim.models.widths import widths
from intsim.reference.world import run
from intsim.report.evaluate import evaluate, read_task
from intsim.report.report import report
from intsim.testing import assert_bit_exact
from intsim.verify.bugs import CONTROL, changes_of_call

HEAD = "sentence-embedding"
KEYS = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
FAMILIES = ("bert", "roberta", "distilbert", "mobilebert")
every_mode = pytest.mark.parametrize("pooling", KEYS)
TEXTS = ["a good movie.", "the plot is not bad", "a", "not a good plot, the movie is bad."]


def embedder(path: Path, family: str, pooling: str, *, normalize: bool) -> Path:
    """Write a tiny checkpoint with the files of sentence-transformers."""
    families.tiny(family, "none", path)
    kinds = ["Transformer", "Pooling", *["Normalize"] * normalize]
    (path / "modules.json").write_text(
        json.dumps(
            [
                {
                    "idx": i,
                    "name": str(i),
                    "path": f"{i}_{kind}" if i else "",
                    "type": f"sentence_transformers.models.{kind}",
                }
                for i, kind in enumerate(kinds)
            ]
        )
    )
    (path / "1_Pooling").mkdir()
    flags = {f"pooling_mode_{key}": mode == pooling for mode, key in KEYS.items()}
    (path / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 20, **flags}))
    return path


def feed(config: Any, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return ids, mask and types, a row each without padding, padded on the right, on the left, and one token long."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(7, 60, (4, 9))
    mask = np.ones((4, 9), bool)
    mask[1, 6:], mask[2, :4], mask[3, 1:] = False, False, False
    ids[~mask] = config.pad_token_id
    return ids, mask, rng.integers(0, config.type_vocab_size, ids.shape) * mask


def floats(checkpoint: Checkpoint, ids: Any, mask: Any, types: Any, dtype: Any = np.float64) -> NDArray[Any]:
    weights = {name: checkpoint.load(name, dtype) for name in checkpoint.names}
    inputs = {"attention_mask": mask, "token_type_ids": types}
    return run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, **inputs)


def theirs(path: Path, dtype: str = "float64") -> Any:
    try:
        torch, package = importlib.import_module("torch"), importlib.import_module("sentence_transformers")
    except ImportError as error:
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            raise
        pytest.skip(f"{error}; pip install '.[kernels]'")
    options = {"dtype": getattr(torch, dtype), "attn_implementation": "eager"}
    return package.SentenceTransformer(str(path), device="cpu", model_kwargs=options)


def their_embeddings(model: Any, ids: Any, mask: Any, types: Any) -> NDArray[Any]:
    torch = importlib.import_module("torch")
    inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    inputs |= {"token_type_ids": types} if types.any() else {}
    with torch.no_grad():
        return model({name: torch.tensor(x) for name, x in inputs.items()})["sentence_embedding"].numpy()


# ---- floats


@every_mode
@pytest.mark.parametrize("family", FAMILIES)
def test_the_float_world_is_sentence_transformers_in_float64(tmp_path, family, pooling):
    path = embedder(tmp_path / "model", family, pooling, normalize=family != "roberta")
    checkpoint = open_checkpoint(path, head=HEAD)
    assert (checkpoint.config.pooling, checkpoint.config.normalize) == (pooling, family != "roberta")
    inputs = feed(checkpoint.config)
    ours = floats(checkpoint, *inputs)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, their_embeddings(theirs(path), *inputs), rtol=0, atol=1e-12)


def test_a_text_is_read_pooled_and_normalized_as_sentence_transformers_does(minilm):
    model = theirs(minilm, "float32")
    checkpoint = open_checkpoint(minilm, head=HEAD)
    tokenizer = parse_tokenizer(read_tokenizer(minilm, head=HEAD))
    texts = [*TEXTS, "word " * 300]  # the last is cut to 256 tokens
    inputs = pad([encode(tokenizer, text, longest=checkpoint.config.longest, truncate=True) for text in texts])
    assert inputs[0].shape == (5, 256)
    expected = model.encode(texts)
    np.testing.assert_allclose(floats(checkpoint, *inputs, dtype=np.float32), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(floats(checkpoint, *inputs), expected, rtol=0, atol=1e-6)
    with pytest.raises(IntsimError, match="at most 256 tokens"):
        encode(tokenizer, texts[-1], longest=checkpoint.config.longest)


# ---- integers


CASES = [
    ("bert", "mean", True, "intsim"),
    ("bert", "cls", True, "ibert"),
    ("bert", "last", False, "w4a8"),
    ("electra", "cls", False, "peg"),
    ("bert", "last", True, "peg"),
    ("distilbert", "mean", False, "zeroquant"),
    ("albert", "mean", True, "peg"),
    ("albert", "last", True, "q8bert-dq"),
]
some_models = pytest.mark.parametrize(("family", "pooling", "normalize", "recipe"), CASES)


@pytest.fixture
def model(tmp_path, family, pooling, normalize, recipe):
    path = embedder(tmp_path / "model", family, pooling, normalize=normalize)
    return intsim.quantize(path, head=HEAD, recipe=recipe, calibration=TEXTS)


def values(model: intsim.IntegerModel, ids: Any, mask: Any, types: Any, **options: Any) -> NDArray[Any]:
    return model(ids, attention_mask=mask, token_type_ids=types, **options).values


@some_models
def test_every_integer_is_that_of_the_oracle(model, tmp_path):
    with intsim.trace("steps") as trace:
        found = values(model, *feed(model.config))
    assert_bit_exact(values(model, *feed(model.config)), found)  # by fused steps
    assert_bit_exact(values(model, *feed(model.config), carrier="integer"), found)
    write_trace(tmp_path / "trace", trace, model)
    assert oracle_trace.judge(tmp_path / "trace") == []
    again, _ = read_trace(tmp_path / "trace")
    for call in again.calls.values():
        assert_bit_exact(call.operator(*call.operands, **call.constants), call.result, name=call.name)
    scales = {entry["name"]: entry for entry in manifest(tmp_path / "trace")}
    if model.config.normalize:
        call = trace.calls["normalize"]
        assert np.array_equal(changes_of_call(call)[CONTROL](), call.result)
        assert (scales["normalize"]["scale"], scales["normalize"]["zero_point"]) == ("1/65536", 0)
    assert scales["pooling"]["scale"] == scales[model.outline.activations["pooling"].like]["scale"]


def manifest(file: Path) -> Any:
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(file, "numpy") as opened:
        return json.loads(opened.metadata()["intsim"])["trace"]


@some_models
def test_a_sentence_gives_the_same_alone_among_others_and_by_any_number_of_threads(model, monkeypatch):
    ids, mask, types = feed(model.config)
    together = values(model, ids, mask, types)
    alone = [values(model, *(x[i : i + 1] for x in (ids, mask, types)))[0] for i in range(4)]
    assert_bit_exact(np.stack(alone), together)
    for i in (0, 1, 3):  # without the padding on the right
        own = [x[i : i + 1, : mask[i].sum()] for x in (ids, mask, types)]
        assert_bit_exact(values(model, *own)[0], together[i])
    monkeypatch.setattr("intsim.carrier.blocks.FEW", 0)
    for threads in (2, 3, 9):
        monkeypatch.setattr(blocks, "THREADS", threads)
        shared = [values(model, *(x[i : i + 1] for x in (ids, mask, types)))[0] for i in range(4)]
        assert_bit_exact(np.stack(shared), together)
        assert_bit_exact(values(model, ids, mask, types), together)


@some_models
def test_widths_contain_what_is_seen_and_the_file_gives_the_model(model, tmp_path):
    proved = widths(model)
    with intsim.trace("steps") as trace:
        values(model, *feed(model.config))
    assert list(proved) == list(trace)
    for name, integers in trace.items():
        assert proved[name].min <= integers.min(), name
        assert integers.max() <= proved[name].max, name
        assert proved[name].dtype == integers.dtype, name
    if model.config.normalize:
        assert (proved["normalize"].min, proved["normalize"].max) == (-(2**16), 2**16)
    model.save(tmp_path / "integer")
    again = intsim.load(tmp_path / "integer")
    assert again.config == model.config
    assert_bit_exact(values(again, *feed(model.config)), values(model, *feed(model.config)))


@some_models
def test_onnx_runtime_gives_every_integer(model, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    runtime = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    exporter.export(model, tmp_path / "model.onnx")
    inputs = feed(model.config)
    with intsim.trace() as trace:
        values(model, *inputs)
    proto = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"), strict_mode=True, data_prop=True)
    known = {info.name for info in proto.graph.output}
    proto.graph.output.extend(i for i in proto.graph.value_info if i.name in trace and i.name not in known)
    engine = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in engine.get_outputs()]
    assert sorted(names) == sorted(trace)
    fed = dict(
        zip(("input_ids", "attention_mask", "token_type_ids"), (x.astype(np.int64) for x in inputs), strict=True)
    )
    for name, found in zip(names, engine.run(None, fed), strict=True):
        assert_bit_exact(found, trace[name], name=name)


@every_mode
@pytest.mark.parametrize(("normalize", "recipe"), [(False, "intsim"), (True, "intsim"), (True, "peg")])
def test_integers_and_their_simulation_are_near_the_floats_channel_by_channel(tmp_path, pooling, normalize, recipe):
    path = embedder(tmp_path / "model", "bert", pooling, normalize=normalize)
    model = intsim.quantize(path, head=HEAD, recipe=recipe, calibration=TEXTS)
    assert ("order" in model.tensors) == (recipe == "peg")
    checkpoint = open_checkpoint(path, head=HEAD)
    tokenizer = parse_tokenizer(read_tokenizer(path, head=HEAD))
    inputs = pad([encode(tokenizer, text, longest=40) for text in TEXTS])
    result = model(inputs[0], attention_mask=inputs[1], token_type_ids=inputs[2])
    reals = np.ldexp(result.values.astype(np.float64), -int(result.scale.shift)) * int(result.scale.multiplier)
    exact, simulated = floats(checkpoint, *inputs), simulation(path, model)(*inputs)
    for found in (reals, simulated):
        assert np.abs(found - exact).max() < 0.2 * np.abs(exact).max()
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(reals, axis=-1), 1, rtol=0, atol=1e-4)


def test_a_mean_that_is_not_normalized_is_what_tasks_made_of_a_model_without_a_head(tmp_path):
    path = embedder(tmp_path / "model", "bert", "mean", normalize=False)
    with_head, without = (intsim.quantize(path, head=head, calibration=TEXTS) for head in (HEAD, None))
    assert without.head == "none"
    ids, mask, types = feed(with_head.config)
    hidden = values(without, ids, mask, types)
    assert_bit_exact(values(with_head, ids, mask, types), ops.mean_pooling(hidden, mask, profile=without.profile))


def test_a_text_without_a_token_is_refused(tmp_path):
    path = embedder(tmp_path / "model", "bert", "mean", normalize=True)
    model = intsim.quantize(path, head=HEAD, calibration=TEXTS)
    with pytest.raises(IntsimError, match="a token in every text to pool it or go on from it"):
        model([[2, 7, 3], [2, 7, 3]], attention_mask=[[1, 1, 1], [0, 0, 0]])


def test_another_format_of_the_pooled_vector_is_refused(tmp_path):
    path = embedder(tmp_path / "model", "bert", "mean", normalize=True)
    model = intsim.quantize(path, head=HEAD, calibration=TEXTS)
    model.formats["pooling"] = model.formats["embeddings.sum"]
    with pytest.raises(CheckpointError, match="activation 'pooling' must have the format of"):
        check(model)


# ---- tasks


def write_pairs(file: Path) -> Path:
    rows = [("main", "f", "y", str(i), str(i % 6), a, b) for i, (a, b) in enumerate(pairwise(TEXTS))]
    file.write_text("".join("\t".join(row) + "\n" for row in rows))
    return file


@every_mode
def test_tasks_pool_a_model_without_a_head_as_its_files_say(tmp_path, pooling):
    path = embedder(tmp_path / "model", "bert", pooling, normalize=False)
    examples = read_task("stsb", write_pairs(tmp_path / "pairs"))
    without, with_head = (intsim.quantize(path, head=head, calibration=TEXTS) for head in (None, HEAD))
    assert (without.head, without.config.pooling, without.config.normalize) == ("none", pooling, False)
    results = [evaluate(model, "stsb", examples, reference=path) for model in (without, with_head)]
    assert results[0].digest == results[1].digest
    for found in ("metrics", "reference"):  # a scale apart
        assert getattr(results[0], found) == pytest.approx(getattr(results[1], found))
    errors = report(path, ["intsim"], "stsb", examples, calibration=TEXTS)
    assert errors.reference == pytest.approx(results[0].reference)
    assert errors.recipes[0].metrics == pytest.approx(results[0].metrics)
    assert 0 < errors.recipes[0].errors[-1].squared < 0.05


def test_stages_of_the_error_of_an_embedding_end_in_its_integers(tmp_path):
    from intsim._trace import interpreted_by  # noqa: PLC0415
    from intsim.report.error_split import stages  # noqa: PLC0415

    for pooling in KEYS:
        path = embedder(tmp_path / pooling, "bert", pooling, normalize=True)
        model = intsim.quantize(path, head=HEAD, calibration=TEXTS)
        inputs = feed(model.config)
        exact = values(model, *inputs)
        found = []
        for interpreter in stages(model).values():
            with interpreted_by(interpreter):
                found.append(np.asarray(values(model, *inputs), np.float64))
        assert np.array_equal(found[-1], exact)
        assert np.abs(found[0] - exact).max() < 0.25 * 2**16
        np.testing.assert_allclose(np.linalg.norm(found[0], axis=-1), 2**16, rtol=1e-4)


@pytest.mark.slow
def test_minilm_ranks_sts_b_like_the_float_model(minilm, shared):
    examples = read_task("stsb", shared / "data" / "STS-B" / "sts-dev.csv")[:300]
    model = intsim.quantize(minilm, head=HEAD)
    result = evaluate(model, "stsb", examples, reference=minilm)
    print(
        f"STS-B, first 300 of dev: float {result.reference['spearman']:.4f}, integers {result.metrics['spearman']:.4f}"
    )
    assert result.metrics["spearman"] > result.reference["spearman"] - 0.005
