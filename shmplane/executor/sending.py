"""One executor's side of the plane: what it sends to its workers, and what they send back.

Blocks of arguments are leased by this process for as long as their task is under way: whatever ends either process, nothing
keeps them. A block of a result is kept for this process (see ``plane.blocks.kept``) until it is read. What is kept and will
not be read, since its worker died before it said so, is found by its token once all workers have ended.

The ``Plane`` object is this executor's own: it closes when both the executor and its last task are gone.
"""

from __future__ import annotations

import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

from ..errors import ShmplaneError
from ..plane import ANYWHERE, Plane, drop_kept, lease_kept, presence_of, put, take_kept
from ..system import ignoring, logger_of, own
from .message import EncodedParts, Message, Place, Slice, parts_of
from .packing import pack
from .plain import LEAST_THRESHOLD, is_plain_call
from .reading import lease_of, pieces_of, read
from .receivers import receivers
from .sent import Sent
from .slices import shown_slice
from .statistics import Counts
from .worker import Origin, read_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from .packing import Packed

__all__ = ["Sender", "Task"]


class Sender:
    """What the tasks of one executor share."""

    def __init__(self, plane: Plane, *, threshold: int, pickler: str) -> None:
        self.plane = plane
        self.threshold, self.pickler = threshold, pickler
        self.token: bytes = os.urandom(8)
        self.counts = Counts()
        self._sent = Sent()
        self._mutex = threading.Lock()
        self._has_told = False
        self._has_plain = not pickler and threshold >= LEAST_THRESHOLD
        receivers[self.token] = self

    def share_with(self, other: Sender) -> None:
        """Count as the other does, and send no array again that the other has sent. Before anything is sent."""
        self.counts, self._sent, self._mutex = other.counts, other._sent, other._mutex

    @property
    def origin(self) -> Origin:
        """What a worker has to know of this process."""
        attachment = self.plane._open()
        presence = presence_of(attachment)
        where = (attachment.root, attachment.name, attachment.instance)
        return Origin(*where, presence, self.token, self.threshold, self.pickler, os.getpid())

    # To the workers

    def send(self, value: tuple[Any, ...], batch: object) -> tuple[bytes | Message, list[Any]]:
        """A call as a message, or as a pickle when that is all of it, and what has to be kept until its task is done."""
        if self._has_plain and is_plain_call(value):
            return pickle.dumps(value), []
        packed = pack(value, self.threshold, self.pickler)
        if not packed.buffers and packed.nbytes < self.threshold:
            return b"".join(packed.stream), []
        with self._mutex:
            try:
                return self._put(packed, batch)
            except own(ShmplaneError, OSError) as error:
                return self._pipe(packed, error), []

    def _put(self, packed: Packed, batch: object) -> tuple[Message, list[Any]]:
        attachment = self.plane._open()
        is_large = packed.nbytes >= self.threshold
        kept: list[Any] = []
        fresh: list[memoryview] = []
        sources: list[Any] = []
        for raw in packed.buffers:
            found = self._shared(packed, raw, batch)
            if found is None:
                sources.append(len(fresh) + (2 if is_large else 1))
                fresh.append(raw)
            else:
                kept.append(found[0])
                sources.append(found[1])
        place = None
        if fresh or is_large:
            parts = [[self.token], *([packed.stream] if is_large else []), *([raw] for raw in fresh)]
            encoded = EncodedParts(parts if len(parts) > 1 else [*parts, []])
            lease = put(attachment, encoded, ANYWHERE)
            kept.append(lease)
            place = Place(lease.facts.row, lease.facts.generation)
            self.counts.add(sent_blocks=1, sent_nbytes=encoded.nbytes)
            starts = [start for start, _ in parts_of(encoded.frame, encoded.nbytes)][2 if is_large else 1 :]
            for raw, start in zip(fresh, starts, strict=False):
                self._sent.remember(raw, packed.origin_of(raw), batch, lease, start)
        stream = None if is_large else b"".join(packed.stream)
        return Message(stream, place, tuple(sources)), kept

    def _shared(self, packed: Packed, raw: memoryview, batch: object) -> tuple[Any, Slice] | None:
        """The lease and slice of a block that has these bytes already."""
        found = shown_slice(raw) if packed.is_read_only(raw) else None
        if found is None:
            known = self._sent.find(raw, packed.origin_of(raw), batch)
            if known is None:
                return None
            lease, offset = known
            attachment, facts = lease.attachment, lease.facts
            place = Place(facts.row, facts.generation)
            where = (attachment.root, attachment.name, attachment.instance)
            found = lease, Slice(*where, place, offset, raw.nbytes, is_kept=False)
        self.counts.add(shared=1)
        return found

    def _pipe(self, packed: Packed, error: BaseException) -> Message:
        sources = tuple(bytearray(raw) for raw in packed.buffers)
        piped = packed.nbytes + sum(len(source) for source in sources)
        self.note_piped(piped, str(error))  # a record that somebody keeps would keep the traceback
        return Message(b"".join(packed.stream), None, sources)

    def note_piped(self, nbytes: int, reason: str) -> None:
        """Count what the plane could not take; the first is logged."""
        self.counts.add(piped=1, piped_nbytes=nbytes)
        if not self._has_told:
            self._has_told = True
            logger_of("shmplane.executor").warning(
                "%d B go through the pipe, since the plane cannot have them: %s. Give the executor a plane with a larger "
                "capacity=. This is said once; stats().piped counts.",
                nbytes,
                reason,
            )

    # From the workers

    def receive(self, message: bytes | Message) -> Any:
        """What a worker sent, or a ``Failure``; a block that was kept for it is taken."""
        if isinstance(message, bytes):
            return read(message, self._take)
        if message.place is not None:
            self.counts.add(received_blocks=1)
        if message.piped:
            self.note_piped(message.piped, "a worker found no room")
        return read(message, self._take, self._take_slice)

    def _take(self, place: Place) -> Any:
        lease = take_kept(self.plane._open(), *place)
        self.counts.add(received_nbytes=lease.facts.body_nbytes)
        return lease

    def _take_slice(self, source: Slice) -> Any:
        return take_kept(self.plane._open(), *source.place) if source.is_kept else lease_of(source)

    # In the end

    def drop_unread(self) -> None:
        """What its workers, all of which have ended, left for this process and nobody will read."""
        with ignoring(ShmplaneError, OSError):
            attachment = self.plane._open()
            others = [other for other in list(receivers.values()) if other is not self and other.is_in(attachment)]
            for lease in lease_kept(attachment):
                token = _token_of(lease)
                if token == self.token or (token is None and not others):
                    drop_kept(attachment, lease.facts.row, lease.facts.generation)

    def is_in(self, attachment: Any) -> bool:
        """Whether it is in that plane."""
        return self.plane._attachment is attachment


def _token_of(lease: Any) -> bytes | None:
    """Whose block it is; None: a view of a plane that was kept."""
    try:
        return bytes(pieces_of(lease)[0])
    except own(ShmplaneError, ValueError, IndexError):
        return None


class Task:
    """A call on its way: what the standard library's executor pickles when it has room for it.

    It becomes ``(fn, args, kwargs)`` in the worker, or a ``Failure``.
    """

    __slots__ = ("_batch", "_call", "_kept", "_sender")

    def __init__(self, sender: Sender, call: tuple[Any, ...], batch: object) -> None:
        self._sender, self._call, self._batch = sender, call, batch
        self._kept: list[Any] = []

    def __reduce_ex__(self, _: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        message, self._kept = self._sender.send(self._call, self._batch)
        return read_call, (message if type(message) is bytes else tuple(message),)
