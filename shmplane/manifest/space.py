"""Free space: which cell, which warm segment, what goes. Pure functions over sizes.

Small blocks share slabs of equal cells, four sizes per power of two. Larger blocks have a segment each; freed ones stay
warm in buckets of the same spacing, so a fit within a quarter of waste lies in one of two buckets.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CELL_NBYTES", "bucket_of", "class_of", "slab_nbytes"]

#: the largest value that shares a slab; its frame comes on top
SMALL_NBYTES = 64 * 1024
_LARGEST_CELL = 80 * 1024
_FIRST_SLAB_NBYTES = 16 * 1024
LARGEST_SLAB_NBYTES = 4 * 1024 * 1024

RECYCLE_BUCKETS = 4 * 48


def _cells() -> Iterable[int]:
    yield from (64, 128, 192)
    power = 256
    while power <= _LARGEST_CELL:
        yield from (size for size in range(power, 2 * power, power // 4) if size <= _LARGEST_CELL)
        power *= 2


#: cell sizes in bytes, ascending multiples of 64
CELL_NBYTES = tuple(_cells())
# One entry per 64 bytes: the class whose cell is the smallest that fits.
CLASS_BY_LINES: list[int] = []
for _index, _nbytes in enumerate(CELL_NBYTES):
    CLASS_BY_LINES += [_index] * (_nbytes // 64 + 1 - len(CLASS_BY_LINES))


def class_of(nbytes: int) -> int:
    """The cell class for a block of ``nbytes``, frame included."""
    return CLASS_BY_LINES[(nbytes + 63) >> 6]


def slab_nbytes(cell_nbytes: int, slabs: int) -> int:
    """The size of a class's next slab: doubling, so that slabs grow with the logarithm of the blocks at first."""
    nbytes = min(_FIRST_SLAB_NBYTES << min(slabs, 16), LARGEST_SLAB_NBYTES)
    return -(-max(nbytes, 2 * cell_nbytes) // 4096) * 4096


def bucket_of(nbytes: int) -> int:
    """The recycle bucket of a segment: four per power of two from 4 KiB."""
    nbytes = max(nbytes, 4096)
    exponent = nbytes.bit_length() - 1
    quarter = (nbytes >> (exponent - 2)) & 3
    return min((exponent - 12) * 4 + quarter, RECYCLE_BUCKETS - 1)


def fits(segment_nbytes: int, needed: int) -> bool:
    """Whether a warm segment holds ``needed`` bytes with at most a quarter wasted."""
    return needed <= segment_nbytes and (segment_nbytes - needed) * 4 <= segment_nbytes
