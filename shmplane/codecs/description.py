"""What a block holds, told from its frame alone.

No body is touched, and no library is loaded before it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .table import parse_schema

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["Description"]


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
