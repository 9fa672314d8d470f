"""Appending to an array along axis 0: a new version that shows the pages of the old one, and then the pages of the rows.

The new version is an edit of the old one that is longer: what is written are the old body's last page, when it is not
full, and the rows behind it. They go where the pages of edits go, by the same rules: so the pages of appends are together
at most as large as the body, and when there is no more room the body is written whole, once for as many appended bytes.

Rule 1. The old version is not touched: its last page is copied, so that its readers never see a row that is not theirs.
Rule 2. Whoever finds that the name has moved on starts again from the new version; nothing was published. One of those
        who compete always lands. The others wait a random time, so that each of them does before long.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from ...codecs import encode, grow_array, open_body, present
from ...errors import Conflict
from ...system import PAGE_NBYTES, own
from ..blocks.publish import StoredBytes, contents_of, store
from ..blocks.target import Target
from ..memory.compositions import has_pages
from ..memory.extents import Extent, pages_of
from .pages import Body, publish_pages

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..blocks.claims import Lease

__all__ = ["append_to_array", "wait_for_turn"]

_LONGEST_WAIT_S = 0.02


def append_to_array(base: Lease, name: bytes, rows: Any) -> Lease | None:
    """The new version; None when the name has moved on."""
    array, frame = grow_array(base.frame(), rows, name.decode())
    if not array.shape[0]:
        return base
    target = Target(name, base=base.facts.row)
    try:
        if frame is None:
            return _rewrite(base, target, array)
        return (
            _append_pages(base, target, array, frame)
            if has_pages(base.facts)
            else _append_copy(base, target, array, frame)
        )
    except own(Conflict):
        return None


def wait_for_turn(attempts: int) -> None:
    """After so many attempts that others were faster than."""
    time.sleep(random.random() * min(0.0005 * attempts, _LONGEST_WAIT_S))  # noqa: S311 - no secret


def _append_pages(base: Lease, target: Target, rows: npt.NDArray[Any], frame: bytes) -> Lease:
    old_nbytes = base.facts.body_nbytes
    nbytes = old_nbytes + rows.nbytes
    compositions = base.attachment.compositions
    extents = compositions.extents_of(base.facts).listed()
    view = compositions.private(base.facts, nbytes=nbytes, kept=base).view
    view[old_nbytes:nbytes] = rows.reshape(-1).view("u1").data
    full, pages = old_nbytes // PAGE_NBYTES, pages_of(nbytes)
    # What the last extent shows is written in any case: it only says that there are so many pages.
    more = [Extent(0, 0, pages - pages_of(old_nbytes))] if pages > pages_of(old_nbytes) else []
    dirty = _run(full, pages - full)
    return publish_pages(target, base, [*extents, *more], view=view, dirty=dirty, body=Body(frame, nbytes))


def _run(first: int, pages: int) -> npt.NDArray[Any]:
    import numpy as np

    return np.array([[first, pages]], np.int64)


def _append_copy(base: Lease, target: Target, rows: npt.NDArray[Any], frame: bytes) -> Lease:
    """What shares a slab, and is small, is copied."""
    base.open()
    body = StoredBytes("array", frame, b"".join((open_body(base), rows.reshape(-1).view("u1").data)))
    return store(base.attachment, target, contents_of(body), body)


def _rewrite(base: Lease, target: Target, rows: npt.NDArray[Any]) -> Lease:
    """Fortran order: the rows lie all over the array."""
    import numpy as np

    old = present("array", base.root())
    whole = np.empty((old.shape[0] + rows.shape[0], *old.shape[1:]), old.dtype, order="F")
    whole[: old.shape[0]], whole[old.shape[0] :] = old, rows
    encoded = encode(whole)
    return store(base.attachment, target, contents_of(encoded), encoded)
