# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import intsim
from intsim import PROFILES

pytest_plugins = "pytester"

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ("-p", "no:intsim", "-p", "intsim.pytest_plugin")  # once, installed or not
INTSIM_USER = """
    import numpy as np
    from intsim import PROFILES

    def test_equal(assert_bit_exact):
        assert_bit_exact(np.array([1], np.int8), [1])
"""


@pytest.fixture(autouse=True)
def this_intsim_in_other_folders(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(intsim.__file__).parents[1]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # what else is installed here is not asked


def run(pytester, *options):
    return pytester.runpytest_subprocess(*PLUGIN, "-p", "no:cacheprovider", "-W", "error", *options)


def test_the_header_names_the_versions(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines([r"intsim: \S.*, numpy \d+\.\d+"])


def test_the_profiles_are_not_named_where_nothing_uses_them(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    run(pytester).stdout.no_fnmatch_line("intsim profiles*")


@pytest.mark.parametrize("importer", ["conftest", "module"])
def test_the_profiles_are_named_once_where_the_suite_uses_them(pytester, importer):
    pytester.makepyfile(INTSIM_USER)
    if importer == "conftest":
        pytester.makeconftest("import intsim.profile")
    result = run(pytester)
    result.assert_outcomes(passed=1)
    lines = [line for line in result.outlines if line.startswith("intsim profiles")]
    expected = ", ".join(f"{profile.name} {profile.hash[:12]}" for profile in PROFILES.values())
    assert lines == [f"intsim profiles: {expected}"]


def test_quiet_is_quiet(pytester):
    pytester.makepyfile(INTSIM_USER)
    run(pytester, "-q").stdout.no_fnmatch_line("intsim*:*")


def test_the_fixture_names_the_test_and_hides_its_own_frames(pytester):
    pytester.makepyfile(
        """
        import numpy as np
        import pytest

        @pytest.mark.parametrize("layer", [3])
        def test_requant(layer, assert_bit_exact):
            assert_bit_exact(np.array([4], np.int8), np.array([-125], np.int8))

        def test_named(assert_bit_exact):
            assert_bit_exact([4], [5], name="mine")
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: test_requant[[]3[]]: 1 of 1 elements differ (100.00%), max |diff| 129 LSB",
            "E *        index   actual expected   diff  hex",
            "E *         (0,)        4     -125   +129  04 != 83",
            "E * AssertionError: mine: 1 of 1 elements differ*",
        ]
    )
    result.stdout.no_fnmatch_line("*raise AssertionError*")
    result.stdout.no_fnmatch_line("*testing.assert_bit_exact(actual*")


def test_the_plugin_imports_nothing_heavy(pytester):
    """The plugin's own file, with the package around it left out: what it adds to the start of any pytest run."""
    program = f"""
import sys, types
package = types.ModuleType("intsim")
package.__path__ = [{str(Path(intsim.__file__).parent)!r}]
sys.modules["intsim"] = package
import pytest
import intsim.pytest_plugin
sys.exit(pytest.main(["-p", "no:intsim", "-p", "intsim.pytest_plugin", "--collect-only"]))
"""
    pytester.makepyfile(
        """
        import sys

        def pytest_generate_tests(metafunc):
            heavy = {"numpy", "hypothesis", "safetensors", "scipy", "intsim.profile", "intsim.testing"}
            assert not heavy & set(sys.modules)

        def test_nothing(): pass
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=pytester.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_importing_the_plugin_does_not_import_numpy():
    program = "import sys, intsim.pytest_plugin; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_it_runs_beside_importlib_mode_and_strict_options(pytester):
    pytester.makepyfile(INTSIM_USER)
    run(pytester, "--import-mode=importlib", "--strict-markers", "--strict-config").assert_outcomes(passed=1)


def test_it_runs_beside_xdist(pytester):
    pytest.importorskip("xdist")
    pytester.makepyfile(INTSIM_USER)
    run(pytester, "-p", "xdist", "--numprocesses", "1").assert_outcomes(passed=1)


def test_the_entry_points_name_what_there_is():
    with (ROOT / "pyproject.toml").open("rb") as file:
        entry_points = tomllib.load(file)["project"]["entry-points"]
    assert entry_points["pytest11"] == {"intsim": "intsim.pytest_plugin"}
    module, _, function = entry_points["hypothesis"]["intsim"].partition(":")
    assert callable(getattr(import_module(module), function))
