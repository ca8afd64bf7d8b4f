# SPDX-License-Identifier: Apache-2.0
"""Kinds of files of text: token ids, and the data of tasks in each layout."""

import json
from collections.abc import Mapping
from typing import Any, Final

from fuzz import seeds
from fuzz.checkpoints import saved
from fuzz.edits import Files, dumps
from fuzz.kind import Kind

from intsim.io.integer_checkpoint import FILE

CLASSIFIER: Final = "bert sequence-classification intsim"
DECODER: Final = "llama causal-lm intsim"
PAIRS: Final = "sentence1\tsentence2\tlabel\na b\tc\tentailment\nd e\tf g\tnot_entailment\n"
QUESTIONS: Final = """{"data": [{"title": "t", "paragraphs": [{"context": "a b c d e f g", "qas": [
{"id": "1", "question": "h i", "answers": [{"text": "c", "answer_start": 4}]}]}]}]}"""
TASKS: Final[Mapping[str, tuple[str, Any]]] = {  # the model that can be asked, and data
    "sst2": (CLASSIFIER, "1\ta b c\n0\td e f\n1\tg\n"),
    "cola": (CLASSIFIER, "x\t1\t\ta b\nx\t0\t*\tc d\n"),
    "mrpc": (CLASSIFIER, "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta b\tc\n0\t3\t4\td\te f\n"),
    "qqp": (CLASSIFIER, "id\tquestion1\tquestion2\tis_duplicate\n1\ta\tb c\t1\n2\td\te\t0\n"),
    "rte": (CLASSIFIER, PAIRS),
    "stsb": ("bert none peg", "g\tf\t2012\t1\t2.5\ta b\tc d\ng\tf\t2012\t2\t0.5\te\tf\n"),
    "mlm": ("bert masked-lm intsim", "a b c\nd e\n"),
    "ner": ("bert token-classification intsim", "-DOCSTART- O\n\na B-X\nb O\n\nc O\n"),
    "perplexity": (DECODER, "a b c\n\nd e!\n"),
    "lambada": (DECODER, "a b c\nd e\n"),
    "squad": ("bert question-answering intsim", json.loads(QUESTIONS)),
}


def _model(name: str) -> Files:
    return {f"model/{FILE}": seeds.sealed(saved(name))}


def _ids(_: str) -> Files:
    return {**_model(CLASSIFIER), "ids.txt": seeds.IDS}


def _json_lines(content: Any) -> bytes:
    """Return JSON Lines of a list, or what an edit made of it."""
    if not isinstance(content, list):
        return seeds.write(content)
    return b"\n".join(seeds.write(dumps(line)) for line in content)


def _data(task: str) -> Files:
    name, content = TASKS[task]
    return {**_model(name), "data": content}


KINDS: Final = {
    "ids": Kind(["ids"], _ids, [("ids.txt",)], ["run FOLDER/model --ids FOLDER/ids.txt"]),
    "ids of a decoder": Kind(
        ["ids"],
        lambda _: {**_model(DECODER), "ids.txt": seeds.IDS},
        [("ids.txt",)],
        ["generate FOLDER/model --ids FOLDER/ids.txt --max-new-tokens 2"],
    ),
    "json lines": Kind(
        ["lambada"],
        lambda _: {**_model(DECODER), "data": [{"text": "a b c"}, {"text": "d e", "domain": None}]},
        [("data",)],
        ["eval FOLDER/model --task SEED --data FOLDER/data --json"],
        write=_json_lines,
    ),
    "data": Kind([*TASKS], _data, [("data",)], ["eval FOLDER/model --task SEED --data FOLDER/data --json"]),
    "texts": Kind(
        [CLASSIFIER],
        lambda name: {**_model(name), "texts": seeds.TEXTS},
        [("texts",)],
        ["inspect FOLDER/model --widths --observe FOLDER/texts"],
    ),
}
