# SPDX-License-Identifier: Apache-2.0
"""Mutants of the arithmetic: small faults, planted one at a time, each of which the tests of its file must find.

``python -m tests.mutants [--sample N] [--seed S] [--file F]`` plants N of them (by default all), tells which survive
and the score of each file, and ends with status 1 if one survives that ``mutants_equivalent.toml`` does not explain.

A mutant (``mutations.py``) is compiled in place of its module in a forked process of its own; no file is touched. It
meets the tests that call its function, the quickest first. One that takes too long is killed.
"""

import argparse
import importlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import pytest

from tests.mutations import Key, Mutant, mutants

ROOT: Final = Path(__file__).resolve().parents[1]
EQUIVALENT: Final = Path(__file__).with_name("mutants_equivalent.toml")
PATTERNS: Final = ("fixedpoint.py", "requantization.py", "float32.py", "ops/*.py", "carrier/*.py", "quantizers/*.py")
FILES: Final = [str(path.relative_to(ROOT)) for pattern in PATTERNS for path in sorted((ROOT / "intsim").glob(pattern))]

OPS: Final = "tests/ops/test_"
TESTS: Final = {  # besides the test of the same name; the quickest first
    "intsim/fixedpoint.py": [f"{OPS}requantize.py"],
    "intsim/requantization.py": ["tests/test_profile.py"],
    "intsim/carrier/exact.py": [
        "tests/carrier/test_few_rows.py",
        "tests/test_operator_steps.py",
        f"{OPS}matmul.py",
        "tests/carrier/test_steps.py",
    ],
    "intsim/carrier/rowwise.py": [f"{OPS}layer_norm.py", f"{OPS}softmax.py", "tests/carrier/test_steps.py"],
    "intsim/ops/tabulated.py": [f"{OPS}sigmoid.py", f"{OPS}gelu.py", "tests/test_operator_steps.py"],
    "intsim/ops/exp.py": ["tests/test_operator_steps.py"],
    "intsim/ops/gelu.py": ["tests/test_operator_steps.py"],
    "intsim/ops/requantize.py": ["tests/test_operator_steps.py", "tests/test_requantization.py"],
    "intsim/ops/layer_norm.py": ["tests/test_operator_steps.py", "tests/carrier/test_steps.py"],
    "intsim/ops/row_shift.py": [f"{OPS}rms_norm.py", "tests/test_operator_steps.py"],
    "intsim/ops/softmax.py": ["tests/test_operator_steps.py", "tests/carrier/test_steps.py"],
    "intsim/quantizers/granularity.py": ["tests/quantizers/test_estimators.py"],
}
PRELOADED: Final = ("numpy", "hypothesis.strategies", "hypothesis.extra.numpy", "pytest", "xdist.plugin", "safetensors")
ENVIRONMENT: Final = {"INTSIM_HYPOTHESIS": "mutants", "HYPOTHESIS_NO_PLUGINS": "1", "OPENBLAS_NUM_THREADS": "1"}
MEMORY: Final = 8 << 30  # bytes of address space for a mutant
FACTOR, SLACK = 50, 20  # so many times what its tests took on a few examples, and so many seconds, a mutant may take


class Watch:
    """A plugin of pytest that notes of each test how long it runs and which functions of intsim it calls."""

    def __init__(self) -> None:
        self.tests: dict[str, tuple[float, list[str]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[object]:
        called: set[CodeType] = set()

        def note(frame: FrameType, _event: str, _argument: object) -> None:  # of a call; no trace of its lines
            called.add(frame.f_code)

        for name, module in list(sys.modules.items()):
            for value in vars(module).values() if name.startswith("intsim.ops.") else ():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()  # what another test has left there, this one would compute
        start = time.monotonic()
        threading.settrace(note)
        sys.settrace(note)
        result = yield
        sys.settrace(None)
        self.tests[item.nodeid] = time.monotonic() - start, [_name(code) for code in called]
        return result


def _name(code: CodeType) -> str:
    file = code.co_filename.removeprefix(f"{ROOT}/")
    return f"{file}:{code.co_qualname.replace('<locals>.', '').partition('.<')[0]}"


class Order:
    """A plugin of pytest: these tests only, in this order."""

    def __init__(self, tests: Iterable[str]) -> None:
        self.rank = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.rank), key=lambda item: self.rank[item.nodeid])


