"""Killing a worker in the middle of a put, and looking at what it held.

The worker puts a large block again and again; we watch from outside until its row is CREATING and a part of the memory
has been written, then kill. That it really was in the middle is read from the plane after its death; when the put was
faster than the signal, another worker tries again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...observe import Process, Reading, Snapshot, reading, reclaimable
from ..exits import PROBLEMS, Failed

if TYPE_CHECKING:
    from .workers import Worker

__all__ = ["kill_in_the_middle"]

_PATIENCE_S = 30.0
_POLL_S = 0.0005
#: the part of the memory that should be there when the signal goes out
_WRITTEN = 0.2


def kill_in_the_middle(victim: Worker, plane: str, root: str, *, nbytes: int) -> dict[str, Any] | None:
    """Kill a worker that is told to put ``nbytes`` for ever; None when it was between two puts.

    Returns what its rows say after its death: the blocks it leased, how much of the block it was putting had been
    written, and what the next ``gc`` will give back.
    """
    with reading(plane, root) as watched:
        victim.tell("put_for_ever", nbytes)
        deadline, room, written = time.monotonic() + _PATIENCE_S, 0, 0
        while not room or written < _WRITTEN * room:
            if time.monotonic() > deadline:
                raise Failed(PROBLEMS, f"worker {victim.pid} put nothing for {_PATIENCE_S:.0f} s; is the host busy?")
            with suppress(TimeoutError):
                victim.answer(_POLL_S)  # raises what went wrong
            _, written, room = _progress_of(victim, watched, watched.snapshot())
        victim.kill()
        snapshot = watched.snapshot()
        process, written, room = _progress_of(victim, watched, snapshot)
    if process is None or process.alive or not room:
        return None
    garbage = reclaimable(snapshot)
    counts = {"processes": len(garbage.processes), "leases": garbage.leases, "blocks": len(garbage.blocks)}
    return {
        "pid": victim.pid,
        "mid_put": True,
        "leases": [{"name": it.name, "nbytes": it.nbytes} for it in map(snapshot.blocks.__getitem__, process.leases)],
        "put_nbytes": room,
        "written_nbytes": written,
        "reclaimed": {**counts, "nbytes": garbage.nbytes},
    }


def _progress_of(worker: Worker, watched: Reading, snapshot: Snapshot) -> tuple[Process | None, int, int]:
    """Its row, and of the segment that it fills the bytes with memory behind them and all of them; 0 without a put."""
    process = next((process for process in snapshot.processes if process.pid == worker.pid), None)
    put = next((block for block in snapshot.blocks.values() if process and block.owner == process.slot), None)
    if put is None:
        return process, 0, 0
    segment, written = snapshot.segments[put.segment], 0
    with suppress(FileNotFoundError):
        written = os.stat(watched.segment_path(segment.id)).st_blocks * 512
    return process, written, segment.nbytes
