# SPDX-License-Identifier: Apache-2.0
"""Tests of intsim.io.tokenizer_config: what transformers' fast tokenizers read from the same directory."""

import base64
import importlib
import json
import os
import random
import struct
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from intsim.errors import CheckpointError
from intsim.io.tokenizer import Encoding, encode, encode_words, parse_tokenizer, read_tokenizer, windows

TEXTS: Final = (
    "A good movie, isn't it?",
    "  Crème brûlée in CAFÉ Wörld - naïve \u0130stanbul Straße  ",
    "e\u0301 A\u030a \ufb01ne \u2460 ½ \uff21\uff22\uff23",
    "我喜欢这部电影 and 映画はとても良い。 영화",
    "smile 😀👍🏽 👨‍👩‍👧 \u200d \u200b end",
    "tabs and\nlines\r\n\u3000wide \xa0 no-break   three   spaces",
    "``quoted'' \"text\" 'x' $3.50 #1 a_b @you http://x.y/z?q=1",
    "[CLS] written [SEP] [MASK] [UNK] <s> tokens </s> <mask> <pad> here<mask> <unk>NOTUSED",
    "   <mask>   [MASK]  ",
    "w" * 150 + " " + "antidisestablishmentarianism" * 5,
    "\x00\x07 control\x7f and \ufffd \ufeff bom",
    "don't we'll I'd 12,345.67 1e-9",
    "ﷺ ǅ ß \u017f ΑΣ Ω \U0001d4d0",
    "...",
)
PAIRS: Final = tuple(pairwise(TEXTS))
LINES: Final = [
    " ".join(random.Random(seed).choices([word for text in TEXTS for word in text.split() if len(word) < 20], k=9))  # noqa: S311
    for seed in range(300)
]
Write = Callable[..., Path]


@cache
def _made(kind: str) -> str:
    """Return tokenizer.json of a small tokenizer, in the layout of the real checkpoints of its kind."""
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")]
    )
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no password
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)  # the vocabulary has both cases
        tokenizer.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
        tokenizer.normalizer = normalizers.BertNormalizer()
    elif kind == "roberta":
        tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        special = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)]
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(LINES, trainer)
    else:
        tokenizer = Tokenizer(models.Unigram())
        steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        steps += [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        if kind == "albert":
            tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer.pre_tokenizer = words
        special = {
            "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", AddedToken("[MASK]", lstrip=True, special=True)],
            "xlm-roberta": ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)],
            "camembert": [
                "<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>",
                AddedToken("<mask>", lstrip=True, special=True),
            ],
        }[kind]  # fmt: skip
        unknown = "<unk>"
        trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token=unknown)
        tokenizer.train_from_iterator(LINES, trainer)
    first, last = ("[CLS]", "[SEP]") if kind in {"bert", "albert"} else ("<s>", "</s>")
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    if kind == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(ids[1], ids[0], add_prefix_space=False)
    else:
        pair = f"{first} $A {last} $B:1 {last}:1" if first == "[CLS]" else f"{first} $A {last} {last} $B {last}"
        tokenizer.post_processor = processors.TemplateProcessing(f"{first} $A {last}", pair, ids)
    return tokenizer.to_str(pretty=True)


