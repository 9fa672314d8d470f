"""``BufferPool``: warm memory is reused, and never while somebody can reach it."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shmplane import BufferPool, ClosedError, Plane, PlaneFull
from tests.support.forked import run_forked

MIB = 1 << 20


def address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, "u1").ctypes.data)


@pytest.mark.parametrize("nbytes", [1, 4095, 4096, 5000, 3 * MIB, "2MiB"])
def test_a_buffer_is_writable_memory_of_exactly_that_length(nbytes: Any) -> None:
    with BufferPool("16MiB").buffer(nbytes) as buffer:
        expected = 2 * MIB if nbytes == "2MiB" else nbytes
        assert len(buffer) == expected
        array = np.frombuffer(buffer, "u1")
        array[:] = 7
        assert array.shape == (expected,)
        assert bytes(buffer[-1:]) == b"\7"


def test_memory_comes_back_warm() -> None:
    pool = BufferPool("16MiB")
    with pool.buffer(3 * MIB) as buffer:
        first = address(buffer)
    with pool.buffer(3 * MIB - 5000) as buffer:  # of the same class
        assert address(buffer) == first
    assert (pool.stats().made, pool.stats().reused) == (1, 1)


def test_a_name_that_is_kept_is_of_no_use_after_the_block() -> None:
    with BufferPool(MIB).buffer(10) as buffer:
        pass
    with pytest.raises(ValueError, match="released"):
        np.frombuffer(buffer, "u1")


@pytest.mark.parametrize(
    "show",
    [
        lambda buffer: np.frombuffer(buffer, "u1"),
        lambda buffer: np.ndarray(10, "u1", buffer),
        lambda buffer: np.frombuffer(buffer, "u1")[3:5].reshape(2, 1),
        memoryview,
        lambda buffer: buffer[3:7],
        lambda buffer: buffer.obj,
        lambda buffer: pytest.importorskip("pyarrow").py_buffer(buffer),
    ],
    ids=["frombuffer", "ndarray", "derived", "memoryview", "slice", "exporter", "arrow"],
)
def test_memory_that_something_shows_is_not_handed_out(show: Any) -> None:
    pool = BufferPool(4 * MIB)
    with pool.buffer(MIB) as buffer:
        first = address(buffer)
        shown = show(buffer)
    with pool.buffer(MIB) as other:
        assert address(other) != first
    assert pool.stats().out == 1
    del shown
    gc.collect()
    assert pool.stats().out == 0
    assert pool.stats().kept_nbytes == 2 * MIB


def test_memory_comes_back_after_an_exception() -> None:
    pool = BufferPool(MIB)
    with contextlib.suppress(RuntimeError), pool.buffer(MIB) as buffer:
        np.frombuffer(buffer, "u1")[:] = 1
        raise RuntimeError
    assert pool.stats().out_nbytes == 0


def test_what_is_out_is_bounded() -> None:
    pool = BufferPool(10 * MIB)
    with pool.buffer(6 * MIB):
        with pytest.raises(PlaneFull, match="are out") as caught, pool.buffer(6 * MIB):
            pass
        assert (caught.value.needed, caught.value.out) == (6 * MIB, 6 * MIB)
        assert isinstance(caught.value, MemoryError)
        with pool.buffer(4 * MIB):
            assert pool.stats().out_nbytes == 10 * MIB
    with pytest.raises(PlaneFull), pool.buffer(11 * MIB, timeout=None):  # waiting would not help
        pass


def test_what_is_kept_makes_room() -> None:
    pool = BufferPool(10 * MIB)
    for size in (6, 4, 9, 1, 10):
        with pool.buffer(size * MIB) as buffer:
            assert len(buffer) == size * MIB
        assert pool.stats().kept_nbytes <= 10 * MIB


def test_a_buffer_of_the_pools_whole_size_is_had_whatever_its_class() -> None:
    pool = BufferPool(MIB + 3)
    for _ in range(2):
        with pool.buffer(MIB + 3) as buffer:
            assert len(buffer) == MIB + 3


def test_who_waits_gets_what_another_thread_gives_back() -> None:
    pool = BufferPool(MIB)
    inside = threading.Event()
    leave = threading.Event()

    def hold() -> None:
        with pool.buffer(MIB):
            inside.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    with pytest.raises(PlaneFull), pool.buffer(MIB, timeout=0.05):
        pass
    threading.Timer(0.05, leave.set).start()
    with pool.buffer(MIB, timeout=30) as buffer:
        assert len(buffer) == MIB
    holder.join()


def test_who_waits_gets_what_becomes_garbage() -> None:
    pool = BufferPool(MIB)
    with pool.buffer(MIB) as buffer:
        kept = [np.frombuffer(buffer, "u1")]
    timer = threading.Timer(0.05, kept.clear)
    timer.start()
    with pool.buffer(MIB, timeout=30) as again:
        assert len(again) == MIB
    timer.join()


def test_threads_never_see_each_others_bytes() -> None:
    pool = BufferPool(8 * MIB)
    mixed: list[int] = []

    def use(number: int) -> None:
        random = np.random.default_rng(number)
        for _ in range(200):
            with pool.buffer(int(random.integers(1, 300_000)), timeout=None) as buffer:
                array = np.frombuffer(buffer, "u1")
                array[:] = number
                time.sleep(0)
                if not (array == number).all():
                    mixed.append(number)
                del array

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed == []
    assert pool.stats().out == 0
    assert pool.stats().reused > 400


def test_trim_gives_memory_back() -> None:
    pool = BufferPool(8 * MIB)
    with pool.buffer(MIB), pool.buffer(2 * MIB), pool.buffer(4 * MIB):
        pass
    assert pool.stats().kept == 3
    assert pool.trim(3 * MIB) == 4 * MIB
    assert pool.trim() == 3 * MIB
    assert pool.stats().kept_nbytes == 0


def test_a_forked_child_has_its_own_copy_and_goes_on() -> None:
    pool = BufferPool(3 * MIB)
    with pool.buffer(MIB):
        pass
    with pool.buffer(2 * MIB) as buffer:
        array = np.frombuffer(buffer, "u1")
        array[:] = 5

        def act() -> None:
            array[:] = 6
            for _ in range(3):
                with pool.buffer(3 * MIB) as mine:
                    np.frombuffer(mine, "u1")[:] = 9
            assert (array == 6).all()

        run_forked(act)
        assert (array == 5).all()


def test_a_child_that_is_forked_within_the_block_leaves_it_well() -> None:
    pool = BufferPool(MIB)

    def act() -> None:
        manager.__exit__(None, None, None)
        with pool.buffer(MIB) as mine:
            assert len(mine) == MIB

    manager = pool.buffer(MIB)
    with manager as buffer:
        run_forked(act)
        np.frombuffer(buffer, "u1")[:] = 1
    assert pool.stats().kept == 1


def test_a_fork_while_another_thread_has_the_pools_lock_hangs_nobody() -> None:
    pool = BufferPool(MIB)
    ready, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._condition:
            ready.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(30)

    def act() -> None:
        with pool.buffer(MIB):
            pass

    try:
        run_forked(act)
    finally:
        leave.set()
        holder.join()


@pytest.mark.parametrize("size", [0, -1, "none"])
def test_sizes_that_are_none_are_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=r"byte|negative|write an int|at least"):
        BufferPool(MIB).buffer(size)
    with pytest.raises(ValueError, match=r"byte|negative|write an int|at least"):
        BufferPool(size)
    with pytest.raises(TypeError):
        BufferPool(1.5)  # type: ignore[arg-type]


def test_one_buffer_is_entered_once_at_a_time() -> None:
    buffer = BufferPool(MIB).buffer(10)
    with buffer, pytest.raises(ClosedError), buffer:
        pass
    with buffer as again:
        assert len(again) == 10


class Pool(RuleBasedStateMachine):
    """Against a model: who has a buffer finds in it what he wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BufferPool(MIB)
        self.out: list[Any] = []
        self.marks = 0

    @rule(nbytes=st.integers(1, MIB))
    def take(self, nbytes: int) -> None:
        manager = self.pool.buffer(nbytes)
        taken = self.pool.stats().out_nbytes
        try:
            array = np.frombuffer(manager.__enter__(), "u1")
        except PlaneFull:
            assert taken + nbytes > MIB
            return
        self.marks = self.marks % 255 + 1
        array[:] = self.marks
        self.out.append((manager, array, self.marks))

    @rule(which=st.integers(0, 50), keep=st.booleans())
    def leave(self, which: int, keep: bool) -> None:
        if self.out:
            manager, array, mark = self.out.pop(which % len(self.out))
            if manager is not None:
                manager.__exit__(None, None, None)
            if keep:
                self.out.append((None, array, mark))

    @rule(most=st.integers(0, MIB))
    def trim(self, most: int) -> None:
        self.pool.trim(most)
        assert self.pool.stats().kept_nbytes <= most

    @invariant()
    def everybody_has_what_he_wrote(self) -> None:
        assert all((array == mark).all() for _, array, mark in self.out)
        stats = self.pool.stats()
        assert stats.out == len(self.out)
        assert sum(len(array) for _, array, _ in self.out) <= stats.out_nbytes
        assert stats.out_nbytes + stats.kept_nbytes <= MIB


TestPool = Pool.TestCase
TestPool.settings = settings(deadline=None, max_examples=30, stateful_step_count=30)


def test_a_planes_buffer_has_the_same_size_classes(plane: Plane) -> None:
    with plane.buffer(3 * MIB):
        pass
    warm = plane.stats().recycled_nbytes
    with plane.buffer(3 * MIB - 100_000):  # of the same class: in the same segment
        assert plane.stats().recycled_nbytes <= warm - 3 * MIB
    assert plane.stats().recycled_nbytes == warm


def test_a_planes_buffer_that_fits_only_as_it_is_is_had() -> None:
    with Plane.temporary(capacity=4 * MIB) as plane, plane.buffer(3 * MIB + MIB // 2 + 5000) as buffer:
        assert len(buffer) == 3 * MIB + MIB // 2 + 5000
