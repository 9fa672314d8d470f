"""What was sent a moment ago and need not be copied again: the same array as an argument of many tasks.

A buffer is known by its address and its size. While a task that was sent it is under way, its block is there, and the next task
refers to it, when the bytes are still the same. That is assumed, of what the same object owns, within one ``map`` during which
nobody's code runs; else the bytes are compared, which costs less than a copy and half of the memory. That an array is read-only
says nothing: its owner can switch that, and did write it before.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..codecs import open_body

if TYPE_CHECKING:
    from ..plane import Lease
    from .packing import LeftOut

__all__ = ["Sent"]

_FEW_KNOWN = 1_024
_COMPARED_NBYTES = 1 << 20


class _Known(NamedTuple):
    owner: Callable[[], Any]
    lease: Callable[[], Lease | None]
    offset: int
    batch: object  #: the ``map`` that it was sent by


class Sent:
    """The buffers of one executor that were sent lately. For one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Known] = {}
        self._most = _FEW_KNOWN  #: so many are known before those are dropped whose block is gone

    def find(self, left: LeftOut, batch: object) -> tuple[Lease, int] | None:
        """The lease of the block that has these bytes, and where in its body; None: they have to be copied."""
        raw, address, origin = left
        known = self._known.get((address, raw.nbytes))
        lease = None if known is None else known.lease()
        if known is None or lease is None:
            return None
        owner = _owner_of(raw, origin)
        is_same = owner is not None and known.owner() is owner
        is_assumed = is_same and batch is not None and known.batch is batch
        return (lease, known.offset) if is_assumed or _is_equal(raw, lease, known.offset) else None

    def remember(self, left: LeftOut, batch: object, lease: Lease, offset: int) -> None:
        """These bytes have just been put into a block."""
        if len(self._known) >= self._most:
            self._known = {key: known for key, known in self._known.items() if known.lease() is not None}
            # Not before as many have come again: else each of them would look at all that are under way.
            self._most = max(_FEW_KNOWN, 2 * len(self._known))
        try:
            owner: Callable[[], Any] = weakref.ref(_owner_of(left.raw, left.origin))
        except TypeError:  # it is compared each time
            owner = _nobody
        self._known[left.address, left.raw.nbytes] = _Known(owner, weakref.ref(lease), offset, batch)


def _nobody() -> None:
    return None


def _owner_of(raw: memoryview, origin: Any) -> Any:
    """The object whose memory it is: the array that all others are views of."""
    owner: Any = raw.obj if origin is None else origin
    while type(owner).__module__ == "numpy" and getattr(owner, "base", None) is not None:
        owner = owner.base
    return owner


def _is_equal(raw: memoryview, lease: Lease, offset: int) -> bool:
    """Whether the block has these bytes there; compared in pieces, up to the first that differs."""
    import numpy as np

    lease.open()
    ours, sent = np.frombuffer(raw, np.uint8), open_body(lease)
    theirs = np.frombuffer(sent, np.uint8)[offset : offset + len(ours)]
    return all(
        bytes_equal(ours[start : start + _COMPARED_NBYTES], theirs[start : start + _COMPARED_NBYTES])
        for start in range(0, len(ours), _COMPARED_NBYTES)
    )


def bytes_equal(one: Any, other: Any) -> bool:
    """Whether two arrays of bytes are the same; in words, which is eight times as fast."""
    import numpy as np

    if len(one) % 8 == 0 and not (one.__array_interface__["data"][0] | other.__array_interface__["data"][0]) % 8:
        one, other = one.view(np.uint64), other.view(np.uint64)
    return bool((one == other).all())
