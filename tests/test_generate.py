# SPDX-License-Identifier: Apache-2.0
"""intsim generate, and run on a decoder: what is printed, streamed, traced and refused."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import oracle_trace
import pytest
from families import tiny

import intsim
from intsim.cli import main
from intsim.io.tokenizer import parse_tokenizer, running
from intsim.io.trace_file import read_trace
from intsim.testing import assert_bit_exact
from intsim.verify.replay import replay

ROOT: Final = Path(__file__).resolve().parents[1]
STORIES: Final = Path(str(resources.files("intsim.embedded") / "stories"))
PROMPT: Final = "Once upon a time"


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["intsim", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return Outcome(int(stop.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def stories() -> intsim.IntegerModel:
    return intsim.load(STORIES)


def ids_of(model: intsim.IntegerModel, text: str) -> list[int]:
    return [token for part in running(parse_tokenizer(model.tokenizer or ""), text) for token in part]


# ---- what is printed


def test_json_tells_the_new_tokens_their_text_and_digest(command: Command, stories: intsim.IntegerModel) -> None:
    done = command("generate", "--text", PROMPT, "--max-new-tokens", "12", "--json")
    assert done.status == 0
    told = json.loads(done.stdout)
    ids = ids_of(stories, PROMPT)
    expected = stories.generate([ids], max_new_tokens=12)[0]
    assert told == {
        "prompt": PROMPT,
        "ids": expected,
        "text": parse_tokenizer(stories.tokenizer or "").decode([*ids, *expected]).removeprefix(PROMPT),
        "stopped": "count",
        "digest": hashlib.sha256(np.array(expected, "<i8").tobytes()).hexdigest(),
        "profile": "intsim-wide",
        "profile_hash": stories.profile.hash,
        "model_digest": stories.digest,
    }
    assert done.stderr == ""


def test_the_text_and_what_follows_it_are_printed(command: Command) -> None:
    told = json.loads(command("generate", "--text", PROMPT, "--max-new-tokens", "30", "--json").stdout)
    assert (
        command("generate", STORIES, "--text", PROMPT, "--max-new-tokens", "30").stdout == f"{PROMPT}{told['text']}\n"
    )


def test_ids_in_place_of_a_text(command: Command, stories: intsim.IntegerModel, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(" ".join(map(str, ids_of(stories, PROMPT))))
    how = ("--max-new-tokens", "9")
    by_text = json.loads(command("generate", "--text", PROMPT, *how, "--json").stdout)
    assert json.loads(command("generate", "--ids", tmp_path / "ids", *how, "--json").stdout) == by_text
    assert command("generate", "--ids", tmp_path / "ids", *how).stdout == f"{PROMPT}{by_text['text']}\n"


def test_samples_are_those_of_their_seed(command: Command, stories: intsim.IntegerModel) -> None:
    how = ("--max-new-tokens", "15", "--top-k", "50", "--temperature", "1.5", "--json")
    found = {
        seed: json.loads(command("generate", "--text", PROMPT, *how, "--seed", str(seed)).stdout)["ids"]
        for seed in (0, 1)
    }
    ids = ids_of(stories, PROMPT)
    for seed, tokens in found.items():
        expected = stories.generate([ids], max_new_tokens=15, top_k=50, temperature=1.5, seed=seed)[0]
        assert tokens == expected
    assert found[0] != found[1]


def test_pieces_are_written_as_they_come(tmp_path: Path) -> None:
    """Each is there before the process has made the next one, although stdout is no terminal."""
    program = [sys.executable, "-c", "from intsim.cli import main; main()", "generate", "--text", PROMPT]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*program, "--max-new-tokens", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 4096)
        assert PROMPT.encode().startswith(first[: len(PROMPT)])
        assert len(first) < 400
        assert process.poll() is None
        process.stdout.close()
        process.stderr.read()  # nobody reads on: it ends
    assert process.returncode == 141


def test_the_end_of_the_context_is_said(command: Command, stories: intsim.IntegerModel, tmp_path: Path) -> None:
    ids = ids_of(stories, " ".join([PROMPT] * 200))[:509]
    (tmp_path / "ids").write_text(" ".join(map(str, ids)))
    done = command("generate", "--ids", tmp_path / "ids", "--json")
    told = json.loads(done.stdout)
    assert (len(told["ids"]), told["stopped"]) == (4, "context")
    assert done.stderr == "stopped at the end of the context, 512 tokens\n"
    exact = command("generate", "--ids", tmp_path / "ids", "--max-new-tokens", "4", "--json")
    assert (json.loads(exact.stdout)["stopped"], exact.stderr) == ("count", "")


def test_a_text_stops_at_its_end(command: Command, tmp_path: Path) -> None:
    path = tiny("gpt2", "causal-lm", tmp_path / "float")
    intsim.quantize(path, recipe="zeroquant:groups=4").save(tmp_path / "model")
    (tmp_path / "ids").write_text("5 9 11 30")
    told = json.loads(command("generate", tmp_path / "model", "--ids", tmp_path / "ids", "--json").stdout)
    assert told["ids"][-1] == 2
    assert told["stopped"] == "end"


def test_without_a_tokenizer_ids_are_printed(command: Command, stories: intsim.IntegerModel, tmp_path: Path) -> None:
    from dataclasses import fields  # noqa: PLC0415

    kept = {field.name: getattr(stories, field.name) for field in fields(stories) if field.init}
    intsim.IntegerModel(**(kept | {"tokenizer": None})).save(tmp_path / "bare")
    (tmp_path / "ids").write_text(" ".join(map(str, ids_of(stories, PROMPT))))
    how = (tmp_path / "bare", "--ids", tmp_path / "ids", "--max-new-tokens", "5")
    told = json.loads(command("generate", *how, "--json").stdout)
    assert told["prompt"] is None
    assert told["text"] is None
    assert command("generate", *how).stdout.split() == [*map(str, told["ids"])]
    refused = command("generate", tmp_path / "bare", "--text", PROMPT)
    assert (refused.status, refused.stderr) == (
        3,
        "intsim: model must carry a tokenizer to read text, got none; give --ids\n",
    )


# ---- traces


@pytest.mark.parametrize("tokens", [1, 4])
def test_the_trace_is_that_of_the_last_step(
    command: Command, stories: intsim.IntegerModel, tmp_path: Path, tokens: int
) -> None:
    how = ("--max-new-tokens", str(tokens), "--level", "steps", "--trace", tmp_path / "trace")
    told = json.loads(command("generate", "--text", PROMPT, *how, "--json").stdout)
    trace, _ = read_trace(tmp_path / "trace")
    ids = ids_of(stories, PROMPT)
    whole = stories([[*ids, *told["ids"][:-1]]], last=True)
    assert_bit_exact(trace["lm_head"], whole.values)
    assert trace["norm"].shape[1] == (1 if tokens > 1 else len(ids))
    assert trace["layers.0.self_attn.v_proj.kept"].shape[1] == len(ids) + tokens - 1
    assert oracle_trace.judge(tmp_path / "trace") == []
    names = {call.operator.__name__ for call in trace.calls.values()}
    assert "append" in names
    again = replay(tmp_path / "trace", {name: getattr(intsim.ops, name) for name in names})
    assert again.first is None
    assert command("compare", tmp_path / "trace", tmp_path / "trace").status == 0


def test_two_traces_of_one_step_are_compared_and_diagnosed(command: Command, tmp_path: Path) -> None:
    for name, text in (("a", "the dog"), ("b", "the cat")):
        how = ("--max-new-tokens", "2", "--level", "steps", "--trace", tmp_path / name)
        assert command("generate", "--text", text, *how).status == 0
    assert command("compare", tmp_path / "a", tmp_path / "b").status == 1
    assert command("compare", tmp_path / "a", tmp_path / "a").status == 0


# ---- run


def test_run_gives_the_logits_of_the_last_token_and_what_comes_next(
    command: Command, stories: intsim.IntegerModel, tmp_path: Path
) -> None:
    done = command("run", STORIES, "--text", PROMPT, "--trace", tmp_path / "trace", "--json")
    told = json.loads(done.stdout)
    result = stories([ids_of(stories, PROMPT)])
    assert told["output"] == result.values[0, -1].tolist()
    assert told["digest"] == hashlib.sha256(result.values[:, -1].astype("<i4").tobytes()).hexdigest()
    best = int(result.values[0, -1].argmax())
    assert told["next"][0] == {"token": ",", "id": best, "logit": int(result.values[0, -1].max())}
    assert [each["logit"] for each in told["next"]] == sorted(told["output"], reverse=True)[:5]
    assert told["label"] == ","
    assert told["tokens"] == ["<s>", "▁Once", "▁upon", "▁a", "▁time"]
    assert_bit_exact(read_trace(tmp_path / "trace")[0]["lm_head"][0], result.values[0, -1])
    shown = command("run", STORIES, "--text", PROMPT).stdout
    assert "label   ,\n" in shown
    assert "output" not in shown
    assert f"next    , ({told['next'][0]['logit']})" in shown


def test_run_reads_a_text_as_generate_does(command: Command, stories: intsim.IntegerModel) -> None:
    told = json.loads(command("run", STORIES, "--text", "the dog\tand the cat ", "--json").stdout)
    assert told["output"] == stories([ids_of(stories, "the dog\tand the cat ")]).values[0, -1].tolist()
    long = "the dog " * 300
    refused = command("run", STORIES, "--text", long)
    assert (refused.status, "text must be at most 512 tokens long, got" in refused.stderr) == (3, True)
    cut = json.loads(command("run", STORIES, "--text", long, "--truncate", "--json").stdout)
    ids = ids_of(stories, long)
    assert cut["output"] == stories([[ids[0], *ids[-511:]]]).values[0, -1].tolist()


# ---- refusals


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "give either --text or --ids"),
        (("--text", "a", "--ids", "x"), 2, "give either --text or --ids"),
        (("--text", "a", "--seed", "3"), 2, "together with a --top-k of more than 1"),
        (("--text", "a", "--max-new-tokens", "0"), 2, "max-new-tokens"),
        (("--text", ""), 3, "text must have a character, got none"),
        (("--text", "a " * 600), 3, "text must be at most 512 tokens long, got "),
        (("--text", "a", "--top-k", "3", "--temperature", "0"), 2, "temperature must be in [0.01, 100], got 0.0"),
        ((str(STORIES.parent), "--text", "a"), 3, "must have a causal language model's head to go on with a text"),
        (("missing", "--text", "a"), 3, "missing"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    command: Command, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = command("generate", *arguments)
    assert done.status == status
    assert message in done.stderr
    assert done.stdout == ""
    if status == 3:
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5 512", "input_ids must be in [0, 512), got 512"),
        ("", "must hold token ids"),
        ("5 x", "must hold token ids"),
    ],
)
def test_ids_that_are_none_are_one_sentence(command: Command, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "ids").write_text(content)
    done = command("generate", "--ids", tmp_path / "ids")
    assert (done.status, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert message in done.stderr


def test_eval_windows_are_of_perplexity_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a b\n")
    done: Any = command("eval", STORIES, "--task", "lambada", "--data", tmp_path / "data", "--window", "9")
    assert (done.status, "together with --task perplexity" in done.stderr) == (2, True)
    told = json.loads(
        command("eval", STORIES, "--task", "perplexity", "--data", tmp_path / "data", "--window", "9", "--json").stdout
    )
    assert set(told["metrics"]) == {"perplexity", "tokens"}
    assert told["reference"] is None