CLASSES: Final = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "albert": "AlbertTokenizer",
    "camembert": "CamembertTokenizer",
}
KINDS: Final = tuple(CLASSES)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a checkpoint's tokenizer files, ``edit`` changing tokenizer.json."""

    def write_files(
        kind: str,
        config: Mapping[str, Any] | None = None,
        *,
        edit: Callable[[dict[str, Any]], object] = lambda _: None,
        special: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
    ) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        values = json.loads(_made(kind))
        edit(values)
        (path / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
        size = {"vocab_size": 999, "max_position_embeddings": 512}
        (path / "config.json").write_text(json.dumps({"model_type": kind, **size, **(model or {})}))
        if config is not None:
            (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": CLASSES[kind], **config}))
        if special is not None:
            (path / "special_tokens_map.json").write_text(json.dumps(special))
        return path

    return write_files


@pytest.fixture(scope="module")
def transformers() -> Any:
    """Return release 5, which has other default types than release 4 for ALBERT and for no particular class."""
    if os.environ.get("INTSIM_REQUIRE_KERNELS") == "1":
        return importlib.import_module("transformers")
    return pytest.importorskip("transformers", "5", reason="needs transformers 5 (pip install 'intsim[kernels]')")


def _theirs(transformers: Any, path: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(path)


def _same(ours: Encoding, theirs: Any, row: int = 0) -> None:
    """Assert that one of our encodings is theirs, to the last token."""
    encoding = theirs.encodings[row]
    ids = theirs["input_ids"]
    assert list(ours.ids) == (ids[row] if isinstance(ids[0], list) else ids)
    types = theirs.get("token_type_ids", [0] * len(ours.ids))
    assert list(ours.type_ids) == (types[row] if isinstance(types[0], list) else types)
    assert ours.tokens == encoding.tokens
    assert ours.offsets == encoding.offsets
    assert ours.word_ids == theirs.word_ids(row)
    assert ours.sequence_ids == theirs.sequence_ids(row)


def _same_everywhere(transformers: Any, path: Path) -> None:
    theirs, ours = _theirs(transformers, path), parse_tokenizer(read_tokenizer(path))
    for text in TEXTS:
        _same(encode(ours, text, longest=9999), theirs(text))
    for pair in PAIRS:
        _same(encode(ours, "\t".join(pair), longest=9999), theirs(*pair))


# ---- what transformers reads


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [None, {}], ids=["class from the model type", "class"])
def test_every_kind_reads_what_transformers_reads(
    transformers: Any, write: Write, kind: str, config: dict[str, Any] | None
) -> None:
    _same_everywhere(transformers, write(kind, config))


SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "cased": {"do_lower_case": False},
    "cased without accents": {"do_lower_case": False, "strip_accents": True},
    "accents": {"strip_accents": False},
    "no Chinese characters": {"tokenize_chinese_chars": False},
    "types": {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    "no types": {"model_input_names": ["input_ids", "attention_mask"]},
    "prefix space": {"add_prefix_space": True},
    "untrimmed": {"trim_offsets": False},
    "bos and eos": {"add_bos_token": True, "add_eos_token": True},
    "left": {"padding_side": "left", "truncation_side": "left"},
    "short": {"model_max_length": 9},
    "more tokens": {"additional_special_tokens": ["movie", "<new>"]},
    "generic": {"tokenizer_class": "PreTrainedTokenizerFast"},
    "generic with types": {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids"],
    },
}
REFUSED: Final = {("albert", "cased"), ("albert", "cased without accents")}


def _encode(path: Path, text: str, **options: Any) -> Encoding:
    return encode(parse_tokenizer(read_tokenizer(path)), text, **{"longest": 9999, **options})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_has_the_effect_it_has_in_transformers(
    transformers: Any, write: Write, kind: str, setting: str
) -> None:
    if (kind, setting) in REFUSED:
        with pytest.raises(CheckpointError, match=r"tokenizer_config.json must have, for the tokenizer.json beside it"):
            read_tokenizer(write(kind, SETTINGS[setting]))
    elif setting == "short":
        path = write(kind, SETTINGS[setting])
        with pytest.raises(Exception, match="text must be at most 9 tokens long"):
            _encode(path, "word " * 9)
    else:
        _same_everywhere(transformers, write(kind, SETTINGS[setting]))


@pytest.mark.parametrize(
    ("kind", "setting"), [("bert", name) for name in list(SETTINGS)[:4]] + [("roberta", "prefix space")]
)
def test_a_setting_that_changes_ids_changes_them(write: Write, kind: str, setting: str) -> None:
    plain, changed = (parse_tokenizer(read_tokenizer(write(kind, config))) for config in ({}, SETTINGS[setting]))
    ids = [[list(encode(each, text, longest=9999).ids) for text in TEXTS] for each in (plain, changed)]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("DistilBertTokenizer", "distilbert"),
        ("ElectraTokenizerFast", "electra"),
        ("MobileBertTokenizer", "mobilebert"),
        ("BertTokenizerFast", "bert"),
    ],
)
def test_classes_that_are_bert_read_what_transformers_reads(
    transformers: Any, write: Write, name: str, model_type: str
) -> None:
    _same_everywhere(transformers, write("bert", {"tokenizer_class": name}, model={"model_type": model_type}))


def test_a_class_of_another_kind_than_the_model_decides(transformers: Any, write: Write) -> None:
    _same_everywhere(transformers, write("xlm-roberta", {}, model={"model_type": "bert"}))
    path = write("xlm-roberta", None, model={"model_type": "bert", "tokenizer_class": "XLMRobertaTokenizer"})
    _same_everywhere(transformers, path)


def _drop(*contents: str) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update(
        added_tokens=[token for token in values["added_tokens"] if token["content"] not in contents]
    )


