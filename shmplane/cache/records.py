"""What the row of an item says of it: a few numbers, the frame of its value, and the value itself when it is small.

A row may have been written by somebody else: nothing of it is believed before it was checked, and nothing is ever unpickled.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from ..codecs import KINDS
from ..errors import PlaneCorrupt

__all__ = ["IN_FILE", "IN_MEMORY", "IN_ROW", "Record", "file_nbytes", "pack_record", "unpack_record"]

#: where the value is: in the row, in a file, or in the hot tier only
IN_ROW, IN_FILE, IN_MEMORY = 0, 1, 2

_MAGIC = b"shmC"
#: magic, kind, place, nbytes of frame and body, cost in us, seconds of grace, crc32 of all that follows
_HEAD = struct.Struct("<4sBBxxIQQdI")
_KINDS = tuple(kind for kind in KINDS if kind != "pickle")


class Record(NamedTuple):
    """One item, as its row has it.

    Attributes:
        body: the value's bytes when ``place`` is ``IN_ROW``, else empty.
        body_nbytes: how many bytes the value has, wherever it is.
        grace: seconds after its time for which it may be handed out while another is computed.
    """

    kind: str
    place: int
    frame: bytes
    body: bytes
    body_nbytes: int
    cost_us: int = 0
    grace: float = 0.0


def file_nbytes(record: Record) -> int:
    """B of its file: the body, and from the next multiple of 8 on the frame."""
    return (record.body_nbytes + 7 & ~7) + len(record.frame)


def pack_record(record: Record) -> bytes:
    """As bytes of a row."""
    tail = record.frame + record.body
    head = _HEAD.pack(
        _MAGIC,
        _KINDS.index(record.kind),
        record.place,
        len(record.frame),
        record.body_nbytes,
        record.cost_us,
        record.grace,
        crc32(tail),
    )
    return head + tail


def unpack_record(data: object) -> Record:
    """The record of a row; ``PlaneCorrupt`` when it is none."""
    if not isinstance(data, bytes) or len(data) < _HEAD.size:
        raise PlaneCorrupt("a row of the cache is no record of this library; it counts as missing")
    magic, kind, place, frame_nbytes, body_nbytes, cost_us, grace, checksum = _HEAD.unpack_from(data)
    tail = data[_HEAD.size :]
    inline_nbytes = len(tail) - frame_nbytes
    if (
        magic != _MAGIC
        or kind >= len(_KINDS)
        or place not in {IN_ROW, IN_FILE, IN_MEMORY}
        or inline_nbytes != (body_nbytes if place == IN_ROW else 0)
        or body_nbytes >= 1 << 62
        or not grace >= 0
        or crc32(tail) != checksum
    ):
        raise PlaneCorrupt("a row of the cache was damaged; it counts as missing")
    return Record(_KINDS[kind], place, tail[:frame_nbytes], tail[frame_nbytes:], body_nbytes, cost_us, grace)
