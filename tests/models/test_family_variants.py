# SPDX-License-Identifier: Apache-2.0
"""What a config.json may say beside sizes: activation functions, shared layers, tied decoders, MobileBERT's parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import families
import numpy as np
import pytest
from family_runs import Feed, assert_engine_agrees, draw, floats, judged, traced, transformers, values
from safetensors.numpy import load_file, save_file

import intsim
from intsim.io.huggingface import open_checkpoint
from intsim.models.widths import widths
from intsim.testing import assert_bit_exact

WritesCheckpoint = Callable[..., Path]
MakesModel = Callable[..., intsim.IntegerModel]
Case = tuple[str, str, dict[str, Any]]

ACTIVATED: Final[list[Case]] = [
    (family, "masked-lm", {field: function})
    for family, field in (("bert", "hidden_act"), ("distilbert", "activation"))
    for function in families.ACTIVATIONS
]
BOTTLENECKS: Final[list[Case]] = [
    ("mobilebert", head, fields)
    for head, fields in [
        ("two-classes", {"classifier_activation": False}),
        ("none", {"use_bottleneck": False, "intra_bottleneck_size": 20}),
        ("masked-lm", {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False}),
        ("two-classes", {"key_query_shared_bottleneck": False, "intra_bottleneck_size": 20}),
        ("question-answering", {"normalization_type": "layer_norm", "layer_norm_eps": 1e-3}),
        ("masked-lm", {"trigram_input": False}),
        ("masked-lm", {"embedding_size": 20}),
        ("none", {"num_feedforward_networks": 1, "hidden_act": "gelu"}),
    ]
]
OTHERS: Final[list[Case]] = [
    ("electra", "masked-lm", {"embedding_size": 20}),
    ("electra", "masked-lm-untied", {"embedding_size": 20}),
    ("electra", "two-classes", {"hidden_act": "relu"}),  # the head's GELU stays
    ("roberta", "masked-lm", {"hidden_act": "relu"}),
    ("albert", "none", {"embedding_size": 20}),
    ("albert", "masked-lm", {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}),
    ("albert", "none", {"num_hidden_layers": 5, "num_hidden_groups": 3}),
    ("albert", "two-classes", {"num_hidden_layers": 1}),
    ("bert", "masked-lm", {"layer_norm_eps": 1e-2}),
    ("bert", "none", {"type_vocab_size": 5, "num_attention_heads": 1}),
    *(("roberta", "masked-lm", {"pad_token_id": pad, "max_position_embeddings": 41 + pad}) for pad in (0, 3)),
    ("camembert", "token-classification", {"pad_token_id": 5, "max_position_embeddings": 46}),
]
UNUSED: Final[list[Case]] = [  # transformers makes layers that it does not run
    ("mobilebert", "none", {"use_bottleneck_attention": True}),
    ("mobilebert", "none", {"trigram_input": False, "embedding_size": 20}),
]
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # of the masked LM with E = C
variants = pytest.mark.parametrize(
    ("family", "head", "fields"),
    [*ACTIVATED, *BOTTLENECKS, *OTHERS],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value,
)


@variants
def test_the_float_world_is_transformers(
    family_checkpoint: WritesCheckpoint, family: str, head: str, fields: dict[str, Any]
) -> None:
    path = family_checkpoint(family, head, **fields)
    feed = draw(open_checkpoint(path).config, 1, 6, 9)
    if family == "mobilebert":
        feed = feed._replace(ids=np.where(feed.mask, feed.ids, 0))
    np.testing.assert_allclose(floats(path, feed), transformers(path, feed)[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("recipe", ["intsim", pytest.param("tm-iqr", marks=pytest.mark.slow)])
@variants
def test_every_integer_is_the_oracles_and_the_engines(
    family_model: MakesModel, tmp_path: Path, family: str, head: str, fields: dict[str, Any], recipe: str
) -> None:
    model = family_model(family, head, recipe, **fields)
    assert judged(model, draw(model.config, 2, 3, 5), tmp_path / "trace") == []
    feeds = [draw(model.config, 3, *shape) for shape in ((4, 6), (1, model.config.longest))]
    assert_engine_agrees(model, feeds, tmp_path / "model.onnx")
    assert {*traced(model, feeds[0])} - {""} == widths(model).keys()


@variants
def test_the_integer_model_is_near_the_float_model(
    family_checkpoint: WritesCheckpoint, family_model: MakesModel, family: str, head: str, fields: dict[str, Any]
) -> None:
    path, model = family_checkpoint(family, head, **fields), family_model(family, head, **fields)
    feed = draw(model.config, 4, 6, 8)
    kept = feed.mask.astype(bool) if model.outline.result.of_token else slice(None)
    expected = floats(path, feed)[kept]
    form = model.output_format
    found = (values(model, feed)[kept] - float(form.zero_point)) * np.ldexp(
        1.0 * form.scale.multiplier, -form.scale.shift
    )
    error = np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.35


# ---- ALBERT: one layer, run several times


def test_the_layers_of_albert_are_stored_once_and_have_ranges_of_their_own(
    family_model: MakesModel, tmp_path: Path
) -> None:
    model, longer = (family_model("albert", "none", num_hidden_layers=n) for n in (2, 6))
    weights = {name for name, values in model.tensors.items() if values.ndim == 2}
    assert weights == {name for name, values in longer.tensors.items() if values.ndim == 2}
    sizes = []
    for each in (model, longer):
        each.save(tmp_path / str(len(sizes)))
        stored = load_file(tmp_path / str(len(sizes)) / "model.safetensors")
        sizes.append(sum(values.nbytes for values in stored.values() if values.ndim == 2))
    assert sizes[0] == sizes[1]
    norms = [name for name in longer.formats if name.endswith("full_layer_layer_norm")]
    assert len(norms) == 6
    scales = {(int(longer.formats[n].scale.multiplier), int(longer.formats[n].scale.shift)) for n in norms}
    assert len(scales) == 6
    calls = traced(longer, draw(longer.config, 5, 1, 4)).calls
    queries = [call.operands[1] for name, call in calls.items() if name.endswith("query.acc")]
    assert len(queries) == 6
    assert all(np.shares_memory(queries[0], query) for query in queries)


# ---- masked language models


@pytest.mark.parametrize("family", families.ENCODERS)
def test_a_tied_decoder_has_the_weight_of_the_words_and_an_untied_one_its_own(
    family_checkpoint: WritesCheckpoint, family: str
) -> None:
    for head in ("masked-lm", "masked-lm-untied"):
        checkpoint = open_checkpoint(family_checkpoint(family, head))
        decoder = checkpoint.outline.result.name
        words = checkpoint.load("embeddings.word_embeddings.weight")
        weight = checkpoint.load(f"{decoder}.weight")[:, : words.shape[1]]
        assert np.array_equal(weight, words) == (head == "masked-lm")


@pytest.mark.parametrize("family", families.ENCODERS)
def test_the_words_and_the_decoder_tied_to_them_are_quantized_apart_or_stored_once(
    family_model: MakesModel, family: str
) -> None:
    tied, untied = (family_model(family, head) for head in ("masked-lm", "masked-lm-untied"))
    feed = draw(tied.config, 6, 2, 5)
    for model in (tied, untied):
        decoder = model.outline.result.name
        codes = traced(model, feed).calls[f"{decoder}.acc"].operands[1]
        assert np.array_equal(codes, model.codes(f"{decoder}.weight"))
    assert tied.tensors.keys() == untied.tensors.keys()


def test_a_file_with_the_decoder_twice_is_read_as_transformers_reads_it(
    family_checkpoint: WritesCheckpoint, tmp_path: Path
) -> None:
    path = family_checkpoint("bert", "masked-lm")
    tensors = load_file(path / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((path / "config.json").read_bytes())
    feed = draw(open_checkpoint(tmp_path).config, 7, 3, 6)
    assert np.array_equal(floats(tmp_path, feed), floats(path, feed))


# ---- MobileBERT: what stands beside the text


@pytest.mark.parametrize("head", ["none", "masked-lm", "two-classes"])
def test_the_neighbours_of_a_text_are_zeros_whatever_the_row_of_padding(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, head: str
) -> None:
    path = family_checkpoint("mobilebert", head)
    tensors = load_file(path / "model.safetensors")
    (words,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[words][0] = np.linspace(-1, 1, tensors[words].shape[1])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((path / "config.json").read_bytes())
    texts = [[2, 7, 30, 9, 41, 3], [2, 12, 0, 3]]  # one with the row of padding within
    ids = np.array([texts[0], [*texts[1], 0, 0]])
    feed = Feed(ids, np.array([[1] * 6, [1] * 4 + [0] * 2]), np.zeros_like(ids))
    found = floats(tmp_path, feed)
    for row, text in enumerate(texts):
        alone = Feed(np.array([text]), np.ones((1, len(text)), int), np.zeros((1, len(text)), int))
        expected = transformers(tmp_path, alone)[0][0]
        part = found[row] if head == "two-classes" else found[row, : len(text)]
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-11)
    assert np.abs(transformers(tmp_path, feed)[0][1] - found[1]).max() > 1e-3  # which looks at the row


# ---- DistilBERT


def test_distilbert_takes_the_marks_of_a_pair_and_does_not_look_at_them(
    family_checkpoint: WritesCheckpoint, family_model: MakesModel
) -> None:
    path, model = family_checkpoint("distilbert", "masked-lm"), family_model("distilbert", "masked-lm")
    feed = draw(model.config, 8, 3, 6)
    assert feed.types.any()
    unmarked = feed._replace(types=np.zeros_like(feed.types))
    assert_bit_exact(values(model, feed), values(model, unmarked))
    assert np.array_equal(floats(path, feed), floats(path, unmarked))


# ---- configurations that are not computed


@pytest.mark.parametrize(
    ("family", "fields", "named"),
    [
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert", {"hidden_act": "mish"}, "hidden_act"),
        ("distilbert", {"activation": "mish"}, "activation"),
        ("bert", {"num_attention_heads": 3}, "num_attention_heads|hidden_size"),
        ("bert", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("bert", {"hidden_size": "20"}, "hidden_size"),
        ("bert", {"vocab_size": None}, "vocab_size"),
        ("albert", {"num_hidden_groups": 0}, "num_hidden_groups"),
        ("mobilebert", {"normalization_type": "batch_norm"}, "normalization_type"),
        ("mobilebert", {"key_query_shared_bottleneck": False}, "shape"),
        ("mobilebert", {"use_bottleneck": 3}, "use_bottleneck"),
        ("roberta", {"pad_token_id": 50}, "pad_token_id|max_position_embeddings"),
    ],
    ids=str,
)
def test_a_configuration_that_is_not_computed_is_refused(
    family_checkpoint: WritesCheckpoint, tmp_path: Path, family: str, fields: dict[str, Any], named: str
) -> None:
    path = family_checkpoint(family, "none")
    config = json.loads((path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | fields))
    (tmp_path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    with pytest.raises(intsim.IntsimError, match=named) as refused:
        open_checkpoint(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("family", "head", "fields"), UNUSED)
def test_layers_that_are_not_run_are_refused(
    family_checkpoint: WritesCheckpoint, family: str, head: str, fields: dict[str, Any]
) -> None:
    path = family_checkpoint(family, head, **fields)
    with pytest.raises(intsim.IntsimError, match=r"must hold the tensors that its config\.json speaks of"):
        open_checkpoint(path)
