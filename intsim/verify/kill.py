# SPDX-License-Identifier: Apache-2.0
"""What test vectors are worth: which of the known bugs those of a level catch, and which ones none can."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from intsim._progress import watched
from intsim.profile import NATIVE, Profile
from intsim.verify.bugs import CONTROL, changes_of_operator
from intsim.verify.vectors.cases import Level, generate, minimum
from intsim.verify.vectors.operators import OPERATORS, bind

__all__ = ["EQUIVALENT", "Kill", "kill_matrix"]

EVERY_INPUT: Final = "all inputs agree, and level 2 tries them all"
NEVER_NEGATIVE: Final = "what is rounded is never negative"
COMMUTES: Final = "half-up commutes with adding an integer"
NO_TIES: Final = ("rounding half-even", "rounding half-down", "rounding half-toward-zero", "rounding half-odd")
SAME_EXP: Final = "all results of exp agree"
SAME_SIGMOID: Final = "all results of sigmoid agree"

# (operator, profile) -> changes that no input tells from the golden model, and why
_SAME: Final[Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]]] = {
    ("requantize", "intsim"): {COMMUTES: ("zero point before rounding",)},
    ("linear", "intsim"): {COMMUTES: ("requantize: zero point before rounding",)},
    ("linear", "intsim-wide"): {COMMUTES: ("requantize: zero point before rounding",)},
    ("linear_add_norm", "intsim"): {COMMUTES: ("sum: zero point before rounding",)},
    ("linear_add_norm", "intsim-wide"): {COMMUTES: ("sum: zero point before rounding",)},
    ("add", "intsim"): {COMMUTES: ("zero point before rounding",)},
    ("requantize", "intsim-wide"): {COMMUTES: ("zero point before rounding",)},
    ("add", "intsim-wide"): {COMMUTES: ("zero point before rounding",)},
    ("multiply", "intsim"): {COMMUTES: ("zero point before rounding",)},
    ("rotary", "intsim"): {"a result of 32 bits has none of the bits that a logical shift fills": ("logical shift",)},
    ("add", "ibert"): {"no 16-bit zero point brings back what 32 bits cut off": ("sum saturates at 32 bits",)},
    ("linear_add_norm", "ibert"): {
        "no 16-bit zero point brings back what 32 bits cut off": ("sum: sum saturates at 32 bits",)
    },
    ("exp", "intsim"): {
        EVERY_INPUT: (*NO_TIES, "q_c -1", "q_c +1"),
        NEVER_NEGATIVE: ("rounding half-away", "half added, then truncated", "logical shift"),
    },
    ("exp", "ibert"): {NEVER_NEGATIVE: ("rounding toward-zero", "half added, then truncated", "logical shift")},
    ("softmax", "intsim"): {
        NEVER_NEGATIVE: ("probabilities: rounding half-away", "probabilities: half added, then truncated"),
        "differences are never positive": ("rounding half-toward-zero",),
        "probabilities are at most 255": ("256 wraps",),
        "exp of its lowest input is 0": ("masked positions as the lowest input of exp",),
    },
    ("softmax", "ibert"): {NEVER_NEGATIVE: ("probabilities: rounding toward-zero",)},
    ("gelu", "intsim"): {
        EVERY_INPUT: (*NO_TIES, "rounding half-away", "q_1 +1", "q_c -1"),
        "the polynomial is flat at the clip": ("clip one too high", "clip one too low"),
        "the input 0 gives 0 under every sign": ("sign of 0 is +1",),
        "results fit 16 bits": ("result saturates at 16 bits", "result wraps at 16 bits"),
    },
    ("gelu", "ibert"): {"the input 0 gives 0 under every sign": ("sign of 0 is +1",)},
    ("tanh", "intsim"): {
        EVERY_INPUT: (*NO_TIES, "rounding half-away", "rounded after the sign", "half added, then truncated"),
    },
    ("tanh", "ibert"): {NEVER_NEGATIVE: ("rounding toward-zero",), EVERY_INPUT: ("exp: shift at most 15",)},
    ("sigmoid", "intsim"): {
        EVERY_INPUT: (*NO_TIES, "negative side divided by itself", "exp: shift at most 15"),
        NEVER_NEGATIVE: ("rounding half-away", "half added, then truncated"),
    },
    ("rms_norm", "ibert"): {
        "shifted values are floored, and fit 16 bits": (
            "shifted value wraps at 16 bits",
            "shifted value saturates at 16 bits",
        ),
    },
    ("sigmoid", "ibert"): {
        NEVER_NEGATIVE: ("rounding toward-zero",),
        EVERY_INPUT: ("one saturates one code below", "exp: shift at most 15"),
    },
}
_SAME_FOR_TANH_FORM: Final = {("gelu_tanh", profile): _SAME["gelu", profile] for profile in ("intsim", "ibert")}
_ALONE: Final[Mapping[tuple[str, str, str], str]] = {
    **{(operator, CONTROL, profile): "it is the golden model" for operator in OPERATORS for profile in NATIVE},
    **{
        (operator, change, profile): reason
        for (operator, profile), reasons in {**_SAME, **_SAME_FOR_TANH_FORM}.items()
        for reason, changes in reasons.items()
        for change in changes
    },
    **{
        (operator, f"exp: {change}", "intsim"): SAME_EXP
        for operator in ("softmax", "tanh", "sigmoid")
        for changes in _SAME["exp", "intsim"].values()
        for change in changes
    },
}
EQUIVALENT: Final[Mapping[tuple[str, str, str], str]] = {
    **_ALONE,
    **{
        ("silu", f"sigmoid: {change}", profile): SAME_SIGMOID
        for operator, change, profile in _ALONE
        if operator == "sigmoid" and change != CONTROL
    },
    **{
        (
            "silu",
            "sigmoid: exp: lowest input bit ignored",
            profile,
        ): "sigmoid reads multiples of 4, or where it is 0 or 1"
        for profile in ("intsim", "ibert")
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The fate of one bug: how many cases of a level catch it, or why none can."""

    operator: str
    bug: str
    profile: str
    cases: int
    caught: int
    equivalent: str | None


def kill_matrix(profile: Profile, level: Level, *, seed: int = 1, names: tuple[str, ...] = ()) -> Iterator[Kill]:
    """Yield how many vectors of a level catch each bug of each operator."""
    for name in names or tuple(OPERATORS):
        operator = bind(name, profile)
        broken = changes_of_operator(operator)
        caught = dict.fromkeys(broken, 0)
        cases = minimum(operator, level)
        for batch in generate(operator, seed=seed, level=level, cases=cases):
            expected = operator.results(batch)
            for bug, device in watched(broken.items(), "trying", unit="change"):
                caught[bug] += int((device.results(batch) != expected).any(axis=1).sum())
        for bug, count in caught.items():
            yield Kill(
                operator=name,
                bug=bug,
                profile=profile.name,
                cases=cases,
                caught=count,
                equivalent=EQUIVALENT.get((name, bug, profile.name)),
            )
