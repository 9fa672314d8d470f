"""The executors of this process, by the token that stands in what their workers send."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .message import Message

__all__ = ["Receiver", "receivers"]


class Receiver(Protocol):
    """Who reads what workers send."""

    def receive(self, message: bytes | Message) -> Any:
        """The value, or a ``Failure``."""

    def is_in(self, attachment: Any) -> bool:
        """Whether its blocks are in that plane."""


receivers: weakref.WeakValueDictionary[bytes, Receiver] = weakref.WeakValueDictionary()
