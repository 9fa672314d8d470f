"""Leases and creations: the Python objects that stand for a process's rows.

Whatever is in shared memory on behalf of this process has a Python object: a ``Lease`` for a block that is read, a
``Creation`` for one that is being made. Both are held weakly by ``Claims``; when one is garbage, its weak
reference's callback queues the row to be given back. What stands in shared memory without an object, because an
exception came between two stores, is found by the audit.

Callbacks and not ``__del__``: a dying object with ``__del__`` can be found again through a weak reference by another
thread, and its lease would end under that thread's hands. A weak reference is dead before its callback runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from os import getpid
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import ref
from zlib import crc32

from ...codecs import CODECS, Part, flatten, open_body
from ...errors import ClosedError, PlaneCorrupt, ShmplaneError
from ...manifest import CREATING, MAKING, BlockFacts, Place, Transaction, held_rows, rows_of_owner
from ...system import Mapping, Window, ignoring
from ..memory.sinks import MappedSink
from ..process.registry import Registry

if TYPE_CHECKING:
    from ..memory.extents import Extents
    from ..process.attachment import Attachment

__all__ = ["Claims", "Creation", "Lease", "Tracked", "abandon_creation", "claims_of", "lease_current", "read_frame"]

_MOST_LATEST = 64


class Lease:
    """This process's claim on one block; all views of the block share it and keep it alive.

    It is what codecs call a ``Memory``: ``address`` and ``nbytes`` of the body, readable while the lease lives.
    """

    __slots__ = (
        "__weakref__",
        "_is_paged",
        "_kept",
        "_parts",
        "_root",
        "address",
        "attachment",
        "facts",
        "known_frame",
        "mapping",
        "nbytes",
    )

    #: makes a ``Block`` of a lease: set by that module, which is above this one
    make_handle: ClassVar[Callable[[Lease], Any]]

    def __init__(self, attachment: Attachment, facts: BlockFacts) -> None:
        self.attachment: Attachment = attachment
        self.facts: BlockFacts = facts
        self.mapping: Mapping | None = None
        self.address: int = 0
        #: an array whose pages lie in several blocks
        refers = facts.references != ()
        self._is_paged: bool = refers and facts.codec != "table"
        #: what can be read from ``address`` on; of a composed table nothing
        self.nbytes: int = 0 if refers and not self._is_paged else facts.body_nbytes
        self.known_frame: bytes | None = None  #: once it was read, or said by who wrote it
        #: every mapping that an address was ever taken from: threads may open the same lease at the same time
        self._kept: list[Mapping] = []
        self._parts: list[tuple[bytes, Mapping, BlockFacts]] | None = None
        self._root: Callable[[], Any] | None = None

    @property
    def lease(self) -> Lease:
        return self

    def open(self) -> None:
        """Map the block's body, once; of a composed table there is none, its parts have it."""
        if self.mapping is None:
            memory, facts = self.attachment.memory, self.facts
            self._use(self.attachment.compositions.get(facts) if self._is_paged else memory.readable(facts))

    def open_all(self) -> None:
        """Map and read whatever any view of the block will need; the plane is about to go."""
        self.open()
        self.frame()
        self.parts()

    def _use(self, mapping: Mapping) -> None:
        self._kept.append(mapping)
        self.address = mapping.address if self._is_paged else mapping.address + self.facts.offset
        self.mapping = mapping

    def copy(self, nbytes: int) -> bytes:
        """The first bytes of the body, copied out."""
        mapping = self._kept[-1]
        start = 0 if self._is_paged else self.facts.offset
        return bytes(mapping.view[start : start + nbytes])

    def window(self, nbytes: int) -> Window | None:
        """The first bytes of the body on pages of their own; None: for want of descriptors, or the plane is gone."""
        if self.facts.references:
            return None
        with ignoring(OSError, ShmplaneError):
            return self.attachment.memory.window(self.facts, nbytes, lease=self)
        return None

    def frame(self) -> bytes:
        """The frame, copied out and checked against its checksum."""
        if self.known_frame is None:
            # A mapping that was put together has the body alone.
            mapping = None if self._is_paged else self.mapping
            memory, facts = self.attachment.memory, self.facts
            self.known_frame = read_frame(facts, memory.readable(facts) if mapping is None else mapping)
        return self.known_frame

    def parts(self) -> list[Part]:
        """The plain tables that a composed one shows columns of."""
        parts = self._parts
        if parts is None:
            memory, references = self.attachment.memory, () if self._is_paged else self.facts.references
            mappings = [memory.readable(facts) for facts in references]
            parts = [(read_frame(facts, its), its, facts) for facts, its in zip(references, mappings, strict=True)]
            self._kept.extend([mapping for _, mapping, _ in parts])
            self._parts = parts
        # Made anew each time: kept here, they and this lease would keep each other alive.
        return [Part(frame, PartMemory(self, mapping, facts)) for frame, mapping, facts in parts]

    def flat(self) -> tuple[bytes, memoryview]:
        """Frame and body as those of a block that refers to no other: a composed table's are a private copy."""
        self.open()
        if self._is_paged or not self.facts.references:
            return self.frame(), open_body(self)
        encoded = flatten(self.frame(), self.parts())
        body = bytearray(encoded.nbytes)
        encoded.write_to(MappedSink(memoryview(body)))
        return encoded.frame, memoryview(body).toreadonly()

    def root(self) -> Any:
        """The object that all views of the block share; made once while any of them is alive."""
        known = self._root() if self._root is not None else None
        if known is None:
            self.open()
            parts = self.parts() if self.facts.references else ()
            known = CODECS[self.facts.codec].open(self.frame(), self, parts)
            self._root = ref(known)
        return known

    def handle(self) -> Any:
        """The block as a handle, which pickles: for views that travel as one."""
        return Lease.make_handle(self)

    def revive(self, frame: bytes, mapping: Mapping | None) -> Any:
        """The root, with what an earlier lease of the same block has found out already."""
        self.known_frame, facts = frame, self.facts
        if mapping is None or self.mapping is not None or facts.references:
            if self.mapping is None and mapping is not None:
                self._use(mapping)
            return self.root()
        # Most often the lease is new, and of a block that refers to no other: as above, in fewer calls.
        self._kept.append(mapping)
        self.address = mapping.address + facts.offset
        self.mapping = mapping
        root = CODECS[facts.codec].open(frame, self, ())
        self._root = ref(root)
        return root


