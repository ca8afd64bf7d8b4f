# SPDX-License-Identifier: Apache-2.0
"""Mutants of the arithmetic: small faults, planted one at a time, each of which the tests of its file must find.

``python -m tests.mutants [--sample N] [--seed S] [--file F]`` plants N of them (by default all), tells which survive
and the score of each file, and ends with status 1 if one survives that ``mutants_equivalent.toml`` does not explain.

A mutant is one changed node of the syntax tree, compiled in place of the module in a forked process of its own; no file
is touched. Messages, names, annotations and decorators stay as they are. A mutant that takes too long is killed.
"""

import argparse
import ast
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
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
EQUIVALENT: Final = Path(__file__).with_name("mutants_equivalent.toml")
PATTERNS: Final = ("fixedpoint.py", "requantization.py", "float32.py", "ops/*.py", "carrier/*.py", "quantizers/*.py")
FILES: Final = [str(path.relative_to(ROOT)) for pattern in PATTERNS for path in sorted((ROOT / "intsim").glob(pattern))]

OPS: Final = "tests/ops/test_"
TESTS: Final = {  # besides the test of the same name; the quickest first
    "intsim/fixedpoint.py": [f"{OPS}requantize.py"],
    "intsim/requantization.py": ["tests/test_profile.py"],
    "intsim/carrier/exact.py": [f"{OPS}steps.py", f"{OPS}matmul.py", "tests/carrier/test_steps.py"],
    "intsim/carrier/rowwise.py": [f"{OPS}layer_norm.py", f"{OPS}softmax.py", "tests/carrier/test_steps.py"],
    "intsim/ops/tabulated.py": [f"{OPS}sigmoid.py", f"{OPS}gelu.py"],
    "intsim/ops/exp.py": [f"{OPS}steps.py"],
    "intsim/ops/gelu.py": [f"{OPS}steps.py"],
    "intsim/ops/requantize.py": [f"{OPS}steps.py", "tests/test_requantization.py"],
    "intsim/ops/layer_norm.py": [f"{OPS}steps.py", "tests/carrier/test_steps.py"],
    "intsim/ops/softmax.py": [f"{OPS}steps.py", "tests/carrier/test_steps.py"],
    "intsim/quantizers/granularity.py": ["tests/quantizers/test_estimators.py"],
}
PRELOADED: Final = ("numpy", "hypothesis.strategies", "hypothesis.extra.numpy", "pytest", "xdist.plugin", "safetensors")
ENVIRONMENT: Final = {"INTSIM_HYPOTHESIS": "mutants", "HYPOTHESIS_NO_PLUGINS": "1", "OPENBLAS_NUM_THREADS": "1"}
MEMORY: Final = 8 << 30  # bytes of address space for a mutant
FACTOR, SLACK = 20, 20  # so many times what its tests took on a few examples, and so many seconds, a mutant may take

OPERATORS: Final = (  # and what each is changed into
    "< <= >=, <= < >, > >= <=, >= > <, == !=, != ==, is is_not, is_not is, in not_in, not_in in, and or, or and, "
    "+ -, - +, * + //, / * //, // * /, % //, ** *, << >>, >> <<, & |, | &"
)
OPPOSITES: Final = (
    "any all, min max, minimum maximum, floor ceil, argmin argmax, ones zeros, ones_like zeros_like, left right, "
    "logical_or logical_and"
)
TRANSPARENT: Final = {"abs", "clip", "sign", "saturate", "square", "sqrt", "rint", "floor"}  # calls dropped
UNTOUCHED: Final = {"annotation", "returns", "decorator_list", "type_params"}
SILENT: Final = {"strict", "repr", "copy", "order"}  # keywords: an assertion, a text, how memory is laid out

OPPOSITE: Final = {a: b for pair in OPPOSITES.split(", ") for a, b in (pair.split(), pair.split()[::-1])}

Key: TypeAlias = tuple[str, str, str, str]
Variant: TypeAlias = tuple[str, ast.AST]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mutant:
    """One change: of which line of which function, what it is, and where in the tree the changed node goes."""

    file: str
    function: str
    line: str
    change: str
    tree: ast.Module
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    @property
    def key(self) -> Key:
        return self.file, self.function, self.line, self.change

    def code(self) -> CodeType:
        """Return the mutated module, compiled; the tree is changed by it."""
        if self.index is None:
            setattr(self.parent, self.field, self.node)
        else:
            getattr(self.parent, self.field)[self.index] = self.node
        return compile(ast.fix_missing_locations(self.tree), ROOT / self.file, "exec")


