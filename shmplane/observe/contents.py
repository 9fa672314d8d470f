"""What is in a block, told from its frame, without a lease and without touching its value.

Nothing keeps the block's memory from being used again while its frame is read; the frame's checksum tells whether
that happened.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import TYPE_CHECKING
from zlib import crc32

from .. import codecs
from ..errors import BlockNotFound, PlaneCorrupt
from ..system import open_file

if TYPE_CHECKING:
    from ..manifest import Block, Snapshot
    from .open import Reading

__all__ = ["describe_block"]

_MOST_TRIES = 5
_MOST_COMPARED = 2_000  #: names; all of them take some 20 ms


def describe_block(plane: Reading, name: str) -> tuple[Snapshot, Block, codecs.Description]:
    """The current version of a name, and what its frame says.

    Raises:
        BlockNotFound: no block has that name.
        PlaneCorrupt: its frame does not fit its checksum.
    """
    for _ in range(_MOST_TRIES):
        snapshot = plane.snapshot()
        block = snapshot.named(name)
        if block is None:
            names = [block.name for block in snapshot.blocks.values() if block.name is not None]
            near = next(iter(get_close_matches(name, names[:_MOST_COMPARED], n=1)), None)
            meant = "" if near is None else f" did you mean {near!r}?"
            raise BlockNotFound(
                f"no block is named {name!r} in plane {plane.name!r};{meant} `shmplane ls {plane.name}` lists those there "
                f"are",
                name=name,
                near=near,
            )
        frame = _read_frame(plane, snapshot, block)
        # Another checksum: damaged, or it was deleted and its memory used again meanwhile; then there is news.
        if frame is not None and crc32(frame) == block.frame_crc:
            return snapshot, block, codecs.describe(block.kind, frame)
    raise PlaneCorrupt(
        f"the description of block {name!r} does not fit its checksum: its memory was written over, or it is being "
        f"replaced all the time. Try again, or delete the block.",
        name=name,
    )


def _read_frame(plane: Reading, snapshot: Snapshot, block: Block) -> bytes | None:
    segment = snapshot.segments.get(block.segment)
    if segment is None:
        return None
    start = block.offset + (block.stored_nbytes + 7 & ~7)
    if start > segment.nbytes or block.frame_nbytes > segment.nbytes - start:
        return None
    try:
        with os.fdopen(open_file(plane.segment_path(segment.id, segment.is_spilled)), "rb") as file:
            file.seek(start)
            return file.read(block.frame_nbytes)
    except FileNotFoundError:
        return None
