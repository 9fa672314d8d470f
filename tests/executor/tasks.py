"""What tests run in workers: functions that a spawned process can import."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclasses.dataclass
class Sample:
    """Something with arrays in it."""

    name: str
    arrays: list[Any]


def same(value: Any) -> Any:
    return value


def double(array: Array) -> Array:
    array *= 2
    return array


def set_and_return(arrays: list[Array], number: int) -> list[Array]:
    arrays[number][0] = 7
    return arrays


def write_each(*arrays: Array) -> list[float]:
    """Adds one to each in turn; what their first elements were by then."""
    for array in arrays:
        array += 1
    return [float(array[0]) for array in arrays]


def returned_twice(array: Array) -> list[Array]:
    return [array, array[:], array[100:]]


def first_of(arrays: list[Array], size: int) -> Array:
    return arrays[0][:size]


def ones(size: int) -> Array:
    return np.ones(size)


def view_beside_array(plane: Any, name: str, size: int) -> Any:
    return plane[name], np.ones(size)


def total(array: Any) -> float:
    return float(np.asarray(array).sum())


def hold(value: Any, path: Path) -> int:
    wait_for(path)
    return len(value)


def first_later(array: Array, path: Path) -> float:
    wait_for(path)
    return float(array[0])


_retained: list[Array] = []


def retain(array: Array) -> None:
    _retained.append(array)


def write_retained(value: float) -> list[set[float]]:
    """What the arrays have that tasks retained, to which ``value`` is added."""
    for array in _retained:
        array += value
    return [set(array.tolist()) for array in _retained]


def forget_retained() -> None:
    _retained.clear()


def faults_of_reading(array: Array) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    total(array)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def rows(value: Any) -> int:
    return len(value)


def add(one: Any, other: Any = 0, *, third: Any = 0) -> Any:
    return one + other + third


def fail(message: str) -> None:
    raise ValueError(message)


def pid(_: Any = None) -> int:
    return os.getpid()


def wait_for(path: Path) -> Array:
    while not path.exists():
        time.sleep(0.005)
    return np.ones(50_000)


def kill_once(path: Path) -> int:
    """Kills its worker the first time."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def kill_always(path: Path) -> None:
    with path.open("a") as log:
        log.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


class Unreadable:
    """Pickles, and raises where it is unpickled."""

    def __reduce__(self) -> Any:
        return _raise, ("unreadable",)


def _raise(message: str) -> None:
    raise LookupError(message)


def unreadable(with_array: bool = False) -> Any:
    return [Unreadable(), np.ones(50_000)] if with_array else Unreadable()


class Odd(Exception):
    """Pickles, and cannot be made again: two arguments, of which the pickle has one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        self.two = two


def raise_odd() -> None:
    raise Odd("one", "two")


def write_for_nothing(array: Array, returned: str) -> Any:
    array[:] = 0.0
    return {"nothing": None, "text": "x" * 1000, "a lambda": lambda: None}[returned]


def unpicklable() -> Any:
    return lambda: None


def generator() -> Any:
    return (number for number in range(3))


def kept_by(where: str) -> Any:
    """A value whose sending kills the worker: at its pickling, while its block is written, or once that is there."""
    from shmplane.executor import worker

    if where == "pickling":
        return [np.ones(50_000), KillsWhenPickled()]
    name = {"writing": "write_segment", "written": "send"}[where]
    if where == "written":
        send: Any = worker._Worker.send

        def send_and_die(self: Any, value: Any) -> Any:
            send(self, value)
            os.kill(os.getpid(), signal.SIGKILL)

        worker._Worker.send = send_and_die  # type: ignore[method-assign]
    else:
        from shmplane.plane.blocks import publish

        def die(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(publish, name, die)
    return np.ones(50_000)


class KillsWhenPickled:
    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return same, (0,)


def submits(method: str) -> float:
    """A task that has an executor of its own, and one of the standard library."""
    import multiprocessing
    from concurrent import futures

    import shmplane

    context: Any = multiprocessing.get_context(method)
    found = 0.0
    for kind in (shmplane.ProcessPoolExecutor, futures.ProcessPoolExecutor):
        with kind(1, context) as executor:
            found += executor.submit(ones, 50_000).result().sum()
    return found


_started: list[Any] = []


def begin(value: Any) -> None:
    _started.append(value)


def begun() -> Any:
    return _started


def bad_start() -> None:
    raise RuntimeError("no start")