def mutants(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a module; the second of the same change of a line is told from the first by a number."""
    tree, lines = ast.parse(source), source.splitlines()
    found: list[Mutant] = []
    seen: Counter[Key] = Counter()

    def visit(parent: ast.AST, function: str, line: str) -> None:
        for field, index, node in _children(parent):
            here = lines[node.lineno - 1].strip() if hasattr(node, "lineno") else line
            for change, new in _variants(parent, field, node):
                place = {"tree": tree, "parent": parent, "field": field, "index": index}
                mutant = Mutant(file=file, function=function, line=here, change=change, node=new, **place)
                seen[mutant.key] += 1
                number = seen[mutant.key]
                found.append(mutant if number == 1 else replace(mutant, change=f"{change} ({number})"))
            named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            visit(node, f"{function}.{node.name}".lstrip(".") if named else function, here)

    visit(tree, "", "")
    return found


def _children(parent: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(parent):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and field not in UNTOUCHED and not _is_silent(node):
                yield field, index, node


def _is_silent(node: ast.AST) -> bool:
    """Say whether a node changes no value: a refusal, its message, the name of a type."""
    match node:
        case ast.Assign(targets=[ast.Name(id="msg")]) | ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.keyword(arg=name):
            return name in SILENT
        case _:
            return isinstance(node, ast.Raise)


def _variants(parent: ast.AST, field: str, node: ast.AST) -> Iterator[Variant]:
    """Return what may stand in place of a node, and what to call it."""
    if field == "test" and isinstance(parent, ast.If | ast.While) and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield "negated", ast.UnaryOp(ast.Not(), node)
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                for change, other in _others(op):
                    yield change, _with(node, ops=[*ops[:i], other, *ops[i + 1 :]])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op):
            yield from ((change, _with(node, op=other)) for change, other in _others(op))
        case ast.UnaryOp(op=ast.Not() | ast.USub() as op, operand=operand):
            yield f"{'not' if isinstance(op, ast.Not) else '-'} dropped", operand
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from ((f"{value} -> {value + step}", ast.Constant(value + step)) for step in (1, -1))
        case ast.IfExp(body=body, orelse=orelse):
            yield "branches swapped", _with(node, body=orelse, orelse=body)
        case ast.Name(id=name) if name in OPPOSITE:
            yield f"{name} -> {OPPOSITE[name]}", _with(node, id=OPPOSITE[name])
        case ast.Attribute(attr=name) if name in OPPOSITE:
            yield f"{name} -> {OPPOSITE[name]}", _with(node, attr=OPPOSITE[name])
        case ast.Expr(value=ast.Call() as call):
            yield f"{ast.unparse(call.func)} dropped", ast.Pass()
        case ast.Call(func=func, args=args, keywords=keywords):
            name = ast.unparse(func).rpartition(".")[2]
            if name in TRANSPARENT:
                method = isinstance(func, ast.Attribute) and ast.unparse(func.value) != "np"
                yield f"{name} dropped", func.value if method else args[0]
            if name == "where" and len(args) == 3:
                yield "branches swapped", _with(node, args=[args[0], args[2], args[1]])
            for i, keyword in enumerate(keywords):
                if not _is_silent(keyword):
                    yield f"without {keyword.arg or '**'}", _with(node, keywords=keywords[:i] + keywords[i + 1 :])
        case _:
            pass


def _others(operator: ast.AST) -> Iterator[Variant]:
    """Return the operators to put in place of one, and the names of the changes."""
    for symbol, *others in (entry.split() for entry in OPERATORS.split(", ")):
        if isinstance(operator, type(_operator(symbol))):
            yield from ((f"{symbol} -> {other}", _operator(other)) for other in others)


def _operator(symbol: str) -> ast.AST:
    expression: Any = ast.parse(f"a {symbol.replace('_', ' ')} b", mode="eval").body
    return expression.ops[0] if isinstance(expression, ast.Compare) else expression.op


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


class Calls:
    """A plugin of pytest: which functions of intsim each test calls, and for how long it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.functions: dict[str, list[tuple[str, str]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        called: set[CodeType] = set()

        def note(frame: FrameType, _event: str, _argument: object) -> None:  # of a call; no trace of its lines
            called.add(frame.f_code)

        for function in _tables():
            function.cache_clear()  # what another test has left there, this one would compute
        threading.settrace(note)
        sys.settrace(note)
        start = time.monotonic()
        result = yield
        sys.settrace(None)
        self.seconds[item.nodeid] = time.monotonic() - start
        ours = [code for code in called if code.co_filename.startswith(f"{ROOT}/intsim")]
        self.functions[item.nodeid] = [(str(Path(code.co_filename).relative_to(ROOT)), _name(code)) for code in ours]
        return result


class Order:
    """A plugin of pytest: these tests only, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.rank = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.rank), key=lambda item: self.rank[item.nodeid])


def _name(code: CodeType) -> str:
    return code.co_qualname.replace("<locals>.", "").partition(".<")[0]


def _tables() -> list[Any]:
    modules = [module for name, module in sys.modules.items() if name.startswith("intsim.ops.")]
    return [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]


@cache
def watched(test_file: str) -> Calls:
    """Return what the tests of a file call; they must pass."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ["INTSIM_HYPOTHESIS"] = "few"
        calls = Calls()
        status = _run([test_file], calls)
        with os.fdopen(write, "w") as stream:
            json.dump([status, calls.seconds, calls.functions], stream)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        status, seconds, functions = json.load(stream)
    os.waitpid(child, 0)
    if status:
        sys.exit(f"{test_file} fails without any mutant")
    calls = Calls()
    calls.seconds, calls.functions = seconds, {test: [tuple(each) for each in f] for test, f in functions.items()}
    return calls


def tests_of(mutant: Mutant) -> dict[str, float]:
    """Return the tests that call the mutant's function, or all of its file where it is in none, the quickest first."""
    seconds: dict[str, float] = {}
    for calls in map(watched, test_files(mutant.file)):
        there = {test for test, called in calls.functions.items() if (mutant.file, mutant.function) in called}
        seconds |= {test: time for test, time in calls.seconds.items() if test in there}
    if not seconds:
        seconds = {test: time for file in test_files(mutant.file) for test, time in watched(file).seconds.items()}
    return dict(sorted(seconds.items(), key=lambda item: item[1]))


def survives(mutant: Mutant, tests: Sequence[str], *, seconds: int) -> bool:
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
    """Run tests in this process, unheard; return pytest's status, or 1."""
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
            outcome = "survived" if survives(mutant, list(tests), seconds=seconds) else "killed"
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
