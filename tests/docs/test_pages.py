# SPDX-License-Identifier: Apache-2.0
"""The sources of the site say what is there: modules, commands, exit statuses; README shows what is printed."""

import doctest
import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from docs.public import PAGES, ROOT, commands, names, public_modules, source

from intsim import _status
from intsim.cli import cli
from intsim.profile import PROFILES

API = PAGES / "reference" / "api"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def text_of(folder: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md")))


def notebooks_text() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*/*.py")))


def test_every_public_module_is_in_the_reference_once() -> None:
    listed = Counter(re.findall(r"^\.\. automodule:: (.+)$", text_of(API), re.MULTILINE))
    assert set(public_modules()) - set(listed) == set()
    assert [module for module, count in listed.items() if count > 1] == []
    assert all(source(module).exists() for module in listed)


def test_every_name_of_the_package_is_explained() -> None:
    page = (API / "index.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`intsim\.(\w+)(?: <[\w.]+>)?`", page))
    assert explained == set(names(source("intsim")))


def test_every_command_is_in_the_reference_once() -> None:
    page = (PAGES / "reference" / "commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^ +:prog: (.+)$", page, re.MULTILINE)) == sorted(commands())


def test_exit_statuses_are_those_of_the_program() -> None:
    page = (PAGES / "reference" / "commands.md").read_text(encoding="utf-8")
    statuses = {value for name, value in vars(_status).items() if name.isupper() and type(value) is int}
    assert {int(found) for found in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == statuses


EXAMPLE = re.compile(r"^ *>>> ", re.MULTILINE)
MODULES_WITH_EXAMPLES = [
    module for module in public_modules() if EXAMPLE.search(source(module).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("module", [*MODULES_WITH_EXAMPLES, "intsim.ops.requantize"])
def test_examples_in_docstrings_print_what_they_say(module: str) -> None:
    importlib.import_module(module)
    found = doctest.testmod(sys.modules[module])
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("page", [path for path in PAGES.rglob("*.md") if EXAMPLE.search(path.read_text("utf-8"))])
def test_examples_in_pages_print_what_they_say(page: Path) -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, {}, page.name, str(page), 0)
        assert doctest.DocTestRunner().run(test).failed == 0


def test_every_figure_says_what_it_shows() -> None:
    cells = re.findall(r'^# %% tags=\["(?:hide|remove)-input"\].*$', notebooks_text(), re.MULTILINE)
    assert len(cells) > 40
    assert [cell for cell in cells if not re.search(' alt="[^"]{20,110}"$', cell)] == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*PAGES.rglob("*.md"), *PAGES.rglob("*.py")]
    links = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\((?!https?:|\w+:)([^)#\s]+\.(?:md|py))", page.read_text("utf-8"))
        if not (page.parent / link).exists()
    ]
    assert links == []


@pytest.mark.parametrize("name", PROFILES)
def test_the_page_of_a_profile_is_its_specification(name: str, tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["profiles", name, "--spec", str(tmp_path / "spec.md")])
    assert made.exit_code == 0
    page = PAGES / "reference" / f"numerics-{name}.md"
    assert page.read_text("utf-8") == (tmp_path / "spec.md").read_text("utf-8"), f"intsim profiles {name} --spec {page}"


# ---- README


def test_readme_is_short() -> None:
    assert README.count("\n") <= 150


def test_readme_shows_what_the_demo_prints() -> None:
    shown = README.split("$ intsim demo\n")[1].split("\n```")[0].splitlines()
    printed = iter(CliRunner().invoke(cli, ["demo"]).output.splitlines())
    kept = [line for line in shown if "left out here" not in line]
    assert len(kept) > 10
    assert [line for line in kept if line not in printed] == []  # in this order


def test_readme_counts_the_witnesses() -> None:
    rows = json.loads((ROOT / "intsim" / "witnesses.json").read_text(encoding="utf-8"))
    assert f"{len(rows)} kernels of " in README


def test_links_of_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_of_readme_exist() -> None:
    known = {command.split()[1] for command in commands()}
    named = set(re.findall(r"(?:^|[`&$ ])intsim ([a-z]+)\b(?= |`|$)", README, re.MULTILINE)) - {
        "is",
        "and",
        "generates",
    }
    assert {"demo", "quantize", "compare", "vectors"} <= named & known
