"""An attachment: this process's part in one plane, shared by all its ``Plane`` objects and views.

It holds a slot with its token, the host-wide lock and the mapped manifest, and runs every transaction. It lasts until
the last ``Plane`` object is closed and the last lease has ended, whichever comes later.

Rule 1. The dirty word is set while facts may change and cleared when they are whole again; whoever finds it set recovers.
Rule 2. ``suspect`` is the same for this process alone: set while a transaction runs, left set by an exception in it.
An exception leaves both set, whatever it is, unless the operation registered that very object as a refusal which stored
nothing (``Manifest.refuse``): any other may have come out of a signal handler, at any bytecode.
Rule 3. Nothing that it has refers back to it, so it ends with its last ``Plane`` object or view, not with a collection.
Rule 4. At interpreter exit nothing is given back: the kernel does it after the last view could be read.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from ...errors import ClosedError, PlaneFull, ShmplaneError
from ...manifest import NOTHING, Freed, Manifest, Reader, Transaction, leave, link_prefix
from ...system import NOT_HAD, Busy, HostLock, Lost, NotHad, Token, ignoring, is_from_handler, own, wake_all
from ..memory.compositions import Compositions
from ..memory.failures import is_impossible, written_over
from ..memory.open_memory import OpenMemories
from ..memory.segments import SegmentMemory
from .drain import DrainTimer
from .fast import HasCore, drop_core, give_core
from .kept import KeptRoots
from .locking import lock_of_joiner
from .patience import LOCK_TIMEOUT_S, REFUSED_FOR_S
from .reclaim import NotReady, check_ready, load_for_recovery, reclaim_dead, reclaim_due, recover
from .registry import Garbage, Owed, Registry

__all__ = ["Attachment", "Opened"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")
K = TypeVar("K", bound=Registry)
_LOOK_FOR_WAITERS_NS = 90_000_000
#: marks the dirty word for a process that has no slot yet
_JOINING = 2**32
#: how long the drain timer waits for the lock before it looks again whether it is to end
_TIDYING_S = 0.04
_SCAN_INTERVAL_NS = 1_000_000_000
#: pieces of garbage that a small put leaves to others
_SPARED = 64
_clock = time.monotonic_ns


class Opened:
    """A ``Plane`` object's part in its attachment, or that of another use; one that nobody keeps holds nothing."""

    __slots__ = ("__weakref__",)


