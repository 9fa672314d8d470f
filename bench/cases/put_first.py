"""What does the first put into a new plane cost, when no page is warm?

Ours: ``plane.put`` of 100 MB into a plane that was just made; making the plane is not timed.
Baseline: ``np.copyto`` into warm mapped shared memory.
Peers: the standard library's create and copy, whose memory is always new; a bare ``pwrite`` of as much into a new
file, which is the floor for whoever fills new pages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import IO

import numpy as np

import shmplane
from bench.harness import Contestant, Row, Scale, compare, interleave
from bench.peers import SHARED_MEMORY, Bytes, create_and_copy, warm_shared_memory

NBYTES = 100_000_000


def run(scale: Scale) -> Iterator[Row]:
    source = np.random.default_rng(7).integers(0, 255, NBYTES, np.uint8)
    warm = warm_shared_memory(NBYTES)
    planes: list[shmplane.Plane] = []
    shared: list[SharedMemory] = []
    files: list[IO[bytes]] = []

    def unlink_all() -> None:
        while shared:
            last = shared.pop()
            last.close()
            last.unlink()

    contestants = {
        "ours": Contestant(
            lambda: planes[-1].put("x", source),
            before=lambda: planes.append(shmplane.Plane.temporary(capacity="1GiB")),
            after=lambda: planes.pop().destroy(),
        ),
        "np.copyto": Contestant(lambda: np.copyto(warm, source)),
        "bare pwrite": Contestant(lambda: files.append(_write_new_file(source)), after=lambda: files.pop().close()),
        "stdlib": Contestant(lambda: shared.append(create_and_copy(source)), after=unlink_all),
    }
    yield compare("put 100 MB, first", interleave(contestants, scale.rounds), target=2.4, baseline="np.copyto")


def _write_new_file(source: Bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile(dir=SHARED_MEMORY, buffering=0)  # noqa: SIM115 - closed after the timing; it has no name
    rest = source.data
    while rest:
        rest = rest[file.write(rest) :]
    return file
