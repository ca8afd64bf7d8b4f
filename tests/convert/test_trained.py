# SPDX-License-Identifier: Apache-2.0
"""A checkpoint trained with quantization keeps the ranges it was trained with: I-BERT's, and our own."""

import json
import math
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

import intsim
from intsim.convert.simulate import simulation
from intsim.errors import CheckpointError, IntsimError
from intsim.fixedpoint import IntRange
from intsim.io.huggingface import open_checkpoint
from intsim.models.formats import Dynamic
from intsim.reference import fake_quant
from intsim.reference.world import run

TinyBert = Callable[..., Path]
ROOT: Final = Path(__file__).resolve().parents[2]
TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
LABELS: Final = 3
LENGTH: Final = 12

# our activation -> the module whose buffers I-BERT's scale of it is in
QUANT_ACTS: Final = {
    "embeddings.sum": "embeddings.embeddings_act1",
    "embeddings.LayerNorm": "embeddings.output_activation",
    "encoder.layer.1.attention.self.query": "encoder.layer.1.attention.self.query_activation",
    "encoder.layer.1.attention.self.key": "encoder.layer.1.attention.self.key_activation",
    "encoder.layer.1.attention.self.value": "encoder.layer.1.attention.self.value_activation",
    "encoder.layer.1.attention.self.context": "encoder.layer.1.attention.self.output_activation",
    "encoder.layer.1.attention.output.sum": "encoder.layer.1.attention.output.ln_input_act",
    "encoder.layer.1.attention.output.LayerNorm": "encoder.layer.1.pre_intermediate_act",
    "encoder.layer.1.intermediate": "encoder.layer.1.pre_output_act",
    "encoder.layer.1.output.sum": "encoder.layer.1.output.ln_input_act",
    "encoder.layer.1.output.LayerNorm": "encoder.layer.1.output.output_activation",
}


def _import(name: str) -> Any:
    if os.environ.get("INTSIM_REQUIRE_SHARED") == "1":
        return __import__(name)
    return pytest.importorskip(name, reason=f"needs {name} (pip install 'intsim[kernels]')")


# ---- I-BERT


@pytest.fixture(scope="module")
def torch() -> Any:
    return _import("torch")


