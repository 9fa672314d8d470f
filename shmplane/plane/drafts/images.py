"""Private images of an array's body: by pages that the kernel copies, or, for what shares a slab, copied whole.

A private mapping shows later writes to pages that it has not copied. The blocks below never change while they are leased,
so the image holds the lease of its base until the last view of it is garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...codecs import open_body
from ...errors import PlaneFull
from ...system import PAGE_NBYTES, Mapping, dirty_runs, own, reserve
from ..blocks.publish import StoredBytes, contents_of, store
from ..memory.extents import extents_of, lay_extents
from .pages import publish_pages

if TYPE_CHECKING:
    from ..blocks.publish import Target
    from ..process.leases import Lease

__all__ = ["Image", "image_of"]


class Image(Protocol):
    """A private, writable copy of a body, which knows what was changed."""

    buffer: memoryview

    def dirty(self) -> Any: ...
    def measure(self, dirty: Any) -> int:
        """Bytes of what ``dirty`` found; 0: nothing."""

    def publish(self, target: Target, dirty: Any) -> Lease: ...


def image_of(base: Lease) -> Image:
    """A private image of the block that ``base`` leases."""
    facts = base.facts
    if not facts.body_nbytes or (facts.in_slab and not facts.references):
        return CopiedImage(base)
    return PagedImage(base)


class CopiedImage:
    """A copy, compared with what it was copied from."""

    def __init__(self, base: Lease) -> None:
        import numpy as np

        base.open()
        self._base = base
        self.buffer: memoryview = np.frombuffer(open_body(base), np.uint8).copy().data

    def dirty(self) -> bool:
        return self.buffer != open_body(self._base)

    def measure(self, dirty: bool) -> int:
        return self.buffer.nbytes if dirty else 0

    def publish(self, target: Target, dirty: bool) -> Lease:  # noqa: ARG002 - a copy is published whole
        body = StoredBytes(self._base.facts.codec, self._base.frame(), self.buffer)
        return store(self._base.attachment, target, contents_of(body), body)


class PagedImage:
    """A private mapping over the body's pages."""

    def __init__(self, base: Lease) -> None:
        memory, facts = base.attachment.memory, base.facts
        self._base = base
        self._extents = extents_of(memory, facts)
        try:
            self._mapping = self._map()
        except own(PlaneFull):
            # Out of mappings: let go of those that nobody uses and try once more.
            memory.drop()
            self._mapping = self._map()
        self.buffer: memoryview = self._mapping.view[: facts.body_nbytes]

    def _map(self) -> Mapping:
        pages = reserve(self._base.facts.body_nbytes, writable=True)
        mapping = Mapping(self._base.facts.body_nbytes, writable=True, pages=pages)
        lay_extents(self._base.attachment.memory, mapping, self._base.facts, self._extents, private=True)
        # The array keeps the pages, and they keep the lease.
        pages.kept = self._base
        return mapping

    def dirty(self) -> Any:
        return dirty_runs(self._mapping, self._clean)

    def _clean(self) -> memoryview:
        self._base.open()
        return open_body(self._base)

    def measure(self, dirty: Any) -> int:
        return min(int(dirty[:, 1].sum()) * PAGE_NBYTES, self._base.facts.body_nbytes)

    def publish(self, target: Target, dirty: Any) -> Lease:
        return publish_pages(target, self._base, self._extents, view=self._mapping.view, dirty=dirty)
