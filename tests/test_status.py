# SPDX-License-Identifier: Apache-2.0
"""The exit status says what happened, in one line, whatever happens to the process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest

from intsim import cli
from intsim._status import CLOSED_PIPE, FAILURE, INTERRUPTED, INVALID_INPUT, MISMATCH, USAGE
from intsim.errors import LONGEST, IntsimError, ResourceError, one_line

ROOT: Final = Path(__file__).resolve().parents[1]
MODEL: Final = str(resources.files("intsim.embedded"))
GEN: Final = ("vectors", "gen", "requantize", "-n", "100000")
COMMAND: Final = (sys.executable, "-c", "from intsim.cli import main; main()")
ENVIRONMENT: Final = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


def _run(*arguments: str, redirect: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, its streams redirected by the shell."""
    command = ["sh", "-c", f'"$@" {redirect}', "sh", *COMMAND, *arguments]
    options = {"capture_output": True, "text": True, "env": ENVIRONMENT, "check": False, "timeout": 120} | options
    return subprocess.run(command, **options)  # noqa: PLW1510  check is among the options


def _here(monkeypatch: pytest.MonkeyPatch, raised: BaseException) -> int:
    """Run a command here that raises, and return its status."""

    def fail() -> None:
        raise raised

    monkeypatch.setattr("intsim.report.info.summarise_machine", fail)
    monkeypatch.setattr(sys, "argv", ["intsim", "info"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_difference_is_1_and_nothing_else_is(tmp_path: Path) -> None:
    texts = ("a good film", "a bad film")
    for name, text in zip("ab", texts, strict=True):
        assert _run("run", MODEL, "--text", text, "--trace", str(tmp_path / name)).returncode == 0
    assert _run("compare", str(tmp_path / "a"), str(tmp_path / "b")).returncode == MISMATCH
    assert _run("compare", str(tmp_path / "a"), str(tmp_path / "a")).returncode == 0


@pytest.mark.parametrize("arguments", [("profiles",), ("run", "--help"), ("inspect", "/absent"), ("nothing",)])
def test_the_package_runs_as_its_command_does(arguments: tuple[str, ...]) -> None:
    program = [sys.executable, "-m", "intsim", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=120)
    as_command = _run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (
        as_command.returncode,
        as_command.stdout,
        as_command.stderr,
    )


@pytest.mark.parametrize("arguments", [("nothing",), ("run",), ("run", MODEL), ("run", MODEL, "--level", "x")])
def test_wrong_usage_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["intsim", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == USAGE
    assert capsys.readouterr().err.startswith("Usage: intsim")


def test_help_and_version_are_0() -> None:
    for option in ("--help", "--version"):
        done = _run(option)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(("Usage: intsim", "intsim, version"))


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (IntsimError("text must be short, got a long one"), INVALID_INPUT, "text must be short, got a long one"),
        (ResourceError("processes must live"), FAILURE, "processes must live"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
        (MemoryError("no 5 GB"), FAILURE, "memory must suffice for the work, got too little: no 5 GB; give less"),
        (
            ZeroDivisionError("division by zero"),
            FAILURE,
            "unforeseen ZeroDivisionError, division by zero; please report",
        ),
        (
            RecursionError("deep"),
            FAILURE,
            "unforeseen RecursionError, deep; please report it to intsim's issue tracker",
        ),
        (PermissionError(13, "x", "file"), FAILURE, "unforeseen PermissionError, Permission denied; please report"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("debug", ["", "1"])
def test_whatever_ends_a_command_has_its_status_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    status: int,
    line: str,
    debug: str,
) -> None:
    monkeypatch.setenv("INTSIM_DEBUG", debug)
    assert _here(monkeypatch, raised) == status
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"intsim: {line}")
    shown = bool(debug) and status == FAILURE and not isinstance(raised, IntsimError)
    assert bool(before) == shown
    assert not shown or before[0] == "Traceback (most recent call last):"


@pytest.mark.parametrize("text", ["x" * 10_000, "\n" * 400, "\x1b[31mred\r\nnext\tline\ud800\u2028", "ä" * 499])
def test_a_message_is_one_line_that_a_terminal_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert _here(monkeypatch, IntsimError(f"file must be good, got {text}; make it again")) == INVALID_INPUT
    shown = capsys.readouterr().err
    assert shown.endswith("; make it again\n")
    assert len(shown) <= LONGEST + 1
    assert shown[:-1].isprintable()


def test_a_short_message_stays_as_it_is() -> None:
    assert one_line("größe must be 'x', got “y”") == "größe must be 'x', got “y”"


def test_too_little_memory_is_70() -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000));"
    program = limit + "import numpy as np, intsim.report.info as info; from intsim.cli import main;"
    program += "info.summarise_machine = lambda: np.zeros(10**10); main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "info"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == FAILURE
    assert re.fullmatch(
        r"intsim: memory must suffice for the work, got too little: .*; give less at once\n", done.stderr
    )


def test_an_interrupt_is_130_and_leaves_nothing(tmp_path: Path) -> None:
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # not where a shell has put "&"
    program = [*COMMAND[:2], heard + COMMAND[2]]
    command = [*program, "vectors", "gen", "softmax", "-n", "100000000", "-o", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            _wait_for(lambda: any(tmp_path.iterdir()))
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, told) == (INTERRUPTED, "intsim: interrupted\n")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("arguments", [GEN, ("demo",), ("profiles", "--witnesses"), ("--help",)])
def test_a_closed_pipe_is_quiet(arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = _run(*arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, "")


FULL: Final = "> /dev/full", "No space left on device"
CLOSED: Final = ">&-", "Bad file desc"


@pytest.mark.parametrize(
    ("arguments", "redirect", "reason"),
    [
        (GEN, *FULL),
        (("demo",), *CLOSED),
        (("demo", "--json"), *FULL),
        (("info",), *CLOSED),
        (("--help",), *FULL),
        (("--help",), *CLOSED),
    ],
)
def test_a_full_or_closed_stdout_is_a_sentence(arguments: tuple[str, ...], redirect: str, reason: str) -> None:
    done = _run(*arguments, redirect=redirect)
    assert done.returncode == INVALID_INPUT
    assert done.stderr.startswith(f"intsim: standard output must take what is printed, got: {reason}")
    assert done.stderr.count("\n") == 1


def test_a_closed_stderr_hides_no_status() -> None:
    assert _run("inspect", "/absent", redirect="2>&-").returncode == INVALID_INPUT
    assert _run("inspect", "/absent", redirect="2> /dev/full").returncode == INVALID_INPUT


@pytest.mark.parametrize(
    "arguments", [("compare", "-", "-"), ("vectors", "verify", "requantize"), ("diagnose", "-", MODEL)]
)
def test_a_closed_stdin_is_a_sentence(arguments: tuple[str, ...]) -> None:
    done = _run(*arguments, redirect="<&-")
    assert done.returncode == INVALID_INPUT
    assert done.stderr == "intsim: standard input must be open to be read, got a closed one\n"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "好"), ("latin-1", "\\u597d"), ("cp437", "\\u597d")])
