# SPDX-License-Identifier: Apache-2.0
"""A BERT laid out as other families gives what it gave: minilm-sst2, in float64, as transformers runs each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from real import relaid
from real.float_model import load
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Relaid = Callable[[str], Path]
SENTENCES = 32


class Batch(NamedTuple):
    ids: NDArray[np.int64]  # (B, T), padded on the right
    mask: NDArray[np.int64]
    hidden: NDArray[np.float64]  # (B, T, C), the float BERT's
    logits: NDArray[np.float64]  # (B, 2)


@pytest.fixture(scope="module")
def source(shared: Path) -> Path:
    return shared / "models" / "minilm-sst2"


@pytest.fixture(scope="module")
def batch(source: Path, shared: Path) -> Batch:
    torch = pytest.importorskip("torch", reason="needs torch (pip install 'intsim[kernels]')")
    transformers = pytest.importorskip("transformers", reason="needs transformers (pip install 'intsim[kernels]')")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_padding()  # to the longest
    lines = (shared / "data" / "SST-2" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    encodings = tokenizer.encode_batch([line.split("\t")[1] for line in lines[1 : SENTENCES + 1]])
    ids = np.array([encoding.ids for encoding in encodings], np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
    assert 0 < mask.sum() < mask.size
    model = transformers.BertForSequenceClassification.from_pretrained(source, dtype=torch.float64).eval()
    with torch.no_grad():
        output = model(
            input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), output_hidden_states=True
        )
    return Batch(ids, mask, output.hidden_states[-1].numpy(), output.logits.numpy())


@pytest.mark.slow
def test_roberta_gives_the_logits_of_bert_to_the_last_bit(relaid_sst2: Relaid, batch: Batch) -> None:
    np.testing.assert_array_equal(load(relaid_sst2("roberta"))(batch.ids, batch.mask), batch.logits)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "most"), [("distilbert", 0), ("electra", 0), ("electra-projected", 1e-12)])
def test_an_encoder_gives_the_hidden_states_of_bert(
    relaid_sst2: Relaid, batch: Batch, source: Path, family: str, most: float
) -> None:
    hidden = load(relaid_sst2(family))(batch.ids, batch.mask)
    real = batch.mask == 1
    np.testing.assert_allclose(hidden[real], batch.hidden[real], rtol=0, atol=most)
    np.testing.assert_allclose(relaid.logits(hidden, source), batch.logits, rtol=0, atol=1e-12)


def test_a_word_and_token_type_0_are_one_float32_exactly(relaid_sst2: Relaid, source: Path) -> None:
    before = {name: array.astype(np.float64) for name, array in _embeddings(source).items()}
    after = _embeddings(relaid_sst2("distilbert"))
    assert set(before) - set(after) == {"token_type_embeddings.weight"}
    sums = before["word_embeddings.weight"] + before["token_type_embeddings.weight"][0]
    assert after["word_embeddings.weight"].dtype == np.float32
    np.testing.assert_array_equal(after["word_embeddings.weight"], sums)


def test_robertas_first_position_follows_the_padding_id(relaid_sst2: Relaid, source: Path) -> None:
    before, after = _embeddings(source), _embeddings(relaid_sst2("roberta"))
    assert not after["position_embeddings.weight"][0].any()
    np.testing.assert_array_equal(after["position_embeddings.weight"][1:], before["position_embeddings.weight"])
    np.testing.assert_array_equal(after["token_type_embeddings.weight"], before["token_type_embeddings.weight"][:1])
    assert {array.dtype for array in after.values()} == {np.dtype(np.float16)}


def _embeddings(folder: Path) -> dict[str, NDArray[Any]]:
    tensors = load_file(folder / "model.safetensors")
    return {name.partition("embeddings.")[2]: array for name, array in tensors.items() if "embeddings." in name}
