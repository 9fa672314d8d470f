"""What a signal handler raises reaches its caller, and nothing is lost by it: the moments that sweeps do not choose."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import shmplane
from tests.support.lines import until
from tests.support.tracing import Signal

USER = Signal(signal.SIGUSR1)


class Rung(Exception):
    pass


@pytest.fixture(autouse=True)
def ringing() -> Iterator[None]:
    """A handler that raises. Reading ``USER.pending`` lets it run before the next Python code has begun."""

    def ring(*_: Any) -> None:
        raise Rung

    before = signal.signal(signal.SIGUSR1, ring)
    yield
    signal.signal(signal.SIGUSR1, before)


def _end(release: Any, *args: Any) -> None:
    USER.pending, release(*args)


@pytest.mark.parametrize("permits", [1, 3])
def test_a_release_that_is_interrupted_at_its_start_is_carried_out(plane: shmplane.Plane, permits: int) -> None:
    semaphore = plane.semaphore("x", permits)
    for _ in range(permits):
        semaphore.acquire()
    for count in range(permits):
        with pytest.raises(Rung):
            _end(semaphore.release)
        assert semaphore.available == count + 1


def test_so_is_the_end_of_a_block(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")

    def enter() -> None:
        with lock:
            USER.pending  # noqa: B018

    with pytest.raises(Rung):
        enter()
    assert lock.try_acquire()
    lock.release()


def test_so_is_the_end_of_an_async_block(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")

    async def enter() -> None:
        async with lock:
            USER.pending  # noqa: B018

    with pytest.raises(Rung):
        asyncio.run(enter())
    assert lock.try_acquire()
    lock.release()


def test_a_process_that_does_nothing_more_gives_it_back_as_well(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    with pytest.raises(Rung):
        _end(lock.release)

    # Looking does not lock, so nobody but the drain timer can have given it back.
    until(lambda: not lock._local.held)


def test_a_release_of_nothing_is_refused_however_often_one_was_interrupted(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    for _ in range(5):
        with pytest.raises(Rung):
            _end(lock.release)
        with pytest.raises(RuntimeError, match="not held by this process"):
            lock.release()
    with lock, pytest.raises(shmplane.LockTimeout):
        lock.acquire(0)
    assert lock.available == 1


def test_a_view_that_is_dropped_passes_the_exception_on(plane: shmplane.Plane) -> None:
    plane["x"] = bytes(100_000)

    def drop() -> None:
        view = plane["x"]
        USER.pending  # noqa: B018
        del view
        gc.collect()

    with pytest.raises(Rung):
        drop()
    assert plane.stats().leases == 0
