"""Private pages of a block's body: writable, zero-copy until they are written, and never reaching the block.

A private mapping shows later writes to pages that it has not copied. The blocks below never change while they are leased,
so the pages hold the lease of their block until the last view of them is garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...codecs import array_over, as_kind, as_tensors, open_body
from ...errors import PlaneFull
from ...manifest import KINDS
from ...system import Mapping, own, reserve
from ..memory.extents import extents_of, lay_extents

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..memory.extents import Extent
    from .claims import Lease

__all__ = ["copy_body", "has_pages", "map_private", "private_array", "tensors_of"]


def has_pages(lease: Lease) -> bool:
    """Whether the body begins a page; small ones lie among others, and are copied whole."""
    facts = lease.facts
    return bool(facts.body_nbytes) and (not facts.in_slab or bool(facts.references))


def copy_body(lease: Lease) -> memoryview:
    """A private copy of the body."""
    import numpy as np

    lease.open()
    return np.frombuffer(open_body(lease), np.uint8).copy().data


def map_private(lease: Lease, extents: Sequence[Extent], *, nbytes: int | None = None) -> Mapping:
    """A private mapping over the body's pages. Cost: about 10 µs, and the kernel's copy of each page that is written.

    Args:
        nbytes: of a longer range; behind the body it shows anything.
    """
    memory, nbytes = lease.attachment.memory, nbytes or lease.facts.body_nbytes
    try:
        return _map(lease, extents, nbytes)
    except own(PlaneFull):
        # Out of mappings: let go of those that nobody uses and try once more.
        memory.drop()
        return _map(lease, extents, nbytes)


def _map(lease: Lease, extents: Sequence[Extent], nbytes: int) -> Mapping:
    pages = reserve(nbytes, writable=True)
    mapping = Mapping(nbytes, writable=True, pages=pages)
    lay_extents(lease.attachment.memory, mapping, lease.facts, extents, private=True)
    # The array keeps the pages, and they keep the lease.
    pages.kept = lease
    return mapping


def private_array(lease: Lease) -> npt.NDArray[Any]:
    """A private, writable array over an array's or bytes' body; the latter as ``uint8``."""
    import numpy as np

    body = private_body(lease)
    return array_over(lease.frame(), body) if lease.facts.codec == "array" else np.frombuffer(body, np.uint8)


def private_body(lease: Lease) -> memoryview:
    """A private, writable image of the body; of what changes in place a copy, which does not."""
    if not has_pages(lease) or KINDS[lease.facts.kind] == "mutable":
        return copy_body(lease)
    mapping = map_private(lease, extents_of(lease.attachment.memory, lease.facts))
    return mapping.view[: lease.facts.body_nbytes]


def tensors_of(lease: Lease) -> Any:
    """The value as tensors of torch; what shows pages is private and can be written, and keeps the lease."""
    lease.open()
    found = as_tensors(lease.facts.codec, lease.frame(), lease, lambda: private_body(lease))
    return as_kind(lease.facts.codec, lease.root(), "torch") if found is None else found
