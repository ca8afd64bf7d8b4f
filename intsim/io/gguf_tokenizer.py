# SPDX-License-Identifier: Apache-2.0
"""Turns the vocabulary of a GGUF file into a tokenizer.json: pairs of bytes with merges, or sentencepiece's scores."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from intsim.errors import CheckpointError
from intsim.io.gguf_file import Gguf

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BYTE", "CONTROL", "NORMAL", "UNKNOWN", "build_tokenizer", "sentencepiece_bpe"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
"""Kinds of tokens, as sentencepiece numbers them."""

PRE: Final = ("gpt-2", "smollm", "llama-bpe", "qwen2")
"""How texts are cut into words before pairs are made, by llama.cpp's names."""
WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build_tokenizer(gguf: Gguf) -> str:
    """Return the text of a tokenizer.json.

    Raises
    ------
    CheckpointError
        If the file holds no vocabulary, or one of a kind that is not known. What is wrong with one of a known kind is
        raised as Python and the tokenizers package raise it.
    """
    values = {key.removeprefix("tokenizer.ggml."): value for key, value in gguf.metadata.items()}
    for name in ("scores", "token_type"):
        if name in values and len(values[name]) != (count := len(values["tokens"])):
            msg = f"{len(values[name])} values of {name} for {count} tokens"
            raise ValueError(msg)
    _check(gguf, "model", KINDS, kind := str(values.get("model", "nothing")))
    if kind == "gpt2":
        _check(gguf, "pre", PRE, values.get("pre", "nothing"))
    return KINDS[kind](values).to_str()


def _check(gguf: Gguf, name: str, known: Collection[str], value: object) -> None:
    if value not in known:
        msg = f"tokenizer.ggml.{name} of {gguf.file} must be one of {', '.join(known)} to read text, got {value}"
        raise CheckpointError(msg)


def sentencepiece_bpe(
    tokens: Sequence[str],
    scores: Sequence[float],
    kinds: Sequence[int],
    *,
    prefix: bool = True,
    bos: int | None = None,
    eos: int | None = None,
) -> "Tokenizer":
    """Return the tokenizer of a sentencepiece model of pairs: of two neighbours, the best-scored piece is made first.

    Parameters
    ----------
    tokens, scores, kinds
        Of each token its text, its score and its kind. Pairs are made of normal tokens, and characters that are no
        token become the tokens of their bytes, ``<0x00>`` to ``<0xFF>``.
    prefix
        Whether a space comes before every text.
    bos, eos
        The tokens that come before and after every text.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers  # noqa: PLC0415 - heavy

    vocabulary = {token: i for i, token in enumerate(tokens)}
    normal = {token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL}
    merges = sorted(
        (
            (-scores[i], token[:cut], token[cut:])
            for token, i in vocabulary.items()
            if token in normal
            for cut in range(1, len(token))
            if token[:cut] in normal and token[cut:] in normal
        ),
        key=lambda merge: merge[0],
    )
    pairs = [(left, right) for _, left, right in merges]
    unknown = next((token for token, kind in zip(tokens, kinds, strict=True) if kind == UNKNOWN), None)
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return _with_special(tokenizer, tokens, kinds, bos=bos, eos=eos)


def _sentencepiece(values: Mapping[str, Any]) -> "Tokenizer":
    return sentencepiece_bpe(
        values["tokens"],
        values["scores"],
        values["token_type"],
        prefix=values.get("add_space_prefix", True),
        bos=values["bos_token_id"] if values.get("add_bos_token", True) else None,
        eos=values["eos_token_id"] if values.get("add_eos_token", False) else None,
    )


def _byte_level(values: Mapping[str, Any]) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers  # noqa: PLC0415 - heavy

    tokens, kind = values["tokens"], values.get("pre")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in values["merges"]]
    for pair in pairs:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            msg = f"a merge {' '.join(pair)!r:.60} that does not make a token of two"
            raise ValueError(msg)
    whole = kind == "llama-bpe"  # a word that is a token is not taken apart
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=whole))

    def split(digits: str) -> Any:
        pattern = Regex(WORDS.format(digits=digits) + REST)
        return pre_tokenizers.Split(pattern, behavior="isolated")

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    match kind:
        case "gpt-2":
            tokenizer.pre_tokenizer = gpt2
        case "smollm":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
        case "llama-bpe":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split("{1,3}"), bytes_])
        case _:  # qwen2
            tokenizer.normalizer = normalizers.NFC()
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(""), bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    return _with_special(
        tokenizer,
        tokens,
        values["token_type"],
        bos=values["bos_token_id"] if values.get("add_bos_token", whole) else None,
        eos=values["eos_token_id"] if values.get("add_eos_token", False) else None,
    )


KINDS: Final = {"gpt2": _byte_level, "llama": _sentencepiece}


def _with_special(
    tokenizer: "Tokenizer", tokens: Sequence[str], kinds: Sequence[int], *, bos: int | None, eos: int | None
) -> "Tokenizer":
    """Add the tokens that are found whole in a text, and those that come before and after it."""
    from tokenizers import AddedToken, processors  # noqa: PLC0415 - heavy

    of_kind = list(zip(tokens, kinds, strict=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, kind in of_kind if kind in (UNKNOWN, CONTROL)])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, kind in of_kind if kind == USER_DEFINED])
    ends = [(tokens[i], i) for i in (bos, eos) if i is not None]
    first, last = ("" if i is None else tokens[i] for i in (bos, eos))
    one, two = ([piece for piece in (first, text, last) if piece] for text in ("$A", "$B"))
    tokenizer.post_processor = processors.TemplateProcessing(  # $B would be of type 1, and decoders know one
        single=one, pair=[*one, *(f"{piece}:0" for piece in two)], special_tokens=ends
    )
    return tokenizer
