"""Mutable arrays: one piece of memory that all processes read and write at once, with a name, leases and accounting.

No versions and no snapshots: whoever shares one guards it with a lock of the plane, or stores single words. A ``put`` under
its name replaces the name's block like any other; arrays taken before stay with the old memory.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ..codecs import describe, encode
from ..errors import Conflict, PlaneMismatch
from ..manifest import KIND_CODES, KINDS, not_found
from ..names import check_block_name
from ..system import Mapping, reserve, write_all
from .memory import translate
from .writing import Publication, begin, contents_of, publish

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..manifest import Contents
    from .attachment import Attachment
    from .leases import Lease

__all__ = ["open_mutable"]

_ZEROS = bytes(256 * 1024)


def open_mutable(attachment: Attachment, name: str, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    """The writable array of that name."""
    encoded = check_block_name(name)
    while True:
        lease = attachment.run(_lease, attachment, encoded, writes=False)
        if lease is not None:
            return _check_and_map(attachment, lease, name, shape, dtype)
        if shape is None:
            raise not_found(encoded)
        # Somebody else may be faster: then theirs is attached.
        with contextlib.suppress(Conflict):
            _create(attachment, encoded, shape, dtype)


def _lease(attachment: Attachment, name: bytes) -> Lease | None:
    row = attachment.tx.current(name)[1]
    return attachment.lease(row) if row >= 0 else None


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
    return _map(attachment, lease, found.shape, found.dtype)


def _map(attachment: Attachment, lease: Lease, shape: Any, dtype: Any) -> npt.NDArray[Any]:
    import numpy as np

    pages = reserve(lease.facts.segment_nbytes, writable=True)
    mapping = Mapping(lease.facts.segment_nbytes, writable=True, pages=pages)
    attachment.memory.lay_segment(mapping, lease.facts.segment_id)
    # The array keeps the pages, and they keep the lease.
    pages.kept = lease  # type: ignore[attr-defined]
    return np.ndarray(shape, dtype, buffer=mapping.view)


def _create(attachment: Attachment, name: bytes, shape: Any, dtype: Any) -> None:
    import numpy as np

    encoded = encode(np.broadcast_to(np.empty((), np.dtype("f8" if dtype is None else dtype)), shape))
    contents = contents_of(encoded)._replace(kind=KIND_CODES["mutable"])
    publication = Publication(name, expected_version=0, lease=False)
    creation = begin(attachment, publication, contents.nbytes)
    try:
        if creation.place.fresh:
            attachment.memory.create_backed(creation.place)
        _fill(attachment, creation.place.segment_id, contents, fresh=creation.place.fresh)
        publish(attachment, creation, contents, publication)
    except BaseException:
        attachment.give_up(creation)
        raise


def _fill(attachment: Attachment, segment_id: int, contents: Contents, *, fresh: bool) -> None:
    fd = attachment.memory.open_writable(segment_id)
    try:
        if not fresh:
            for start in range(0, contents.body_nbytes, len(_ZEROS)):
                write_all(fd, start, memoryview(_ZEROS)[: contents.body_nbytes - start])
        write_all(fd, contents.body_nbytes, contents.tail())
    except OSError as error:
        raise translate(error, "filling a mutable array") from error
    finally:
        os.close(fd)
