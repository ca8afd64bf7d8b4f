# SPDX-License-Identifier: Apache-2.0
"""The exported model, run by ONNX Runtime: every integer of every layer is the golden model's."""

import dataclasses
import math
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any, Final

import edges
import numpy as np
import oracle
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import intsim
from intsim import ops
from intsim.cli import cli, main
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT16, INT32, UINT8, Dyadic, IntRange, Rounding, rounding_right_shift
from intsim.integer_model import IntegerModel
from intsim.io import onnx as exporter
from intsim.io.onnx import arithmetic, operators
from intsim.io.onnx.graph import Graph, Value
from intsim.io.tokenizer import encode, pad, parse_tokenizer
from intsim.ops import LayerNormParams
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, Profile, Softmax
from intsim.recipes import recipe_names
from intsim.report.evaluate import read_task
from intsim.requantization import RULES
from intsim.testing import assert_bit_exact

onnx: Any = pytest.importorskip("onnx", reason="needs the package onnx")
onnx_reference: Any = pytest.importorskip("onnx.reference", reason="needs the package onnx")
runtime: Any = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")

Feeds = dict[str, NDArray[np.int64]]

CALIBRATION: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
TEXTS: Final = (
    "An honest, moving and quietly powerful film.",
    "bad",
    "It is not that the plot is thin; there is none, and two hours of it.\tA second segment!",
    "Ünïcödé ☃ 12345 ... ?!",
    "good " * 60,
)
# zero points, and LayerNorms of 12 bits, whose products take int32 operands
WIDE: Final = """
[[weights]]
names = "*"
bits = 8
granularity = "channel"

[[activations]]
names = ["*.LayerNorm", "*.sum"]
bits = 12
symmetric = false

[[activations]]
names = ["*.query", "*.key", "*.value"]
bits = 8
symmetric = true

[[activations]]
names = "*"
bits = 8
symmetric = false
"""
# whatever may be grouped in groups, LayerNorm's outputs also read in fewer bits, and asymmetric attention products
GROUPED: Final = """
profile = "intsim"

[[weights]]
names = "*.dense.weight"
bits = 8
granularity = "group"
groups = 2
axis = "input"

[[weights]]
names = "*"
bits = 8
granularity = "channel"

[[inputs]]
names = "encoder.layer.1.*"
bits = 6
symmetric = false

[[activations]]
names = ["*.query", "*.key", "*.value"]
bits = 8
symmetric = false

[[activations]]
names = "pooler"
bits = 8
symmetric = false

[[activations]]
names = "*"
bits = 8
symmetric = false
groups = 2
"""
RECIPES: Final = [  # with groups that divide 16 channels, and 128
    *(name for name in recipe_names() if name not in {"peg", "zeroquant", "zeroquant-w4"}),
    "peg:groups=4",
    "peg:groups=4,permutation=none",
    "zeroquant:groups=4",
    "zeroquant-w4:groups=4",
    "tm-iqr:everywhere=tm-iqr",
]
EXPORTED: Final = [rule for rule in RULES.values() if rule.arithmetic != "binary32"]
PROFILES: Final = {
    **{profile.name: profile for profile in (INTSIM, IBERT, INTSIM_WIDE, *edges.CROSSED)},
    **{
        f"{rule.name}-rule": dataclasses.replace(INTSIM, name=f"{rule.name}-rule", requantization=rule)
        for rule in EXPORTED
    },
}


def session(proto: Any, outputs: Sequence[str] = ()) -> Any:
    """Return ONNX Runtime's session of a model, with more of its values as outputs."""
    if outputs:
        inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        known = {info.name for info in proto.graph.output}
        proto.graph.output.extend(
            info for info in inferred.graph.value_info if info.name in outputs and info.name not in known
        )
    options = runtime.SessionOptions()
    options.enable_mem_reuse = False  # whose plan takes longer than all else
    return runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def engine(build: Callable[..., Value], *inputs: NDArray[Any]) -> NDArray[Any]:
    """Let ONNX Runtime compute what ``build`` makes of the inputs."""
    graph = Graph(longest=128)
    values = [graph.input(f"x{i}", array.dtype, array.shape) for i, array in enumerate(inputs)]
    proto = exporter._proto(onnx, graph, values, build(*values), {})
    return session(proto).run(None, {f"x{i}": array for i, array in enumerate(inputs)})[0]


