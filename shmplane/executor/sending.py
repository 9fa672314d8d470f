"""One executor's side of the plane: what it sends to its workers, and what they send back.

Blocks of arguments are leased by this process for as long as their task is under way: whatever ends either process, nothing
keeps them. A block of a result is kept for this process (see ``plane.blocks.kept``) until it is read. What is kept and will
not be read, since its worker died before it said so, is found by its token once all workers have ended.

The ``Plane`` object is this executor's own: it closes when both the executor and its last task are gone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pickle import dumps
from typing import Any

from ..codecs import open_body
from ..errors import ShmplaneError
from ..plane import ANYWHERE, Plane, drop_kept, image_of, lease_kept, presence_of, put, take_kept
from ..system import ignoring, logger_of, own
from .message import Message, Origin, Place, Slice, Span, in_pipe, lay_out, token_in
from .packing import LeftOut, Packed, pack
from .plain import LEAST_THRESHOLD, is_plain_call
from .reading import lease_of, read
from .sent import Sent
from .slices import place_of, shown_slice, slice_of
from .statistics import Counts
from .worker import read_call, read_pickle, receivers

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
        self.has_plain: bool = not pickler and threshold >= LEAST_THRESHOLD
        receivers[self.token] = self

    def share_with(self, other: Sender) -> None:
        """Count as the other does, and send no array again that the other has sent. Before anything is sent."""
        self.counts, self._sent, self._mutex = other.counts, other._sent, other._mutex
        receivers.pop(other.token, None)  # no worker sends with it

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
        kept: list[Any] = []
        elsewhere: list[Slice | None] = []
        for left in packed.buffers:
            lease, found = self._shared(left, batch) or (None, None)
            elsewhere.append(found)
            kept.append(lease)
        encoded, stream, sources = lay_out(packed, elsewhere, self.token, self.threshold)
        place = None
        if encoded is not None:
            lease = put(attachment, encoded, ANYWHERE)
            kept.append(lease)
            place = place_of(lease.facts)
            self.counts.add(sent_blocks=1, sent_nbytes=encoded.nbytes)
            for left, source in zip(packed.buffers, sources, strict=True):
                if isinstance(source, Span):
                    self._sent.remember(left, batch, lease, source.start)
        return Message(stream, place, sources), kept

    def _shared(self, left: LeftOut, batch: object) -> tuple[Any, Slice] | None:
        """The lease and slice of a block that has these bytes already."""
        found = shown_slice(left) if left.is_read_only else None
        if found is None:
            known = self._sent.find(left, batch)
            if known is None:
                return None
            lease, offset = known
            found = lease, slice_of(lease, lease.facts, offset, left.raw.nbytes)
        self.counts.add(shared=1)
        return found

    def _pipe(self, packed: Packed, error: BaseException) -> Message:
        message = in_pipe(packed, [None] * len(packed.buffers))
        self.note_piped(message.piped, str(error))  # a record that somebody keeps would keep the traceback
        return message

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
            return read_pickle(message)
        if message.place is not None:
            self.counts.add(received_blocks=1)
        shared = sum(isinstance(source, Slice) for source in message.sources)
        if shared:
            self.counts.add(shared=shared)
        if message.piped:
            self.note_piped(message.piped, "a worker found no room")
        return read(message, self)

    def take(self, place: Place) -> Any:
        lease = take_kept(self.plane._open(), *place)
        self.counts.add(received_nbytes=lease.facts.body_nbytes)
        return lease

    open_image = staticmethod(image_of)

    def take_slice(self, source: Slice) -> Any:
        attachment = self.plane._open()
        # What is not kept for us this process leases: it sent it with the task whose result this is.
        return take_kept(attachment, *source.place) if source.is_kept else lease_of(source, attachment)

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
        lease.open()
        return token_in(lease.frame(), open_body(lease))
    except own(ShmplaneError):
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
        sender, call = self._sender, self._call
        if sender.has_plain and is_plain_call(call):
            pickled = dumps(call, 5)
            if len(pickled) < LEAST_THRESHOLD:  # lists of lists of text may be more
                return read_call, (pickled,)
        message, self._kept = sender.send(call, self._batch)
        return read_call, (message if type(message) is bytes else tuple(message),)
