# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz --seconds 60``: damaged files of every kind, given to intsim; exit status 1 if it errs.

With the names of kept cases, ``python -m tests.fuzz fuzz-failures/12.json``, it says what becomes of these.
"""

import argparse
import os
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.campaign import campaign, figures, keep, read_case
from fuzz.verdict import KINDS, examine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("cases", nargs="*", type=Path, help="kept cases to examine again, instead of new ones")
    parser.add_argument("--seconds", type=float, default=60.0, help="36000 are ten hours")
    parser.add_argument("--files", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--kind", choices=KINDS, action="append", help="repeatable; all by default")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed draws the same cases")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for what fails")
    given = parser.parse_args()
    os.environ["RUST_BACKTRACE"] = "0"  # else a panic of tokenizers speaks of errors in many lines
    for file in given.cases:
        with TemporaryDirectory() as folder:
            print(file.name, *examine(read_case(file), Path(folder) / "case"), sep="\n  ")
    if given.cases:
        return 0
    kinds = given.kind or [*KINDS]
    if find_spec("gguf") is None and not given.kind:
        kinds.remove("gguf")
        print("without files of the kind gguf, which need the package gguf: pip install '.[gguf]'")
    begin = time.monotonic()
    print(f"seed {given.seed}", flush=True)
    verdicts = []
    with suppress(KeyboardInterrupt):
        for number, case, verdict in campaign(given.seed, kinds, given.files, given.seconds):
            verdicts.append((case, verdict))
            if verdict.fault:
                keep(given.keep, number, case, verdict)
                print(f"{given.keep / str(number)}.json  {case.kind}: {verdict.fault[:400]!a}", flush=True)
    print(figures(verdicts, time.monotonic() - begin))
    return int(any(verdict.fault for _, verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
