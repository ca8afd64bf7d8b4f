# SPDX-License-Identifier: Apache-2.0
"""The line between the two worlds: no float computes an integer, and running integers imports no float world."""

import ast
import graphlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from intsim.models import FAMILIES

ROOT: Final = Path(__file__).resolve().parents[1]

# The integer world. Its documented exceptions carry integers by floats, with proofs; blocks.py only calls functions.
ROOMS: Final = sorted((ROOT / "intsim/carrier").glob("*.py"))
INTEGER_WORLD: Final = [
    *sorted((ROOT / "intsim/ops").glob("*.py")),
    *sorted((ROOT / "intsim/models").glob("*.py")),
    *sorted((ROOT / "intsim/kernels").glob("*.py")),
    ROOT / "intsim/fixedpoint.py",
    ROOT / "intsim/float32.py",
    ROOT / "intsim/profile.py",
    ROOT / "intsim/requantization.py",
    ROOT / "intsim/rounded.py",
]

# The turnstile: the functions in which a real scale becomes a dyadic; and the real numbers of a configuration, eps for
# one, which are checked, kept and handed to the other worlds, and from which no integer is computed here.
TURNSTILE: Final = {
    "intsim/fixedpoint.py": {
        "Dyadic.from_real",
        "Dyadic.exactly",
        "Dyadic.aligned",
        "_exponent",
        "_multiplier",
    },
    "intsim/requantization.py": {"Requantization.ratio"},
    "intsim/models/config.py": {"Real", "_check"},
    "intsim/models/bert.py": {"BertConfig.layer_norm_eps"},
    "intsim/models/distilbert.py": {"EPS"},
    "intsim/models/mobilebert.py": {"OTHER_EPS"},
    "intsim/models/decoder.py": {
        "RopeConfig.rope_theta",
        "RopeConfig.partial_rotary_factor",
        "RopeConfig.factor",
        "RopeConfig.low_freq_factor",
        "RopeConfig.high_freq_factor",
        "_real",
    },
    "intsim/models/gpt2.py": {"Gpt2Config.layer_norm_epsilon"},
    "intsim/models/gptj.py": {"GptjConfig.layer_norm_epsilon", "GptjConfig.FIXED"},
    "intsim/models/gpt_neox.py": {"GptNeoxConfig.layer_norm_eps", "GptNeoxConfig.partial_rotary_factor"},
    "intsim/models/llama.py": {"LlamaConfig.rms_norm_eps", "LlamaConfig.FIXED"},
    "intsim/models/gemma.py": {"GemmaConfig.FIXED"},
    "intsim/models/qwen2.py": {"Qwen2Config.FIXED"},
    "intsim/models/opt.py": {"EPS"},
    "intsim/models/world.py": {"World.layer_norm.eps", "World.rms_norm.eps"},
    "intsim/models/outline.py": {"Outline.layer_norm.eps", "Outline.rms_norm.eps"},
    "intsim/models/check.py": {"_Checker.layer_norm.eps", "_Checker.rms_norm.eps"},
    "intsim/models/integers.py": {"IntegerWorld.layer_norm.eps", "IntegerWorld.rms_norm.eps"},
}
RATIONALS: Final = {"intsim/profile.py"}  # where / may stand beside a Fraction(...)

FLOAT_DTYPE: Final = re.compile(
    r"(float|complex)(16|32|64|96|128|256)?|[<>=|]?[fcedgFDG](2|4|8|16)?|half|single|double|longdouble|"
    r"csingle|cdouble|clongdouble|floating|inexact|complexfloating"
)
NUMPY_FLOAT_FUNCTIONS: Final = {
    *("around", "average", "cbrt", "ceil", "cos", "cosh", "divide", "exp", "exp2", "expm1", "fix"),
    *("floor", "frexp", "ldexp", "linspace", "log", "log10", "log1p", "log2", "logspace", "mean", "median", "nanmean"),
    *("percentile", "quantile", "reciprocal", "rint", "round", "sin", "sinh", "sqrt", "std", "tan", "tanh"),
    *("true_divide", "trunc", "var", "inf", "nan", "pi", "e", "euler_gamma", "linalg", "fft", "random"),
}
MATH_INTEGER_FUNCTIONS: Final = {"comb", "factorial", "gcd", "isqrt", "lcm", "perm", "prod"}
FLOAT_METHODS: Final = {"mean", "std", "var", "round", "as_integer_ratio", "hex", "fromhex"}
NUMPY: Final = {"np", "numpy"}


