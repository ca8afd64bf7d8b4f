# SPDX-License-Identifier: Apache-2.0
"""Reads what sentence-transformers keeps beside config.json: how a text is read and its hidden states are pooled.

modules.json lists what follows each other: a transformer, a pooling with a config.json of its own, maybe a
normalization. Where there is none, sentence-transformers takes the mean over the tokens, and so does intsim.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypedDict, cast

from intsim.errors import CheckpointError, said
from intsim.io.bounded import read_json
from intsim.models.world import Pooling

__all__ = ["Embedding", "read_embedding", "read_text_config"]

PACKAGE: Final = "sentence_transformers."
POOLINGS: Final[Mapping[str, Pooling]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
FLAGS: Final = {  # one key for each mode, in place of pooling_mode, as older releases wrote them
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
TEXT_FILES: Final = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


class Embedding(TypedDict):
    """How hidden states become the embedding of a sentence: fields of a ``Config``."""

    pooling: Pooling
    normalize: bool


def read_embedding(path: str | Path) -> Embedding:
    """Return how the checkpoint in the directory ``path`` makes embeddings: the mean, where it does not say.

    Raises
    ------
    CheckpointError
        If a file cannot be read, or names a module or a pooling that is not implemented.
    """
    file = Path(path) / "modules.json"
    if not file.exists():
        return {"pooling": "mean", "normalize": False}
    modules = _read(file)
    try:
        kinds = [str(module["type"]) for module in modules]
        folders = [Path(path) / module["path"] for module in modules]
    except (LookupError, TypeError):
        _refuse(file, "a list of modules with type and path", modules)
    names = [kind.rpartition(".")[2] if kind.startswith(PACKAGE) else kind for kind in kinds]
    for name, expected in zip(names, ("Transformer", "Pooling", "Normalize"), strict=False):
        if name != expected:
            _refuse(file, "the modules Transformer, Pooling and maybe Normalize", name)
    if not 2 <= len(names) <= 3:
        _refuse(file, "the modules Transformer, Pooling and maybe Normalize", names[3:] or names)
    if folders[0] != Path(path):
        _refuse(file, "its Transformer in the same folder", modules[0]["path"])
    return {"pooling": _pooling(folders[1] / "config.json"), "normalize": len(names) == 3}


def _pooling(file: Path) -> Pooling:
    values = _read_object(file)
    flags = [mode for key, mode in FLAGS.items() if values.get(key)] or ["mean"]
    given: Any = values.get("pooling_mode", flags)
    modes = cast("list[Any]", given) if isinstance(given, list) else [given]
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in POOLINGS:
        _refuse(file, f"one pooling mode of {', '.join(POOLINGS)}", ", ".join(map(str, modes)))
    return POOLINGS[modes[0]]


def read_text_config(path: str | Path) -> tuple[int | None, bool]:
    """Return how many tokens sentence-transformers gives the model of a text, and whether it lower-cases texts first.

    None where the tokenizer decides.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or a field breaks its rule.
    """
    file = next((file for name in TEXT_FILES if (file := Path(path) / name).exists()), None)
    if file is None:
        return None, False
    values = _read_object(file)
    longest, lower = values.get("max_seq_length"), values.get("do_lower_case", False)
    if longest is not None and (type(longest) is not int or longest < 1):
        _refuse(file, "a max_seq_length of at least 1", longest)
    if type(lower) is not bool:
        _refuse(file, "a do_lower_case that is true or false", lower)
    return longest, lower


def _read_object(file: Path) -> dict[str, Any]:
    values = _read(file)
    if not isinstance(values, dict):
        _refuse(file, "a JSON object", values)
    return cast("dict[str, Any]", values)


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        msg = f"{file} must be a readable JSON file, got {said(error)}"
        raise CheckpointError(msg) from None


def _refuse(file: Path, rule: str, got: object) -> NoReturn:
    msg = f"{file} must have {rule}, got {got!r:.60}"
    raise CheckpointError(msg)
