# SPDX-License-Identifier: Apache-2.0
"""Distil an encoder layer by layer, so that each quantized layer does what the float layer did: ZeroQuant's LKD.

    python notebooks/distil_layers.py --checkpoint MINILM --texts sts-train.txt --recipe zeroquant-w4 \
        --student zeroquant-w4 out/lkd --student zeroquant-w4:rounding=gptq out/gptq-lkd \
        --task stsb --dev sts-dev.csv

needs torch and transformers. Of section 4.3 of Yao et al. 2022, for layers L_1, ..., L_N of the float model, their
quantized versions Q_1, ..., Q_N, and texts X without labels:

    h_0 = embeddings(X),   h_k = L_k(h_(k-1)),   loss_k = MSE(L_k(h_(k-1)), Q_k(h_(k-1))).      h_k (B, T, C)

Teacher and student read the same input, the output of the float layers below, so that loss_k depends on no weight but
those of Q_k: no label, no second model, no gradient through more than one layer. It also means that the order in which
layers are trained changes nothing. Here one float pass over a batch serves them all, and each layer gets its gradient
while the student passes through it: the float h_k goes on in place of Q_k(h_(k-1)).

What lies between two hidden states of the family's outline is a layer. Its weights, biases and norms are trained; every
weight and activation that the recipe quantizes is moved to its nearest code in each pass, and gradients go through the
rounding unchanged. The scales of the weights stay, and the weights that set one stay with it. A student starts from the
codes of a recipe of its own, which may round by GPTQ or AdaRound: each weight is then as near to the float one as its
code lets it be.

The result is the checkpoint again, its trained weights on their codes: ``intsim quantize`` with ``--recipe`` finds the
codes that were trained, with ranges of activations from text as ever.

The paper takes 100 iterations of 32 texts at a learning rate of 5e-6, and says that others may serve better. Here they
are 100 too, and the rate was chosen for MiniLM by the error on held-out texts, in the mean of its layers 7.0 % of the
output before: 6.6 % at 5e-6, 2.8 % at 1e-4, 2.2 % at 5e-4, and 2.1 % there after twice the steps.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from finetune_quantized import FakeWeight, dynamic_bound, fake_quantize_dynamic, round_through
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_world import Tensors

import intsim
from intsim.convert.simulate import ties
from intsim.io.huggingface import Checkpoint, open_checkpoint
from intsim.io.tokenizer import Encoding, encode, pad, parse_tokenizer, read_lines, read_tokenizer
from intsim.models.formats import Format
from intsim.recipes import load_recipe, match
from intsim.report.evaluate import evaluate, read_task

SEED = 0
LONGEST = 128  # tokens, as in the paper; longer texts are shortened
HELD_OUT = 256  # texts that no layer is trained on
RATE = 5e-4
INSIDE = 0.49  # of a step: how far from its code a weight may start
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

Hook = Callable[[str, Any], Any]


class Batch(NamedTuple):
    """Token ids, true where there is a token, segment ids: (B, T)."""

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    types: NDArray[np.int64]


# ---- the quantizers of the student


class Weights(Mapping[str, Tensor]):
    """The student's tensors: ``trained`` by name, each read through its quantizer, and tables on their codes."""

    def __init__(self, checkpoint: Checkpoint, start: intsim.IntegerModel, recipe: str) -> None:
        self.trained: dict[str, nn.Parameter] = {}
        self._tables: dict[str, Tensor] = {}
        self._fakes: dict[str, FakeWeight] = {}
        rules = match(load_recipe(recipe), checkpoint.outline).weights
        for name, tensor in checkpoint.outline.tensors.items():
            w = checkpoint.load(name)
            if name not in rules:
                self.trained[name] = nn.Parameter(torch.tensor(w, dtype=torch.float32))
                continue
            params, codes = rules[name].params(w, embedding=tensor.is_embedding), start.codes(name)
            if tensor.is_embedding:
                self._tables[name] = torch.tensor(codes * params.scale, dtype=torch.float32)
                continue
            w = w.clip((codes - INSIDE) * params.scale, (codes + INSIDE) * params.scale)
            self.trained[name] = nn.Parameter(torch.tensor(w, dtype=torch.float32))
            self._fakes[name] = FakeWeight(torch.tensor(params.scale, dtype=torch.float32), params.range.max)
            widest = torch.tensor(np.abs(codes) == params.range.max)  # sets the scale, and stays
            self.trained[name].register_hook(lambda gradient, widest=widest: gradient.masked_fill(widest, 0))

    def __getitem__(self, name: str) -> Tensor:
        if name in self._tables:
            return self._tables[name]
        return self._fakes[name](self.trained[name]) if name in self._fakes else self.trained[name]

    def __iter__(self) -> Iterator[str]:
        yield from (*self._tables, *self.trained)

    def __len__(self) -> int:
        return len(self._tables) + len(self.trained)


