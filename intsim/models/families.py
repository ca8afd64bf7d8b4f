# SPDX-License-Identifier: Apache-2.0
"""The registry: ``model_type`` of a config.json -> the family."""

from typing import Final

from intsim.models.albert import ALBERT
from intsim.models.bert import BERT
from intsim.models.distilbert import DISTILBERT
from intsim.models.electra import ELECTRA
from intsim.models.family import Family
from intsim.models.mobilebert import MOBILEBERT
from intsim.models.roberta import CAMEMBERT, IBERT, ROBERTA, XLM_ROBERTA

__all__ = ["FAMILIES"]

FAMILIES: Final[dict[str, Family]] = {
    "albert": ALBERT,
    "bert": BERT,
    "camembert": CAMEMBERT,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "ibert": IBERT,
    "mobilebert": MOBILEBERT,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
}
