# SPDX-License-Identifier: Apache-2.0
"""Pictures of traces: what is drawn is what the trace holds."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from families import calibration, tiny

import intsim
from intsim.cli import cli
from intsim.errors import IntsimError
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.io.trace_file import read_trace, write_trace
from intsim.report.evaluate import Example
from intsim.report.report import report

pytest.importorskip("matplotlib", reason="needs matplotlib")
from intsim.report import trace_plot

TEXT = "the plot is not good , not bad ."
TEXTS = ("a good movie .", TEXT)


@pytest.fixture(scope="module")
def source(tiny_bert: Callable[..., Path]) -> Path:
    return tiny_bert()


@pytest.fixture(scope="module")
def model(source: Path) -> intsim.IntegerModel:
    return intsim.quantize(source, calibration=TEXTS)


def traced(model: intsim.IntegerModel, path: Path, level: Any = "steps", *, padding: int = 0) -> Any:
    ids = list(encode(parse_tokenizer(model.tokenizer or ""), TEXT, longest=32).ids)
    mask = [1] * len(ids) + [0] * padding
    with intsim.trace(level) as trace:
        model([ids + [0] * padding], attention_mask=[mask])
    write_trace(path, trace, model)
    return trace


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG\r\n\x1a\n"), ("html", b"<!doctype html>")])
def test_inspect_draws_a_trace(
    model: intsim.IntegerModel, source: Path, tmp_path: Path, suffix: str, start: bytes
) -> None:
    traced(model, tmp_path / "trace.safetensors")
    file = tmp_path / f"picture.{suffix}"
    outcome = inspect(tmp_path / "trace.safetensors", "--plot", file, "--reference", source)
    assert outcome.exception is None
    assert outcome.output.startswith("kind          trace")
    assert file.read_bytes().startswith(start)


def test_the_page_holds_every_picture_and_what_each_array_makes_of_its_codes(
    model: intsim.IntegerModel, source: Path, tmp_path: Path
) -> None:
    trace = traced(model, tmp_path / "trace.safetensors")
    trace_plot.plot_trace(tmp_path / "trace.safetensors", tmp_path / "page.html", reference=source)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Ranges and codes",
        "Error beside the float model",
        "Attention, first text",
        "Arrays",
    ]
    assert page.count('src="data:image/png;base64,') == 3
    assert not re.search("""(?:src|href)=["'](?!data:)""", page)
    rows = {row[0]: row for row in (re.split("<t[dh]>", each)[1:] for each in page.split("<tr>")) if row}
    name = "encoder.layer.0.attention.self.probs"
    codes = trace[name]
    assert rows[name][3] == f"{codes.min()} … {codes.max()}"
    assert float(rows[name][5].split()[0]) == pytest.approx(100 * np.isin(codes, (0, 255)).mean(), rel=1e-2)
    fitted = trace["encoder.layer.0.attention.self.query"]  # symmetric: -128 is left out
    share = 100 * np.isin(fitted, (-127, 127)).mean()
    assert float(rows["encoder.layer.0.attention.self.query"][5].split()[0]) == pytest.approx(share, rel=1e-2)


def test_a_smoothed_norm_is_held_against_what_it_is_to_be(tmp_path: Path) -> None:
    source = tiny("llama", "causal-lm", tmp_path / "llama")
    model = intsim.quantize(source, recipe="zeroquant", profile=intsim.PROFILES["intsim-wide"], calibration=[TEXT])
    with intsim.trace("steps") as trace:
        model([[1, 5, 9, 4]])
    write_trace(tmp_path / "trace.safetensors", trace, model)
    taken, _ = read_trace(tmp_path / "trace.safetensors")
    manifest = trace_plot.read(tmp_path / "trace.safetensors")[1]["trace"]
    errors = trace_plot._relative_errors(taken, trace_plot._activations(taken, manifest), source)
    smoothed = {name: errors[name] for name in errors if f"{name}.smooth.shift" in model.tensors}
    assert len(smoothed) > 1
    assert max(smoothed.values()) < 0.02


