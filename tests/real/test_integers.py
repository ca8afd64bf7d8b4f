# SPDX-License-Identifier: Apache-2.0
"""Integer models of other families, on real checkpoints: as good as BERT where they are BERT, and as their floats."""

from collections.abc import Callable
from pathlib import Path

import pytest
from real import rxnmapper, sapiens
from real.figures import recovery, sst2, tagging

pytestmark = pytest.mark.slow


def test_a_bert_in_other_layouts_is_as_accurate_on_integers(shared: Path, relaid_sst2: Callable[[str], Path]) -> None:
    assert shared.is_dir()
    bert, *others = sst2(relaid_sst2)
    assert bert.integers > 88
    assert {figure.family for figure in others} == {"roberta", "distilbert", "electra"}
    for figure in others:
        assert abs(figure.integers - bert.integers) <= 0.3, figure


def test_an_albert_finds_masked_tokens_as_its_float_model_does(rxnmapper_folder: Path) -> None:
    figure = recovery(rxnmapper, rxnmapper_folder, "albert")
    assert figure.integers >= figure.reference - 2, figure


def test_a_roberta_finds_masked_tokens_as_its_float_model_does(sapiens_folder: Path) -> None:
    figure = recovery(sapiens, sapiens_folder, "roberta")
    assert figure.integers >= figure.reference - 2, figure


def test_a_distilbert_tags_as_its_float_model_does(shared: Path, quire_folder: Path) -> None:
    assert shared.is_dir()
    for figure in tagging(quire_folder):
        assert figure.integers >= 98, figure
