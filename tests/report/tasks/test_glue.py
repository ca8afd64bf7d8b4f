# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.report.tasks.glue: layouts, classes, metrics."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from scipy import stats

import intsim
from intsim.errors import IntsimError
from intsim.io.tokenizer import encode, parse_tokenizer
from intsim.report.evaluate import evaluate
from intsim.report.tasks import GLUE, glue
from intsim.report.tasks.glue import Example, read
from intsim.report.tasks.inquiry import Reader

TinyBert = Callable[..., Path]
TAB: Final = "\t"
TEXTS: Final = ("a good movie .", "the plot is not bad\tnot good", "not good , not bad")
MNLI: Final = ("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse", "p1", "p2")
FILES: Final = {
    "mrpc": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t17\t18\tShe said "no .\tNo , she said .',
        "0\t19\t20\tIt rains .\tIt's dry",
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "133\t267\t268\tHow do I row?\tHow is a boat rowed?\t1",
        '134\t269\t270\tWhat is "up\tWho is up?\t0',
    ),
    "mnli": (
        "\t".join([*MNLI, "sentence1", "sentence2", "label1", "label2", "label3", "label4", "label5", "gold_label"]),
        *(
            "\t".join([*MNLI, "He rowed .", text, label, "neutral", "neutral", "entailment", "contradiction", label])
            for text, label in (("He sat .", "neutral"), ("He slept .", "contradiction"), ("He moved .", "entailment"))
        ),
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        "0\tWho rowed?\tAnn rowed .\tentailment",
        "1\tWho sat?\tAnn rowed .\tnot_entailment",
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel",
        "0\tAnn rowed .\tBo sat .\tnot_entailment",
        "1\tAnn rowed .\tAnn moved .\tentailment",
    ),
}
EXPECTED: Final = {
    "mrpc": [(('She said "no .', "No , she said ."), 1), (("It rains .", "It's dry"), 0)],
    "qqp": [(("How do I row?", "How is a boat rowed?"), 1), (('What is "up', "Who is up?"), 0)],
    "mnli": [(("He rowed .", "He sat ."), 1), (("He rowed .", "He slept ."), 2), (("He rowed .", "He moved ."), 0)],
    "qnli": [(("Who rowed?", "Ann rowed ."), 0), (("Who sat?", "Ann rowed ."), 1)],
    "rte": [(("Ann rowed .", "Bo sat ."), 1), (("Ann rowed .", "Ann moved ."), 0)],
}


# ---- metrics


def _scored(
    task: Any, outputs: Sequence[Sequence[float]], targets: Sequence[float], labels: int | None
) -> dict[str, float]:
    metrics = glue.score(task, np.array(outputs, np.float64), np.array(targets, np.float64), labels)
    assert all(type(value) is float for value in metrics.values())
    return metrics


def _logits(predicted: Sequence[int]) -> list[list[int]]:
    return [[3, -1] if p == 0 else [-7, 2] for p in predicted]


def test_accuracy_counts_the_hits() -> None:
    assert _scored("sst2", _logits([1, 0, 1, 1]), [1, 0, 0, 1], 2) == {"accuracy": 0.75}
    assert _scored("sst2", _logits([1, 1]), [0, 0], 2) == {"accuracy": 0.0}


def test_equal_logits_give_the_first_class() -> None:
    assert _scored("sst2", [[4, 4], [4, 4]], [0, 1], 2) == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("predicted", "targets"),
    [([1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 1, 1, 1]), ([1, 0, 0, 0, 0, 1], [1, 1, 1, 0, 1, 1])],
)
def test_matthews_is_that_of_the_confusion_matrix(predicted: list[int], targets: list[int]) -> None:
    pairs = list(zip(predicted, targets, strict=True))
    tp, tn, fp, fn = (pairs.count(pair) for pair in ((1, 1), (0, 0), (1, 0), (0, 1)))
    by_hand = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert _scored("cola", _logits(predicted), targets, 2)["matthews"] == pytest.approx(by_hand, abs=1e-15)


