"""Dask's collections over a block: partitions are views of it, made where they are needed.

A task of a partition has the block's handle and where the partition begins and ends. Nothing is copied where the worker sees
the plane; what a task makes of its view is Dask's, and travels as Dask sends it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ... import Block

if TYPE_CHECKING:
    import dask.array as da
    import dask.dataframe as dd

__all__ = ["array", "dataframe"]

_PARTITION_NBYTES = 64 << 20


class _Rows:
    """A block's array as ``dask.array`` asks for pieces of it."""

    def __init__(self, block: Block) -> None:
        shown = block.array()
        self._block = block
        self.dtype, self.shape, self.ndim = shown.dtype, shown.shape, shown.ndim

    def __getitem__(self, piece: Any) -> Any:
        return self._block.array()[piece]


def array(block: Block, chunks: Any = "auto") -> da.Array:
    """A ``dask.array`` over an array's block: its chunks are read-only views of one version.

    Args:
        chunks: as ``dask.array.from_array`` takes them.

    Raises:
        TypeError: what is given is no block.
        UnsupportedValue: the block has no form as an array.
        ValueError: chunks that do not cut it, such as those of a size below zero.
    """
    import dask.array as da
    from dask.base import tokenize

    _check_block(block)
    rows, name = _Rows(block), f"shmplane-{tokenize(block, chunks)}"
    return da.from_array(rows, chunks=_sizes_of(chunks, rows), name=name, asarray=False, inline_array=True)


def _check_block(block: Block) -> None:
    if not isinstance(block, Block):
        raise TypeError(f"pass a Block, as plane.attach(name) gives it, not {type(block).__name__}")


def _sizes_of(chunks: Any, rows: _Rows) -> tuple[tuple[int, ...], ...]:
    """Sizes of the chunks along each axis; Dask alone takes some of them that are below zero, and shows other elements."""
    from dask.array.core import normalize_chunks

    cannot = f"chunks={chunks!r} cannot cut an array of shape {rows.shape}"
    try:
        sizes: tuple[tuple[int, ...], ...] = normalize_chunks(chunks, shape=rows.shape, dtype=rows.dtype)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{cannot}: {error}") from error
    if any(size < 0 for along in sizes for size in along):
        raise ValueError(f"{cannot}: sizes are above zero, or -1 for a whole axis")
    return sizes


def dataframe(block: Block, npartitions: int | None = None) -> dd.DataFrame:
    """A ``dask.dataframe`` over a table's block, cut by rows.

    A table that came from pandas stays as it was; the columns of any other are those of Arrow (``pandas.ArrowDtype``). Both are
    views of one version, where pandas allows it.

    Args:
        npartitions: None: as many as have about 64 MiB.

    Raises:
        TypeError: what is given is no block.
        UnsupportedValue: the block is no table.
        ValueError: ``npartitions`` is less than 1.
    """
    import dask.dataframe as dd

    _check_block(block)
    rows = block.table().num_rows
    count = npartitions if npartitions is not None else -(-block.nbytes // _PARTITION_NBYTES)
    if npartitions is not None and npartitions < 1:
        raise ValueError(f"npartitions is 1 or more, not {npartitions}")
    count = max(1, min(count, rows))
    bounds = [rows * number // count for number in range(count + 1)]
    pieces = list(pairwise(bounds))
    return dd.from_map(_rows_of, pieces, block=block, meta=_rows_of((0, 0), block))


def _rows_of(piece: tuple[int, int], block: Block) -> Any:
    import pandas as pd

    start, stop = piece
    value = block.value()
    if isinstance(value, pd.DataFrame):
        return value.iloc[start:stop]
    return block.table().slice(start, stop - start).to_pandas(types_mapper=pd.ArrowDtype)
