# SPDX-License-Identifier: Apache-2.0
"""What test vectors reach: ties, saturations, masks, shifts, counted inside the rule, and as a covergroup."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from intsim.fixedpoint import MAX_SHIFT
from intsim.verify.bugs import rule_of_operator
from intsim.verify.vectors.cases import Level, generate, minimum
from intsim.verify.vectors.draw import Int64
from intsim.verify.vectors.operators import Field, Operator

__all__ = ["coverage", "covergroup"]

ROUNDED: Final = ("shifted", "row_shifted")
DIVIDED: Final = ("divided", "mean")


def coverage(operator: Operator, *, level: Level = 1, seed: int = 1) -> dict[str, int]:
    """Return how often the vectors of a level reach what decides a bit, by what it is.

    Of every rounding shift and division inside the rule: exact quotients, ties of either sign, quotients rounded up and
    down; of every saturation: how many values lay below and above; the shifts and masks of the operands; results at the
    ends of their range, and 0. Nothing inside another project's rule is counted.
    """
    counts: Counter[str] = Counter()
    fields = rule_of_operator(operator)
    rule = None if fields is None else _counted(fields.rule, counts, "")
    low, high = _ends(operator)
    for batch in generate(operator, seed=seed, level=level, cases=minimum(operator, level)):
        if fields is not None and rule is not None:
            rule(*fields.split(batch))
        start = 0
        for each in operator.operands:
            words = batch[:, start : start + each.count]
            start += each.count
            if each.name.endswith("shift"):
                counts.update({f"{each.name} {value}": n for value, n in _tally(words)})
            if each.name == "mask":
                kept = words.sum(axis=1)
                for what, of in (("nothing", kept == 0), ("one", kept == 1), ("everything", kept == each.count)):
                    counts[f"mask keeps {what}"] += int(of.sum())
                counts["mask keeps some"] += int(((kept > 1) & (kept < each.count)).sum())
        results = operator.results(batch)
        for what, value in (("lowest", low), ("zero", 0), ("highest", high)):
            counts[f"result {what}"] += int((results == value).sum())
    return dict(counts)


def _tally(words: Int64) -> list[tuple[int, int]]:
    values, numbers = np.unique(words, return_counts=True)
    return list(zip(values.tolist(), numbers.tolist(), strict=True))


def _ends(operator: Operator) -> tuple[int, int]:
    result, to = operator.result, operator.formats.to
    if (result.bits, result.signed) == (to.bits, to.signed):
        return to.min, to.max
    low = -(1 << result.bits - 1) if result.signed else 0
    return low, low + (1 << result.bits) - 1


def _counted(change: Callable[..., Any], counts: Counter[str], name: str) -> Callable[..., Any]:
    """Return a rule that counts what its parts are given."""
    if not isinstance(change, partial):
        return change
    rule = cast("partial[Any]", change)
    parts: dict[str, Any] = {}
    for key, part in rule.keywords.items():
        where = f"{name}{key}"
        if key in ROUNDED:
            parts[key] = _rounding(part, counts, where, lambda shift: np.int64(1) << shift.clip(0, MAX_SHIFT))
        elif key in DIVIDED:
            parts[key] = _rounding(part, counts, where, lambda divisor: divisor)
        elif key == "finish":
            parts[key] = _finishing(part, counts, where)
        elif isinstance(part, partial):
            parts[key] = _counted(cast("Callable[..., Any]", part), counts, f"{where}: ")
    return partial(rule, **parts)


def _rounding(
    part: Callable[..., Int64], counts: Counter[str], name: str, divisor_of: Callable[[Int64], Int64]
) -> Callable[[Int64, Int64], Int64]:
    def counted(total: Int64, by: Int64) -> Int64:
        divisor = divisor_of(np.asarray(by))
        rest = total - total // divisor * divisor
        quotients: Mapping[str, NDArray[np.bool_]] = {
            "exact": rest == 0,
            "tie above 0": (2 * rest == divisor) & (total > 0),
            "tie below 0": (2 * rest == divisor) & (total < 0),
            "nearer below": (rest > 0) & (2 * rest < divisor),
            "nearer above": 2 * rest > divisor,
        }
        counts.update({f"{name}: {what}": int(np.count_nonzero(of)) for what, of in quotients.items()})
        return part(total, by)

    return counted


def _finishing(part: Callable[..., Int64], counts: Counter[str], name: str) -> Callable[[Int64, Int64], Int64]:
    def counted(scaled: Int64, zero_point: Int64) -> Int64:
        y, whole = part(scaled, zero_point), scaled + zero_point
        counts[f"{name}: saturated below"] += int(np.count_nonzero(y > whole))
        counts[f"{name}: saturated above"] += int(np.count_nonzero(y < whole))
        counts[f"{name}: inside"] += int(np.count_nonzero(y == whole))
        return y

    return counted


def covergroup(operator: Operator, counts: Mapping[str, int]) -> str:
    """Return a SystemVerilog covergroup of what ``counts`` reached on the ports: a bench samples it once a case.

    Scalars are sampled as they are, a mask packed, a row by its lowest and its highest word.
    """
    low, high = _ends(operator)
    ends = {**({"lowest": f"{low}"} if low else {}), "zero": "0", "highest": f"{high}"}
    ports, points = list[str](), list[str]()
    for field in operator.operands:
        if field.name == "mask":
            ports.append(f"logic [{field.count - 1}:0] mask")
            bins = {
                "nothing": "0",
                "one": "1",
                "some": f"[2:{max(field.count - 1, 2)}]",
                "everything": f"{field.count}",
            }
            points.append(_point("mask_keeps", "$countones(mask)", bins))
        elif field.name.endswith("shift") and field.count == 1:
            ports.append(_port(field, field.name))
            reached = [
                key.rpartition(" ")[2] for key, count in counts.items() if key.startswith(f"{field.name} ") and count
            ]
            values = ", ".join(sorted(reached, key=int))
            points.append(f"  {field.name}_reached: coverpoint {field.name} {{ bins value[] = {{{values}}}; }}")
        elif field.count == 1:
            ports.append(_port(field, field.name))
            bins = {"zero": "0", "positive": "[1:$]"}
            points.append(
                _point(f"{field.name}_sign", field.name, {"negative": "[$:-1]", **bins} if field.signed else bins)
            )
    names = (
        [operator.result.name]
        if operator.result.count == 1
        else [f"{operator.result.name}_{end}" for end in ("lowest", "highest")]
    )
    for name in names:
        ports.append(_port(operator.result, name))
        points.append(_point(f"{name}_end", name, ends))
    if operator.name == "requantize":
        product, unit = "(64'(acc) * 64'(multiplier))", "(64'sd1 <<< shift)"
        points.append(
            _point("tie", f"shift != 0 && ({product} & ({unit} - 1)) == ({unit} >>> 1)", {"no": "0", "yes": "1"})
        )
    head = f"covergroup intsim_{operator.name}_cg with function sample(\n    {f',{chr(10)}    '.join(ports)});"
    return "\n".join([head, *points, "endgroup", ""])


def _port(field: Field, name: str) -> str:
    return f"logic {'signed ' if field.signed else ''}[{field.bits - 1}:0] {name}"


def _point(name: str, expression: str, bins: Mapping[str, str]) -> str:
    shown = " ".join(f"bins {each} = {{{value}}};" for each, value in bins.items())
    return f"  {name}: coverpoint {expression} {{ {shown} }}"
