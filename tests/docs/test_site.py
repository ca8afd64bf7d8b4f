# SPDX-License-Identifier: Apache-2.0
"""The site as it is built, notebooks not run: every public name and command has a place, every link leads to one."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from docs.public import PAGES, commands, names, public_modules, source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("furo") is None:
        reason = "needs Sphinx; pip install '.[docs]'"
        if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--quiet", "--define", "nb_execution_mode=off"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, PAGES, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.references: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.anchors.add(value)
            if key in ("href", "src") and value and (tag, key) != ("link", "rel"):
                self.references.append(value)


def test_every_public_name_has_a_place(site: Path) -> None:
    inventory = importlib.import_module("sphinx.util.inventory").InventoryFile
    content = inventory.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {name for kind, each in content.data.items() if kind.startswith("py:") for name in each}
    expected = {f"{module}.{name}" for module in public_modules() for name in names(source(module))}
    assert expected - documented == set()


def test_every_command_has_a_heading(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert [name for name in commands() if not re.search(rf"<h3>{name}<a", page)] == []


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 30
    lost: list[str] = []
    for path, page in pages.items():
        if "_modules" in path.parts:  # its way back from a function that two modules have leads to the other one
            continue
        for reference in page.references:
            address, anchor = urldefrag(reference)
            if re.match(r"[a-z]+:", address) or "?" in address:
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if not target.exists() or (anchor and target in pages and unquote(anchor) not in pages[target].anchors):
                lost.append(f"{path.relative_to(site)}: {reference}")
    assert lost == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"""<(?:script|img|iframe)[^>]*src=["']https?:|<link[^>]*stylesheet[^>]*href=["']https?:""", text
        )
