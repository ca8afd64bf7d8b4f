# SPDX-License-Identifier: Apache-2.0
"""Activation ranges, found by running the float reference model over text."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from intsim.io.huggingface import BertConfig
from intsim.io.tokenizer import Encoding, pad
from intsim.quantizers import RangeEstimator
from reference.models.bert import bert

__all__ = ["calibrate"]

BATCH: Final = 16


def calibrate(
    weights: Mapping[str, NDArray[np.float64]],
    config: BertConfig,
    encodings: Sequence[Encoding],
    estimators: Mapping[str, RangeEstimator],
    *,
    progress: bool = False,
) -> None:
    """Show every activation in ``estimators`` to its estimator, real tokens only, a batch of texts at a time.

    Parameters
    ----------
    weights, config
        The float model.
    encodings
        The tokens of each text.
    estimators
        Activation name -> the estimator that is updated.
    progress
        Whether to draw a progress bar on stderr.
    """
    starts = range(0, len(encodings), BATCH)
    for start in tqdm(starts, desc="calibrating", unit="batch", disable=not progress):
        batch = encodings[start : start + BATCH]
        ids, mask, types = pad(batch)

        def observe(name: str, x: NDArray[np.floating], mask: NDArray[np.bool_] = mask) -> NDArray[np.floating]:
            if name in estimators:
                estimators[name].update(x[mask] if x.ndim == 3 else x)
            return x

        bert(
            weights,
            ids,
            num_heads=config.num_attention_heads,
            num_layers=config.num_hidden_layers,
            hidden_act=config.hidden_act,
            eps=config.layer_norm_eps,
            attention_mask=mask,
            token_type_ids=types,
            observe=observe,
        )
