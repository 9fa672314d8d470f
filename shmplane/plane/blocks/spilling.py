"""Room in a full plane by spilling: segments that nobody leases move to the spill directory, those unused for longest first.

It comes last, when nothing can be evicted any more: what is evictable was put so that it may go, and is worth no disk.

Rule 1. One process moves at a time, a sixteenth of the capacity at once; others wait for it and try again. A word in the
header says who it is. In that process a ``Run`` stands for the word: when it is garbage, or its process has ended, so is the
claim. Nobody waits for one that is stopped for longer than ten seconds, nor a signal handler for the call that it interrupts.
Rule 2. A copy is a ``Creation`` like any other that is being made, and is written outside the lock. So whatever ends the
process, or the call, leaves a segment that nobody stands for.
Rule 3. When all that may move would not be enough, or the block is larger than the capacity, nothing moves: the new block
itself goes to the spill directory. Not one that is evictable, mutable, or for other programs.
"""

from __future__ import annotations

import errno
import os
import time
import weakref
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ...errors import PlaneCorrupt, PlaneFull, ShmplaneError
from ...manifest import TableCopier, begin_copy, begin_spilling, choose_victims, end_spilling, move_blocks, spiller
from ...system import copy_file, ignoring, own, wait_for_change, wake_all
from ..process import upkeep
from ..process.registry import Registry
from .claims import Creation, abandon_creation, claims_of
from .overflow import overflow

if TYPE_CHECKING:
    from ...manifest import Stays, TableCopy, Transaction, Victim
    from ..process.attachment import Attachment

__all__ = ["can_help", "once_there_is_room", "shrink"]

R = TypeVar("R")
_SHARE_AT_ONCE = 16  #: of the capacity
_MOST_ATTEMPTS = 64  #: while others take the room that was made
_MOST_BLOCKS_AT_ONCE = 1024  #: that one transaction moves
_PATIENCE_S = 10.0
_SLICE_S = 0.1


def can_help(attachment: Attachment, full: PlaneFull) -> bool:
    """Whether it is memory that is full, of a plane that spills."""
    facts = full.facts
    is_full = "capacity" in facts or facts.get("errno") in {errno.ENOSPC, errno.EDQUOT}
    return attachment.memory.spill is not None and is_full and "spill" not in facts


def once_there_is_room(
    attachment: Attachment, refused: PlaneFull, attempt: Callable[..., R], args: tuple[Any, ...]
) -> R:
    """Try again what was refused: after what can move has moved, and at last in the spill directory."""
    for _ in range(_MOST_ATTEMPTS):
        if not _make_room(attachment, refused):
            break
        try:
            return attempt(*args)
        except own(PlaneFull) as full:
            if not can_help(attachment, full):
                raise
            refused = full
    with overflow(attachment):
        return attempt(*args)


def shrink(attachment: Attachment, capacity: int) -> None:
    """``resize``, for which what may move moves, once all that is evictable is gone."""
    try:
        upkeep.shrink(attachment, capacity)
    except own(PlaneFull) as full:
        is_ours = attachment.memory.spill is not None
        if not is_ours or not _spill(attachment, full.facts["needed"] - capacity, to_system=False):
            raise
        upkeep.shrink(attachment, capacity)


# One run


class Run:
    """A time in which this process moves segments. While it lives, nobody else does."""

    __slots__ = ("__weakref__",)


class _TrackedRun(weakref.ref[Run]):
    """When it is garbage, the word is given back."""

    __slots__ = ("_ringing", "_runs", "thread")

    def __new__(cls, run: Run, _: Runs, attachment: Attachment) -> Self:
        return super().__new__(cls, run, attachment.garbage.append)

    def __init__(self, run: Run, runs: Runs, attachment: Attachment) -> None:
        super().__init__(run, attachment.garbage.append)  # type: ignore[call-arg]
        self._runs = runs
        self._ringing = weakref.ref(run, attachment.timer.ring)
        self.thread = get_ident()

    def free(self, tx: Transaction) -> None:
        self._runs.end_run(tx, self)


class Runs(Registry):
    """The run of this process, if there is one. Changed under the lock only."""

    def __init__(self, attachment: Attachment) -> None:
        self._queue: Callable[[Any], None] = attachment.garbage.append
        self.tracked: _TrackedRun | None = None
        #: slot of a process that took too long, and is not waited for again before its run has ended; -1: none
        self.too_slow: int = -1

    def end_run(self, tx: Transaction, tracked: _TrackedRun | None) -> None:
        """That run is over. Again: does nothing."""
        if tracked is not None and self.tracked is tracked:
            end_spilling(tx)
            self.tracked = None

    @property
    def is_idle(self) -> bool:
        return self.tracked is None or self.tracked() is None

    def audit(self, tx: Transaction) -> None:
        if self.is_idle:
            self.tracked = None
            end_spilling(tx)

    def queue_garbage(self) -> None:
        if self.tracked is not None and self.tracked() is None:
            self._queue(self.tracked)

    def begin_again_in_child(self) -> None:
        self.tracked = None


