# SPDX-License-Identifier: Apache-2.0
"""Ranges that the user brings, in the place of those that texts would give."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from families import DECODERS, ENCODERS, tiny

import intsim
from intsim.cli import main
from intsim.convert.calibrate import calibrate
from intsim.convert.quantize import default_calibration
from intsim.convert.trained import trained_ranges
from intsim.errors import IntsimError
from intsim.fixedpoint import Dyadic
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, parse_tokenizer, read_tokenizer
from intsim.recipes import load_recipe, match

FLOAT: Final = Path(__file__).resolve().parents[1] / "data" / "embedded-float"
TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")

Ranges = dict[str, list[float]]


def calibrated(path: Path, recipe: str, texts: list[str] | tuple[str, ...]) -> Ranges:
    """Return the range that each activation takes of these texts."""
    checkpoint = open_checkpoint(path)
    rules = match(load_recipe(recipe), checkpoint.outline)
    estimators = {name: rule.new_estimator() for name, rule in rules.activations.items()}
    tokenizer = parse_tokenizer(read_tokenizer(path, head=checkpoint.head))
    encodings = [encode(tokenizer, text, longest=checkpoint.config.longest) for text in texts]
    weights = {name: checkpoint.load(name) for name in checkpoint.pieces}
    calibrate(checkpoint, weights, encodings, {name: [each.update] for name, each in estimators.items()})
    return {name: [float(end) for end in each.range()] for name, each in estimators.items()}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command line, and returns its status and what it told on stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def ranges() -> Ranges:
    return calibrated(FLOAT, "intsim", default_calibration())


def stored(model: Any, folder: Path) -> bytes:
    model.save(folder)
    return (folder / "model.safetensors").read_bytes()


def test_the_ranges_of_calibration_read_back_give_the_same_bytes(ranges: Ranges, tmp_path: Path) -> None:
    file = tmp_path / "ranges.json"
    file.write_text(json.dumps(ranges), encoding="utf-8")
    expected = stored(intsim.quantize(FLOAT), tmp_path / "expected")
    assert stored(intsim.quantize(FLOAT, ranges=file), tmp_path / "file") == expected
    assert stored(intsim.quantize(FLOAT, ranges=str(file)), tmp_path / "text") == expected
    assert stored(intsim.quantize(FLOAT, ranges=ranges), tmp_path / "mapping") == expected
    arrays = {name: np.array(pair) for name, pair in ranges.items()}
    assert stored(intsim.quantize(FLOAT, ranges=arrays), tmp_path / "arrays") == expected


@pytest.mark.parametrize("family", ENCODERS)
def test_every_family_takes_ranges(family: str, tmp_path: Path) -> None:
    path = tiny(family, "two-classes", tmp_path / "float")
    given = calibrated(path, "intsim", TEXTS)
    expected = stored(intsim.quantize(path, calibration=TEXTS), tmp_path / "texts")
    assert stored(intsim.quantize(path, ranges=given), tmp_path / "ranges") == expected


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_takes_ranges_and_no_text(family: str, tmp_path: Path) -> None:
    path = tiny(family, "causal-lm", tmp_path / "float")
    names = [name for name in open_checkpoint(path).outline.activations if name not in ("lm_head", "embed_out")]
    model = intsim.quantize(path, ranges={name: [-8.0, 8.0] for name in names})
    scales = {name: found for name, found in model.formats.items() if name in names}
    assert len(scales) == len(names)
    for found in (each for each in scales.values() if each.range.narrow):
        step = int(found.scale.multiplier) * 2.0 ** -int(found.scale.shift)
        assert step * found.range.max == pytest.approx(8, rel=1e-6)  # scales have 24 bits


def test_a_given_range_decides_its_scale_and_zero_point(ranges: Ranges) -> None:
    name = "encoder.layer.0.output.sum"
    model, other = (intsim.quantize(FLOAT, ranges=ranges | {name: pair}) for pair in ([-4, 4.0], np.array([-8, 8])))
    different = {each for each, found in model.formats.items() if found != other.formats[each]}
    assert different == {name}
    scale = model.formats[name].scale
    assert other.formats[name].scale == Dyadic(int(scale.multiplier), int(scale.shift) - 1)


def test_texts_serve_the_activations_that_have_no_range(ranges: Ranges, tmp_path: Path) -> None:
    some = dict(list(ranges.items())[::3])
    expected = stored(intsim.quantize(FLOAT), tmp_path / "expected")
    model = intsim.quantize(FLOAT, ranges=some, calibration=default_calibration())
    assert stored(model, tmp_path / "some") == expected
    wider = {name: [2 * low, 2 * high] for name, (low, high) in some.items()}
    assert (
        stored(intsim.quantize(FLOAT, ranges=wider, calibration=default_calibration()), tmp_path / "other") != expected
    )


def test_a_checkpoint_without_a_tokenizer_needs_none_where_every_range_is_given(tmp_path: Path) -> None:
    path = tiny("bert", "two-classes", tmp_path / "float")
    given = calibrated(path, "intsim", TEXTS)
    (path / "tokenizer.json").unlink()
    model = intsim.quantize(path, ranges=given)
    assert model.tokenizer is None
    assert model([[1, 2, 3]]).values.shape == (1, len(model.config.labels))


# What is refused


def refused(message: str, **options: Any) -> None:
    with pytest.raises(IntsimError) as refusal:
        intsim.quantize(FLOAT, **options)
    assert message in str(refusal.value)


def test_activations_without_a_range_are_counted_and_the_first_is_named(ranges: Ranges) -> None:
    names = list(ranges)
    rest = {name: ranges[name] for name in names[:3] + names[5:]}
    rule = "ranges must hold every activation, or come with calibration texts, got none of"
    refused(f"{rule} '{names[3]}' and 1 others", ranges=rest)
    refused(f"{rule} '{names[-1]}'", ranges={name: ranges[name] for name in names[:-1]})
    refused(f"{rule} '{names[0]}' and {len(names) - 1} others", ranges={})


def test_texts_that_nothing_needs_are_refused(ranges: Ranges) -> None:
    refused(
        "calibration must be left out where every range was trained or given, got 3", ranges=ranges, calibration=TEXTS
    )


def test_a_name_of_no_activation_is_refused(ranges: Ranges) -> None:
    for name in "bert.embeddings", "encoder.layer.0.output.dense.weight", "\n", "", 5, None:
        message = f"ranges must name activations of the model, such as '{next(iter(ranges))}', got {name!r}; "
        refused(message, ranges=ranges | {name: [0, 1]})


def test_an_activation_in_the_format_of_another_takes_no_range_of_its_own(tmp_path: Path) -> None:
    path = tiny("mobilebert", "two-classes", tmp_path)
    like = {name: each.like for name, each in open_checkpoint(path).outline.activations.items() if each.like}
    name = next(iter(like))
    with pytest.raises(IntsimError, match=f"must leave '{name}' out, whose range is that of '{like[name]}'"):
        intsim.quantize(path, ranges={name: [0, 1]})


@pytest.mark.parametrize(
    "pair",
    [
        *(None, 1, "12", "ab", [], [1], [0, 1, 2], {"min": 0, "max": 1}, [[0], [1]], ["0", "1"], [None, 1]),
        *([False, True], [0, True], [1, 0], [math.nan, 1], [0, math.nan], [-math.inf, 0], [0, math.inf], [0, 10**400]),
        *([0, 1j], np.zeros((2, 2))),
    ],
    ids=repr,
)
def test_what_is_no_range_is_refused(ranges: Ranges, pair: Any) -> None:
    name = list(ranges)[2]
    rule = f"ranges must hold two finite numbers [min, max], min <= max, for '{name}', got "
    refused(rule, ranges=ranges | {name: pair})


def test_a_range_beyond_float32_is_refused(ranges: Ranges) -> None:
    name = list(ranges)[2]
    refused(f"activation '{name}' must have a range to quantize, got", ranges=ranges | {name: [-1e308, 1e308]})


def test_an_activation_that_the_recipe_splits_in_groups_takes_no_range(ranges: Ranges) -> None:
    message = "must have one range, as it was trained or given, got groups"
    refused(message, ranges=ranges, recipe="peg:groups=4,permutation=none")


def test_trained_ranges_give_way_to_given_ones(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file  # noqa: PLC0415

    path = tiny("bert", "two-classes", tmp_path / "float")
    given = calibrated(path, "intsim", TEXTS)
    plain = stored(intsim.quantize(path, ranges=given), tmp_path / "plain")
    name = next(iter(given))
    tensors = load_file(path / "model.safetensors")
    ends = {f"bert.{name}.x_min": np.array(-3, np.float32), f"bert.{name}.x_max": np.array(3, np.float32)}
    save_file(tensors | ends, path / "model.safetensors")
    assert set(trained_ranges(open_checkpoint(path))) >= {name}
    assert stored(intsim.quantize(path, ranges=given), tmp_path / "given") == plain
    without = {other: pair for other, pair in given.items() if other != name}
    assert stored(intsim.quantize(path, ranges=without), tmp_path / "trained") != plain


NO_JSON: Final = "must be a readable JSON file, got"
NO_OBJECT: Final = "must hold an object of activation names and ranges [min, max], got"
NO_RANGE: Final = "must hold two finite numbers [min, max], min <= max, for 'embeddings.sum', got"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NO_JSON),
        ("{", NO_JSON),
        ("name: [0, 1]", NO_JSON),
        ("[" * 100 + "]" * 100, f"{NO_JSON} lists or objects nested deeper"),
        ("\udcff", f"{NO_JSON} bytes that are not UTF-8"),
        ("[0, 1]", f"{NO_OBJECT} list"),
        ("null", f"{NO_OBJECT} NoneType"),
        (
            '{"embeddings.sum": [0, 1], "embeddings.sum": [0, 2]}',
            "must name every activation once, got 'embeddings.sum'",
        ),
        ('{"embeddings.sum": [0, NaN]}', f"{NO_RANGE} [0, nan]"),
        ('{"embeddings.sum": [0, 1e999]}', f"{NO_RANGE} [0, inf]"),
        ('{"embeddings.sum": [1, 0]}', f"{NO_RANGE} [1, 0]"),
        (
            '{"embedding.sum": [0, 1]}',
            "must name activations of the model, such as 'embeddings.sum', got 'embedding.sum'",
        ),
        ("{}", "ranges must hold every activation, or come with calibration texts, got none of 'embeddings.sum' and"),
    ],
)
def test_a_file_that_is_wrong_is_one_sentence_and_3(text: str, message: str, command: Any, tmp_path: Path) -> None:
    file = tmp_path / "ranges.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    status, told = command("quantize", FLOAT, "-o", tmp_path / "out", "--ranges", file)
    assert status == 3
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_reads_ranges(ranges: Ranges, command: Any, tmp_path: Path) -> None:
    file = tmp_path / "ranges.json"
    file.write_text(json.dumps(ranges), encoding="utf-8")
    assert command("quantize", FLOAT, "-o", tmp_path / "out", "--ranges", file)[0] == 0
    assert (tmp_path / "out/model.safetensors").read_bytes() == stored(intsim.quantize(FLOAT), tmp_path / "python")
    assert command("quantize", FLOAT, "-o", tmp_path / "no", "--ranges", tmp_path / "none.json")[0] == 3
    some = {name: ranges[name] for name in list(ranges)[:2]}
    file.write_text(json.dumps(some), encoding="utf-8")
    assert command("quantize", FLOAT, "-o", tmp_path / "some", "--ranges", file, "--calibration-size", "4")[0] == 0
