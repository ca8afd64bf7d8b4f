# SPDX-License-Identifier: Apache-2.0
"""From a Hugging Face checkpoint to an integer model."""

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from intsim._progress import bars, watched
from intsim.convert.calibrate import Moments, calibrate
from intsim.convert.compiler import compile_model
from intsim.convert.permutation import permute_channels, range_order
from intsim.convert.ranges import Range, given_ranges
from intsim.convert.smoothing import readers, smooth_channels, smoothing
from intsim.convert.taken import taken_inputs, taken_over, taken_rules
from intsim.convert.trained import trained_ranges
from intsim.convert.weights import Reals, Weights
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import Dyadic, IntRange
from intsim.integer_model import IntegerModel
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import WINDOW, Encoding, cut, encode, has_tokenizer, parse_tokenizer, read_tokenizer, running
from intsim.models.config import Config
from intsim.models.formats import Dynamic
from intsim.models.outline import Outline
from intsim.models.world import is_role, tensor_name
from intsim.profile import Profile, find_profile
from intsim.quantizers import AffineParams, Granularity, MinMax
from intsim.recipes import ActivationRule, Matched, Recipe, load_recipe, match

__all__ = ["default_calibration", "default_running_text", "quantize", "quantize_each", "reads_on"]

Observer: TypeAlias = Callable[[NDArray[np.floating]], None]

log: Final = logging.getLogger(__name__)


def default_calibration() -> list[str]:
    """Return the calibration sentences that come with intsim."""
    return (resources.files("intsim.convert") / "calibration.txt").read_text(encoding="utf-8").splitlines()


def default_running_text() -> list[str]:
    """Return the lines that come with intsim for decoders, which read on from one to the next."""
    return (resources.files("intsim.convert") / "running_text.txt").read_text(encoding="utf-8").split("\n")


def reads_on(checkpoint: Checkpoint) -> bool:
    """Say whether texts are one text to a checkpoint, read in windows: a decoder that does not judge whole texts."""
    return bool(checkpoint.outline.cached) and checkpoint.head in ("none", "causal-lm")


