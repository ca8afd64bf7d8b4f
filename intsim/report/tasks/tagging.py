# SPDX-License-Identifier: Apache-2.0
"""Token classification: the tags of words, scored by the entities they make.

Files are columns, as at CoNLL (Tjong Kim Sang and De Meulder 2003): a word a line, its tag in the last column, a blank
line between sentences.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from intsim.errors import IntsimError
from intsim.io.tokenizer import encode_words
from intsim.report.tasks.inquiry import Inquiry, Method, Reader, check_head, data_lines, every_token

__all__ = ["Entity", "Example", "entities", "prepare", "read", "score"]

TAG: Final = re.compile(r"O|[BIES]-.+")
DOCUMENT: Final = "-DOCSTART-"
"""First word of a line that begins a document and is no word of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sentence: its words, and a tag for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """The words [start, end) of a sentence, and what they are."""

    kind: str
    start: int
    end: int


def read(path: str | Path) -> list[Example]:
    """Read the sentences of a file of columns, between TABs if a line has one, else between spaces.

    Raises
    ------
    IntsimError
        If the file cannot be read, holds no sentence, or a line has no tag such as O, B-PER, I-PER, E-PER or S-PER.
    """
    examples: list[Example] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*data_lines(path), ""], start=1):
        columns = line.split("\t") if "\t" in line else line.strip(" ").split(" ")
        if not line.strip() or columns[0] == DOCUMENT:
            if words:
                examples.append(Example(words=tuple(words), tags=tuple(tags)))
                words, tags = [], []
        elif len(columns) < 2 or not columns[0] or not TAG.fullmatch(columns[-1]):
            msg = f"line {number} of {path} must have a word and a tag, O or B-, I-, E- or S- and a type, got {line!r}"
            raise IntsimError(msg)
        else:
            words.append(columns[0])
            tags.append(columns[-1])
    if not examples:
        msg = f"data {path} must have a sentence, got none"
        raise IntsimError(msg)
    return examples


def prepare(examples: Sequence[Example], reader: Reader) -> Inquiry:
    """Return what is asked of a model: every sentence. A word's tag is that of its first token, O if it has none.

    Raises
    ------
    IntsimError
        If the model has no tags, lacks a type of the data, or a sentence is too long.
    """
    check_head(reader, "token-classification", "ner")
    missing = {tag[2:] for example in examples for tag in example.tags} - {label[2:] for label in reader.labels}
    if missing:
        msg = f"model must have tags for every type of the data, got none for {', '.join(sorted(missing))}"
        raise IntsimError(msg)
    encodings = [
        encode_words(reader.tokenizer, example.words, longest=reader.longest, truncate=reader.truncate)
        for example in examples
    ]

    def score_tokens(outputs: Sequence[NDArray[Any]]) -> dict[str, float]:
        predicted: list[list[str]] = []
        for example, encoding, logits in zip(examples, encodings, outputs, strict=True):
            best = logits.argmax(axis=-1)
            first = {word: at for at, word in reversed(list(enumerate(encoding.word_ids)))}
            places = map(first.get, range(len(example.words)))
            predicted.append(["O" if place is None else reader.labels[int(best[place])] for place in places])
        return score(predicted, examples)

    return Inquiry(encodings=encodings, method=Method(ask=every_token), score=score_tokens)


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence's tags, as conlleval and seqeval (its default mode) find them.

    A word goes on with the entity of the word before it if that one is B or I, this one is I or E, and both are of one
    type; any other word but O begins an entity, whatever its letter.
    """
    found: list[Entity] = []
    for at, (before, tag) in enumerate(pairwise(["O", *tags])):
        if tag == "O":
            continue
        if before[0] in "BI" and tag[0] in "IE" and before[2:] == tag[2:]:
            found[-1] = Entity(kind=tag[2:], start=found[-1].start, end=at + 1)
        else:
            found.append(Entity(kind=tag[2:], start=at, end=at + 1))
    return found


def score(predicted: Sequence[Sequence[str]], examples: Sequence[Example]) -> dict[str, float]:
    """Return precision, recall and F1 of the entities of all types together, and the accuracy of the tags.

    An entity counts if its first word, its last word and its type are right. What has no entity to count is 0.
    """
    count: Counter[str] = Counter()
    for tags, example in zip(predicted, examples, strict=True):
        found, expected = entities(tags), entities(example.tags)
        count["found"] += len(found)
        count["expected"] += len(expected)
        count["right"] += len(set(found) & set(expected))
        count["words"] += len(example.tags)
        count["tags"] += sum(map(str.__eq__, tags, example.tags))
    return {
        "precision": count["right"] / max(count["found"], 1),
        "recall": count["right"] / max(count["expected"], 1),
        "f1": 2 * count["right"] / max(count["found"] + count["expected"], 1),
        "accuracy": count["tags"] / count["words"],
    }
