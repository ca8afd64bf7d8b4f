# SPDX-License-Identifier: Apache-2.0
"""The registry: ``model_type`` of a config.json -> the family."""

from typing import Final

from intsim.models.bert import BERT
from intsim.models.family import Family

__all__ = ["FAMILIES"]

FAMILIES: Final[dict[str, Family]] = {
    "bert": BERT,
}
