# SPDX-License-Identifier: Apache-2.0
"""Kernels people use, held against the integer rules they are said to equal."""

import json
from dataclasses import asdict, replace

import pytest
from kernels.collect import BEGIN, END, MODULES, PAGE, TABLE, collect, markdown
from kernels.forced import SETTINGS, forced

from intsim.verify.witness import Row, Witness, examine, telling_neighbours

WITNESSES, MISSING = collect()
every_witness = pytest.mark.parametrize("witness", WITNESSES, ids=lambda w: f"{w.package} {w.kernel}")
QUICK = 2000


@pytest.mark.parametrize("module", MODULES)
def test_the_package_is_installed(module):
    if module in MISSING:
        pytest.skip(MISSING[module])


@every_witness
def test_a_kernel_equals_its_rule(witness: Witness):
    row = examine(witness, cases=QUICK)
    assert row.differing == 0, row


@pytest.mark.slow
@every_witness
def test_a_kernel_equals_its_rule_as_often_as_the_table_says(witness: Witness):
    row = asdict(examine(witness))
    assert row["differing"] == 0, row
    committed = [each for each in json.loads(TABLE.read_text(encoding="utf-8")) if each["kernel"] == row["kernel"]]
    assert [name_of(each) for each in committed] == [name_of(row)], "run python -m tests.kernels.collect"
    assert committed[0]["differing"] == 0
    assert committed[0]["cases"] >= 20_000


@pytest.mark.slow
@every_witness
def test_the_nearest_other_rules_are_told_from_the_kernel(witness: Witness):
    assert witness.neighbours
    assert telling_neighbours(witness, cases=200_000) == set(witness.neighbours)  # it stops when all are told


def test_the_table_has_a_row_for_every_witness_and_no_other():
    rows, present = json.loads(TABLE.read_text(encoding="utf-8")), {witness.package for witness in WITNESSES}
    assert MISSING or {row["package"] for row in rows} == present
    assert [(row["operator"], row["kernel"], row["rule"]) for row in rows if row["package"] in present] == [
        (witness.operator, witness.kernel, witness.rule) for witness in WITNESSES
    ]


def test_what_is_said_of_lesser_processors_was_found_by_a_setting_that_the_kernel_may_heed():
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    assert {name for row in rows for name in row["forced"]} <= set(SETTINGS)
    assert all(" differ" in said for row in rows for said in row["forced"].values())
    assert {module for setting in SETTINGS.values() for module in setting.modules} <= set(MODULES)


@pytest.mark.skipif("torch_linear_witnesses" in MISSING, reason="torch is not installed")
def test_a_forced_kernel_differs_and_equals_its_neighbour():
    """Saturated pairs are what oneDNN computes below VNNI, whatever the processor."""
    setting = replace(SETTINGS["ONEDNN_MAX_CPU_ISA=AVX2"], modules=("torch_linear_witnesses",))
    said = forced("ONEDNN_MAX_CPU_ISA=AVX2", setting)
    assert said["_int_mm int8 x int8"].endswith("differ, it is: pairs saturated to 16 bits")


def test_readme_shows_the_table():
    rows = [Row(**row) for row in json.loads(TABLE.read_text(encoding="utf-8"))]
    assert markdown(rows) == PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def name_of(row: dict) -> tuple[str, ...]:
    return tuple(row[key] for key in ("operator", "kernel", "package", "rule", "note"))
