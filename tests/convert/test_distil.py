# SPDX-License-Identifier: Apache-2.0
"""Layer-by-layer distillation: the world of tensors, the student, and what training makes of its layers."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import families
import numpy as np
import pytest
from safetensors.numpy import load_file

import intsim
from intsim.convert import default_calibration
from intsim.convert.simulate import simulation
from intsim.io.huggingface import open_checkpoint
from intsim.io.tokenizer import encode, pad, parse_tokenizer, read_tokenizer
from intsim.quantizers import dequantize
from intsim.recipes import load_recipe, match
from intsim.reference.world import run
from intsim.report.evaluate import cosines

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and transformers' own

ROOT: Final = Path(__file__).resolve().parents[2]
EMBEDDED: Final = ROOT / "tests" / "data" / "embedded-float"
GPTQ: Final = "zeroquant-w4:rounding=gptq"
TEXTS: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good ?", "a b c d e f")


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """Return ``notebooks/distil_layers.py`` as a module."""
    families.modules()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "notebooks"))
        yield importlib.import_module("distil_layers")


@pytest.fixture(scope="module")
def torch(script: Any) -> Any:
    return script.torch


def _batch(script: Any, path: Path, texts: Any) -> Any:
    tokenizer, config = parse_tokenizer(read_tokenizer(path)), open_checkpoint(path).config
    encodings = [encode(tokenizer, text, longest=config.longest, truncate=True) for text in texts]
    return script.Batch(*pad(encodings, pad_id=config.pad_token_id))


class Lesson:
    """A float checkpoint, a student of it, and texts to train on and to judge by."""

    def __init__(self, script: Any, path: Path, recipe: str, start: str, texts: Any) -> None:
        self.script = script
        self.checkpoint = open_checkpoint(path, head="none")
        self.floats = {
            name: script.torch.tensor(self.checkpoint.load(name, np.float32)) for name in self.checkpoint.names
        }
        self.integers = intsim.quantize(path, recipe=start, head="none", calibration=texts)
        self.weights = script.Weights(self.checkpoint, self.integers, recipe)
        tokenizer, longest = parse_tokenizer(read_tokenizer(path)), self.checkpoint.config.longest
        self.encodings = [encode(tokenizer, text, longest=longest, truncate=True) for text in texts]
        self.held_out = [_batch(script, path, texts[::4])]
        self.seen = [encoding for i, encoding in enumerate(self.encodings) if i % 4]

    def errors(self) -> dict[str, float]:
        return self.script.errors(self.checkpoint, self.integers, self.floats, self.weights, self.held_out)

    def train(self, *, steps: int, rate: float, size: int = 16) -> None:
        self.script.train(
            self.checkpoint, self.integers, self.floats, self.weights, self.seen, steps=steps, size=size, rate=rate
        )

    def losses(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        batch = self.held_out[0]
        states = self.script.hidden_states(self.checkpoint, self.floats, batch)
        self.script.compare_layers(
            self.checkpoint, self.integers, self.weights, batch, states, lambda name, loss: found.update({name: loss})
        )
        return found


# ---- the world of tensors


@pytest.mark.parametrize("family", families.ENCODERS)
def test_a_family_gives_in_tensors_what_it_gives_in_arrays(
    script: Any, torch: Any, tmp_path: Path, family: str
) -> None:
    path = families.tiny(family, "none", tmp_path)
    checkpoint, batch = open_checkpoint(path), _batch(script, path, TEXTS)
    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    states: dict[str, Any] = {}

    def observe(name: str, x: Any) -> Any:
        states[name] = np.asarray(x)
        return x

    run(
        checkpoint.family,
        weights,
        checkpoint.config,
        "none",
        batch.ids,
        attention_mask=batch.mask,
        token_type_ids=batch.types,
        observe=observe,
    )
    wanted = {name: states[name] for name in checkpoint.outline.hidden_states}
    tensors = {name: torch.tensor(w) for name, w in weights.items()}
    found = script.hidden_states(checkpoint, tensors, batch)
    assert list(found) == list(wanted)
    for name, x in found.items():
        assert np.abs(x.numpy() - wanted[name]).max() < 1e-12, name


@pytest.mark.parametrize("function", families.ACTIVATIONS)
def test_every_activation_function_is_that_of_the_reference(
    script: Any, torch: Any, tmp_path: Path, function: str
) -> None:
    path = families.tiny("bert", "none", tmp_path, hidden_act=function)
    checkpoint, batch = open_checkpoint(path), _batch(script, path, TEXTS)
    weights = {name: checkpoint.load(name) for name in checkpoint.names}
    wanted = run(
        checkpoint.family,
        weights,
        checkpoint.config,
        "none",
        batch.ids,
        attention_mask=batch.mask,
        token_type_ids=batch.types,
    )
    states = script.hidden_states(checkpoint, {name: torch.tensor(w) for name, w in weights.items()}, batch)
    assert np.abs(list(states.values())[-1].numpy() - wanted).max() < 1e-12


# ---- the student before training


@pytest.mark.parametrize("recipe", ["zeroquant-w4", GPTQ, "w4a8", "peg:groups=4,permutation=none", "tm-iqr", "q8bert"])
def test_a_student_starts_as_the_simulation_of_its_recipe(script: Any, torch: Any, tmp_path: Path, recipe: str) -> None:
    path = families.tiny("bert", "none", tmp_path)
    lesson = Lesson(script, path, recipe, recipe, TEXTS)
    batch, checkpoint = lesson.held_out[0], lesson.checkpoint
    for w in lesson.weights.trained.values():
        w.data = w.data.double()
    rules = match(load_recipe(recipe), checkpoint.outline).weights
    for name in lesson.weights._tables:
        params = rules[name].params(checkpoint.load(name), embedding=True)
        lesson.weights._tables[name] = torch.tensor(dequantize(lesson.integers.codes(name), params))
    observe, read = script.quantizers(lesson.integers, torch.tensor(batch.mask))
    last: dict[str, Any] = {}

    def keep(name: str, x: Any) -> Any:
        last[name] = observe(name, x)
        return last[name]

    world = script.Tensors(lesson.weights, checkpoint.config, "none", mask=batch.mask, observe=keep, read=read)
    checkpoint.family(world, *batch)
    found = last[checkpoint.outline.hidden_states[-1]].detach().numpy()
    wanted = simulation(path, lesson.integers)(*batch)
    assert np.abs(found - wanted)[batch.mask].max() < 1e-9


def test_a_layer_is_judged_by_its_own_weights_alone(script: Any, torch: Any) -> None:
    lesson = Lesson(script, EMBEDDED, "zeroquant-w4", "zeroquant-w4", default_calibration())
    before = lesson.losses()
    with torch.no_grad():
        lesson.weights.trained["encoder.layer.0.output.dense.weight"].mul_(0.5)
    first, second = lesson.losses().items()
    assert first[1] > 1.1 * before[first[0]]
    assert second[1] == before[second[0]]
    second[1].backward()
    moved = {name for name, w in lesson.weights.trained.items() if w.grad is not None}
    assert moved == {name for name in lesson.weights.trained if name.startswith("encoder.layer.1.")}


# ---- training


@pytest.fixture(scope="module")
def taught(script: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lesson, dict[str, float], Path]:
    """Return the embedded model after some steps, its errors before, and the folder it is exported to."""
    lesson = Lesson(script, EMBEDDED, "zeroquant-w4", "zeroquant-w4", default_calibration())
    before, path = lesson.errors(), tmp_path_factory.mktemp("distilled")
    lesson.train(steps=60, rate=5e-4)
    script.export(lesson.checkpoint, lesson.weights, path)
    return lesson, before, path


def test_every_layer_comes_closer_on_texts_that_it_has_not_seen(taught: tuple[Lesson, dict[str, float], Path]) -> None:
    lesson, before, _ = taught
    after = lesson.errors()
    assert list(after) == ["encoder.layer.0.output.LayerNorm", "encoder.layer.1.output.LayerNorm"]
    assert all(after[name] < 0.8 * before[name] for name in before)


def test_the_integer_model_of_the_result_comes_closer_to_the_float_model(
    taught: tuple[Lesson, dict[str, float], Path],
) -> None:
    lesson, _, path = taught
    batch, texts = lesson.held_out[0], default_calibration()
    states = lesson.script.hidden_states(lesson.checkpoint, lesson.floats, batch)
    wanted = list(states.values())[-1].numpy()[batch.mask]

    def angle(folder: Path) -> float:
        model = intsim.quantize(folder, recipe="zeroquant-w4", head="none", calibration=texts)
        found = model(batch.ids, attention_mask=batch.mask, token_type_ids=batch.types).values[batch.mask]
        return float(1 - cosines(found.astype(np.float64), wanted.astype(np.float64)).mean())

    assert angle(path) < 0.8 * angle(EMBEDDED)


def test_conversion_finds_the_codes_that_were_trained(taught: tuple[Lesson, dict[str, float], Path]) -> None:
    lesson, _, path = taught
    model = intsim.quantize(path, recipe="zeroquant-w4", calibration=TEXTS)
    changed = 0
    for name, fake in lesson.weights._fakes.items():
        codes = np.rint(lesson.weights[name].detach().numpy() / fake.scale.numpy())
        assert np.array_equal(model.codes(name), codes), name
        changed += int((codes != lesson.integers.codes(name)).sum())
    assert changed > 1000


def test_what_is_no_layer_is_exported_as_it_was(taught: tuple[Lesson, dict[str, float], Path]) -> None:
    _, _, path = taught
    old, new = (load_file(folder / "model.safetensors") for folder in (EMBEDDED, path))
    assert old.keys() == new.keys()
    same = {name for name in old if old[name].tobytes() == new[name].tobytes()}
    assert same == {name for name in old if not name.startswith("bert.encoder.layer.")}
    for file in ("config.json", "tokenizer.json"):
        assert (path / file).read_bytes() == (EMBEDDED / file).read_bytes()
    _, transformers = families.modules()
    _, info = transformers.AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert not any(info.values())


@pytest.mark.parametrize("family", families.ENCODERS)
def test_layers_of_every_family_are_distilled(script: Any, tmp_path: Path, family: str) -> None:
    path = families.tiny(family, "two-classes", tmp_path / "float")
    lesson = Lesson(script, path, "zeroquant-w4:groups=4", "zeroquant-w4:groups=4", [*TEXTS, *TEXTS[::-1]])
    before = lesson.errors()
    assert len(before) == len(lesson.checkpoint.outline.hidden_states) - 1
    lesson.train(steps=40, rate=3e-3, size=4)
    assert sum(lesson.errors().values()) < 0.8 * sum(before.values())
    script.export(lesson.checkpoint, lesson.weights, tmp_path / "distilled")
    exported = open_checkpoint(tmp_path / "distilled", head="none")
    before_the_layers = [name for name, w in lesson.weights.trained.items() if w.grad is None]
    assert "embeddings.LayerNorm.weight" in before_the_layers
    for name in before_the_layers:
        assert np.array_equal(exported.load(name), lesson.checkpoint.load(name)), name
    model = intsim.quantize(tmp_path / "distilled", recipe="zeroquant-w4:groups=4", calibration=TEXTS)
    for name, fake in lesson.weights._fakes.items():
        assert np.array_equal(model.codes(name), np.rint(lesson.weights[name].detach().numpy() / fake.scale.numpy()))


def test_a_student_may_start_from_the_codes_of_gptq(script: Any) -> None:
    nearest, gptq = (
        Lesson(script, EMBEDDED, "zeroquant-w4", start, default_calibration()) for start in ("zeroquant-w4", GPTQ)
    )
    name = "encoder.layer.0.output.dense.weight"
    scale = gptq.weights._fakes[name].scale.numpy()
    codes = np.rint(gptq.weights[name].detach().numpy() / scale)
    assert np.array_equal(codes, gptq.integers.codes(name))
    assert not np.array_equal(codes, nearest.integers.codes(name))
    assert all(gptq.errors()[layer] < error for layer, error in nearest.errors().items())


# ---- the program


def _run(script: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, *more: str) -> bytes:
    texts, dev = folder / "texts.txt", folder / "dev.tsv"
    texts.write_text("\n".join(default_calibration() * 5))
    dev.write_text("sentence\tlabel\n" + "the plot is bad\t0\na good movie .\t1\n" * 4)
    arguments = ["--checkpoint", str(EMBEDDED), "--texts", str(texts), "--recipe", "zeroquant-w4", "--steps", "3"]
    arguments += ["--student", "zeroquant-w4", str(folder / "out"), "--task", "sst2", "--dev", str(dev)]
    monkeypatch.setattr("sys.argv", ["distil_layers.py", *arguments, *more])
    script.main()
    return (folder / "out" / "model.safetensors").read_bytes()


def test_the_program_prints_before_and_after_and_writes_the_same_bytes_again(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _run(script, monkeypatch, tmp_path, "--student", GPTQ, str(tmp_path / "gptq"))
    shown = capsys.readouterr().out
    for line in ("zeroquant-w4: accuracy", "zeroquant-w4, distilled: accuracy", f"{GPTQ}: accuracy"):
        assert line in shown
    assert shown.count("encoder.layer.1.output.LayerNorm: ") == 2
    assert _run(script, monkeypatch, tmp_path) == first
    assert (tmp_path / "gptq" / "model.safetensors").read_bytes() != first


def test_the_program_refuses_a_recipe_that_permutes_channels(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        _run(script, monkeypatch, tmp_path, "--recipe", "peg")
    assert "must leave the channels in their places" in capsys.readouterr().err
