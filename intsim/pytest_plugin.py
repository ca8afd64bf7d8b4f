# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: what was tested against, in the header, and ``assert_bit_exact`` as a fixture.

pytest loads it wherever intsim is installed, in suites that never heard of intsim too. So it imports neither intsim nor
NumPy before a test asks for them, and says nothing about profiles unless the suite has imported them.
"""

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import pytest

__all__ = ["assert_bit_exact"]

HASH_DIGITS: Final = 12
hashes_shown: Final = pytest.StashKey[bool]()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the versions, and the profiles if conftest.py has imported them."""
    profiles = _profiles()
    config.stash[hashes_shown] = bool(profiles)
    return [f"intsim: {_version('intsim')}, numpy {_version('numpy')}", *profiles]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Name the profiles if a test module has imported them."""
    return [] if config.stash.get(hashes_shown, False) or config.get_verbosity() < 0 else _profiles()


@pytest.fixture
def assert_bit_exact(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``intsim.testing.assert_bit_exact``, its messages naming the test unless a ``name`` is given."""
    from intsim import testing  # noqa: PLC0415 - not before a test needs it

    def assert_bit_exact(actual: object, expected: object, *, name: str = request.node.name) -> None:
        __tracebackhide__ = True
        testing.assert_bit_exact(actual, expected, name=name)

    return assert_bit_exact


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _profiles() -> list[str]:
    """Return the line that names the presets by their hashes, or none if they have not been imported."""
    module = sys.modules.get("intsim.profile")
    if module is None:
        return []
    presets = [f"{profile.name} {profile.hash[:HASH_DIGITS]}" for profile in module.PROFILES.values()]
    return [f"intsim profiles: {', '.join(presets)}"]
