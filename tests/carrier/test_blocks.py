# SPDX-License-Identifier: Apache-2.0
import os
import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intsim.carrier import blocks
from intsim.carrier.blocks import Part, all_cores, cores_for, in_blocks, in_parts, one_blas_thread, one_thread


def test_every_row_goes_through_the_function_once_and_comes_back_in_its_place():
    x = np.arange(7 * 5 * 3).reshape(7, 5, 3)
    seen = []
    y = in_blocks(lambda part: seen.append(len(part)) or part.sum(-1), x, rows=4)
    assert np.array_equal(y, x.sum(-1))
    assert sum(seen) == 35
    assert max(seen) <= 4


def test_rows_of_several_axes_and_of_none_are_kept_whole():
    x, w = np.arange(6 * 2 * 3).reshape(3, 2, 2, 3), np.arange(6).reshape(1, 1, 2, 3)
    assert np.array_equal(in_blocks(lambda a, b: a * b, x, w, core=2, rows=1), x * w)
    ids, table = np.array([[3, 1, 2], [0, 0, 3]]), np.arange(8).reshape(4, 2)
    assert np.array_equal(in_blocks(lambda i: table[i], ids, core=0, rows=2), table[ids])


def test_a_tuple_of_results_comes_back_as_one():
    x = np.arange(20).reshape(10, 2)
    a, b = in_blocks(lambda part: (part + 1, part[:, 0] > 4), x, rows=3)
    assert np.array_equal(a, x + 1)
    assert np.array_equal(b, x[:, 0] > 4)


