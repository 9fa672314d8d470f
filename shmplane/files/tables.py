"""Arrow IPC in a mapped file: both formats, read where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import FileTruncated
from ..system import own

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["table_over"]

_FILE = b"ARROW1"
_STREAM = b"\xff\xff\xff\xff"


def table_over(view: memoryview, path: str, *, check: bool) -> pa.Table:
    """The table over the bytes of a whole file, which its columns keep; compressed columns are copies."""
    import pyarrow as pa

    is_file = view[: len(_FILE)] == _FILE
    if is_file and view[-len(_FILE) :] != _FILE:
        raise FileTruncated(
            f"{path} begins as an Arrow IPC file and does not end as one: it was cut short, or is still being written",
            path=path,
            found=len(view),
        )
    if not is_file and view[: len(_STREAM)] != _STREAM:
        raise ValueError(f"{path} is no Arrow IPC file or stream: it begins with {bytes(view[:8])!r}")
    try:
        return _read(pa.py_buffer(view), is_file=is_file, check=check)
    except own(pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as Arrow IPC: {error}") from error


def _read(buffer: Any, *, is_file: bool, check: bool) -> Any:
    import pyarrow as pa

    reader = pa.ipc.open_file(buffer) if is_file else pa.ipc.open_stream(buffer)
    table = reader.read_all()
    table.validate(full=check)
    return table
