# SPDX-License-Identifier: Apache-2.0
import hashlib
from collections import Counter

import numpy as np
import oracle
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intsim.fixedpoint import Dyadic
from intsim.ops import argmax, sample_token
from intsim.profile import PROFILES

every_profile = pytest.mark.parametrize("name", ["intsim", "ibert", "intsim-wide"])
RATIO = Dyadic.from_real(np.asarray(2.0**-6), bits=30)
LOGITS = hnp.arrays(
    np.int32,
    st.tuples(st.integers(1, 3), st.integers(1, 9)),
    elements=st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**12), 2**12), st.sampled_from([0, 1, 64])),
)


@every_profile
@given(
    logits=LOGITS,
    multiplier=st.integers(1, 2**30 - 1),
    shift=st.integers(0, 62),
    top_k=st.integers(1, 12),
    seed=st.integers(-(2**40), 2**70),
    draw=st.integers(0, 2**20),
)
@example(logits=np.array([[-(2**31), 2**31 - 1, 0]], np.int32), multiplier=2**30 - 1, shift=0, top_k=3, seed=0, draw=0)
@example(logits=np.array([[5, 7, 7, 7, 5]], np.int32), multiplier=1, shift=62, top_k=2, seed=1, draw=2)
def test_tokens_are_the_oracles(name, logits, multiplier, shift, top_k, seed, draw):
    profile = PROFILES[name]
    found = sample_token(logits, Dyadic(multiplier, shift), top_k=top_k, seed=seed, draw=draw, profile=profile)
    assert found.dtype == np.int64
    how = {"top_k": top_k, "seed": seed, "draw": draw, "profile": profile.to_json()}
    expected = [oracle.sample_token(row, multiplier, shift, text=b, **how) for b, row in enumerate(logits.tolist())]
    assert found.tolist() == expected


@given(logits=LOGITS, seed=st.integers(0, 100))
def test_the_best_one_is_the_largest_of_the_lowest_id(logits, seed):
    found = sample_token(logits, RATIO, top_k=1, seed=seed, draw=0, profile=PROFILES["intsim"])
    assert np.array_equal(found, argmax(logits))


def test_tokens_come_as_often_as_their_shares_say():
    logits = np.array([[0, 1024, 2048, 2048, -(2**20)]], np.int32)  # in units of 2**-11, what exp reads
    how = {"top_k": 4, "seed": 5, "profile": PROFILES["intsim-wide"]}
    drawn = Counter(int(sample_token(logits, Dyadic(1, 0), draw=draw, **how)[0]) for draw in range(4000))
    shares = np.exp([-1, -0.5, 0, 0])
    expected = 4000 * shares / shares.sum()
    assert set(drawn) == {0, 1, 2, 3}
    for token, mean in enumerate(expected):
        assert abs(drawn[token] - mean) < 4 * np.sqrt(mean)


def test_the_number_of_a_draw_is_documented():
    logits = np.zeros((2, 256), np.int32)
    found = sample_token(logits, RATIO, top_k=256, seed=-3, draw=8, profile=PROFILES["intsim"])
    one = oracle.exp(0, PROFILES["intsim"].to_json())
    numbers = [int.from_bytes(hashlib.sha256(f"-3:8:{b}".encode()).digest()) % (256 * one) // one for b in range(2)]
    assert found.tolist() == numbers


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"ratio": Dyadic(0, 3)}, ValueError, "ratio must be one positive dyadic, got multiplier 0"),
        ({"ratio": Dyadic(np.array([1, 2]), np.array([3, 3]))}, ValueError, "ratio must be one positive dyadic"),
        ({"logits": np.zeros((1, 2))}, TypeError, "logits"),
    ],
)
def test_what_has_no_meaning_is_refused(change, error, message):
    how = {"logits": np.zeros((1, 2), np.int32), "ratio": RATIO, "top_k": 2, "seed": 0, "draw": 0}
    with pytest.raises(error, match=message):
        sample_token(**(how | {"profile": PROFILES["intsim"]} | change))
