# SPDX-License-Identifier: Apache-2.0
"""ALBERT from rxnmapper: the folder reads reactions as the package does and fills in what is masked."""

import re
from pathlib import Path

import pytest
from real import rxnmapper
from real.float_model import load
from real.folder import package
from real.masking import recovery
from tokenizers import Tokenizer

# What SmilesTokenizer of rxnmapper 0.4.3 gives under transformers 4.57.6
IDS = {
    "CC(C)S.CN(C)C=O>>CC(C)Sc1ncccc1F": "12 16 16 17 16 18 34 24 16 23 17 16 18 16 22 19 29 16 16 17 16 18 34 15 20 25 "
    "15 15 15 15 20 27 13",
    "[1*]C=C.O>>*CCO": "12 11 16 22 16 24 19 29 256 16 16 19 13",
    "AAgCC[O-]~[Na+].BrCC>>C(C)COCC": "12 16 16 36 30 46 24 37 16 16 29 16 17 16 18 16 19 16 16 13",
    "C%12C [Xx] ->  c[MASK]c>>": "12 16 202 16 11 31 11 15 14 15 29 13",
    "CC[MASK]O": "12 16 16 14 19 13",
}


@pytest.fixture(scope="module")
def tokenizer(rxnmapper_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(rxnmapper_folder / "tokenizer.json"))


@pytest.mark.parametrize(("text", "ids"), IDS.items(), ids=list(IDS))
def test_the_tokenizer_gives_the_ids_of_the_packages_own(tokenizer: Tokenizer, text: str, ids: str) -> None:
    assert tokenizer.encode(text).ids == [int(index) for index in ids.split()]


def test_every_reaction_is_cut_by_the_packages_expression_and_has_no_unknown_token(tokenizer: Tokenizer) -> None:
    source = package("rxnmapper")
    assert source is not None
    [expression] = re.findall(r'SMI_REGEX_PATTERN = r"(.*)"', (source / "smiles_utils.py").read_text(encoding="utf-8"))
    [file] = source.rglob("vocab.txt")
    vocabulary = file.read_text(encoding="utf-8").splitlines()
    for reaction in rxnmapper.reactions():
        tokens = re.findall(expression, reaction)
        assert "".join(tokens) == reaction
        assert tokenizer.encode(reaction).ids == [vocabulary.index(token) for token in ("[CLS]", *tokens, "[SEP]")]


def test_a_thousand_tokens_of_a_hundred_reactions_are_masked_and_others_calibrate(rxnmapper_folder: Path) -> None:
    examples, texts = rxnmapper.masked_examples(rxnmapper_folder), rxnmapper.calibration_texts(rxnmapper_folder)
    assert len(examples) == 1000
    assert all(example.ids[example.position] == 14 != example.target for example in examples)
    assert len(set(rxnmapper.reactions())) == 140 == 100 + len(texts)
    assert all(text.count("[MASK]") == 1 for text in texts)


@pytest.mark.slow
def test_masked_tokens_of_reactions_are_recovered(rxnmapper_folder: Path) -> None:
    examples = rxnmapper.masked_examples(rxnmapper_folder)
    share = recovery(load(rxnmapper_folder, dtype="float32"), examples)
    print(f"rxnmapper: float recovers {100 * share:.1f}% of {len(examples)} masked tokens")
    assert share > 0.97  # C, the most frequent token, is a fifth of them
