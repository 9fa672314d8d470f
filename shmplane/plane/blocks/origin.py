"""Which version of which block an array, or any piece of memory, shows: so it is told from others without being read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...codecs import memory_behind
from ...manifest import KINDS, BlockFacts
from ..process.close import attached
from .claims import Claims, Lease

if TYPE_CHECKING:
    import numpy.typing as npt


__all__ = ["Shown", "origin_of", "shown_at"]


class Shown(NamedTuple):
    """A piece of a block that this process leases."""

    lease: Lease  #: that keeps it: on the block itself, or on one that shows it as a part
    facts: BlockFacts
    offset: int  #: B into the body


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


def shown_at(address: int, nbytes: int) -> Shown | None:
    """What block shows the memory from ``address`` on, which the caller keeps alive; None: none, or one that changes.

    Cost: a comparison, a tenth of a microsecond, for each block that this process leases.
    """
    for attachment in list(attached.values()):
        claims = attachment.registries.get(Claims)
        for lease in _leases_around(claims, address) if isinstance(claims, Claims) else []:
            if KINDS[lease.facts.kind] == "mutable":
                continue
            for start, facts in _bodies(lease):
                if start <= address and address + nbytes <= start + facts.body_nbytes:
                    return Shown(lease, facts, address - start)
    return None


def _leases_around(claims: Claims, address: int) -> list[Lease]:
    """Those in whose body it may be: of thousands one, but for composed tables."""
    return [
        lease
        for known in list(claims.leases.values())
        # One that is not mapped is at 0.
        if (lease := known()) is not None and (0 <= address - lease.address < lease.nbytes or lease._parts)
    ]


def _bodies(lease: Lease) -> Iterator[tuple[int, BlockFacts]]:
    """Where this process sees a body, as far as anybody has looked; of a composed table those of its parts."""
    if lease.mapping is not None and lease.nbytes:
        yield lease.address, lease.facts
    for _, mapping, facts in lease._parts or ():
        yield mapping.address + facts.offset, facts
