# SPDX-License-Identifier: Apache-2.0
"""The exported C, compiled and run: its integers are the golden model's, and nothing in it is undefined."""

import ctypes
import dataclasses
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import c_programs
import edges
import families
import numpy as np
import pytest
from c_programs import SANITIZED, assert_same, compiled, drawn, integers, library, program
from click.testing import CliRunner
from family_runs import DISTINCT, GROUPED
from numpy.typing import NDArray

import intsim
from intsim import ops
from intsim.cli import cli
from intsim.errors import IntsimError
from intsim.fixedpoint import INT8, INT32, UINT8, Dyadic, IntRange
from intsim.integer_model import IntegerModel
from intsim.io import c as exporter
from intsim.io.c.program import SNIPPETS, functions, words
from intsim.io.c.rules import defines
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.kernels.rules import LitertSoftmax
from intsim.profile import IBERT, INTSIM, INTSIM_WIDE, PROFILES, Profile
from intsim.recipes import recipe_names
from intsim.report.evaluate import read_task
from intsim.requantization import RULES
from intsim.testing import assert_bit_exact

ROOT: Final = Path(__file__).parents[2]
SENTENCES: Final = (ROOT / "intsim" / "convert" / "calibration.txt").read_text(encoding="utf-8").splitlines()
CALIBRATION: Final = ("a good movie .", "the plot is not bad , not good", "is the movie good\tthe movie is bad")
RECIPES: Final = [*recipe_names(), "peg:groups=4,permutation=none", "tm-iqr:everywhere=tm-iqr"]
RULED: Final = {
    f"{rule.name}-rule": dataclasses.replace(INTSIM, name=f"{rule.name}-rule", requantization=rule)
    for rule in RULES.values()
}
ALL_ACCUMULATORS: Final = "INTSIM_ALL_ACCUMULATORS"


@pytest.fixture(scope="module")
def embedded() -> IntegerModel:
    return intsim.load(Path(str(resources.files("intsim.embedded"))))


@pytest.fixture(scope="module")
def stories() -> IntegerModel:
    return intsim.load(Path(str(resources.files("intsim.embedded") / "stories")))


@pytest.fixture(scope="module")
def tiny(tiny_bert: Any) -> Path:
    return tiny_bert()


@pytest.fixture
def in_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let weights of any size go into weights.bin: compilers take seconds for a million numbers."""
    monkeypatch.setattr(exporter, "MAX_INLINE", 0)


def encoded(model: IntegerModel, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of texts, of pairs those of the first."""
    tokenizer = parse_tokenizer(model.tokenizer or "")
    longest = model.config.longest
    return [list(encode(tokenizer, text.partition("\t")[0], longest=longest, truncate=True).ids) for text in texts]


def a_hundred(model: IntegerModel) -> list[list[int]]:
    """Return a hundred sentences, some of them two in one."""
    doubled = [f"{a} {b}" for a, b in itertools.pairwise(SENTENCES)]
    texts = encoded(model, [*SENTENCES, *doubled][:100])
    assert len(texts) == 100
    return texts


# ---- models


def test_the_program_of_the_embedded_classifier_prints_its_integers(embedded, tmp_path):
    path = program(embedded, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "model.c", "model.h"]
    assert_same(embedded, path, [*a_hundred(embedded), *drawn(embedded, 20)])


@pytest.mark.usefixtures("in_file")
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_the_integers_of_the_golden_model(tmp_path, recipe):
    path = ROOT / "tests" / "data" / "embedded-float"
    model = intsim.quantize(path, recipe=recipe, calibration=SENTENCES[:8])
    assert_same(model, program(model, tmp_path), [*a_hundred(model)[::8], *drawn(model, 5)])


PROFILED: Final = {profile.name: profile for profile in (*PROFILES.values(), *edges.TURNED)}


@pytest.mark.parametrize("profile", PROFILED.values(), ids=PROFILED)
def test_every_profile_gives_the_integers_of_the_golden_model(tiny, tmp_path, profile):
    model = intsim.quantize(tiny, profile=profile, calibration=CALIBRATION)
    assert_same(model, program(model, tmp_path, "-O0", *SANITIZED), drawn(model, 20))


