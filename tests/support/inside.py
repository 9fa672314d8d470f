"""The one door through which tests reach inside planes, blocks and pools: a move in the package breaks this file only.

What takes a plane wants a ``Plane`` of this process. ``change`` and ``look`` run a function of the transaction under the
host-wide lock; ``tables_of`` hands out the same tables without it, for a plane at rest or on purpose.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from tests.support.thrown import is_thrown

if TYPE_CHECKING:
    import pytest

# Transactions


def change(plane: Any, operation: Callable[..., Any], *args: Any) -> Any:
    """``operation(tx, *args)`` as one transaction that may write."""
    return attachment_of(plane).change(operation, *args)


def look(plane: Any, operation: Callable[..., Any], *args: Any) -> Any:
    """``operation(tx, *args)`` under the lock, as one that writes nothing."""
    return attachment_of(plane).look(operation, *args)


@contextmanager
def before_each_transaction(patch: pytest.MonkeyPatch, plane: Any, act: Callable[[], object]) -> Iterator[None]:
    """``act()`` is called in the thread that wants one, before it takes the lock."""
    attachment = attachment_of(plane)
    real = attachment._attempt

    def attempt(*args: Any) -> Any:
        act()
        return real(*args)

    with patch.context() as inner:
        inner.setattr(attachment, "_attempt", attempt)
        yield


@contextmanager
def nobody_looks_for_the_dead() -> Iterator[None]:
    """As if another process had always just done so: in this one, and in what it forks."""
    import pytest

    from shmplane.plane.process import attachment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachment, "_SCAN_INTERVAL_NS", 2**64)
        yield


@contextmanager
def gc_finds_only_what_is_over() -> Iterator[None]:
    """``gc`` does not look for blocks that nothing holds: whoever let go of them last had to free them."""
    import pytest

    from shmplane.plane.process import upkeep

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "reclaim_unheld", lambda tx, attachment, start: -1)
        yield


@contextmanager
def before_it_is_owed(plane: Any, act: Callable[[], object]) -> Iterator[None]:
    """``act()`` is called once, between the exception of a call and what that call owes: as another thread would run then."""
    acts = [act]

    class Owed(deque[Any]):
        def append(self, what: Any) -> None:
            error = sys.exception()
            while acts and error is not None and is_thrown(error):
                acts.pop()()
            super().append(what)

    with _owing_to(plane, Owed()):
        yield


@contextmanager
def before_each_undo(plane: Any, act: Callable[[], object]) -> Iterator[None]:
    """``act()`` is called, under the lock, before what a call owes is undone."""

    class Owed(deque[Any]):
        def __getitem__(self, index: Any) -> Any:
            act()
            return super().__getitem__(index)

    with _owing_to(plane, Owed()):
        yield


@contextmanager
def _owing_to(plane: Any, owed: deque[Any]) -> Iterator[None]:
    attachment = attachment_of(plane)
    owed.extend(attachment.owed)
    attachment.owed = owed
    try:
        yield
    finally:
        attachment.owed = deque(owed)


def interrupt_once(
    patch: pytest.MonkeyPatch, method: str, *, at_its_end: bool = False, by: type[BaseException] = KeyboardInterrupt
) -> None:
    """Let the next call of a method, such as ``Items.take`` or ``Ring.restore``, be interrupted, before it has begun."""
    from shmplane.manifest import items, ring, transaction
    from shmplane.plane.blocks import block
    from shmplane.plane.coordination import ring_claims

    kind, _, name = method.partition(".")
    owner = {
        "Items": items.Items,
        "Ring": ring.Ring,
        "Transaction": transaction.Transaction,
        "Block": block.Block,
        "EntryClaim": ring_claims.EntryClaim,
    }[kind]
    real, interrupts = getattr(owner, name), [by]

    def interrupted(*args: Any) -> Any:
        if not at_its_end and interrupts:
            raise interrupts.pop()
        result = real(*args)
        if interrupts:
            raise interrupts.pop()
        return result

    patch.setattr(owner, name, interrupted)


@contextmanager
def nothing_is_settled_at_once(plane: Any) -> Iterator[None]:
    """As if the lock were not to be had in a moment by calls that end: what they owe, the next transaction gives back."""
    attachment = attachment_of(plane)
    attachment.settle = lambda seconds: None
    try:
        yield
    finally:
        del attachment.settle


def suspect_everything(plane: Any) -> None:
    """As after an interrupted call: the next transaction builds everything derived again."""
    attachment_of(plane).suspect = True


# Shared words


def tables_of(plane: Any) -> Any:
    """The transaction, for its columns, indexes and allocators."""
    return attachment_of(plane)._tx


def manifest_of(plane: Any) -> Any:
    return tables_of(plane).manifest


def header_of(plane: Any) -> Any:
    return tables_of(plane).header


def index_of(plane: Any) -> Any:
    return tables_of(plane).index


def kept_rows(plane: Any, slot: int) -> list[tuple[int, int]]:
    """Row and generation of the blocks that are kept for the process of ``slot``."""
    blocks = tables_of(plane).blocks
    owners = blocks.owner[: manifest_of(plane).blocks_high].tolist()
    return [(row, blocks.generation[row]) for row, owner in enumerate(owners) if owner == 2**32 + slot + 1]


def let_time_pass_for(plane: Any, name: str) -> bool:
    """The time of a name comes now; False when it has none. Nobody passes by to remove it."""
    tx = tables_of(plane)
    _, row = tx.current(name.encode())
    if row < 0 or not tx.blocks.until[row]:
        return False
    tx.blocks.until[row] = 1
    return True


def use_name_rows_again_at(plane: Any, tombstones: int) -> int:
    """Rows of forgotten names are used again from so many on; how many it were before."""
    import pytest

    from shmplane.manifest import native
    from shmplane.plane.process.fast import give_core

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "most_tombstones", lambda limits: tombstones)
        give_core(attachment_of(plane))
    return limit_tombstones(index_of(plane), tombstones)


def limit_tombstones(index: Any, tombstones: int) -> int:
    before: int = index._most_tombstones
    index._most_tombstones = tombstones
    return before


def recycled_nbytes(plane: Any) -> int:
    found: int = tables_of(plane).space.recycled_nbytes()
    return found


def watching_processes(plane: Any) -> int:
    """How many processes of the host wait for a name."""
    found: int = header_of(plane).watchers[0]
    return found


def processes_in_line(plane: Any, name: str) -> int:
    """How many processes wait for ``name``, such as ``"l:gpu"`` for a lock and ``"s:gpu"`` for a semaphore."""

    def count(tx: Any) -> int:
        row = tx.coordination.find(name.encode())
        return sum(bool(tickets[row]) for _, _, tickets in tx.coordination.rows()) if row >= 0 else 0

    found: int = look(plane, count)
    return found


def leases_taken(plane: Any) -> int:
    """What the lease words of this process sum up to, over the first 256 block rows."""
    return sum(tables_of(plane).manifest.lease_row(slot_of(plane))[:256].tolist())


def counters_of(plane: Any) -> Any:
    """What each process has counted: a row of each."""
    return manifest_of(plane).counters


def header_offset(column: str) -> int:
    """Where a word of the header lies in the manifest's file."""
    from shmplane.manifest.schema import Header

    return 8 * int(Header.offsets[column])