def draw(model: IntegerModel, rng: np.random.Generator, batch: int, tokens: int) -> Feeds:
    """Return random ids, types, and masks of every kind: from no token at all, holes, to all."""
    mask = np.arange(tokens) < rng.integers(0, tokens + 1, (batch, 1))
    mask[batch // 2] = rng.integers(0, 2, tokens)
    mask[-1] = True
    return {
        "input_ids": rng.integers(0, model.config.vocab_size, (batch, tokens)),
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": rng.integers(0, model.config.type_vocab_size, (batch, tokens)),
    }


def assert_same_everywhere(model: IntegerModel, path: Path, feeds: Sequence[Feeds]) -> None:
    """Hold every tensor of a trace against the engine's value of the same name."""
    engine_of = None
    for feed in feeds:
        with intsim.trace() as trace:
            ids = feed["input_ids"]
            model(ids, **{name: values for name, values in feed.items() if name != "input_ids"})
        if engine_of is None:
            engine_of = session(onnx.load(path), list(trace))
        names = [output.name for output in engine_of.get_outputs()]
        assert sorted(names) == sorted(trace)
        for name, values in zip(names, engine_of.run(None, feed), strict=True):
            assert_bit_exact(values, trace[name], name=name)


@pytest.fixture(scope="module")
def embedded() -> IntegerModel:
    return intsim.load(Path(str(resources.files("intsim.embedded"))))


@pytest.fixture(scope="module")
def tiny(tiny_bert: Any) -> Path:
    return tiny_bert()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def _batches(model: IntegerModel, texts: Sequence[str], size: int) -> Iterator[Feeds]:
    tokenizer = parse_tokenizer(model.tokenizer or "")
    for start in range(0, len(texts), size):
        encodings = [
            encode(tokenizer, text, longest=model.config.max_position_embeddings)
            for text in texts[start : start + size]
        ]
        ids, mask, types = pad(encodings)
        yield {
            "input_ids": ids.astype(np.int64),
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": types.astype(np.int64),
        }


# Models


def test_every_integer_of_the_embedded_model_is_the_engines(embedded, file):
    exporter.export(embedded, file)
    rng = np.random.default_rng(1)
    longest = embedded.config.max_position_embeddings
    texts = list(_batches(embedded, TEXTS, 3)) + list(_batches(embedded, TEXTS, 1))
    drawn = [draw(embedded, rng, *shape) for shape in ((1, 1), (2, 3), (5, 17), (1, longest))]
    assert_same_everywhere(embedded, file, texts + drawn)


@pytest.mark.parametrize("recipe", ["intsim", "ibert", "peg:groups=4", "tm-iqr"])
def test_the_reference_implementation_of_onnx_and_an_engine_that_fuses_nothing_agree(tiny, file, recipe):
    model = intsim.quantize(tiny, recipe=recipe, calibration=CALIBRATION)
    exporter.export(model, file)
    feed = draw(model, np.random.default_rng(9), 6, 9)
    expected = model(feed["input_ids"], **{name: feed[name] for name in ("attention_mask", "token_type_ids")}).values
    assert_bit_exact(onnx_reference.ReferenceEvaluator(onnx.load(file)).run(None, feed)[0], expected)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    assert_bit_exact(plain.run(None, feed)[0], expected)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_integer_is_the_engines_under_every_rule(tiny, file, profile):
    model = intsim.quantize(tiny, profile=profile, calibration=CALIBRATION)
    exporter.export(model, file)
    rng = np.random.default_rng(2)
    assert_same_everywhere(model, file, [draw(model, rng, 6, 9), draw(model, rng, 1, 1)])


@edges.both_presets
@pytest.mark.parametrize("labels", [("negative", "positive"), None], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_integer_is_the_engines_under_every_recipe(tiny_bert, file, recipe, labels, profile):
    model = intsim.quantize(tiny_bert(labels=labels), recipe=recipe, profile=profile, calibration=CALIBRATION)
    exporter.export(model, file)
    rng = np.random.default_rng(2)
    assert_same_everywhere(model, file, [draw(model, rng, 6, 9), draw(model, rng, 1, 1), draw(model, rng, 2, 32)])


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_integer_of_padded_texts_is_the_engines_under_every_recipe(file, recipe):
    path = Path(__file__).parents[1] / "data" / "embedded-float"
    model = intsim.quantize(path, recipe=recipe, calibration=TEXTS[:3])
    exporter.export(model, file)
    assert_same_everywhere(model, file, [*_batches(model, TEXTS, 5), draw(model, np.random.default_rng(3), 4, 11)])


@pytest.mark.parametrize("profile", [INTSIM, IBERT, PROFILES["onnx-qlinear-rule"]], ids=lambda profile: profile.name)
def test_every_integer_is_the_engines_with_groups_everywhere(tiny, file, tmp_path, profile):
    recipe = tmp_path / "grouped.toml"
    recipe.write_text(GROUPED, encoding="utf-8")
    model = intsim.quantize(tiny, recipe=recipe, profile=profile, calibration=CALIBRATION)
    assert model.formats["encoder.layer.1.intermediate.input"].range.bits == 6
    assert all(model.formats[f"encoder.layer.0.attention.self.{part}"].zero_point for part in ("query", "key", "value"))
    exporter.export(model, file)
    assert_same_everywhere(model, file, [draw(model, np.random.default_rng(3), 6, 9)])


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
def test_every_integer_is_the_engines_with_groups_of_channels_read_by_token(tiny, file, tmp_path, profile):
    recipe = tmp_path / "grouped.toml"
    preset = (resources.files("intsim.recipes") / "zeroquant.toml").read_text(encoding="utf-8")
    recipe.write_text(preset.replace('groups = "$groups"', 'groups = 4\naxis = "input"'), encoding="utf-8")
    model = intsim.quantize(tiny, recipe=recipe, profile=profile, calibration=CALIBRATION)
    assert "encoder.layer.1.intermediate.dense.acc.multiplier" in model.tensors
    exporter.export(model, file)
    assert_same_everywhere(model, file, [draw(model, np.random.default_rng(3), 6, 9)])


@pytest.mark.parametrize("profile", [INTSIM, IBERT, PROFILES["onnx-qlinear-rule"]], ids=lambda profile: profile.name)
def test_every_integer_is_the_engines_with_zero_points_and_wide_codes(tiny, file, tmp_path, profile):
    recipe = tmp_path / "wide.toml"
    recipe.write_text(f'profile = "intsim"\n{WIDE}', encoding="utf-8")
    model = intsim.quantize(tiny, recipe=recipe, profile=profile, calibration=CALIBRATION)
    assert model.formats["embeddings.LayerNorm"].range.bits == 12
    assert model.formats["embeddings.LayerNorm"].zero_point != 0
    exporter.export(model, file)
    assert_same_everywhere(model, file, [draw(model, np.random.default_rng(3), 6, 9)])


@pytest.mark.parametrize("options", [{"labels": None}, {"hidden_act": "relu"}, {"labels": ("score",)}], ids=str)
def test_every_integer_is_the_engines_for_every_head_and_activation(tiny_bert, file, options):
    model = intsim.quantize(tiny_bert(**options), calibration=CALIBRATION)
    exporter.export(model, file)
    assert_same_everywhere(model, file, [draw(model, np.random.default_rng(4), 6, 9)])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["intsim", "ibert", "peg", "zeroquant", "tm-iqr"])
def test_minilm_gives_the_integers_of_the_golden_model_on_stsb(minilm, shared, file, recipe):
    dev = read_task("stsb", shared / "data" / "STS-B" / "sts-dev.csv")
    train = read_task("stsb", shared / "data" / "STS-B" / "sts-train.csv")
    model = intsim.quantize(minilm, recipe=recipe, calibration=[example.texts[0] for example in train[:64]])
    exporter.export(model, file)
    run = session(onnx.load(file))
    texts = [text for example in dev[:100] for text in example.texts]
    assert len(texts) == 200
    for feed in _batches(model, texts, 16):
        result = model(feed["input_ids"], attention_mask=feed["attention_mask"], token_type_ids=feed["token_type_ids"])
        assert_bit_exact(run.run(None, feed)[0], result.values)


# The file


def _element_types(proto: Any) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    infos = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {constant.name: constant.data_type for constant in inferred.graph.initializer}


@pytest.mark.parametrize("recipe", ["intsim", "ibert", "peg:groups=4", "tm-iqr"])
def test_the_file_holds_standard_operators_on_integers_alone(tiny, file, recipe):
    exporter.export(intsim.quantize(tiny, recipe=recipe, calibration=CALIBRATION), file)
    proto = onnx.load(file)
    onnx.checker.check_model(proto, full_check=True)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 18)]
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    types = _element_types(proto)
    used = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    assert used <= set(types)
    names = onnx.TensorProto.DataType.Name
    assert {names(types[name]) for name in used} <= {"BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64"}
    attributes = [attribute for node in proto.graph.node for attribute in node.attribute]
    kinds = {onnx.AttributeProto.AttributeType.Name(attribute.type) for attribute in attributes}
    assert kinds <= {"INT", "INTS"}


