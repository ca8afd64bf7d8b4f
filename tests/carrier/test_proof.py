# SPDX-License-Identifier: Apache-2.0
"""Whether the BLAS at hand multiplies integers, and what happens where it does not."""

import ast
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from wrong_blas import KINDS

import intsim
from intsim.carrier import proof
from intsim.report.info import summarise_machine

ROOT = Path(__file__).resolve().parents[2]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def use(monkeypatch):
    """Return a function that puts a BLAS in NumPy's place, in a process that has not proved it or has."""

    def put(blas, findings=()):
        monkeypatch.setattr(proof, "NUMPY", blas)
        monkeypatch.setattr(proof, "_findings", list(findings))

    return put


# The operands


def test_no_partial_sum_passes_the_bound_and_every_row_reaches_it():
    for dtype, bits in proof.FORMATS:
        assert bits == np.finfo(dtype).nmant + 1
        for depth, rows, columns, _ in proof.CASES:
            for a, b, acc in proof._dense(depth, rows, columns, dtype, bits), proof._sparse(depth, dtype, bits):
                assert {each.dtype for each in (a, b, acc)} == {dtype}
                whole = [[int(value) for value in row] for row in a.tolist()]
                lines = [[int(value) for value in column] for column in b.T.tolist()]
                for row, sums in zip(whole, acc.tolist(), strict=True):
                    terms = [[x * w for x, w in zip(row, line, strict=True)] for line in lines]
                    assert [sum(each) for each in terms] == sums
                    assert max(sum(map(abs, each)) for each in terms) == 2**bits


def test_the_operands_are_odd_and_even_wide_and_narrow():
    for dtype, bits in proof.FORMATS:
        a, b, acc = proof._dense(95, 117, 97, dtype, bits)
        assert 0.3 < (acc % 2).mean() < 0.7
        assert (a % 2).mean() > 0.9
        assert bits - 1 <= np.log2(np.abs(a)).max() < bits
        assert np.abs(b).max() > 8


def test_the_squares_reach_the_bound():
    roots = proof._roots(2**53)
    assert sum(int(root) ** 2 for root in roots) == 2**53
    assert len(roots) > 1000


# The judgement


def test_the_true_blas_passes():
    assert proof.find_fault(proof.NUMPY) is None
    assert proof.blas_fault() is None


@every_kind
def test_a_blas_that_multiplies_otherwise_is_refused(kind):
    fault = proof.find_fault(KINDS[kind])
    assert fault is not None
    assert " for " in fault
    assert "\n" not in fault


@pytest.mark.filterwarnings("error")
def test_a_blas_that_overflows_is_refused_without_a_warning():
    narrow = proof.Blas(lambda a, b: np.matmul(a.astype(np.float16), b.astype(np.float16)), np.vecdot)
    assert proof.find_fault(narrow) is not None


def test_the_first_wrong_number_of_a_product_is_told_beside_the_right_one():
    def matmul(a, b):
        product = np.matmul(a, b)
        if a.shape[0] == 13:
            product[2, 3:5] += [1, 2]
        return product

    a, b, acc = next(each for each in proof._products() if each[0].shape[0] == 13)
    right = int(acc[2, 3])
    told = f"{np.float32(right + 1):.1f} for {right} in a float32 product {a.shape} by {b.shape}"
    assert proof.find_fault(proof.Blas(matmul, np.vecdot)) == told


def test_a_wrong_sum_of_squares_is_told_beside_the_right_one():
    fault = proof.find_fault(proof.Blas(np.matmul, lambda x, y: np.vecdot(x, y) - 1))
    assert fault == f"{2**53 - 1}.0 for {2**53} in a sum of {len(proof._roots(2**53))} float64 squares"


def spread(shape, low, high, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape)


