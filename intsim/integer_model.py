# SPDX-License-Identifier: Apache-2.0
"""The integer model: what is loaded, called and saved."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from intsim.carrier.blocks import cores_for
from intsim.carrier.exact import Carrier, Integers
from intsim.errors import IntsimError
from intsim.fixedpoint import Dyadic
from intsim.generate import Sampling, new_tokens
from intsim.io.integer_checkpoint import read_checkpoint, write_checkpoint
from intsim.models.cache import Cache
from intsim.models.check import check
from intsim.models.constants import Constants
from intsim.models.integers import advance, run
from intsim.ops import argmax

__all__ = ["IntegerModel", "Result", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The output of an integer model.

    Parameters
    ----------
    values
        int32 logits: (B, labels), of tokens (B, T, labels), start and end of an answer (B, T, 2), words (B, T, V); the
        embeddings of texts (B, C); or the last hidden state (B, T, C).
    scale
        values * scale are the real outputs.
    cache
        The texts up to now, where the model was given a cache.
    """

    values: Integers
    scale: Dyadic
    cache: Cache | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the values' bytes, little-endian, in hex."""
        return hashlib.sha256(self.values.astype(self.values.dtype.newbyteorder("<")).tobytes()).hexdigest()

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of the largest logit, (B,) or (B, T)."""
        return argmax(self.values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerModel(Constants):
    """A transformer whose every value between token ids and output is an integer.

    Its parameters are those of ``Constants``: what an integer checkpoint holds.

    Raises
    ------
    CheckpointError
        If a tensor is missing or misshapen, or an operator's bound cannot be proved for its constants.
    """

    def __post_init__(self) -> None:
        for values in self.tensors.values():
            values.setflags(write=False)
        check(self)

    def __call__(
        self,
        input_ids: ArrayLike,
        *,
        attention_mask: ArrayLike | None = None,
        token_type_ids: ArrayLike | None = None,
        cache: Cache | None = None,
        last: bool = False,
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
        cache
            Of a decoder: the texts so far, ``start()`` or a result's ``cache``, which ``input_ids`` go on with. The
            integers are those of the whole texts at once, however they are split. It is not changed.
        last
            Of a decoder: whether only the logits of the last token of each text are asked for.
        carrier
            ``integer`` keeps the matrix products on plain integers. Same bits.

        Raises
        ------
        IntsimError
            If the shapes disagree, an id is out of range, a sequence is empty or longer than the position table, or
            has no token to pool; if there is no such carrier; or if the cache is another model's, or another batch's.
        """
        if carrier not in get_args(Carrier):
            msg = f"carrier must be one of {', '.join(get_args(Carrier))}, got {carrier!r}"
            raise IntsimError(msg)
        ids = _as_array("input_ids", input_ids)
        types = np.zeros_like(ids) if token_type_ids is None else _as_array("token_type_ids", token_type_ids)
        mask = np.ones_like(ids) if attention_mask is None else _as_array("attention_mask", attention_mask)
        if mask.dtype == np.bool_:
            mask = mask.astype(np.int8)
        self._check_input("input_ids", ids, ids.shape, self.config.vocab_size)
        self._check_input("token_type_ids", types, ids.shape, self.config.type_vocab_size)
        self._check_input("attention_mask", mask, ids.shape, 2)
        if cache is not None:
            self._check_cache(cache, len(ids))
        if (length := self._length(mask.astype(bool), cache)) > (longest := self.config.longest):
            msg = f"text must be at most {longest} tokens long, got {length}"
            raise IntsimError(msg)
        if last and self.head != "causal-lm":
            msg = f"last must be asked of a causal language model, got one with head {self.head}"
            raise IntsimError(msg)
        pools = self.head == "sentence-embedding" or (self.outline.cached and self.head == "sequence-classification")
        if (last or pools) and not mask.any(axis=1).all():
            msg = "attention_mask must have a token in every text to pool it or go on from it, got a text with none"
            raise IntsimError(msg)
        ids, types = ids.astype(np.int64, copy=False), types.astype(np.int64, copy=False)
        with cores_for(ids.size):
            how: dict[str, Any] = {"mask": mask.astype(bool), "token_type_ids": types, "carrier": carrier, "last": last}
            if cache is None:
                values = run(self, ids, **how)
            else:
                values, cache = advance(self, ids, cache, **how)
                for kept in (cache.mask, *cache.codes.values()):
                    kept.setflags(write=False)
        return Result(values=values, scale=self.output_format.scale, cache=cache)

    def start(self) -> Cache:
        """Return the cache of a decoder that has read nothing.

        Raises
        ------
        IntsimError
            If the model is no decoder, or has a range that is found for each sequence.
        """
        if not self.outline.cached:
            msg = f"model must be a decoder to have a cache, got a {self.model_type}"
            raise IntsimError(msg)
        if names := [name for name, how in self.dynamic.items() if how.per == "sequence"]:
            msg = f"input '{names[0]}' must be quantized per token for a cache to keep its integers, got per sequence"
            raise IntsimError(msg)
        return Cache(model=self.digest)

    def generate(
        self,
        input_ids: ArrayLike,
        *,
        max_new_tokens: int,
        attention_mask: ArrayLike | None = None,
        top_k: int = 1,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """Continue texts with a decoder.

        Parameters
        ----------
        input_ids
            As ``model(...)`` takes them: texts of several lengths are padded, on the left or on the right.
        max_new_tokens
            At most so many for each text; fewer where it ends, or where the context does.
        attention_mask
            1 for tokens, 0 for padding; all are tokens by default.
        top_k
            1 takes the token with the largest logit, of equal ones that with the lowest id; more draw it from so many,
            see ``intsim.ops.sample_token``.
        temperature
            What logits are divided by before a draw.
        seed
            Of the draws.

        Returns
        -------
        list of list of int
            The new ids of each text, up to and with the one that ends it.

        Raises
        ------
        IntsimError
            As ``model(...)``, and if an option is out of range.
        """
        ids = _as_array("input_ids", input_ids)
        mask = np.ones_like(ids) if attention_mask is None else _as_array("attention_mask", attention_mask)
        sampling = Sampling(top_k=top_k, temperature=temperature, seed=seed)
        steps = list(new_tokens(self, ids, mask, most=max_new_tokens, sampling=sampling))
        return [text[text >= 0].tolist() for text in np.stack(steps, axis=1)]

    def save(self, path: str | Path) -> None:
        """Write the integer checkpoint into the folder ``path``, all of it or nothing.

        Raises
        ------
        CheckpointError
            If the folder cannot be written.
        """
        write_checkpoint(self, path)

    def _check_cache(self, cache: object, batch: int) -> None:
        if not isinstance(cache, Cache):
            msg = f"cache must be what start() or a result has, got {type(cache).__name__}"
            raise IntsimError(msg)
        if not self.outline.cached or cache.model != self.digest:
            msg = f"cache must be of this model, {self.digest[:12]}, got one of {cache.model[:12]}"
            raise IntsimError(msg)
        if cache.columns and len(cache.mask) != batch:
            msg = f"cache must be of as many texts as input_ids, {batch}, got {len(cache.mask)}"
            raise IntsimError(msg)

    def _length(self, mask: NDArray[np.bool_], cache: Cache | None) -> int:
        """Return how many positions the longest text takes: a decoder numbers tokens, an encoder columns."""
        if not self.outline.cached:
            return mask.shape[1]
        return int((mask.sum(axis=1) + (cache.mask.sum(axis=1) if cache and cache.columns else 0)).max())

    @staticmethod
    def _check_input(name: str, values: NDArray[Any], shape: tuple[int, ...], size: int) -> None:
        if values.size == 0:
            msg = f"{name} must have a token at least, got shape {values.shape}"
            raise IntsimError(msg)
        if values.dtype.kind not in "iu" or values.ndim != 2 or values.shape != shape:
            msg = f"{name} must be integers of shape (batch, tokens) like input_ids, got {values.dtype} {values.shape}"
            raise IntsimError(msg)
        if (wrong := values[(values < 0) | (values >= size)]).size:
            msg = f"{name} must be in [0, {size}), got {wrong[0]}"
            raise IntsimError(msg)


def _as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    given: Any = list(values) if isinstance(values, Iterator) else values
    try:
        return np.atleast_2d(np.asarray(given))
    except ValueError:
        msg = f"{name} must be rows of one length, got ragged ones; pad them and give an attention_mask"
        raise IntsimError(msg) from None


def load(path: str | Path) -> IntegerModel:
    """Return the integer model in the folder ``path``.

    Raises
    ------
    CheckpointError
        If there is none, its file is damaged, of another format version, or its constants fail their checks. Its digest
        is verified: no bit of the file can have changed the model.
    """
    parameters, digest = read_checkpoint(path)
    model = IntegerModel(**parameters)
    model.once("digest", lambda: digest)
    return model
