"""Values on their way: rendered once, written to a row or a file, shown from there.

A file is ``[body][frame]`` as in a segment. It is mapped when it is hit, and never read whole: its pages come when they are
touched. Arrow data of a file is validated in full once, since it may have been written by somebody else.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from ..codecs import CODECS, BytesSink, CopiedMemory, Encoded, TableStream, check_values, encode
from ..errors import PlaneCorrupt, ShmplaneError
from ..system import Mapping, Window, ignoring, open_file, write_all
from .records import Record, file_nbytes

if TYPE_CHECKING:
    from typing_extensions import Buffer


__all__ = ["Rendered", "encode_value", "map_body", "render", "show_file", "show_row", "write_file"]

_MOST_CHECKED = 4096
#: files whose Arrow data was validated: inode, device, size and time of change
_checked: dict[tuple[int, int, int, int], None] = {}
_mutex = threading.Lock()


class Rendered:
    """A value as bytes, ready to be written any number of times: what codecs call an ``Encoded``."""

    __slots__ = ("frame", "kind", "nbytes", "whole")

    def __init__(self, kind: str, frame: bytes, body: Buffer) -> None:
        self.kind: str = kind
        self.frame: bytes = frame
        self.whole = memoryview(body)
        self.nbytes: int = self.whole.nbytes

    def write_to(self, sink: Any) -> None:
        if self.nbytes:
            sink.write(0, self.whole)


class _FileSink:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, offset: int, data: Buffer) -> None:
        write_all(self._fd, offset, data)


def render(encoded: Encoded) -> Rendered:
    """A small value as bytes."""
    sink = BytesSink(encoded.nbytes)
    encoded.write_to(sink)
    return Rendered(encoded.kind, encoded.frame, bytes(sink.data))


def write_file(fd: int, encoded: Encoded) -> None:
    """Write body and frame to a new file; it is as long as ``records.file_nbytes`` says."""
    encoded.write_to(_FileSink(fd))
    end = encoded.nbytes + 7 & ~7
    write_all(fd, encoded.nbytes, b"\0" * (end - encoded.nbytes) + encoded.frame)


class _FileMemory:
    """The body of a file, mapped read-only; the file may lose its name meanwhile."""

    __slots__ = ("__weakref__", "_mapping", "_path", "address", "nbytes")

    def __init__(self, mapping: Mapping, path: str, nbytes: int) -> None:
        self._mapping, self._path = mapping, path
        self.address: int = mapping.address
        self.nbytes: int = nbytes

    @property
    def lease(self) -> object:
        return self

    def copy(self, nbytes: int) -> bytes:
        return bytes(self._mapping.view[:nbytes])

    def window(self, nbytes: int) -> Window | None:
        with ignoring(OSError, ShmplaneError):
            fd = open_file(self._path)
            try:
                if os.fstat(fd).st_size >= nbytes:
                    return Window.open(fd, offset=0, nbytes=nbytes, lease=self)
            finally:
                os.close(fd)
        return None


def show_row(record: Record) -> Any:
    """The value of a record that has it; ``PlaneCorrupt`` when the frame does not fit it."""
    codec = CODECS[record.kind]
    root = codec.open(record.frame, CopiedMemory(record.body), ())
    check_values(record.kind, root)
    return codec.present(root)


def show_file(record: Record, path: str) -> tuple[Any, Rendered]:
    """The value of a file, mapped, and the same to be copied from; ``FileNotFoundError``, or ``PlaneCorrupt``."""
    fd = open_file(path)
    try:
        found = os.fstat(fd)
        if found.st_size != file_nbytes(record) or not record.body_nbytes:
            raise PlaneCorrupt(f"{path} has {found.st_size:,} B, and its row says {file_nbytes(record):,}")
        mapping = Mapping(record.body_nbytes)
        mapping.lay(fd, mapping.nbytes)
    finally:
        os.close(fd)
    codec = CODECS[record.kind]
    root = codec.open(record.frame, _FileMemory(mapping, path, record.body_nbytes), ())
    if record.kind in {"table", "tree"}:
        _check_once(record.kind, root, (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns))
    return codec.present(root), Rendered(record.kind, record.frame, mapping.view[: record.body_nbytes])


def _check_once(kind: str, root: Any, file: tuple[int, int, int, int]) -> None:
    if file in _checked:
        return
    check_values(kind, root)
    with _mutex:
        if len(_checked) >= _MOST_CHECKED:
            _checked.pop(next(iter(_checked)))
        _checked[file] = None


def map_body(path: str, nbytes: int) -> memoryview:
    """The first bytes of a file of ours that was just written."""
    fd = open_file(path)
    try:
        mapping = Mapping(nbytes)
        mapping.lay(fd, mapping.nbytes)
    finally:
        os.close(fd)
    return mapping.view[:nbytes]


def encode_value(value: Any) -> Encoded:
    """Describe a value for storing; ``UnsupportedValue`` when no kind takes it."""
    encoded = encode(value)
    if not isinstance(encoded, TableStream):
        return encoded
    import pyarrow as pa  # what comes in batches is gathered: a cache has to know how much it is

    return encode(pa.table(value))