HARD = (  # sums stay within 2**24
    (np.array([[4095, 8190, 1]]), np.array([[4095], [1], [1]])),
    (spread((8, 6), 1500, 1671), spread((6, 8), 1500, 1671)),
    (np.full((1, 385), 4097), np.full((385, 1), 10)),
    (np.full((110, 95), 4097), np.full((95, 111), 43)),
    (np.array([[4097, 0]]), np.ones((2, 7), np.int64)),
)
HARD_64 = (  # within 2**53
    (np.array([[94_906_265, 1]]), np.array([[94_906_265], [1]])),
    (spread((8, 6), 2**25 - 2**20, 2**25), spread((6, 8), 2**25 - 2**20, 2**25)),
)


def wrong_products():
    """Return how many products are wrong that come through the door, and through BLAS alone."""
    wrong = 0
    for cases, dtype in (HARD, np.float32), (HARD_64, np.float64):
        for x, w in (*cases, *((w.T, x.T) for x, w in cases)):
            for x_order, w_order in (("C", "C"), ("C", "F"), ("F", "C"), ("F", "F")):
                a, b = np.array(x, dtype, order=x_order), np.array(w, dtype, order=w_order)
                out = np.empty((len(a), b.shape[1]), dtype)
                for result in proof.multiply(a, b), proof.multiply(a, b, out=out), out:
                    assert result.dtype == dtype
                    wrong += not np.array_equal(result, x @ w)
    squares = proof.square_sums(np.array([[2.0**25 + 1, 1.0], [3.0, 4.0]]))
    assert squares.dtype == np.float64
    return wrong + (squares.tolist() != [(2**25 + 1) ** 2 + 1, 25])


@every_kind
def test_products_are_right_whatever_blas_does(kind, use):
    use(KINDS[kind], [None])  # as if it were proved
    assert wrong_products() > 0
    use(KINDS[kind])
    assert wrong_products() == 0


def test_products_of_integers_are_left_to_numpy(use):
    use(proof.Blas(None, None), ["wrong"])
    with pytest.raises(TypeError):  # NUMPY is what multiplies them
        proof.multiply(np.ones((2, 2), np.int32), np.ones((2, 2), np.int32))


# The model

SENTENCES = json.loads((ROOT / "tests/golden/embedded.json").read_text(encoding="utf-8"))["sentences"]
FLOAT32_KINDS = ("float16 accumulators", "an odd depth's last term left out", "Strassen's recombination")


@pytest.fixture(scope="module")
def embedded():
    with resources.as_file(resources.files("intsim.embedded")) as path:
        return intsim.load(path)


def ids_of(model, text):
    from intsim.io.tokenizer import encode, parse_tokenizer  # noqa: PLC0415

    return [list(encode(parse_tokenizer(model.tokenizer), text, longest=64).ids)]


@every_kind
def test_a_model_gives_its_integers_whatever_blas_does(kind, use, embedded, caplog):
    use(KINDS[kind])
    for text, golden in list(SENTENCES.items())[:2]:
        assert embedded(ids_of(embedded, text)).values.tolist() == [golden["classifier"]]
    (record,) = caplog.records  # once, however many products there are
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("BLAS must multiply integers exactly, got ")


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
def test_a_model_would_give_others_without_the_proof(use, embedded):
    text, golden = next(iter(SENTENCES.items()))
    use(KINDS["float16 accumulators"], [None])
    assert embedded(ids_of(embedded, text)).values.tolist() != [golden["classifier"]]


def test_a_traced_model_gives_its_integers_too(use, embedded):
    text = next(iter(SENTENCES))
    with intsim.trace() as expected:
        embedded(ids_of(embedded, text))
    use(KINDS["float16 accumulators"])
    with intsim.trace() as trace:
        embedded(ids_of(embedded, text))
    assert trace.keys() == expected.keys()
    for name, values in expected.items():
        intsim.testing.assert_bit_exact(trace[name], values, name=name)


