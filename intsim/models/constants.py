# SPDX-License-Identifier: Apache-2.0
"""What an integer checkpoint holds, and how the world of integers reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from intsim.carrier.exact import KEPT, Integers, Weight
from intsim.fixedpoint import Dyadic
from intsim.models.config import Config
from intsim.models.digest import digest as digest_of
from intsim.models.families import FAMILIES
from intsim.models.family import Family
from intsim.models.formats import Dynamic, Format
from intsim.models.outline import Outline, outline
from intsim.models.world import Head, tensor_name
from intsim.ops import LayerNormParams
from intsim.profile import Profile

__all__ = ["Constants"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constants:
    """Integer tensors, the formats of activations, and the profile that runs them.

    Parameters
    ----------
    model_type
        The family, a key of ``FAMILIES``.
    head
        What follows its body.
    config
        ``num_attention_heads``, ``num_hidden_layers``, ``hidden_act``, ... as in the checkpoint's config.json.
    profile
        The numerics.
    formats
        Activation name -> its format.
    dynamic
        Name of a product's input -> how it is quantized while running, where it is.
    tensors
        Weights, biases, multipliers, shifts: name -> integer array.
    recipe
        What was given how many bits, for the record; under ``stored`` what a quantized checkpoint said itself.
    tokenizer
        The checkpoint's tokenizer.json, if it has one.
    """

    model_type: str
    head: Head
    config: Config
    profile: Profile
    formats: Mapping[str, Format]
    dynamic: Mapping[str, Dynamic]
    tensors: Mapping[str, Integers]
    recipe: Mapping[str, Any]
    tokenizer: str | None = None
    _built: dict[str, Any] = field(default_factory=dict[str, Any], init=False, repr=False)

    @property
    def family(self) -> Family:
        """The family."""
        return FAMILIES[self.model_type]

    @property
    def outline(self) -> Outline:
        """The model's table of contents."""
        return self.once("outline", lambda: outline(self.family, self.config, self.head))

    def contents(self) -> dict[str, Any]:
        """Return all but the tensors as plain JSON values."""
        return {
            "model_type": self.model_type,
            "head": self.head,
            "config": self.config.to_json(),
            "profile": self.profile.to_json(),
            "recipe": self.recipe,
            "formats": {name: format_.to_json() for name, format_ in self.formats.items()},
            "dynamic": {name: dynamic.to_json() for name, dynamic in self.dynamic.items()},
            "tokenizer": self.tokenizer,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of contents and tensors, in hex: two models of one digest are the same."""
        return self.once("digest", lambda: digest_of(self.contents(), self.tensors))

    @property
    def output_format(self) -> Format:
        """Format of the output."""
        return self.formats[self.outline.result.name]

    def ratio(self, name: str) -> Dyadic:
        """Return the dyadic ``name.multiplier`` / 2**``name.shift``."""
        return self.once(
            f"{name}.ratio", lambda: Dyadic(self.tensors[f"{name}.multiplier"], self.tensors[f"{name}.shift"])
        )

    def ratios(self, name: str) -> list[Dyadic]:
        """Return the dyadics of the terms of a sum, whose constants are stacked along the first axis."""
        multiplier, shift = self.tensors[f"{name}.multiplier"], self.tensors[f"{name}.shift"]
        if multiplier.ndim < 2:
            return [self.ratio(name)]
        return [Dyadic(*pair) for pair in zip(multiplier, shift, strict=True)]

    def layer_norm_params(self, name: str) -> LayerNormParams:
        """Return the constants of the LayerNorm ``name``."""
        bias, eps = self.tensors[f"{name}.bias"], int(self.tensors[f"{name}.eps"])
        return self.once(f"{name}.params", lambda: LayerNormParams(weight=self.ratio(name), bias=bias, eps=eps))

    def codes(self, weight: str) -> Integers:
        """Return the codes of a weight, which may be those of the tensor that it views."""
        return self.tensors[self.stored(weight)]

    def stored(self, weight: str) -> str:
        """Return the name of the tensor that a weight is, which may be the one that it views."""
        return weight if weight in self.tensors else self.outline.tensors[weight].parts[0]

    def weight(self, name: str) -> Weight:
        """Return the weight that products read, prepared for them; float32 copies are kept if all of them fit KEPT."""
        keeps = self.once("keeps", lambda: sum(4 * self.tensors[name].size for name in self._weights) <= KEPT)
        return self.once(f"{name}.prepared", lambda: Weight(self.tensors[name], keeps=keeps))

    @property
    def _weights(self) -> set[str]:
        return {self.stored(tensor_name(f"{name}.weight")) for name in self.outline.products}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what is stored; what a run has prepared is prepared again."""
        return _made, (type(self), {each.name: getattr(self, each.name) for each in fields(self) if each.init})

    def once(self, name: str, build: Callable[[], T]) -> T:
        """Return what ``build`` made of the constants when it was first asked for under this name."""
        if name not in self._built:
            self._built.setdefault(name, build())
        return self._built[name]


def _made(kind: type[T], stored: Mapping[str, Any]) -> T:
    return kind(**stored)
