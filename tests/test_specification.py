# SPDX-License-Identifier: Apache-2.0
"""The specification of a profile: its examples hold, it says what the profile says, and changes with it."""

import html
import json
import re
from dataclasses import replace

import oracle
import pytest
from click.testing import CliRunner

from intsim.cli import cli
from intsim.fixedpoint import Rounding
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, IVIT, NATIVE, PROFILES
from intsim.requantization import RULES
from intsim.specification import specification
from intsim.specification.document import Table, Text, to_markdown
from intsim.specification.examples import evaluate

OPERATORS = [
    *("matmul", "requantize", "add", "multiply", "rotary", "exp", "softmax", "gelu", "tanh", "sigmoid", "silu"),
    *("isqrt", "layer_norm", "rms_norm"),
]
WORD = re.compile(r"(\w+) = (\[[^\]]*\]|-?\d+)")

every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))


def sections(text):
    """Return the text of every section with an operator, by its name."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    named = {found[1]: part for part in parts if (found := re.search(r"\((\w+)\)", part.partition("\n")[0]))}
    return {**named, "rounding": parts[0], "formats": parts[1]}


def examples(section):
    """Return operands, steps and result of the worked examples of a section, as numbers."""
    found, operands, steps = [], {}, {}
    for line in section.splitlines():
        words = {name: json.loads(word) for name, word in WORD.findall(line)}
        if line.startswith("    -> "):
            found.append((operands, steps, words))
            operands, steps = {}, {}
        elif line.startswith("    "):
            steps |= words
        elif words and len(words) == line.count(" = "):  # nothing but operands
            operands |= words
        else:
            operands, steps = {}, {}
    return found


def golden(name, a, profile):
    """Compute an example by the independent oracle."""
    rules = json.loads(json.dumps({**profile.to_json()}))
    rules.setdefault("silu", {"input_fraction": profile.silu.input_fraction})
    wide, narrow = {"lo": -(2**15), "hi": 2**15 - 1}, {"lo": -128, "hi": 127}
    match name:
        case "matmul":
            x, w = ([a[k][i : i + a["depth"]] for i in range(0, len(a[k]), a["depth"])] for k in ("x", "w"))
            return [acc for row in oracle.matmul(x, w, a["stored_bias"]) for acc in row]
        case "requantize":
            rounding = rules["requantization"]
            return oracle.requantize(
                a["acc"], a["multiplier"], a["shift"], zero_point=a["zero_point"], rounding=rounding, **narrow
            )
        case "add":
            dyadics = [(a[f"multiplier_{k}"], a[f"shift_{k}"]) for k in (1, 2)]
            once, rounding = profile.sum == "once", rules["rounding"]
            return oracle.add(
                [a["x_1"], a["x_2"]], dyadics, zero_point=a["zero_point"], rounding=rounding, once=once, **wide
            )
        case "multiply":
            zeros = {k: a[k] for k in ("a_zero_point", "b_zero_point", "zero_point")}
            return oracle.multiply(a["a"], a["b"], a["multiplier"], a["shift"], mode=rules["rounding"], **zeros, **wide)
        case "rotary":
            pairing = "neighbours" if a["neighbours"] else "halves"
            return oracle.rotary(a["x"], a["cos"], a["sin"], pairing=pairing, mode=rules["rounding"])
        case "softmax":
            return oracle.softmax(a["acc"], a["multiplier"], a["shift"], [keep == 1 for keep in a["mask"]], rules)
        case "gelu":
            return [oracle.gelu(x, rules) for x in a["x"]]
        case "isqrt":
            return oracle.isqrt(a["n"])
        case "layer_norm" | "rms_norm":
            fields = (a["x"], a["multiplier"], a["bias"], a["shift"], a["eps"])
            return getattr(oracle, name)(*fields, -128, 127, rules)
        case _:
            return getattr(oracle, name)(a["x"], rules)


@every_profile
def test_the_examples_of_the_document_are_what_the_operators_compute(profile):
    found = sections(specification(profile))
    names = [name for name in OPERATORS if name in found]
    assert set(OPERATORS) - set(names) == ({"rms_norm"} if "layer_norm" in profile.borrowed else set())
    for name in names:
        shown = examples(found[name])
        assert len(shown) >= 3, name
        for operands, steps, result in shown:
            again = evaluate(name, operands, profile)
            assert (again.steps, again.result) == (steps, result), name


@pytest.mark.parametrize("profile", NATIVE.values(), ids=list(NATIVE))
def test_the_examples_of_the_document_are_what_the_oracle_computes(profile):
    found = sections(specification(profile))
    for name in OPERATORS:
        for operands, _, (result,) in [(a, s, r.values()) for a, s, r in examples(found[name])]:
            expected = golden(name, operands, profile)
            assert result == (expected[0] if isinstance(expected, list) and len(expected) == 1 else expected), name


CHANGES = [
    (INTSIM, {"requantization": RULES["tflite-double"]}, {"requantize"}),
    (INTSIM, {"requantization": RULES["onnx-qlinear"]}, {"requantize"}),
    (INTSIM, {"requantization": RULES["xnnpack-fp32"]}, {"requantize"}),
    (INTSIM, {"requantization": RULES["tflite-int64"]}, {"requantize"}),
    (INTSIM, {"requantization": RULES["ita"]}, {"requantize"}),
    (INTSIM, {"rounding": Rounding.HALF_AWAY}, {"add", "multiply", "rotary", "softmax", "layer_norm", "rms_norm"}),
    (
        INTSIM,
        {"step_rounding": Rounding.FLOOR},
        {"exp", "softmax", "gelu", "tanh", "sigmoid", "layer_norm", "rms_norm"},
    ),
    (INTSIM, {"sum": "each"}, {"add"}),
    (INTSIM, {"exp": replace(INTSIM.exp, a="0.35")}, {"exp"}),
    (INTSIM, {"exp": replace(INTSIM.exp, guard_bits=2)}, {"exp"}),
    (INTSIM, {"softmax": replace(INTSIM.softmax, one=256)}, {"softmax"}),
    (INTSIM, {"softmax": replace(INTSIM.softmax, one=65535)}, {"softmax", "formats"}),
    (INTSIM, {"gelu": replace(INTSIM.gelu, b="-1.7")}, {"gelu"}),
    (INTSIM, {"gelu": replace(INTSIM.gelu, output_shift=20)}, {"gelu"}),
    (INTSIM, {"tanh": replace(INTSIM.tanh, output_fraction=13)}, {"tanh"}),
    (INTSIM, {"sigmoid": replace(INTSIM.sigmoid, output_fraction=13)}, {"sigmoid", "silu"}),
    (INTSIM, {"silu": replace(INTSIM.silu, input_fraction=12)}, {"silu"}),
    (INTSIM, {"layer_norm": replace(INTSIM.layer_norm, output_fraction=12)}, {"layer_norm", "rms_norm"}),
    (INTSIM, {"layer_norm": replace(INTSIM.layer_norm, centring="rounded-mean")}, {"layer_norm"}),
    (INTSIM, {"layer_norm": IVIT.layer_norm}, {"layer_norm"}),
    (INTSIM_WIDE, {"gelu": replace(INTSIM_WIDE.gelu, output_fraction=14)}, {"gelu"}),
    (INTSIM_WIDE, {"exp": replace(INTSIM_WIDE.exp, output_fraction=22)}, {"exp"}),
    (IVIT, {"softmax": replace(IVIT.softmax, bits=14)}, {"softmax"}),
    (IVIT, {"gelu": replace(IVIT.gelu, bits=20)}, {"gelu"}),
    (PROFILES["ita"], {"softmax": replace(PROFILES["ita"].softmax, streaming=False)}, {"softmax"}),
    (PROFILES["ita"], {"softmax": PROFILES["ita-2024"].softmax}, {"softmax"}),
    (PROFILES["ita"], {"gelu": replace(PROFILES["ita"].gelu, input_fraction=4)}, {"gelu"}),
    (PROFILES["ibert-code"], {"gelu": replace(PROFILES["ibert-code"].gelu, input_fraction=9)}, {"gelu"}),
    (PROFILES["ibert-code"], {"softmax": replace(PROFILES["ibert-code"].softmax, input_fraction=7)}, {"softmax"}),
    (PROFILES["ibert-code"], {"layer_norm": replace(PROFILES["ibert-code"].layer_norm, shift=4)}, {"layer_norm"}),
]


@pytest.mark.parametrize(
    ("profile", "change", "names"),
    CHANGES,
    ids=[f"{profile.name} {' '.join(change)} {i}" for i, (profile, change, _) in enumerate(CHANGES)],
)
def test_a_changed_rule_changes_its_equations_and_its_section(profile, change, names):
    before, after = (sections(specification(each)) for each in (profile, replace(profile, **change)))
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert names <= changed
    for name in names:
        said = [re.sub(r"(?m)^(\w+ = .*\n)*(    .*\n)*    -> .*$", "", part[name]) for part in (before, after)]
        assert said[0] != said[1], name  # the words too, not the examples alone


@every_profile
def test_formulas_are_code(profile):
    blocks = re.sub(r"(?ms)^```.*?^```", "", specification(profile))
    assert "*" not in re.sub(r"`[^`]*`", "", re.sub(r"(?m)^\* ", "", blocks))


@every_profile
def test_no_line_of_an_example_is_a_wall(profile):
    shown = re.findall(r"(?m)^(?:    .*|\w+ = .*)$", specification(profile))
    assert max(map(len, shown)) < 110


@every_profile
def test_rounding_is_shown_at_negative_ties(profile):
    section = sections(specification(profile))["rounding"]
    rows = [line.split(" | ") for line in section.splitlines() if re.match(r"\| R|\| F", line)]
    names = {"RHU": "half-up", "RHE": "half-even", "FLR": "floor"}
    assert {row[0].removeprefix("| ") for row in rows[1:]} <= set(names)
    for row in rows:
        if (name := row[0].removeprefix("| ")) in names:
            expected = [oracle.rounding_shift(half, 1, names[name]) for half in (-7, -5, -3, -1, 1, 3, 5, 7)]
            assert [int(cell.rstrip(" |")) for cell in row[3:]] == expected
    assert "`R` is " + {v: k for k, v in names.items()}[str(profile.rounding)] in section


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=str)
def test_constants_stand_there_as_integers(profile):
    found = sections(specification(profile))
    constants = {"exp": profile.exp, "gelu": profile.gelu}
    for name, rule in constants.items():
        shown = [int(value) for value in re.findall(r"^\| q_\w+ \| .* \| (-?\d+) \|$", found[name], re.MULTILINE)]
        assert tuple(shown) == rule.constants(profile.step_rounding)


@every_profile
def test_the_page_says_what_the_markdown_says(profile):
    text, page = specification(profile), html.unescape(specification(profile, ".html"))
    plain = re.sub(r"<[a-z/!][^>]*>", "", page)
    for line in text.splitlines():
        for cell in re.split(r" \| ", line.strip("|#* ").replace("`", "").replace("\\|", "|").replace("\\*", "*")):
            assert cell.strip("|- ") in plain or "|" in cell, cell
    assert page.count("<pre>") == text.count("```") // 2
    assert page.startswith("<!doctype html>")


def test_the_command_writes_either_and_refuses_the_rest(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(cli, ["profiles", *map(str, arguments)])

    for name in ("spec.md", "spec.html"):
        assert call("ibert", "--spec", tmp_path / name).exit_code == 0
        assert (tmp_path / name).read_text() == specification(IBERT, (tmp_path / name).suffix)
    assert call("intsim", "--spec", tmp_path / "spec.md").exit_code == 0
    assert (tmp_path / "spec.md").read_text() == specification(INTSIM)
    assert call("--spec", tmp_path / "spec.md").exit_code == 2
    other = call("intsim", "--spec", tmp_path / "spec.pdf")
    assert other.exit_code == 2
    assert "must be a file of .md or .html" in other.stderr
    (tmp_path / "notes.md").write_text("mine")
    assert "must be new, empty or a specification" in str(call("intsim", "--spec", tmp_path / "notes.md").exception)
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_powers_in_sentences_and_tables_are_no_emphasis() -> None:
    text, table = "m * 2**t, `2**30`", Table(header=["of 2**t"], rows=[["`2**t`", "|x| * 2"]])
    lines = [line for line in to_markdown([Text(text), table]).splitlines() if line]
    assert lines == [r"m \* 2\*\*t, `2**30`", r"| of 2\*\*t |", "| --- |", r"| `2**t` | \|x\| \* 2 |"]
