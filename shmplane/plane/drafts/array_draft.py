"""``ArrayDraft``: an array whose pages are copied by the kernel when they are first written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...codecs import array_over
from .draft import Draft
from .images import image_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..blocks.claims import Lease
    from ..process.attachment import Attachment

__all__ = ["ArrayDraft"]


class ArrayDraft(Draft):
    """A private, writable image of an array (or of bytes, as ``uint8``), of the same dtype, shape and order.

    Beginning one costs a mapping, whatever its size; writing costs a copy of each touched page (4 KiB); committing
    costs these pages. Arrays of up to 64 KiB are copied whole.

    ``array`` may be kept after the end; it stays private.
    """

    _called = "an array"
    _use = "draft.array"

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        super().__init__(attachment, name, base)
        self._image = image_of(base)
        self._array: Any = _array_over(base, self._image.buffer)
        self._dirty_nbytes = 0

    @property
    def array(self) -> npt.NDArray[Any]:
        """Writable and private."""
        self._check_open()
        return self._array  # type: ignore[no-any-return]

    @property
    def dirty_nbytes(self) -> int:
        """Bytes of the pages that were touched so far; after the end, of those that had been when it was committed."""
        with self._mutex:
            if self._ended is None:
                self._dirty_nbytes = self._image.measure(self._image.dirty())
            return self._dirty_nbytes

    def _publish(self) -> Lease | None:
        dirty = self._image.dirty()
        self._dirty_nbytes = self._image.measure(dirty)
        return self._image.publish(self._target, dirty) if self._dirty_nbytes else None

    def _drop_image(self) -> None:
        del self._array, self._image


def _array_over(base: Lease, buffer: memoryview) -> npt.NDArray[Any]:
    import numpy as np

    return array_over(base.frame(), buffer) if base.facts.codec == "array" else np.frombuffer(buffer, np.uint8)
