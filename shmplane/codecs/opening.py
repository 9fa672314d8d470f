"""From a stored block to a value: one row for each kind.

``open_root`` makes the one object of a process that stands for a block's memory; ``present`` makes what a
user gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmplane.codecs import array, composed, document, frames, pickled, raw, table
from shmplane.codecs.frame import corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from shmplane.codecs.base import Memory
    from shmplane.codecs.composed import Part

__all__ = ["open_root", "open_table", "present", "presenter"]

_OPEN: dict[str, Callable[[bytes, Memory], Any]] = {
    "array": array.open_array,
    "table": frames.open_table_root,
    "bytes": raw.open_bytes,
    "json": document.open_document,
    "pickle": pickled.open_pickle,
}

_PRESENT: dict[str, Callable[[Any], Any]] = {
    "array": array.present_array,
    "table": frames.present_table,
    "bytes": raw.present_bytes,
    "json": document.present_document,
    "pickle": pickled.present_pickle,
}


def open_root(kind: str, frame: bytes, memory: Memory, parts: Sequence[Part] = ()) -> Any:
    """The weakly referenceable root of a block's views; neither it nor they can be written or outlive the
    lease.

    Args:
        parts: of a composed table.

    Raises:
        PlaneCorrupt: the frame does not fit its memory, or the kind is unknown.
    """
    opener = _OPEN.get(kind)
    if opener is None:
        corrupt(f"it is of kind {kind!r}, which this version does not know")
    return frames.open_table_root(frame, memory, parts) if parts else opener(frame, memory)


def present(kind: str, root: Any) -> Any:
    """A new view or decoded value for one reader. ``pickle`` runs code: the caller checks trust first."""
    return _PRESENT[kind](root)


def presenter(kind: str) -> Callable[[Any], Any]:
    """What ``present`` does for a kind, looked up once."""
    return _PRESENT[kind]


def open_table(
    frame: bytes, memory: Memory, columns: Sequence[str] | None = None, *, parts: Sequence[Part] = ()
) -> pa.Table:
    """The Arrow table of a block, whatever it came from, or just ``columns`` of it, in that order.

    Raises:
        ValueError: there is no column of that name, or more than one.
    """
    if composed.is_composed(frame):
        return composed.read_composed(frame, parts, columns)
    return table.read_table(frame, memory, columns)
