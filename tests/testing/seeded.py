"""Functions that leak one thing each time they are called, and some that leak nothing."""

from __future__ import annotations

import multiprocessing
import os
from itertools import count
from typing import Any

import shmplane

KEPT: list[Any] = []
NUMBERS = count()


def nothing(plane: shmplane.Plane) -> None:
    plane["x"] = b"x" * 100_000
    assert len(plane["x"]) == 100_000
    del plane["x"]


def plane() -> None:
    shmplane.Plane(f"left-{next(NUMBERS)}", max_blocks=64, max_processes=4).close()


def segment(plane: shmplane.Plane) -> None:
    plane[f"left-{next(NUMBERS)}"] = bytes(100_000)


def lease(plane: shmplane.Plane) -> None:
    name = f"left-{next(NUMBERS)}"
    plane[name] = bytes(100)
    KEPT.append(plane[name])


def permit(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("gpu", 1000)
    semaphore.acquire()
    KEPT.append(semaphore)


def descriptor() -> None:
    os.open("/dev/null", os.O_RDONLY)


def heap() -> None:
    KEPT.append(bytearray(40_000))


def _keep() -> None:
    KEPT.append(bytearray(200_000))


def _work(method: str, work: Any) -> None:
    process = multiprocessing.get_context(method).Process(target=work)  # type: ignore[attr-defined]
    process.start()
    process.join()
    assert process.exitcode == 0


def spawned_heap() -> None:
    _work("spawn", _keep)


def forked_heap() -> None:
    _work("fork", _keep)


def quiet_worker() -> None:
    _work("spawn", int)  # keeps nothing


def everything(plane_: shmplane.Plane) -> None:
    plane()
    segment(plane_)
    lease(plane_)
    permit(plane_)
    descriptor()
    heap()


def in_workers() -> None:
    spawned_heap()
    forked_heap()
    quiet_worker()


def fails() -> None:
    raise LookupError("on purpose")
