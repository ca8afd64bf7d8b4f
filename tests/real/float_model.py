# SPDX-License-Identifier: Apache-2.0
"""The float model of a folder as transformers runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def load(folder: Path, *, dtype: str = "float64") -> Callable[..., NDArray[Any]]:
    """Return a function from ids (B, T), and a mask where some are padding, to the model's first output.

    The class is the one ``architectures`` names. No tensor may be missing; what it has no use for is an unused pooler.
    """
    torch = pytest.importorskip("torch", reason="needs torch (pip install 'intsim[kernels]')")
    transformers = pytest.importorskip("transformers", reason="needs transformers (pip install 'intsim[kernels]')")
    [architecture] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    model, report = getattr(transformers, architecture).from_pretrained(
        folder, dtype=getattr(torch, dtype), output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert all(".pooler." in name for name in report["unexpected_keys"])
    model.eval()

    def predict(ids: NDArray[np.int64], mask: NDArray[np.int64] | None = None) -> NDArray[Any]:
        mask = np.ones_like(ids) if mask is None else mask
        with torch.no_grad():
            return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))[0].numpy()

    return predict
