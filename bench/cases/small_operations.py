"""What do small operations cost with the compiled core, and what without it?

Ours: the same calls on two planes of this process: one was opened with the core, the other, here "without the core",
with ``SHMPLANE_PURE=1``. Where no core was built, both are without.
Baseline: none; the figures are times, taken in turn. Peers: LMDB, a transaction each; for permits SysV semaphores with
SEM_UNDO; for 1 MB the bare copy into warm memory. A peer's time in the same run is what most targets are made of.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

import shmplane
from bench.cases.coordination import SysvSemaphore
from bench.harness import Contestant, Row, Scale, Times, absolute, interleave, time_each
from bench.peers import Bytes, Lmdb, open_lmdb, warm_shared_memory

WITHOUT = "without the core"
MB = 1_000_000
#: so many take turns that none comes again within the 2 ms for which what was got is kept
TURNS = 450
PARTS = 5

Call = Callable[[], object]
Each = Callable[[str], object]
Planes = dict[str, shmplane.Plane]


def run(scale: Scale) -> Iterator[Row]:
    with _planes() as planes, open_lmdb(256 * MB) as lmdb:
        yield from _one_name(scale, planes, lmdb)
        yield _one_megabyte(scale, planes)
        yield _permit(scale, planes)
        yield from _many_names(scale, planes, lmdb)


@contextlib.contextmanager
def _planes() -> Iterator[Planes]:
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(shmplane.Plane.temporary(capacity="512MiB"))
        with _environment("SHMPLANE_PURE", "1"):
            without = stack.enter_context(shmplane.Plane.temporary(capacity="512MiB"))
        yield {"ours": ours, WITHOUT: without}


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _put_and_delete(source: Bytes, plane: shmplane.Plane) -> Call:
    def call() -> None:
        plane["x"] = source
        del plane["x"]

    return call


def _one_name(scale: Scale, planes: Planes, lmdb: Lmdb | None) -> Iterator[Row]:
    source = np.arange(1024, dtype=np.uint8)
    names = [f"turn-{turn}" for turn in range(TURNS)]
    number = scale.pick(10_000, 1_000)

    def put_over(plane: shmplane.Plane) -> Call:
        def call() -> None:
            plane["turn-0"] = source

        return call

    def put_for_a_block(plane: shmplane.Plane) -> Call:
        return lambda: plane.put("turn-0", source)

    def get_anew(plane: shmplane.Plane) -> Call:
        for name in names:
            plane[name] = source
        turn = itertools.cycle(names).__next__
        return lambda: plane[turn()]

    def measure(
        what: str,
        make: Callable[[shmplane.Plane], Call],
        peer: Callable[[Lmdb], object],
        target: float | None = None,
    ) -> Row:
        contestants = {who: Contestant(make(plane), number) for who, plane in planes.items()}
        if lmdb:
            contestants["LMDB"] = Contestant(partial(peer, lmdb), number)
        return _row(what, interleave(contestants, scale.rounds), target, than="LMDB")

    yield measure(
        "put and delete 1 KB", partial(_put_and_delete, source), lambda store: store.put_and_delete(b"x", source)
    )
    yield measure("put 1 KB over a name", put_over, lambda store: store.put(b"turn-0", source))
    yield measure(
        "the same by `put`, which returns a block", put_for_a_block, lambda store: store.put(b"turn-0", source)
    )
    yield measure("get 1 KB, lease anew", get_anew, lambda store: store.get(b"turn-0"), target=6.0)


def _one_megabyte(scale: Scale, planes: Planes) -> Row:
    source = np.random.default_rng(7).integers(0, 255, MB, np.uint8)
    warm = warm_shared_memory(MB)
    number = scale.pick(200, 50)

    contestants = {who: Contestant(_put_and_delete(source, plane), number) for who, plane in planes.items()}
    contestants["copy"] = Contestant(lambda: np.copyto(warm, source), number)
    return _row("put and delete 1 MB", interleave(contestants, scale.rounds, warm_up=4), than="copy", factor=1.6)


def _permit(scale: Scale, planes: Planes) -> Row:
    number = scale.pick(10_000, 1_000)

    def take_and_give(semaphore: shmplane.Semaphore | SysvSemaphore) -> Contestant:
        def call() -> None:
            semaphore.acquire()
            semaphore.release()

        return Contestant(call, number)

    sysv = SysvSemaphore(4)
    try:
        contestants = {who: take_and_give(plane.semaphore("free", 4)) for who, plane in planes.items()}
        contestants["SysV SEM_UNDO"] = take_and_give(sysv)
        times = interleave(contestants, scale.rounds)
    finally:
        sysv.remove()
    return _row("acquire and release of a permit", times, than="SysV SEM_UNDO")


def _many_names(scale: Scale, planes: Planes, lmdb: Lmdb | None) -> Iterator[Row]:
    """New names, in parts: a cost that grows with what is there shows in the spread."""
    source = np.arange(1024, dtype=np.uint8)

    def put(plane: shmplane.Plane) -> Each:
        def call(name: str) -> None:
            plane[name] = source

        return call

    calls: dict[str, dict[str, Each]] = {
        "create": {who: put(plane) for who, plane in planes.items()},
        "name in plane": {who: plane.__contains__ for who, plane in planes.items()},
        "delete": {who: plane.delete for who, plane in planes.items()},
    }
    if lmdb:
        calls["create"]["LMDB"] = lambda name: lmdb.put(name.encode(), source)
        calls["name in plane"]["LMDB"] = lambda name: lmdb.contains(name.encode())
        calls["delete"]["LMDB"] = lambda name: lmdb.delete(name.encode())
    count = scale.pick(4_000, 1_000)
    parts = [[f"new/{part}/{number}" for number in range(count)] for part in range(PARTS)]
    for what, target in (("create", 5.0), ("name in plane", 2.5), ("delete", 3.0)):
        times: Times = {who: [] for who in calls[what]}
        for part in parts:
            for who, call in calls[what].items():
                times[who].append(time_each(call, part))
        yield _row(f"1 KB under each of {PARTS * count:,} new names: {what}", times, target)


def _row(what: str, times: Times, target: float | None = None, *, than: str = "", factor: float = 1.0) -> Row:
    """Our time in us; its target, where it is none of its own, is ``factor`` times that of the peer ``than``."""
    row = absolute(what, times, unit="us", target=target)
    if target is None and than in times:
        row = replace(row, target=factor * statistics.median(times[than]) * 1e6)
    return row