def quantizers(integers: intsim.IntegerModel, mask: Tensor) -> tuple[Hook, Hook]:
    """Return what moves each activation, and each input of a product, to its nearest code: see ``simulation``."""
    half = ties(integers)

    def observe(name: str, x: Tensor) -> Tensor:
        form = integers.formats.get(name)
        return x if form is None or form.range.bits > 16 else fake_quantize_static(x, form)

    def read(name: str, x: Tensor) -> Tensor:
        if (how := integers.dynamic.get(name)) is None:
            return observe(name, x)
        return fake_quantize_dynamic(x, dynamic_bound(x, how, mask), bits=how.range.bits, half=half)

    return observe, read


def fake_quantize_static(x: Tensor, form: Format) -> Tensor:
    """Return the nearest real that has a code in the format: ``reference.fake_quant``."""
    channels = x.shape[-1]
    steps = np.ldexp(form.scale.multiplier.astype(np.float64), -form.scale.shift)
    scale = torch.tensor(np.repeat(steps, channels // form.groups)).to(x.dtype)
    zero_point = torch.tensor(form.offset(channels)).to(x.dtype)
    codes = (round_through(x / scale) + zero_point).clamp(form.range.min, form.range.max)
    return (codes - zero_point) * scale


# ---- section 4.3


def hidden_states(checkpoint: Checkpoint, floats: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return h_0, ..., h_N of the float model by their names."""
    states = dict.fromkeys(checkpoint.outline.hidden_states, torch.empty(0))

    def keep(name: str, x: Tensor) -> Tensor:
        if name in states:
            states[name] = x
        return x

    with torch.no_grad():
        world = Tensors(floats, checkpoint.config, checkpoint.head, mask=batch.mask, observe=keep, read=keep)
        checkpoint.family(world, *batch)
    return states


def compare_layers(
    checkpoint: Checkpoint,
    integers: intsim.IntegerModel,
    weights: Weights,
    batch: Batch,
    states: Mapping[str, Tensor],
    learn: Callable[[str, Tensor], None],
) -> None:
    """Give each quantized layer the input of the float layer, and ``learn`` what they differ by: its name, loss_k."""
    mask = torch.from_numpy(batch.mask)
    observe, read = quantizers(integers, mask)
    embedded = next(iter(states))  # h_0, no layer's output

    def distil(name: str, x: Tensor) -> Tensor:
        if name not in states:
            return observe(name, x)
        if name != embedded:
            learn(name, nn.functional.mse_loss(observe(name, x)[mask], states[name][mask]))
        return observe(name, states[name])

    world = Tensors(weights, checkpoint.config, checkpoint.head, mask=batch.mask, observe=distil, read=read)
    checkpoint.family(world, *batch)


def errors(
    checkpoint: Checkpoint,
    integers: intsim.IntegerModel,
    floats: Mapping[str, Tensor],
    weights: Weights,
    held_out: Sequence[Batch],
) -> dict[str, float]:
    """Return loss_k of every layer on texts that none was trained on, relative to the mean square of h_k."""
    squares: dict[str, float] = {}
    wholes: dict[str, float] = {}
    for batch in held_out:
        states = hidden_states(checkpoint, floats, batch)

        def add(name: str, loss: Tensor, batch: Batch = batch, states: dict[str, Tensor] = states) -> None:
            values = states[name][torch.from_numpy(batch.mask)]
            squares[name] = squares.get(name, 0.0) + loss.item() * values.numel()
            wholes[name] = wholes.get(name, 0.0) + values.square().sum().item()

        with torch.no_grad():
            compare_layers(checkpoint, integers, weights, batch, states, add)
    return {name: square / wholes[name] for name, square in squares.items()}


def train(
    checkpoint: Checkpoint,
    integers: intsim.IntegerModel,
    floats: Mapping[str, Tensor],
    weights: Weights,
    encodings: Sequence[Encoding],
    *,
    steps: int,
    size: int,
    rate: float,
) -> None:
    """Take ``steps`` steps of Adam on loss_k for every layer k, each on texts of similar length, at a falling rate."""
    optimizer = torch.optim.Adam(weights.trained.values(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    rng = np.random.default_rng(SEED)
    for first in rng.integers(0, max(1, len(encodings) - size + 1), steps):
        batch = Batch(*pad(encodings[first : first + size], pad_id=checkpoint.config.pad_token_id))
        optimizer.zero_grad()
        states = hidden_states(checkpoint, floats, batch)
        compare_layers(checkpoint, integers, weights, batch, states, lambda _name, loss: loss.backward())
        optimizer.step()
        schedule.step()


def export(checkpoint: Checkpoint, weights: Weights, path: Path) -> None:
    """Write the checkpoint again, with every tensor that was trained in its old place and dtype."""
    shutil.copytree(
        checkpoint.path,
        path,
        ignore=shutil.ignore_patterns("*.bin", "*.h5", "*.msgpack", "*.onnx"),  # the same weights in other formats
        copy_function=shutil.copyfile,
        dirs_exist_ok=True,
    )
    for name, parameter in weights.trained.items():
        if parameter.grad is None:  # not of a layer
            continue
        (piece,) = checkpoint.pieces[name]
        stored = weights[name].detach().to(DTYPES[piece.stored.dtype]).contiguous()
        with (path / piece.stored.file.name).open("r+b") as file:
            file.seek(piece.stored.offset)
            file.write(stored.view(torch.uint8).numpy().tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="one a line, a TAB between the two of a pair")
    parser.add_argument("--recipe", required=True, help="of the students")
    parser.add_argument(
        "--student",
        nargs=2,
        action="append",
        required=True,
        metavar=("START", "OUTPUT"),
        help="recipe whose codes it starts from, --recipe or the same with another rounding, and folder for the result",
    )
    parser.add_argument("--task", choices=["sst2", "cola", "stsb"], default="stsb")
    parser.add_argument("--dev", type=Path, help="examples of the task to score before and after")
    parser.add_argument("--limit", type=int, help="examples of --dev that are scored")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--calibration", type=int, default=64, help="texts that set the ranges of activations")
    options = parser.parse_args()
    if load_recipe(options.recipe).permutation != "none":
        parser.error(f"--recipe must leave the channels in their places, got a permutation in {options.recipe!r}")

    checkpoint = open_checkpoint(options.checkpoint, head="none")
    floats = {name: torch.tensor(checkpoint.load(name, np.float32)) for name in checkpoint.names}
    texts = read_lines(options.texts)
    if len(texts) < HELD_OUT + options.batch:
        parser.error(f"--texts must hold {HELD_OUT} texts to judge by and a batch to train on, got {len(texts)}")
    calibration = texts[: options.calibration]
    tokenizer = parse_tokenizer(read_tokenizer(options.checkpoint))
    longest = min(LONGEST, checkpoint.config.longest)
    encodings = [encode(tokenizer, text, longest=longest, truncate=True) for text in texts]
    order = np.random.default_rng(SEED).permutation(len(encodings))
    held_out, seen = (
        sorted((encodings[row] for row in rows), key=lambda encoding: len(encoding.ids))
        for rows in np.split(order, [HELD_OUT])
    )
    batches = [
        Batch(*pad(held_out[i : i + options.batch], pad_id=checkpoint.config.pad_token_id))
        for i in range(0, len(held_out), options.batch)
    ]
    dev = read_task(options.task, options.dev)[: options.limit] if options.dev else []

    def score(what: str, path: Path, recipe: str) -> None:
        if dev:
            model = intsim.quantize(path, recipe=recipe, calibration=calibration)
            found = evaluate(model, options.task, dev, reference=options.checkpoint)
            ours, theirs = (
                ", ".join(f"{metric} {100 * value:.2f}" for metric, value in metrics.items())
                for metrics in (found.metrics, found.reference)
            )
            print(f"{what}: {ours}, cosine {found.cosine:.3f}; float {theirs}", flush=True)

    for start, output in options.student:
        score(start, options.checkpoint, start)
        begin = time.perf_counter()
        integers = intsim.quantize(options.checkpoint, recipe=start, head="none", calibration=calibration)
        weights = Weights(checkpoint, integers, options.recipe)
        before = errors(checkpoint, integers, floats, weights, batches)
        train(checkpoint, integers, floats, weights, seen, steps=options.steps, size=options.batch, rate=options.rate)
        after = errors(checkpoint, integers, floats, weights, batches)
        for name, error in before.items():
            print(f"{name}: error {100 * error:.2f} % of the output before, {100 * after[name]:.2f} % after")
        export(checkpoint, weights, Path(output))
        print(f"{output}: {options.steps} steps in {time.perf_counter() - begin:.0f} s", flush=True)
        score(f"{start}, distilled", Path(output), options.recipe)


if __name__ == "__main__":
    main()
