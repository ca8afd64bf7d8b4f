# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct from its GGUF file: floats and tokens are transformers', integers those of ONNX Runtime."""

import importlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from real import smollm2

import intsim
from intsim.io.huggingface import open_checkpoint
from intsim.io.onnx import export
from intsim.io.tokenizer import parse_tokenizer, read_tokenizer
from intsim.reference.world import run
from intsim.testing import assert_bit_exact

pytestmark = pytest.mark.slow

TEXTS: Final = (
    "Once upon a time there was a little girl who could not sleep, and so she counted to 12345.",
    "<|im_start|>user\nWhat's the capital of Österreich?<|im_end|>\n<|im_start|>assistant\n",
    "def f(x):\n\treturn  x ** 2   # naïve — “quoted”\r\n日本語 🎉",
)


def test_the_float_model_has_the_logits_of_transformers(smollm2_file: Path) -> None:
    torch = importlib.import_module("torch")
    tokenizer = parse_tokenizer(read_tokenizer(smollm2_file))
    file = open_checkpoint(smollm2_file)
    weights = {name: file.load(name, np.float32) for name in file.names}
    model = smollm2.float_model(smollm2_file)
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids])
        mask, types = np.ones_like(ids, bool), np.zeros_like(ids)
        ours = run(file.family, weights, file.config, file.head, ids, attention_mask=mask, token_type_ids=types)
        with torch.no_grad():
            theirs = model(torch.tensor(ids)).logits.numpy()
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
        np.testing.assert_array_equal(ours.argmax(axis=-1), theirs.argmax(axis=-1))


@pytest.mark.parametrize("text", TEXTS)
def test_its_tokens_are_those_of_transformers(smollm2_file: Path, text: str) -> None:
    transformers = importlib.import_module("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2_file.parent, gguf_file=smollm2_file.name)
    ours = parse_tokenizer(read_tokenizer(smollm2_file))
    assert ours.encode(text).ids == theirs(text)["input_ids"]
    assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_its_prefill_is_that_of_onnx_runtime(smollm2_onnx: tuple[intsim.IntegerModel, Any], left: bool) -> None:
    model, engine = smollm2_onnx
    tokenizer = parse_tokenizer(model.tokenizer or "")
    texts = [tokenizer.encode(text).ids for text in TEXTS]
    mask = np.arange(max(map(len, texts))) < np.array([*map(len, texts)])[:, None]
    mask = mask[:, ::-1] if left else mask
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(texts)
    for rows in (slice(None), slice(1)):
        feed = {"input_ids": ids[rows], "attention_mask": mask[rows].astype(np.int64)}
        types = np.zeros_like(ids[rows])
        found = engine.run(None, {**feed, "token_type_ids": types})[0]
        assert_bit_exact(found, model(ids[rows], attention_mask=feed["attention_mask"]).values)


@pytest.fixture(scope="module")
def smollm2_onnx(smollm2_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[intsim.IntegerModel, Any]:
    """Return the integer model, and the session of its export."""
    runtime = importlib.import_module("onnxruntime")
    model = intsim.quantize(smollm2_file, recipe="zeroquant", profile="intsim-wide", calibration=TEXTS)
    file = tmp_path_factory.mktemp("smollm2") / "model.onnx"
    export(model, file)
    options = runtime.SessionOptions()
    options.enable_mem_reuse = False
    return model, runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
