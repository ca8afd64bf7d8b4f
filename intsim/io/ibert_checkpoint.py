# SPDX-License-Identifier: Apache-2.0
"""Reads transformers' I-BERT as the BERT it is: a RoBERTa whose ``QuantAct`` buffers hold trained activation ranges."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from intsim.errors import CheckpointError

if TYPE_CHECKING:
    from intsim.io.huggingface import StoredTensor

__all__ = ["bert_tensors", "bert_values"]

ARCHITECTURES: Final = {"IBertModel": "BertModel", "IBertForSequenceClassification": "BertForSequenceClassification"}
HEAD: Final = {"classifier.dense": "pooler.dense", "classifier.out_proj": "classifier"}
LAYER: Final = "encoder.layer.*."
# QuantAct -> the activation that has its range
RANGES: Final = {
    "embeddings.embeddings_act1": "embeddings.sum",
    "embeddings.output_activation": "embeddings.LayerNorm",
    f"{LAYER}attention.self.query_activation": f"{LAYER}attention.self.query",
    f"{LAYER}attention.self.key_activation": f"{LAYER}attention.self.key",
    f"{LAYER}attention.self.value_activation": f"{LAYER}attention.self.value",
    f"{LAYER}attention.self.output_activation": f"{LAYER}attention.self.context",
    f"{LAYER}attention.output.ln_input_act": f"{LAYER}attention.output.sum",
    f"{LAYER}pre_intermediate_act": f"{LAYER}attention.output.LayerNorm",
    f"{LAYER}pre_output_act": f"{LAYER}intermediate",
    f"{LAYER}output.ln_input_act": f"{LAYER}output.sum",
    f"{LAYER}output.output_activation": f"{LAYER}output.LayerNorm",
}
DERIVED: Final = ("_integer", "_scaling_factor", ".shift")


def bert_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json of an I-BERT as that of a BERT with the positions that are used.

    RoBERTa counts positions from ``pad_token_id`` + 1, over the tokens that are no padding; a BERT counts columns. They
    agree where padding is on the right, and then it changes no token of either.

    Raises
    ------
    CheckpointError
        If the architecture is another, or the padding token leaves no positions.
    """
    names = values.get("architectures")
    if names not in [[name] for name in ARCHITECTURES]:
        msg = f"architectures in config.json must be one of {', '.join(ARCHITECTURES)} for an I-BERT, got {names}"
        raise CheckpointError(msg)
    padding, positions = values.get("pad_token_id", 1), values.get("max_position_embeddings")
    if type(padding) is not int or type(positions) is not int or not 0 <= padding < positions - 1:
        msg = f"pad_token_id in config.json must leave some of {positions} positions unused by padding, got {padding!r}"
        raise CheckpointError(msg)
    return {
        **values,
        "model_type": "bert",
        "architectures": [ARCHITECTURES[name] for name in names],
        "max_position_embeddings": positions - padding - 1,
    }


def bert_tensors(tensors: Mapping[str, "StoredTensor"], *, unused_positions: int) -> dict[str, "StoredTensor"]:
    """Return the stored tensors of an I-BERT under the names a BERT has.

    The head (``classifier.dense``, tanh, ``classifier.out_proj``) becomes pooler and classifier. The range of a
    ``QuantAct`` becomes ``{activation}.x_min`` and ``.x_max``. Of two in a row (``attention.output.output_activation``
    and ``pre_intermediate_act``, ``intermediate.output_activation`` and ``pre_output_act``) the second counts, whose
    codes the next product reads.

    What has no counterpart is left out: the 32-bit and 16-bit ranges inside LayerNorm and Softmax and LayerNorm's
    ``shift``, whose place the profile's fixed-point formats take; ``embeddings_act2``, which I-BERT never runs; and the
    codes and scales that are found again from the weights (``weight_integer``, ``fc_scaling_factor``, ...).

    Parameters
    ----------
    tensors
        Name in the file -> where it lies.
    unused_positions
        How many rows at the start of the position table no token has.
    """
    kept: dict[str, StoredTensor] = {}
    for name, stored in tensors.items():
        if (bare := _bert_name(name.removeprefix("ibert."))) is not None:
            position = bare == "embeddings.position_embeddings.weight"
            kept[bare] = _without_rows(stored, unused_positions) if position else stored
    return kept


def _bert_name(name: str) -> str | None:
    """Return the BERT's name of a tensor, None where it has none."""
    module, _, what = name.rpartition(".")
    if what in {"x_min", "x_max"}:
        index = next(iter(re.findall(r"(?<=encoder.layer.)\d+", module)), "")
        activation = RANGES.get(module.replace(f".{index}.", ".*.", 1))
        return activation and f"{activation.replace('*', index)}.{what}"
    return None if name.endswith(DERIVED) else f"{HEAD.get(module, module)}.{what}"


def _without_rows(stored: "StoredTensor", rows: int) -> "StoredTensor":
    """Return the table without its first rows."""
    if len(stored.shape) != 2 or stored.shape[0] < rows:
        return stored  # not a table of positions, and refused for its shape
    size = 4 if stored.dtype == "F32" else 2
    offset = stored.offset + rows * stored.shape[1] * size
    return replace(stored, shape=(stored.shape[0] - rows, stored.shape[1]), offset=offset)
