"""Mutable arrays: one piece of memory that all processes read and write at once, with a name, leases and accounting.

No versions and no snapshots: whoever shares one guards it with a lock of the plane, or stores single words. A ``put`` under
its name replaces the name's block like any other; arrays taken before stay with the old memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...codecs import describe, encode
from ...errors import Conflict, PlaneMismatch
from ...manifest import KIND_CODES, KINDS
from ...names import check_block_name
from ...system import Mapping, ignoring, reserve
from ..memory.sinks import FileSink
from .backed import begin_backed
from .claims import abandon_creation, claims_of
from .missing import no_such_block
from .publish import Prepared, contents_of, publish, retry_after_reclaim
from .shapes import model_of
from .target import Target

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...codecs import Description
    from ...manifest import Contents, Transaction
    from ...system import Pages
    from ..process.attachment import Attachment
    from .claims import Lease

__all__ = ["open_mutable"]

_ZEROS = bytes(256 * 1024)


def open_mutable(attachment: Attachment, name: str, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """The writable array of that name."""
    encoded = check_block_name(name)
    while True:
        lease = attachment.look(_lease, attachment, encoded)
        if lease is not None:
            return _check_and_map(attachment, lease, name, shape, dtype)
        if shape is None:
            raise no_such_block(attachment, encoded, hint="give shape= and dtype= to create it")
        # Somebody else may be faster: then theirs is attached.
        with ignoring(Conflict):
            return _create(attachment, encoded, shape, dtype)


def _lease(tx: Transaction, attachment: Attachment, name: bytes) -> Lease | None:
    row = tx.current(name)[1]
    return claims_of(attachment).lease(tx, attachment, row) if row >= 0 else None


def _check_and_map(attachment: Attachment, lease: Lease, name: str, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    import numpy as np

    if KINDS[lease.facts.kind] != "mutable":
        raise PlaneMismatch(
            f"block {name!r} is of kind {KINDS[lease.facts.kind]}, not mutable; use another name", name=name
        )
    found = describe("array", lease.frame())
    wanted_shape = found.shape if shape is None else np.empty(shape, np.dtype([])).shape
    wanted_dtype = found.dtype if dtype is None else np.dtype(dtype)
    if (wanted_shape, wanted_dtype) != (found.shape, found.dtype):
        raise PlaneMismatch(
            f"mutable {name!r} has shape {found.shape} and dtype {found.dtype}, asked for {wanted_shape} and "
            f"{wanted_dtype}. Leave both out to attach it as it is.",
            name=name,
        )
    pages, array = _map(attachment, lease.facts.segment_id, lease.facts.segment_nbytes, found)
    # The array keeps the pages, and they keep the lease.
    pages.kept = lease
    return array


def _map(attachment: Attachment, segment_id: int, nbytes: int, said: Description) -> tuple[Pages, npt.NDArray[Any]]:
    import numpy as np

    pages = reserve(nbytes, writable=True)
    mapping = Mapping(nbytes, writable=True, pages=pages)
    attachment.memory.lay_segment(mapping, segment_id)
    array: npt.NDArray[Any] = np.ndarray(said.shape or (), said.dtype, buffer=mapping.view)
    return pages, array


def _create(attachment: Attachment, name: bytes, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """Make it, zero-filled; it is mapped before it is published, so that a failure leaves nothing."""
    encoded = encode(model_of(shape, "f8" if dtype is None else dtype))
    contents = contents_of(encoded)._replace(kind=KIND_CODES["mutable"])
    target = Target(name, expected_version=0)
    creation = retry_after_reclaim(attachment, begin_backed, attachment, target, contents.nbytes, True)
    place = creation.place
    try:
        _fill(attachment, place.segment_id, contents, fresh=place.fresh)
        pages, array = _map(attachment, place.segment_id, place.nbytes, describe("array", contents.frame))
        pages.kept = publish(attachment, target, Prepared(contents, None, creation))
    except BaseException:
        abandon_creation(attachment, creation)
        raise
    return array


def _fill(attachment: Attachment, segment_id: int, contents: Contents, *, fresh: bool) -> None:
    fd = attachment.memory.open_writable(segment_id)
    sink = FileSink(fd, attachment.name)
    try:
        if not fresh:
            for start in range(0, contents.body_nbytes, len(_ZEROS)):
                sink.write(start, memoryview(_ZEROS)[: contents.body_nbytes - start])
        sink.write(contents.body_nbytes, contents.tail())
    finally:
        os.close(fd)
