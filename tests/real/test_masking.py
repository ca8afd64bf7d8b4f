# SPDX-License-Identifier: Apache-2.0
"""The pieces that the real checkpoints are made and measured with."""

from pathlib import Path

import numpy as np
import pytest
from real.folder import PACKAGES, package
from real.masking import MaskedExample, masked, recovery
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

VOCABULARY = {"<s>": 0, "<mask>": 1, "a": 2, "b": 3, "c": 4}


@pytest.fixture
def letters() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(VOCABULARY))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def test_one_token_of_a_text_is_masked_and_none_that_is_special(letters: Tokenizer) -> None:
    examples = masked(["a b c", "c"], letters, mask="<mask>", per_text=3)
    assert examples == [
        MaskedExample([0, 1, 3, 4], 1, 2),
        MaskedExample([0, 2, 1, 4], 2, 3),
        MaskedExample([0, 2, 3, 1], 3, 4),
        MaskedExample([0, 1], 1, 4),
    ]


def test_a_seed_draws_the_same_positions_and_another_seed_others(letters: Tokenizer) -> None:
    def draw(seed: int) -> list[MaskedExample]:
        return masked(["a b c a b c a b c"] * 4, letters, mask="<mask>", per_text=2, seed=seed)

    assert draw(0) == draw(0) != draw(1)
    assert len(draw(0)) == 8


def test_recovery_is_the_share_of_targets_that_score_highest_at_their_positions() -> None:
    examples = [MaskedExample([0, 1], 1, 3), MaskedExample([0, 1], 1, 4), MaskedExample([0, 2, 1], 2, 3)]
    seen = []

    def always_b(ids: np.ndarray) -> np.ndarray:
        seen.append(ids.tolist())
        scores = np.zeros((*ids.shape, len(VOCABULARY)))
        scores[:, -1, VOCABULARY["b"]] = 1  # at the mask only
        return scores

    assert recovery(always_b, examples) == 2 / 3
    assert seen == [[[0, 1], [0, 1]], [[0, 2, 1]]]  # neighbours of one length at a time


def test_a_package_is_found_where_it_is_unpacked_and_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "__init__.py").write_text("raise RuntimeError")
    assert package("weights") is None
    monkeypatch.setenv(PACKAGES, str(tmp_path))
    assert package("weights") == tmp_path / "weights"
    assert package("pytest") == Path(pytest.__file__).parent  # installed