def test_matthews_runs_from_minus_1_to_1_and_is_0_where_nothing_varies() -> None:
    assert _scored("cola", _logits([1, 0, 1]), [1, 0, 1], 2)["matthews"] == pytest.approx(1)
    assert _scored("cola", _logits([1, 0, 1]), [0, 1, 0], 2)["matthews"] == pytest.approx(-1)
    assert _scored("cola", _logits([1, 1, 1]), [0, 1, 0], 2) == {"matthews": 0.0}
    assert _scored("cola", _logits([1, 0, 1]), [1, 1, 1], 2) == {"matthews": 0.0}


def test_correlations_equal_scipys() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 6, 50) * 0.8  # with ties
    scores = np.round(targets + rng.normal(0, 2, 50), 1)
    metrics = _scored("stsb", scores[:, None], targets, 1)
    assert metrics["spearman"] == pytest.approx(stats.spearmanr(scores, targets).statistic, abs=1e-13)
    assert metrics["pearson"] == pytest.approx(stats.pearsonr(scores, targets).statistic, abs=1e-13)
    assert metrics["spearman"] != pytest.approx(metrics["pearson"], abs=1e-4)


def test_correlations_are_those_by_hand() -> None:
    metrics = _scored("stsb", [[1], [2], [4], [3]], [0, 1, 5, 2], 1)  # one rank in order, sums by hand
    assert metrics["spearman"] == pytest.approx(1)
    assert metrics["pearson"] == pytest.approx(8 / math.sqrt(5 * 14))


def test_correlations_are_0_where_nothing_varies() -> None:
    nothing = {"spearman": 0.0, "pearson": 0.0}
    assert _scored("stsb", [[1], [1], [1]], [1, 2, 3], 1) == nothing
    assert _scored("stsb", [[1], [2], [3]], [2, 2, 2], 1) == nothing
    assert _scored("stsb", [[1]], [2], 1) == nothing


def test_sentences_without_a_head_are_scored_by_their_cosine() -> None:
    vectors = [[1, 0], [2, 0], [1, 0], [3, 3], [0, 5], [1, 0], [1, 1], [-2, -2]]  # cosines 1, 0.707, 0, -1
    metrics = _scored("stsb", vectors, [5, 4, 2, 1], None)
    assert metrics["spearman"] == pytest.approx(1)
    expected = stats.pearsonr([1, math.sqrt(0.5), 0, -1], [5, 4, 2, 1]).statistic
    assert metrics["pearson"] == pytest.approx(expected, abs=1e-13)


def test_the_cosine_with_a_vector_of_zeros_is_0() -> None:
    a, b = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [4.0, 3.0]])
    assert glue.cosines(a, b).tolist() == [0.0, pytest.approx(0.96)]


@pytest.mark.parametrize("task", ["mrpc", "qqp"])
def test_f1_is_that_of_the_positive_class(task: Any) -> None:
    predicted, targets = [1, 1, 0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 1, 1, 1]
    precision, recall = Fraction(3, 4), Fraction(3, 6)
    f1 = 2 * precision * recall / (precision + recall)
    assert _scored(task, _logits(predicted), targets, 2) == {"accuracy": 0.5, "f1": float(f1)}


@pytest.mark.parametrize(
    ("predicted", "targets", "f1"),
    [
        ([0, 0], [0, 0], 0.0),
        ([0, 0], [1, 1], 0.0),
        ([1, 1], [0, 0], 0.0),
        ([1, 1], [1, 1], 1.0),
        ([1, 1], [1, 0], 2 / 3),
    ],
)
def test_f1_is_0_where_there_is_nothing(predicted: list[int], targets: list[int], f1: float) -> None:
    assert _scored("mrpc", _logits(predicted), targets, 2)["f1"] == f1


@pytest.mark.parametrize("task", ["mnli", "qnli", "rte"])
def test_entailment_is_scored_by_accuracy_alone(task: Any) -> None:
    outputs = [[9, 1, 2], [0, 4, 3], [0, 1, 7], [0, 1, 7]]
    assert _scored(task, outputs, [0, 1, 2, 1], 3) == {"accuracy": 0.75}