# What this process has in a plane


def attachment_of(plane: Any) -> Any:
    return plane._attachment


def slot_of(plane: Any) -> int:
    found: int = attachment_of(plane).slot
    return found


def token_of(plane: Any) -> Any:
    """The locks that say which slots have a live process."""
    return attachment_of(plane).token


def mark_of(plane: Any) -> int:
    """What stands in the dirty word while this process writes."""
    found: int = attachment_of(plane).mark
    return found


def directory_of(plane: Any) -> Path:
    return Path(attachment_of(plane).path)


def spill_of(plane: Any) -> Path | None:
    """The plane's own directory in its spill directory, which may not be there yet; None: it spills nowhere."""
    spill = memory_of(plane).spill
    return None if spill is None else Path(spill.place.directory)


def memory_of(plane: Any) -> Any:
    return attachment_of(plane).memory


def is_mapped_to_be_filled(plane: Any, segment_id: int) -> bool:
    return segment_id in memory_of(plane)._writable


def forget_mappings(plane: Any) -> None:
    """As after a while without use."""
    memory_of(plane).drop()


def forget_views(plane: Any) -> None:
    plane._recent.clear()


def keeps_root(plane: Any, name: str) -> bool:
    """Whether the root of a name that was got again just now is kept for whoever gets it once more."""
    return name in attachment_of(plane).kept


