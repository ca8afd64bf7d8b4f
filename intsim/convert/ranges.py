# SPDX-License-Identifier: Apache-2.0
"""Activation ranges that the user brings: what another quantizer has found, AIMET or Brevitas for example."""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import numpy as np

from intsim.errors import IntsimError, said
from intsim.io.bounded import MAX_JSON, parse_json, read_text
from intsim.models.outline import Outline

__all__ = ["Range", "given_ranges"]

Range: TypeAlias = tuple[np.float64, np.float64]

REAL: Final = (int, float, np.integer, np.floating)
LISTED: Final = "`intsim recipes NAME --checkpoint DIR` lists them"


def given_ranges(ranges: str | Path | Mapping[str, Any], outline: Outline) -> dict[str, Range]:
    """Return the range of each activation that is given, by its name.

    Parameters
    ----------
    ranges
        Name of an activation -> its lowest and its highest real number; or a JSON file of such an object.
    outline
        The model's, which knows the names.

    Raises
    ------
    IntsimError
        If the file cannot be read or is no such object, or a name is not of an activation with a range of its own, or
        a range is not two finite numbers in order.
    """
    source = "ranges" if isinstance(ranges, Mapping) else str(ranges)
    given: Any = ranges if isinstance(ranges, Mapping) else _read(Path(ranges))
    if not isinstance(given, Mapping):
        msg = f"{source} must hold an object of activation names and ranges [min, max], got {type(given).__name__}"
        raise IntsimError(msg)
    found: dict[str, Range] = {}
    for name, pair in cast("Mapping[Any, Any]", given).items():
        activation = outline.activations.get(name)
        if activation is None:
            first = next(iter(outline.activations))
            msg = f"{source} must name activations of the model, such as '{first}', got {name!r}; {LISTED}"
            raise IntsimError(msg)
        if activation.like:
            msg = f"{source} must leave '{name}' out, whose range is that of '{activation.like}', got {pair!r}"
            raise IntsimError(msg)
        found[name] = _range(f"{source} must hold two finite numbers [min, max], min <= max, for '{name}'", pair)
    return found


def _range(rule: str, pair: Any) -> Range:
    ends = list(cast("Iterable[Any]", pair)) if isinstance(pair, Iterable) else []
    if len(ends) == 2 and all(type(end) is not bool and isinstance(end, REAL) for end in ends):
        with suppress(OverflowError):  # an integer that no float64 is near
            low, high = np.float64(ends[0]), np.float64(ends[1])
            if -math.inf < low <= high < math.inf:
                return low, high
    msg = f"{rule}, got {pair!r}"
    raise IntsimError(msg)


def _read(path: Path) -> Any:
    try:
        text = read_text(path, most=MAX_JSON, encoding="utf-8-sig", newline="")
        given = parse_json(text)
    except (OSError, ValueError) as error:
        msg = f"{path} must be a readable JSON file, got {said(error)}"
        raise IntsimError(msg) from None
    if isinstance(given, dict):
        names: set[str] = set()
        for name, _ in json.loads(text, object_pairs_hook=list):
            if name in names:
                msg = f"{path} must name every activation once, got {name!r} twice"
                raise IntsimError(msg)
            names.add(name)
    return cast("Any", given)
