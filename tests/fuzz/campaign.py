# SPDX-License-Identifier: Apache-2.0
"""Cases by the thousand, in processes that may die of them, and the figures of what became of them."""

import json
import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fuzz.seeds import save
from fuzz.verdict import KINDS, Case, Verdict, draw_case, examine, written

MEMORY: Final = 1 << 31
"""Bytes of addresses that a case may use beyond what the process has."""
PATIENCE: Final = 100.0
"""Seconds after which a process is taken for hung."""


def shrunk(case: Case, verdict: Verdict, folder: Path) -> tuple[Case, Verdict]:
    """Return the case without the edits that its fault does not need."""
    for edit in case.edits:
        fewer = case._replace(edits=[each for each in case.edits if each is not edit])
        if fewer.edits and (found := examine(fewer, folder)).outcome == verdict.outcome:
            case, verdict = fewer, found
    return case, verdict


def _work(parent: Connection, pipe: Connection, seed: int, kinds: Sequence[str], first: int) -> None:
    parent.close()  # so that it is an error to write when nobody reads any longer
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + MEMORY, addresses + MEMORY))
    with TemporaryDirectory() as folder, suppress(BrokenPipeError):
        for number in count(first):
            case = draw_case(seed, number, kinds)
            verdict = examine(case, Path(folder) / "case")
            pipe.send((case, verdict) if not verdict.fault else shrunk(case, verdict, Path(folder) / "case"))


def campaign(seed: int, kinds: Sequence[str], files: int, seconds: float) -> Iterator[tuple[int, Case, Verdict]]:
    """Yield so many cases and their verdicts, or as many as there is time for; a process that dies is replaced."""
    context = multiprocessing.get_context("fork")
    for kind in kinds:  # the seeds are made once
        for name in KINDS[kind].seeds:
            KINDS[kind].files(name)
    end, number = time.monotonic() + seconds, 0
    while number < files and time.monotonic() < end:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(ours, theirs, seed, kinds, number), daemon=True)
        process.start()
        theirs.close()
        try:
            while number < files and (left := end - time.monotonic()) > 0:
                if ours.poll(min(PATIENCE, left)):
                    yield number, *ours.recv()
                    number += 1
                elif left > PATIENCE:
                    yield number, draw_case(seed, number, kinds), Verdict("hung", PATIENCE, 0, "", "hung")
                    number += 1
                    break
        except EOFError:
            process.join()
            fault = f"died: exit code {process.exitcode}"
            yield number, draw_case(seed, number, kinds), Verdict("died", 0, 0, "", fault)
            number += 1
        finally:
            process.kill()
            process.join()


def keep(folder: Path, number: int, case: Case, verdict: Verdict) -> None:
    """Keep a faulty case: what it is, and its files."""
    entry = {**case._asdict(), "fault": verdict.fault}
    save(folder, {f"{number}.json": json.dumps(entry).encode()})
    save(folder / str(number), written(case))


def read_case(file: Path) -> Case:
    """Return a case that was kept."""
    entry: dict[str, Any] = json.loads(file.read_text())
    return Case(entry["kind"], entry["seed"], entry["edits"])


def figures(verdicts: Sequence[tuple[Case, Verdict]], seconds: float) -> str:
    """Return the table of what became of the files of each kind, and of the faults."""
    rows = [["kind", "files", "accepted", "refused", "faults", "slowest s", "largest MB", "longest message"]]
    for name in [*dict.fromkeys(case.kind for case, _ in verdicts), "all"]:
        of_kind = [verdict for case, verdict in verdicts if name in (case.kind, "all")]
        ends = [sum(verdict.outcome == end for verdict in of_kind) for end in ("accepted", "refused")]
        slowest, largest = (max(each) for each in zip(*(verdict[1:3] for verdict in of_kind), strict=True))
        figures = (len(of_kind), *ends, len(of_kind) - sum(ends), f"{slowest:.2f}", largest // 1024)
        rows.append([name, *map(str, figures), str(max(len(verdict.message) for verdict in of_kind))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    faults = [verdict.fault for _, verdict in verdicts if verdict.fault]
    tracebacks = sum(fault.startswith(("status 70", "status -1")) for fault in faults)
    memory = sum("memory must suffice" in fault or "MemoryError" in fault for fault in faults)
    lines.append(f"{tracebacks} tracebacks, {memory} MemoryErrors, {len(faults)} faults in all, {seconds:.0f} s")
    return "\n".join(lines)
