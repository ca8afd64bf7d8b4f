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
import os
import random
import resource
import signal
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[1]
EQUIVALENT: Final = Path(__file__).with_name("mutants_equivalent.toml")
PATTERNS: Final = ("fixedpoint.py", "requantization.py", "float32.py", "ops/*.py", "carrier/*.py", "quantizers/*.py")
FILES: Final = [str(path.relative_to(ROOT)) for pattern in PATTERNS for path in sorted((ROOT / "intsim").glob(pattern))]

OPS: Final = "tests/ops/test_"
TESTS: Final = {  # besides the test of the same name; the quickest first
    "intsim/fixedpoint.py": [f"{OPS}requantize.py"],
    "intsim/requantization.py": ["tests/test_profile.py"],
    "intsim/carrier/exact.py": [f"{OPS}matmul.py", "tests/carrier/test_steps.py", "tests/models/test_state.py"],
    "intsim/carrier/blocks.py": ["tests/carrier/test_exact.py", "tests/models/test_fused.py"],
    "intsim/carrier/rowwise.py": [f"{OPS}layer_norm.py", f"{OPS}softmax.py", "tests/carrier/test_steps.py"],
    "intsim/ops/tabulated.py": [f"{OPS}sigmoid.py", f"{OPS}gelu.py"],
    "intsim/ops/requantize.py": ["tests/test_requantization.py"],
    "intsim/ops/layer_norm.py": ["tests/carrier/test_steps.py"],
    "intsim/ops/softmax.py": ["tests/carrier/test_steps.py"],
    "intsim/quantizers/granularity.py": ["tests/quantizers/test_estimators.py"],
}
PRELOADED: Final = ("numpy", "hypothesis.strategies", "hypothesis.extra.numpy", "pytest", "xdist.plugin", "safetensors")
ENVIRONMENT: Final = {"INTSIM_HYPOTHESIS": "mutants", "HYPOTHESIS_NO_PLUGINS": "1", "OPENBLAS_NUM_THREADS": "1"}
MEMORY: Final = 8 << 30  # bytes of address space for a mutant
SLACK: Final = 20  # seconds that a mutant may take beyond three times what the tests took without it

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
            if isinstance(node, ast.AST) and field not in UNTOUCHED and not _is_text(node):
                yield field, index, node


def _is_text(node: ast.AST) -> bool:
    """Say whether a statement is there for the reader: a refusal, its message, the name of a type."""
    match node:
        case ast.Assign(targets=[ast.Name(id="msg")]) | ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
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
                yield f"without {keyword.arg}", _with(node, keywords=keywords[:i] + keywords[i + 1 :])
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


def survives(mutant: Mutant | None, tests: Sequence[str], *, seconds: int = 0) -> bool:
    """Say whether all tests pass, in so many seconds if any, with the mutant in place of its module."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(_passes(mutant, tests, seconds))
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _passes(mutant: Mutant | None, tests: Sequence[str], seconds: int) -> int:
    import pytest  # noqa: PLC0415 - once the environment is what it wants

    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    if mutant is not None:
        code, name = mutant.code(), mutant.file.removesuffix(".py").replace("/", ".")
        plain = SourceFileLoader.get_code
        SourceFileLoader.get_code = lambda self, module: code if module == name else plain(self, module)
    options = ["-x", "-q", "-n", "0", "--assert=plain", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    return int(any(pytest.main([*options, test]) for test in tests))


def tests_of(file: str) -> list[str]:
    """Return the test files of a module, the quickest first."""
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
    known, score, limits = equivalents(), defaultdict[str, Counter[str]](Counter), dict[str, int]()
    for mutant in found:
        file, tests = mutant.file, tests_of(mutant.file)
        if file not in limits:
            start = time.monotonic()
            if not survives(None, tests):
                sys.exit(f"the tests of {file} fail without any mutant: {' '.join(tests)}")
            limits[file] = SLACK + int(3 * (time.monotonic() - start))
        if mutant.key in known:
            outcome = "equivalent"
        else:
            outcome = "survived" if survives(mutant, tests, seconds=limits[file]) else "killed"
        score[file][outcome] += 1
        if outcome == "survived":
            print(*mutant.key, sep=" | ", flush=True)
    columns = ("killed", "equivalent", "survived")
    score["all"] = sum(score.values(), Counter())
    for file, counts in score.items():
        print(f"{file:36}", *(f"{counts[column]:5} {column}" for column in columns))
    return int(score["all"]["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