def read_frame(facts: BlockFacts, mapping: Mapping) -> bytes:
    """The frame of a block that the caller leases, copied out and checked."""
    start = facts.frame_offset
    frame = bytes(mapping.view[start : start + facts.frame_nbytes])
    if crc32(frame) != facts.frame_crc:
        raise PlaneCorrupt(
            f"the description of block {facts.name!r} (version {facts.version}) does not fit its checksum: its memory was "
            f"written over. Delete the block.",
            name=facts.name,
        )
    return frame


class PartMemory:
    """The body of a block that a leased one refers to: readable while that lease lives."""

    __slots__ = ("_facts", "_mapping", "address", "lease", "nbytes")

    def __init__(self, lease: Lease, mapping: Mapping, facts: BlockFacts) -> None:
        self.lease: Lease = lease  #: it keeps the mapping
        self._mapping, self._facts = mapping, facts
        self.address: int = mapping.address + facts.offset
        self.nbytes: int = facts.body_nbytes

    def copy(self, nbytes: int) -> bytes:
        """The first bytes, copied out."""
        return bytes(self._mapping.view[self._facts.offset : self._facts.offset + nbytes])

    def window(self, nbytes: int) -> Window | None:
        """The first bytes on pages of their own; None: they cannot be had."""
        with ignoring(OSError, ShmplaneError):
            return self.lease.attachment.memory.window(self._facts, nbytes, lease=self.lease)
        return None


class Creation:
    """A block, slab or copy that is being made: a CREATING row, or a segment that is MAKING."""

    __slots__ = ("__weakref__", "place", "row")

    def __init__(self, row: int, place: Place) -> None:
        self.row: int = row  #: -1 for a slab or copy
        self.place: Place = place

    @property
    def key(self) -> int:
        return self.row if self.row >= 0 else ~self.place.segment_row


