# SPDX-License-Identifier: Apache-2.0
"""The registry: ``model_type`` of a config.json -> the family."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from intsim.models.family import Family

__all__ = ["FAMILIES"]


class _Registry(Mapping[str, Family]):
    """Families, each imported when it is first asked for."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, model_type: str) -> Family:
        module, name = self._places[model_type].split(".")
        return getattr(import_module(f"intsim.models.{module}"), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


FAMILIES: Final[Mapping[str, Family]] = _Registry(
    {
        "albert": "albert.ALBERT",
        "bert": "bert.BERT",
        "camembert": "roberta.CAMEMBERT",
        "distilbert": "distilbert.DISTILBERT",
        "electra": "electra.ELECTRA",
        "ibert": "roberta.IBERT",
        "gemma": "gemma.GEMMA",
        "gpt2": "gpt2.GPT2",
        "gpt_neox": "gpt_neox.GPT_NEOX",
        "gptj": "gptj.GPTJ",
        "llama": "llama.LLAMA",
        "mistral": "mistral.MISTRAL",
        "mobilebert": "mobilebert.MOBILEBERT",
        "opt": "opt.OPT",
        "qwen2": "qwen2.QWEN2",
        "roberta": "roberta.ROBERTA",
        "xlm-roberta": "roberta.XLM_ROBERTA",
    }
)
