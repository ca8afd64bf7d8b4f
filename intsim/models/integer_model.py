# SPDX-License-Identifier: Apache-2.0
"""The integer model: integer tensors, the formats of its activations, and the profile that runs them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.carrier.blocks import cores_for
from intsim.carrier.exact import Carrier, Integers
from intsim.errors import IntsimError
from intsim.fixedpoint import Dyadic, IntRange
from intsim.ops import LayerNormParams, argmax
from intsim.profile import Profile

__all__ = ["Dynamic", "Format", "IntegerModel", "Result"]

T = TypeVar("T")
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What the codes of an activation stand for: real = (code - zero_point) * scale.

    Parameters
    ----------
    range
        The codes.
    zero_point
        Code that stands for 0; one for each group of consecutive channels, where there are several.
    scale
        Real step, as an exact dyadic rational; 0-d, or one for each group. The integer model never uses it; whoever
        reads its integers does.
    """

    range: IntRange
    zero_point: int | tuple[int, ...]
    scale: Dyadic

    def __post_init__(self) -> None:
        shape = (len(self.zero_point),) if isinstance(self.zero_point, tuple) else ()
        if self.scale.multiplier.shape != shape:
            msg = f"scale must be one for each zero point, got shape {self.scale.multiplier.shape} for {shape}"
            raise ValueError(msg)
        for zero_point in self.zero_point if isinstance(self.zero_point, tuple) else (self.zero_point,):
            if type(zero_point) is not int or not self.range.min <= zero_point <= self.range.max:
                msg = f"zero_point must be an integer in [{self.range.min}, {self.range.max}], got {zero_point}"
                raise ValueError(msg)

    @property
    def groups(self) -> int:
        """How many groups of channels have a scale and a zero point of their own."""
        return len(self.zero_point) if isinstance(self.zero_point, tuple) else 1

    def offset(self, channels: int) -> "int | Integers":
        """Return the zero point, (channels,) of them if there are groups."""
        if isinstance(self.zero_point, int):
            return self.zero_point
        return np.repeat(np.array(self.zero_point, np.int32), channels // self.groups)

    def to_json(self) -> dict[str, Any]:
        """Return the format as plain JSON values."""
        return {
            "bits": self.range.bits,
            "signed": self.range.signed,
            "narrow": self.range.narrow,
            "zero_point": list(self.zero_point) if isinstance(self.zero_point, tuple) else self.zero_point,
            "scale": {"multiplier": self.scale.multiplier.tolist(), "shift": self.scale.shift.tolist()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Format":
        """Return the format that ``to_json`` wrote."""
        zero_point: Any = data["zero_point"]
        return cls(
            range=IntRange(data["bits"], data["signed"], data["narrow"]),
            zero_point=zero_point if isinstance(zero_point, int) else tuple(zero_point),
            scale=Dyadic(data["scale"]["multiplier"], data["scale"]["shift"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """How the input of a product is quantized while running: symmetric codes whose scale is ``dynamic_bound``.

    Parameters
    ----------
    range
        The codes.
    per
        ``token`` or ``sequence``.
    clip
        Whether the bound is clipped by TM-IQR; per sequence only.
    """

    range: IntRange
    per: Literal["token", "sequence"]
    clip: bool

    @property
    def unit(self) -> int:
        """What 1 is in the bound."""
        return 8 if self.clip else 1

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"bits": self.range.bits, "per": self.per, "clip": self.clip}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Dynamic":
        """Return what ``to_json`` wrote."""
        return cls(range=IntRange(data["bits"], narrow=True), per=data["per"], clip=data["clip"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The output of an integer model.

    Parameters
    ----------
    values
        Logits (B, labels) int32 where there is a classifier, else the last hidden state (B, T, C) int16.
    scale
        values * scale are the real outputs.
    """

    values: Integers
    scale: Dyadic

    @property
    def digest(self) -> str:
        """SHA-256 of the values' bytes, little-endian, in hex."""
        return hashlib.sha256(self.values.astype(self.values.dtype.newbyteorder("<")).tobytes()).hexdigest()

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of the largest logit of each sequence, (B,)."""
        return argmax(self.values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerModel:
    """A transformer whose every value between token ids and output is an integer.

    Parameters
    ----------
    config
        ``num_attention_heads``, ``num_hidden_layers``, ``hidden_act``, ... as in the checkpoint's config.json.
    profile
        The numerics.
    recipe
        What was given how many bits, for the record.
    formats
        Activation name -> its format.
    dynamic
        Name of a product's input -> how it is quantized while running, where it is.
    tensors
        Weights, biases, multipliers, shifts: name -> integer array.
    tokenizer
        The checkpoint's tokenizer.json, if it has one.

    Raises
    ------
    CheckpointError
        If a tensor is missing or misshapen, or an operator's bound cannot be proved for its constants.
    """

    config: Mapping[str, Any]
    profile: Profile
    recipe: Mapping[str, Any]
    formats: Mapping[str, Format]
    dynamic: Mapping[str, Dynamic]
    tensors: Mapping[str, Integers]
    tokenizer: str | None = None
    _built: dict[str, Any] = field(default_factory=dict[str, Any], init=False, repr=False)

    def __post_init__(self) -> None:
        for values in self.tensors.values():
            values.setflags(write=False)
        from intsim.models.check import check_bert  # noqa: PLC0415  check.py reads the classes here

        check_bert(self)

    def __call__(
        self,
        input_ids: ArrayLike,
        *,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        carrier: Carrier = "auto",
    ) -> Result:
        """Run the model.

        Parameters
        ----------
        input_ids
            (B, T) token ids.
        attention_mask
            (B, T), true or 1 where there is a token; all tokens by default. Padding never changes a bit elsewhere.
        token_type_ids
            (B, T) segment ids; 0 by default.
        carrier
            ``integer`` keeps the matrix products on plain integers. Same bits.

        Raises
        ------
        IntsimError
            If the shapes disagree, an id is out of range, a sequence is empty or longer than the position table.
        """
        from intsim.models.bert import bert  # noqa: PLC0415  bert.py reads the classes above

        ids = _as_array("input_ids", input_ids)
        types = np.zeros_like(ids) if token_type_ids is None else _as_array("token_type_ids", token_type_ids)
        mask = np.ones_like(ids) if attention_mask is None else _as_array("attention_mask", attention_mask)
        if mask.dtype == np.bool_:
            mask = mask.astype(np.int8)
        self._check_input("input_ids", ids, ids.shape, self.config["vocab_size"])
        self._check_input("token_type_ids", types, ids.shape, self.config["type_vocab_size"])
        self._check_input("attention_mask", mask, ids.shape, 2)
        if ids.shape[1] > (longest := self.config["max_position_embeddings"]):
            msg = f"text must be at most {longest} tokens long, got {ids.shape[1]}"
            raise IntsimError(msg)
        with cores_for(ids.size):
            values = bert(self, ids, mask=mask.astype(bool), token_type_ids=types, carrier=carrier)
        return Result(values=values, scale=self.output_format.scale)

    @property
    def has_classifier(self) -> bool:
        """Whether the model ends in logits."""
        return "classifier.weight" in self.tensors

    @property
    def output_format(self) -> Format:
        """Format of the output."""
        last = f"encoder.layer.{self.config['num_hidden_layers'] - 1}.output.LayerNorm"
        return self.formats["classifier" if self.has_classifier else last]

    def ratio(self, name: str) -> Dyadic:
        """Return the dyadic ``name.multiplier`` / 2**``name.shift``."""
        return Dyadic(self.tensors[f"{name}.multiplier"], self.tensors[f"{name}.shift"])

    def ratios(self, name: str) -> list[Dyadic]:
        """Return the dyadics of the terms of a sum, whose constants are stacked along the first axis."""
        multiplier, shift = self.tensors[f"{name}.multiplier"], self.tensors[f"{name}.shift"]
        if multiplier.ndim < 2:
            return [self.ratio(name)]
        return [Dyadic(*pair) for pair in zip(multiplier, shift, strict=True)]

    def once(self, name: str, build: Callable[[], T]) -> T:
        """Return what ``build`` made of the model's constants when it was first asked for under this name."""
        if name not in self._built:
            self._built[name] = build()
        return self._built[name]

    def layer_norm_params(self, name: str) -> LayerNormParams:
        """Return the constants of the LayerNorm ``name``."""
        return LayerNormParams(
            weight=self.ratio(name), bias=self.tensors[f"{name}.bias"], eps=int(self.tensors[f"{name}.eps"])
        )

    def save(self, path: str | Path) -> None:
        """Write the integer checkpoint into the folder ``path``, all of it or nothing.

        Raises
        ------
        CheckpointError
            If the folder cannot be written.
        """
        from intsim.io.integer_checkpoint import save  # noqa: PLC0415  io builds on models

        save(self, path)

    @staticmethod
    def _check_input(name: str, values: NDArray[Any], shape: tuple[int, ...], size: int) -> None:
        if values.dtype.kind not in "iu" or values.ndim != 2 or values.shape != shape or values.size == 0:
            msg = f"{name} must be integers of shape (batch, tokens) like input_ids, got {values.dtype} {values.shape}"
            raise IntsimError(msg)
        if not 0 <= values.min() <= values.max() < size:
            msg = f"{name} must be in [0, {size}), got [{values.min()}, {values.max()}]"
            raise IntsimError(msg)


def _as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.atleast_2d(np.asarray(values))
    except ValueError:
        msg = f"{name} must be rows of one length, got ragged ones; pad them and give an attention_mask"
        raise IntsimError(msg) from None