def quantize(
    path: str | Path,
    *,
    recipe: str | Path = "intsim",
    head: str | None = None,
    calibration: Iterable[str] | None = None,
    ranges: str | Path | Mapping[str, Any] | None = None,
    truncate: bool = False,
    window: int | None = None,
    profile: str | Profile | None = None,
    progress: bool = False,
) -> IntegerModel:
    """Quantize a Hugging Face checkpoint once, so that it runs on integers alone.

    Parameters
    ----------
    path
        Folder with config.json, safetensors and tokenizer.json, or a GGUF file. What compressed-tensors quantized in it
        is taken over as it is, integers and scales; the recipe serves the rest.
    recipe
        Name of a preset, or a TOML file.
    head
        What follows the body, one of ``intsim.models.world.HEADS``; by default what config.json says.
    calibration
        Texts that activation ranges are taken from, a TAB between the two of a pair; intsim's own sentences by default.
        A checkpoint trained with quantization has its ranges already, see ``trained_ranges``: texts only serve what it
        leaves open, and are refused where that is nothing. To a decoder they are the lines of one text.
    ranges
        Name of an activation -> its lowest and highest real number, or a JSON file of that, see ``given_ranges``. They
        go before those that were trained; texts serve the others, and are then not taken by default.
    truncate
        Whether calibration texts that are too long are shortened instead of refused.
    window
        Tokens that a decoder reads of that text at a time, by default 512, or the context where that is shorter.
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
    options: dict[str, Any] = {"calibration": calibration, "ranges": ranges, "profile": profile}
    options |= {"truncate": truncate, "window": window}
    return quantize_each(path, [recipe], head=head, progress=progress, **options)[0]


def quantize_each(
    path: str | Path,
    recipes: Sequence[str | Path],
    *,
    head: str | None = None,
    calibration: Iterable[str] | None = None,
    ranges: str | Path | Mapping[str, Any] | None = None,
    truncate: bool = False,
    window: int | None = None,
    profile: str | Profile | None = None,
    progress: bool = False,
) -> list[IntegerModel]:
    """Quantize a checkpoint by each of several recipes: the models that ``quantize`` returns for them.

    The float model runs over the calibration texts once for all of them, and once more for each that permutes channels
    or smooths them.

    Parameters
    ----------
    path, head, calibration, ranges, truncate, window, profile, progress
        As ``quantize`` takes them.
    recipes
        Each as ``quantize`` takes it.

    Raises
    ------
    IntsimError
        As ``quantize``.
    """
    texts = None if calibration is None else _texts(calibration)
    asked = [load_recipe(recipe) for recipe in recipes]
    numerics = [
        profile if isinstance(profile, Profile) else find_profile(profile or recipe.profile) for recipe in asked
    ]
    checkpoint = open_checkpoint(path, head=head)
    matched = [
        taken_over(match(recipe, checkpoint.outline, taken=checkpoint.quantized), checkpoint) for recipe in asked
    ]
    for recipe, rules in zip(asked, matched, strict=True):
        for note in rules.notes:
            log.warning("recipe %s: %s", recipe.name, note)
    if window is not None and not reads_on(checkpoint):
        msg = f"window must be left out unless a decoder reads on, got {window} for head {checkpoint.head} of {path}"
        raise IntsimError(msg)
    found = trained_ranges(checkpoint)
    if ranges is not None:
        found |= given_ranges(ranges, checkpoint.outline)
        missing = [name for rules in matched for name in rules.activations if name not in found]
        if missing and texts is None:
            others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            msg = (
                f"ranges must hold every activation, or come with calibration texts, got none of '{missing[0]}'{others}"
            )
            raise IntsimError(msg)
    smoothed = [_norms_to_smooth(checkpoint, recipe, found) for recipe in asked]
    encodings: list[Encoding] = []
    if any(_needs_texts(*chosen, found) for chosen in zip(asked, matched, smoothed, strict=True)):
        tokenizer_json = read_tokenizer(path, head=checkpoint.head)
        if reads_on(checkpoint):
            encodings = _windows(
                tokenizer_json, default_running_text() if texts is None else texts, checkpoint.config, window
            )
        else:
            calibrated_by = default_calibration() if texts is None else texts
            encodings = _encode(tokenizer_json, calibrated_by, checkpoint.config, truncate=truncate)
    elif texts is not None:
        msg = f"calibration must be left out where every range was trained or given, got {len(texts)} texts for {path}"
        raise IntsimError(msg)
    else:
        tokenizer_json = read_tokenizer(path, head=checkpoint.head) if has_tokenizer(path) else None

    models: dict[int, IntegerModel] = {}
    weights = Weights(checkpoint.names, checkpoint.load)
    running = {
        i: _quantizing(checkpoint, weights, *chosen, ranges=found, tokenizer=tokenizer_json)
        for i, chosen in enumerate(zip(asked, matched, smoothed, numerics, strict=True))
    }
    with bars(progress or None):
        while running:
            passes: dict[int, tuple[Mapping[str, Reals], dict[str, list[Observer]]]] = {}
            for i, quantizing in list(running.items()):
                try:
                    wanted = next(quantizing)
                except StopIteration as done:
                    models[i] = done.value
                    del running[i]
                    continue
                _, observers = passes.setdefault(id(wanted.weights), (wanted.weights, {}))
                for name, observer in wanted.observers:
                    observers.setdefault(name, []).append(observer)
            for seen, observers in passes.values():
                calibrate(checkpoint, seen, encodings, observers)
    return [models[i] for i in range(len(asked))]


def _needs_texts(recipe: Recipe, rules: Matched, smoothed: Collection[str], ranges: Collection[str]) -> bool:
    reordered = recipe.permutation != "none" or bool(smoothed)
    return reordered or recipe.needs_moments or not rules.activations.keys() <= set(ranges)


class _Pass(NamedTuple):
    """A run of the float model with these weights over the calibration texts: who looks at which activation."""

    weights: Mapping[str, Reals]
    observers: Sequence[tuple[str, Observer]]


def _quantizing(
    checkpoint: Checkpoint,
    weights: Mapping[str, Reals],
    recipe: Recipe,
    rules: Matched,
    norms: Mapping[str, tuple[str, ...]],
    profile: Profile,
    *,
    ranges: Mapping[str, Range],
    tokenizer: str | None,
) -> Generator[_Pass, None, IntegerModel]:
    """Yield the runs that a recipe needs, and return the model once they are done."""
    outline = checkpoint.outline
    if grouped := [name for name in ranges if name in rules.activations and rules.activations[name].groups > 1]:
        msg = f"activation '{grouped[0]}' must have one range, as it was trained or given, got groups"
        raise IntsimError(msg)
    if checkpoint.quantized and recipe.permutation != "none":
        _refuse_to_change_weights(recipe, "a permutation")
    order, given = None, taken_inputs(checkpoint)
    if recipe.permutation == "range":
        per_channel = _hidden_in_groups(outline, rules)
        yield _Pass(weights, [(name, found.update) for name, found in per_channel.items()])
        bounds = {name: found.range() for name, found in per_channel.items()}
        order = range_order({name: high - low for name, (low, high) in bounds.items()})
        weights = permute_channels(weights, outline, order)
    scales: dict[str, Dyadic] = {}
    if recipe.smooth is not None and norms:
        largest = {name: MinMax(granularity=Granularity(kind="channel", axis=-1)) for name in norms}
        yield _Pass(weights, [(name, found.update) for name, found in largest.items()])
        for name, found in largest.items():
            low, high = found.range()
            scales[name] = smoothing(np.maximum(-low, high), weights, norms[name], alpha=recipe.smooth.alpha)
        weights = smooth_channels(weights, outline, scales)

    matched: dict[str, ActivationRule] = dict(rules.activations)
    seen = {name: name for name in matched}  # what each estimator is shown
    dynamic: dict[str, Dynamic] = {}
    for name, rule in rules.inputs.items():
        read = outline.inputs[name]
        if name in given:
            continue
        if rule.range == "static":
            matched[name], seen[name] = rule, read.source
        else:
            dynamic[name] = Dynamic(  # one token is a sequence by itself
                range=IntRange(rule.bits, narrow=True),
                per="sequence" if rule.range == "sequence" and read.of_token else "token",
                clip=rule.clip == "tm-iqr" and read.of_token,
            )
    estimators = {name: rule.new_estimator() for name, rule in matched.items() if seen[name] not in ranges}
    moments = {
        outline.inputs[read].source: Moments()
        for product, read in outline.products.items()
        if recipe.bias_correction or rules.weights[tensor_name(f"{product}.weight")].rounding != "nearest"
    }
    if estimators or moments:
        looking = [(seen[name], estimator.update) for name, estimator in estimators.items()]
        yield _Pass(weights, [*looking, *((name, moment.update) for name, moment in moments.items())])
    activations: dict[str, AffineParams] = {**given}
    for name, rule in matched.items():
        try:
            low, high = estimators[name].range() if name in estimators else ranges[seen[name]]
            activations[name] = rule.scheme.params(low, high)
        except ValueError as error:
            msg = f"activation '{name}' must have a range to quantize, got: {error}"
            raise CheckpointError(msg) from None
    for name, activation in outline.activations.items():
        if activation.like:
            activations[name] = activations[activation.like]

    bar = iter(watched(rules.weights, "converting", unit="weight"))
    try:
        compiled = compile_model(
            checkpoint.family,
            outline,
            weights,
            activations=activations,
            dynamic=dynamic,
            groups_of={name: rule.groups for name, rule in matched.items()},
            moments=moments,
            rules=rules.weights,
            correct_biases=recipe.bias_correction,
            profile=profile,
            quantized={name: partial(checkpoint.codes, name) for name in checkpoint.quantized},
            on_weight=lambda: next(bar, None),
        )
    except ValueError as error:
        msg = f"checkpoint {checkpoint.path} must have constants that fit the profile, got: {error}"
        raise CheckpointError(msg) from None
    next(bar, None)  # takes the bar away
    if order is not None:
        compiled.tensors["order"] = np.argsort(order)
    for name, scale in scales.items():
        compiled.tensors |= {f"{name}.smooth.multiplier": scale.multiplier, f"{name}.smooth.shift": scale.shift}
    return IntegerModel(
        model_type=checkpoint.model_type,
        head=checkpoint.head,
        config=checkpoint.config,
        profile=profile,
        recipe={**recipe.source, **({"stored": taken_rules(checkpoint)} if checkpoint.quantized else {})},
        formats=compiled.formats,
        dynamic=dynamic,
        tensors=compiled.tensors,
        tokenizer=tokenizer,
    )


def _texts(calibration: Iterable[str]) -> list[str]:
    if isinstance(calibration, str | bytes):
        msg = f"calibration must be a list of texts, got one text, {calibration!r:.40}; read_lines reads a file of them"
        raise IntsimError(msg)
    given: list[Any] = list(calibration)
    if others := [text for text in given if not isinstance(text, str)]:
        msg = f"calibration must be a list of texts, got {others[0]!r:.40} in it"
        raise IntsimError(msg)
    return given


def _encode(tokenizer_json: str, texts: Sequence[str], config: Config, *, truncate: bool) -> list[Encoding]:
    """Return the tokens of each text, whose ids the model has."""
    if not texts:
        msg = "calibration must have at least one text, got none"
        raise IntsimError(msg)
    tokenizer = parse_tokenizer(tokenizer_json)
    encodings = [encode(tokenizer, text, longest=config.longest, truncate=truncate) for text in texts]
    for text, encoding in zip(texts, encodings, strict=True):
        _check_ids(encoding, config, text)
    return encodings


def _windows(tokenizer_json: str, lines: Sequence[str], config: Config, window: int | None) -> list[Encoding]:
    """Return the tokens of a text in windows, whose ids the model has."""
    if window is not None and window > config.longest:
        msg = f"window must be at most the context, {config.longest} tokens, got {window}"
        raise IntsimError(msg)
    if not (text := "\n".join(lines)).strip():
        msg = f"calibration must have more than white space, got {text!r:.40}"
        raise IntsimError(msg)
    tokens = running(parse_tokenizer(tokenizer_json), text)
    encodings = cut(*tokens, window=min(config.longest, WINDOW) if window is None else window)
    for encoding in encodings:
        _check_ids(encoding, config, text)
    return encodings


def _check_ids(encoding: Encoding, config: Config, text: str) -> None:
    largest = max(encoding.ids, default=0), max(encoding.type_ids, default=0)
    if largest[0] >= config.vocab_size or largest[1] >= config.type_vocab_size:
        msg = (
            "tokenizer.json must give ids and types below vocab_size and type_vocab_size of config.json, "
            f"{config.vocab_size} and {config.type_vocab_size}, got {largest[0]} and {largest[1]} for {text!r:.200}"
        )
        raise CheckpointError(msg)


def _hidden_in_groups(outline: Outline, rules: Matched) -> dict[str, MinMax]:
    """Return a range for each channel of the hidden states that are quantized in groups."""
    per_channel = {
        name: MinMax(granularity=Granularity(kind="channel", axis=-1))
        for name, rule in rules.activations.items()
        if rule.groups > 1 and outline.axis(outline.activations[name].axis) == outline.stream
    }
    if not per_channel:
        msg = "recipe must quantize some hidden states in groups to permute their channels, got none"
        raise IntsimError(msg)
    return per_channel


def _norms_to_smooth(checkpoint: Checkpoint, recipe: Recipe, given: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the norms whose scales go into the weights that read them, and these."""
    outline, asked = checkpoint.outline, recipe.smooth
    if asked is None:
        return {}
    norms = readers(outline)
    if asked.roles:
        return {
            norm: weights
            for norm, weights in norms.items()
            if norm not in given and not checkpoint.quantized.keys() & {*weights}
            if any(is_role(role, outline.activations[norm].role) for role in asked.roles)
        }
    if checkpoint.quantized:
        _refuse_to_change_weights(recipe, f"smooth = {asked.alpha}")
    if fixed := [name for name in norms if name in given]:
        msg = f"activation '{fixed[0]}' must have its range as in training, got smooth = {asked.alpha}"
        raise IntsimError(msg)
    if not norms:
        log.warning("recipe %s: there is no norm that products alone read, and nothing is smoothed", recipe.name)
    return norms


def _refuse_to_change_weights(recipe: Recipe, got: str) -> NoReturn:
    msg = f"recipe {recipe.name!r} must leave weights as they are for integers to be taken over, got {got}"
    raise IntsimError(msg)