def _begin_run(tx: Transaction, attachment: Attachment) -> Run | None:
    runs = attachment.registry(Runs)
    if not begin_spilling(tx):
        return None
    run = Run()
    runs.tracked = _TrackedRun(run, runs, attachment)
    return run


def _end_run(tx: Transaction, attachment: Attachment) -> None:
    runs = attachment.registry(Runs)
    runs.end_run(tx, runs.tracked)


def _make_room(attachment: Attachment, full: PlaneFull) -> bool:
    """Move what is needed for what was refused, or wait for who moves; whether there may be room now."""
    needed = full.facts.get("needed", 0)
    if needed > attachment.manifest.header.capacity[0]:
        return False
    to_system = "errno" in full.facts
    missing = needed if to_system else needed - attachment.look(_free_nbytes)
    return missing < 0 or _spill(attachment, max(missing, 1), to_system=to_system)


def _free_nbytes(tx: Transaction) -> int:
    return tx.space.free_nbytes() + tx.space.recycled_nbytes()


def _spill(attachment: Attachment, needed: int, *, to_system: bool) -> bool:
    """The same for so many bytes; ``to_system``: they are to be free memory, and not kept warm."""
    run = attachment.change(_begin_run, attachment)
    if run is None:
        return _wait_for_other(attachment)
    try:
        copier = TableCopier(attachment.manifest, with_blocks=True, own=True)
        goal = attachment.manifest.header.capacity[0] // _SHARE_AT_ONCE
        victims = choose_victims(attachment.look(_copy_tables, copier), needed, goal)
        moved = _move_all(attachment, victims)
        if to_system and moved:
            attachment.change(_trim)
        return moved > 0
    finally:
        with ignoring(ShmplaneError):
            attachment.change(_end_run, attachment)
            wake_all(attachment.manifest.spiller_address())
        del run


def _copy_tables(_: Transaction, copier: TableCopier) -> TableCopy:
    return copier.copy()


def _trim(tx: Transaction) -> None:
    tx.space.trim(tx.space.recycled_nbytes())


def _wait_for_other(attachment: Attachment) -> bool:
    """Wait until nobody moves segments; False: it takes too long, or this very thread is at it."""
    runs, deadline = attachment.registry(Runs), time.monotonic() + _PATIENCE_S
    if runs.tracked is not None and runs.tracked.thread == get_ident():
        return False
    address = attachment.manifest.spiller_address()
    while True:
        slot = attachment.change(_look_at_spiller, attachment)
        if slot < 0 or slot != runs.too_slow:
            runs.too_slow = -1
        if slot < 0:
            return True
        if slot == runs.too_slow or time.monotonic() > deadline:
            runs.too_slow = slot
            return False
        wait_for_change(address, slot + 1, _SLICE_S)


def _look_at_spiller(tx: Transaction, attachment: Attachment) -> int:
    attachment.reclaim_if_due(tx)
    return spiller(tx)


# Moving


def _move_all(attachment: Attachment, victims: Sequence[Victim]) -> int:
    """How many blocks moved. A disk that fills in the middle is told only when nothing did."""
    moved = 0
    for victim in victims:
        try:
            moved += _move(attachment, victim)
        except own(PlaneFull):
            if not moved:
                raise
            break
    return moved


def _move(attachment: Attachment, victim: Victim) -> int:
    creation = attachment.change(_begin_copy, attachment, victim)
    if creation is None:
        return 0
    moved = 0
    try:
        if _copy(attachment, victim, creation):
            for start in range(0, len(victim.blocks), _MOST_BLOCKS_AT_ONCE):
                blocks = victim.blocks[start : start + _MOST_BLOCKS_AT_ONCE]
                moved += attachment.change(_finish_copy, attachment, victim, creation, blocks, not start)
    finally:
        if not moved:
            abandon_creation(attachment, creation)
    return moved


def _begin_copy(tx: Transaction, attachment: Attachment, victim: Victim) -> Creation | None:
    place = begin_copy(tx, victim)
    return None if place is None else claims_of(attachment).new_creation(-1, place)


def _copy(attachment: Attachment, victim: Victim, creation: Creation) -> bool:
    """Write the copy; False when the segment went away meanwhile."""
    memory = attachment.memory
    spill = memory.spill
    assert spill is not None  # noqa: S101 - else nobody asks for room there
    try:
        source = memory.open_segment(victim.segment_id, victim.nbytes)
    except own(PlaneCorrupt):
        return False
    try:
        target = memory.create(creation.place)
        try:
            with spill.translated():
                return copy_file(source, target, victim.nbytes)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _finish_copy(  # noqa: PLR0917 - an operation, called by position
    tx: Transaction,
    attachment: Attachment,
    victim: Victim,
    creation: Creation,
    blocks: Sequence[Stays],
    is_first: bool,
) -> int:
    if is_first:
        # First nobody stands for it, then blocks lie in it: one that is garbage must never take them along.
        claims_of(attachment).finish(tx, creation)
    moved = move_blocks(tx, victim, creation.place, blocks)
    if is_first and not moved:
        tx.space.abandon_segment(creation.place.segment_row)
    return moved