@pytest.mark.slow
@pytest.mark.parametrize("profile", [*edges.CROSSED, *RULED.values()], ids=lambda profile: profile.name)
def test_every_rule_and_rounding_gives_the_integers_of_the_golden_model(tiny, tmp_path, profile):
    model = intsim.quantize(tiny, profile=profile, calibration=CALIBRATION)
    assert_same(model, program(model, tmp_path, "-O0"), drawn(model, 20))


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_groups_and_zero_points_everywhere_give_the_integers_of_the_golden_model(tmp_path, family, profile):
    families.tiny(family, "two-classes", tmp_path / "float")
    (tmp_path / "grouped.toml").write_text(GROUPED, encoding="utf-8")
    calibration = families.calibration(family)
    model = intsim.quantize(
        tmp_path / "float", recipe=tmp_path / "grouped.toml", profile=profile, calibration=calibration
    )
    path = program(model, tmp_path / "c", "-O0", *SANITIZED)
    assert {"matmul_group", "centre"} <= {*words((tmp_path / "c" / "model.c").read_text())}
    assert_same(model, path, drawn(model, 20))


@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_groups_of_channels_read_by_token_give_the_integers_of_the_golden_model(tmp_path, family, profile):
    families.tiny(family, "two-classes", tmp_path / "float")
    preset = (resources.files("intsim.recipes") / "zeroquant.toml").read_text(encoding="utf-8")
    recipe = tmp_path / "grouped.toml"
    recipe.write_text(preset.replace('groups = "$groups"', 'groups = 3\naxis = "input"'), encoding="utf-8")
    calibration = families.calibration(family)
    model = intsim.quantize(tmp_path / "float", recipe=recipe, profile=profile, calibration=calibration)
    assert any(name.endswith(".acc.multiplier") for name in model.tensors)
    assert_same(model, program(model, tmp_path / "c", "-O0", *SANITIZED), drawn(model, 20))


FAST: Final = {(family, "two-classes") for family in DISTINCT} | {
    ("bert", "none"),
    ("bert", "masked-lm"),
    ("mobilebert", "token-classification"),
    ("llama", "causal-lm-tied"),
    ("gptj", "causal-lm"),
}
LIKE_ANOTHER: Final = {"regression", "three-classes", "multi-label", "question-answering"}  # but for the number of rows
HEADS: Final = [
    pytest.param(family, head, marks=() if (family, head) in FAST else pytest.mark.slow)
    for family in families.FAMILIES
    for head in families.heads(family)
    if head not in LIKE_ANOTHER
]


@pytest.mark.parametrize(("family", "head"), HEADS)
def test_every_family_and_head_gives_the_integers_of_the_golden_model(tmp_path, family, head):
    families.tiny(family, head, tmp_path / "float")
    model = intsim.quantize(tmp_path / "float", calibration=families.calibration(family))
    assert_same(model, program(model, tmp_path / "c", "-O0", *SANITIZED), drawn(model, 10))


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "profile"), [("zeroquant", "intsim-wide"), ("tm-iqr", "ibert"), ("peg", "ivit")])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_gives_the_integers_of_other_recipes_and_profiles(tmp_path, family, recipe, profile):
    families.tiny(family, families.head_like(family, "masked-lm"), tmp_path / "float")
    calibration = families.calibration(family)
    if family in ("llama", "mistral", "qwen2", "gemma") and profile == "ivit":
        profile = "intsim"  # no RMSNorm there
    model = intsim.quantize(tmp_path / "float", recipe=recipe, profile=profile, calibration=calibration)
    assert_same(model, program(model, tmp_path / "c", "-O0", *SANITIZED), drawn(model, 10))


FINER: Final = dataclasses.replace(INTSIM, silu=dataclasses.replace(INTSIM.silu, input_fraction=13))  # than exp