def test_info_says_whether_blas_is_exact_and_why_not(use):
    told = summarise_machine()["blas"]
    assert told["exact"] is True
    assert told["reason"] is None
    assert {"name", "version", "kernels", "threads"} <= told.keys()
    use(KINDS["Strassen's recombination"])
    told = summarise_machine()["blas"]
    assert told["exact"] is False
    assert told["reason"] == proof.find_fault(KINDS["Strassen's recombination"])


# Once in a process


def test_no_product_is_made_before_the_proof(use):
    seen = []

    def matmul(a, b, out=None):
        seen.append((a.shape, b.shape))
        return np.matmul(a, b, out=out)

    use(proof.Blas(matmul, np.vecdot))
    x = np.ones((3, 1000), np.float32)
    proof.multiply(x, x.T)
    assert seen[-1] == ((3, 1000), (1000, 3))
    assert len(seen) > 20
    proved = len(seen)
    proof.multiply(x, x.T)
    assert len(seen) == proved + 1


def test_threads_that_multiply_at_once_wait_for_one_proof(monkeypatch, caplog):
    monkeypatch.setattr(proof, "_findings", [])
    calls = []

    def find_fault(_):
        calls.append(threading.get_ident())
        time.sleep(0.1)
        return "nonsense"

    monkeypatch.setattr(proof, "find_fault", find_fault)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: proof.blas_fault(), range(16))) == ["nonsense"] * 16
    assert len(calls) == len(caplog.records) == 1


FORK = """
import os, threading, time
import numpy as np
from intsim.carrier import proof

started, true = threading.Event(), proof.find_fault
def find_fault(blas):
    started.set()
    time.sleep(0.5)
    return true(blas)

proof.find_fault = find_fault
thread = threading.Thread(target=proof.blas_fault)
thread.start()
started.wait()
child = os.fork()  # while another thread proves
if child == 0:
    x = np.full((1, 1), 4095, np.float32)
    os._exit(int(proof.multiply(x, x)[0, 0]) != 4095**2)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_process_forked_while_another_thread_proves_multiplies():
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert done.stdout.strip() == "0"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_lock_of_its_own():
    with proof._locks[0]:
        child = os.fork()
        if child == 0:
            os._exit(proof._locks[0].locked())
    assert os.waitpid(child, 0)[1] == 0


def test_a_spawned_process_proves_for_itself():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(proof.blas_fault).result() is None


def test_the_line_goes_to_stderr_once():
    program = """
import numpy as np
from intsim.carrier import proof
proof.NUMPY = proof.Blas(lambda a, b, out=None: np.matmul(a.astype(np.float16), b.astype(np.float16)), np.vecdot)
x = np.eye(3, dtype=np.float32) * 4095
print(int(proof.multiply(x, x)[0, 0]), int(proof.multiply(x, x)[0, 0]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == [str(4095**2)] * 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("BLAS must multiply integers exactly, got ")


# One door

PRODUCTS = {
    "matmul",
    "vecdot",
    "dot",
    "vdot",
    "inner",
    "tensordot",
    "einsum",
    "einsum_path",
    "linalg",
    "matvec",
    "vecmat",
}


def products(source):
    """Return the lines of a source file that multiply matrices."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult))
        or (isinstance(node, ast.Attribute) and node.attr in PRODUCTS and getattr(node.value, "id", "") == "np")
        or (isinstance(node, ast.Attribute) and node.attr == "dot")
    ]


def test_the_proof_is_the_only_door():
    rooms = [path for room in ("carrier", "models", "ops") for path in (ROOT / "intsim" / room).glob("*.py")]
    assert len(rooms) > 40
    multiplying = {path.name for path in rooms if products(path.read_text(encoding="utf-8"))}
    assert multiplying == {"proof.py"}


def test_a_product_is_found():
    for product in "x @ w", "np.matmul(x, w)", "x.dot(w)", "np.einsum('ij->i', x)", "np.linalg.norm(x)":
        assert products(f"y = 1\ny = {product}") == [2]
    assert products("x @= w") == [1]
    assert not products("y = multiply(x, w) + ops.matmul(x, w)")
