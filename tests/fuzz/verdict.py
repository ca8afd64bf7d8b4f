# SPDX-License-Identifier: Apache-2.0
"""The oracle: a file is refused in one line, or accepted and then everything agrees to the bit; within limits."""

import json
import os
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from random import Random
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

import numpy as np
import oracle_trace
from fuzz import checkpoints, devices, llama_cpp, seeds, texts
from fuzz.draw import draw
from fuzz.edits import Edit, apply

import intsim
from intsim.cli import main
from intsim.errors import LONGEST
from intsim.io.trace_file import write_trace

KINDS: Final = {**checkpoints.KINDS, **llama_cpp.KINDS, **devices.KINDS, **texts.KINDS}
SECONDS: Final = 5.0
"""Of processor time that the commands may take together."""
KILOBYTES: Final = 1 << 20
"""What they may hold beyond the size of their input."""
ENDS_WELL: Final = {0: "accepted", 1: "accepted", 3: "refused"}
COMPARING: Final = ("compare", "diagnose", "vectors")
"""Commands that may end with 1, a difference."""
PYTHON: Final = re.compile(
    r"Traceback \(most|Error\b|has no attribute|not subscriptable|unhashable|unsupported operand|object is not"
    r"|not supported between|NoneType|positional argument|keyword argument|object at 0x|<class|indices must be"
    r"|to unpack|invalid literal|could not convert|__\w+__\(|dtype\(|np\.\w+\(|keys must be|cannot be interpreted"
    r"|zip\(\)|assignment|broadcast|WindowsPath|PosixPath|argument after|argument of type|mappingproxy|Warning"
)
"""What Python and NumPy say, and no sentence of intsim's."""


class Case(NamedTuple):
    """A file: its kind, what it began as, and what was done to it."""

    kind: str
    seed: str
    edits: list[Edit]


class Verdict(NamedTuple):
    """What became of a case."""

    outcome: str  # accepted, refused or a fault's first words
    seconds: float
    kilobytes: int
    message: str
    fault: str = ""


def draw_case(seed: int, number: int, kinds: Sequence[str]) -> Case:
    """Return case ``number`` of the campaign ``seed``."""
    rng = Random(f"{seed}:{number}")  # noqa: S311
    name = kinds[number % len(kinds)]
    kind = KINDS[name]
    begin = rng.choice(kind.seeds)
    return Case(name, begin, draw(rng, kind.files(begin), kind.targets))


def written(case: Case) -> dict[str, bytes]:
    """Return the files of a case."""
    kind = KINDS[case.kind]
    return apply(kind.files(case.seed), case.edits, kind.write)


def examine(case: Case, folder: Path) -> Verdict:
    """Write the files of a case into ``folder``, anew, run its commands and judge what they say."""
    kind = KINDS[case.kind]
    shutil.rmtree(folder, ignore_errors=True)
    files = written(case)
    seeds.save(folder, files)
    outcomes, message, fault = list[str](), "", ""
    before = _measure()
    begin = time.process_time()
    stands_for = {"FOLDER": str(folder), "SEED": case.seed, "HEAD": (case.seed.split()[1:] or [""])[0]}
    for command in kind.commands:
        arguments = reduce(lambda text, each: text.replace(*each), stands_for.items(), command).split(" ")
        status, said = run(arguments)
        outcomes.append(ENDS_WELL.get(status, f"status {status}"))
        message = max(message, said.rpartition("intsim: ")[2] if status == 3 else "", key=len)
        if status == 1 and arguments[0] not in COMPARING:
            fault = f"status 1 ({arguments[0]})"
            break
        if fault := _complaint(status, said):
            fault = f"{fault} ({arguments[0]})"
            break
    seconds = time.process_time() - begin
    kilobytes = _measure(peak=True) - before - sum(map(len, files.values())) // 1024
    if not fault and seconds > SECONDS:
        fault = f"slow: {seconds:.1f} s"
    if not fault and kilobytes > KILOBYTES:
        fault = f"large: {kilobytes} KB"
    if not fault and kind.model and outcomes[0] == "accepted":
        fault = _disagreement(folder / kind.model, folder / "judged")
    return Verdict(fault.partition(":")[0] or outcomes[0], seconds, max(kilobytes, 0), message.rstrip("\n"), fault)


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run intsim here; return its exit status and what it wrote to stderr."""
    argv, sys.argv = sys.argv, ["intsim", *arguments]
    try:
        with _streams() as stderr, warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                main()
                status = 0
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else -1
            except BaseException:  # noqa: BLE001  nothing may get out
                traceback.print_exc()
                status = -1
            sys.stderr.flush()
            stderr.seek(0)
            return status, stderr.read().decode("utf-8", "backslashreplace")
    finally:
        sys.argv = argv


@contextmanager
def _streams() -> Generator[Any]:
    """Send the descriptors 1 and 2 to files, whoever writes to them, and yield the second one."""
    kept = [os.dup(number) for number in (1, 2)]
    stdout, stderr = sys.stdout, sys.stderr
    with TemporaryFile() as out, TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        try:
            yield err
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            sys.stdout, sys.stderr = stdout, stderr


def _complaint(status: int, said: str) -> str:
    """Return what is wrong with an end, if anything is."""
    lines = [line.rpartition("\r")[2] for line in said.splitlines()]
    if status not in ENDS_WELL:
        return f"status {status}: {said[-600:]}"
    if found := PYTHON.search(said):
        return f"Python's words: {found[0]}: {said[:600]}"
    if "\x1b" in said or any(len(line) > LONGEST for line in lines):
        return f"unreadable: {said[:600]!a}"
    ours = [line.startswith("intsim: ") for line in lines]
    if status == 3 and (ours.count(True) != 1 or not ours[-1]):
        return f"not one line: {said[:600]!a}"
    return ""


def _disagreement(folder: Path, judged: Path) -> str:
    """Return what of an accepted model differs: on the fast path, on plain integers, by the judge of its trace."""
    model = intsim.load(folder)
    rng = np.random.default_rng(0)
    shape = (2, min(4, model.config.longest))
    ids = rng.integers(0, model.config.vocab_size, shape)
    mask = np.ones(shape, np.int8)
    mask[1, 1:] = 0
    types = rng.integers(0, model.config.type_vocab_size, shape)
    try:
        fast, plain = (
            model(ids, attention_mask=mask, token_type_ids=types, carrier=carrier).values
            for carrier in ("auto", "integer")
        )
        with intsim.trace("steps") as trace:
            traced = model(ids, attention_mask=mask, token_type_ids=types).values
        write_trace(judged, trace, model)
        differing = list[str]()
        with suppress(oracle_trace.NotJudgedError):
            differing = oracle_trace.judge(judged)
    except Exception as error:  # noqa: BLE001  whatever it is: what was accepted must run
        return f"accepted and fails: {type(error).__name__} {error}"
    if not (np.array_equal(fast, plain) and np.array_equal(fast, traced)):
        return "paths differ"
    return f"judged otherwise: {json.dumps(differing)[:200]}" if differing else ""


def _measure(*, peak: bool = False) -> int:
    """Return the kilobytes that this process holds, or the most that it held since it was asked that."""
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s*(\d+)", text)[1])  # type: ignore[index]