def is_owing(plane: Any) -> bool:
    """What could not be given back for want of the lock waits for the next transaction."""
    return bool(attachment_of(plane).owed)


def claims_of(plane: Any) -> Any:
    from shmplane.plane.blocks import claims

    return claims.claims_of(attachment_of(plane))


def leases_of(plane: Any) -> Any:
    return claims_of(plane).leases


def creations_of(plane: Any) -> Any:
    return claims_of(plane).creations


def abandon_creation(plane: Any, creation: Any) -> None:
    """As who is interrupted right behind a publication does."""
    from shmplane.plane.blocks.claims import abandon_creation as abandon

    abandon(attachment_of(plane), creation)


def references_with_callbacks(plane: Any) -> list[Any]:
    """The weak references by which it is noticed that something of this process is garbage."""
    attachment = attachment_of(plane)
    known = [*claims_of(plane).leases.values(), *claims_of(plane).creations.values(), *attachment.opens]
    return known + [one._ringing for one in known if hasattr(one, "_ringing")]


def watches_of(plane: Any) -> Any:
    """The waits for a name that are under way in this process."""
    from shmplane.plane.coordination import watching

    return watching.watches_of(attachment_of(plane)).watches


def permits_of(plane: Any) -> Any:
    """This process's share of each semaphore, by key, such as ``b"s:gpu"``."""
    from shmplane.plane.coordination import claims

    return claims.permits_of(attachment_of(plane)).parts


def permit_by_core(plane: Any, semaphore: Any) -> Callable[[], bool]:
    """Takes a permit and gives one back, by the core alone: True when it took one; what it leaves to Python is not done."""
    from shmplane.plane.coordination.claims import Claim

    part, kept = semaphore._local, list[Any]()
    take, give, _ = core_of(plane).permits(
        part.numbers, part.ready, part.waiters, Claim, attachment_of(plane).opens, lambda: kept.append(1), None, None
    )

    def take_and_give() -> bool:
        before, claim = list(part.ready), Claim(semaphore)
        taken = take(claim)
        assert (taken is not None) == (claim.taken or claim.ticket > 0)
        assert claim.taken == claim.is_done == (part.ready[-1] is claim)
        took: bool = claim.taken
        give()
        part.ready[:] = before
        part.waiters.clear()
        return took

    return take_and_give


@contextmanager
def row_of_the_next_semaphore(patch: pytest.MonkeyPatch, row: int) -> Iterator[None]:
    """The next name that has no row gets this one, as if no other were free."""
    from shmplane.manifest.coordination import Coordination

    with patch.context() as inner:
        inner.setattr(Coordination, "_free_row", lambda coordination: row)
        yield


def stand_in_line(semaphore: Any) -> Callable[[], bool]:
    """As a thread of this process that waits for a permit, until it looks again: what is returned says whether it got one."""
    from shmplane.plane.coordination.claims import Claim

    claim = Claim(semaphore)

    def look() -> bool:
        if claim.look_at_once() is None:
            claim.attachment.change(claim.look)
        return claim.is_done

    assert not look()
    assert claim.ticket
    return look


def let_somebody_wait(plane: Any, name: str, permits: int = 0) -> None:
    """As if one more process, of the last slot, held so many permits of a semaphore and, with none, stood in line for one."""
    manifest = manifest_of(plane)
    slot = manifest.limits.max_processes - 1

    def wait(tx: Any) -> None:
        if not manifest.processes.coordinates[slot]:
            manifest.reserve_permit_rows(slot)
            manifest.reserve_lease_row(slot, manifest.blocks_reserved)
            manifest.processes.state[slot] = manifest.processes.coordinates[slot] = 1
            manifest.header.membership[0] += 1
        row = tx.coordination.find(name.encode())
        held, tickets = manifest.permit_rows(slot)
        held[row] = permits
        tickets[row] = 0 if permits else tx.coordination.new_ticket()
        manifest.semaphores.awaited[row] = 1

    change(plane, wait)