def test_channels_in_another_order_are_held_against_their_own(source: Path, tmp_path: Path) -> None:
    model = intsim.quantize(source, recipe="peg", calibration=TEXTS)
    order = model.tensors["order"]
    assert not np.array_equal(order, np.arange(order.size))
    traced(model, tmp_path / "trace.safetensors")
    taken, _ = read_trace(tmp_path / "trace.safetensors")
    manifest = trace_plot.read(tmp_path / "trace.safetensors")[1]["trace"]
    errors = trace_plot._relative_errors(taken, trace_plot._activations(taken, manifest), source)
    assert len(errors) > 10
    assert max(errors.values()) < 0.02


@pytest.mark.parametrize("family", ["bert", "albert", "electra", "mobilebert", "distilbert"])
def test_the_order_of_channels_is_found_where_words_have_fewer_of_them_too(family: str, tmp_path: Path) -> None:
    source = tiny(family, "none", tmp_path / family)
    model = intsim.quantize(source, recipe="peg:groups=4", calibration=calibration(family))
    with intsim.trace("steps") as trace:
        model([[2, 5, 9, 4, 3]])
    order = np.argsort(model.tensors["order"])
    assert not np.array_equal(order, np.arange(order.size))
    np.testing.assert_array_equal(trace_plot._order(trace, open_checkpoint(source)), order)


@pytest.mark.parametrize("padding", [0, 3])
def test_errors_are_those_of_the_report(model: intsim.IntegerModel, source: Path, tmp_path: Path, padding: int) -> None:
    traced(model, tmp_path / "trace.safetensors", padding=padding)
    taken, _ = read_trace(tmp_path / "trace.safetensors")
    manifest = trace_plot.read(tmp_path / "trace.safetensors")[1]["trace"]
    errors = trace_plot._relative_errors(taken, trace_plot._activations(taken, manifest), source)
    reported = report(source, ["intsim"], "sst2", [Example(texts=(TEXT,), target=1)] * 2, calibration=TEXTS)
    expected = {each.name: each.squared for each in reported.recipes[0].errors}
    shared = errors.keys() & expected.keys()
    assert len(shared) >= 3
    if not padding:
        assert {name: errors[name] for name in shared} == pytest.approx(
            {name: expected[name] for name in shared}, rel=1e-4
        )
    assert all(0 < errors[name] < 1e-2 for name in shared)


@pytest.mark.parametrize(
    ("level", "file", "arguments", "complaint"),
    [
        (
            "tensors",
            "picture.png",
            ["--reference", "SOURCE"],
            "trace must be of level steps to be held against a reference",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(
    model: intsim.IntegerModel,
    source: Path,
    tmp_path: Path,
    level: str,
    file: str,
    arguments: list[str],
    complaint: str,
) -> None:
    traced(model, tmp_path / "trace.safetensors", level)
    given = [str(source) if each == "SOURCE" else each for each in arguments]
    outcome = inspect(tmp_path / "trace.safetensors", "--plot", tmp_path / file, *given)
    assert isinstance(outcome.exception, IntsimError)
    assert str(outcome.exception).startswith(complaint)
    assert not (tmp_path / file).exists()


def test_a_plot_of_another_kind_is_wrong_usage(tmp_path: Path) -> None:
    outcome = inspect(tmp_path / "trace.safetensors", "--plot", tmp_path / "picture.pdf")
    assert outcome.exit_code == 2
    assert "a plot must be a .png or .html file, got " in outcome.stderr


def test_only_traces_are_drawn(source: Path, tmp_path: Path) -> None:
    outcome = inspect(source, "--plot", tmp_path / "picture.png")
    assert str(outcome.exception) == f"a plot must be of a trace, got the checkpoint {source}"


@pytest.mark.parametrize("arguments", [("--reference", "x"), ("--widths", "--plot", "x.png")])
def test_options_that_do_not_go_together_are_wrong_usage(source: Path, arguments: tuple[str, ...]) -> None:
    assert inspect(source, *arguments).exit_code == 2