class Tracked(ref[Any]):
    """A weak reference that still knows what it stood for; made by ``Claims.track``, without any code of Python's here."""

    __slots__ = ("_ringing", "claims", "is_lease", "key", "segment_row")
    claims: Claims
    key: int  #: row of a lease, or that of a creation
    segment_row: int
    is_lease: bool
    _ringing: ref[Any]

    def free(self, tx: Transaction) -> None:
        """Give back the row of what is garbage. Again: does nothing."""
        claims = self.claims
        if self.is_lease:
            # A newer lease of the same row may have been taken since: then the row stays.
            if claims.leases.get(self.key) is self:
                tx.release(self.key)
                del claims.leases[self.key]
        elif claims.creations.get(self.key) is self:
            claims.abandon_row(tx, self.key, self.segment_row)


class Latest(NamedTuple):
    """What a process knows of the version of a name that it published last, for its next edit of it."""

    name: bytes
    facts: BlockFacts
    frame: bytes

    def is_of(self, tx: Transaction, row: int) -> bool:
        """Whether that version is what a block row has, under the same name."""
        facts, blocks = self.facts, tx.blocks
        return (
            facts.row == row
            and facts.generation == blocks.generation[row]
            and facts.version == blocks.version[row]
            and facts.name_row == blocks.name[row]
            and facts.moves == tx.header.moves[0]
        )


