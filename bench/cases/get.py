"""What does it cost to see a block of 1 MB that is there already?

Ours, three ways: ``plane[name]`` while this process holds the block; over and over without holding it, so that its
root is kept from one tick of the drain timer to the next; and when the lease has ended, so that it is taken anew (only
the mapping is cached). For the last, so many smaller blocks take turns that none comes again within the 2 ms in which it
would be kept, and another process watches that no more leases stand than the last one's.
Baseline: the standard library's attach (untracked), ``frombuffer`` and close.
Peer: LMDB's read transaction, get and ``frombuffer``.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, compare, interleave
from bench.peers import attach_read_close, create_and_copy, open_lmdb

NBYTES = 1_000_000
TURNS, TURN_NBYTES = 450, 100_000


def run(scale: Scale) -> Iterator[Row]:
    source = np.random.default_rng(7).integers(0, 255, NBYTES, np.uint8)
    number = scale.pick(10_000, 2_000)
    names = [f"turn-{turn}" for turn in range(TURNS)]
    shared = create_and_copy(source)
    with (
        shmplane.Plane.temporary(capacity="256MiB") as plane,
        open_lmdb(64 << 20) as lmdb,
        watch_leases(plane) as standing_leases,
    ):
        plane["x"] = source
        for name in names:
            plane[name] = source[:TURN_NBYTES]
        peers = {"stdlib": Contestant(lambda: attach_read_close(shared.name), number)}
        if lmdb:
            lmdb.put(b"x", source)
            peers["LMDB"] = Contestant(lambda: lmdb.get(b"x"), number)

        def measure(get: Callable[[], object], after: Callable[[], object] | None = None) -> dict[str, list[float]]:
            return interleave({"ours": Contestant(get, number, after=after), **peers}, scale.rounds)

        holder = plane["x"]
        held = measure(lambda: plane["x"])
        del holder
        again = interleave({"ours": Contestant(lambda: plane["x"], 10 * number), **peers}, scale.rounds)
        turn = itertools.cycle(names).__next__
        standing: list[int] = []
        anew = measure(lambda: plane[turn()], after=lambda: standing.append(standing_leases()))
    shared.close()
    shared.unlink()
    yield compare("get, held", held, target=0.08, baseline="stdlib")
    note = f"up to {max(standing)} of {TURNS} leases still stood, so not all were anew" if max(standing) > 1 else ""
    yield compare("get, lease anew", anew, target=0.5, baseline="stdlib", note=note)
    yield absolute("get again and again, none held", again, unit="us", target=0.4, baseline="stdlib")


@contextlib.contextmanager
def watch_leases(plane: shmplane.Plane) -> Iterator[Callable[[], int]]:
    """How many leases stand, as another process sees it: asking here would give the idle ones back first."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, plane))
    process.start()
    theirs.close()

    def ask() -> int:
        ours.send("how many?")
        return int(ours.recv())  # EOFError when the process died

    ask()
    try:
        yield ask
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _answer(connection: Any, plane: shmplane.Plane) -> None:
    with contextlib.suppress(EOFError):
        while connection.recv():
            connection.send(plane.stats().leases)
