"""Free space: which cell, which slab. Pure functions over sizes.

Small blocks share slabs of equal cells, four sizes per power of two. Larger blocks have a segment each; freed ones stay
warm in a chain for each size class, so what fits lies in one of three chains.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CELL_NBYTES", "class_of", "slab_nbytes"]

#: the largest value that shares a slab; its frame comes on top
SMALL_NBYTES = 64 * 1024
_LARGEST_CELL = 80 * 1024
_FIRST_SLAB_NBYTES = 16 * 1024
LARGEST_SLAB_NBYTES = 4 * 1024 * 1024


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
