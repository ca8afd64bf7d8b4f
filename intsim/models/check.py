# SPDX-License-Identifier: Apache-2.0
"""What is proved of an integer BERT before it runs: every tensor is there, and no operator can overflow."""

from intsim.errors import CheckpointError
from intsim.models.integer_model import IntegerModel
from intsim.models.widths import check_widths

__all__ = ["check_bert"]


def check_bert(model: IntegerModel) -> None:
    """Refuse a model whose tensors are missing or misshapen, or whose constants could overflow an operator.

    Raises
    ------
    CheckpointError
        Naming the tensor, the activation or the layer.
    """
    config, tensors = model.config, model.tensors
    channels, hidden = config["hidden_size"], config["intermediate_size"]
    names: set[str] = set()

    def tensor(name: str, dtype: str, *shapes: tuple[int, ...]) -> None:
        names.add(name)
        if name not in tensors:
            msg = f"integer checkpoint must hold tensor '{name}', got none of that name"
            raise CheckpointError(msg)
        values = tensors[name]
        if values.dtype != dtype or values.shape not in shapes:
            wanted = " or ".join(map(str, shapes))
            msg = f"tensor '{name}' must be {dtype} of shape {wanted}, got {values.dtype} of shape {values.shape}"
            raise CheckpointError(msg)

    def ratio(name: str, *shapes: tuple[int, ...]) -> None:
        tensor(f"{name}.multiplier", "int64", *shapes)
        tensor(f"{name}.shift", "int64", tensors[f"{name}.multiplier"].shape)
        try:
            model.ratio(name)
        except ValueError as error:
            msg = f"dyadic '{name}' must be valid, got: {error}"
            raise CheckpointError(msg) from None

    def codes(name: str, *, symmetric: bool = False) -> None:
        if name not in model.formats:
            msg = f"integer checkpoint must give activation '{name}' a format, got none"
            raise CheckpointError(msg)
        if symmetric and model.formats[name].zero_point != 0:
            msg = f"activation '{name}' must have zero point 0, got {model.formats[name].zero_point}"
            raise CheckpointError(msg)

    def dense(name: str, rows: int, columns: int) -> None:
        tensor(f"{name}.weight", "int8", (rows, columns))
        tensor(f"{name}.bias", "int32", (rows,))
        ratio(name, (), (rows,))

    def layer_norm(name: str) -> None:
        ratio(name, (channels,))
        tensor(f"{name}.bias", "int64", (channels,))
        tensor(f"{name}.eps", "int64", ())
        try:
            model.layer_norm_params(name)
        except ValueError as error:
            msg = f"LayerNorm '{name}' must have valid constants, got: {error}"
            raise CheckpointError(msg) from None
        codes(name)

    def residual(name: str, columns: int) -> None:
        dense(f"{name}.dense", channels, columns)
        ratio(f"{name}.residual", ())
        codes(f"{name}.sum")
        layer_norm(f"{name}.LayerNorm")

    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    for kind, size in tables.items():
        table = f"embeddings.{kind}_embeddings"
        tensor(f"{table}.weight", "int8", (config[size], channels))
        ratio(table, (), (channels,))
    codes("embeddings.sum")
    layer_norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        for part in ("query", "key", "value"):
            dense(f"{self}.{part}", channels, channels)
            codes(f"{self}.{part}", symmetric=True)
        ratio(f"{self}.scores", ())
        ratio(f"{self}.context", ())
        codes(f"{self}.context")
        residual(f"{layer}.attention.output", channels)
        dense(f"{layer}.intermediate.dense", hidden, channels)
        ratio(f"{layer}.intermediate", ())
        codes(f"{layer}.intermediate")
        residual(f"{layer}.output", hidden)
    if model.has_classifier:
        labels = len(config["labels"])
        dense("pooler.dense", channels, channels)
        ratio("pooler", ())
        codes("pooler")
        dense("classifier", labels, channels)
        codes("classifier", symmetric=True)
    if unexpected := sorted(tensors.keys() - names):
        msg = f"integer checkpoint must hold the tensors of its model only, got '{unexpected[0]}'"
        raise CheckpointError(msg)
    if not model.has_classifier:
        codes(f"encoder.layer.{config['num_hidden_layers'] - 1}.output.LayerNorm", symmetric=True)
    check_widths(model)
