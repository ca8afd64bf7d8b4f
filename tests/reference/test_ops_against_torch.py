# SPDX-License-Identifier: Apache-2.0
"""Every float operator of the reference against the module of torch or transformers that it stands for."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from intsim.reference.ops.activations import ACTIVATIONS
from intsim.reference.ops.add import add
from intsim.reference.ops.argmax import argmax
from intsim.reference.ops.causal_mask import causal_mask
from intsim.reference.ops.embedding import embedding
from intsim.reference.ops.exp import exp
from intsim.reference.ops.gelu import gelu, gelu_new
from intsim.reference.ops.isqrt import isqrt
from intsim.reference.ops.l2_normalize import l2_normalize
from intsim.reference.ops.layer_norm import layer_norm
from intsim.reference.ops.matmul import matmul
from intsim.reference.ops.mean_pooling import mean_pooling
from intsim.reference.ops.multiply import multiply
from intsim.reference.ops.pick_token import pick_token
from intsim.reference.ops.pool import pool
from intsim.reference.ops.position_ids import position_ids
from intsim.reference.ops.relu import relu
from intsim.reference.ops.requantize import requantize
from intsim.reference.ops.rms_norm import rms_norm
from intsim.reference.ops.rotary import rotary
from intsim.reference.ops.sigmoid import sigmoid
from intsim.reference.ops.silu import silu
from intsim.reference.ops.softmax import softmax
from intsim.reference.ops.tanh import tanh

Array = NDArray[Any]
COMPARED: Final = {
    *("activations", "add", "argmax", "embedding", "exp", "gelu", "isqrt", "l2_normalize", "layer_norm", "matmul"),
    *(
        "mean_pooling",
        "pick_token",
        "pool",
        "position_ids",
        "relu",
        "requantize",
        "rms_norm",
        "sigmoid",
        "silu",
        "softmax",
        "tanh",
    ),
    *("activations", "add", "argmax", "causal_mask", "embedding", "exp", "gelu", "isqrt", "l2_normalize", "layer_norm"),
    *("matmul", "mean_pooling", "multiply", "pick_token", "pool", "position_ids", "relu", "requantize", "rotary"),
    *("sigmoid", "silu", "softmax", "tanh"),
}
PLACES: Final = 8  # last places of the dtype, relative to the size of the operands


@pytest.fixture(scope="module")
def torch() -> Any:
    return _import("torch")


def _import(name: str) -> Any:
    if os.environ.get("INTSIM_REQUIRE_SHARED") == "1":
        return __import__(name)
    return pytest.importorskip(name, reason=f"needs {name} (pip install 'intsim[kernels]') to compare with")


both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def _numbers(*shape: int, dtype: Any, scale: float = 3.0, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def assert_close(ours: Array, theirs: Any, *, size: float = 1.0) -> None:
    theirs = theirs.detach().numpy()
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    worst = np.abs(ours.astype(np.longdouble) - theirs).max() / (size * np.finfo(ours.dtype).eps)
    assert worst <= PLACES, f"{worst:.1f} of {ours.dtype}'s last places of {size}"


def test_every_operator_of_the_reference_is_compared():
    files = {path.stem for path in (Path(__file__).resolve().parents[2] / "reference/ops").glob("*.py")}
    assert files - {"__init__"} == COMPARED


@both_precisions
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (gelu, lambda torch: torch.nn.GELU()),
        (gelu_new, lambda torch: torch.nn.GELU(approximate="tanh")),
        (sigmoid, lambda torch: torch.nn.Sigmoid()),
        (tanh, lambda torch: torch.nn.Tanh()),
        (relu, lambda torch: torch.nn.ReLU()),
        (silu, lambda torch: torch.nn.SiLU()),
    ],
)
def test_an_activation_equals_the_module_of_torch(torch: Any, ours: Any, theirs: Callable[[Any], Any], dtype: Any):
    x = np.concatenate([np.linspace(-12, 12, 4001), [-100, -0.0, 0, 100]]).astype(dtype)
    assert_close(ours(x), theirs(torch)(torch.from_numpy(x)), size=float(np.abs(x).max()) if ours is gelu else 12)


@pytest.mark.filterwarnings("ignore")  # theirs
@both_precisions
@pytest.mark.parametrize(("ours", "theirs"), [*((ACTIVATIONS[name], name) for name in ACTIVATIONS), (tanh, "tanh")])
def test_an_activation_equals_the_one_transformers_calls_by_the_name_in_config_json(
    torch: Any, ours: Any, theirs: str, dtype: Any
):
    activations = _import("transformers").activations.ACT2FN
    x = np.linspace(-12, 12, 4001).astype(dtype)
    assert_close(ours(x), activations[theirs](torch.from_numpy(x)), size=12)


def test_the_names_of_config_json_stand_for_functions_that_differ():
    x = np.linspace(-4, 4, 801)
    values = {name: activation(x).tobytes() for name, activation in ACTIVATIONS.items()}
    same = [{name for name in values if values[name] == value} for value in dict.fromkeys(values.values())]
    assert [names for names in same if len(names) > 1] == [{"gelu", "gelu_python"}, {"gelu_new", "gelu_pytorch_tanh"}]


@both_precisions
def test_exp_equals_torch(torch: Any, dtype: Any):
    x = np.linspace(-80, 0, 4001).astype(dtype)
    assert_close(exp(x), torch.exp(torch.from_numpy(x)))


@both_precisions
def test_the_square_root_equals_torch(torch: Any, dtype: Any):
    n = np.arange(2**16).astype(dtype)
    assert_close(isqrt(n), torch.sqrt(torch.from_numpy(n)), size=2**8)


@both_precisions
@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_layer_norm_equals_the_module_of_torch(torch: Any, dtype: Any, eps: float):
    x = _numbers(5, 7, 96, dtype=dtype) + np.asarray(2, dtype)
    x[0, 0] = 0.25  # a row without variance
    weight, bias = _numbers(96, dtype=dtype, seed=1), _numbers(96, dtype=dtype, seed=2)
    theirs = torch.nn.functional.layer_norm(
        torch.from_numpy(x), (96,), torch.from_numpy(weight), torch.from_numpy(bias), eps
    )
    assert_close(layer_norm(x, weight=weight, bias=bias, eps=eps), theirs, size=20)


@both_precisions
@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_rms_norm_equals_the_module_of_torch(torch: Any, dtype: Any, eps: float):
    x = _numbers(5, 7, 96, dtype=dtype)
    x[0, 0] = 0
    weight = _numbers(96, dtype=dtype, seed=1)
    theirs = torch.nn.functional.rms_norm(torch.from_numpy(x), (96,), torch.from_numpy(weight), eps)
    assert_close(rms_norm(x, weight=weight, bias=np.zeros_like(weight), eps=eps), theirs, size=20)


@both_precisions
def test_softmax_equals_the_module_of_torch(torch: Any, dtype: Any):
    x = _numbers(4, 6, 50, dtype=dtype, scale=10)
    assert_close(softmax(x), torch.nn.Softmax(dim=-1)(torch.from_numpy(x)))


@both_precisions
def test_masked_softmax_equals_torch_with_minus_infinity(torch: Any, dtype: Any):
    x = _numbers(8, 50, dtype=dtype, scale=10)
    mask = np.random.default_rng(1).random((8, 50)) < 0.5
    mask[:, 0] = True
    masked = torch.from_numpy(x).masked_fill(~torch.from_numpy(mask), -torch.inf)
    ours = softmax(x, mask=mask)
    assert_close(ours, torch.softmax(masked, dim=-1))
    assert not ours[~mask].any()


def test_a_fully_masked_row_is_0_where_torch_has_nan(torch: Any):
    x = np.zeros((1, 3))
    assert softmax(x, mask=np.zeros((1, 3), np.bool_)).tolist() == [[0, 0, 0]]
    assert torch.softmax(torch.full((1, 3), -torch.inf), dim=-1).isnan().all()


@both_precisions
def test_matmul_equals_the_linear_layer_of_torch(torch: Any, dtype: Any):
    x, w, bias = _numbers(3, 5, 64, dtype=dtype), _numbers(32, 64, dtype=dtype), _numbers(32, dtype=dtype)
    theirs = torch.nn.functional.linear(*map(torch.from_numpy, (x, w, bias)))
    assert_close(matmul(x, w, bias=bias), theirs, size=64 * 9)


@both_precisions
def test_batched_matmul_equals_torch(torch: Any, dtype: Any):
    x, w = _numbers(2, 3, 5, 16, dtype=dtype), _numbers(2, 3, 7, 16, dtype=dtype, seed=1)
    theirs = torch.from_numpy(x) @ torch.from_numpy(w).transpose(-1, -2)
    assert_close(matmul(x, w), theirs, size=16 * 9)


def test_embedding_and_argmax_equal_torch_exactly(torch: Any):
    table, ids = _numbers(11, 8, dtype=np.float32), np.random.default_rng(0).integers(0, 11, (3, 5))
    theirs = torch.nn.functional.embedding(torch.from_numpy(ids), torch.from_numpy(table))
    assert np.array_equal(embedding(ids, table), theirs.numpy())
    x = _numbers(9, 20, dtype=np.float64)
    assert np.array_equal(argmax(x), torch.argmax(torch.from_numpy(x), dim=-1).numpy())


@both_precisions
def test_rescaled_sums_equal_torch(torch: Any, dtype: Any):
    x, y = _numbers(4, 6, dtype=dtype), _numbers(4, 6, dtype=dtype, seed=1)
    ratio = np.abs(_numbers(6, dtype=dtype, seed=2))
    scaled = torch.from_numpy(x) * torch.from_numpy(ratio)
    assert_close(requantize(x, ratio, zero_point=3), scaled + 3, size=30)
    assert_close(
        add([x, y], [ratio, 0.5], zero_point=3), torch.add(scaled, torch.from_numpy(y), alpha=0.5) + 3, size=30
    )


@both_precisions
def test_mean_pooling_equals_the_mean_of_the_tokens_in_torch(torch: Any, dtype: Any):
    x = _numbers(3, 6, 8, dtype=dtype)
    lengths = (6, 1, 4)
    mask = np.arange(6) < np.array(lengths)[:, None]
    rows = [torch.from_numpy(x[row, :length]).mean(dim=0) for row, length in enumerate(lengths)]
    assert_close(mean_pooling(x, mask).astype(dtype), torch.stack(rows), size=9)


def test_positions_equal_those_of_torch_as_roberta_counts_them(torch):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (7, 12))
    for padding in (0, 1, 3):
        kept = torch.tensor(ids != padding).int()
        theirs = torch.cumsum(kept, dim=1) * kept + padding
        assert np.array_equal(position_ids(ids, padding=padding), theirs.numpy())
    assert np.array_equal(position_ids(ids), np.arange(12))


@both_precisions
def test_unit_rows_equal_those_of_torch(torch, dtype):
    x = np.random.default_rng(0).normal(0, 1, (5, 7)).astype(dtype)
    x[2] = 0
    assert_close(l2_normalize(x), torch.nn.functional.normalize(torch.tensor(x), dim=-1))


@both_precisions
def test_a_pooled_token_is_the_one_that_torch_gathers(torch, dtype):
    x = np.random.default_rng(0).normal(0, 1, (3, 4, 5)).astype(dtype)
    mask = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]], bool)
    rows = torch.arange(3)
    for mode, which, at in (("cls", "first", [0, 1, 3]), ("last", "last", [3, 2, 3])):
        theirs = torch.tensor(x)[rows, torch.tensor(at)].numpy()
        assert np.array_equal(pick_token(x, mask, which=which), theirs)
        assert np.array_equal(pool(x, mask, mode), theirs)
    assert np.array_equal(pool(x, mask, "mean"), mean_pooling(x, mask))


@both_precisions
@pytest.mark.parametrize("rotated", [8, 4])
def test_turned_heads_equal_those_of_llama_and_of_gpt_j(torch, dtype, rotated):
    _import("transformers")
    llama, gptj = (import_module(f"transformers.models.{name}.modeling_{name}") for name in ("llama", "gptj"))
    x = _numbers(2, 3, 5, 8, dtype=dtype)  # (B, H, T, D)
    angles = _numbers(2, 5, rotated // 2, dtype=dtype, seed=1)
    cos, sin = np.cos(angles), np.sin(angles)
    theirs = torch.tensor(x[..., :rotated])

    def twice(table: Array) -> Any:
        return torch.tensor(np.concatenate([table, table], axis=-1))

    halves, _ = llama.apply_rotary_pos_emb(theirs, theirs, twice(cos), twice(sin))
    ours = rotary(x, cos, sin, pairing="halves")
    assert_close(ours[..., :rotated], halves)
    assert np.array_equal(ours[..., rotated:], x[..., rotated:])
    neighbours = gptj.apply_rotary_pos_emb(theirs.transpose(1, 2), torch.tensor(sin), torch.tensor(cos)).transpose(1, 2)
    assert_close(rotary(x, cos, sin, pairing="neighbours")[..., :rotated], neighbours)
    assert np.array_equal(rotary(x, cos[0], sin[0], pairing="halves")[0], ours[0])


@both_precisions
def test_products_equal_those_of_torch(torch, dtype):
    a, b = _numbers(5, 7, dtype=dtype), _numbers(5, 7, dtype=dtype, seed=1)
    assert_close(multiply(a, b), torch.tensor(a) * torch.tensor(b))


def test_causal_masks_are_those_of_torch_where_padding_is_on_the_left(torch):
    rng = np.random.default_rng(0)
    mask = np.arange(9) >= rng.integers(0, 9, (6, 1))
    positions = torch.tensor(mask).cumsum(-1)
    for window in (None, 1, 2, 5):
        near = positions[:, None, :] > positions[:, :, None] - (window or 99)
        theirs = torch.tril(torch.ones(9, 9)).bool() & near & torch.tensor(mask)[:, None, :]
        assert np.array_equal(causal_mask(mask, 9, window=window)[:, 0], theirs.numpy())
        assert np.array_equal(causal_mask(mask, 2, window=window)[:, 0], theirs.numpy()[:, -2:])
