# SPDX-License-Identifier: Apache-2.0
"""What may be changed in a module, one node of its syntax tree at a time: the mutants that ``mutants.py`` plants.

Operators, comparisons and constants become their neighbours, conditions and branches are turned round, calls and
keywords are left out. Messages, names, annotations and decorators stay as they are.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any, Final, TypeAlias

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
        return compile(ast.fix_missing_locations(self.tree), self.file, "exec")


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
