"""The manifest: one mapped file with all tables of a plane, and its growth.

Tables are sparse. A row is touched only once memory stands behind it (``blocks_reserved`` and its like), so that a full
file system is an error and not SIGBUS, and rows of slots not in use are never read.
"""

from __future__ import annotations

import errno
import os
import time
import weakref
from typing import TypeVar

from ..errors import ClosedError, PlaneCorrupt, PlaneFull, ShmplaneError
from ..system import Mapping, allocate, close_own, identity_of, own, read_start, round_to_pages, set_size
from ..tables import WORD_NBYTES, Column, Table, view_column
from . import schema
from .limits import (
    COUNTER_ROWS_BEFORE,
    FORMAT,
    MAGIC,
    MAX_SEMAPHORES,
    PERMIT_WORDS,
    READING_WORDS,
    Limits,
    fingerprint_of_format,
    place,
)
from .states import LOCKS, LRU, LockKind

__all__ = ["Manifest"]

Refusal = TypeVar("Refusal", bound=ShmplaneError)


class Manifest:
    """Typed columns over the mapped file. Everything but ``reserve`` is plain reading and writing of words."""

    nbytes: int

    def __init__(self, fd: int, limits: Limits) -> None:
        self.limits = limits
        self.plane: str = ""  #: its name, for messages
        self.fd: int = fd
        self.identity: tuple[int, int] = identity_of(fd)
        self._starts, self._leases_start, self.nbytes = place(limits)
        self._mapping = Mapping(self.nbytes, writable=True)
        self._mapping.lay(fd, self.nbytes)
        self.address: int = self._mapping.address
        #: the whole file
        self.words: memoryview = self._mapping.words()
        words = self.words
        rows = limits.rows()
        self.header: schema.Header = schema.Header(words, self._starts[schema.Header], 1)
        self.processes: schema.Processes = schema.Processes(
            words, self._starts[schema.Processes], rows[schema.Processes]
        )
        self.classes: schema.Classes = schema.Classes(words, self._starts[schema.Classes], rows[schema.Classes])
        self.recycled: schema.Recycled = schema.Recycled(words, self._starts[schema.Recycled], rows[schema.Recycled])
        self.buckets: schema.Buckets = schema.Buckets(words, self._starts[schema.Buckets], rows[schema.Buckets])
        self.blocks: schema.Blocks = schema.Blocks(words, self._starts[schema.Blocks], rows[schema.Blocks])
        self.segments: schema.Segments = schema.Segments(words, self._starts[schema.Segments], rows[schema.Segments])
        self.names: schema.Names = schema.Names(words, self._starts[schema.Names], rows[schema.Names])
        self.semaphores: schema.Semaphores = schema.Semaphores(
            words, self._starts[schema.Semaphores], rows[schema.Semaphores]
        )
        self.wakes: schema.Wakes = schema.Wakes(words, self._starts[schema.Wakes], rows[schema.Wakes])
        self.meters: schema.Meters = schema.Meters(words, self._starts[schema.Meters], rows[schema.Meters])
        self.groups: schema.Groups = schema.Groups(words, self._starts[schema.Groups], rows[schema.Groups])
        self.ghosts: schema.Ghosts = schema.Ghosts(words, self._starts[schema.Ghosts], rows[schema.Ghosts])
        self.counters: schema.Counters = schema.Counters(words, self._starts[schema.Counters], rows[schema.Counters])
        self._reading_rows: dict[int, Column] = {}
        self._permit_rows: dict[int, tuple[Column, Column]] = {}
        self._wish_rows: dict[int, Column] = {}
        self.bucket_mask: int = rows[schema.Buckets] - 1
        self._lease_row_words = round_to_pages(limits.max_blocks * WORD_NBYTES) // WORD_NBYTES
        self._lease_rows: dict[int, Column] = {}
        self._refused: weakref.ref[ShmplaneError] | None = None

    def tables(self) -> list[Table]:
        """All tables of rows."""
        return [table for table in vars(self).values() if isinstance(table, Table)]

    @classmethod
    def create(
        cls, fd: int, limits: Limits, *, capacity: int, recycle: int, temporary: bool, lock: LockKind = "ofd"
    ) -> Manifest:
        """Size and fill the file of a new plane; ``OSError`` when the file system is full."""
        starts, _, nbytes = place(limits)
        set_size(fd, nbytes)
        allocate(fd, starts[schema.Blocks] * WORD_NBYTES)
        made = cls(fd, limits)
        header, groups = made.header, made.groups
        allocate(
            fd,
            schema.Counters.row_words * COUNTER_ROWS_BEFORE * WORD_NBYTES,
            offset=starts[schema.Counters] * WORD_NBYTES,
        )
        groups.policy[0] = LRU
        groups.state[0] = 1
        values = {
            "format": FORMAT,
            "fingerprint": fingerprint_of_format(),
            "instance": int.from_bytes(os.urandom(7), "little") | 1,
            "created": time.time_ns(),
            "max_blocks": limits.max_blocks,
            "max_processes": limits.max_processes,
            "temporary": int(temporary),
            "capacity": capacity,
            "recycle": recycle,
            "lock": LOCKS.index(lock),
            # Not from 1: who has not yet noticed that its plane was made anew must not find its segments here.
            "next_segment": int.from_bytes(os.urandom(6), "little") | 1,
            "magic": MAGIC,
        }
        for name, value in values.items():
            getattr(header, name)[0] = value
        return made

    @classmethod
    def open(cls, fd: int, path: str) -> Manifest:
        """Map an existing manifest, after checks that keep hostile or foreign bytes out."""
        size = os.fstat(fd).st_size
        head = read_start(fd, schema.Header.row_words * WORD_NBYTES)
        if len(head) < schema.Header.row_words * WORD_NBYTES:
            raise PlaneCorrupt(
                f"{path} has {size} B, too few for a manifest's header. Remove the plane and make it again.", path=path
            )
        header = schema.Header(memoryview(head).cast("Q"), 0, 1)
        limits = Limits(header.max_blocks[0], header.max_processes[0])
        found = {
            "magic": (header.magic[0], MAGIC),
            "format": (header.format[0], FORMAT),
            "fingerprint": (header.fingerprint[0], fingerprint_of_format()),
        }
        for what, (is_, should) in found.items():
            if is_ != should:
                raise PlaneCorrupt(
                    f"{path}: its {what} is {is_:#x}, this release reads {should:#x}. The plane was made by another "
                    f"release, or the file was damaged: remove it, or use the release that made it.",
                    path=path,
                    what=what,
                )
        if header.lock[0] >= len(LOCKS):
            raise PlaneCorrupt(f"{path}: its lock is of no kind that there is. Remove the plane.", path=path)
        try:
            limits.check()
            right_size = place(limits)[2]
        except own(ValueError) as error:
            raise PlaneCorrupt(f"{path}: impossible limits, {error}. Remove the plane.", path=path) from None
        if size != right_size:
            raise PlaneCorrupt(
                f"{path} has {size:,} B and should have {right_size:,}: it was cut or written over. Remove the plane.",
                path=path,
            )
        opened = cls(fd, limits)
        try:
            opened.check_counters()
        except own(PlaneCorrupt) as error:
            raise PlaneCorrupt(f"{path}: {error}", path=path) from None
        return opened

    # Counters of rows, each checked whenever it is used: they bound loops, and another process may have written over them.

    @property
    def blocks_high(self) -> int:
        """Block rows ever used."""
        return _bounded(self.blocks, self.header.blocks_high[0], self.header.blocks_reserved[0])

    @property
    def blocks_reserved(self) -> int:
        """Block rows, and words of each lease row, that memory stands behind."""
        return _bounded(self.blocks, self.header.blocks_reserved[0], self.blocks.rows)

    @property
    def segments_high(self) -> int:
        """Segment rows ever used."""
        return _bounded(self.segments, self.header.segments_high[0], self.header.segments_reserved[0])

    @property
    def names_high(self) -> int:
        """Name rows ever used."""
        return _bounded(self.names, self.header.names_high[0], self.header.names_reserved[0])

    @property
    def semaphores_high(self) -> int:
        """Semaphore rows ever used."""
        return _bounded(self.semaphores, self.header.semaphores_high[0], self.header.semaphores_reserved[0])

    @property
    def meters_high(self) -> int:
        """Meter rows ever used."""
        return _bounded(self.meters, self.header.meters_high[0], self.meters.rows)

    def meter_names(self) -> dict[int, bytes]:
        """The names of the meters in use by row."""
        meters = self.meters
        rows = (row for row in range(self.meters_high) if meters.state[row])
        return {row: meters.text.read(row, meters.length[row]) for row in rows}

    def check_counters(self) -> None:
        """``PlaneCorrupt`` when the header counts rows that there cannot be."""
        for counter in ("blocks_high", "segments_high", "names_high", "semaphores_high", "meters_high"):
            getattr(self, counter)

    def slots_in_use(self) -> list[int]:
        """Rows of processes that somebody took and nobody gave back."""
        return [slot for slot, state in enumerate(self.processes.state.tolist()) if state]

    def lease_row(self, slot: int) -> Column:
        """The words of one process; only those below ``blocks_reserved`` may be touched, while the slot is in use."""
        row = self._lease_rows.get(slot)
        if row is None:
            row = view_column(self.words, self.leases_start(slot), 1, self.limits.max_blocks)
            self._lease_rows[slot] = row
        return row

    def leases_start(self, slot: int) -> int:
        """The first word of a process's lease row."""
        return self._leases_start + slot * self._lease_row_words

    def permit_rows(self, slot: int) -> tuple[Column, Column]:
        """Permits held and oldest tickets of one process; only while it ``coordinates``."""
        rows = self._permit_rows.get(slot)
        if rows is None:
            permits, tickets = (
                view_column(self.words, first, 1, MAX_SEMAPHORES) for first in self.permits_starts(slot)
            )
            rows = self._permit_rows[slot] = permits, tickets
        return rows

    def permits_starts(self, slot: int) -> tuple[int, int]:
        """The first words of a process's permits and tickets."""
        first = self.leases_start(self.limits.max_processes) + slot * PERMIT_WORDS
        return first, first + MAX_SEMAPHORES

    def wish_row(self, slot: int) -> Column:
        """Which rates one process uses, and what its waiters wish for; only while it ``coordinates``."""
        row = self._wish_rows.get(slot)
        if row is None:
            first = self.permits_starts(slot)[1] + MAX_SEMAPHORES
            row = self._wish_rows[slot] = view_column(self.words, first, 1, MAX_SEMAPHORES)
        return row

    def reserve_permit_rows(self, slot: int) -> None:
        """Back a process's rows of permits, tickets and wishes with memory."""
        self._allocate(self.permits_starts(slot)[0] * WORD_NBYTES, PERMIT_WORDS * WORD_NBYTES)

    def reading_row(self, slot: int) -> Column:
        """All words of all meters of one process, while it is ``metered``; behind the last slot lie the two base rows."""
        row = self._reading_rows.get(slot)
        if row is None:
            row = self._reading_rows[slot] = view_column(self.words, self._readings_start(slot), 1, READING_WORDS)
        return row

    def _readings_start(self, slot: int) -> int:
        return self.permits_starts(self.limits.max_processes)[0] + slot * READING_WORDS

    def reserve_reading_rows(self, slot: int) -> None:
        """Back a process's readings and the two base rows with memory."""
        for first, count in ((slot, 1), (self.limits.max_processes, 2)):
            self._allocate(self._readings_start(first) * WORD_NBYTES, count * READING_WORDS * WORD_NBYTES)

    def counter_row(self, slot: int) -> Column:
        """What one process has counted, while its slot is in use; -1: those without one, -3 and -2: the base rows."""
        first = self.counters.start + (slot + COUNTER_ROWS_BEFORE) * schema.Counters.row_words
        return view_column(self.words, first, 1, schema.Counters.row_words)

    @property
    def lock(self) -> LockKind:
        """The kind of the host-wide lock, for life."""
        return LOCKS[self.header.lock[0] % len(LOCKS)]

    @property
    def lock_word_at(self) -> int:
        """Which word of the manifest is the lock, where it is one."""
        return self.header.start + schema.Header.offsets["lock_word"]

    def wake_address(self, slot: int) -> int:
        """Where the process's futex lies: the low half of its wake word."""
        return self.address + self.wakes.span(slot, 1)[0]

    def spiller_address(self) -> int:
        """Where the futex lies that is awaited while somebody spills: the low half of the header's word."""
        return self.address + (self.header.start + schema.Header.offsets["spiller"]) * WORD_NBYTES

    def reserve(self, table: Table, rows: int) -> None:
        """Back the rows below ``rows`` with memory; ``PlaneFull`` when the file system has none."""
        offset, nbytes = table.span(0, rows)
        self._allocate(offset, nbytes)

    def reserve_lease_row(self, slot: int, words: int) -> None:
        """Back the first ``words`` words of a process's row with memory."""
        if words:
            self._allocate(self.leases_start(slot) * WORD_NBYTES, words * WORD_NBYTES)

    def describe_holder(self) -> str:
        """Which other process has the lock, for a message. The word is that of the last one who said so."""
        slot = self.header.holder[0] - 1
        if not 0 <= slot < self.limits.max_processes or self.processes.pid[slot] == os.getpid():
            return "another process"
        return f"process {self.processes.pid[slot]}"

    def is_destroyed(self) -> bool:
        """Whether the plane has ended; once true, it stays so. Needs no lock."""
        return bool(self.header.destroyed[0])

    def refuse(self, error: Refusal) -> Refusal:
        """Register an error of the transaction that is under way, which has stored nothing of what it refuses; raise it."""
        if isinstance(error, PlaneFull):
            error.name_plane(self.plane)
        self._refused = weakref.ref(error)
        return error

    def was_refused(self, error: BaseException) -> bool:
        """Whether this very object was registered last; asked once."""
        refused, self._refused = self._refused, None
        return refused is not None and refused() is error

    def make_private(self) -> None:
        """In a forked child that has no part: what it stores on its way out of a parent's call stays its own."""
        try:
            is_ours = identity_of(self.fd) == self.identity
        except own(OSError):
            is_ours = False
        if is_ours:
            self._mapping.lay(self.fd, self._mapping.nbytes, private=True)
        else:
            self._mapping.lay_nothing()

    def close(self) -> None:
        """Close the descriptor; the mapping lasts as long as this object."""
        close_own(self.fd, self.identity)
        self.fd = -1

    def _allocate(self, offset: int, nbytes: int) -> None:
        if identity_of(self.fd) != self.identity:
            raise ClosedError(
                "somebody closed the library's descriptors (os.closerange, daemonizing); open the plane again"
            )
        try:
            allocate(self.fd, nbytes, offset=offset)
        except own(OSError) as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
                raise self.refuse(
                    PlaneFull(
                        f"the plane's tables need {nbytes:,} B more and the file system has no room ({error.strerror}). "
                        f"Free memory or use a larger root=.",
                        needed=nbytes,
                        errno=error.errno,
                    )
                ) from error
            raise PlaneCorrupt(f"reserving {nbytes:,} B of the plane's tables: {error}", errno=error.errno) from error


def _bounded(table: Table, high: int, reserved: int) -> int:
    """What a header counts of a table, if it can be."""
    if high <= reserved <= table.rows:
        return high
    raise PlaneCorrupt(
        f"the header counts {high:,} rows of {type(table).__name__} in use and {reserved:,} with memory behind them; there "
        f"are {table.rows:,}. Somebody wrote over it: save what can still be read and remove the plane.",
        table=type(table).__name__,
        found=high,
    )
