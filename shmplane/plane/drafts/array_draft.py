"""``ArrayDraft``: an array whose pages are copied by the kernel when they are first written.

``ImageDraft`` is what the drafts of arrays and of trees have in common. Its image is private pages over the body, taken over
from an earlier draft where that can be; or, for what shares a slab, a copy. When it is committed, the draft first lets go of
its arrays. If nobody else has kept one, then whatever was written is found, and the image can serve the next draft.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from ...codecs import array_over, open_body
from ...errors import PlaneFull
from ...system import PAGE_NBYTES, dirty_runs, own
from ..blocks.private import copy_body
from ..blocks.publish import StoredBytes, contents_of, store
from ..memory.compositions import has_pages
from .draft import Draft
from .pages import publish_edit

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..blocks.claims import Lease
    from ..blocks.target import Target
    from ..process.attachment import Attachment

__all__ = ["ArrayDraft", "ImageDraft"]

#: finding what was written takes longer when much was read or written: then all of the image's page tables are given back
_SLOW_S = 0.001


class ImageDraft(Draft, kinds=()):
    """A draft that is written in place: its commit costs the pages of the image that were touched."""

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        super().__init__(attachment, name, base)
        self._image: _Image = _Paged(base) if has_pages(base.facts) else _Copied(base)
        self._shown: Any = self._show(self._image.lend())
        self._dirty_nbytes = 0

    @abstractmethod
    def _show(self, body: memoryview) -> Any:
        """What users write to, over the bytes of the image, which it keeps."""

    def _writable(self) -> Any:
        """What users write to."""
        with self._mutex:
            self._check_open()
            if self._shown is None:  # a commit failed
                self._shown = self._show(self._image.lend())
            return self._shown

    @property
    def dirty_nbytes(self) -> int:
        """Bytes of the pages that were touched so far; after the end, of those that had been when it was committed."""
        with self._mutex:
            if self._ended is None:
                self._dirty_nbytes = self._image.find_changes()
            return self._dirty_nbytes

    def _publish(self) -> Lease | None:
        self._shown = None
        self._dirty_nbytes = self._image.find_changes()
        return self._image.publish(self._target) if self._dirty_nbytes else None

    def _drop_image(self) -> None:
        self._shown = None
        self._image.end(committed=self._lease is not None)
        del self._image


class ArrayDraft(ImageDraft, kinds=("array", "bytes")):
    """A private, writable image of an array (or of bytes, as ``uint8``), of the same dtype, shape and order.

    Beginning one costs a mapping, whatever its size; writing costs a copy of each touched page (4 KiB); committing
    costs these pages. Arrays of up to 64 KiB are copied whole.

    ``array`` may be kept after the end; it stays private.
    """

    _called = "an array"
    _use = "draft.array"

    @property
    def array(self) -> npt.NDArray[Any]:
        """Writable and private."""
        return self._writable()  # type: ignore[no-any-return]

    def _show(self, body: memoryview) -> npt.NDArray[Any]:
        import numpy as np

        if self._base.facts.codec == "array":
            return array_over(self._base.frame(), body)
        return np.frombuffer(body, np.uint8)


class _Image(Protocol):
    """A private, writable copy of a body, which finds out what was changed."""

    def lend(self) -> memoryview:
        """Its bytes, for who writes."""

    def find_changes(self) -> int:
        """Bytes of what was changed; 0: nothing."""

    def publish(self, target: Target) -> Lease:
        """The next version, with what was found."""

    def end(self, *, committed: bool) -> None:
        """It is needed no more, unless the user kept an array of it."""


class _Copied:
    """A copy, compared with what it was copied from."""

    def __init__(self, base: Lease) -> None:
        self._base = base
        self._copy: memoryview = copy_body(base)

    def lend(self) -> memoryview:
        return self._copy

    def find_changes(self) -> int:
        return self._copy.nbytes if self._copy != open_body(self._base) else 0

    def publish(self, target: Target) -> Lease:
        body = StoredBytes(self._base.facts.codec, self._base.frame(), self._copy)
        return store(self._base.attachment, target, contents_of(body), body)

    def end(self, *, committed: bool) -> None:
        pass


class _Paged:
    """Private pages over the body."""

    def __init__(self, base: Lease) -> None:
        self._base = base
        self._image = base.attachment.compositions.image(base.facts, kept=base)
        self._written: Any = None
        #: how often it had been lent when all that was ever written was found; -1: it was not, somebody could still write
        self._loans = -1
        self._was_slow = False

    def lend(self) -> memoryview:
        return self._image.lend()

    def find_changes(self) -> int:
        self._loans = -1 if self._image.is_lent else self._image.loans
        began = time.monotonic()
        try:
            self._written = dirty_runs(self._image.mapping, self._clean)
        except own(OSError, PlaneFull) as error:
            with self._base.attachment.memory.translated("finding the pages that were written"):
                raise error  # noqa: TRY201 - what is under way there is what is translated
        self._was_slow = time.monotonic() - began > _SLOW_S
        return min(int(self._written[:, 1].sum()) * PAGE_NBYTES, self._base.facts.body_nbytes)

    def _clean(self) -> memoryview:
        self._base.open()
        return open_body(self._base)

    def publish(self, target: Target) -> Lease:
        return publish_edit(target, self._base, self._image, self._written)

    def end(self, *, committed: bool) -> None:
        if committed and self._loans == self._image.loans:
            written = None if self._was_slow else self._written
            self._base.attachment.compositions.keep(self._base.facts, self._image, written)