def test_uint8_meets_uint8_in_every_product(embedded, file):
    # other pairs reach kernels that add two products in saturating 16 bits where there is no VNNI
    exporter.export(embedded, file)
    proto = onnx.load(file)
    types = _element_types(proto)
    products = [node for node in proto.graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == 8 * embedded.config.num_hidden_layers + 2
    assert {types[name] for node in products for name in node.input} == {onnx.TensorProto.UINT8}


def test_the_graph_takes_any_batch_and_length_and_names_what_it_gives(embedded, file):
    exporter.export(embedded, file)
    run = session(onnx.load(file))
    assert [(value.name, value.type, value.shape) for value in run.get_inputs()] == [
        (name, "tensor(int64)", ["batch", "tokens"]) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    assert [(value.name, value.shape) for value in run.get_outputs()] == [("classifier", ["batch", 2])]
    scale = embedded.output_format.scale
    assert run.get_modelmeta().custom_metadata_map == {
        "profile": "intsim",
        "profile_hash": embedded.profile.hash,
        "model_digest": embedded.digest,
        "output_multiplier": str(scale.multiplier),
        "output_shift": str(scale.shift),
    }


def test_equal_constants_are_stored_once(embedded, file):
    exporter.export(embedded, file)
    constants = onnx.load(file).graph.initializer
    stored = [(constant.data_type, tuple(constant.dims), constant.raw_data) for constant in constants]
    assert len(set(stored)) == len(stored)
    assert sum(constant.dims == [2**16] for constant in constants) == 2  # GELU for every layer, and tanh


def test_the_same_model_gives_the_same_bytes(embedded, tmp_path):
    for name in ("a", "b"):
        exporter.export(embedded, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_text_longer_than_the_position_table_is_refused_by_the_engine(embedded, file):
    exporter.export(embedded, file)
    longest = embedded.config.max_position_embeddings
    feed = draw(embedded, np.random.default_rng(5), 1, longest + 1)
    errors = runtime.capi.onnxruntime_pybind11_state  # of Gather, or of Add where the engine makes a Slice of it
    with pytest.raises((errors.InvalidArgument, errors.Fail), match="129"):
        session(onnx.load(file)).run(None, feed)


# Decoders


@pytest.fixture(scope="module")
def stories() -> IntegerModel:
    return intsim.load(Path(str(resources.files("intsim.embedded") / "stories")))


def padded(model: IntegerModel, rng: np.random.Generator, lengths: Sequence[int], *, left: bool) -> Feeds:
    """Return random texts of the lengths, padded on one side."""
    columns = np.arange(max(lengths))
    mask = columns < np.array(lengths)[:, None]
    mask = mask[:, ::-1] if left else mask
    ids = rng.integers(0, model.config.vocab_size, mask.shape)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)}


def test_every_integer_of_the_stories_model_is_the_engines(stories, file):
    exporter.export(stories, file)
    rng = np.random.default_rng(6)
    feeds = [padded(stories, rng, lengths, left=left) for lengths in ((1,), (7, 30, 1)) for left in (False, True)]
    assert_same_everywhere(stories, file, feeds)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_the_engine_gives_a_text_its_logits_whatever_padding_is_beside_it(stories, file, left):
    exporter.export(stories, file)
    run = session(onnx.load(file))
    feed = padded(stories, np.random.default_rng(7), (5, 40, 17), left=left)
    kept = feed["attention_mask"].astype(bool)
    together = run.run(None, feed)[0]
    for i, own in enumerate(kept):
        alone = {name: values[i : i + 1, own] for name, values in feed.items()}
        assert_bit_exact(together[i, own], run.run(None, alone)[0][0])


# A file of constants beside it


def test_many_constants_go_to_a_file_of_their_own(stories, file, monkeypatch):
    monkeypatch.setattr(exporter, "MOST_INSIDE", 2**18)
    size = exporter.export(stories, file)
    (beside,) = file.parent.glob("model.onnx.*.data")
    assert size == file.stat().st_size + beside.stat().st_size
    assert file.stat().st_size < 2**19 < beside.stat().st_size
    onnx.checker.check_model(file, full_check=True)
    assert all(int(each.value) % 4096 == 0 for each in _external(file, "offset"))
    feed = padded(stories, np.random.default_rng(8), (3, 9), left=True)
    run = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    expected = stories(feed["input_ids"], attention_mask=feed["attention_mask"]).values
    assert_bit_exact(run.run(None, feed)[0], expected)


def _external(file: Path, key: str) -> list[Any]:
    constants = onnx.load(file, load_external_data=False).graph.initializer
    return [entry for constant in constants for entry in constant.external_data if entry.key == key]


def test_another_model_leaves_the_constants_of_the_first_where_they_are(stories, embedded, file, monkeypatch):
    monkeypatch.setattr(exporter, "MOST_INSIDE", 0)
    exporter.export(stories, file)
    first = {each: each.read_bytes() for each in file.parent.glob("*.data")}
    exporter.export(stories, file)
    assert {each: each.read_bytes() for each in file.parent.glob("*.data")} == first
    exporter.export(embedded, file)
    assert len(list(file.parent.glob("*.data"))) == 2
    assert all(each.read_bytes() == data for each, data in first.items())


def test_constants_take_the_place_of_no_other_file(stories, file, monkeypatch):
    monkeypatch.setattr(exporter, "MOST_INSIDE", 0)
    exporter.export(stories, file)
    (beside,) = file.parent.glob("*.data")
    beside.write_bytes(b"mine")
    with pytest.raises(IntsimError, match=r"\.data must be new, empty or constants that intsim wrote to be written"):
        exporter.export(stories, file)
    assert beside.read_bytes() == b"mine"


def test_what_has_no_place_for_a_second_file_is_refused(stories, monkeypatch):
    monkeypatch.setattr(exporter, "MOST_INSIDE", 0)
    with pytest.raises(IntsimError, match=r"^/dev/null must be a file, beside which a second one .*, got a model"):
        exporter.export(stories, "/dev/null")


# Refusals


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule not in EXPORTED], ids=str)
def test_a_rule_of_float32_arithmetic_is_refused(tiny, file, rule):
    profile = dataclasses.replace(INTSIM, name="float", requantization=rule)
    model = intsim.quantize(tiny, profile=profile, calibration=CALIBRATION)
    with pytest.raises(IntsimError, match=f"^requantization rule must have integer arithmetic .*, got {rule.name}"):
        exporter.export(model, file)
    assert not file.exists()