@pytest.mark.parametrize(
    ("function", "profile"),
    [
        ("relu", INTSIM),
        ("silu", INTSIM),
        ("silu", INTSIM_WIDE),
        ("silu", FINER),
        ("silu", dataclasses.replace(INTSIM_WIDE, silu=INTSIM.silu)),
        ("quick_gelu", INTSIM),
        ("gelu_new", INTSIM),
        ("gelu_new", INTSIM_WIDE),
    ],
)
def test_every_function_gives_the_integers_of_the_golden_model(tiny_bert, tmp_path, function, profile):
    model = intsim.quantize(tiny_bert(hidden_act=function), profile=profile, calibration=CALIBRATION)
    assert_same(model, program(model, tmp_path, "-O0", *SANITIZED), drawn(model, 10))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_of_sentences_are_those_of_the_golden_model(tiny_bert, tmp_path, pooling, normalize):
    folder = tiny_bert(labels=None)
    kinds = ["Transformer", "Pooling", *["Normalize"] * normalize]
    modules = ", ".join(
        f'{{"idx": {i}, "name": "{i}", "path": "{i}" , "type": "sentence_transformers.models.{kind}"}}'
        for i, kind in enumerate(kinds)
    )
    (folder / "modules.json").write_text(f"[{modules}]".replace('"path": "0"', '"path": ""'))
    (folder / "1").mkdir()
    mode = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}[pooling]
    (folder / "1" / "config.json").write_text(f'{{"word_embedding_dimension": 16, "pooling_mode_{mode}": true}}')
    model = intsim.quantize(folder, head="sentence-embedding", calibration=CALIBRATION)
    assert (model.config.pooling, model.config.normalize) == (pooling, normalize)
    assert_same(model, program(model, tmp_path, "-O0", *SANITIZED), drawn(model, 10))


def test_a_permuted_encoder_gives_its_channels_in_their_order(tiny_bert, tmp_path):
    model = intsim.quantize(tiny_bert(labels=None), recipe="peg:groups=4", calibration=CALIBRATION)
    path = program(model, tmp_path)
    assert "permute" in words((tmp_path / "model.c").read_text())
    assert_same(model, path, drawn(model, 10))


# ---- decoders


def test_the_stories_model_reads_token_by_token_as_the_golden_model_does(stories, tmp_path):
    step, start = library(stories, tmp_path).model_step, ctypes.CDLL(str(tmp_path / "model.so")).model_start
    rng = np.random.default_rng(5)
    values = np.empty(512, np.int32)
    for length in (1, 40, stories.config.longest):
        start()
        ids = rng.integers(0, 512, length)
        for at, expected in enumerate(stories([ids]).values[0]):
            assert step(int(ids[at]), values.ctypes.data_as(ctypes.c_void_p)) == 512
            assert_bit_exact(values, expected, name=f"token {at} of {length}")
    assert step(3, values.ctypes.data_as(ctypes.c_void_p)) == -1  # no token more than there are positions
    start()
    assert step(512, values.ctypes.data_as(ctypes.c_void_p)) == -1
    assert step(-1, values.ctypes.data_as(ctypes.c_void_p)) == -1
    assert step(3, values.ctypes.data_as(ctypes.c_void_p)) == 512


def test_the_program_of_the_stories_model_prints_the_last_logits_of_each_line(stories, tmp_path):
    texts = [[1], [1, 403, 407], drawn(stories, 1)[2], [1, 403]]
    assert_same(stories, program(stories, tmp_path, "-O0", *SANITIZED), texts)


def test_a_decoder_whose_ranges_are_of_a_text_is_one_function_of_all_its_tokens(tmp_path):
    families.tiny("llama", "causal-lm", tmp_path / "float")
    model = intsim.quantize(tmp_path / "float", recipe="tm-iqr", calibration=families.calibration("llama"))
    path = program(model, tmp_path / "c", "-O0", *SANITIZED)
    assert "model_run" in words((tmp_path / "c" / "model.h").read_text())
    assert_same(model, path, drawn(model, 10))


# ---- the files


def test_the_source_holds_no_float_and_what_it_uses_alone(embedded, stories, tmp_path):
    for model, absent in ((embedded, "rms_norm"), (stories, "layer_norm")):
        exporter.export(model, tmp_path)
        text = (tmp_path / "model.c").read_text()
        assert not {"float", "double", "malloc", "calloc", "math", "goto"} & {*words(text)}
        assert not re.search(r"\d\.\d", re.sub(r'/\*.*?\*/|"[^"]*"', "", text, flags=re.DOTALL))
        assert absent not in words(text)
        assert max(map(len, text.splitlines())) <= 120


def test_what_is_written_is_the_same_each_time(embedded, tmp_path):
    written = []
    for _ in range(2):
        files = exporter.export(embedded, tmp_path)
        written.append([(tmp_path / name).read_bytes() for name in ("model.h", "model.c")])
        assert files == ["model.h", "model.c"]
    assert written[0] == written[1]


