"""Which version of which block an array shows: by that it is told from all others, without being read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...codecs import memory_behind
from ...manifest import KINDS
from .claims import Lease

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["origin_of"]


def origin_of(array: npt.NDArray[Any]) -> tuple[int, int, int, int] | None:
    """The plane's instance, row and generation of the block, and where in it the array begins.

    None when it shows no block, or one that everybody sees change.
    """
    memory = memory_behind(array)
    lease = None if memory is None else memory.lease
    if not isinstance(lease, Lease) or KINDS[lease.facts.kind] == "mutable":
        return None
    start: int = array.__array_interface__["data"][0]
    return lease.attachment.instance, lease.facts.row, lease.facts.generation, start - lease.address
