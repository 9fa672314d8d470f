"""A worker's side of the plane: it maps the blocks of its calls, and puts its results.

What a task returns as it was given needs no copy: the pages of its private image tell whether anybody wrote to it, and the
block below is leased by the process that asked until it has read the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ShmplaneError
from ..plane import attachment_of_handle, is_present, keep_for, lease_at, put_kept
from ..system import PAGE_NBYTES, own
from .images import Images
from .message import Message, Origin, Place, Slice, in_pipe, lay_out
from .reading import lease_of, read
from .slices import place_of, shown_slice, slice_of

if TYPE_CHECKING:
    from ..plane import Lease, PrivateBody
    from .packing import LeftOut, Packed

__all__ = ["Carrier"]


class _Returned(NamedTuple):
    """A buffer of a result that lies in what the call was given."""

    number: int  #: among all buffers
    start: int  #: B into the body
    nbytes: int


class Carrier:
    """A worker in the plane of its executor. One call at a time."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._attachment, self._opened = attachment_of_handle(origin.root, origin.plane, origin.instance, None)
        self._images: list[PrivateBody] = []  #: of the call that is under way
        self._idle = Images()

    def read(self, message: Message) -> Any:
        """Function, arguments and keywords, or a ``Failure``."""
        self._images = []
        return read(message, self)

    def take(self, place: Place) -> Lease:
        return lease_at(self._attachment, *place)

    def take_slice(self, source: Slice) -> Lease:
        return lease_of(source, self._attachment)

    def open_image(self, lease: Lease) -> PrivateBody:
        self._images.append(self._idle.open(lease))
        return self._images[-1]

    def send(self, packed: Packed) -> Message:
        """A result in a block that is kept for the process that asked; its bytes, where that cannot be had."""
        # What was kept is told of in any case: the reader takes it, or it would stay.
        elsewhere: list[Slice | None] = [None] * len(packed.buffers)
        try:
            if not is_present(self._attachment, self._origin.presence):
                raise ShmplaneError("the process that asked has left the plane")
            self._find_returned(packed.buffers, elsewhere)
            for number, left in enumerate(packed.buffers):
                if elsewhere[number] is None and left.is_read_only:
                    elsewhere[number] = self._keep_shown(left)
            return self._put(packed, elsewhere)
        except own(ShmplaneError, OSError):
            return in_pipe(packed, elsewhere)

    def forget_call(self) -> None:
        """The result is on its way: what was given is needed no more."""
        images, self._images = self._images, []
        self._idle.keep(images)

    def _put(self, packed: Packed, elsewhere: list[Slice | None]) -> Message:
        origin, place = self._origin, None
        encoded, stream, sources = lay_out(packed, elsewhere, origin.token, origin.threshold)
        if encoded is not None:
            lease = put_kept(self._attachment, encoded, origin.presence.slot)
            place = place_of(lease.facts)
        return Message(stream, place, sources)

    def _keep_shown(self, left: LeftOut) -> Slice | None:
        """The slice of a block of that plane which a view shows, kept for the reader; None: it has to be copied."""
        shown = shown_slice(left)
        if shown is None:
            return None
        lease, found = shown
        is_whole = lease.facts.row == found.place.row
        if not is_whole or lease.attachment is not self._attachment:
            return None
        return found._replace(is_kept=True) if keep_for(lease.attachment, lease, self._origin.presence.slot) else None

    def _find_returned(self, buffers: list[LeftOut], elsewhere: list[Slice | None]) -> None:
        """Where buffers are that the call was given, and nobody has written since."""
        for image in self._images:
            inside = _unwritten(image, _inside(image, buffers))
            # Half of a block at least: a small piece would keep the whole of it in memory.
            if 2 * sum(one.nbytes for one in inside) < len(image.view):
                continue
            for number, start, nbytes in inside:
                elsewhere[number] = slice_of(image.lease, image.lease.facts, start, nbytes)


def _inside(image: PrivateBody, buffers: list[LeftOut]) -> list[_Returned]:
    """The buffers that lie in an image."""
    if image.mapping is None:
        return []
    begin, length = image.mapping.address, len(image.view)
    starts = [(number, left.address - begin, left.raw.nbytes) for number, left in enumerate(buffers)]
    return [_Returned(*one) for one in starts if 0 <= one[1] <= length - one[2]]


def _unwritten(image: PrivateBody, inside: list[_Returned]) -> list[_Returned]:
    """Those of which no page was written."""
    written = image.written() if inside else None
    if written is None:
        return []
    first, last = written[:, 0], written[:, 0] + written[:, 1]
    return [
        one
        for one in inside
        if not ((first * PAGE_NBYTES < one.start + one.nbytes) & (last * PAGE_NBYTES > one.start)).any()
    ]
