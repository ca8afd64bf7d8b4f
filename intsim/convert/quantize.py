# SPDX-License-Identifier: Apache-2.0
"""From a Hugging Face checkpoint to an integer model."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intsim.convert.bert import activation_names, convert_bert, input_sources
from intsim.convert.calibrate import Moments, calibrate
from intsim.convert.permutation import permute_channels, range_order
from intsim.convert.trained import trained_ranges
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import IntRange
from intsim.io.huggingface import BertConfig, Checkpoint, open_checkpoint
from intsim.io.tokenizer import Encoding, encode, parse_tokenizer, read_tokenizer
from intsim.models.integer_model import Dynamic, IntegerModel
from intsim.profile import Profile, find_profile
from intsim.quantizers import AffineParams, Granularity, MinMax
from intsim.recipes import ActivationRule, Recipe, load_recipe

__all__ = ["default_calibration", "quantize"]


def default_calibration() -> list[str]:
    """Return the calibration sentences that come with intsim."""
    return (resources.files("intsim.convert") / "calibration.txt").read_text(encoding="utf-8").splitlines()


def quantize(
    path: str | Path,
    *,
    recipe: str | Path = "intsim",
    calibration: Sequence[str] | None = None,
    truncate: bool = False,
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
        A checkpoint trained with quantization has its ranges already, see ``trained_ranges``: texts only serve what it
        leaves open, and are refused where that is nothing.
    truncate
        Whether calibration texts that are too long are shortened instead of refused.
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
    config = checkpoint.config
    names = activation_names(config, classifier=checkpoint.has_classifier)
    ranges = trained_ranges(checkpoint, names)
    encodings: list[Encoding] = []
    if rules.permutation != "none" or rules.needs_moments or len(ranges) < len(names):
        tokenizer_json = read_tokenizer(path)
        texts = default_calibration() if calibration is None else calibration
        encodings = _encode(tokenizer_json, texts, config, truncate=truncate)
    elif calibration is not None:
        msg = f"calibration must be left out where every range was trained, got {len(calibration)} texts for {path}"
        raise IntsimError(msg)
    else:
        tokenizer_json = read_tokenizer(path) if (Path(path) / "tokenizer.json").exists() else None

    weights: Mapping[str, NDArray[np.float64]] = _Weights(checkpoint)
    output = None if checkpoint.has_classifier else names[-1]
    matched = _match(rules, names, config, output=output, trained=ranges.keys())
    order = None
    if rules.permutation == "range":
        grouped = [name for name, rule in matched.items() if rule.groups > 1 and name.endswith((".sum", ".LayerNorm"))]
        order = _order(grouped, weights, config, encodings)
        weights = permute_channels(weights, order)

    sources = input_sources(config, classifier=checkpoint.has_classifier)
    dynamic: dict[str, Dynamic] = {}
    seen: dict[str, str] = {name: name for name in matched}  # what each estimator is shown
    for name, source in sources.items():
        rule = rules.input(name)
        if rule is not None and rule.range == "static":
            matched[name], seen[name] = rule, source
        elif rule is not None:
            alone = name in {"pooler.input", "classifier.input"}  # one token, whose sequence is itself
            dynamic[name] = Dynamic(
                range=IntRange(rule.bits, narrow=True),
                per="sequence" if rule.range == "sequence" and not alone else "token",
                clip=rule.clip == "tm-iqr" and not alone,
            )
    estimators = {name: rule.new_estimator() for name, rule in matched.items() if seen[name] not in ranges}
    moments = {source: Moments() for source in sources.values()} if rules.needs_moments else {}
    observers: dict[str, list[Callable[[NDArray[np.floating]], None]]] = {}
    for name, estimator in estimators.items():
        observers.setdefault(seen[name], []).append(estimator.update)
    for name, moment in moments.items():
        observers.setdefault(name, []).append(moment.update)
    calibrate(weights, config, encodings, observers, progress=progress)
    activations: dict[str, AffineParams] = {}
    for name, rule in matched.items():
        try:
            low, high = estimators[name].range() if name in estimators else ranges[seen[name]]
            activations[name] = rule.scheme.params(low, high)
        except ValueError as error:
            msg = f"activation '{name}' must have a range to quantize, got: {error}"
            raise CheckpointError(msg) from None

    try:
        tensors, formats = convert_bert(
            weights,
            config,
            activations,
            dynamic,
            groups_of={name: rule.groups for name, rule in matched.items()},
            moments=moments,
            recipe=rules,
            profile=numerics,
        )
    except ValueError as error:
        msg = f"checkpoint {path} must have constants that fit the profile, got: {error}"
        raise CheckpointError(msg) from None
    if order is not None:
        tensors["order"] = np.argsort(order)
    return IntegerModel(
        config={**asdict(config), "labels": list(config.labels)},
        profile=numerics,
        recipe=rules.source,
        formats=formats,
        dynamic=dynamic,
        tensors=tensors,
        tokenizer=tokenizer_json,
    )


def _encode(tokenizer_json: str, texts: Sequence[str], config: BertConfig, *, truncate: bool) -> list[Encoding]:
    """Return the tokens of each text, whose ids the model has."""
    if not texts:
        msg = "calibration must have at least one text, got none"
        raise IntsimError(msg)
    tokenizer = parse_tokenizer(tokenizer_json)
    longest = config.max_position_embeddings
    encodings = [encode(tokenizer, text, longest=longest, truncate=truncate) for text in texts]
    for text, encoding in zip(texts, encodings, strict=True):
        largest = max(encoding.ids, default=0), max(encoding.type_ids, default=0)
        if largest[0] >= config.vocab_size or largest[1] >= config.type_vocab_size:
            msg = (
                "tokenizer.json must give ids and types below vocab_size and type_vocab_size of config.json, "
                f"{config.vocab_size} and {config.type_vocab_size}, got {largest[0]} and {largest[1]} for {text!r}"
            )
            raise CheckpointError(msg)
    return encodings


def _match(
    rules: Recipe, names: Sequence[str], config: BertConfig, *, output: str | None, trained: Collection[str]
) -> dict[str, ActivationRule]:
    """Return the rule of every activation, refusing groups of channels where they cannot be."""
    matched = {name: rules.activation("last_hidden_state" if name == output else name) for name in names}
    for name, rule in matched.items():
        channels = config.intermediate_size if name.endswith(".intermediate") else config.hidden_size
        alone = name == output or name.endswith((".query", ".key", ".value"))
        if rule.groups > 1 and (alone or channels % rule.groups):
            msg = f"activation '{name}' must have groups that divide its {channels} channels, or one, got {rule.groups}"
            raise IntsimError(msg)
        if rule.groups > 1 and name in trained:
            msg = f"activation '{name}' must have one range as in training, got {rule.groups} groups"
            raise IntsimError(msg)
    return matched


def _order(
    names: Sequence[str],
    weights: Mapping[str, NDArray[np.float64]],
    config: BertConfig,
    encodings: Sequence[Encoding],
) -> NDArray[np.int64]:
    """Return the channels by the range that the named activations have in them."""
    per_channel = {name: MinMax(granularity=Granularity(kind="channel", axis=-1)) for name in names}
    if not names:
        msg = "recipe must quantize some activation in groups to permute its channels, got none"
        raise IntsimError(msg)
    calibrate(weights, config, encodings, {name: [estimator.update] for name, estimator in per_channel.items()})
    bounds = {name: estimator.range() for name, estimator in per_channel.items()}
    return range_order({name: high - low for name, (low, high) in bounds.items()})


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