def violations(source: str, path: str = "snippet.py") -> list[str]:
    """Say where a source file of the integer world uses floats: ``path:line what`` for each place."""
    return [f"{path}:{line} {what}" for line, what in _walk(ast.parse(source), path, ())]


def _walk(node: ast.AST, path: str, scope: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                inner = (*scope, name)
            case ast.arg(arg=name) | ast.AnnAssign(target=ast.Name(id=name)):
                inner = (*scope, name)
        if inner != scope and ".".join(inner) in TURNSTILE.get(path, ()):
            continue
        if _is_docstring(child):
            continue
        if (what := _float_use(child, rationals=path in RATIONALS)) is not None:
            yield child.lineno, what
        yield from _walk(child, path, inner)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _float_use(node: ast.AST, *, rationals: bool) -> str | None:
    match node:
        case ast.Constant(value=float() | complex() as value):
            return f"float literal {value}"
        case ast.Constant(value=str() as value) if FLOAT_DTYPE.fullmatch(value):
            return f"float dtype {value!r}"
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            return None if rationals and (_is_fraction(left) or _is_fraction(right)) else "true division"
        case ast.AugAssign(op=ast.Div()):
            return "true division"
        case ast.Name(id="float" | "complex" | "round" as name):
            return f"builtin {name}"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr=name):
            if FLOAT_DTYPE.fullmatch(name) or name in NUMPY_FLOAT_FUNCTIONS:
                return f"numpy.{name}"
        case ast.Attribute(value=ast.Name(id="math" | "cmath"), attr=name) if name not in MATH_INTEGER_FUNCTIONS:
            return f"math.{name}"
        case ast.Attribute(value=ast.Name(id="operator"), attr="truediv" | "itruediv" as name):
            return f"operator.{name}"
        case ast.Attribute(attr=name) if name in FLOAT_METHODS:
            return f"method .{name}"
        case ast.ImportFrom(module=module, names=names):
            banned = [name.name for name in names if _is_banned_import(module or "", name.name)]
            return f"import of {', '.join(banned)} from {module}" if banned else None
        case ast.Import(names=names):
            banned = [
                name.name
                for name in names
                if name.name.partition(".")[0] in {"cmath", "decimal", "scipy", "statistics"}
            ]
            return f"import of {', '.join(banned)}" if banned else None
    return None