class Claims(Registry):
    """The leases and creations of this process, by row.

    Attributes:
        queue, ring: what is called with what is garbage: both C code (see ``process.drain``).
    """

    def __init__(self, attachment: Attachment) -> None:
        self.queue: Callable[[Any], None] = attachment.garbage.append
        self.ring: Callable[[Any], None] = attachment.timer.ring
        self.leases: dict[int, Tracked] = attachment.leased
        self.creations: dict[int, Tracked] = attachment.creating
        self.latest: OrderedDict[str, Latest] = OrderedDict()

    def track(self, thing: Any, key: int, segment_row: int = -1) -> Tracked:
        """What stands for a lease, or with a ``segment_row`` for a creation. The caller keeps the thing until this returns."""
        tracked = Tracked(thing, self.queue)
        tracked.claims, tracked.key, tracked.segment_row = self, key, segment_row
        tracked.is_lease = segment_row < 0
        tracked._ringing = ref(thing, self.ring)
        return tracked

    def remember(self, lease: Lease, extents: Extents, frame: bytes) -> None:
        """What the next edit of a version, which this process has just published, would have to find out."""
        facts, lease.known_frame = lease.facts, frame
        lease.attachment.compositions.remember(facts, extents)
        if facts.name is not None:
            self.latest[facts.name] = Latest(facts.name.encode(), facts, frame)
            if len(self.latest) > _MOST_LATEST:
                with ignoring(KeyError):  # another thread was faster
                    self.latest.popitem(last=False)

    def lease(self, tx: Transaction, attachment: Attachment, row: int, facts: BlockFacts | None = None) -> Lease:
        """The lease of a live block, taken or shared. ``facts``: what is known of it already."""
        known = self.leases.get(row)
        lease: Lease | None = known() if known is not None else None
        if lease is None:
            if facts is None:
                facts = tx.facts(row)
            # The word is set before the object exists; an exception in between leaves it to the audit.
            tx.lease(row)
            lease = self.new_lease(attachment, facts)
        elif lease.facts.version != tx.blocks.version[row] or lease.facts.name_row != tx.blocks.name[row]:
            lease.facts = tx.facts(row)  # renamed since it was leased
        return lease

    def new_lease(self, attachment: Attachment, facts: BlockFacts) -> Lease:
        """The object for a word that is set already; under the lock."""
        lease = Lease(attachment, facts)
        self.leases[facts.row] = self.track(lease, facts.row)
        return lease

    def revive(
        self, attachment: Attachment, known: Tracked, facts: BlockFacts, *, name_row: int, word: int
    ) -> Lease | None:
        """The lease of a block that we held a moment ago: while its word still stands, no lock of the host is needed.

        None when the word was given back, the name moved on, or we are inside a transaction.
        """
        lock = attachment.lock
        if lock.owned() or getpid() != lock.pid:
            return None
        with lock.mutex:
            if self.leases.get(facts.row) is not known or attachment.manifest.names.word[name_row] != word:
                return None
            lease: Lease | None = known()
            return lease if lease is not None else self.new_lease(attachment, facts)

    def new_creation(self, row: int, place: Place) -> Creation:
        """The object for a row that is CREATING, or a slab that is MAKING; under the lock."""
        creation = Creation(row, place)
        self.creations[creation.key] = self.track(creation, creation.key, place.segment_row)
        return creation

    def finish(self, tx: Transaction, creation: Creation) -> None:
        """What was made is published, or about to be; ``ClosedError`` in a child forked in the middle: it is the parent's."""
        self.check_own(tx, creation)
        del self.creations[creation.key]

    def check_own(self, tx: Transaction, creation: Creation) -> None:
        """``ClosedError`` in a child that was forked in the middle: it is the parent's to publish."""
        known = self.creations.get(creation.key)
        if known is None or known() is not creation:
            raise tx.manifest.refuse(
                ClosedError("the block belongs to the process that this one was forked from; put it here again")
            )

    def abandon(self, tx: Transaction, creation: Creation) -> None:
        """What was to become a block will not. When it has become one, its row may be another's already, which stays."""
        known = self.creations.get(creation.key)
        if known is not None and known() is creation:
            self.abandon_row(tx, creation.key, creation.place.segment_row)

    def abandon_row(self, tx: Transaction, key: int, segment_row: int) -> None:
        """The same, told by what stands for it."""
        del self.creations[key]
        if key >= 0:
            tx.abandon(key)
        else:
            tx.space.abandon_segment(segment_row)

    # As a registry

    @property
    def is_idle(self) -> bool:
        return not self.creations

    @property
    def has_views(self) -> bool:
        return bool(self.leases)

    def open_views(self) -> None:
        for known in list(self.leases.values()):
            lease = known()
            if lease is not None:
                with ignoring(ShmplaneError):
                    lease.open_all()

    def audit(self, tx: Transaction) -> None:
        for row in held_rows(tx, tx.slot):
            if row not in self.leases:
                tx.release(row)
        for row in rows_of_owner(tx.blocks.owner, tx.manifest.blocks_high, tx.slot):
            if tx.blocks.state[row] == CREATING and row not in self.creations:
                tx.abandon(row)
        segments, being_made = tx.segments, {known.segment_row for known in self.creations.values()}
        for row in rows_of_owner(segments.owner, tx.manifest.segments_high, tx.slot):
            if segments.state[row] == MAKING and row not in being_made:
                tx.space.abandon_segment(row)

    def queue_garbage(self) -> None:
        for known in [*self.leases.values(), *self.creations.values()]:
            if known() is None:
                self.queue(known)

    def begin_again_in_child(self) -> None:
        self.creations.clear()


def claims_of(attachment: Attachment) -> Claims:
    """This process's leases and creations."""
    found = attachment.registries.get(Claims)
    return attachment.registry(Claims) if found is None else found  # type: ignore[return-value]


def lease_current(
    tx: Transaction, attachment: Attachment, name: bytes, latest: Latest | None = None
) -> tuple[Lease, Tracked, int, int] | None:
    """Lease what the name points to: the lease, its reference, the name's row and word.

    The word of a name that goes at a time is told as -1: that it stands says nothing.
    """
    name_row, row = tx.current(name)
    if row < 0:
        tx.counting.missed()
        return None
    word, claims = -1 if tx.blocks.until[row] else tx.names.word[name_row], claims_of(attachment)
    is_known = latest is not None and latest.is_of(tx, row)
    lease = claims.lease(tx, attachment, row, latest.facts if is_known and latest is not None else None)
    return lease, claims.leases[row], name_row, word


def abandon_creation(attachment: Attachment, creation: Creation) -> None:
    """What was to become a block will not: from now on, or when the lock is not to be had, once ``creation`` is garbage.

    Raises nothing of ours: most often the exception of somebody else is on its way.
    """
    with ignoring(ShmplaneError):
        attachment.change(claims_of(attachment).abandon, creation)