class Attachment(HasCore):
    """One process in one plane. Made by ``lifecycle``; an operation gets a ``Transaction`` only while it holds the lock."""

    def __init__(
        self,
        root: str,
        name: str,
        path: str,
        *,
        manifest: Manifest,
        token: Token,
        lock_fd: int,
        on_idle: Callable[[Attachment], None],
    ) -> None:
        super().__init__()
        self.root: str = root
        self.name: str = name
        self.path: str = path
        self.manifest: Manifest = manifest
        manifest.plane = name
        self.token: Token = token
        self.slot: int = token.slot
        self.mark: int = _JOINING
        self.lock: HostLock = lock_of_joiner(manifest, token, lock_fd, self.core_module, name)
        self.memory: SegmentMemory = SegmentMemory(path, link_prefix(root, name), manifest.is_destroyed)
        self.compositions: Compositions = Compositions(self.memory)
        self.gone: deque[tuple[int, int]] = deque()
        self.registries: dict[type[Registry], Registry] = {}
        #: what is garbage queues itself here, by C code alone
        self.garbage: deque[Garbage] = deque()
        #: what calls that failed, or could not have the lock, have still to give back
        self.owed: deque[Owed] = deque()
        self.timer: DrainTimer = DrainTimer(self)
        self.kept: KeptRoots = KeptRoots(self.timer)
        #: memory that is being written by a builder or buffer: private to the parent after a fork
        self.open_memory: OpenMemories = OpenMemories()
        self.opens: set[weakref.ref[Opened]] = set()
        self._on_idle = on_idle
        #: called when the file system is full, with no lock in hand: whether there may be room now (see ``open``)
        self.make_room: Callable[[str, PlaneFull], bool] = lambda *_: False
        self.suspect: bool = False
        self.exiting: bool = False
        #: whether the modules that recovery may need are there
        self.is_ready: bool = False
        self.ended: str | None = None
        #: kept here only
        self.forks: object = None
        self._header = manifest.header
        self.instance: int = self._header.instance[0]
        self._tx: Transaction = Transaction(manifest)
        self.looked_for_dead: int = 0
        #: until then nobody who is in a hurry waits for the lock
        self.refused_until: float = 0.0
        #: what this process has given back for the dead since the last ``gc`` asked
        self.reclaimed: Freed = NOTHING

    # Transactions

    def change(self, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R:
        """Call ``operation(tx, ...)`` as one transaction under the host-wide lock, then remove the files it doomed.

        Raises:
            ClosedError: the plane was destroyed, or this process lost its part in it.
            LockTimeout: somebody held the lock for 10 s.
        """
        result = self._attempt(LOCK_TIMEOUT_S, True, operation, args)
        return self._in_time(result) if result is NOT_HAD else result

    def look(self, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R:
        """``change`` for what stores one word at most, counts aside, so that there is nothing to mark as under way."""
        result = self._attempt(LOCK_TIMEOUT_S, False, operation, args)
        return self._in_time(result) if result is NOT_HAD else result

    def add(self, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R:
        """``change`` for what adds a little: what is garbage waits for the next other call or the drain timer.

        Giving it back would be the larger half of such a call. Not when there is much of it.
        """
        result = self._attempt(LOCK_TIMEOUT_S, True, operation, args, _SPARED)
        return self._in_time(result) if result is NOT_HAD else result

    def try_change(self, seconds: float, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R | NotHad:
        """``change`` for a caller with a deadline: ``NOT_HAD`` when the lock was not to be had within ``seconds``."""
        return self._attempt(seconds, True, operation, args)

    def try_look(self, seconds: float, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R | NotHad:
        """``look`` for a caller with a deadline."""
        return self._attempt(seconds, False, operation, args)

    def _in_time(self, result: R | NotHad) -> R:
        if result is NOT_HAD:
            raise self.lock.timed_out(LOCK_TIMEOUT_S)
        return result

    def _attempt(
        self, seconds: float, writes: bool, operation: Callable[..., R], args: tuple[Any, ...], spared: int = 0
    ) -> R | NotHad:
        if self.ended is not None:
            raise ClosedError(self.ended, plane=self.name)
        try:
            result = self.lock.run(seconds, self._inside, writes, operation, args, spared)
            if self.memory.barred:
                # Forked in the middle: what was done went nowhere.
                raise ClosedError(str(self.ended), plane=self.name)
            if result is NOT_HAD:
                self.refused_until = time.monotonic() + REFUSED_FOR_S
            return result
        except own(PlaneFull) as full:
            if not self.make_room(self.root, full):
                raise
            return self._attempt(seconds, writes, operation, args, spared)
        except own(NotReady):
            self.is_ready = load_for_recovery()
            return self._attempt(seconds, writes, operation, args, spared)
        except own(Lost) as lost:
            if self.ended is None:
                self.end(f"plane {self.name!r}: this process lost its part in it, since {lost}. Open the plane again.")
            raise ClosedError(str(self.ended), plane=self.name) from lost
        except own(Busy) as busy:
            raise ClosedError(
                f"plane {self.name!r}: the call was {busy}; make it outside of such code", plane=self.name
            ) from busy
        finally:
            if self._tx.space.doomed or self._tx.coordination.woken:
                self.follow_up()

    def change_holding_mutex(self, operation: Callable[[Transaction, *Ts], R], *args: *Ts) -> R:
        """``change`` for a fork, which has taken the mutex and keeps it."""
        run = self.lock.run_holding_mutex
        return self._in_time(run(LOCK_TIMEOUT_S, self._inside, True, operation, args, 0))

    def _inside(self, writes: bool, operation: Callable[..., R], args: tuple[Any, ...], spared: int) -> R:
        header, tx, lock = self._header, self._tx, self.lock
        if self.ended is not None:  # while this thread waited for another one of this process
            raise ClosedError(self.ended, plane=self.name)
        if header.destroyed[0]:
            self.end(f"plane {self.name!r} was destroyed; open it again to make a new one")
            raise ClosedError(str(self.ended), plane=self.name)
        # Also when the word says a time to come: it was written over.
        is_due = not 0 <= _clock() - header.scanned[0] <= _SCAN_INTERVAL_NS
        if not self.is_ready and (is_due or header.dirty[0] or self.suspect):
            check_ready(tx)
        header.holder[0] = self.mark
        tx.counters.takes[tx.count_row] += 1
        if lock.waited:
            tx.counting.waited(lock)
        try:
            if header.dirty[0] or self.suspect:
                self._recover(tx)
            self.suspect = True
            if writes or self.garbage or self.owed or is_due:
                header.dirty[0] = self.mark
                if is_due or self.owed or self.gone or len(self.garbage) > spared:
                    self._keep_house(tx, is_due)
                result = operation(tx, *args)
                header.dirty[0] = 0
            else:
                result = operation(tx, *args)
            self.suspect = False
        except BaseException as error:
            if self.manifest.was_refused(error):
                # Only the very object that the operation registered: one of ours may also come out of a signal handler.
                header.dirty[0] = 0
                self.suspect = False
            elif is_impossible(error) and not is_from_handler(error):
                raise written_over(self.name, error) from error
            raise
        return result

    def _recover(self, tx: Transaction) -> None:
        """First of all: nothing derived can be used before it."""
        self._header.dirty[0] = self.mark
        self.suspect = True
        recover(tx, self)
        self._header.dirty[0] = 0

    def _keep_house(self, tx: Transaction, is_due: bool) -> None:
        """What writers do first: give back what is garbage here and, once a second per host, what the dead held."""
        self.free_garbage(tx)
        while self.owed:  # what calls left behind
            self.owed[0].undo(tx)
            self.owed.popleft()
        while self.gone:
            tx.space.forget_segment(*self.gone[0])
            self.gone.popleft()
        if is_due:
            self._header.scanned[0] = _clock()
            reclaim_due(tx, self)

    def free_garbage(self, tx: Transaction) -> None:
        """Give back the rows of objects that are garbage. After an interrupt, what was under way is done again."""
        garbage = self.garbage
        while garbage:
            garbage[0].free(tx)
            garbage.popleft()

    def follow_up(self) -> None:
        """What a transaction decided and the lock is not needed for: wake processes, remove files."""
        woken = self._tx.coordination.woken
        # Another thread may do the same at this moment.
        with ignoring(KeyError):
            while woken:
                wake_all(self.manifest.wake_address(woken.pop()))
        if self._tx.space.doomed:
            self.remove_doomed()

    @property
    def reader(self) -> Reader:
        """Of what can be asked without the lock: ``is_seen``, ``peek`` and ``exported_segments``."""
        return self._tx

    def wake_address(self) -> int:
        """The futex that others wake this process by."""
        return self.manifest.wake_address(self.slot)

    def wake_sequence(self) -> int:
        """What it holds now."""
        return self._tx.coordination.sequence()

    def reclaim_if_due(self, tx: Transaction) -> None:
        """A waiter's look at who is still alive, at most ten times a second."""
        now = _clock()
        if self.is_ready and now - self.looked_for_dead > _LOOK_FOR_WAITERS_NS:
            self.looked_for_dead = now
            reclaim_dead(tx, self)

    def remove_doomed(self) -> None:
        """Remove the files of doomed segments, outside the lock."""
        doomed = self._tx.space.doomed
        for segment_id, segment in list(doomed.items()):
            # One that stays is tried again by ``gc``, and by others when this process has ended.
            if self.memory.remove(segment):
                self.gone.append((segment.segment_row, segment_id))
            doomed.pop(segment_id, None)

    # Taking part

    def registry(self, kind: type[K]) -> K:
        """This process's objects of one kind."""
        found = self.registries.get(kind)
        if found is None:
            # In one call into C: threads may ask at the same time.
            found = self.registries.setdefault(kind, kind(self))  # type: ignore[call-arg]
        return found  # type: ignore[return-value]

    def open(self) -> Opened:
        """One more ``Plane`` object, which keeps what is returned."""
        # In place and from a copy: other threads take theirs out meanwhile.
        self.opens.difference_update([known for known in list(self.opens) if known() is None])
        opened = Opened()
        self.opens.add(weakref.ref(opened, self.timer.ring))
        self.timer.watch(wait=True)
        return opened

    def close(self, opened: Opened) -> None:
        """That ``Plane`` object is closed. Idempotent; one that is garbage keeps nothing either."""
        self.opens.discard(weakref.ref(opened))
        if self.garbage and not self.exiting:
            self.try_drain()  # what is garbage by now must not keep us in the plane
        self.leave_if_idle()

    @property
    def is_idle(self) -> bool:
        """Nothing of this process needs the plane any more."""
        return self.is_closed and not any(registry.has_views for registry in list(self.registries.values()))

    @property
    def is_closed(self) -> bool:
        """No ``Plane`` object is open here, nothing is being made, waited for or held; there may be views."""
        if self.ended is not None:
            return False
        for known in tuple(self.opens):
            if known() is not None:
                return False
        # Plain loops: this runs at the end of every wait and every view.
        for registry in list(self.registries.values()):  # noqa: SIM110
            if not registry.is_idle:
                return False
        return True

    def settle(self, seconds: float) -> None:
        """Undo what is owed, now if the lock is to be had within ``seconds``, else soon."""
        try:
            if self.lock.owned() or self._attempt(seconds, False, _nothing, ()) is NOT_HAD:
                self.timer.start()
        except own(ClosedError):
            if self.ended is None:
                raise
            self.owed.clear()  # what ended has given everything back

    def drain(self) -> bool:
        """Give back what is garbage; False: there was none."""
        if not self.garbage:
            return False
        self.look(_nothing)
        return True

    def try_drain(self) -> None:
        """Drain now if nobody is in the way, else within 50 ms. Never waits."""
        try:
            if self.ended is None and not self.lock.owned():
                self.lock.run(None, self._inside, False, _nothing, (), 0)
                self.follow_up()
                self.leave_if_idle()
                return
        except own(Busy, Lost, ShmplaneError, OSError, MemoryError):
            pass
        self.timer.start()

    def tidy(self) -> bool:
        """What the drain timer does: give back what is due, and leave when nothing needs the plane; whether it could."""
        if (self.garbage or self.owed) and self.try_look(_TIDYING_S, _nothing) is NOT_HAD:
            return False
        self.leave_if_idle()
        return True

    @property
    def ends_silently(self) -> bool:
        """There is something that ends without a bell: the drain timer looks by itself."""
        return bool(self.owed) or any(registry.ends_silently for registry in list(self.registries.values()))

    def leave_if_idle(self) -> None:
        if not self.is_closed or self.exiting or not self.is_idle:  # most often it is not closed
            return
        if self.lock.owned():
            self.timer.start()  # inside a transaction: its thread leaves
        else:
            self._on_idle(self)

    def take_slot(self, slot: int) -> None:
        """The slot whose token we took is ours."""
        self.slot, self.mark = slot, slot + 1
        self._tx = Transaction(self.manifest)
        self._tx.act_for(slot)
        give_core(self)

    def release_slot(self, tx: Transaction) -> None:
        """Our row is free again: the last thing this process does in the plane."""
        leave(tx, self.slot)

    def end(self, why: str) -> None:
        """No further transaction; views stay readable for as long as they live."""
        self.ended = why
        drop_core(self)
        self.memory.drop()
        # What waits or is held refers to us.
        self.owed.clear()
        self.kept.forget_all()
        for registry in list(self.registries.values()):
            registry.end()
        self.close_descriptors()
        self.timer.ring(None)

    def close_descriptors(self) -> None:
        """Close what is still ours, as soon as no thread uses it. Idempotent."""
        self.lock.end(self._close_descriptors)

    def _close_descriptors(self) -> None:
        self.token.close()
        self.lock.close()
        self.manifest.close()


def _nothing(_: Transaction) -> None:
    """The empty transaction: what it does is drain the queue."""
