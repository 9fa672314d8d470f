"""What a codec of one kind can do (``kinds`` has them all), and what a block holds, told from its frame alone.

To describe a block touches no body, and loads no library before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .table import parse_schema

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from .base import Encoded, Memory
    from .composed import Part

__all__ = ["Codec", "Description", "NoForm"]


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


@dataclass(frozen=True, slots=True)
class Description:
    """The metadata of one block.

    Attributes:
        shape: of an array its lengths, of a table rows and columns, of bytes the length; None for JSON, trees and
        pickles.
        origin: what a table came from: ``arrow``, ``column``, ``pandas``, ``pandas-series``, ``polars``,
        ``polars-series``.
        leaves: of a tree, how many arrays, tables and buffers it has.
    """

    kind: str
    shape: tuple[int, ...] | None = None
    origin: str | None = None
    _packed: bytes = field(default=b"", repr=False)
    leaves: int | None = None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of an array; None for every other kind. Loads NumPy."""
        if self.kind != "array":
            return None
        from .dtypes import unpack_dtype

        return unpack_dtype(self._packed)

    @property
    def is_foreign(self) -> bool:
        """Whether it is an array of a type that NumPy has from another library, or not at all."""
        from .dtypes import FOREIGN_NBYTES

        return self.kind == "array" and self._packed.decode("ascii", "replace") in FOREIGN_NBYTES

    @property
    def dtype_name(self) -> str | None:
        """The dtype as text, for which no library of its own is needed."""
        if self.kind != "array":
            return None
        return self._packed.decode() if self.is_foreign else str(self.dtype)

    @property
    def schema(self) -> pa.Schema | None:
        """The Arrow schema of a table; None for every other kind. Loads pyarrow."""
        return parse_schema(self._packed) if self.kind == "table" else None