def let_somebody_watch(plane: Any, name: str) -> None:
    """As if a process of the last slot waited for a version of a name."""
    from shmplane.manifest import watch_bit

    manifest = manifest_of(plane)

    def watch(tx: Any) -> None:
        slot = manifest.limits.max_processes - 1
        manifest.processes.watching[slot] = watch_bit(crc32(name.encode()))
        if not manifest.processes.state[slot]:
            manifest.reserve_lease_row(slot, manifest.blocks_reserved)
            manifest.processes.state[slot] = 1
            manifest.header.membership[0] += 1
        tx.coordination.count_watchers()

    change(plane, watch)


def let_nobody_wait(plane: Any) -> None:
    """That process is gone, with all that it had."""
    manifest = manifest_of(plane)
    slot = manifest.limits.max_processes - 1

    def leave(tx: Any) -> None:
        tx.coordination.clear(slot)
        manifest.processes.state[slot] = 0
        manifest.header.membership[0] += 1

    change(plane, leave)


def claims_in_line(plane: Any, name: str) -> int:
    """How many threads and tasks of this process wait for it."""
    part = permits_of(plane).get(name.encode())
    return len(part.waiters) if part is not None else 0


def mutex_of(plane: Any) -> Any:
    """What keeps this process's other threads out of the lock."""
    return attachment_of(plane).lock.mutex


def mutex_is_taken(plane: Any) -> bool:
    found: bool = attachment_of(plane).lock.owned()
    return found


def opened_of(plane: Any) -> Any:
    """Weak references to the ``Plane`` objects and other uses that keep the process in the plane."""
    return attachment_of(plane).opens


def open_once_more(plane: Any) -> Any:
    return attachment_of(plane).open()


# Names and blocks


def remembered(plane: Any, name: str) -> tuple[int, int]:
    """Name row and name word of the view that ``plane`` remembers."""
    row, word = plane._recent[name][:2]
    return row, word


def name_words_of(plane: Any) -> Any:
    return plane._words


def row_of(block: Any) -> int:
    found: int = block._facts.row
    return found


def facts_of(plane: Any, block: Any) -> tuple[Any, Any]:
    """What a block knows of itself, and what its row says."""
    return block._facts, look(plane, lambda tx: tx.facts(block._facts.row))


def references_of(block: Any) -> Any:
    """The rows of the blocks whose bytes it shows."""
    return block._facts.references


def extents_of(block: Any) -> Any:
    lease = block._open()
    return lease.attachment.compositions.extents_of(lease.facts).listed()


def compare_taken_over(patch: pytest.MonkeyPatch, every: int) -> list[int]:
    """From now on one in ``every`` ranges that are taken over is compared with one that is laid anew.

    Returns:
        How many pieces there were each time, to be looked at later.
    """
    from shmplane.plane.memory.compositions import Compositions
    from shmplane.plane.memory.extents import difference
    from shmplane.system import Mapping

    take_over: Any = Compositions._take_over
    pieces: list[int] = []

    def checked(self: Any, mapping: Any, facts: Any, shown: Any, extents: Any, *, private: bool = False) -> None:
        take_over(self, mapping, facts, shown, extents, private=private)
        pieces.append(len(difference(shown, extents)))
        if len(pieces) % every == 0:
            fresh = Mapping(mapping.nbytes)
            self._lay(fresh, facts, extents.pieces())
            assert fresh.view[: facts.body_nbytes] == mapping.view[: facts.body_nbytes], "shows something else"

    patch.setattr(Compositions, "_take_over", checked)
    return pieces


# Pools


def roster_of(pool: Any) -> Any:
    return pool._roster


def lock_of(pool: Any) -> Any:
    return pool._lock


def after_its_lock_is_given_back(patch: pytest.MonkeyPatch, pool: Any, act: Callable[[], object]) -> None:
    """Call ``act`` each time that something in the pool was done and its lock is free again."""
    lock = lock_of(pool)

    class Observed:
        """The lock, of which every release is seen."""

        def __enter__(self) -> bool:
            return bool(lock.acquire())

        def __exit__(self, *_: object) -> None:
            self.release()

        def acquire(self, blocking: bool = True) -> bool:
            return bool(lock.acquire(blocking))

        def release(self) -> None:
            lock.release()
            act()

        def __getattr__(self, name: str) -> Any:
            return getattr(lock, name)

    patch.setattr(pool, "_lock", Observed())


