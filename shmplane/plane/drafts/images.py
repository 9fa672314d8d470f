"""Private images of an array's body: by pages that the kernel copies, or, for what shares a slab, copied whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ...codecs import open_body
from ...system import PAGE_NBYTES, dirty_runs
from ..blocks.private import copy_body, has_pages, map_private
from ..blocks.publish import StoredBytes, contents_of, store
from ..memory.extents import extents_of
from .pages import publish_pages

if TYPE_CHECKING:
    from ..blocks.claims import Lease
    from ..blocks.publish import Target

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
    return PagedImage(base) if has_pages(base) else CopiedImage(base)


class CopiedImage:
    """A copy, compared with what it was copied from."""

    def __init__(self, base: Lease) -> None:
        self._base = base
        self.buffer: memoryview = copy_body(base)

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
        self._base = base
        self._extents = extents_of(base.attachment.memory, base.facts)
        self._mapping = map_private(base, self._extents)
        self.buffer: memoryview = self._mapping.view[: base.facts.body_nbytes]

    def dirty(self) -> Any:
        with self._base.attachment.memory.translated("finding the pages that were written"):
            return dirty_runs(self._mapping, self._clean)

    def _clean(self) -> memoryview:
        self._base.open()
        return open_body(self._base)

    def measure(self, dirty: Any) -> int:
        return min(int(dirty[:, 1].sum()) * PAGE_NBYTES, self._base.facts.body_nbytes)

    def publish(self, target: Target, dirty: Any) -> Lease:
        return publish_pages(target, self._base, self._extents, view=self._mapping.view, dirty=dirty)