def _is_fraction(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_fraction(node.operand)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fraction"


def _is_banned_import(module: str, name: str) -> bool:
    root = module.partition(".")[0]
    if root == "numpy":
        return name in NUMPY_FLOAT_FUNCTIONS or FLOAT_DTYPE.fullmatch(name) is not None or "linalg" in module
    if root == "math":
        return name not in MATH_INTEGER_FUNCTIONS
    return root in {"cmath", "decimal", "scipy", "statistics"} or (root == "operator" and "truediv" in name)


@cache
def imports(path: Path) -> set[str]:
    """Return the modules a file imports anywhere, functions and type checking included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} must use absolute imports"
            found |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


# No floats


@pytest.mark.parametrize("path", INTEGER_WORLD, ids=relative)
def test_no_float_is_used_in_the_integer_world(path):
    assert violations(path.read_text(encoding="utf-8"), relative(path)) == []


def test_the_whole_integer_world_is_walked():
    names = {relative(path) for path in INTEGER_WORLD}
    operators = (
        "add",
        "argmax",
        "embedding",
        "exp",
        "gelu",
        "gelu_tanh",
        "layer_norm",
        "matmul",
        "mean_pooling",
        "relu",
    )
    operators += ("requantize", "rms_norm", "row_shift", "sigmoid", "silu", "softmax", "tabulated", "tanh")
    assert {f"intsim/ops/{operator}.py" for operator in operators} <= names
    worlds = ("world", "outline", "integers", "check", "intervals", "widths", "fused", "constants", "formats")
    families = {f"{family.config.__module__.replace('.', '/')}.py" for family in FAMILIES.values()}
    assert {f"intsim/models/{name}.py" for name in (*worlds, "config", "family", "families", "heads")} <= names
    assert families <= names
    assert len(families) > 5
    assert {"intsim/fixedpoint.py", "intsim/rounded.py"} <= names
    assert "intsim/carrier/exact.py" not in names


def test_every_operator_has_tests_of_its_own():
    means = {"__init__", "tabulated"}
    operators = {path.stem for path in (ROOT / "intsim/ops").glob("*.py")} - means
    assert operators == {path.stem.removeprefix("test_") for path in (ROOT / "tests/ops").glob("test_*.py")}


def test_every_allowance_is_needed(monkeypatch):
    for path, functions in TURNSTILE.items():
        source = (ROOT / path).read_text(encoding="utf-8")
        for function in functions:
            monkeypatch.setitem(TURNSTILE, path, functions - {function})
            assert violations(source, path), f"{function} of {path} uses no float: take it off the list"
    for path in RATIONALS:
        assert violations((ROOT / path).read_text(encoding="utf-8"), "elsewhere.py")


@pytest.mark.parametrize(
    "snippet",
    [
        "x = 0.5",
        "x = 1e3",
        "x = 2j",
        "y = x / 2",
        "x /= 2",
        "y = float(x)",
        "def f(x: float) -> int: ...",
        "y = round(x)",
        "y = x.astype(float)",
        "y = x.astype('float64')",
        "y = x.astype('<f4')",
        "y = x.astype('d')",
        "y = x.astype(np.float32)",
        "y: NDArray[np.floating] = x",
        "y = np.zeros(3, dtype=np.double)",
        "y = np.sqrt(x)",
        "y = np.exp(x)",
        "y = np.rint(x)",
        "y = np.round(x)",
        "y = np.mean(x)",
        "y = np.divide(x, 2)",
        "y = np.true_divide(x, 2)",
        "y = numpy.floor(x)",
        "y = x.mean(axis=-1)",
        "y = x.std()",
        "y = x.var(axis=-1)",
        "y = x.round()",
        "y = math.sqrt(x)",
        "y = math.log2(x)",
        "y = math.inf",
        "y = operator.truediv(x, 2)",
        "from math import sqrt",
        "from numpy import float64",
        "from numpy import isqrt, sqrt",
        "from numpy.linalg import norm",
        "from decimal import Decimal",
        "import scipy.special",
        "y = Fraction(1) / 2",
        "class Dyadic:\n    def from_real(self):\n        return 0.5",
        "def f():\n    def g():\n        return 0.5",
    ],
)
def test_a_violation_is_found(snippet):
    assert len(violations(snippet)) == 1


@pytest.mark.parametrize(
    "snippet",
    [
        "x = 5",
        "y = x // 2 + (x >> 1) % 3",
        '"""A float64 of 0.5 / 2."""',
        "def f():\n    '''float64'''\n    return 1",
        "y = np.abs(x, dtype=np.int64)",
        "y = math.isqrt(5)",
        "from math import isqrt",
        "y = ops.exp(x, profile=profile)",
        "from intsim.ops.exp import exp",
        "y = x.sum(axis=-1).max()",
        "a: str = '0.3585'",
        "y = 'float of the parade'",
    ],
)
def test_integers_are_left_alone(snippet):
    assert violations(snippet) == []


def test_a_quotient_of_fractions_is_let_through_in_the_profile_only():
    for quotient in ("Fraction(a) / Fraction(b)", "2 / Fraction(a)", "-Fraction(a) / 4"):
        assert violations(f"x = {quotient}", "intsim/profile.py") == []
        assert violations(f"x = {quotient}", "intsim/ops/exp.py") != []
    assert violations("x = a / b", "intsim/profile.py") != []
    assert violations("x = 2.0 / Fraction(a)", "intsim/profile.py") != []


def test_the_turnstile_is_open_for_its_own_functions_only():
    inside = "class Dyadic:\n    def from_real(self):\n        return 0.5 / 2"
    assert violations(inside, "intsim/fixedpoint.py") == []
    assert violations(inside, "intsim/ops/exp.py") != []
    assert violations("class Other:\n    def from_real(self):\n        return 0.5", "intsim/fixedpoint.py") != []
    assert violations("def from_real(self):\n    return 0.5", "intsim/fixedpoint.py") != []


@pytest.mark.parametrize("path", ["intsim/models/world.py", "intsim/models/bert.py", "intsim/models/config.py"])
def test_an_allowance_is_of_one_name_only(path):
    for name in TURNSTILE[path]:
        *outer, last = name.split(".")
        inside = "".join(f"{'    ' * i}{'class' if i == 0 else 'def'} {part}:\n" for i, part in enumerate(outer))
        inside = re.sub(r"def (\w+_norm):", r"def \1(eps: float, other: float):", inside)
        body = f"{'    ' * len(outer)}{last}: int = 0.5\n{'    ' * len(outer)}other: int = 0.5"
        found = violations(inside + body, path)
        assert len(found) == (2 if outer[-1:] in (["layer_norm"], ["rms_norm"]) else 1), found


# Imports

# From top to bottom: what is in a room imports of its own room and of those below it.
HOUSE: Final = (
    *(
        "__main__",
        "cli",
        "pytest_plugin",
        "specification",
        "report",
        "testing",
        "verify",
        "_status",
        "convert",
        "reference",
        "integer_model",
    ),
    "generate",
    *("recipes", "io", "models", "_hypothesis", "strategies", "quantizers", "engines", "ops", "profile", "kernels"),
    *("rounded", "requantization", "float32", "_checked", "carrier", "_trace", "fixedpoint", "_progress", "errors"),
)
ENGINES: Final = {"intsim.kernels.onnxruntime", "intsim.kernels.torch"}  # kernels that are made of operators


def house() -> dict[str, set[str]]:
    """Return what every module of intsim imports of it: functions, type checking and lazy registries included.

    The root imports nothing before it is asked for; ``from intsim import ops`` is an import of ``intsim.ops``.
    """
    files = {*(ROOT / "intsim").rglob("*.py")} - {
        *(ROOT / "intsim/reference").rglob("*.py"),
        ROOT / "intsim/__init__.py",
    }
    modules = {relative(path): path for path in files}
    modules |= {f"intsim/{relative(path)}": path for path in (ROOT / "reference").rglob("*.py")}
    named = {name[:-3].replace("/", ".").removesuffix(".__init__"): path for name, path in modules.items()}
    graph: dict[str, set[str]] = {}
    for module, path in named.items():
        found = imports(path)
        graph[module] = (found & named.keys()) - {module}
        package = module.rpartition(".")[0]
        if all(name in named for name in found if name.rpartition(".")[0] == package):
            graph[module].discard(package)  # its siblings, and nothing that the package itself defines
    graph["intsim.models.families"] |= {family.config.__module__ for family in FAMILIES.values()}
    return graph


def room(module: str) -> int:
    """Return how far down the house a module is."""
    return HOUSE.index("engines" if module in ENGINES else module.split(".")[1])


def test_rooms_import_downwards_only():
    graph = house()
    assert {module.split(".")[1] for module in graph} == {*HOUSE, "embedded"} - {"engines"}
    upwards = {
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if module != "intsim.embedded" and room(other) < room(module)
    }
    assert upwards == set()


def test_every_engine_is_made_of_operators():
    graph = house()
    assert {module for module in graph if within(module, "intsim.kernels")} >= ENGINES
    for module in ENGINES:
        assert any(room(other) < HOUSE.index("kernels") for other in graph[module]), module


def test_no_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(house()).prepare()  # raises CycleError
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(house() | {"intsim.errors": {"intsim.fixedpoint", "intsim.models.check"}}).prepare()


def test_the_line_between_the_worlds_is_not_crossed():
    for path in [*INTEGER_WORLD, *ROOMS]:
        for package in ("reference", "convert", "quantizers", "recipes", "report", "cli", "io"):
            foreign = [module for module in imports(path) if within(module, f"intsim.{package}")]
            assert not foreign, f"{relative(path)} imports {foreign}"
    assert not [module for module in imports(ROOT / "intsim/fixedpoint.py") if within(module, "intsim")]


def test_the_integer_world_needs_numpy_and_the_standard_library_only():
    for path in [*INTEGER_WORLD, *ROOMS]:
        roots = {module.partition(".")[0] for module in imports(path)}
        assert roots <= {"numpy", "intsim", *sys.stdlib_module_names}, relative(path)


def test_the_reference_imports_nothing_of_intsim():
    for path in (ROOT / "reference").rglob("*.py"):
        foreign = [module for module in imports(path) if within(module, "intsim")]
        assert all(within(module, "intsim.reference") for module in foreign), relative(path)


def test_the_oracle_shares_nothing_with_what_it_judges():
    for file in ("oracle.py", "oracle_trace.py"):  # safetensors reads the file of a trace
        roots = {module.partition(".")[0] for module in imports(ROOT / "tests" / file)}
        assert roots <= {"oracle", "safetensors", *sys.stdlib_module_names}, file


# Names

OF_A_FAMILY: Final = re.compile(
    r"encoder\.(layer|embedding)|(transformer|bert)\.layer|albert_layer|attention\.(self|output)|"
    r"(intermediate|output|pooler|transform|lm_head|vocab|classifier|head)\.dense|\bpooler\b|lm_head|qa_outputs|"
    r"cls\.predictions|embeddings\.(word|position_emb|token_type_emb|sum|LayerNorm|Layer)|\.LayerNorm\b|bottleneck|"
    r"self_attn|\.attn\b|c_attn|query_key_value|embed_(tokens|in|out)|wte|"
    r"(query|key|value)\.(weight|bias)|[qkv]_lin|out_lin|(?<!residual)\.ffn\b|lin[12]\b|out_proj|vocab_(transform|projector)"
)


def names_of_tensors(source: str) -> list[str]:
    """Return the texts of a source file, docstrings apart, that hold the name of a family's tensor."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if _is_docstring(node)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text.value for text in texts if id(text) not in prose and OF_A_FAMILY.search(text.value)]


def test_only_families_name_tensors():
    files = {*(ROOT / "intsim").rglob("*.py"), *(ROOT / "reference").rglob("*.py")}
    files -= {*(ROOT / "intsim/models").glob("*.py")}
    assert len(files) > 100
    found = {relative(path): names for path in files if (names := names_of_tensors(path.read_text(encoding="utf-8")))}
    assert found == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_name_of_a_familys_tensor_is_found(family):
    source = Path(inspect.getfile(FAMILIES[family].config)).read_text(encoding="utf-8")
    assert names_of_tensors(source) or "return gated(" in source  # or has LLaMA's


@pytest.mark.parametrize(
    "text",
    [
        *(
            "encoder.layer.0",
            ".attention.self.query",
            "intermediate.dense",
            "embeddings.word_embeddings",
            "lm_head.bias",
        ),
        *("transformer.layer.", "albert_layer_groups", "pooler.dense", "qa_outputs", "attention.output.LayerNorm"),
        *(".output.dense", "pooler", "q_lin", "cls.predictions.decoder", "embeddings.sum", "vocab_projector"),
    ],
)
def test_a_name_in_a_text_is_found(text):
    assert names_of_tensors(f"x = name.endswith({text!r})")
    assert names_of_tensors(f"x = f'{text}' + y")
    assert not names_of_tensors(f'"""{text}"""')


def imported_by(program: str, *arguments: str) -> set[str]:
    """Return the top-level modules, and those right below intsim, that a Python program of its own process imports."""
    short = "name.split('.')[0], '.'.join(name.split('.')[:2])"
    report = f"\nimport sys\nprint(*sorted({{n for name in sys.modules for n in ({short})}}), sep=',')"
    done = subprocess.run(
        [sys.executable, "-c", program + report, *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return set(done.stdout.splitlines()[-1].split(","))


def test_importing_intsim_brings_no_heavy_or_float_world_with_it():
    loaded = imported_by("import intsim")
    heavy = {"torch", "transformers", "onnxruntime", "scipy", "hypothesis", "matplotlib", "tokenizers"}
    assert "intsim" in loaded
    assert not loaded & (heavy | {"pytest", "click", "tqdm", "jupytext", "numpy", "safetensors"})
    assert {name for name in loaded if within(name, "intsim")} == {"intsim"}


def test_running_an_integer_model_imports_neither_the_reference_nor_scipy(tiny_bert, tmp_path):
    from intsim import quantize  # noqa: PLC0415 - the float world, kept out of the other tests of this file

    path = tmp_path / "integer"
    quantize(tiny_bert(), calibration=["a good movie .", "the plot is bad ,"]).save(path)
    program = """
import sys
import intsim
model = intsim.load(sys.argv[1])
result = model([[2, 5, 6, 7, 3]])
print(result.values.dtype, result.values.shape)
"""
    loaded = imported_by(program, str(path))
    assert "intsim" in loaded
    assert not loaded & {
        "intsim.reference",
        "scipy",
        "torch",
        "transformers",
        "onnxruntime",
        "hypothesis",
        "tokenizers",
    }
