"""``JsonDraft``: a JSON value that is decoded privately and published when its text has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...codecs import decode_document, encode, open_body
from ..blocks.publish import contents_of, store
from ..memory.sinks import MappedSink
from .draft import Draft

if TYPE_CHECKING:
    from ..blocks.claims import Lease
    from ..process.attachment import Attachment

__all__ = ["JsonDraft"]


class JsonDraft(Draft, kinds=("json",)):
    """A private copy of a JSON value: change ``draft.value`` in place, or assign another value to it."""

    _called = "a JSON value"
    _use = "draft.value"

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        super().__init__(attachment, name, base)
        self._value = decode_document(base.root())

    @property
    def value(self) -> Any:
        """The decoded value, private to this draft."""
        self._check_open()
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._check_open()
        self._value = value

    def _publish(self) -> Lease | None:
        encoded = encode(self._value, "json")
        text = bytearray(encoded.nbytes)
        encoded.write_to(MappedSink(memoryview(text)))
        self._base.open()
        if text == open_body(self._base):
            return None
        return store(self._attachment, self._target, contents_of(encoded), encoded)

    def _drop_image(self) -> None:
        del self._value
