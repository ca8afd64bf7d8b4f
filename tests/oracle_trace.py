# SPDX-License-Identifier: Apache-2.0
"""The oracle walks a trace: every call in a file of level ``steps`` again, on Python integers, whatever the model.

It needs no family. The manifest names the operator of every call, its operands and its constants; the oracle computes
the result from them and compares. NumPy reads the file; from there on everything is an ``int``.

It judges the chain of calls too. An operand is one of three things:

* the result of an earlier call, by its name;
* stored anew, because the model brought a result into another form on the way. It must be a view of one earlier result,
  with or without the zero points of that result taken off: the whole or a run of one axis (a group of channels, one
  token), axes moved, and either split or joined in their order (heads), or the heads of keys, repeated for those that
  share them. Sequences stay apart;
* an input of the model (ids, masks, keys and values kept of an earlier run) or one of its constants (weights,
  multipliers). These are taken as they are.

The manifest does not say *which* result an operand stored anew was made from: any earlier one accounts for it.

Not judged: the steps inside operators (``NAME:STEP``), and calls by a rule of another project or of an operator that is
missing here. Those calls end in a ``NotJudgedError`` after everything else has been judged.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from inspect import signature
from itertools import accumulate, chain, combinations, pairwise, permutations, product, repeat
from math import prod
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import oracle
from safetensors import safe_open

Profile: TypeAlias = dict[str, Any]
Range: TypeAlias = tuple[int, bool, bool]  # bits, signed, narrow
Axis: TypeAlias = tuple[int, int]  # length and stride


class Tensor(NamedTuple):
    """Integers in row-major order."""

    shape: tuple[int, ...]
    flat: list[int]

    @property
    def rows(self) -> list[list[int]]:
        """Runs of the last axis."""
        return _cut(self.flat, self.shape[-1])


NARROW = {"I8", "U8", "I16"}  # dtypes of codes that fit int16
Dyadic: TypeAlias = tuple[Tensor, Tensor]  # multiplier and shift


class Difference(NamedTuple):
    """What is not as the oracle has it: a result, ``NAME``, or what a call was given, ``NAME@...``."""

    name: str
    expected: Any  # None: no earlier result accounts for the operand; an error: the call breaks a rule of its operator
    recorded: Any


class NotJudgedError(Exception):
    """The oracle has no judgement of a call."""


def judge(path: str | Path) -> list[str]:
    """Return the names of all ``differences`` in the trace file ``path``."""
    return [difference.name for difference in differences(path)]


def differences(path: str | Path) -> Iterator[Difference]:
    """Yield what differs in the trace file ``path``, in forward order.

    A call is computed from what is recorded. Where an operand is a result that itself differed, the call may as well
    follow from the oracle's result: one wrong integer is one difference, not one of every call after it.

    Raises
    ------
    NotJudgedError
        At the end, naming the calls that the oracle has no judgement of.
    ValueError
        If the file is not a trace of level ``steps``, or not of its own profile.
    """
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["intsim"])
        profile, entries = metadata["profile"], metadata["trace"]
        _require(metadata["level"] == "steps", "level of the trace must be 'steps'", metadata["level"])
        text = json.dumps(profile, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        _require(metadata["profile_hash"] == digest, f"hash of the profile must be {digest}", metadata["profile_hash"])
        names = {entry["name"] for entry in entries}
        results: dict[str, list[Tensor]] = {}  # as recorded and, where that differs, as the oracle has it
        sources: list[Tensor] = []  # the results, with and without their zero points
        unjudged: list[str] = []

        def load(name: str) -> Tensor:
            array = file.get_tensor(name)
            return Tensor(array.shape, array.ravel().tolist())

        def recorded_operand(name: str) -> Tensor:
            return results[name][0] if name in results else load(name)

        def judged_operand(name: str) -> Tensor:
            return results[name][-1] if name in results else load(name)

        for entry in entries:
            name, kind = entry["name"], entry["operator"]
            if kind == "step":
                continue
            if kind == "layer_norm" and file.get_slice(entry["operands"][0]["tensor"]).get_dtype() not in NARROW:
                entry = {**entry, "operator": "layer_norm of wide codes"}  # noqa: PLW2901
            read = list(_tensors(entry["operands"], f"{name}@"))
            for place, tensor in chain(read, *(_tensors(v, f"{name}@{k}") for k, v in entry["constants"].items())):
                if tensor in names and tensor not in results:  # it comes later
                    yield Difference(place, None, tensor)
            for place, tensor in _tensors(_activations(kind, entry["operands"], load), f"{name}@"):
                if tensor not in names and not _is_view(values := load(tensor), sources):
                    yield Difference(place, None, values)
            rounding = entry["constants"].get("rounding")
            pinned = (
                {"requantization": profile["requantization"]} if isinstance(rounding, dict) else profile["rounding"]
            )
            if rounding is not None and rounding != pinned:
                yield Difference(f"{name}@rounding", pinned, rounding)
            recorded = expected = load(name)
            try:
                expected = _compute(entry, recorded_operand, profile, digest)
                if expected != recorded and any(len(results.get(tensor, ())) == 2 for _, tensor in read):
                    expected = _compute(entry, judged_operand, profile, digest)
            except NotJudgedError as error:
                unjudged.append(f"{name} ({error})")
            except ValueError as error:  # the call breaks a rule of its operator
                yield Difference(name, error, recorded)
            if expected != recorded:
                yield Difference(name, expected, recorded)
            results[name] = [recorded] if expected == recorded else [recorded, expected]
            sources += results[name]
            if zero_point := entry["zero_point"]:
                sources += [_centred(result, zero_point) for result in results[name]]
    if unjudged:
        msg = f"calls must be of the oracle's operators and rules, got {', '.join(unjudged)}"
        raise NotJudgedError(msg)


# What a call reads


def _tensors(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield every tensor that an entry of the manifest refers to: where, and its name."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _tensors(item, f"{place}{i}" if place.endswith("@") else f"{place}.{i}")
    elif isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "tensor":
            yield place, content
        elif kind in {"list", "dyadic", "layer_norm_params"}:
            yield from _tensors(content, place)


def _activations(kind: str, operands: list[Any], load: Callable[[str], Tensor]) -> list[Any]:
    """Return the operands that are made of earlier results; a product of matrices of one sequence each has two."""
    if kind in {"embedding", "position_ids", "token_positions"}:
        return []
    if kind == "append":  # the others are kept of an earlier run
        return operands[1:]
    if kind in {"multiply", "quantize_dynamic", "scale_rows"}:
        return operands[:2]
    if kind == "matmul" and len(load(operands[1]["tensor"]).shape) > 2:
        return operands[:2]
    return operands[:1]


def _compute(entry: dict[str, Any], read: Callable[[str], Tensor], profile: Profile, digest: str) -> Tensor:
    """Return the result of a call."""

    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        match kind:
            case "tensor":
                return read(content)
            case "list" | "dyadic" | "layer_norm_params":
                return [decode(item) for item in content]
            case "range" | "requantization":
                return content
            case "profile":
                _require(content == digest, f"profile of {entry['name']} must be that of the trace, {digest}", content)
                return profile
        msg = f"operand of kind {kind}"
        raise NotJudgedError(msg)

    operator = OPERATORS.get(entry["operator"])
    if operator is None:
        msg = f"operator {entry['operator']}"
        raise NotJudgedError(msg)
    constants = {key: decode(value) for key, value in entry["constants"].items()}
    try:
        call = signature(operator).bind(*map(decode, entry["operands"]), **constants)
    except TypeError as error:
        msg = f"operator {entry['operator']}: {error}"
        raise NotJudgedError(msg) from None
    return operator(*call.args, **call.kwargs)


# Operators on tensors, by their names in the manifest


def _embedding(ids: Tensor, table: Tensor) -> Tensor:
    rows = table.rows
    _require(all(0 <= i < len(rows) for i in ids.flat), f"ids must lie in [0, {len(rows)})", ids.flat)
    return _joined((*ids.shape, table.shape[-1]), (rows[i] for i in ids.flat))


def _add(
    operands: list[Tensor], ratios: list[Dyadic], *, to: Range, profile: Profile, zero_point: int | Tensor = 0
) -> Tensor:
    shape = operands[0].shape
    terms = zip(*(_cut(_broadcast(x, shape), shape[-1]) for x in operands), strict=True)
    dyadics = list(zip(*(_pairs(ratio, shape[-1]) for ratio in ratios), strict=True))  # per channel
    zero_points = _spread(zero_point, shape[-1])
    lo, hi = oracle.int_range(*to)
    how = {"lo": lo, "hi": hi, "rounding": profile["rounding"], "once": {"once": True, "each": False}[profile["sum"]]}
    return _joined(
        shape,
        (
            [
                oracle.add(values, pairs, zero_point=z, **how)
                for values, pairs, z in zip(zip(*rows, strict=True), dyadics, zero_points, strict=True)
            ]
            for rows in terms
        ),
    )


def _matmul(
    x: Tensor, w: Tensor, *, x_zero_point: int = 0, w_zero_point: int = 0, bias: Tensor | None = None
) -> Tensor:
    n = w.shape[-2]
    addend = None if bias is None else bias.flat
    products = [(x.rows, w.rows)]
    if len(w.shape) > 2:
        _require(w.shape[:-2] == x.shape[:-2], f"leading axes of w must be {x.shape[:-2]}", w.shape)
        products = list(zip(_cut(x.rows, x.shape[-2]), _cut(w.rows, n), strict=True))
    rows = (oracle.matmul(*pair, addend, x_zero_point, w_zero_point) for pair in products)
    return _joined((*x.shape[:-1], n), chain(*rows))


def _requantize(
    acc: Tensor,
    ratio: Dyadic,
    *,
    to: Range,
    rounding: str | dict[str, Any],
    zero_point: int | Tensor = 0,
    addend: Tensor | int = 0,
) -> Tensor:
    channels = acc.shape[-1]
    columns = zip(_pairs(ratio, channels), _spread(zero_point, channels), _spread(addend, channels), strict=True)
    constants = [(m, t, z, b) for (m, t), z, b in columns]
    lo, hi = oracle.int_range(*to)
    return _joined(
        acc.shape,
        (
            [
                oracle.requantize(value, m, t, zero_point=z, lo=lo, hi=hi, rounding=rounding, addend=b)
                for value, (m, t, z, b) in zip(row, constants, strict=True)
            ]
            for row in acc.rows
        ),
    )


def _softmax(acc: Tensor, ratio: Dyadic, *, profile: Profile, mask: Tensor | None = None) -> Tensor:
    _require_own(profile, "softmax")
    ((m, t),) = _pairs(ratio, 1)
    kept = [None] * len(acc.rows) if mask is None else _cut(_broadcast(mask, acc.shape), acc.shape[-1])
    return _joined(
        acc.shape, (oracle.softmax(row, m, t, keep, profile) for row, keep in zip(acc.rows, kept, strict=True))
    )


def _layer_norm(
    x: Tensor, params: tuple[Dyadic, Tensor, int], *, to: Range, profile: Profile, wide: bool = False
) -> Tensor:
    _require_own(profile, "layer_norm")
    weight, bias, eps = params
    multipliers, shifts = zip(*_pairs(weight, x.shape[-1]), strict=True)
    (shift,) = set(shifts)
    constants = (multipliers, bias.flat, shift, eps, *oracle.int_range(*to), profile)
    return _joined(x.shape, (oracle.layer_norm(row, *constants, wide=wide) for row in x.rows))


def _rms_norm(x: Tensor, params: tuple[Dyadic, Tensor, int], *, to: Range, profile: Profile) -> Tensor:
    _require_own(profile, "layer_norm")
    weight, bias, eps = params
    multipliers, shifts = zip(*_pairs(weight, x.shape[-1]), strict=True)
    (shift,) = set(shifts)
    constants = (multipliers, bias.flat, shift, eps, *oracle.int_range(*to), profile)
    return _joined(x.shape, (oracle.rms_norm(row, *constants) for row in x.rows))


def _gelu(x: Tensor, *, profile: Profile) -> Tensor:
    _require_own(profile, "gelu")
    return Tensor(x.shape, [oracle.gelu(v, profile) for v in x.flat])


def _gelu_tanh(x: Tensor, *, profile: Profile) -> Tensor:
    _require_own(profile, "gelu")
    return Tensor(x.shape, [oracle.gelu_tanh(v, profile) for v in x.flat])


def _unary(function: Callable[[int, Profile], int]) -> Callable[..., Tensor]:
    def operator(x: Tensor, *, profile: Profile) -> Tensor:
        return Tensor(x.shape, [function(v, profile) for v in x.flat])

    return operator


def _isqrt(n: Tensor) -> Tensor:
    return Tensor(n.shape, [oracle.isqrt(v) for v in n.flat])


def _relu(x: Tensor, *, zero_point: int = 0) -> Tensor:
    return Tensor(x.shape, [oracle.relu(v, zero_point) for v in x.flat])


def _dynamic_bound(
    x: Tensor, *, per: str, clip: bool = False, zero_point: int = 0, mask: Tensor | None = None
) -> Tensor:
    *lead, tokens, channels = x.shape
    kept = _broadcast(Tensor((1,), [1]) if mask is None else mask, x.shape[:-1])
    zero_points = _spread(zero_point, channels)
    bounds = (
        oracle.dynamic_bounds(rows, zero_points, keep, per=per, clip=clip)
        for rows, keep in zip(_cut(x.rows, tokens), _cut(kept, tokens), strict=True)
    )
    if per == "token":
        return _joined((*lead, tokens, 1), bounds)
    return _joined((*lead, 1, 1), (bound[:1] for bound in bounds))


def _quantize_dynamic(x: Tensor, bound: Tensor, *, unit: int, to: Range, rounding: str, zero_point: int = 0) -> Tensor:
    bits, signed, narrow = to
    _require(signed and narrow, "range must be symmetric", to)
    channels = x.shape[-1]
    bounds = _cut(_broadcast(bound, x.shape), channels)
    how = {"unit": unit, "bits": bits, "rounding": rounding}
    zero_points = _spread(zero_point, channels)
    return _joined(
        x.shape,
        (
            [oracle.quantize_dynamic(v, b, zero_point=z, **how) for v, b, z in zip(*row, zero_points, strict=True)]
            for row in zip(x.rows, bounds, strict=True)
        ),
    )


def _scale_rows(acc: Tensor, bound: Tensor) -> Tensor:
    return Tensor(acc.shape, list(map(mul, acc.flat, _broadcast(bound, acc.shape))))


def _permute(x: Tensor, order: Tensor) -> Tensor:
    return _joined(x.shape, ([row[c] for c in order.flat] for row in x.rows))


def _mean_pooling(x: Tensor, mask: Tensor, *, profile: Profile, zero_point: int = 0) -> Tensor:
    *lead, tokens, channels = x.shape
    sequences = zip(_cut(x.rows, tokens), _cut(mask.flat, tokens), strict=True)
    return _joined(
        (*lead, channels), (oracle.mean_pooling(rows, keep, zero_point, profile) for rows, keep in sequences)
    )


def _position_ids(ids: Tensor, *, padding: int) -> Tensor:
    return _joined(ids.shape, (oracle.position_ids(row, padding) for row in ids.rows))


def _neighbours(x: Tensor, *, mask: Tensor, zero_point: int = 0) -> Tensor:
    *lead, tokens, channels = x.shape
    sequences = zip(_cut(x.rows, tokens), _cut(mask.flat, tokens), strict=True)
    rows = chain.from_iterable(oracle.neighbours(tokens, keep, zero_point) for tokens, keep in sequences)
    return _joined((*lead, tokens, 3 * channels), rows)


def _pick_token(x: Tensor, mask: Tensor, *, which: str) -> Tensor:
    *lead, tokens, channels = x.shape
    sequences = zip(_cut(x.rows, tokens), _cut(mask.flat, tokens), strict=True)
    return _joined((*lead, channels), (oracle.pick_token(rows, keep, which) for rows, keep in sequences))


def _l2_normalize(x: Tensor, *, profile: Profile) -> Tensor:
    return _joined(x.shape, (oracle.l2_normalize(row, profile) for row in x.rows))


def _rotary(x: Tensor, cos: Tensor, sin: Tensor, *, pairing: str, rounding: str) -> Tensor:
    *lead, _, tokens, _ = x.shape
    pairs = cos.shape[-1]
    tables = (
        _cut(_broadcast(Tensor((*t.shape[:-2], 1, *t.shape[-2:]), t.flat), (*lead, x.shape[-3], tokens, pairs)), pairs)
        for t in (cos, sin)
    )
    rows = zip(x.rows, *tables, strict=True)
    return _joined(x.shape, (oracle.rotary(*row, pairing=pairing, mode=rounding) for row in rows))


def _multiply(
    a: Tensor,
    b: Tensor,
    ratio: Dyadic,
    *,
    to: Range,
    rounding: str,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int | Tensor = 0,
) -> Tensor:
    lo, hi = oracle.int_range(*to)
    how = {"a_zero_point": a_zero_point, "b_zero_point": b_zero_point, "lo": lo, "hi": hi, "mode": rounding}
    pairs, zero_points = _pairs(ratio, a.shape[-1]), _spread(zero_point, a.shape[-1])
    rows = zip(a.rows, b.rows, strict=True)
    return _joined(
        a.shape,
        (
            [
                oracle.multiply(x, y, m, t, zero_point=z, **how)
                for x, y, (m, t), z in zip(*row, pairs, zero_points, strict=True)
            ]
            for row in rows
        ),
    )


def _append(past: Tensor, new: Tensor) -> Tensor:
    *lead, before, channels = past.shape
    pairs = zip(
        _cut(past.flat, before * channels) if before else repeat([]),
        _cut(new.flat, new.shape[-2] * channels),
        strict=False,
    )
    return Tensor((*lead, before + new.shape[-2], channels), [v for pair in pairs for v in chain(*pair)])


def _token_positions(mask: Tensor, *, queries: int, first: int) -> Tensor:
    return _joined((*mask.shape[:-1], queries), (oracle.token_positions(row, queries, first) for row in mask.rows))


def _sample_token(logits: Tensor, ratio: Dyadic, *, top_k: int, seed: int, draw: int, profile: Profile) -> Tensor:
    ((m, t),) = _pairs(ratio, 1)
    how = {"top_k": top_k, "seed": seed, "draw": draw, "profile": profile}
    return Tensor(
        logits.shape[:-1], [oracle.sample_token(row, m, t, text=b, **how) for b, row in enumerate(logits.rows)]
    )


def _argmax(x: Tensor) -> Tensor:
    return Tensor(x.shape[:-1], [row.index(max(row)) for row in x.rows])


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "add": _add,
    "append": _append,
    "argmax": _argmax,
    "dynamic_bound": _dynamic_bound,
    "embedding": _embedding,
    "exp": _unary(oracle.exp),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "isqrt": _isqrt,
    "l2_normalize": _l2_normalize,
    "layer_norm": _layer_norm,
    "layer_norm of wide codes": partial(_layer_norm, wide=True),
    "matmul": _matmul,
    "mean_pooling": _mean_pooling,
    "multiply": _multiply,
    "neighbours": _neighbours,
    "permute": _permute,
    "position_ids": _position_ids,
    "pick_token": _pick_token,
    "quantize_dynamic": _quantize_dynamic,
    "relu": _relu,
    "requantize": _requantize,
    "rms_norm": _rms_norm,
    "rotary": _rotary,
    "sample_token": _sample_token,
    "scale_rows": _scale_rows,
    "sigmoid": _unary(oracle.sigmoid),
    "silu": _unary(oracle.silu),
    "softmax": _softmax,
    "tanh": _unary(oracle.tanh),
    "token_positions": _token_positions,
}


def _require_own(profile: Profile, operator: str) -> None:
    if profile[operator].get("rule", "rounded") != "rounded":
        msg = f"{operator} by the rule {profile[operator]['rule']}"
        raise NotJudgedError(msg)


# Views of earlier results


def _is_view(operand: Tensor, sources: Sequence[Tensor]) -> bool:
    """Say whether an operand is a view of one of the results, the last first."""
    total, ranked = sum(operand.flat), sorted(operand.flat)
    for source in reversed(sources):
        if source.shape[:1] != operand.shape[:1]:
            continue
        if _repeats_heads(operand, source):
            return True
        for start, axes in _runs(source.shape, len(operand.flat)):
            flat = [source.flat[i] for i in _places(axes, start)]
            if (
                sum(flat) == total
                and sorted(flat) == ranked  # few pass: looking for the order of axes is slow
                and any(
                    [source.flat[i] for i in _places(view, start)] == operand.flat for view in _views(axes, operand)
                )
            ):
                return True
    return False


def _repeats_heads(operand: Tensor, rows: Tensor) -> bool:
    """Say whether (B, H, T, D), or (B, H, D, T), are the heads of rows (B, T, C), each as often as the others."""
    if len(operand.shape) != 4 or len(rows.shape) != 3 or prod(operand.shape) <= prod(rows.shape):
        return False
    (batch, heads, *last), (_, tokens, channels) = operand.shape, rows.shape
    times, rest = divmod(prod(operand.shape), prod(rows.shape))
    if rest or heads % times or sorted(last) != sorted((tokens, channels * times // heads)):
        return False
    size, whole = channels * times // heads, [(batch, tokens * channels), (heads // times, channels * times // heads)]
    for axes in ([(tokens, channels), (size, 1)], [(size, 1), (tokens, channels)]):
        found = [rows.flat[i] for i in _places([*whole, (times, 0), *axes], 0)]
        if [length for length, _ in axes] == last and found == operand.flat:
            return True
    return False


def _runs(shape: tuple[int, ...], size: int) -> Iterator[tuple[int, list[Axis]]]:
    """Yield where the whole of a tensor starts, or each run of one axis of ``size`` elements, with its axes."""
    axes = _strided(shape)
    if prod(shape) == size:
        yield 0, axes
        return
    for i, (length, stride) in enumerate(axes[1:], 1):
        run, rest = divmod(length * size, prod(shape))
        if rest == 0 and 0 < run < length:
            for first in range(0, length - run + 1, run if length % run == 0 else 1):
                yield first * stride, [*axes[:i], (run, stride), *axes[i + 1 :]]


def _views(axes: list[Axis], operand: Tensor) -> Iterator[list[Axis]]:
    """Yield the orders of axes, some of them split, that join to the shape of the operand.

    The first axis, sequences, stays. Parts of a split axis keep their order, and so do axes that are joined, all of
    them whole.
    """
    first, *others = axes
    ends = set(accumulate(operand.shape, mul))  # how many elements there are up to the end of each axis
    splits = [[[(length, stride)], *_splits(length, stride, operand.shape)] for length, stride in others]
    for chosen in product(*splits):
        whole = {i for i, parts in enumerate(chosen) if len(parts) == 1}
        axis_parts = [(length, stride, i) for i, parts in enumerate(chosen) for length, stride in parts if length > 1]
        for order in permutations(axis_parts):
            view = [first, *((length, stride) for length, stride, _ in order)]
            places = list(accumulate((length for length, _ in view), mul))[1:]
            joined = [pair for end, pair in zip(places, pairwise(order), strict=False) if end not in ends]
            split = [(a, b) for a, b in combinations(order, 2) if a[2] == b[2]]
            if (
                ends <= {first[0], *places}
                and all(stride > next_stride for (_, stride, _), (_, next_stride, _) in joined + split)
                and all(whole.issuperset({i, j}) for (_, _, i), (_, _, j) in joined)
            ):
                yield view


def _splits(length: int, stride: int, shape: tuple[int, ...]) -> list[list[Axis]]:
    """Return an axis in two, one of them as long as an axis of ``shape``."""
    lengths = {inner for n in shape if n and length % n == 0 for inner in (n, length // n)} - {1, length}
    return [[(length // inner, stride * inner), (inner, stride)] for inner in lengths]


def _centred(codes: Tensor, zero_point: int | list[int]) -> Tensor:
    zero_points = _spread(zero_point, codes.shape[-1])
    return _joined(codes.shape, ([v - z for v, z in zip(row, zero_points, strict=True)] for row in codes.rows))


# Small pieces


def _pairs(ratio: Dyadic, channels: int) -> list[tuple[int, int]]:
    """Return (m, t) per channel."""
    multiplier, shift = ratio
    return list(zip(_spread(multiplier, channels), _spread(shift, channels), strict=True))


def _spread(value: int | Sequence[int] | Tensor, channels: int) -> list[int]:
    """Return one value per channel from one, or from one per channel."""
    values = [value] if isinstance(value, int) else list(value.flat if isinstance(value, Tensor) else value)
    values = values * channels if len(values) == 1 else values
    _require(len(values) == channels, f"values must be 1 or {channels}", len(values))
    return values


def _broadcast(tensor: Tensor, shape: tuple[int, ...]) -> list[int]:
    """Return the elements of a tensor repeated along the axes where it has one or none."""
    axes = [(1, 0)] * (len(shape) - len(tensor.shape)) + _strided(tensor.shape)
    for (length, _), target in zip(axes, shape, strict=True):
        _require(length in {1, target}, f"shape must broadcast to {shape}", tensor.shape)
    stretched = [(n, stride if length == n else 0) for (length, stride), n in zip(axes, shape, strict=True)]
    return [tensor.flat[i] for i in _places(stretched, 0)]


def _strided(shape: tuple[int, ...]) -> list[Axis]:
    return [(length, prod(shape[i + 1 :])) for i, length in enumerate(shape)]


def _places(axes: Sequence[Axis], start: int) -> list[int]:
    """Return where the elements of a view stand, in row-major order."""
    places = [start]
    for length, stride in axes:
        places = [place + k * stride for place in places for k in range(length)]
    return places


def _cut(values: list[Any], size: int) -> list[list[Any]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _joined(shape: Iterable[int], rows: Iterable[Sequence[int]]) -> Tensor:
    return Tensor(tuple(shape), list(chain.from_iterable(rows)))


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        msg = f"{rule}, got {value!r}"
        raise ValueError(msg)
