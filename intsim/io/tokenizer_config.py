# SPDX-License-Identifier: Apache-2.0
"""What the files beside tokenizer.json change of it, folded into its text.

transformers does not read tokenizer.json alone: the class that tokenizer_config.json (or the model type) names puts its
own normalizer, pre-tokenizer and post-processor in place, by keys such as ``do_lower_case``. Release 4 overrides some
fields of tokenizer.json, release 5 builds these parts anew. What both make of it is folded in; where they give other
ids than each other, the checkpoint is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, cast

from intsim.errors import CheckpointError, said
from intsim.io.bounded import parse_json, read_json

__all__ = ["FOLDED", "fold_config", "fold_text_config"]

FOLDED: Final = '"by": "tokenizer_config.json"'  # marks a truncation section written here; inside a JSON string
# the quotes would be escaped
GENERIC: Final = "PreTrainedTokenizerFast"
UNLIMITED: Final = 2**31 - 1

Json = dict[str, Any]


class Piece(NamedTuple):
    """One place in what a post-processor makes: a special token, or (``id`` None) text A or B."""

    token: str
    id: int | None
    type_id: int


class Parts(NamedTuple):
    """The parts of a tokenizer.json that a class builds; of the model, the settings it fixes."""

    normalizer: Json | None
    pre_tokenizer: Json
    post_processor: Json
    model: Json


class TokenizerClass(NamedTuple):
    """What transformers knows of a class: its special tokens, whether it gives types, and the parts it builds.

    ``folds`` names the parts that take the class's form; the others must give the same ids as they stand.
    """

    specials: Mapping[str, str]
    extra: tuple[str, ...] = ()
    types: bool = False
    folds: tuple[str, ...] = ()
    build: Callable[[Json, Mapping[str, str], Mapping[str, int], Json], Parts] | None = None


def fold_config(text: str, canonical: str, path: Path) -> str:
    """Return the text of a tokenizer.json that alone gives what transformers reads from a checkpoint's directory.

    Parameters
    ----------
    text
        Of tokenizer.json.
    canonical
        The same, as the tokenizers package writes it.
    path
        The directory; of the files in it config.json, tokenizer_config.json, special_tokens_map.json and
        added_tokens.json are read where they exist.

    Returns
    -------
    str
        ``text`` itself where nothing changes. Types are 0 throughout where ``model_input_names``, or without them the
        class in release 5, leave out token_type_ids. A ``model_max_length`` below the position table and truncation on
        the left stand in the ``truncation`` section, with ``FOLDED``. ``padding_side`` moves no token of a text.

    Raises
    ------
    CheckpointError
        If a file is not a JSON object, the class is unknown, or the releases of transformers read different ids.
    """
    model = _read(path / "config.json")
    config = _read(path / "tokenizer_config.json")
    if "added_tokens_decoder" not in config:
        config |= _read(path / "special_tokens_map.json")
    given: Json = parse_json(text)
    shown: Json = parse_json(canonical)
    name, known = _class(config, model, path)
    if config.get("split_special_tokens"):
        _refuse(path, "split_special_tokens false", "true")

    specials: Json = {key: token for key, token in known.specials.items() if config.get(key, token) is not None}
    specials |= {
        key: token for key, token in config.items() if key.endswith("_token") and isinstance(token, (str, dict))
    }
    changes: Json = {"added_tokens": _added_tokens(shown, config, specials, known, path)}
    if known.build is None:
        first: Json = shown["pre_tokenizer"] or {}
        stated = config.get("add_prefix_space")
        if stated is not None and first.get("add_prefix_space", stated) != stated:
            _refuse(path, f"add_prefix_space as in the pre_tokenizer, {first['add_prefix_space']}", str(stated))
    else:
        contents = {key: _content(token) for key, token in specials.items()}
        ids = {**_vocabulary(shown), **{token["content"]: token["id"] for token in changes["added_tokens"]}}
        built = known.build(config, contents, ids, shown)._asdict()
        for part, wanted in built.items():
            if _decisive(part, shown[part], wanted) != _decisive(part, wanted, wanted):
                msg = f"a class that builds its {part} (with tokenizer_class {GENERIC} it is read as it is)"
                _refuse(path, msg, name)
        changes |= {part: built[part] for part in known.folds}

    by_default = ["token_type_ids"] if known.types else []
    if "token_type_ids" not in config.get("model_input_names", by_default):
        changes["post_processor"] = _without_types(changes.get("post_processor", shown["post_processor"]))
    changes = {part: value for part, value in changes.items() if value != shown[part]}
    if (truncation := _truncation(given, config, model, path)) is not None:
        changes["truncation"] = truncation
    return json.dumps({**given, **changes}, ensure_ascii=False) if changes else text


def fold_text_config(text: str, longest: int | None, lower: bool) -> str:  # noqa: FBT001
    """Return the text of a folded tokenizer.json with what sentence-transformers makes of it.

    Parameters
    ----------
    text
        As ``fold_config`` returns it.
    longest
        Tokens of the longest text, whatever tokenizer_config.json says; None leaves it to that.
    lower
        Whether texts are lower-cased first, unless the normalizer is ``Lowercase`` or a sequence with one.
    """
    given: Json = parse_json(text)
    changes: Json = {}
    if longest is not None:
        own: Json = given.get("truncation") or {}
        side = own.get("direction", "Right") if FOLDED in text else "Right"
        changes["truncation"] = _truncated(side, longest)
    if lower:
        normalizer: Json = given.get("normalizer") or {"type": "Sequence", "normalizers": []}
        parts: list[Json] = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
        if not any(part["type"] == "Lowercase" for part in parts):
            changes["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *parts]}
    return json.dumps({**given, **changes}, ensure_ascii=False) if changes else text


def _read(file: Path) -> Json:
    try:
        values: Any = read_json(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"{file} must be a readable JSON file, got {said(error)}"
        raise CheckpointError(msg) from None
    if not isinstance(values, dict):
        msg = f"{file} must hold a JSON object, got {json.dumps(values)[:40]}"
        raise CheckpointError(msg)
    return cast("Json", values)


def _refuse(path: Path, rule: str, got: str) -> NoReturn:
    file = "tokenizer_config.json" if (path / "tokenizer_config.json").exists() else "config.json"
    msg = f"{path / file} must have, for the tokenizer.json beside it, {rule}, got {got}"
    raise CheckpointError(msg)


def _class(config: Json, model: Json, path: Path) -> tuple[str, TokenizerClass]:
    name = config.get("tokenizer_class") or model.get("tokenizer_class")
    if name is None:
        name = MODEL_TYPES.get(model.get("model_type", ""), GENERIC)
    name = str(name) if name in TOKENIZERS else str(name).removesuffix("Fast")
    if name not in TOKENIZERS:
        _refuse(path, f"a tokenizer_class among {', '.join(sorted(TOKENIZERS))}", name)
    return name, TOKENIZERS[name]


def _content(token: str | Json) -> str:
    return token if isinstance(token, str) else token["content"]


def _vocabulary(shown: Json) -> dict[str, int]:
    vocabulary = shown["model"]["vocab"]
    if shown["model"]["type"] != "Unigram":
        return vocabulary
    return {token: index for index, (token, _) in enumerate(vocabulary)}  # with their scores


def _added_tokens(
    shown: Json, config: Json, specials: Mapping[str, str | Json], known: TokenizerClass, path: Path
) -> list[Json]:
    """Return the added tokens, with the special tokens that only the configuration or the class names."""
    added: list[Json] = list(shown["added_tokens"])
    listed = {token["content"]: token for token in added}
    declared = config.get("added_tokens_decoder")
    if declared is not None:
        flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
        theirs = {int(index): [token.get(flag) for flag in flags] for index, token in declared.items()}
        if theirs != {token["id"]: [token[flag] for flag in flags] for token in added}:
            _refuse(path, "the same added tokens in added_tokens_decoder", f"{len(theirs)} where it has {len(added)}")
    else:
        for content, index in _read(path / "added_tokens.json").items():
            if content not in listed or listed[content]["id"] != index:
                _refuse(path, "an added_tokens.json whose tokens it has too", f"'{content}' with id {index}")

    vocabulary = _vocabulary(shown)
    extra: Any = config.get("extra_special_tokens") or config.get("additional_special_tokens") or known.extra
    mask = specials.get("mask_token", "")
    if "bos_token" in known.specials and isinstance(mask, str) and mask not in {*listed, ""}:
        _refuse(path, "a mask token among its added tokens", f"'{mask}'")  # may swallow the space before it, or not
    order = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    tokens: list[str | Json] = [specials[key] for key in order if key in specials]
    tokens += extra.values() if isinstance(extra, dict) else extra
    for key in specials.keys() - {*order}:  # release 4 leaves these as the text they are
        if (content := _content(specials[key])) not in listed:
            _refuse(path, f"{key} among its added tokens", f"'{content}'")
    for token in tokens:
        content = _content(token)
        if content in listed:
            continue
        beyond = max([len(vocabulary), *(each["id"] + 1 for each in added)])
        given: Json = token if isinstance(token, dict) else {}
        flags = {flag: given.get(flag, False) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
        listed[content] = {"id": vocabulary.get(content, beyond), "content": content, **flags, "special": True}
        added.append(listed[content])
    return sorted(added, key=lambda token: token["id"])


def _decisive(part: str, value: Json | None, wanted: Json) -> Any:
    """Return what of a part decides ids, apart from the fields that both releases set alike."""
    if part == "model":
        return {key: None if value[key] in ("", False) and value[key] != 0 else value[key] for key in wanted if value}
    if part == "post_processor":
        return _pieces(value)
    if part == "normalizer":
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}  # the pre-tokenizer splits at them
        steps = [step for step in _steps(value, "normalizers") if step != spaces]
        free = {"lowercase", "strip_accents", "handle_chinese_chars"}
    else:
        steps, free = _steps(value, "pretokenizers"), {"add_prefix_space", "trim_offsets"}
    return [{key: setting for key, setting in step.items() if key not in free} for step in steps]


def _steps(part: Json | None, inside: str) -> list[Json]:
    if part is None:
        return []
    return part[inside] if part["type"] == "Sequence" else [part]


def _pieces(post: Json | None) -> tuple[list[Piece], list[Piece]]:
    """Return what a post-processor makes of a text, and of a pair."""
    single, pair = [Piece("A", None, 0)], [Piece("A", None, 0), Piece("B", None, 1)]
    for step in _steps(post, "processors"):
        if step["type"] == "TemplateProcessing":
            single, pair = ([each for item in step[side] for each in _items(item, step)] for side in ("single", "pair"))
        elif step["type"] in {"BertProcessing", "RobertaProcessing"}:
            is_bert = step["type"] == "BertProcessing"
            (sep, sep_id), (cls, cls_id) = step["sep"], step["cls"]
            single = [Piece(cls, cls_id, 0), Piece("A", None, 0), Piece(sep, sep_id, 0)]
            middle = [] if is_bert else [Piece(sep, sep_id, 0)]
            pair = [*single, *middle, Piece("B", None, int(is_bert)), Piece(sep, sep_id, int(is_bert))]
    return single, pair


def _items(item: Json, step: Json) -> list[Piece]:
    if "Sequence" in item:
        return [Piece(item["Sequence"]["id"], None, item["Sequence"]["type_id"])]
    special = step["special_tokens"][item["SpecialToken"]["id"]]
    tokens, ids = special["tokens"], special["ids"]
    if len(tokens) != len(ids):
        msg = f"{len(ids)} ids for {len(tokens)} tokens of {item['SpecialToken']['id']!r:.60} in its post_processor"
        raise ValueError(msg)
    return [Piece(token, i, item["SpecialToken"]["type_id"]) for token, i in zip(tokens, ids, strict=True)]


def _template(single: Sequence[Piece], pair: Sequence[Piece]) -> Json:
    def written(piece: Piece) -> Json:
        return {
            "Sequence" if piece.id is None else "SpecialToken": {"id": piece.token, "type_id": piece.type_id},
        }

    specials = {piece.token: piece.id for piece in (*single, *pair) if piece.id is not None}
    return {
        "type": "TemplateProcessing",
        "single": [written(piece) for piece in single],
        "pair": [written(piece) for piece in pair],
        "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in specials.items()},
    }


def _without_types(post: Json | None) -> Json | None:
    single, pair = _pieces(post)
    if not any(piece.type_id for piece in (*single, *pair)):
        return post
    template = _template(*([piece._replace(type_id=0) for piece in side] for side in (single, pair)))
    trims = [step for step in _steps(post, "processors") if step["type"] == "ByteLevel"]
    return {"type": "Sequence", "processors": [*trims, template]} if trims else template


def _truncation(given: Json, config: Json, model: Json, path: Path) -> Json | None:
    """Return the truncation section where a text must be shorter than the position table, or loses its start."""
    longest = config.get("model_max_length", config.get("max_len"))
    longest = UNLIMITED if longest is None else longest
    if not isinstance(longest, (int, float)) or longest < 1:
        _refuse(path, "a positive model_max_length", repr(longest))
    own: Json = given.get("truncation") or {}
    side: str = config.get("truncation_side") or own.get("direction", "Right").lower()
    if side not in ("left", "right"):
        _refuse(path, "a truncation_side left or right", repr(side))
    positions = model.get("max_position_embeddings")
    positions = positions if isinstance(positions, int) else UNLIMITED
    if side == "right" and longest >= positions:
        return None
    return _truncated(side.capitalize(), int(min(longest, positions, UNLIMITED)))


def _truncated(direction: str, longest: int) -> Json:
    key, by = json.loads(f"{{{FOLDED}}}").popitem()
    return {"direction": direction, "max_length": longest, "strategy": "LongestFirst", "stride": 0, key: by}


# ---- the classes of transformers


def _around(first: str, last: str, ids: Mapping[str, int], *, gap: int = 1, second: int = 0) -> Json:
    """Return the template first A last [first A last * gap B last], the second text of type ``second``."""
    single = [Piece(first, ids[first], 0), Piece("A", None, 0), Piece(last, ids[last], 0)]
    pair = [*single, *single[2:] * (gap - 1), Piece("B", None, second), Piece(last, ids[last], second)]
    return _template(single, pair)


def _bert(config: Json, contents: Mapping[str, str], ids: Mapping[str, int], _: Json) -> Parts:
    return Parts(
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config.get("do_lower_case", True),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_around(contents["cls_token"], contents["sep_token"], ids, second=1),
        model={
            "type": "WordPiece",
            "unk_token": contents["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    )


def _roberta(config: Json, contents: Mapping[str, str], ids: Mapping[str, int], shown: Json) -> Parts:
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415 - heavy, see intsim.io.tokenizer

    byte_level = {
        "add_prefix_space": config.get("add_prefix_space", False),
        "trim_offsets": config.get("trim_offsets", True),
    }
    is_complete = _vocabulary(shown).keys() >= set(ByteLevel.alphabet())  # no byte is unknown
    return Parts(
        normalizer=None,
        pre_tokenizer={"type": "ByteLevel", **byte_level, "use_regex": True},
        post_processor={
            "type": "RobertaProcessing",
            "sep": [contents["sep_token"], ids[contents["sep_token"]]],
            "cls": [contents["cls_token"], ids[contents["cls_token"]]],
            **byte_level,
        },
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": shown["model"].get("unk_token") if is_complete else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "byte_fallback": False,
            "ignore_merges": False,
        },
    )


def _unigram(config: Json, steps: list[Json], post_processor: Json, unknown: int, shown: Json) -> Parts:
    """Return the parts of a SentencePiece tokenizer: its character map, and words that begin with a mark."""
    maps = [step for step in _steps(shown["normalizer"], "normalizers") if step["type"] == "Precompiled"]
    scheme = "always" if config.get("add_prefix_space", True) else "never"
    mark = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}
    return Parts(
        normalizer={"type": "Sequence", "normalizers": [*steps, *maps[:1]]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, mark]},
        post_processor=post_processor,
        model={"type": "Unigram", "unk_id": unknown, "byte_fallback": False},
    )


def _xlm_roberta(config: Json, contents: Mapping[str, str], ids: Mapping[str, int], shown: Json) -> Parts:
    return _unigram(config, [], _around(contents["bos_token"], contents["eos_token"], ids, gap=2), 3, shown)


def _camembert(config: Json, contents: Mapping[str, str], ids: Mapping[str, int], shown: Json) -> Parts:
    template = _around(contents["bos_token"], contents["eos_token"], ids, gap=2)
    return _unigram(config, [], template, _vocabulary(shown).get(contents["unk_token"], 0), shown)


def _albert(config: Json, contents: Mapping[str, str], ids: Mapping[str, int], shown: Json) -> Parts:
    quotes: list[Json] = [{"type": "Replace", "pattern": {"String": old}, "content": '"'} for old in ("``", "''")]
    accents: list[Json] = [] if config.get("keep_accents", False) else [{"type": "NFKD"}, {"type": "StripAccents"}]
    lower: list[Json] = [{"type": "Lowercase"}] if config.get("do_lower_case", True) else []
    template = _around(contents["cls_token"], contents["sep_token"], ids, second=1)
    return _unigram(config, [*quotes, *accents, *lower], template, 1, shown)


_WORDPIECE: Final = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_SENTENCE: Final = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_NOT_USED: Final = ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED")
_ALBERT: Final = {**_WORDPIECE, "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "pad_token": "<pad>"}
_BERT: Final = TokenizerClass(_WORDPIECE, types=True, folds=("normalizer",), build=_bert)

TOKENIZERS: Final = {
    "AlbertTokenizer": TokenizerClass(_ALBERT, build=_albert),
    "BertTokenizer": _BERT,
    "CamembertTokenizer": TokenizerClass(_SENTENCE, extra=_NOT_USED, build=_camembert),
    "DistilBertTokenizer": _BERT._replace(types=False),
    "ElectraTokenizer": _BERT,
    "MobileBertTokenizer": _BERT,
    "PreTrainedTokenizer": TokenizerClass({}),
    GENERIC: TokenizerClass({}),
    "RobertaTokenizer": TokenizerClass(_SENTENCE, folds=("pre_tokenizer", "post_processor"), build=_roberta),
    "TokenizersBackend": TokenizerClass({}),
    "XLMRobertaTokenizer": TokenizerClass(_SENTENCE, build=_xlm_roberta),
}
MODEL_TYPES: Final = {  # the class of a checkpoint that names none
    "albert": "AlbertTokenizer",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "ibert": "RobertaTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