def around_decisions(
    patch: pytest.MonkeyPatch, pool: Any, *, before: Callable[[], object], after: Callable[[], object]
) -> None:
    """Call ``before`` and ``after`` around each decision of the pool."""
    decide = pool._decide

    def observed(*args: Any, **options: Any) -> None:
        before()
        decide(*args, **options)
        after()

    patch.setattr(pool, "_decide", observed)


def host_meter(plane: Any, name: str) -> Any:
    return plane._host_meter(name)


def host_permits(plane: Any, name: str, limit: int) -> Any:
    return plane._host_permits(name, limit)


# Manifests without a plane


def transaction_for(manifest: Any, slot: int) -> Any:
    """What the process of ``slot`` changes the manifest with; the slot is in use from now on."""
    from shmplane.manifest import Transaction

    manifest.processes.state[slot] = 1
    if manifest.header.blocks_reserved[0]:
        manifest.reserve_lease_row(slot, manifest.header.blocks_reserved[0])
    made = Transaction(manifest)
    made.act_for(slot)
    return made


def loans_remembered(mapping: Any) -> int:
    """How many loans a private mapping looks at to know whether it is lent."""
    return len(mapping._lent)


def spill(plane: Any, nbytes: int = 1) -> bool:
    """Move what nobody leases to the spill directory until so many bytes have moved; whether any did."""
    from shmplane.plane.blocks import spilling

    found: bool = spilling._spill(attachment_of(plane), nbytes, to_system=False)
    return found


def spill_all(plane: Any) -> None:
    """Move all that nobody leases."""
    while spill(plane):
        pass


def is_spilled(plane: Any, name: str) -> bool:
    """Whether the current block of a name lies in the spill directory."""

    def look_at(tx: Any) -> bool:
        row = tx.current(name.encode())[1]
        return bool(tx.segments.place[tx.blocks.segment[row] - 1])

    found: bool = look(plane, look_at)
    return found


def rate_waiters(plane: Any, name: str, kind: str = "r") -> int:
    """How many threads and tasks of this process wait for a rate; for a queue (``q``) or room in it (``Q``)."""
    from shmplane.plane.coordination import lines

    known = attachment_of(plane).registry(lines.Lines).parts.get(f"{kind}:{name}".encode())
    part = None if known is None else known()
    return 0 if part is None else len(part.waiters)


def look_once_more(plane: Any, name: str) -> None:
    """Let each who waits for a rate in this process look, in their order."""
    for waiter in list(_rate_line(plane, name).waiters):
        change(plane, waiter.look)


def say_wishes_once_more(plane: Any, name: str) -> None:
    """As whoever gets into the line for a rate, or leaves it."""
    change(plane, _rate_line(plane, name).say_wishes)


def _rate_line(plane: Any, name: str) -> Any:
    from shmplane.plane.coordination import lines

    return attachment_of(plane).registry(lines.Lines).parts[f"r:{name}".encode()]()


def count_calls(patch: pytest.MonkeyPatch, method: str) -> list[str]:
    """One more for each call of that method of rates in shared memory from now on."""
    from shmplane.manifest import rates

    real, calls = getattr(rates.Rates, method), list[str]()

    def counted(*args: Any) -> Any:
        calls.append(method)
        return real(*args)

    patch.setattr(rates.Rates, method, counted)
    return calls


def as_good_as_new(plane: Any, name: str) -> None:
    """Let the time pass that a rate needs for all that it has granted."""

    def pass_time(tx: Any) -> None:
        row = tx.coordination.find(b"r:" + name.encode())
        for column in tx.manifest.semaphores.arrival:
            column[row] = 0

    change(plane, pass_time)


def ring_view(plane: Any, name: str) -> memoryview | None:
    """The writable memory of a queue's ring, as this process sees it; None: it has found none."""
    from shmplane.plane.coordination import lines

    known = attachment_of(plane).registry(lines.Lines).parts.get(f"q:{name}".encode())
    part = None if known is None else known()
    view: memoryview | None = None if part is None or part.ends is None else part.ends.ring._view
    return view