def test_a_node_whose_result_could_leave_its_dtype_is_refused():
    x = Graph(longest=8).input("x", np.int64, (3, "tokens"))
    half = x.bounded(2**62 - 1)
    assert (half + half).magnitude == 2**63 - 2
    assert (x.bounded(2**50) * 2**12).magnitude == 2**62
    assert x.bounded(2**50).sum().magnitude == 2**53
    for refused in (
        lambda: half + (half + 2),
        lambda: half - (half + 2),
        lambda: x.bounded(2**51) * 2**12,
        lambda: x.bounded(2**50 + 1).sum(),
        lambda: operators.matmul(x.astype(np.int16), np.full((1, 2**17), 127, np.int8)),
    ):
        with pytest.raises(IntsimError, match=r"must be proved to fit int(32|64) to be exported, got a bound of \d+$"):
            refused()


def test_an_operator_that_has_no_nodes_is_refused(embedded, file, monkeypatch):
    monkeypatch.setattr(exporter, "EMITTERS", {})
    with pytest.raises(IntsimError, match=r"operator of 'embeddings.word_embeddings' must be one .*, got embedding"):
        exporter.export(embedded, file)


def test_a_missing_package_is_named(embedded, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(IntsimError, match=r"^package onnx must be installed to export, got none; .*intsim\[export\]"):
        exporter.export(embedded, file)


def test_a_file_that_cannot_be_written_leaves_nothing(embedded, tmp_path):
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    with pytest.raises(IntsimError, match=r"folder\.onnx must be writable, got: "):
        exporter.export(embedded, folder)
    assert list(tmp_path.iterdir()) == [folder]


# The command line


def test_the_command_writes_the_file_of_the_function(embedded, tmp_path):
    path = str(resources.files("intsim.embedded"))
    done = CliRunner().invoke(cli, ["export", path, "--onnx", str(tmp_path / "deep" / "cli.onnx")])
    exporter.export(embedded, tmp_path / "library.onnx")
    written = tmp_path / "deep" / "cli.onnx"
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"wrote {written}: {written.stat().st_size} bytes\n"
    assert written.read_bytes() == (tmp_path / "library.onnx").read_bytes()
    assert stat.S_IMODE(written.stat().st_mode) == 0o644


def test_the_command_exits_with_3_where_the_package_is_missing(file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(sys, "argv", ["intsim", "export", str(resources.files("intsim.embedded")), "--onnx", str(file)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 3
    assert capsys.readouterr().err.startswith("intsim: package onnx must be installed")


# Operators


SHIFTS: Final = (0, 1, 2, 15, 31, 32, 47, 61, 62)


def _near_ties(shift: int) -> list[int]:
    """Return integers on, and next to, a multiple and a tie of a right shift, and the largest that may be shifted."""
    limit = 2**63 - 1 - 2**shift - 2**15
    near = [edges.near_tie(k, shift, step) for k in range(-5, 6) for step in (-1, 0, 1)]
    near += [(k << shift) + step for k in range(-5, 6) for step in (-1, 0, 1)]
    return [x for x in [*edges.edge_table(-limit, limit), *near] if abs(x) <= limit]


@edges.every_rounding
@pytest.mark.parametrize("offset", [0, 3, -4, 2**15 - 1, -(2**15)])
def test_a_shift_rounds_as_the_oracle_does(rounding, offset):
    def judged(x: int, shift: int) -> int:
        return oracle.round_fraction(Fraction(x, 2**shift) + offset, str(rounding))

    def shifted(x: Value, shift: Any) -> Value:
        return arithmetic.shift_right(x, np.array(shift), rounding, offset=offset)

    for shift in SHIFTS:
        x = _near_ties(shift)
        y = engine(lambda x, t=shift: shifted(x.bounded(2**63 - 1 - 2**t - 2**15), t), np.array(x))
        assert y.tolist() == [judged(p, shift) for p in x]
    rows = [x for x in _near_ties(61) if abs(x) <= 2**60]  # one shift a column
    table = np.array(rows)[:, None] + np.zeros(len(SHIFTS), np.int64)
    y = engine(lambda x: shifted(x.bounded(2**60), SHIFTS), table)
    assert y.tolist() == [[judged(p, shift) for shift in SHIFTS] for p in rows]
    steps = np.arange(len(SHIFTS))  # and one offset
    y = engine(lambda x: arithmetic.shift_right(x.bounded(2**60), SHIFTS, rounding, offset=offset + steps), table)
    golden = rounding_right_shift(table, SHIFTS, rounding, offset=offset + steps)
    assert_bit_exact(y, golden)


@edges.every_rounding
@pytest.mark.parametrize("multiplier", [1, 255, 2**16])
def test_a_quotient_rounds_as_the_oracle_does(rounding, multiplier):
    for b in (1, 2, 3, 4, 7, 10, 255, 256, 2**20 + 1, 2**31 - 1):
        near = {k * b // multiplier + (b // 2) // multiplier + step for k in range(-9, 10) for step in (-1, 0, 1)}
        near |= {k * b + b // 2 + step for k in range(-9, 10) for step in (-1, 0, 1)}
        a = sorted(x for x in near if abs(x) <= 2**30)
        quotient = max(map(abs, a)) * multiplier // b + 1
        expected = [oracle.rounding_divide(p * multiplier, b, str(rounding)) for p in a]

        def divided(a: Value, b: Value | int, k: int = quotient) -> Value:
            a = a.bounded(2**30)
            return arithmetic.divide(a, b, multiplier=multiplier, rounding=rounding, quotient=k)

        column = np.full(len(a), b)
        assert engine(lambda a, b: divided(a, b.bounded(2**31)), np.array(a), column).tolist() == expected
        assert engine(lambda a, b=b: divided(a, b), np.array(a)).tolist() == expected
        positive = [x >= 0 for x in a]
        y = engine(lambda a, b: divided(a, b.bounded(2**31), 0), np.array(a)[positive], column[positive])
        assert y.tolist() == [p for p, take in zip(expected, positive, strict=True) if take]


def test_the_square_root_is_exact_at_every_edge():
    roots = {1, 2, 3, 4097, 33242, 2**26 + 1, 67108865, 2**31 - 1, 2**31} | {
        2**k + s for k in range(1, 31) for s in (-1, 1)
    }
    near = {root * root + step for root in roots for step in (-1, 0, 1)} | {1105030547, 2**62 - 1}
    near |= {4**k * m + step for k in range(29) for m in (1, 2, 3) for step in (-1, 0, 1)}
    n = sorted(x for x in near if 1 <= x < 2**62)
    bounded = 2**62 - 1
    assert engine(lambda n: arithmetic.isqrt(n.bounded(bounded)), np.array(n)[:, None])[:, 0].tolist() == [
        math.isqrt(x) for x in n
    ]


@pytest.mark.parametrize("x_dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize("w_dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("zero_point", ["none", "min", "max"])
def test_a_product_of_extreme_codes_is_exact(x_dtype, w_dtype, constant, zero_point):
    zeros = {
        f"{name}_zero_point": getattr(np.iinfo(dtype), zero_point, 0)
        for name, dtype in (("x", x_dtype), ("w", w_dtype))
    }
    rng = np.random.default_rng(6)
    depth = 63 if x_dtype is np.int16 else 97  # the bound of more products of 16 bits passes int32
    x, w = (
        rng.choice([np.iinfo(dtype).min, np.iinfo(dtype).max], (rows, depth)).astype(dtype)
        for dtype, rows in ((x_dtype, 65), (w_dtype, 33))
    )
    x[:2], w[0] = np.iinfo(x_dtype).min, np.iinfo(w_dtype).min
    x[2], w[1] = np.iinfo(x_dtype).max, np.iinfo(w_dtype).max
    expected = ops.matmul(x, w, carrier="integer", **zeros)
    y = engine(lambda x, *values: operators.matmul(x, *(values or (w,)), **zeros), *([x] if constant else [x, w]))
    assert_bit_exact(y, expected)


@pytest.mark.parametrize("rule", [*Rounding, *EXPORTED], ids=str)
@pytest.mark.parametrize(("to", "zero_point"), [(INT8, -3), (UINT8, 128), (INT16, 5), (INT32, 0)], ids=str)
def test_accumulators_on_ties_and_edges_become_the_golden_codes(rule, to, zero_point):
    shifts = np.array([0, 1, 4, 20, 31, 33, 40, 62])
    ratio = Dyadic(np.array([1, 3, 1, -5, 2**30, 2**30 + 2**7, 2**31 - 1, 2**31 - 1]), shifts)
    limit = 2**31 - 1
    edge = edges.edge_table(-limit, limit) + [k * 2**bits + half for bits in (1, 4, 20, 26) for k in range(-9, 10)
                                              for half in (0, 2**bits // 2) if abs(k) < 2**31 >> bits]  # fmt: skip
    acc = np.array(edge, np.int32)[:, None] + np.zeros(len(shifts), np.int32)
    y = engine(lambda acc: operators.requantize(acc, ratio, to=to, rounding=rule, zero_point=zero_point), acc)
    assert_bit_exact(y, ops.requantize(acc, ratio, to=to, rounding=rule, zero_point=zero_point))


@pytest.mark.parametrize("rule", [*Rounding, *EXPORTED], ids=str)
def test_an_addend_and_zero_points_by_channel_give_the_golden_codes(rule):
    shifts = np.array([0, 1, 4, 20, 33, 61])
    ratio = Dyadic(np.array([1, 3, -1, 5, 2**13, 2**13 - 1]), shifts)
    zero_point = np.array([-5, 4, 3, 0, -128, 127])
    acc = np.array(edges.edge_table(-(2**45), 2**45))[:, None] + np.zeros(len(shifts), np.int64)
    halves = (np.int64(1) << shifts) >> 1
    for addend in (np.array(-(2**30)), halves, -3 * halves, np.array([2**59, -(2**59), 7, -1, 0, 1])):
        constants = {"to": INT8, "rounding": rule, "zero_point": zero_point, "addend": addend}
        y = engine(lambda acc, c=constants: operators.requantize(acc.bounded(2**45), ratio, **c), acc)
        assert_bit_exact(y, ops.requantize(acc, ratio, **constants))


@pytest.mark.parametrize("kind", ["token", "sequence", "clip"])
@pytest.mark.parametrize(
    ("codes", "zero_point"), [(INT8, -128), (INT16, 0), (INT16, 32767), (IntRange(24), 0), (IntRange(31), -7)], ids=str
)
def test_rows_of_every_number_of_tokens_have_the_golden_bound(kind, codes, zero_point):
    rng = np.random.default_rng(10)
    tokens = 13
    x = rng.integers(codes.min, codes.max + 1, (6 * tokens, tokens, 3)) // rng.integers(1, 999, (1, tokens, 1))
    mask = rng.permuted(np.arange(tokens) < np.arange(6 * tokens)[:, None] % (tokens + 1), axis=1)
    how = {"per": "token" if kind == "token" else "sequence", "clip": kind == "clip", "zero_point": zero_point}
    x = x.astype(codes.dtype)
    largest = max(-codes.min, codes.max)
    bound = engine(lambda x, mask: operators.dynamic_bound(x.bounded(largest), mask=mask, **how), x, mask)
    assert_bit_exact(bound, ops.dynamic_bound(x, mask=mask, **how))
    every = engine(lambda x: operators.dynamic_bound(x.bounded(largest), **how), x)
    assert_bit_exact(every, ops.dynamic_bound(x, **how))
    if kind == "clip":
        assert (every < 8 * ops.dynamic_bound(x, per="sequence", zero_point=zero_point)).any()


@edges.every_rounding
@pytest.mark.parametrize("unit", [1, 8])
@pytest.mark.parametrize(
    ("codes", "zero_point"), [(INT8, 3), (INT16, 0), (INT16, -32768), (IntRange(20), 0), (IntRange(24), 5)], ids=str
)
def test_codes_on_ties_of_their_bound_are_the_golden_ones(rounding, unit, codes, zero_point):
    bounds = [0, 1, 2, 3, 14, 254, 508, 4064, 12700, 2**15, 2**17 * unit]
    x = np.array(edges.edge_table(codes.min, codes.max) + list(range(-100, 101)), codes.dtype)
    x, bound = np.tile(x, (len(bounds), 1, 1)), np.array(bounds, np.int32)[:, None, None]
    for bits in (2, 7, 8):
        how = {"unit": unit, "to": IntRange(bits, narrow=True), "rounding": rounding, "zero_point": zero_point}
        y = engine(
            lambda x, bound, how=how: operators.quantize_dynamic(
                x.bounded(max(-codes.min, codes.max)), bound.bounded(2**17 * unit), **how
            ),
            x,
            bound,
        )
        assert_bit_exact(y, ops.quantize_dynamic(x, bound, **how))


@pytest.mark.parametrize("centring", ["exact", "rounded-mean"])
@pytest.mark.parametrize("codes", [INT8, UINT8, INT16], ids=str)
@pytest.mark.parametrize("eps", [1, 12345, 2**40])
def test_rows_of_every_kind_have_the_golden_layer_norm(centring, codes, eps):
    rng = np.random.default_rng(8)
    channels = 24
    rows = [
        rng.integers(codes.min, codes.max + 1, (9, channels)),
        rng.choice([codes.min, codes.max], (9, channels)),
        np.eye(3, channels, dtype=np.int64) * codes.max,
        np.array([[codes.min], [0], [codes.max]]) + np.zeros(channels, np.int64),
    ]
    x = np.concatenate(rows).astype(codes.dtype)
    weight = Dyadic(rng.integers(-(2**25), 2**25, channels), np.full(channels, 34))
    params = LayerNormParams(weight=weight, bias=rng.integers(-(2**37), 2**37, channels), eps=eps)
    for step_rounding in Rounding:
        rule = dataclasses.replace(INTSIM.layer_norm, centring=centring)
        profile = dataclasses.replace(INTSIM, name="other", layer_norm=rule, step_rounding=step_rounding)
        y = engine(lambda x, p=profile: operators.layer_norm(x, params, to=INT8, profile=p), x)
        assert_bit_exact(y, ops.layer_norm(x, params, to=INT8, profile=profile))


@pytest.mark.parametrize("norm", ["exact", "rounded-mean", "rms_norm"])
@pytest.mark.parametrize("eps", [1, 12345, 2**40, 2**61 - 1])
def test_rows_of_every_shift_have_the_golden_norm(norm, eps):
    rng = np.random.default_rng(8)
    channels = 24
    rows = [
        rng.integers(-(2**31), 2**31, (64, channels)) >> np.arange(64)[:, None] // 2,
        rng.choice([-(2**31), 2**31 - 1], (9, channels)),
        np.eye(3, channels, dtype=np.int64) * (2**31 - 1),
        np.array([[-(2**31)], [0], [2**31 - 1], [2**15 - 1], [-(2**15)]]) + np.zeros(channels, np.int64),
    ]
    x = np.concatenate(rows).astype(np.int32)
    weight = Dyadic(rng.integers(-(2**25), 2**25, channels), np.full(channels, 34))
    params = LayerNormParams(weight=weight, bias=rng.integers(-(2**37), 2**37, channels), eps=eps)
    operator = ops.rms_norm if norm == "rms_norm" else ops.layer_norm
    for step_rounding in Rounding:
        rule = INTSIM.layer_norm if norm == "rms_norm" else dataclasses.replace(INTSIM.layer_norm, centring=norm)
        profile = dataclasses.replace(INTSIM, name="other", layer_norm=rule, step_rounding=step_rounding)
        y = engine(lambda x, p=profile: operators.EMITTERS[operator](x, params, to=INT8, profile=p), x)
        assert_bit_exact(y, operator(x, params, to=INT8, profile=profile))


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
def test_scores_anywhere_in_int32_have_the_golden_probabilities(profile: Profile) -> None:
    rng = np.random.default_rng(7)
    largest = 2**31 - 1
    acc = np.concatenate(
        [
            rng.integers(-largest, largest, (4, 8)),
            rng.choice([-largest, largest, 0], (4, 8)),
            rng.integers(-300, 300, (4, 8)),
        ]
    ).astype(np.int32)
    mask = rng.integers(0, 2, acc.shape).astype(np.bool_)
    mask[0], mask[1] = False, True
    for ratio in (Dyadic(2**30 - 1, 30), Dyadic(5, 31)):
        y = engine(lambda acc, mask, r=ratio: operators.softmax(acc, r, profile=profile, mask=mask), acc, mask)
        assert_bit_exact(y, ops.softmax(acc, ratio, profile=profile, mask=mask))


FINE: Final = dataclasses.replace(INTSIM, name="fine", softmax=Softmax(one=65535))


def test_a_product_of_16_bit_probabilities_is_proved_by_the_sum_of_a_row():
    """128 positions of 65535 times 128 pass 2**30, 2048 pass 2**31: the graph has to know more than the dtype."""
    rng = np.random.default_rng(8)
    acc = rng.integers(-2000, 2000, (2, 3, 128)).astype(np.int32)
    acc[0, 0], acc[1, 1] = 7, [2**20] + [0] * 127
    mask = rng.integers(0, 2, (2, 1, 128)).astype(np.bool_)
    value = rng.choice([-128, 127], (2, 5, 128)).astype(np.int8)
    ratio = Dyadic(2**30, 32)

    def attend(acc: Value, mask: Value, value: Value) -> Value:
        acc = dataclasses.replace(acc, graph=dataclasses.replace(acc.graph, longest=128))
        probs = operators.softmax(acc, ratio, profile=FINE, mask=mask)
        assert (probs.dtype, probs.row_sum) == (np.uint16, 65535 + 64)
        return operators.matmul(dataclasses.replace(probs, magnitude=2**24), value)

    probs = ops.softmax(acc, ratio, profile=FINE, mask=mask)
    assert_bit_exact(engine(lambda *x: operators.softmax(*x[:1], ratio, profile=FINE, mask=x[1]), acc, mask), probs)
    assert_bit_exact(engine(attend, acc, mask, value), ops.matmul(probs, value))


@pytest.mark.parametrize("pairing", ["halves", "neighbours"])
@pytest.mark.parametrize("rotated", [8, 6])
@pytest.mark.parametrize("per_sequence", [False, True])
@edges.every_rounding
def test_turned_heads_are_the_golden_ones(pairing, rotated, per_sequence, rounding):
    rng = np.random.default_rng(9)
    x = rng.choice([-(2**15), 2**15 - 1, 1, -1, 3, 0], (2, 3, 40, 8)).astype(np.int16)
    shape = (2, 40, rotated // 2) if per_sequence else (40, rotated // 2)
    turns = [2**14, -(2**14), 2**13, -(2**13), 0, 5]
    cos, sin = (rng.choice(turns, shape).astype(np.int16) for _ in range(2))
    constants: Any = {"pairing": pairing, "rounding": rounding}
    y = engine(lambda *values: operators.rotary(*values, **constants), x, cos, sin)
    assert_bit_exact(y, ops.rotary(x, cos, sin, **constants))


@edges.every_rounding
@pytest.mark.parametrize(("to", "zero_points"), [(INT8, (0, 0, 0)), (UINT8, (3, -128, 7)), (INT16, (-128, 127, -5))])
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_gated_codes_are_the_golden_ones(rounding, to, zero_points, dtype):
    rng = np.random.default_rng(10)
    ends = np.iinfo(dtype)
    a = rng.integers(ends.min, ends.max + 1, (40, 6)).astype(dtype)
    a[:4] = rng.choice([ends.min, ends.max], (4, 6))
    b = rng.integers(-128, 128, (40, 6)).astype(np.int8)
    b[4:20] = 2 ** rng.integers(0, 7, (16, 6))  # ties
    constants: Any = dict(zip(("a_zero_point", "b_zero_point", "zero_point"), zero_points, strict=True))
    constants |= {"to": to, "rounding": rounding}
    for ratio in (Dyadic(1, 4), Dyadic(2**30, 40), Dyadic(rng.integers(-(2**30), 2**30, 6), np.full(6, 36))):
        y = engine(lambda a, b, r=ratio: operators.multiply(a, b, r, **constants), a, b)
        assert_bit_exact(y, ops.multiply(a, b, ratio, **constants))


@pytest.mark.parametrize("window", [None, 1, 3])
def test_a_causal_mask_is_made_of_nodes(window):
    mask = np.random.default_rng(11).integers(0, 2, (5, 9)).astype(np.bool_)
    y = engine(lambda mask: operators.causal_mask(mask, 9, window=window), mask)
    assert np.array_equal(y, ops.causal_mask(mask, 9, window=window))


def test_a_causal_mask_of_some_columns_has_no_nodes():
    graph = Graph(longest=9)
    with pytest.raises(IntsimError, match="queries must be all tokens columns to be exported, got 3"):
        operators.causal_mask(graph.input("mask", np.bool_, ("batch", "tokens")), 3)
    seen = operators.causal_mask(graph.input("mask", np.bool_, ("batch", "tokens")), "tokens")
    assert seen.shape == ("batch", 1, "tokens", "tokens")


@pytest.mark.parametrize("operator", [ops.gelu, ops.gelu_tanh, ops.sigmoid, ops.silu, ops.tanh])
@edges.every_preset
def test_a_table_gives_the_function_of_all_its_inputs(operator, profile):
    x = np.arange(INT16.min, INT16.max + 1).astype(np.int16)
    emit = operators.EMITTERS[operator]
    assert_bit_exact(engine(lambda x: emit(x, profile=profile), x), operator(x, profile=profile))