def test_rows_that_are_one_block_are_passed_as_they_are(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    seen = []
    for x in np.zeros((4, 2)), np.zeros((5, 2)):
        in_blocks(lambda part: seen.append(part) or part, x)
        assert (seen[0] is x) == (len(x) == 4)
        seen.clear()


def test_every_thread_gets_as_many_rows(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    seen = []
    in_blocks(lambda part: seen.append(len(part)) or part, np.zeros((12, 1)), rows=5)
    assert seen == [3, 3, 3, 3]
    seen.clear()
    in_blocks(lambda part: seen.append(len(part)) or part, np.zeros((30, 1)), rows=10)
    assert seen == [8, 8, 8, 6]
    assert in_blocks(lambda part: part + 1, np.zeros((0, 1)), rows=5).shape == (0, 1)


def test_fewer_rows_than_a_block_are_shared_between_the_threads(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    seen = []
    in_blocks(lambda part: seen.append(len(part)) or part, np.zeros((10, 1)), rows=100)
    assert sorted(seen) == [5, 5]


def test_as_many_threads_work_at_once_as_there_are(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    both = threading.Barrier(2)
    x = np.arange(4)[:, None]
    assert np.array_equal(in_blocks(lambda part: both.wait(60) is None or part, x, rows=1), x)


def test_rows_of_nothing_are_rows():
    x = np.zeros((3, 0))
    assert in_blocks(lambda part: part.sum(axis=-1), x).tolist() == [0, 0, 0]
    assert in_blocks(lambda part: part, np.zeros((0, 4))).shape == (0, 4)


def test_blocks_inside_a_block_run_in_its_own_thread():
    def outer(part):
        ran = set()
        in_blocks(lambda row: ran.add(threading.get_ident()) or row, part, rows=1)
        assert ran == {threading.get_ident()}
        return part

    in_blocks(outer, np.zeros((8, 4, 1)), core=2, rows=2)


def test_an_error_of_any_thread_is_raised():
    def refuse(part):
        if part[0, 0] == 3:
            msg = "three"
            raise ValueError(msg)
        return part

    for _ in range(20):
        with pytest.raises(ValueError, match="three"):
            in_blocks(refuse, np.arange(4)[:, None], rows=1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    x = np.arange(100)[:, None]
    in_blocks(lambda part: part, x, rows=1)
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(in_blocks(lambda part: part, x, rows=1), x) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="the process of pytest -n 0 has all its threads")
@pytest.mark.skipif(blocks._blas() is None, reason="NumPy uses another BLAS than OpenBLAS")
def test_a_worker_of_the_suite_has_as_many_blas_threads_as_it_was_told():
    assert blocks._blas()[0]() == int(os.environ["OPENBLAS_NUM_THREADS"])


@pytest.mark.skipif(blocks._blas() is None, reason="NumPy uses another BLAS than OpenBLAS")
def test_openblas_is_given_its_threads_back_by_the_last_to_leave():
    get, set_ = blocks._blas()
    before = get()
    set_(3)
    try:
        with one_blas_thread():
            assert get() == 1
            with one_blas_thread():
                assert get() == 1
            assert get() == 1
        assert get() == 3
        with pytest.raises(KeyError), one_blas_thread():
            raise KeyError
        assert get() == 3
        first, second = one_blas_thread(), one_blas_thread()  # of two threads, the first one leaves first
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert get() == 1
        second.__exit__(None, None, None)
        assert get() == 3
    finally:
        set_(before)


@pytest.mark.skipif(blocks._blas() is None, reason="NumPy uses another BLAS than OpenBLAS")
def test_one_thread_is_one_thread_of_blas_too(monkeypatch):
    get, set_ = blocks._blas()
    before = get()
    set_(3)
    try:
        for threads, of_blas in ((1, 1), (2, 3)):
            monkeypatch.setattr(blocks, "THREADS", threads)
            with cores_for(blocks.FEW):
                assert get() == of_blas
    finally:
        set_(before)


def test_few_rows_stay_in_one_thread_whole_and_in_order(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    size, ran = np.getbufsize(), []
    with cores_for(blocks.FEW):
        in_blocks(lambda part: ran.append((threading.get_ident(), len(part))) or part, np.zeros((8, 1)), rows=8)
        in_blocks(lambda part: ran.append((threading.get_ident(), len(part))) or part, np.zeros((8, 1)), rows=5)
        assert np.getbufsize() == blocks.BUFFER
    assert ran == [(threading.get_ident(), n) for n in (8, 4, 4)]
    assert np.getbufsize() == size
    with cores_for(blocks.FEW + 1):
        in_blocks(lambda part: ran.append(part) or part, np.zeros((8, 1)), rows=8)
    assert len(ran) == 5


def test_few_rows_may_ask_for_the_threads_that_they_have_left_idle(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    meeting = threading.Barrier(2)

    def meet(part):
        assert blocks.is_alone()
        meeting.wait(60)
        return part

    for _ in range(2):
        with cores_for(blocks.FEW):
            with all_cores():
                assert np.array_equal(in_blocks(meet, np.arange(8)[:, None], rows=4), np.arange(8)[:, None])
            assert blocks.is_alone()
            with pytest.raises(ZeroDivisionError), all_cores():
                in_blocks(lambda _: 1 // 0, np.zeros((8, 1)), rows=4)
            assert blocks.is_alone()
        assert not blocks.is_alone()
        assert not _alone_for_all()
        assert not blocks.is_alone()


def test_nobody_takes_threads_that_are_at_work(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    with cores_for(blocks.FEW + 1), all_cores():
        assert not blocks.is_alone()
        alone = in_blocks(lambda part: [_alone_for_all()] * len(part), np.zeros((4, 1)), rows=2)
    assert alone.all()
    with one_thread():
        assert _alone_for_all()
    with cores_for(blocks.FEW), all_cores(), all_cores():
        assert not blocks.is_alone()
    assert not blocks.is_alone()


def _alone_for_all():
    with all_cores():
        return blocks.is_alone()


def test_another_blas_is_left_alone(monkeypatch):
    monkeypatch.setattr(blocks, "_blas", lambda: None)
    with one_blas_thread():
        pass


@pytest.mark.parametrize(("threads", "sizes"), [(2, [4, 3]), (3, [3, 2, 2]), (4, [2, 2, 2, 1]), (9, [1] * 7)])
def test_every_part_goes_its_way_and_sees_the_rows_of_the_others(threads, sizes, monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", threads)
    x = np.arange(2 * 7 * 3).reshape(2, 7, 3)

    def whole(part):
        mine = x[:, part.rows]
        (doubled,) = part.all_of(2 * mine)
        assert np.array_equal(doubled, 2 * x)
        for _ in range(20):  # those of one turn are not those of the turn before
            mine = mine + 1
            more, less = part.all_of(mine, mine - 5)
            assert np.array_equal(more, less + 5)
        assert np.array_equal(more, x + 20)
        assert blocks.is_alone()
        return mine

    done = in_parts(whole, 7, axis=1)
    assert [part.shape[1] for part in done] == sizes
    assert np.array_equal(np.concatenate(done, axis=1), x + 20)


@pytest.mark.parametrize(("threads", "sizes"), [(2, [7, 4]), (3, [5, 4, 2]), (11, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1])])
def test_a_part_that_asks_for_earlier_rows_waits_for_no_later_one(threads, sizes, monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", threads)
    x, first_is_done = np.arange(11 * 2).reshape(11, 2), threading.Event()

    def causal(part):
        if part.rows.start > 0:
            assert first_is_done.wait(60)
        mine = x[part.rows]
        for turn in range(5):
            upto, negative = part.up_to_mine(mine + turn, -mine)
            assert np.array_equal(upto, x[: part.rows.stop] + turn)
            assert np.array_equal(negative, -x[: part.rows.stop])
        first_is_done.set()
        return mine

    done = in_parts(causal, 11, axis=0, first=10, growth=1)
    assert [len(part) for part in done] == sizes
    assert np.array_equal(np.concatenate(done), x)


@example(count=2, threads=2, first=1, growth=1000)  # the second row is more than half of the work
@given(count=st.integers(2, 500), threads=st.integers(2, 9), first=st.integers(1, 1000), growth=st.integers(0, 1000))
def test_no_part_is_more_work_than_its_share_and_a_row(count, threads, first, growth):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "THREADS", threads)
        rows = in_parts(lambda part: part.rows, count, axis=0, first=first, growth=growth)
    assert [part.start for part in rows] == [0, *(part.stop for part in rows[:-1])]
    assert rows[-1].stop == count
    threads = min(threads, count)
    for part in rows:
        assert part.start < part.stop
        twice = (part.stop - part.start) * (2 * first + growth * (part.start + part.stop))
        assert twice * threads <= count * (2 * first + growth * count) + 2 * threads * (first + growth * count)


def test_who_asks_takes_the_first_part(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 3)

    def thread(part):
        part.all_of(np.zeros(1))  # all at work
        return threading.get_ident()

    threads = in_parts(thread, 9, axis=0)
    assert threads[0] == threading.get_ident()
    assert len({*threads}) == 3
    assert not blocks.is_alone()


def test_one_thread_takes_all_rows(monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 2)
    assert in_parts(lambda part: part, 1, axis=0) == [None]
    with one_thread():
        assert in_parts(lambda part: part, 9, axis=0) == [None]
    monkeypatch.setattr(blocks, "THREADS", 1)
    assert in_parts(lambda part: part, 9, axis=0) == [None]


@pytest.mark.parametrize("ask", [Part.all_of, Part.up_to_mine])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_the_error_of_a_part_is_raised_and_nobody_waits_for_it(failing, ask, monkeypatch):
    monkeypatch.setattr(blocks, "THREADS", 3)

    def refuse(part):
        if part.rows.start == failing:
            msg = "one"
            raise ValueError(msg)
        return ask(part, np.zeros(1))

    for _ in range(5):
        with pytest.raises(ValueError, match="one"):
            in_parts(refuse, 3, axis=0)
