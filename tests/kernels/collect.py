# SPDX-License-Identifier: Apache-2.0
"""Every witness whose package is installed, and the table of what they said.

``python -m tests.kernels.collect`` examines them all, prints the table and writes ``intsim/witnesses.json``, which
``intsim profiles --witnesses`` shows, and the table of the page on kernels.
"""

import importlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from intsim.verify.witness import Row, Witness, examine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kernels.forced import SETTINGS, forced

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "intsim/witnesses.json"
PAGE = ROOT / "notebooks" / "reference" / "kernels.md"
BEGIN, END = "<!-- witnesses -->\n", "<!-- end of witnesses -->\n"
MODULES = sorted(
    path.stem for path in Path(__file__).parent.glob("*_witnesses.py") if not path.stem.startswith("test_")
)


def collect() -> tuple[list[Witness], dict[str, str]]:
    """Return the witnesses, and module -> reason for what is not installed or has no sources.

    With INTSIM_REQUIRE_KERNELS=1 a missing package is an error.
    """
    found: list[Witness] = []
    missing: dict[str, str] = {}
    for module in MODULES:
        try:
            found += importlib.import_module(f"kernels.{module}").WITNESSES
        except ImportError as error:
            sourced = type(error).__name__ == "SourcesMissing"
            if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1" and not sourced:
                raise
            missing[module] = f"{error}" if sourced else f"{error}; pip install '.[kernels]'"
    return found, missing


def markdown(rows: list[Row]) -> str:
    lines = [
        "| operator | kernel | version | equals | cases | differing bits | on lesser processors |",
        "|---|---|---|---|--:|--:|---|",
    ]
    lines += [
        f"| {row.operator} | {row.kernel} | {row.package} {row.version} "
        f"| `{row.rule}` | {row.cases:,} | {row.differing} "
        f"| {'; '.join(f'{name}: {said}' for name, said in row.forced.items())} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    witnesses, missing = collect()
    if missing:
        raise SystemExit("\n".join(f"{module}: {reason}" for module, reason in missing.items()))
    rows = []
    for witness in witnesses:
        rows.append(examine(witness))
        print(markdown(rows).splitlines()[-1], flush=True)
    said = {name: forced(name, setting) for name, setting in SETTINGS.items()}
    for index, row in enumerate(rows):
        here = {name: by_kernel[row.kernel] for name, by_kernel in said.items() if row.kernel in by_kernel}
        rows[index] = replace(row, forced=here)
    TABLE.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + BEGIN + markdown(rows) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
