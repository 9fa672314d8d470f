"""Killing a worker in the middle of a put, and looking at what it held."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from ...observe import Reading, reading
from ..exits import PROBLEMS, Failed
from .workers import Worker, put_for_ever

__all__ = ["kill_in_the_middle"]

_PATIENCE_S = 30.0
_POLL_S = 0.0005
#: the part of the memory that should be there when the signal goes out
_WRITTEN = 0.2


def kill_in_the_middle(victim: Worker, plane: str, root: str, *, nbytes: int) -> dict[str, Any] | None:
    """Kill a worker that is told to put ``nbytes`` for ever; None when it was between two puts.

    We watch from outside until its row is CREATING and a part of the memory has been written. Whether it really was in the
    middle is read from the plane after its death, with what it leased and how much it had written.
    """
    pid = victim.pid
    with reading(plane, root) as watched:
        putting = victim.tell(put_for_ever, nbytes)
        deadline, found = time.monotonic() + _PATIENCE_S, None
        while found is None or found["written_nbytes"] < _WRITTEN * nbytes:
            if time.monotonic() > deadline:
                raise Failed(PROBLEMS, f"worker {pid} put nothing for {_PATIENCE_S:.0f} s; is the host busy?")
            with suppress(TimeoutError):
                putting.result(_POLL_S)  # raises what went wrong
            found = _held_by(pid, watched)
        victim.kill()
        return _held_by(pid, watched)


def _held_by(pid: int, watched: Reading) -> dict[str, Any] | None:
    """What it leases and puts, and how much of that has memory behind it; None without a put."""
    snapshot = watched.snapshot()
    process = next((process for process in snapshot.processes if process.pid == pid), None)
    put = next((block for block in snapshot.blocks.values() if process and block.owner == process.slot), None)
    if process is None or put is None:
        return None
    segment, written = snapshot.segments[put.segment], 0
    with suppress(FileNotFoundError):
        written = os.stat(watched.segment_path(segment.id)).st_blocks * 512
    leases = [
        {"name": block.name, "nbytes": block.nbytes} for block in map(snapshot.blocks.__getitem__, process.leases)
    ]
    return {"pid": pid, "mid_put": True, "leases": leases, "put_nbytes": segment.nbytes, "written_nbytes": written}
