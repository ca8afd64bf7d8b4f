# SPDX-License-Identifier: Apache-2.0
"""Integer models of other families beside their float models: ``PYTHONPATH=tests python -m real.figures`` prints them.

Needs the real checkpoints and data sets of ``notebooks/reference/tests.md``, which are not part of the distribution,
and the packages that ``conftest.py`` names.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from real import float_model, masking, quire, relaid, rxnmapper, sapiens
from real.folder import package

import intsim
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.report.evaluate import in_batches, read_task

SHARED: Final = Path(__file__).resolve().parents[3] / "shared"
LAYOUTS: Final[dict[str, Callable[[Path, Path], Path]]] = {
    "roberta": relaid.as_roberta,
    "distilbert": relaid.as_distilbert,
    "electra": relaid.as_electra,
}


class Figure(NamedTuple):
    """What a model of a family reaches on a task, in per cent, and what it is to be compared with."""

    family: str
    task: str
    n: int
    integers: float
    reference: float


def sst2(folder: Callable[[str], Path], recipe: str = "intsim") -> Iterator[Figure]:
    """Yield the accuracy on SST-2 dev of minilm-sst2 in other layouts, beside that of its integer BERT.

    DistilBERT and ELECTRA have other heads, so BERT's is computed in float64 on their integer hidden states.
    """
    source, data = SHARED / "models" / "minilm-sst2", SHARED / "data" / "SST-2"
    calibration = [example.texts[0] for example in read_task("sst2", data / "train.tsv")[:64]]
    examples = read_task("sst2", data / "dev.tsv")
    targets = np.array([example.target for example in examples])
    reference = None
    for family in ("bert", *LAYOUTS):
        model = intsim.quantize(source if family == "bert" else folder(family), recipe=recipe, calibration=calibration)
        tokenizer = parse_tokenizer(model.tokenizer or "")
        encodings = [encode(tokenizer, example.texts[0], longest=model.config.longest) for example in examples]
        predicted = np.empty(len(examples), np.int64)
        for rows, (ids, mask, types) in in_batches(encodings, pad_id=model.config.pad_token_id):
            result = model(ids, attention_mask=mask, token_type_ids=types)
            reals = result.values * np.ldexp(1.0 * result.scale.multiplier, -result.scale.shift)
            logits = relaid.logits(reals, source) if model.head == "none" else reals
            predicted[rows] = logits.argmax(axis=-1)
        accuracy = 100 * float((predicted == targets).mean())
        reference = accuracy if reference is None else reference
        yield Figure(family, "SST-2 accuracy, beside the integer BERT's", len(examples), accuracy, reference)


def recovery(module: Any, folder: Path, family: str, recipe: str = "intsim") -> Figure:
    """Return how many masked tokens an integer masked language model finds, beside its float model."""
    examples = module.masked_examples(folder)
    model = intsim.quantize(folder, recipe=recipe, calibration=module.calibration_texts(folder))
    found = [100 * masking.recovery(run, examples) for run in (partial(_logits, model), float_model.load(folder))]
    return Figure(family, f"masked tokens of {module.PACKAGE.partition('==')[0]}", len(examples), *found)


def tagging(folder: Path, recipe: str = "intsim") -> Iterator[Figure]:
    """Yield how often the integer tagger agrees with the float one, on CoLA sentences and on confused ones."""
    texts = quire.sentences(SHARED)
    model = intsim.quantize(folder, recipe=recipe, calibration=[*texts, *quire.confused_sentences(SHARED)])
    floats = float_model.load(folder, dtype="float32")
    for name, chosen in (("CoLA", texts), ("words confused", quire.confused_sentences(SHARED))):
        ours, theirs = (quire.tags(run, folder, chosen) for run in (partial(_logits, model), floats))
        agreement = 100 * float((ours == theirs).mean())
        yield Figure("distilbert", f"tags of {len(chosen)} sentences ({name}), agreement", len(ours), agreement, 100.0)


def _logits(model: intsim.IntegerModel, ids: NDArray[np.int64]) -> NDArray[Any]:
    return model(ids).values


def main() -> None:
    """Print every figure beside its reference."""
    with TemporaryDirectory() as scratch:

        def folder(family: str) -> Path:
            path = Path(scratch) / family
            path.mkdir()
            return LAYOUTS[family](SHARED / "models" / "minilm-sst2", path)

        print(f"{'family':<12}{'task':<52}{'n':>6}{'integers':>10}{'reference':>11}")

        def show(figure: Figure) -> None:
            print(f"{figure.family:<12}{figure.task:<52}{figure.n:>6}{figure.integers:>10.2f}{figure.reference:>11.2f}")

        for figure in sst2(folder):
            show(figure)
        for module, family in ((rxnmapper, "albert"), (sapiens, "roberta"), (quire, "distilbert")):
            found = package(module.PACKAGE.partition("==")[0].replace("-", "_"))
            if found is None:
                print(f"{family}: needs {module.PACKAGE}")
                continue
            path = Path(scratch) / module.__name__
            path.mkdir()
            converted = module.convert(found, path)
            for figure in tagging(converted) if module is quire else [recovery(module, converted, family)]:
                show(figure)


if __name__ == "__main__":
    main()
