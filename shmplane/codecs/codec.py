"""What a codec of one kind can do; ``kinds`` has them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .base import Encoded, Memory
    from .composed import Part
    from .description import Description

__all__ = ["Codec", "NoForm"]


class NoForm(Exception):
    """What a form raises: this very value has none such, though others of its kind may."""


class Open(Protocol):
    """Makes the root of a block's views."""

    def __call__(self, frame: bytes, memory: Memory, parts: Sequence[Part] = (), /) -> Any:
        """``parts``: of a composed table. ``PlaneCorrupt`` when the frame does not fit its memory."""


class Codec(NamedTuple):
    """One kind of value: all that differs from kind to kind, as functions.

    Attributes:
        encode: describes a value; None when it cannot be of this kind.
        open: of frame, memory and parts, the root of a block's views: one object, weakly referenceable, that every view
            keeps alive, and neither it nor they can be written or outlive the lease. What takes no weak reference is
            wrapped, and decoded by ``present``.
        present: makes of a root what a user gets, so that nobody can change what another one sees. That of ``pickle`` runs
            code: the caller checks trust first.
        describe: what the frame alone says.
        forms: by ``as_``, what makes it of a root.
        tensors: of frame, memory and a private, writable copy of the body, what ``as_="torch"`` gives; None: nothing.
    """

    kind: str
    encode: Callable[[Any], Encoded | None]
    open: Open
    present: Callable[[Any], Any]
    describe: Callable[[bytes], Description]
    forms: Mapping[str, Callable[[Any], Any]]
    tensors: Callable[[bytes, Memory, memoryview], Any] | None = None

    @property
    def possible(self) -> list[str]:
        """Each ``as_`` that there is."""
        return [*self.forms, "torch"] if self.tensors is not None else list(self.forms)