# ---- data


@pytest.mark.parametrize(
    ("task", "lines", "texts", "targets"),
    [
        ("sst2", ["label\ttext_a", "1\tgood film", "0\tbad"], [("good film",), ("bad",)], [1, 0]),
        ("sst2", ["1\tgood film", "0\tbad"], [("good film",), ("bad",)], [1, 0]),
        ("sst2", ["sentence\tlabel", "good film\t1"], [("good film",)], [1]),
        ("sst2", ["idx\tsentence\tlabel", "7\tgood film\t1"], [("good film",)], [1]),
        (
            "cola",
            ["gj04\t1\t\tThe sailors rode .", "gj04\t0\t*\tRode the ."],
            [("The sailors rode .",), ("Rode the .",)],
            [1, 0],
        ),
        ("cola", ["sentence\tlabel\tidx", "Rode the .\t0\t5"], [("Rode the .",)], [0]),
        ("stsb", ["main\tMSRvid\t2012test\t0000\t5.000\tA man .\tA girl ."], [("A man .", "A girl .")], [5]),
        ("stsb", ["m\tf\t2015\t2\t0.4\tA .\tB .\tsource\turl"], [("A .", "B .")], [0.4]),
        (
            "stsb",
            [
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
                "0\tm\tMSRvid\t2012\t1\tnone\tnone\tA .\tB .\t2.750",
            ],
            [("A .", "B .")],
            [2.75],
        ),
        ("stsb", ["sentence1\tsentence2\tscore", "A .\tB .\t1e-1"], [("A .", "B .")], [0.1]),
    ],
)
def test_every_form_of_the_data_is_read(
    tmp_path: Path, task: Any, lines: list[str], texts: list[tuple[str, ...]], targets: list[float]
) -> None:
    expected = [Example(texts=text, target=target) for text, target in zip(texts, targets, strict=True)]
    for newline in ("\n", "\r\n"):
        for end in ("", newline, newline * 3):
            path = tmp_path / "data"
            path.write_bytes((newline.join(lines) + end).encode())
            assert read(task, path) == read(task, str(path)) == expected


def test_quotes_and_unicode_separators_are_text(tmp_path: Path) -> None:
    text = '"half a quote, \u2028 \x85 \x0b \x1c and é'
    (tmp_path / "data").write_text(f"1\t{text}\n0\tb\n", encoding="utf-8")
    assert [example.texts for example in read("sst2", tmp_path / "data")] == [(text,), ("b",)]


@pytest.mark.parametrize(
    ("task", "file", "n", "positive"),
    [
        ("sst2", "SST-2/dev.tsv", 872, 444),
        ("cola", "CoLA/in_domain_dev.tsv", 527, 365),
        ("cola", "CoLA/out_of_domain_dev.tsv", 516, 354),
        ("stsb", "STS-B/sts-dev.csv", 1500, None),
        ("stsb", "STS-B/sts-train.csv", 5749, None),
    ],
)
def test_the_real_data_is_read_in_full(shared: Path, task: Any, file: str, n: int, positive: int | None) -> None:
    examples = read(task, shared / "data" / file)
    assert len(examples) == n
    targets = [example.target for example in examples]
    if positive is None:
        assert 0 <= min(targets) < max(targets) == 5
    else:
        assert sum(targets) == positive


@pytest.mark.parametrize("target", ["", "x", "1.5.2"])
def test_a_target_that_is_no_number_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "data").write_text(f"1\ta\n{target}\tb\n")
    with pytest.raises(IntsimError, match=r"row 2 of .* must have a number for label and a text, got \["):
        read("sst2", tmp_path / "data")


