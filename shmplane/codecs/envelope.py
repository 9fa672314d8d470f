"""A frame's envelope: version, kind, checksum, payload.

``[version, 1 byte][tag, 1][crc32, 4][payload]``. The checksum turns every accident into ``PlaneCorrupt``; a hostile
frame can carry a right checksum, so what the payload claims is still checked against its memory by the codec
that opens it.
"""

from __future__ import annotations

from typing import NoReturn
from zlib import crc32

from ..errors import PlaneCorrupt

__all__ = ["HEADER_NBYTES", "corrupt", "seal", "unseal"]

VERSION = 2
HEADER_NBYTES = 6


def seal(tag: bytes, payload: bytes) -> bytes:
    """The frame of kind ``tag`` (one byte) that carries ``payload``."""
    return b"%c%b%b%b" % (VERSION, tag, crc32(payload, tag[0]).to_bytes(4, "little"), payload)


def unseal(tag: bytes, frame: bytes) -> bytes:
    """The payload of ``frame``, or ``PlaneCorrupt``."""
    if len(frame) < HEADER_NBYTES:
        corrupt(f"a frame has at least {HEADER_NBYTES} bytes, this one {len(frame)}")
    if frame[0] != VERSION:
        corrupt(f"the frame has version {frame[0]}; this library reads version {VERSION}")
    if frame[1:2] != tag:
        corrupt(f"the frame is of kind {frame[1:2]!r}, not {tag!r}")
    payload = frame[HEADER_NBYTES:]
    if crc32(payload, tag[0]) != int.from_bytes(frame[2:6], "little"):
        corrupt("the frame's checksum is wrong")
    return payload


def corrupt(found: str, cause: BaseException | None = None) -> NoReturn:
    """Raise ``PlaneCorrupt`` saying what was found."""
    raise PlaneCorrupt(
        f"cannot read the block: {found}. "
        f"It was not written by this version of the library, or was damaged; put it again."
    ) from cause
