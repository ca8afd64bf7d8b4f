# SPDX-License-Identifier: Apache-2.0
"""From a Hugging Face checkpoint to an integer model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intsim.convert.bert import activation_names, convert_bert
from intsim.convert.calibrate import calibrate
from intsim.errors import CheckpointError, IntsimError
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import encode, parse_tokenizer, read_tokenizer
from intsim.models.integer_model import IntegerModel
from intsim.profile import Profile, find_profile
from intsim.quantizers import AffineParams
from intsim.recipes import load_recipe

__all__ = ["default_calibration", "quantize"]


def default_calibration() -> list[str]:
    """Return the calibration sentences that come with intsim."""
    return (resources.files("intsim.convert") / "calibration.txt").read_text(encoding="utf-8").splitlines()


def quantize(
    path: str | Path,
    *,
    recipe: str | Path = "intsim",
    calibration: Sequence[str] | None = None,
    profile: str | Profile | None = None,
    progress: bool = False,
) -> IntegerModel:
    """Quantize a Hugging Face BERT checkpoint once, so that it runs on integers alone.

    Parameters
    ----------
    path
        Folder with config.json, safetensors and tokenizer.json.
    recipe
        Name of a preset, or a TOML file.
    calibration
        Texts that activation ranges are taken from, a TAB between the two of a pair; intsim's own sentences by default.
    profile
        The numerics; the recipe's by default.
    progress
        Whether to draw a progress bar on stderr.

    Returns
    -------
    IntegerModel

    Raises
    ------
    IntsimError
        If the checkpoint, the recipe, the profile's name or a text is invalid.
    """
    rules = load_recipe(recipe)
    numerics = profile if isinstance(profile, Profile) else find_profile(profile or rules.profile)
    checkpoint = open_checkpoint(path)
    tokenizer_json = read_tokenizer(path)
    tokenizer = parse_tokenizer(tokenizer_json)
    texts = default_calibration() if calibration is None else calibration
    if not texts:
        msg = "calibration must have at least one text, got none"
        raise IntsimError(msg)
    config = checkpoint.config
    encodings = [encode(tokenizer, text, longest=config.max_position_embeddings) for text in texts]
    for text, encoding in zip(texts, encodings, strict=True):
        largest = max(encoding.ids, default=0), max(encoding.type_ids, default=0)
        if largest[0] >= config.vocab_size or largest[1] >= config.type_vocab_size:
            msg = (
                "tokenizer.json must give ids and types below vocab_size and type_vocab_size of config.json, "
                f"{config.vocab_size} and {config.type_vocab_size}, got {largest[0]} and {largest[1]} for {text!r}"
            )
            raise CheckpointError(msg)

    weights = _Weights(checkpoint)
    names = activation_names(config, classifier=checkpoint.has_classifier)
    matched = {name: rules.activation(name) for name in names}
    if not checkpoint.has_classifier:
        matched[names[-1]] = rules.activation("last_hidden_state")
    estimators = {name: rule.new_estimator() for name, rule in matched.items()}
    calibrate(weights, config, encodings, estimators, progress=progress)
    activations: dict[str, AffineParams] = {}
    for name, estimator in estimators.items():
        try:
            activations[name] = matched[name].scheme.params(*estimator.range())
        except ValueError as error:
            msg = f"activation '{name}' must have a range to quantize, got: {error}"
            raise CheckpointError(msg) from None

    try:
        tensors, formats = convert_bert(weights, config, activations, recipe=rules, profile=numerics)
    except ValueError as error:
        msg = f"checkpoint {path} must have constants that fit the profile, got: {error}"
        raise CheckpointError(msg) from None
    return IntegerModel(
        config={**asdict(config), "labels": list(config.labels)},
        profile=numerics,
        recipe=rules.source,
        formats=formats,
        tensors=tensors,
        tokenizer=tokenizer_json,
    )


class _Weights(Mapping[str, NDArray[np.float64]]):
    """The tensors of a checkpoint, each read when it is used, so that they are never in memory together."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self._checkpoint.load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._checkpoint.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint.tensors)

    def __len__(self) -> int:
        return len(self._checkpoint.tensors)