def test_all_functions_compile_together(tmp_path):
    macros = {name: text for profile in PROFILES.values() for name, text in defines(profile).items()}
    macros |= {"kept": "int8_t"}
    defined, text = functions(set(SNIPPETS), macros)
    assert {*SNIPPETS} <= {*words(text)}
    includes = "".join(f"#include <{header}.h>\n" for header in ("stddef", "stdint", "stdio", "stdlib", "string"))
    given = "#define MODEL_LONGEST 40\n#define MODEL_VOCABULARY 9\nint load(const char *path);\n"
    given += "#define model_load load\nstatic const int32_t exp_table[1] = {1}, sigmoid_table[1] = {1};\n"
    (tmp_path / "all.c").write_text(f"{includes}{given}{defined}\n{text}")
    compiled(tmp_path / "all.c", tmp_path / "all.o", "-c", "-O1", "-Wno-unused-function", "-Wno-unused-variable")


@pytest.mark.usefixtures("in_file")
def test_weights_of_another_model_are_refused(tiny_bert, tmp_path):
    models = [intsim.quantize(tiny_bert(seed=seed), calibration=CALIBRATION) for seed in (1, 2)]
    paths = [program(model, tmp_path / str(i)) for i, model in enumerate(models)]
    (tmp_path / "short.bin").write_bytes((tmp_path / "0" / "weights.bin").read_bytes()[:-1])
    (tmp_path / "long.bin").write_bytes((tmp_path / "0" / "weights.bin").read_bytes() + b"\0")
    for name in ("1/weights.bin", "short.bin", "long.bin", "none.bin"):
        done = subprocess.run([paths[0], tmp_path / name], input="1\n", check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"{tmp_path / name} must be the weights of this model, written with it; name the file as argument\n"
        )
    done = subprocess.run(
        ["./model", tmp_path / "0" / "weights.bin"],
        cwd=tmp_path / "0",
        input="1 2\n",
        check=True,
        capture_output=True,
        text=True,
    )
    assert_bit_exact(np.array(done.stdout.split(), np.int64), integers(models[0], [1, 2]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2\nfoo\n", "line 2 must hold token ids, decimal numbers separated by spaces"),
        ("1 -2\n", "line 1 must hold token ids, decimal numbers separated by spaces"),
        ("12a\n", "line 1 must hold token ids, decimal numbers separated by spaces"),
        ("1\n\n2\n", "line 2 must hold at least one token id"),
        ("66\n", "line 1 must hold token ids below MODEL_VOCABULARY, see model.h"),
        ("99999999999999999999999999\n", "line 1 must hold token ids below MODEL_VOCABULARY, see model.h"),
        ("1 " * 33, "line 1 must hold at most MODEL_LONGEST token ids, see model.h"),
    ],
)
def test_bad_input_gets_a_sentence(tiny, tmp_path_factory, text, said):
    folder = tmp_path_factory.getbasetemp() / "bad-input"
    model = intsim.quantize(tiny, calibration=CALIBRATION)
    if not (folder / "model").exists():
        program(model, folder, "-O0", *SANITIZED)
    assert (model.config.vocab_size, model.config.longest) == (66, 32)
    done = subprocess.run([folder / "model"], input=text, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, f"{said}\n")


