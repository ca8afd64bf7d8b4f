# SPDX-License-Identifier: Apache-2.0
"""RoBERTa from sapiens: the folder gives the probabilities that the package publishes and fills in what is masked."""

import json
from pathlib import Path

import numpy as np
import pytest
from real import sapiens
from real.float_model import load
from real.masking import recovery
from safetensors.numpy import load_file
from scipy.special import softmax
from tokenizers import Tokenizer

CHAIN = (  # pembrolizumab's but for four residues: the example of the package's README
    "**QLV*SGVEVKKPGASVKVSCKASGYTFTNYYMYWVRQAPGQGLEWMGGINPSNGGTNFNEKFKNRVTLTTDSSTTTAYMELKSLQFDDTAVYYCARRDYRFDMGFDYWGQG"
    "TTVTVSS"
)
PUBLISHED = [  # of A, C, D and E at the first five residues
    [0.003272, 0.004147, 0.004011, 0.004590],
    [0.012038, 0.003854, 0.006803, 0.008174],
    [0.003384, 0.003895, 0.003726, 0.004068],
    [0.004612, 0.005325, 0.004443, 0.004641],
    [0.005519, 0.003664, 0.003555, 0.005269],
]


@pytest.fixture(scope="module")
def tokenizer(sapiens_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(sapiens_folder / "tokenizer.json"))


def test_probabilities_are_the_published_ones(sapiens_folder: Path, tokenizer: Tokenizer) -> None:
    ids = np.array([tokenizer.encode(CHAIN).ids], np.int64)
    probabilities = softmax(load(sapiens_folder)(ids)[0, 1:-1], axis=-1)
    columns = [tokenizer.token_to_id(residue) for residue in "ACDE"]
    np.testing.assert_allclose(probabilities[:5, columns], PUBLISHED, rtol=0, atol=6e-7)
    best = [tokenizer.id_to_token(index) for index in probabilities.argmax(axis=-1).tolist()]
    filled = "".join(new if old == "*" else old for old, new in zip(CHAIN, best, strict=True))
    assert filled == "QVQLVQ" + CHAIN[6:]


def test_an_x_a_star_and_the_mask_are_one_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("X*<mask>AYJ").ids == [0, 24, 24, 24, 4, 23, 3, 2]


def test_token_types_are_one_row_of_zeros_and_positions_start_at_2(sapiens_folder: Path) -> None:
    config = json.loads((sapiens_folder / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(sapiens_folder / "model.safetensors")
    types = tensors["roberta.embeddings.token_type_embeddings.weight"]
    assert types.shape == (1, 128)
    assert not types.any()
    assert config["pad_token_id"] == 1
    assert config["max_position_embeddings"] == 146 == len(tensors["roberta.embeddings.position_embeddings.weight"])


def test_a_thousand_residues_of_32_chains_are_masked_and_others_calibrate(sapiens_folder: Path) -> None:
    examples, texts = sapiens.masked_examples(sapiens_folder), sapiens.calibration_texts(sapiens_folder)
    assert len(examples) == 1024
    assert all(example.ids[example.position] == 24 and 4 <= example.target < 24 for example in examples)
    assert len(texts) == 32
    assert all(text.count("<mask>") == 1 for text in texts)
    assert len(set(sapiens.chains())) == 40
    assert set("".join(sapiens.chains())) == set("ACDEFGHIKLMNPQRSTVWY")


@pytest.mark.slow
def test_masked_residues_of_heavy_chains_are_recovered(sapiens_folder: Path) -> None:
    examples = sapiens.masked_examples(sapiens_folder)
    share = recovery(load(sapiens_folder, dtype="float32"), examples)
    print(f"sapiens: float recovers {100 * share:.1f}% of {len(examples)} masked residues")
    assert share > 0.8  # one in twenty by chance