@pytest.fixture(scope="module")
def ibert(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    transformers = _import("transformers")
    transformers.logging.set_verbosity_error()

    def build(kind: str = "IBertForSequenceClassification", *, steps: int = 4, **config: Any) -> tuple[Path, Any]:
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("ibert")
        values = transformers.IBertConfig(
            vocab_size=66,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=32,
            max_position_embeddings=34,
            type_vocab_size=1,
            num_labels=LABELS,
            quant_mode=True,
            initializer_range=0.3,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **config,
        )
        model = getattr(transformers, kind)(values)
        with torch.no_grad():
            for name, w in model.named_parameters():
                if name.endswith("bias") or "LayerNorm" in name:
                    w.add_(torch.randn_like(w), alpha=0.1)
        model.train()
        for seed in range(steps):
            model(torch.tensor(_ids(seed)))
        model.eval()
        model.save_pretrained(path)
        return path, model

    return build


def _ids(seed: int) -> NDArray[np.int64]:
    ids = np.random.default_rng(seed).integers(3, 66, (16, LENGTH))
    ids[:, 0] = 0
    return ids


def _reals(result: intsim.Result) -> NDArray[np.float64]:
    return result.values * (float(result.scale.multiplier) / 2.0 ** float(result.scale.shift))


def _their_reals(torch: Any, model: Any, ids: NDArray[np.int64], **inputs: NDArray[np.int64]) -> NDArray[Any]:
    with torch.no_grad():
        outputs = model(torch.tensor(ids), **{name: torch.tensor(x) for name, x in inputs.items()})
    return (outputs.logits if hasattr(outputs, "logits") else outputs.last_hidden_state).numpy()


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("kind", ["IBertForSequenceClassification", "IBertModel"])
def test_an_ibert_checkpoint_runs_on_the_ranges_it_was_trained_with(torch: Any, ibert: Any, kind: str) -> None:
    path, theirs = ibert(kind)
    model = intsim.quantize(path, recipe="ibert")
    buffers = {name.removeprefix("ibert."): x for name, x in load_file(path / "model.safetensors").items()}
    for name, module in QUANT_ACTS.items():
        form, top = model.formats[name], 127
        if form.range.bits == 16:  # theirs is of 22 bits for sums, and of 8 for the last hidden state
            top = 32767
        ends = [np.abs(buffers[f"{module}.{end}"]).item() for end in ("x_min", "x_max")]
        assert max(ends) > 0.1
        scale = float(form.scale.multiplier) / 2.0 ** float(form.scale.shift)
        assert scale == np.float32(max(ends) / top)
        if form.range.bits == 8 or name == "embeddings.sum":
            assert scale == buffers[f"{module}.act_scaling_factor"].item()
    found, wanted = _reals(model(_ids(9))), _their_reals(torch, theirs, _ids(9))
    correlation = np.corrcoef(found.ravel(), wanted.ravel())[0, 1]
    print(f"{kind}: correlation {correlation:.5f}, largest difference {np.abs(found - wanted).max():.4f}")
    assert correlation > 0.998


PADDING: Final = 1
LENGTHS: Final = (12, 3, 7, 2, 11, 5)


def _padded(*, left: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask of the first tokens of rows, at the right end or at the left one."""
    rows = [row[:length] for row, length in zip(_ids(9), LENGTHS, strict=False)]
    mask = np.array([np.arange(LENGTH) < length for length in LENGTHS]).astype(np.int64)
    ids = np.full(mask.shape, PADDING)
    ids[mask == 1] = np.concatenate(rows)
    if left:
        ids = np.array([np.roll(row, LENGTH - length) for row, length in zip(ids, LENGTHS, strict=True)])
    return ids, (ids != PADDING).astype(np.int64)


@pytest.mark.filterwarnings("ignore")
def test_padding_on_the_right_changes_no_token_of_an_ibert(torch: Any, ibert: Any) -> None:
    path, theirs = ibert("IBertModel")
    model = intsim.quantize(path, recipe="ibert")
    ids, mask = _padded(left=False)
    found, wanted = _reals(model(ids, attention_mask=mask)), _their_reals(torch, theirs, ids, attention_mask=mask)
    for row, length in enumerate(LENGTHS):
        alone = ids[row : row + 1, :length]
        assert np.array_equal(found[row, :length], _reals(model(alone))[0])
        assert np.array_equal(wanted[row, :length], _their_reals(torch, theirs, alone)[0])
    kept = mask == 1
    assert np.corrcoef(found[kept].ravel(), wanted[kept].ravel())[0, 1] > 0.998


@pytest.mark.filterwarnings("ignore")
def test_padding_on_the_left_counts_positions_over_the_tokens(torch: Any, ibert: Any) -> None:
    """As I-BERT and RoBERTa do; a BERT counts all columns."""
    path, theirs = ibert("IBertModel")
    ids, mask = _padded(left=True)
    found = _reals(intsim.quantize(path, recipe="ibert")(ids, attention_mask=mask))
    columns = np.tile(np.arange(LENGTH) + PADDING + 1, (len(ids), 1))
    counted, moved = (
        _their_reals(torch, theirs, ids, attention_mask=mask, **positions)
        for positions in ({}, {"position_ids": columns})
    )
    near, far = (np.corrcoef(found[mask == 1].ravel(), x[mask == 1].ravel())[0, 1] for x in (counted, moved))
    assert far < 0.99
    assert near > 0.998


@pytest.mark.filterwarnings("ignore")
def test_the_float_weights_of_an_ibert_are_those_of_a_roberta(torch: Any, ibert: Any) -> None:
    path, _ = ibert()
    theirs = _import("transformers").IBertForSequenceClassification.from_pretrained(path, quant_mode=False).eval()
    checkpoint = open_checkpoint(path)
    assert (checkpoint.config.max_position_embeddings, checkpoint.config.longest) == (34, 34 - 2)
    ids = _ids(3)
    ours = run(
        checkpoint.family,
        {name: checkpoint.load(name) for name in checkpoint.names},
        checkpoint.config,
        checkpoint.head,
        ids,
        attention_mask=np.ones(ids.shape, np.bool_),
        token_type_ids=np.zeros_like(ids),
    )
    assert np.abs(ours - _their_reals(torch, theirs, ids)).max() < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_an_ibert_that_was_never_trained_is_calibrated_on_text(ibert: Any, tiny_bert: TinyBert) -> None:
    path, _ = ibert(steps=0)
    (path / "tokenizer.json").write_text((tiny_bert() / "tokenizer.json").read_text())
    named = ["input_ids", "token_type_ids", "attention_mask"]
    generic = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": named}  # not RoBERTa's
    (path / "tokenizer_config.json").write_text(json.dumps(generic))
    with pytest.raises(CheckpointError, match="below vocab_size and type_vocab_size"):  # it has one segment only
        intsim.quantize(path, calibration=TEXTS)
    model = intsim.quantize(path, calibration=TEXTS[:2])
    assert float(model.formats["embeddings.LayerNorm"].scale.multiplier) > 0
    assert model.tokenizer is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architectures": ["IBertForMultipleChoice"]}, "architectures in config.json must be one of IBertModel"),
        ({"architectures": ["IBertForMaskedLM"]}, "must hold tensor 'lm_head.dense.weight'"),
        ({"pad_token_id": 33}, "pad_token_id in config.json must be below the 34 positions, less one, got 33"),
        ({"pad_token_id": "1"}, "pad_token_id in config.json must be an integer of at least 0, got '1'"),
        ({"max_position_embeddings": 30}, "must have shape"),
        ({"hidden_act": "mish"}, "hidden_act in config.json must be one of"),
    ],
)
def test_another_ibert_is_refused(ibert: Any, change: dict[str, Any], complaint: str) -> None:
    path, _ = ibert(steps=1)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=complaint):
        intsim.quantize(path)


# ---- our own


@pytest.fixture(scope="module")
def names(tiny_bert: TinyBert) -> list[str]:
    return list(open_checkpoint(tiny_bert()).outline.activations)


def _trained(tiny_bert: TinyBert, names: list[str], **changes: Any) -> Path:
    ranges = {name: (-1.0 - i, 2.0 + i) for i, name in enumerate(names)}
    tensors = {
        f"{name}.{end}": np.array([value], np.float32)
        for name, ends in ranges.items()
        for end, value in zip(("x_min", "x_max"), ends, strict=True)
    }
    return tiny_bert(tensors=tensors | changes.pop("tensors", {}), **changes)


def test_ranges_beside_the_weights_are_the_formats(tiny_bert: TinyBert, names: list[str]) -> None:
    model = intsim.quantize(_trained(tiny_bert, names, tokenizer=False), recipe="w8a8")
    assert model.tokenizer is None
    for i, name in enumerate(names):
        scale, zero_point, *_ = fake_quant.affine(-1.0 - i, 2.0 + i, bits=8, symmetric=False)
        form = model.formats[name]
        assert float(form.scale.multiplier) / 2.0 ** float(form.scale.shift) == scale
        assert form.zero_point == zero_point


def test_inputs_quantized_anew_take_the_range_of_what_they_read(tiny_bert: TinyBert, names: list[str]) -> None:
    model = intsim.quantize(_trained(tiny_bert, names), recipe="q8bert")
    whole, read = model.formats["embeddings.LayerNorm"], model.formats["encoder.layer.0.attention.self.input"]
    assert (whole.range.bits, read.range.bits) == (16, 8)
    for form in (whole, read):
        assert form.scale.multiplier / np.exp2(form.scale.shift) == np.float32(3 / form.range.max)


def test_what_was_not_trained_is_calibrated(tiny_bert: TinyBert, names: list[str]) -> None:
    left = "encoder.layer.1.intermediate"
    gone: dict[str, Any] = {f"{left}.{end}": None for end in ("x_min", "x_max")}
    path = _trained(tiny_bert, names, tensors=gone)
    model, calibrated = (intsim.quantize(p, recipe="w8a8", calibration=TEXTS) for p in (path, tiny_bert()))
    for name in names:
        same = model.formats[name].to_json() == calibrated.formats[name].to_json()
        assert same == (name == left), name


def test_a_pooler_without_a_range_has_that_of_tanh(tiny_bert: TinyBert, names: list[str]) -> None:
    path = _trained(tiny_bert, names, tensors={"pooler.x_min": None, "pooler.x_max": None})
    scale = intsim.quantize(path, recipe="ibert").formats["pooler"].scale
    assert scale.multiplier / np.exp2(scale.shift) == np.float32(1 / 127)


def test_text_that_nothing_would_be_taken_from_is_refused(tiny_bert: TinyBert, names: list[str]) -> None:
    path = _trained(tiny_bert, names)
    with pytest.raises(
        IntsimError, match="calibration must be left out where every range was trained or given, got 3 texts"
    ):
        intsim.quantize(path, calibration=TEXTS)
    intsim.quantize(path, recipe="w4a8:bias_correction=true", calibration=TEXTS)  # which looks at means


@pytest.mark.parametrize(
    ("tensors", "recipe", "complaint"),
    [
        ({"encoder.layer.7.intermediate.x_min": np.zeros(1, np.float32)}, "w8a8", "must be of an activation of the"),
        ({"pooler.x_min": None}, "w8a8", "trained range of 'pooler' must have an x_min and an x_max"),
        ({"pooler.x_min": np.zeros(2, np.float32)}, "w8a8", "must be a single number, got shape"),
        ({"pooler.x_min": np.full(1, 99, np.float32)}, "w8a8", "an x_max not below it, got x_max = "),
        ({"pooler.x_min": np.full(1, np.nan, np.float32)}, "w8a8", "must hold finite numbers"),
        ({"pooler.x_min": np.zeros(1, np.int32)}, "w8a8", "must be stored as one of F32"),
        ({}, "peg:groups=4,permutation=none", "must have one range, as it was trained or given, got groups"),
    ],
)
def test_ranges_that_mean_nothing_are_refused(
    tiny_bert: TinyBert, names: list[str], tensors: dict[str, Any], recipe: str, complaint: str
) -> None:
    with pytest.raises(IntsimError, match=complaint):
        intsim.quantize(_trained(tiny_bert, names, tensors=tensors), recipe=recipe)


# ---- the script that trains them


@pytest.fixture(scope="module")
def script(torch: Any) -> SimpleNamespace:
    assert torch
    _import("transformers")
    return SimpleNamespace(**runpy.run_path(str(ROOT / "notebooks" / "finetune_quantized.py")))


@given(st.data())
def test_the_quantizer_of_the_script_is_that_of_the_reference(
    torch: Any, script: SimpleNamespace, data: st.DataObject
) -> None:
    symmetric, bits = data.draw(st.booleans()), data.draw(st.integers(2, 16))
    ends = st.floats(-(2.0**20), 2.0**20, width=32)
    low, high = sorted(data.draw(st.tuples(ends, ends).filter(lambda pair: max(map(abs, pair)) > 2.0**-20)))
    twin = fake_quant.affine(low, high, bits=bits, symmetric=symmetric, convention="narrow" if symmetric else "full")
    codes = np.unique(np.linspace(twin.lowest - 2, twin.highest + 2, 999).round())
    ties = (codes + 0.5 - twin.zero_point) * twin.scale
    x = np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf), [low, high, 0]])
    found = script.fake_quantize(torch.tensor(x), torch.tensor(low), torch.tensor(high), bits=bits, symmetric=symmetric)
    assert np.array_equal(found.numpy(), fake_quant.fake_quantize(x, twin))


def test_gradients_go_through_the_rounding_and_stop_outside_the_range(torch: Any, script: SimpleNamespace) -> None:
    x = torch.tensor([-3.0, 0.3, 5.0], dtype=torch.float64, requires_grad=True)
    low, high = (torch.tensor(end, requires_grad=True) for end in (-1.0, 2.0))
    script.fake_quantize(x, low, high, bits=8, symmetric=False).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]
    assert math.isclose(low.grad.item(), 1, abs_tol=0.02)  # what is clipped moves with the end it is clipped to
    assert math.isclose(high.grad.item(), 1, abs_tol=0.02)


@given(st.data())
def test_the_quantizer_while_running_of_the_script_is_that_of_the_reference(
    torch: Any, script: SimpleNamespace, data: st.DataObject
) -> None:
    per, clip = data.draw(st.sampled_from([("token", False), ("sequence", False), ("sequence", True)]))
    bits, half = data.draw(st.integers(2, 8)), data.draw(st.sampled_from(["up", "even"]))
    mask = np.arange(9) < np.array([[9], [data.draw(st.integers(1, 9))]])
    spread = data.draw(st.integers(1, 2**15 - 1))
    scale = data.draw(st.floats(2.0**-20, 2.0**20, width=32))
    x = np.random.default_rng(spread).integers(-spread, spread + 1, (2, 9, 64)) * scale
    x[0, 3] = 0
    how = Dynamic(range=IntRange(bits, narrow=True), per=per, clip=clip)
    bound = script.dynamic_bound(torch.tensor(x), how, torch.tensor(mask))
    twin = fake_quant.dynamic_bound(x, per=per, clip=clip, mask=mask)
    assert np.array_equal(bound.numpy(), twin)
    found = script.fake_quantize_dynamic(torch.tensor(x), bound, bits=bits, half=half)
    assert np.array_equal(found.numpy(), fake_quant.fake_quantize_dynamic(x, twin, bits=bits, half=half))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "recipe", ["w8a8:symmetric=true", "w4a8", "q8bert", "q8bert-dq", "tm-iqr", "zeroquant:groups=16"]
)
def test_the_integers_of_an_export_are_those_that_were_trained(
    torch: Any, script: SimpleNamespace, tiny_bert: TinyBert, tmp_path: Path, recipe: str
) -> None:
    source = tiny_bert()
    model = _import("transformers").BertForSequenceClassification.from_pretrained(source, dtype=torch.float64).eval()
    integers = intsim.quantize(source, recipe=recipe, calibration=TEXTS)
    fakes = script.quantize_while_running(model, integers, recipe)
    assert len(fakes) == 2 + 2 * 9 + 1
    with torch.no_grad():  # as if trained
        for i, fake in enumerate(fakes.values()):
            fake.growth += torch.tensor([0.1, -0.05 * i])
        for module in filter(_has_scale, model.modules()):
            module.parametrizations.weight.original.mul_(1.05)
    ids, types = np.array([[2, 9, 10, 11, 6, 12, 5, 13, 3], [2, 7, 8, 3, 0, 0, 0, 0, 0]]), np.zeros((2, 9), np.int64)
    mask = ids > 0
    simulated = model(torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int))).logits.detach().numpy()
    scales = {name: m.parametrizations.weight[0].scale for name, m in model.named_modules() if _has_scale(m)}
    fake_weights = {name: m.weight.detach().numpy() for name, m in model.named_modules() if _has_scale(m)}
    script.export(model, {name: fake.range for name, fake in fakes.items()}, source, tmp_path)
    trained = intsim.quantize(tmp_path, recipe=recipe)
    assert len(scales) == 2 * 6 + 2
    for name, scale in scales.items():
        codes = trained.tensors[f"{name.removeprefix('bert.')}.weight"]
        assert np.array_equal(codes, np.rint(fake_weights[name] / scale.numpy()))
    for name, fake in fakes.items():
        low, high = fake.range.detach().double().numpy()
        form = trained.formats[name]
        twin = fake_quant.affine(
            low, high, bits=form.range.bits, symmetric=fake.symmetric, convention="narrow" if fake.symmetric else "full"
        )
        assert form.scale.multiplier / np.exp2(form.scale.shift) == twin.scale
        assert form.zero_point == twin.zero_point
    in_float64 = simulation(tmp_path, trained)(ids, mask, types)
    nearest = 0.02 if recipe == "w4a8" else 1e-12  # the mse estimator finds a weight's scale to 12 bits
    assert np.abs(in_float64 - simulated).max() < nearest
    assert np.abs(_reals(trained(ids, attention_mask=mask)) - simulated).max() < 0.1 * np.abs(simulated).max()


def _arguments(source: Path, folder: Path, recipe: str) -> list[str]:
    data = folder / "data.tsv"
    data.write_text("label\ttext_a\n" + "0\tthe plot is bad\n1\ta good movie .\n" * 4)
    options = {"train": data, "dev": data, "checkpoint": source, "output": folder / "out"}
    options |= {"recipe": recipe, "steps": 4, "batch": 4}
    return ["finetune_quantized.py", *(f"--{name}={value}" for name, value in options.items())]


@pytest.mark.filterwarnings("ignore")
def test_the_script_trains_a_recipe_whose_ranges_are_found_while_running(
    script: SimpleNamespace,
    tiny_bert: TinyBert,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", _arguments(tiny_bert(), tmp_path, "tm-iqr"))
    script.main()
    shown = capsys.readouterr().out
    assert "before: accuracy" in shown
    assert "after: accuracy" in shown
    assert sum(name.endswith(".x_max") for name in load_file(tmp_path / "out" / "model.safetensors")) == 2 + 2 * 9 + 1


def test_the_script_refuses_groups_of_channels(
    script: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", _arguments(tmp_path, tmp_path, "peg:groups=4"))
    with pytest.raises(SystemExit):
        script.main()
    assert "must give every activation one range to train it, got groups in 'peg:groups=4'" in capsys.readouterr().err


def _has_scale(module: Any) -> bool:
    return "weight" in getattr(module, "parametrizations", ())
