"""Killing a worker in the middle of a put, and looking at what it held.

The worker puts a large block again and again; we watch from outside until its row is CREATING and a part of the memory
has been written, then kill. That it really was in the middle is read from the plane after its death; when the put was
faster than the signal, another worker tries again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ...observe import Block, Process, Reading, Reclaimable, Snapshot, reading, reclaimable
from ..exits import PROBLEMS, Failed

if TYPE_CHECKING:
    from .crew import Hand

__all__ = ["Held", "kill_in_the_middle"]

_PATIENCE_S = 30.0
_POLL_S = 0.0005
#: the part of the memory that should be there when the signal goes out
_WRITTEN = 0.2


class Held(NamedTuple):
    """What a killed worker left in the plane.

    Attributes:
        leased: the blocks it leases, as their rows said after its death.
        writing_nbytes: of the block that it was putting; ``written_nbytes`` of them had memory behind them.
        reclaimable: what the next ``gc`` will give back.
    """

    pid: int
    leased: tuple[Block, ...]
    writing_nbytes: int
    written_nbytes: int
    reclaimable: Reclaimable


def kill_in_the_middle(victim: Hand, plane: str, root: str, *, nbytes: int) -> Held | None:
    """Kill a worker that is told to put ``nbytes`` for ever; None when it was between two puts."""
    with reading(plane, root) as watched:
        victim.tell("put_for_ever", nbytes)
        _wait_until_half_written(watched, victim)
        victim.kill()
        snapshot = watched.snapshot()
        process = _row_of(snapshot, victim.pid)
        making = [] if process is None else _being_made(snapshot, process)
        if process is None or process.alive or not making:
            return None
        leased = tuple(snapshot.blocks[row] for row in process.leases)
        written, room = _written(watched, snapshot, making[0])
        return Held(victim.pid, leased, room, written, reclaimable(snapshot))


def _wait_until_half_written(watched: Reading, victim: Hand) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if victim.has_ended:
            victim.answer()  # raises what went wrong
        snapshot = watched.snapshot()
        process = _row_of(snapshot, victim.pid)
        for block in [] if process is None else _being_made(snapshot, process):
            written, room = _written(watched, snapshot, block)
            if written >= _WRITTEN * room:
                return
        time.sleep(_POLL_S)
    raise Failed(PROBLEMS, f"worker {victim.pid} did not come to putting within {_PATIENCE_S:.0f} s; is the host busy?")


def _row_of(snapshot: Snapshot, pid: int) -> Process | None:
    return next((process for process in snapshot.processes if process.pid == pid), None)


def _being_made(snapshot: Snapshot, process: Process) -> list[Block]:
    return [block for block in snapshot.blocks.values() if block.owner == process.slot]


def _written(watched: Reading, snapshot: Snapshot, block: Block) -> tuple[int, int]:
    """Bytes of the block's segment that have memory behind them, and all of them."""
    segment = snapshot.segments[block.segment]
    with suppress(FileNotFoundError):
        return os.stat(watched.segment_path(segment.id)).st_blocks * 512, segment.nbytes
    return 0, segment.nbytes