def in_both_ends(items: Any, call: Any) -> None:
    """Call it with both ends of a queue's ring in hand."""
    lock, ends = items._attachment.lock, items._takers.ends
    lock.run_apart(ends.putting, lock.run_beneath, ends.getting, call)


# The lock word


def lock_word(plane: Any, fd: int, slot: int) -> Any:
    """The plane's lock word as whoever has the byte of that slot, through this descriptor of the token file, uses it."""
    from shmplane.core import _core

    manifest = manifest_of(plane)
    return _core.LockWord(manifest.words, manifest.lock_word_at, slot + 1, manifest.limits.max_processes + 256, fd)


def seat_of(plane: Any, fd: int, seats: Iterable[int] = range(256)) -> int | None:
    """One of those seats that nobody else has: it is ours, through that descriptor of the token file."""
    from shmplane.system.ofd import OfdRange

    first = manifest_of(plane).limits.max_processes
    return next((first + seat for seat in seats if OfdRange(fd, first + seat).try_lock()), None)


def plane_lock(plane: Any) -> Any:
    """The host-wide lock, as this process has it."""
    return attachment_of(plane).lock


# The compiled core


def core_of(plane: Any) -> Any:
    """The fast path in C of this process in the plane; None without one."""
    return attachment_of(plane).core


def the_lock_is_never_free_at_once(plane: Any) -> None:
    """Whatever the core is asked to do, it is asked once more when the lock was waited for."""
    attachment = attachment_of(plane)
    core = attachment.core

    class Refused:
        put = delete = lease = staticmethod(lambda *args: False)

        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

    attachment.core = Refused()


def native_stores(stop_at: int) -> int:
    """How many stores the core has made since this was asked last; after so many more it kills the process, -1: never."""
    from shmplane.core import _core

    return _core.stop_at(stop_at)


def do_without_the_core(plane: Any) -> None:
    """From now on each call of this process is Python code alone."""
    from shmplane.plane.process.fast import drop_core

    drop_core(attachment_of(plane))


def nobody_drains(patch: pytest.MonkeyPatch) -> None:
    """What becomes garbage waits for the next call: no thread gives it back, and no root is kept for a moment."""
    from shmplane.plane.process import drain, kept

    patch.setattr(drain.DrainTimer, "_work", lambda timer: True)
    patch.setattr(kept.KeptRoots, "keep", lambda roots, name, root: None)


def look_for_the_dead_later(plane: Any) -> None:
    """As if another process had just done so."""
    import time

    header_of(plane).scanned[0] = time.monotonic_ns()


# Rings, as who was killed left them


def mark_rows_as_taking(plane: Any, name: str) -> None:
    """Leave in all free rows of blocks what somebody leaves who is killed while he takes an entry out of a queue's ring."""

    def mark(tx: Any) -> None:
        queue = tx.coordination.find(f"q:{name}".encode())
        for row in range(tx.manifest.blocks_high):
            if not tx.blocks.state[row]:
                tx.blocks.seen[row] = tx.manifest.semaphores.head[queue]

    change(plane, mark)


@contextmanager
def somebody_numbers_whenever_it_is_read(plane: Any, name: str) -> Iterator[Callable[[], int]]:
    """Somebody counts one on behind each look at the number of a queue's last item; yields what tells how many that lost."""
    queues = manifest_of(plane).semaphores
    row, words = look(plane, lambda tx: tx.coordination.find(f"q:{name}".encode())), queues.numbered
    counted = [words[row]]

    class Numbered:
        def __getitem__(self, index: int) -> int:
            found: int = words[index]
            if index == row:
                words[index] = found + 1
                counted[0] += 1
            return found

        def __setitem__(self, index: int, value: int) -> None:
            words[index] = value

    queues.numbered = Numbered()
    try:
        yield lambda: counted[0] - words[row]
    finally:
        queues.numbered = words


def die_in_a_transaction(plane: Any) -> None:
    """End this process with the lock in hand, so that the next one recovers."""
    import os

    change(plane, lambda tx: os._exit(1))