def test_a_program_with_its_weights_inside_takes_no_arguments(tiny, tmp_path):
    path = program(intsim.quantize(tiny, calibration=CALIBRATION), tmp_path, "-O0")
    done = subprocess.run([path, "weights.bin"], input="1\n", check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{path} takes no arguments: token ids come from the standard input\n"


def test_what_a_library_refuses(tiny, tmp_path):
    model = intsim.quantize(tiny, calibration=CALIBRATION)
    run, values = library(model, tmp_path).model_run, (ctypes.c_int32 * 2)()

    def status(ids: list[int], types: list[int], tokens: int | None = None) -> int:
        count = len(ids) if tokens is None else tokens
        return run((ctypes.c_int32 * 40)(*ids), (ctypes.c_int32 * 40)(*types), count, values)

    assert status([5, 6], [0, 1]) == 2
    expected = model([[5, 6]], token_type_ids=[[0, 1]]).values[0]
    assert_bit_exact(np.array(values, np.int64), expected.astype(np.int64))
    assert [status([5, 66], [0, 0]), status([5, -1], [0, 0]), status([5], [2]), status([5], [-1])] == [-1] * 4
    assert [status([5] * 33, [0] * 33), status([5], [0], 0), status([5], [0], -3)] == [-1] * 3


def test_a_rule_without_a_function_is_refused_by_a_sentence(tiny, tmp_path):
    profile = dataclasses.replace(INTSIM, name="other", softmax=LitertSoftmax(input_fraction=4))
    model = intsim.quantize(tiny, profile=profile, calibration=CALIBRATION)
    rule = r"softmax of 'encoder.layer.0.attention.self.probs' must follow one of .* exported as C, got LitertSoftmax"
    with pytest.raises(IntsimError, match=rule):
        exporter.export(model, tmp_path / "c")
    assert not (tmp_path / "c" / "model.c").exists()
    model.save(tmp_path / "model")
    done = CliRunner().invoke(cli, ["export", str(tmp_path / "model"), "--c", str(tmp_path / "c")])
    assert re.search(rule, str(done.exception))


def test_the_command_writes_what_compiles_as_its_help_says(tiny, tmp_path):
    model = intsim.quantize(tiny, calibration=CALIBRATION)
    model.save(tmp_path / "model")
    done = CliRunner().invoke(cli, ["export", str(tmp_path / "model"), "--c", str(tmp_path / "out")])
    assert (done.exit_code, done.stdout) == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.c", "model.h", "constants.h"}
    command = [c_programs.compiler(), "-std=c99", "-O2", "out/model.c", "-o", "model.out"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert_same(model, tmp_path / "model.out", [[2, 14, 7, 3]])


@pytest.mark.parametrize("options", [(), ("--c", "a", "--onnx", "b")])
def test_the_command_wants_one_thing_to_write(tmp_path, options):
    done = CliRunner().invoke(cli, ["export", str(tmp_path), *options])
    assert done.exit_code == 2


def test_a_file_of_somebody_else_is_left_alone(embedded, tmp_path):
    (tmp_path / "model.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(IntsimError, match="must be new, empty or C that intsim wrote to be written"):
        exporter.export(embedded, tmp_path)
    assert (tmp_path / "model.c").read_text() == "int main(void) { return 0; }\n"
    assert not (tmp_path / "model.h").exists()


# ---- requantization


def exported_rule(profile: Profile, folder: Path) -> Any:
    """Return the requantization of a profile, as its models export it, over an array."""
    defined, text = functions({"REQUANTIZED"}, defines(profile))
    (folder / "rule.c").write_text(
        f"""#include <stddef.h>
#include <stdint.h>
{defined}
{text}
void requantize_all(int32_t *y, const int64_t *acc, int64_t count, int32_t multiplier, int32_t shift, int64_t addend,
                    int32_t zero_point, int32_t low, int32_t high);
void requantize_all(int32_t *y, const int64_t *acc, int64_t count, int32_t multiplier, int32_t shift, int64_t addend,
                    int32_t zero_point, int32_t low, int32_t high)
{{
    for (int64_t i = 0; i < count; i++)
        y[i] = REQUANTIZED(acc[i], multiplier, shift, addend, zero_point, low, high);
}}
"""
    )
    function = ctypes.CDLL(str(compiled(folder / "rule.c", folder / "rule.so", "-O2", "-shared", "-fPIC")))
    requantize_all = function.requantize_all
    requantize_all.restype = None

    def run(acc: NDArray[np.int64], multiplier: int, shift: int, zero_point: int, to: IntRange) -> NDArray[np.int32]:
        y = np.empty(acc.shape, np.int32)
        arguments = map(ctypes.c_int32, (multiplier, shift))
        rest = map(ctypes.c_int32, (zero_point, to.min, to.max))
        places = (y.ctypes.data_as(ctypes.c_void_p), acc.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(acc.size))
        requantize_all(*places, *arguments, ctypes.c_int64(0), *rest)
        return y

    return run


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_is_the_operators_at_ties_and_edges(tmp_path, rule):
    run = exported_rule(dataclasses.replace(INTSIM, requantization=rule), tmp_path)
    rng = np.random.default_rng(3)
    largest = (1 << rule.multiplier_bits) - 1
    for multiplier in (1, 2, 64, largest, 1 << rule.multiplier_bits - 1, *rng.integers(1, largest, 20).tolist()):
        for shift in (0, 1, 6, 30, 31, 32, 45, 62):
            near = [((2 * k + 1) << max(shift - 1, 0)) // multiplier for k in range(-40, 40)]
            inside = [x + step for x in near for step in (-1, 0, 1) if INT32.min < x < INT32.max]
            acc = np.array(inside + edges.edge_table(INT32.min, INT32.max))
            for zero_point, to in ((0, INT8), (3, UINT8), (-7, IntRange(16)), (0, INT32)):
                expected = ops.requantize(acc, Dyadic(multiplier, shift), to=to, rounding=rule, zero_point=zero_point)
                found = run(acc, multiplier, shift, zero_point, to)
                assert_bit_exact(found, expected.astype(np.int32), name=f"{multiplier} / 2**{shift}")


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get(ALL_ACCUMULATORS) != "1", reason=f"takes minutes: {ALL_ACCUMULATORS}=1 pytest -m slow {__file__}"
)
@pytest.mark.parametrize("profile", [INTSIM, IBERT], ids=lambda profile: profile.name)
def test_requantize_of_every_accumulator_of_a_channel_is_the_operators(embedded, tmp_path, profile):
    run = exported_rule(profile, tmp_path)
    ratio = embedded.ratio("encoder.layer.0.attention.self.query")
    multiplier, shift = int(ratio.multiplier[0]), int(ratio.shift[0])
    size = 1 << 20
    for start in range(INT32.min, INT32.max + 1, size):
        acc = np.arange(start, start + size)
        expected = ops.requantize(acc, Dyadic(multiplier, shift), to=INT8, rounding=profile.requantization)
        assert np.array_equal(run(acc, multiplier, shift, 0, INT8), expected), start


# ---- the real thing


@pytest.mark.slow
def test_the_embedded_classifier_is_equal_on_all_of_sst2(embedded, shared, tmp_path):
    examples = read_task("sst2", shared / "data" / "SST-2" / "dev.tsv")
    assert len(examples) == 872
    texts = encoded(embedded, [example.texts[0] for example in examples])
    assert_same(embedded, program(embedded, tmp_path, "-O2"), texts)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["intsim", "ibert", "zeroquant"])
def test_minilm_is_equal_on_sentences(minilm, shared, tmp_path, recipe):
    dev = read_task("stsb", shared / "data" / "STS-B" / "sts-dev.csv")
    train = read_task("stsb", shared / "data" / "STS-B" / "sts-train.csv")
    model = intsim.quantize(minilm, recipe=recipe, calibration=[example.texts[0] for example in train[:64]])
    path = program(model, tmp_path, "-O2")
    assert (tmp_path / "weights.bin").stat().st_size > 1 << 24
    texts = encoded(model, [example.texts[0] for example in dev[:50]])
    assert_same(model, path, texts)


BENCH: Final = """
module bench;
    import "DPI-C" function int model_run(input int input_ids[{longest}], input int token_type_ids[{longest}],
                                          input int tokens, output int values[{values}]);
    import "DPI-C" function int model_requantize(input longint acc, input int multiplier, input int shift,
                                                 input longint addend, input int zero_point, input int low,
                                                 input int high);
    int input_ids[{longest}], token_type_ids[{longest}], values[{values}], count;
    initial begin
        {ids}
        count = model_run(input_ids, token_type_ids, {tokens}, values);
        for (int i = 0; i < count; i++) $display("%0d", values[i]);
        $display("%0d", model_requantize(-64'd3, 1, 1, 0, 0, -128, 127));
        $finish;
    end
endmodule
"""


@pytest.mark.slow
def test_a_simulator_calls_the_model_by_dpi(tiny, tmp_path):
    verilator = shutil.which("verilator")
    if verilator is None:
        pytest.skip("needs verilator")
    model = intsim.quantize(tiny, calibration=CALIBRATION)
    exporter.export(model, tmp_path)
    text = [2, 14, 7, 3]
    ids = " ".join(f"input_ids[{i}] = {token};" for i, token in enumerate(text))
    bench = BENCH.format(longest=model.config.longest, values=2, ids=ids, tokens=len(text))
    (tmp_path / "bench.sv").write_text(bench)
    options = ["--binary", "-Wno-fatal", "-CFLAGS", "-DMODEL_NO_MAIN", "--top-module", "bench"]
    subprocess.run(
        [verilator, *options, "bench.sv", "model.c"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    done = subprocess.run([tmp_path / "obj_dir" / "Vbench"], check=True, capture_output=True, text=True)
    found = [int(line) for line in done.stdout.splitlines() if re.fullmatch(r"-?\d+", line)]
    assert found == [*integers(model, text).tolist(), -1]