@pytest.mark.parametrize(
    ("task", "target"), [("sst2", "2"), ("sst2", "0.5"), ("cola", "-1"), ("stsb", "nan"), ("stsb", "inf")]
)
def test_a_target_that_is_no_class_or_score_is_refused(tmp_path: Path, task: Any, target: str) -> None:
    header = "sentence1\tsentence2\tscore" if task == "stsb" else "sentence\tx\tlabel"
    (tmp_path / "data").write_text(f"{header}\na\tb\t{target}\n")
    with pytest.raises(IntsimError, match=f"must have (0 or 1|a finite number) for (label|score), got {target}$"):
        read(task, tmp_path / "data")


@pytest.mark.parametrize("task", FILES)
def test_files_of_glue_are_read_as_they_are_distributed(tmp_path: Path, task: Any) -> None:
    for newline in ("\n", "\r\n"):
        (tmp_path / "dev.tsv").write_bytes((newline.join(FILES[task]) + newline).encode())
        found = read(task, tmp_path / "dev.tsv")
        assert [(example.texts, example.target) for example in found] == EXPECTED[task]


def test_columns_are_found_by_their_names_in_any_order(tmp_path: Path) -> None:
    header = "index\tQuality\t#2 String\t#1 String\tmore"
    (tmp_path / "dev.tsv").write_text(f"{header}\n0\t1\tsecond\tfirst\tx\n")
    assert read("mrpc", tmp_path / "dev.tsv") == [Example(texts=("first", "second"), target=1)]


@pytest.mark.parametrize("task", FILES)
def test_a_file_without_its_header_is_refused(tmp_path: Path, task: Any) -> None:
    (tmp_path / "dev.tsv").write_text("\n".join(FILES[task][1:]))
    with pytest.raises(IntsimError, match="must have rows with the columns ") as caught:
        read(task, tmp_path / "dev.tsv")
    assert str(caught.value).endswith(f", got columns {', '.join(FILES[task][1].split(TAB))}")


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("Quality\t#1 String\t#2 String\n")
    with pytest.raises(IntsimError, match=r"must have rows with the columns .*, got no row$"):
        read("mrpc", tmp_path / "dev.tsv")


def test_a_carriage_return_inside_a_line_is_text(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_bytes(b"1\ta\rb\r\n0\tc\r\n")
    assert [example.texts for example in read("sst2", tmp_path / "dev.tsv")] == [("a\rb",), ("c",)]


@pytest.mark.parametrize(
    ("task", "row", "complaint"),
    [
        (
            "mnli",
            "\t".join(["x"] * 10 + ["-"] * 6),
            "one of entailment, neutral, contradiction for gold_label and a text",
        ),
        ("rte", "0\ta\tb\tEntailment", "one of entailment, not_entailment for label and a text"),
        ("qnli", "0\ta\tb\tneutral", "one of entailment, not_entailment for label and a text"),
        ("qqp", "0\t1\t2\ta\tb", "a number for is_duplicate and a text"),
        ("mrpc", "2\t1\t2\ta\tb", "0 or 1 for Quality, got 2"),
    ],
)
def test_another_class_is_refused(tmp_path: Path, task: Any, row: str, complaint: str) -> None:
    (tmp_path / "dev.tsv").write_text(f"{FILES[task][0]}\n{FILES[task][1]}\n{row}\n", encoding="utf-8")
    with pytest.raises(IntsimError, match=f"^row 2 of .* must have {complaint}"):
        read(task, tmp_path / "dev.tsv")


# ---- classes and logits


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("mnli", ["entailment", "neutral", "contradiction"], [0, 1, 2]),
        ("mnli", ["contradiction", "entailment", "neutral"], [1, 2, 0]),
        ("mnli", ["CONTRADICTION", "Neutral", "ENTAILMENT"], [2, 1, 0]),
        ("mnli", ["LABEL_0", "LABEL_1", "LABEL_2"], [0, 1, 2]),
        ("mnli", ["contradiction", "entailment", "other"], [0, 1, 2]),
        ("rte", ["not_entailment", "entailment"], [1, 0]),
        ("qnli", ["LABEL_0", "LABEL_1"], [0, 1]),
        ("sst2", ["positive", "negative"], [0, 1]),
    ],
)
def test_names_of_classes_say_which_logit_is_whose(task: Any, labels: list[str], expected: list[int]) -> None:
    examples = [Example(texts=("a", "b"), target=i) for i in range(len(labels))]
    assert glue.model_targets(task, examples, labels).tolist() == expected


