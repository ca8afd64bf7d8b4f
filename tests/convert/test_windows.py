# SPDX-License-Identifier: Apache-2.0
"""A decoder is calibrated on running text, cut into windows."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from families import tiny

import intsim
from intsim.cli import main
from intsim.convert import default_running_text
from intsim.io.tokenizer import Encoding, parse_tokenizer, read_tokenizer, running

RECIPE: Final = """
profile = "intsim"

[[weights]]
names = "*"
bits = 8
granularity = "channel"

[[activations]]
names = "*"
bits = 8
symmetric = true
"""
quantize_module: Final[Any] = import_module("intsim.convert.quantize")
LINES: Final = ["a good movie .", "", "the plot is not bad", "  , not good at all"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny("llama", "causal-lm", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Encoding]]:
    """Return what every pass of the float model reads."""
    passes: list[Sequence[Encoding]] = []
    calibrate = quantize_module.calibrate

    def watched(checkpoint: Any, weights: Any, encodings: Any, observers: Any, **how: Any) -> None:
        passes.append(encodings)
        calibrate(checkpoint, weights, encodings, observers, **how)

    monkeypatch.setattr(quantize_module, "calibrate", watched)
    return passes


def tokens_of(path: Path, text: str) -> tuple[list[int], list[int]]:
    return running(parse_tokenizer(read_tokenizer(path)), text)


def test_all_lines_are_one_text_in_windows(decoder: Path, seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(quantize_module, "running", lambda *how: texts.append(how[1]) or running(*how))
    intsim.quantize(decoder, calibration=LINES, window=7)
    assert texts == ["a good movie .\n\nthe plot is not bad\n  , not good at all"]
    (encodings,) = seen
    before, ids = tokens_of(decoder, "\n".join(LINES))
    assert len(before) == 1
    assert [each.ids for each in encodings] == [[*before, *ids[i : i + 6]] for i in range(0, len(ids), 6)]
    assert len(encodings) > 2


@pytest.mark.parametrize(("context", "window"), [(40, 40), (600, 512)])
def test_a_window_has_512_tokens_or_the_context(tmp_path: Path, seen: list[Any], context: int, window: int) -> None:
    path = tiny("llama", "causal-lm", tmp_path, max_position_embeddings=context)
    intsim.quantize(path)
    (encodings,) = seen
    before, ids = tokens_of(path, "\n".join(default_running_text()))
    assert {len(each.ids) for each in encodings[:-1]} == {window}
    assert sum(len(each.ids) - len(before) for each in encodings) == len(ids)


def test_ranges_are_those_of_the_windows(decoder: Path) -> None:
    model = intsim.quantize(decoder, calibration=LINES, window=7)
    again = intsim.quantize(decoder, calibration=["\n".join(LINES)], window=7)
    assert again.digest == model.digest
    assert intsim.quantize(decoder, calibration=LINES, window=8).digest != model.digest


def test_a_tab_is_a_character_of_a_text(decoder: Path) -> None:
    model = intsim.quantize(decoder, calibration=["a good\tmovie\tthe plot"])
    assert model.digest == intsim.quantize(decoder, calibration=["a good movie the plot"]).digest


def test_the_file_is_read_as_it_stands(decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.txt").write_text("\n".join(LINES), encoding="utf-8")
    command = ["intsim", "quantize", decoder, "-o", tmp_path / "out", "--calibration", tmp_path / "text.txt"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--window", "7"])
    texts: list[str] = []
    cut_windows = quantize_module._windows
    monkeypatch.setattr(quantize_module, "_windows", lambda *how: texts.extend(how[1]) or cut_windows(*how))
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert texts == LINES
    model = intsim.quantize(decoder, calibration=LINES, window=7)
    assert intsim.load(tmp_path / "out").digest == model.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 41}, "window must be at most the context, 40 tokens, got 41"),
        ({"window": 1}, "window must have at least 2 tokens, got 1"),
        ({"calibration": ["", " "]}, "calibration must have more than white space"),
        ({"calibration": []}, "calibration must have more than white space"),
    ],
)
def test_what_has_no_windows_is_refused(decoder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(intsim.IntsimError, match=message):
        intsim.quantize(decoder, **change)


@pytest.mark.parametrize(("family", "head"), [("bert", "two-classes"), ("llama", "two-classes"), ("bert", "none")])
def test_models_of_whole_texts_read_each_by_itself(tmp_path: Path, seen: list[Any], family: str, head: str) -> None:
    path = tiny(family, head, tmp_path)
    with pytest.raises(intsim.IntsimError, match=r"window must be left out unless a decoder reads on, got 7"):
        intsim.quantize(path, window=7)
    intsim.quantize(path, calibration=["a good movie .", "a bad plot , not good"])
    (encodings,) = seen
    assert [len(each.ids) for each in encodings] == [6, 8]


def test_every_token_of_every_window_is_seen(decoder: Path, tmp_path: Path) -> None:
    """The last words' ranges, by their own recipe: those of the whole text, in windows of any length."""
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    found = {
        window: intsim.quantize(decoder, recipe=tmp_path / "recipe.toml", calibration=LINES, window=window)
        for window in (3, 7, 40)
    }
    scales = {int(model.formats["embed_tokens.sum"].scale.multiplier) for model in found.values()}
    assert len(scales) == 1
    fewer = intsim.quantize(decoder, recipe=tmp_path / "recipe.toml", calibration=LINES[:1], window=7)
    assert int(fewer.formats["embed_tokens.sum"].scale.multiplier) not in scales