def test_a_terminal_that_lacks_a_character_gets_its_number(encoding: str, shown: str) -> None:
    done = _run("demo", "a 好 film", env=ENVIRONMENT | {"PYTHONIOENCODING": encoding})
    assert done.returncode == 0
    assert done.stdout.startswith(f"text      a {shown} film\n")  # for ASCII, click writes UTF-8


def test_a_trace_on_stdout_is_alone_there(tmp_path: Path) -> None:
    given = ("run", MODEL, "--text", "a good film", "--json", "--trace")
    there = tmp_path / "there"
    to_file = _run(*given, str(there))
    piped = _run(*given, "/dev/stdout", text=False)
    assert piped.stdout == there.read_bytes()
    assert json.loads(piped.stderr) == json.loads(to_file.stdout)
    compared = _run("compare", str(there), "-", input=piped.stdout, text=False)
    assert compared.returncode == 0


def test_no_command_writes_over_a_model(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes((Path(MODEL) / "model.safetensors").read_bytes())
    for arguments in (
        ("run", str(tmp_path), "--text", "good", "--trace", str(model)),
        ("run", MODEL, "--text", "good", "--trace", str(model)),
        ("export", str(tmp_path), "--onnx", str(model)),
        ("vectors", "gen", "requantize", "-o", str(model)),
    ):
        done = _run(*arguments)
        assert done.returncode == INVALID_INPUT
        assert f"{model} must be new, empty or " in done.stderr
        assert done.stderr.endswith("to be written, got another file; name a new one\n")
        assert model.read_bytes() == (Path(MODEL) / "model.safetensors").read_bytes()


def test_quantize_refuses_a_folder_with_the_model_of_another_program_before_it_works(tmp_path: Path) -> None:
    foreign = ROOT / "tests" / "data" / "embedded-float" / "model.safetensors"
    (tmp_path / "model.safetensors").write_bytes(foreign.read_bytes())
    done = _run("quantize", "/absent", "-o", str(tmp_path))
    assert done.returncode == INVALID_INPUT
    assert "must be new, empty or an integer checkpoint of intsim to be written" in done.stderr
    assert (tmp_path / "model.safetensors").read_bytes() == foreign.read_bytes()


def _wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("nothing happened for a minute")


def _evaluation(tmp_path: Path) -> list[str]:
    (tmp_path / "data.tsv").write_text("1\ta long and good film of the year\n" * 20_000)
    return [*COMMAND, "eval", MODEL, "--task", "sst2", "--data", str(tmp_path / "data.tsv"), "--jobs", "2"]


def _workers(parent: int) -> list[int]:
    """Return the processes of a pool that are at work: those of the parent that have seen a while of processor time."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_parent(tmp_path: Path, deadly: signal.Signals) -> None:
    with subprocess.Popen(_evaluation(tmp_path), stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        _wait_for(lambda: len(_workers(process.pid)) == 2)
        workers = _workers(process.pid)
        time.sleep(1.5)  # they have begun
        process.send_signal(deadly)
    assert process.returncode == -deadly
    _wait_for(lambda: not any(map(_is_alive, workers)))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_killed_process_of_several_is_70_and_a_sentence(tmp_path: Path) -> None:
    with subprocess.Popen(_evaluation(tmp_path), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        _wait_for(lambda: len(_workers(process.pid)) == 2)
        os.kill(_workers(process.pid)[0], signal.SIGKILL)
        _, told = process.communicate(timeout=60)
    assert process.returncode == FAILURE
    last = re.split(r"[\r\n]", told.rstrip("\n"))[-1]
    expected = "each of 2 processes must live until its work is done, got one that was killed; take fewer --jobs"
    assert last.endswith(f"intsim: {expected}")
    assert "Traceback" not in told


def test_info_tells_versions_and_that_the_embedded_models_are_the_committed_ones() -> None:
    done = _run("info", "--json")
    told = json.loads(done.stdout)
    assert told["versions"].keys() >= {"intsim", "python", "numpy", "tokenizers", "safetensors"}
    assert {"blas", "threads", "processor", "features"} <= told.keys()
    for name, file in (("embedded_model", "embedded.json"), ("embedded_decoder", "stories.json")):
        golden = json.loads((ROOT / "tests" / "golden" / file).read_text(encoding="utf-8"))["file"]
        assert told[name] == {"sha256": golden, "committed": True}
        assert f"sha256 {golden}, committed True" in _run("info").stdout


def test_a_note_that_quotes_a_file_is_one_line(tmp_path: Path) -> None:
    program = (
        "import logging, warnings; from intsim import cli; from intsim.report import info\n"
        "def quote():\n"
        r"    logging.getLogger('intsim').warning('tensor %s', 'a\nb\x1b[2J')"
        "\n"
        r"    warnings.warn('tensor a\nb' + 'x' * 1000)"
        "\n"
        "    return {}\n"
        "info.summarise_machine = quote\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "info"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
        cwd=tmp_path,
    )
    note, warning = done.stderr.splitlines()
    assert note == r"tensor a\nb\x1b[2J"
    assert warning.startswith(r"intsim: warning: tensor a\nbxxx")
    assert len(warning) <= LONGEST