@pytest.mark.parametrize(
    "labels", [("entailment", "neutral", "contradiction"), ("CONTRADICTION", "entailment", "Neutral")]
)
def test_a_pair_is_read_together_and_scored_by_the_models_own_names(
    tiny_bert: TinyBert, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    model = intsim.quantize(tiny_bert(labels=labels), calibration=TEXTS)
    rows = [("a good plot", "bad ."), ("the movie is bad", "not good"), ("x", "y z"), ("bad bad", "a plot , a plot")]
    classes = ["neutral", "entailment", "contradiction", "neutral"]
    lines = [f"{a}\t{b}\t{label}" for (a, b), label in zip(rows, classes, strict=True)]
    (tmp_path / "dev.tsv").write_text("\n".join(["sentence1\tsentence2\tgold_label", *lines]))
    result = evaluate(model, "mnli", read("mnli", tmp_path / "dev.tsv"))
    hits = 0
    for (a, b), label in zip(rows, classes, strict=True):
        encoding = encode(parse_tokenizer(model.tokenizer or ""), f"{a}\t{b}", longest=32)
        best = model([encoding.ids], token_type_ids=[encoding.type_ids]).labels[0]
        hits += labels[best].lower() == label
    assert result.metrics == {"accuracy": hits / 4}
    assert result.n == 4


@pytest.mark.parametrize("task", GLUE)
def test_another_number_of_labels_or_another_head_is_refused(tiny_bert: TinyBert, task: Any) -> None:
    tokenizer = parse_tokenizer((tiny_bert() / "tokenizer.json").read_text())
    right = {"stsb": 1, "mnli": 3}.get(task, 2)
    example = [Example(texts=("a", "b"), target=0)]

    def reader(head: Any, labels: int) -> Reader:
        return Reader(head=head, labels=["x"] * labels, tokenizer=tokenizer, longest=32)

    glue.prepare(task, example, reader("sequence-classification", right))
    needed = {1: "no classifier, or one of a single label", 2: "a classifier of two labels"}
    for labels in {1, 2, 3, 4} - {right}:
        with pytest.raises(IntsimError) as caught:
            glue.prepare(task, example, reader("sequence-classification", labels))
        complaint = needed.get(right, "a classifier of three labels")
        assert str(caught.value) == f"model must have {complaint} for {task}, got {labels} labels"
    for head, got in (
        ("token-classification", "a token classifier"),
        ("question-answering", "a question answering head"),
    ):
        with pytest.raises(IntsimError, match=f"got {got}$"):
            glue.prepare(task, example, reader(head, right))


def test_a_text_that_is_too_long_is_named_by_its_line_or_shortened(tiny_bert: TinyBert, tmp_path: Path) -> None:
    tokenizer = parse_tokenizer((tiny_bert() / "tokenizer.json").read_text())
    (tmp_path / "dev.tsv").write_text(f"{FILES['qqp'][0]}\n1\t2\t3\tgood\tbad\t1\n1\t2\t3\tgood\t{'bad ' * 30}\t1\n")
    reader = Reader(head="sequence-classification", labels=["a", "b"], tokenizer=tokenizer, longest=32)
    with pytest.raises(IntsimError) as caught:
        glue.prepare("qqp", read("qqp", tmp_path / "dev.tsv"), reader)
    assert str(caught.value).startswith(f"{tmp_path / 'dev.tsv'} line 3: text must be at most 32 tokens long, got 34")
    short = Reader(head="sequence-classification", labels=["a", "b"], tokenizer=tokenizer, longest=32, truncate=True)
    inquiry = glue.prepare("qqp", read("qqp", tmp_path / "dev.tsv"), short)
    assert [len(each.ids) for each in inquiry.encodings] == [5, 32]