@cache
def watched(test_file: str) -> dict[str, tuple[float, list[str]]]:
    """Return what ``Watch`` notes of the tests of a file, which must pass."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ["INTSIM_HYPOTHESIS"] = "few"
        watch = Watch()
        status = _run([test_file], watch)
        with os.fdopen(write, "w") as stream:
            json.dump(watch.tests, stream)
        os._exit(status)
    os.close(write)
    with os.fdopen(read) as stream:
        tests = json.load(stream)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{test_file} fails without any mutant")
    return tests


def tests_of(mutant: Mutant) -> dict[str, float]:
    """Return the tests that call the mutant's function, or all where none does, the quickest first, with seconds."""
    tests = [each for file in test_files(mutant.file) for each in watched(file).items()]
    name = f"{mutant.file}:{mutant.function}"
    there = [(test, seconds) for test, (seconds, called) in tests if name in called]
    return dict(sorted(there or [(test, seconds) for test, (seconds, _) in tests], key=lambda each: each[1]))


def survives(mutant: Mutant, tests: Iterable[str], *, seconds: int) -> bool:
    """Say whether all tests pass, in so many seconds, with the mutant in place of its module."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        code, name = mutant.code(), mutant.file.removesuffix(".py").replace("/", ".")
        plain = SourceFileLoader.get_code
        SourceFileLoader.get_code = lambda self, module: code if module == name else plain(self, module)
        os._exit(_run(dict.fromkeys(test.partition("::")[0] for test in tests), Order(tests)))
    return os.waitpid(child, 0)[1] == 0


def _run(files: Iterable[str], plugin: object) -> int:
    """Run tests in this process, unheard, and return pytest's status, or 1."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    options = ["-x", "-q", "-n", "0", "--assert=plain", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    try:
        return int(pytest.main([*options, *files], [plugin]))
    except BaseException:  # noqa: BLE001 - whatever a mutant raises while pytest starts
        return 1


def test_files(file: str) -> list[str]:
    """Return the files of tests of a module."""
    own = Path("tests", *Path(file).parts[1:-1], f"test_{Path(file).name}")
    return [*([str(own)] if (ROOT / own).exists() else []), *TESTS.get(file, [])]


def equivalents() -> dict[Key, str]:
    """Return the mutants that no test can tell from the code, and why."""
    tables = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {(t["file"], t["function"], t["line"], change): t["reason"] for t in tables for change in t["changes"]}


def sample(found: Sequence[Mutant], size: int, seed: int) -> list[Mutant]:
    """Return about so many of them, each file's share rounded up."""
    files, draw = Counter(mutant.file for mutant in found), random.Random(seed)  # noqa: S311 - no secret
    by_file = [[mutant for mutant in found if mutant.file == file] for file in files]
    return [mutant for each in by_file for mutant in draw.sample(each, -(-len(each) * size // len(found)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, help="how many mutants; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--file", help="of this file only, as intsim/ops/add.py")
    options = parser.parse_args()
    os.environ |= ENVIRONMENT
    for name in PRELOADED:
        importlib.import_module(name)

    files = [options.file] if options.file else FILES
    found = [mutant for file in files for mutant in mutants(file, (ROOT / file).read_text())]
    if options.sample:
        found = sample(found, min(options.sample, len(found)), options.seed)
    known, score = equivalents(), defaultdict[str, Counter[str]](Counter)
    for mutant in found:
        outcome = "equivalent"
        if mutant.key not in known:
            tests = tests_of(mutant)
            seconds = SLACK + int(FACTOR * sum(tests.values()))
            outcome = "survived" if survives(mutant, tests, seconds=seconds) else "killed"
        score[mutant.file][outcome] += 1
        if outcome == "survived":
            print(*mutant.key, sep=" | ", flush=True)
    columns = ("killed", "equivalent", "survived")
    score["all"] = sum(score.values(), Counter())
    for file, counts in score.items():
        print(f"{file:36}", *(f"{counts[column]:5} {column}" for column in columns))
    return int(score["all"]["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
