"""Size classes of memory that is kept warm: four for each doubling from a page on, so that at most a quarter is wasted.

Segments of planes, their buffers and those of one process are kept by the same classes. Pure functions.
"""

from __future__ import annotations

from .capabilities import PAGE_NBYTES

__all__ = ["SIZE_CLASSES", "class_nbytes", "fits", "size_class_of"]

#: enough for every size of a file
SIZE_CLASSES = 4 * 48
_SMALLEST_NBYTES = 4096


def size_class_of(nbytes: int) -> int:
    """The class that a piece of memory belongs to: the largest whose sizes begin at or below its own."""
    nbytes = max(nbytes, _SMALLEST_NBYTES)
    exponent = nbytes.bit_length() - 1
    quarter = (nbytes >> (exponent - 2)) & 3
    return min((exponent - 12) * 4 + quarter, SIZE_CLASSES - 1)


def class_nbytes(nbytes: int) -> int:
    """The smallest size at which a class begins that holds ``nbytes``, in whole pages."""
    nbytes = max(nbytes, _SMALLEST_NBYTES)
    step = 1 << max(nbytes.bit_length() - 3, 0)
    rounded = -(-nbytes // step) * step
    return -(-rounded // PAGE_NBYTES) * PAGE_NBYTES


def fits(piece_nbytes: int, needed: int) -> bool:
    """Whether a warm piece of memory holds ``needed`` bytes with at most a quarter wasted."""
    return needed <= piece_nbytes and (piece_nbytes - needed) * 4 <= piece_nbytes