def test_special_tokens_that_only_the_configuration_names_are_special(transformers: Any, write: Write) -> None:
    _same_everywhere(transformers, write("bert", {}, edit=_drop("[CLS]", "[MASK]", "[UNK]")))
    _same_everywhere(transformers, write("camembert", {}, edit=_drop("<s>NOTUSED", "<unk>NOTUSED", "<pad>")))
    mask = {"content": "movie", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
    _same_everywhere(transformers, write("roberta", {}, special={"mask_token": mask}))
    path = write("bert", {"mask_token": "<new>", "pad_token": None}, edit=_drop("[PAD]"))
    _same_everywhere(transformers, path)
    assert "[PAD]" not in _encode(path, "[PAD]").tokens


def test_added_tokens_that_agree_are_read(transformers: Any, write: Write) -> None:
    added = json.loads(_made("roberta"))["added_tokens"]
    decoder = {str(token["id"]): {key: token[key] for key in token if key != "id"} for token in added}
    path = write("roberta", {"added_tokens_decoder": decoder})
    assert read_tokenizer(path) == (path / "tokenizer.json").read_text(encoding="utf-8")
    _same_everywhere(transformers, path)
    for flag in ("lstrip", "special", "normalized"):
        changed = json.loads(json.dumps(decoder))
        changed["4"][flag] = not changed["4"][flag]
        with pytest.raises(CheckpointError, match="the same added tokens in added_tokens_decoder"):
            read_tokenizer(write("roberta", {"added_tokens_decoder": changed}))


def test_templates_in_other_words_are_the_same(transformers: Any, write: Write) -> None:
    ids = {token["content"]: token["id"] for token in json.loads(_made("bert"))["added_tokens"]}
    post = {"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]]}
    for names in ([], ["input_ids"]):
        config = {"model_input_names": names} if names else {}
        _same_everywhere(transformers, write("bert", config, edit=lambda values: values.update(post_processor=post)))
    marks = [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}]
    for kind in ("xlm-roberta", "albert"):
        edit = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": marks}}  # as of older releases
        _same_everywhere(transformers, write(kind, {}, edit=lambda values, edit=edit: values.update(edit)))


def test_a_pair_may_have_other_special_tokens_than_a_text(transformers: Any, write: Write) -> None:
    special = {token: {"id": token, "ids": [index], "tokens": [token]} for token, index in (("<s>", 0), ("</s>", 2))}
    texts = [{"Sequence": {"id": name, "type_id": type_id}} for name, type_id in (("A", 0), ("B", 1))]
    first, last = ({"SpecialToken": {"id": token, "type_id": 0}} for token in special)
    template = {
        "type": "TemplateProcessing",
        "single": [first, texts[0], last],
        "pair": texts,
        "special_tokens": special,
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    _same_everywhere(transformers, write("roberta", config, edit=_set(post_processor=template)))


def test_types_are_taken_from_any_template(transformers: Any, write: Write) -> None:
    special = {token: {"id": token, "ids": [index], "tokens": [token]} for token, index in (("<s>", 0), ("</s>", 2))}
    places = [("SpecialToken", "<s>", 1), ("Sequence", "A", 1), ("Sequence", "B", 2), ("SpecialToken", "</s>", 1)]
    pair = [{kind: {"id": name, "type_id": type_id}} for kind, name, type_id in places]
    template = {"type": "TemplateProcessing", "single": [*pair[:2], pair[3]], "pair": pair, "special_tokens": special}
    trim = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    for post in (template, {"type": "Sequence", "processors": [trim, template]}, trim, None):
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        _same_everywhere(transformers, write("roberta", config, edit=_set(post_processor=post)))
        named = {**config, "model_input_names": ["input_ids", "token_type_ids"]}
        _same_everywhere(transformers, write("roberta", named, edit=_set(post_processor=post)))


def test_an_unknown_token_matters_where_a_byte_is_unknown(transformers: Any, write: Write) -> None:
    def lose_a_byte(values: dict[str, Any]) -> None:
        values["model"]["unk_token"] = "<unk>"  # noqa: S105 - no password
        merged = {letter for merge in values["model"]["merges"] for letter in "".join(merge)}
        letter = min({*pre_tokenizers.ByteLevel.alphabet()} - merged)
        values["model"]["vocab"][f"no longer {letter}"] = values["model"]["vocab"].pop(letter)

    _same_everywhere(transformers, write("roberta", {}, edit=_set_model(unk_token="<unk>")))  # noqa: S106
    with pytest.raises(CheckpointError, match="a class that builds its model"):
        read_tokenizer(write("roberta", {}, edit=lose_a_byte))


@pytest.mark.parametrize("kind", ["xlm-roberta", "camembert", "albert"])
def test_a_character_map_is_kept(transformers: Any, write: Write, kind: str) -> None:
    nothing = base64.b64encode(struct.pack("<I", 1024) + bytes(1025)).decode()  # a trie without leaves: no character
    steps = (json.loads(_made(kind))["normalizer"] or {"normalizers": []})["normalizers"]
    steps = [*steps[:5], {"type": "Precompiled", "precompiled_charsmap": nothing}, *steps[5:]]
    _same_everywhere(transformers, write(kind, {}, edit=_set(normalizer={"type": "Sequence", "normalizers": steps})))


def test_a_real_checkpoint_reads_what_transformers_reads(transformers: Any, minilm: Path) -> None:
    assert read_tokenizer(minilm) == (minilm / "tokenizer.json").read_text(encoding="utf-8")
    _same_everywhere(transformers, minilm)


# ---- shorter texts, words and windows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("longest", [7, 16, 33])
def test_truncation_is_that_of_transformers(
    transformers: Any, write: Write, kind: str, side: str, longest: int
) -> None:
    path = write(kind, {"truncation_side": side})
    theirs, ours = _theirs(transformers, path), parse_tokenizer(read_tokenizer(path))
    cut = {"truncation": True, "max_length": longest}
    for text in TEXTS:
        _same(encode(ours, text, longest=longest, truncate=True), theirs(text, **cut))
    for pair in PAIRS:
        _same(encode(ours, "\t".join(pair), longest=longest, truncate=True), theirs(*pair, **cut))


def test_model_max_length_bounds_a_text(transformers: Any, write: Write) -> None:
    path = write("roberta", {"model_max_length": 12}, model={"max_position_embeddings": 14})
    ours = parse_tokenizer(read_tokenizer(path))
    assert ours.truncation["max_length"] == 12
    assert ours.padding is None
    assert (
        encode(ours, "\u6620" * 9, longest=14, truncate=True).ids
        == (_theirs(transformers, path)("\u6620" * 9, truncation=True)["input_ids"])
    )
    assert len(encode(ours, "\u6620" * 9, longest=8, truncate=True).ids) == 8
    assert ours.truncation["max_length"] == 12
    for length in (14, 1e30, None):
        path = write("roberta", {"model_max_length": length}, model={"max_position_embeddings": 14})
        assert parse_tokenizer(read_tokenizer(path)).truncation is None


def test_the_truncation_that_stands_in_the_file_is_left_out(transformers: Any, write: Write) -> None:
    shown = {"max_length": 5, "strategy": "LongestFirst", "stride": 0}
    path = write("bert", {}, edit=lambda values: values.update(truncation=shown))
    _same_everywhere(transformers, path)
    shown["direction"] = "Left"  # which is heeded
    path = write("bert", {}, edit=lambda values: values.update(truncation=shown))
    theirs = _theirs(transformers, path)(TEXTS[0], truncation=True, max_length=8)
    _same(_encode(path, TEXTS[0], longest=8, truncate=True), theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", [True, False])
def test_words_are_those_of_transformers(transformers: Any, write: Write, kind: str, prefix: bool) -> None:
    path = write(kind, {"add_prefix_space": prefix} if kind == "roberta" else {})
    theirs, ours = _theirs(transformers, path), parse_tokenizer(read_tokenizer(path))
    for text in TEXTS:
        words = text.split(" ")
        _same(encode_words(ours, words, longest=9999), theirs(words, is_split_into_words=True))
        cut = theirs(words, is_split_into_words=True, truncation=True, max_length=6)
        _same(encode_words(ours, words, longest=6, truncate=True), cut)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("longest", "stride"), [(48, 0), (48, 8), (40, 11), (9999, 3)])
def test_windows_are_those_of_transformers(
    transformers: Any, write: Write, kind: str, side: str, longest: int, stride: int
) -> None:
    path = write(kind, {"truncation_side": side}, model={"max_position_embeddings": 9999})
    context = " ".join(TEXTS)
    theirs = _theirs(transformers, path)(
        "who is good",
        context,
        truncation="only_second",
        max_length=longest,
        stride=stride,
        return_overflowing_tokens=True,
    )
    ours = windows(parse_tokenizer(read_tokenizer(path)), "who is good", context, longest=longest, stride=stride)
    assert len(ours) == len(theirs["input_ids"])
    assert len(ours) > 1 or longest == 9999
    for row, each in enumerate(ours):
        _same(each, theirs, row)


# ---- what is refused


def _set(**parts: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update(parts)


def _set_model(**settings: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["model"].update(settings)


@pytest.mark.parametrize(
    ("kind", "config", "edit", "complaint"),
    [
        ("bert", {"tokenizer_class": "MPNetTokenizer"}, None, "a tokenizer_class among AlbertTokenizer, Bert"),
        ("bert", {"split_special_tokens": True}, None, "split_special_tokens false, got true"),
        ("bert", {"unk_token": "movie"}, None, "a class that builds its model (with tokenizer_class PreTrained"),
        ("bert", {"cls_token": "movie"}, None, "a class that builds its post_processor"),
        ("bert", {}, _set(normalizer=None), "a class that builds its normalizer"),
        ("bert", {}, _set(normalizer={"type": "Lowercase"}), "a class that builds its normalizer"),
        ("bert", {}, _set(pre_tokenizer={"type": "Whitespace"}), "a class that builds its pre_tokenizer"),
        ("bert", {}, _set(post_processor=None), "a class that builds its post_processor"),
        ("bert", {}, _set_model(max_input_chars_per_word=20), "a class that builds its model"),
        ("bert", {"image_token": "movie"}, None, "image_token among its added tokens, got 'movie'"),
        ("roberta", {}, _drop("<mask>"), "a mask token among its added tokens, got '<mask>'"),
        ("roberta", {}, _set(normalizer={"type": "NFKC"}), "a class that builds its normalizer"),
        ("roberta", {}, _set_model(dropout=0.1), "a class that builds its model"),
        (
            "roberta",
            {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": True},
            None,
            "add_prefix_space as in the pre_tokenizer, False, got True",
        ),
        ("xlm-roberta", {"add_prefix_space": False}, None, "a class that builds its pre_tokenizer"),
        ("xlm-roberta", {}, _set_model(unk_id=0), "a class that builds its model"),
        ("camembert", {}, _set(pre_tokenizer={"type": "Metaspace", "replacement": "\u2581"}), "its pre_tokenizer"),
        ("albert", {"keep_accents": True}, None, "a class that builds its normalizer"),
        ("albert", {"model_max_length": 0}, None, "a positive model_max_length, got 0"),
        ("albert", {"truncation_side": "top"}, None, "a truncation_side left or right, got 'top'"),
    ],
)
def test_what_releases_read_in_two_ways_is_refused(
    write: Write, kind: str, config: dict[str, Any], edit: Callable[[dict[str, Any]], object] | None, complaint: str
) -> None:
    path = write(kind, config, **({"edit": edit} if edit else {}))
    with pytest.raises(CheckpointError) as caught:
        read_tokenizer(path)
    start = f"{path / 'tokenizer_config.json'} must have, for the tokenizer.json beside it, "
    assert str(caught.value).startswith(start)
    assert complaint in str(caught.value)


def test_tokens_that_only_an_old_file_adds_are_refused(write: Write) -> None:
    path = write("bert", {})
    (path / "added_tokens.json").write_text('{"[MASK]": 4}')
    assert read_tokenizer(path)
    for content, got in (
        ('{"[MASK]": 4, "<new>": 400}', "'<new>' with id 400"),
        ('{"[MASK]": 5}', "'.MASK.' with id 5"),
    ):
        (path / "added_tokens.json").write_text(content)
        with pytest.raises(CheckpointError, match=f"an added_tokens.json whose tokens it has too, got {got}"):
            read_tokenizer(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "tokenizer_config.json must be a readable JSON file, got "),
        ("[1]", r"tokenizer_config.json must hold a JSON object, got \[1\]"),
        ('{"pad_token": {}}', "tokenizer.json must have a tokenizer_config.json beside it as transformers writes it"),
        ('{"added_tokens_decoder": [1]}', "must have a tokenizer_config.json beside it as transformers writes it"),
    ],
)
def test_a_configuration_that_is_none_is_refused(write: Write, content: str, complaint: str) -> None:
    path = write("bert", {})
    (path / "tokenizer_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=complaint):
        read_tokenizer(path)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "camembert"])
def test_a_file_that_says_it_all_is_read_as_it_is(write: Write, kind: str) -> None:
    path = write(kind, {"do_lower_case": True, "model_max_length": 512})
    assert read_tokenizer(path) == (path / "tokenizer.json").read_text(encoding="utf-8")
