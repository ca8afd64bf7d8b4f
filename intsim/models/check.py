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
            model.ratios(name)
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

    def reads(name: str, columns: int) -> None:  # a product's input, where it is not the activation itself
        if name in model.formats:
            ratio(name, (), (columns,))

    def dense(name: str, rows: int, columns: int, read: str, rescaled: str | None = None) -> None:
        tensor(f"{name}.weight", "int8", (rows, columns))
        dynamic = read in model.dynamic
        stacked = [(groups, rows) for groups in range(2, columns + 1) if columns % groups == 0 and not dynamic]
        tensor(f"{name}.bias", "int64" if dynamic else "int32", (rows,), *stacked)
        groups = len(tensors[f"{name}.bias"]) if tensors[f"{name}.bias"].ndim > 1 else None
        shapes = [(), (rows,)] if groups is None else [(groups, 1), (groups, rows)]
        ratio(rescaled or name, *shapes)

    def layer_norm(name: str, source: str) -> None:
        codes(source)
        if model.formats[source].groups > 1:
            ratio(f"{source}.wide", (channels,))
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
        reads(f"{name}.input", columns)
        dynamic = f"{name}.input" in model.dynamic
        dense(f"{name}.dense", channels, columns, f"{name}.input", f"{name}.dense.wide" if dynamic else None)
        if dynamic:
            ratio(f"{name}.dense", (), (channels,))
        ratio(f"{name}.residual", (), (channels,))
        layer_norm(f"{name}.LayerNorm", f"{name}.sum")

    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    for kind, size in tables.items():
        table = f"embeddings.{kind}_embeddings"
        tensor(f"{table}.weight", "int8", (config[size], channels))
        ratio(table, (), (channels,))
    layer_norm("embeddings.LayerNorm", "embeddings.sum")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        self = f"{layer}.attention.self"
        reads(f"{self}.input", channels)
        for part in ("query", "key", "value"):
            dense(f"{self}.{part}", channels, channels, f"{self}.input")
            codes(f"{self}.{part}")
        ratio(f"{self}.scores", ())
        ratio(f"{self}.context", (), (channels,))
        codes(f"{self}.context")
        residual(f"{layer}.attention.output", channels)
        reads(f"{layer}.intermediate.input", channels)
        dense(f"{layer}.intermediate.dense", hidden, channels, f"{layer}.intermediate.input")
        ratio(f"{layer}.intermediate", (), (hidden,))
        codes(f"{layer}.intermediate")
        residual(f"{layer}.output", hidden)
    if model.has_classifier:
        labels = len(config["labels"])
        reads("pooler.input", channels)
        dense("pooler.dense", channels, channels, "pooler.input")
        ratio("pooler", (), (channels,))
        codes("pooler")
        reads("classifier.input", channels)
        dense("classifier", labels, channels, "classifier.input")
        codes("classifier", symmetric=True)
    if "order" in tensors:
        tensor("order", "int64", (channels,))
        if sorted(tensors["order"].tolist()) != list(range(channels)):
            msg = "tensor 'order' must be a permutation of the channels, got another"
            raise CheckpointError(msg)
    if unexpected := sorted(tensors.keys() - names):
        msg = f"integer checkpoint must hold the tensors of its model only, got '{unexpected[0]}'"
        raise CheckpointError(msg)
    if not model.has_classifier:
        codes(f"encoder.layer.{config['num_hidden_layers'] - 1}.output.LayerNorm", symmetric=True)
    check_widths(model)
