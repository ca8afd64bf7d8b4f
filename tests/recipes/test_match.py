# SPDX-License-Identifier: Apache-2.0
"""A recipe laid on a model says what it could not lay."""

from intsim.io.huggingface import open_checkpoint
from intsim.recipes import match, parse_recipe

RULES = {
    "weights": [{"names": ["*.query.weigth", "*"], "bits": 8, "granularity": "tensor"}],
    "activations": [
        {"names": "last_hidden_state", "roles": "output", "bits": 16, "symmetric": True},
        {"names": "*", "bits": 8, "symmetric": False},
    ],
    "inputs": [{"names": ["*.output.input", "*.outputs.input"], "bits": 8, "symmetric": True}],
}


def test_a_name_that_no_tensor_has_is_said(tiny_bert):
    rules = match(parse_recipe(RULES), open_checkpoint(tiny_bert()).outline)
    assert rules.notes == (
        "no weight is called '*.query.weigth'",
        "no activation is called 'last_hidden_state'",
        "no input is called '*.outputs.input'",
    )


def test_a_role_that_this_head_does_not_have_is_no_mistake(tiny_bert):
    recipe = {**RULES, "weights": [{"names": "*", "bits": 8, "granularity": "tensor"}], "inputs": []}
    recipe["activations"] = [{"roles": "output", "bits": 16, "symmetric": True}, RULES["activations"][1]]
    assert match(parse_recipe(recipe), open_checkpoint(tiny_bert()).outline).notes == ()
