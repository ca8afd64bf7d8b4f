# SPDX-License-Identifier: Apache-2.0
"""Vectors of a model's layer hold the model's constants, and pass verify."""

from importlib import resources

import numpy as np
import pytest
from verify.vector_files import call

import intsim
from intsim.io.safetensors_file import read

MODEL = intsim.load(resources.files("intsim.embedded"))
FOLDER = resources.files("intsim.embedded")
LAYERS = {
    "requantize": "encoder.layer.0.attention.self.query",
    "softmax": "encoder.layer.1.attention.self.probs",
    "layer_norm": "encoder.layer.0.output.LayerNorm",
    "add": "encoder.layer.0.output.sum",
    "gelu": "encoder.layer.0.intermediate.gelu",
    "matmul": "encoder.layer.0.intermediate.dense.acc",
    "linear_add_norm": "encoder.layer.0.output.LayerNorm",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    for name, layer in LAYERS.items():
        path = folder / name
        arguments = ["gen", name, "--from", FOLDER, "--layer", layer, "--level", 0, "--format", "safetensors"]
        status, _, err = call(*arguments, "-o", path)
        assert status == 0, err
    return {name: (folder / name, *read(folder / name)) for name in LAYERS}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_vectors_pass_verify(files, name):
    path, _, metadata = files[name]
    assert f"model: {MODEL.digest}" in metadata["vectors"]
    assert f"layer: {LAYERS[name]}" in metadata["vectors"]
    assert call("verify", name, path)[0] == 0


def test_the_constants_are_those_of_the_model(files):
    with intsim.trace("steps") as trace:
        MODEL([[0, 1, 2, 3]])
    calls = {name: trace.calls[layer] for name, layer in LAYERS.items()}

    arrays, ratio = files["requantize"][1], calls["requantize"].operands[1]
    pairs = {*zip(ratio.multiplier.reshape(-1).tolist(), ratio.shift.reshape(-1).tolist(), strict=True)}
    given = {*zip(arrays["inputs.multiplier"].tolist(), arrays["inputs.shift"].tolist(), strict=True)}
    assert given == pairs
    assert {*arrays["inputs.zero_point"].tolist()} == {calls["requantize"].constants.get("zero_point", 0)}
    whole = arrays["inputs.acc"].astype(np.int64) * arrays["inputs.multiplier"]
    assert len({*np.unique(arrays["outputs.y"]).tolist()}) > 50
    assert (abs(whole) < 1 << 62).all()

    arrays, params = files["layer_norm"][1], calls["layer_norm"].operands[1]
    assert (arrays["inputs.multiplier"] == params.weight.multiplier).all()
    assert (arrays["inputs.bias"] == params.bias).all()
    assert {*arrays["inputs.eps"].tolist()} == {params.eps}

    arrays, (dense, skip) = files["add"][1], calls["add"].operands[1]
    fields = ("acc_multiplier", "residual_multiplier", "shift", "zero_point")
    given = {*zip(*(arrays[f"inputs.{name}"].tolist() for name in fields), strict=True)}
    shared = int(skip.multiplier), int(skip.shift), calls["add"].constants["zero_point"]
    assert given == {(multiplier, *shared) for multiplier in dense.multiplier.tolist()}
    assert len(np.unique(arrays["outputs.y"])) > 100

    arrays, norm = files["linear_add_norm"][1], calls["linear_add_norm"]
    total, product = (trace.calls[f"encoder.layer.0.output.{name}"] for name in ("sum", "dense.acc"))
    (dense, skip), params = total.operands[1], norm.operands[1]
    assert (arrays["inputs.acc_multiplier"] == dense.multiplier).all()
    assert {*arrays["inputs.residual_multiplier"].tolist()} == {int(skip.multiplier)}
    assert {*arrays["inputs.shift"].tolist()} == {int(skip.shift)}
    assert {*arrays["inputs.zero_point"].tolist()} == {total.constants["zero_point"]}
    assert (arrays["inputs.bias"] == product.constants["bias"]).all()
    assert (arrays["inputs.norm_multiplier"] == params.weight.multiplier).all()
    assert (arrays["inputs.norm_bias"] == params.bias).all()
    assert {*arrays["inputs.norm_shift"].tolist()} == {*params.weight.shift.tolist()}
    assert {*arrays["inputs.norm_eps"].tolist()} == {params.eps}
    w = np.lib.stride_tricks.sliding_window_view(product.operands[1], 16, axis=1)
    tiles = {w[:, k].tobytes() for k in range(w.shape[1])}
    assert {tile.astype(np.int8).tobytes() for tile in arrays["inputs.w"]} <= tiles
    assert len(np.unique(arrays["outputs.y"])) > 100

    arrays, ratio = files["softmax"][1], calls["softmax"].operands[1]
    assert {*arrays["inputs.multiplier"].tolist()} == {int(ratio.multiplier)}
    assert {*arrays["inputs.shift"].tolist()} == {int(ratio.shift)}

    arrays, (_, w) = files["matmul"][1], calls["matmul"].operands
    rows = {tuple(row) for row in np.lib.stride_tricks.sliding_window_view(w, 16, axis=1).reshape(-1, 16).tolist()}
    assert {tuple(row) for row in arrays["inputs.w"].reshape(-1, 16).tolist()} <= rows


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["gen", "softmax", "--from", FOLDER], 2, "--from DIR and --layer NAME must be given together"),
        (["gen", "softmax", "--layer", "x"], 2, "--from DIR and --layer NAME must be given together"),
        (["gen", "exp", "--from", FOLDER, "--layer", "x"], 3, "operator of a layer must be one of requantize"),
        (["gen", "softmax", "--from", FOLDER, "--layer", "x"], 3, "layer must be a softmax of the model, such as"),
        (
            ["gen", "matmul", "--size", "4x4x999", "--from", FOLDER, "--layer", LAYERS["matmul"]],
            3,
            "must fit the layer",
        ),
        (
            ["gen", "add", "--from", FOLDER, "--layer", "embeddings.sum"],
            3,
            "must be a sum of two terms to have vectors",
        ),
        (
            ["gen", "linear_add_norm", "--size", "1x64x8", "--from", FOLDER, "--layer", LAYERS["linear_add_norm"]],
            3,
            "size must have the 128 columns of encoder.layer.0.output.LayerNorm and a depth up to 512, got 1x64x8",
        ),
        (
            ["gen", "linear_add_norm", "--from", FOLDER, "--layer", "embeddings.LayerNorm"],
            3,
            "layer must be a linear_add_norm of the model, such as encoder.layer.0.attention.output.LayerNorm",
        ),
    ],
)
def test_what_is_no_layer_is_refused(arguments, status, complaint):
    got, _, err = call(*arguments)
    assert (got, complaint in err) == (status, True), err


def test_answers_alone_do_not_tell_a_models_layer():
    status, out, _ = call("gen", "softmax", "--from", FOLDER, "--layer", LAYERS["softmax"], "--level", 0)
    assert status == 0
    lines = out.splitlines(keepends=True)
    alone = [line if line.startswith(b"#") else b" ".join(line.split()[-16:]) + b"\n" for line in lines]
    status, _, err = call("verify", "softmax", data=b"".join(alone))
    assert status == 3
    assert "keep the operands" in err
