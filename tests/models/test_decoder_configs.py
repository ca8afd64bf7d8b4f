# SPDX-License-Identifier: Apache-2.0
"""What a decoder's config.json may say: whatever changes what transformers computes is read, or refused."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from families import DECODERS, FAMILIES, modules

from intsim import models
from intsim.cli import main
from intsim.errors import CheckpointError
from intsim.models.decoder import UNCOMPUTED, RopeConfig

WritesCheckpoint = Callable[..., Path]

SIZES: Final[Mapping[str, Any]] = {**{name: value for each in FAMILIES.values() for name, value in each.items()}}
ROTATED: Final = tuple(family for family in DECODERS if issubclass(models.FAMILIES[family].config, RopeConfig))
GATED: Final = ("llama", "mistral", "qwen2", "gemma")
WITHOUT_EFFECT: Final = {
    "initializer_range",
    "init_std",
    "use_cache",
    "pretraining_tp",  # the same products in slices
    "reorder_and_upcast_attn",  # the same products in float32
    "bos_token_id",
    "is_decoder",
    "max_window_layers",  # where use_sliding_window, which is refused
}
TRAINING: Final = ("dropout", "pdrop", "layerdrop")
SUMMARY: Final = "summary_"  # of GPT-2's head for two answers
CHANGED: Final[Mapping[str, Any]] = {
    "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    "layer_types": ["sliding_attention", "full_attention"],
    "use_bidirectional_attention": True,
    "pad_token_id": 5,
    "hidden_act": "relu",
    "activation_function": "gelu",
}
BESIDES: Final = {"labels", "eos_token_id", "head_dim", "n_inner", "word_embed_proj_dim"}  # the last three from others
every_decoder = pytest.mark.parametrize("family", DECODERS)


def read(family: str, **values: Any) -> Any:
    """Return the configuration of a tiny decoder with other fields."""
    return models.FAMILIES[family].config.read({**FAMILIES[family], **values})


def theirs(family: str, **values: Any) -> Any:
    """Return that of transformers."""
    return modules()[1].AutoConfig.for_model(family, **values)


@every_decoder
def test_every_field_of_transformers_is_read_or_refused_or_without_effect(family: str) -> None:
    common, usual = modules()[1].PretrainedConfig().to_dict(), theirs(family).to_dict()
    config = read(family)
    known = [
        name
        for name in usual
        if (name not in common or name == "tie_word_embeddings") and name not in WITHOUT_EFFECT
        if not name.endswith(TRAINING) and not name.startswith(SUMMARY)
    ]
    assert len(known) > 10
    for name in known:
        usually = FAMILIES[family].get(name, usual[name])
        other = CHANGED[name] if name in CHANGED else not usually if isinstance(usually, bool) else 2 * (usually or 4)
        if name == "sliding_window" and family == "qwen2":
            continue  # without use_sliding_window nothing reads it
        try:
            assert read(family, **{name: other}) != config, name
        except CheckpointError as error:
            assert "in config.json must be" in str(error)  # noqa: PT017 - either of the two


@every_decoder
def test_what_config_json_leaves_out_is_as_transformers_has_it(family: str) -> None:
    needed = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "ffn_dim"}
    sizes = {name: value for name, value in FAMILIES[family].items() if name in needed}
    longest = {"n_positions" if family in {"gpt2", "gptj"} else "max_position_embeddings": 40}
    heads = {"num_attention_heads": 32} if family in GATED else {}
    ours = models.FAMILIES[family].config.read({**sizes, **longest, **heads, "hidden_size": 64})
    usual = theirs(family)
    values = ours.to_json() | {"rotary_dim": getattr(ours, "rotary_dim", None)}
    for name in {*values} - {*sizes, "max_position_embeddings", *heads} - BESIDES:
        if hasattr(usual, name) and getattr(usual, name) is not None and name != "num_key_value_heads":
            assert values[name] == getattr(usual, name), name
    if "num_key_value_heads" in values:
        ends = {"llama": 0}  # as many as there are heads
        assert values["num_key_value_heads"] == ends.get(family, usual.num_key_value_heads)


def test_padding_of_id_minus_1_is_none_and_beyond_the_vocabulary_refused() -> None:
    assert read("llama", pad_token_id=-1) == read("llama", pad_token_id=None)
    with pytest.raises(CheckpointError, match=r"pad_token_id in config\.json must be below vocab_size"):
        read("llama", pad_token_id=FAMILIES["llama"]["vocab_size"])


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_without_a_number_every_head_has_its_own_keys(family: str) -> None:
    assert read(family, num_key_value_heads=None).key_heads == 4
    assert theirs(family, **{**FAMILIES[family], "num_key_value_heads": None}).num_key_value_heads == 4


@pytest.mark.parametrize("family", GATED)
@pytest.mark.parametrize("place", [None, "rope_scaling", "rope_parameters"])
def test_heads_of_which_a_part_is_rotated_are_refused(family: str, place: str | None) -> None:
    values = {"partial_rotary_factor": 0.5}
    with pytest.raises(CheckpointError, match=r"^partial_rotary_factor in config.json must be 1.0, got 0.5$"):
        read(family, **(values if place is None else {place: values}))
    assert read(family, partial_rotary_factor=1) == read(family)


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "proportional", "su", "nothing", 3, ["linear"]])
@pytest.mark.parametrize("place", ["type", "rope_type"])
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_kinds_of_rotation_that_are_not_known_are_refused(family: str, place: str, kind: Any) -> None:
    for name in ("rope_scaling", "rope_parameters"):
        with pytest.raises(CheckpointError, match=r"^rope_type in config.json must be one of .*, got"):
            read(family, **{name: {place: kind, "factor": 2.0}})


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("llama", {"attention_bias": True}, "attention_bias in config.json must be False, got True"),
        ("llama", {"mlp_bias": True}, "mlp_bias in config.json must be False, got True"),
        ("gemma", {"attention_bias": True}, "attention_bias in config.json must be False, got True"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention in .* must be False, got True"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window in config.json must be False, got True"),
        (
            "qwen2",
            {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types .* 'full_attention' for every",
        ),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx .* must be False, got"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights in config.json must be True, got False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention in config.json must be False, got True"),
        ("opt", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine .* must be True, got False"),
        ("gptj", {"rope_theta": 50000}, "rope_theta in config.json must be 10000.0, got 50000.0"),
        ("gptj", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type .* must be 'default', got 'linear'"),
        (
            "llama",
            {"rope_scaling": {"type": "linear"}},
            "factor in .* must be given with rope_type 'linear', got nothing",
        ),
        (
            "llama",
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
            "original_max_position_embeddings in .* must be given with rope_type 'llama3', got nothing",
        ),
        *(
            (
                "llama",
                {
                    "rope_scaling": {
                        "rope_type": "llama3",
                        "factor": 8.0,
                        "low_freq_factor": 4.0,
                        "high_freq_factor": high,
                        "original_max_position_embeddings": 8192,
                    }
                },
                f"high_freq_factor in config.json must be above low_freq_factor, 4.0, got {high}",
            )
            for high in (4.0, 1.0)
        ),
        *(
            (
                family,
                {"max_position_embeddings": 2**22 + 1},
                "max_position_embeddings in config.json must be at most 4194304, got 4194305",
            )
            for family in ("llama", "gpt_neox")
        ),
        (
            "llama",
            {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "rope_parameters in config.json must be an object of one rotation for all layers, got",
        ),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(family: str, fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{message}"):
        read(family, **fields)


@pytest.mark.parametrize("name", UNCOMPUTED)
@every_decoder
def test_what_only_relatives_compute_is_refused(family: str, name: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{name} in config.json must be left out, since .*, got 30.0$"):
        read(family, **{name: 30.0})
    assert read(family, **{name: None}) == read(family)


def test_a_command_refuses_it_in_one_sentence(
    family_checkpoint: WritesCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = family_checkpoint("llama", "causal-lm")
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    values = json.loads((path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"rope_parameters": {"rope_type": "yarn"}}))
    monkeypatch.setattr(sys, "argv", ["intsim", "quantize", str(tmp_path), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    said = "rope_type in config.json must be one of default, linear, llama3, got 'yarn'\n"
    assert capsys.readouterr().err.endswith(said)
    assert not (tmp_path / "out").exists()
