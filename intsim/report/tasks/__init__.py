# SPDX-License-Identifier: Apache-2.0
"""The tasks of ``intsim eval``, a file for each kind: how its data are read, asked of a model, and scored."""

from typing import Final, Literal, TypeAlias

__all__ = ["GLUE", "TASKS", "GlueTask", "Task"]

GlueTask: TypeAlias = Literal["sst2", "cola", "stsb", "mrpc", "qqp", "mnli", "qnli", "rte"]
Task: TypeAlias = Literal[GlueTask, "squad", "ner", "mlm", "perplexity", "lambada"]

GLUE: Final[tuple[GlueTask, ...]] = ("sst2", "cola", "stsb", "mrpc", "qqp", "mnli", "qnli", "rte")
TASKS: Final[tuple[Task, ...]] = (*GLUE, "squad", "ner", "mlm", "perplexity", "lambada")
