"""Writing an Arrow IPC stream to a sink without a second copy of the data.

Arrow hands column buffers to a Python file as they are; the headers between them come as many tiny pieces,
which are gathered here, so that the sink sees few and large writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from ..system import own

if TYPE_CHECKING:
    import pyarrow as pa

    from .base import Sink

__all__ = ["SinkFile", "concat_batches", "open_writer", "plan_batches", "write_stream"]

SMALL_NBYTES = 4096  #: pieces up to this size are gathered
FEW_BATCHES = 16  #: so many batches are never combined
SMALLEST_BATCH_NBYTES = 1 << 20
LARGEST_COPY_NBYTES = 64 << 20  #: the most that is copied at a time to combine batches


class SinkFile:
    """A sink as the file that Arrow writes to: ascending, each byte once."""

    arrow: Any

    closed = False  #: Arrow asks; the sink is closed by its owner

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._small = bytearray()
        self.offset = 0  #: bytes that are written

    def __enter__(self) -> Self:
        import pyarrow as pa

        self.arrow = pa.PythonFile(self, mode="w")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.flush_small()
        # Arrow's file and this object refer to each other.
        del self.arrow

    def write(self, data: Any) -> int:
        nbytes = len(data)
        if nbytes <= SMALL_NBYTES:
            self._small += data
            return nbytes
        self.flush_small()
        self._sink.write(self.offset, data)
        self.offset += nbytes
        return nbytes

    def flush_small(self) -> None:
        """Write what is gathered."""
        # First taken out: a write that Ctrl-C ends may keep a view of it, and what Arrow says last could not be added.
        small, self._small = self._small, bytearray()
        if small:
            self._sink.write(self.offset, small)
            self.offset += len(small)

    def flush(self) -> None: ...
    def close(self) -> None: ...


def write_stream(file: Any, schema: pa.Schema, batches: Callable[[], Iterable[pa.RecordBatch]]) -> None:
    """Write ``batches`` to an Arrow output file."""
    with open_writer(file, schema) as writer:
        for batch in batches():
            writer.write_batch(batch)


def open_writer(file: Any, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
    """Arrow's writer of a stream, as blocks have it."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(allow_64bit=True, compression=None, use_threads=False)
    return pa.ipc.new_stream(file, schema, options=options)


def plan_batches(table: pa.Table) -> Callable[[], Iterable[pa.RecordBatch]]:
    """How to cut ``table`` into batches; called once for the size and once to write, it gives the same."""
    batches = _unify(table).to_batches() or _empty_batch(table)
    if len(batches) <= FEW_BATCHES:
        return lambda: batches
    row_nbytes = max(table.get_total_buffer_size() // table.num_rows, 1)
    wanted_nbytes = max(SMALLEST_BATCH_NBYTES, row_nbytes * table.num_rows // FEW_BATCHES)
    enough_rows = min(wanted_nbytes, LARGEST_COPY_NBYTES) // row_nbytes
    return lambda: _combine(batches, enough_rows)


def _empty_batch(table: pa.Table) -> list[pa.RecordBatch]:
    """No rows, but the dictionaries of the columns, which live in batches alone."""
    import pyarrow as pa

    if not table.num_columns or any(column.num_chunks == 0 for column in table.columns):
        return []
    return [pa.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=table.schema)]


def _unify(table: pa.Table) -> pa.Table:
    """One dictionary for all chunks, where Arrow can; else the stream replaces it from batch to batch."""
    import pyarrow as pa

    if all(column.num_chunks < 2 for column in table.columns):
        return table
    try:
        return table.unify_dictionaries()
    except own(pa.ArrowException):
        return table


def _combine(batches: Iterable[pa.RecordBatch], enough_rows: int) -> Iterator[pa.RecordBatch]:
    """Put neighbours together until they have ``enough_rows``; larger ones pass untouched."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows >= enough_rows:
            yield from concat_batches(group)
            yield batch
            group = []
            continue
        group.append(batch)
        if sum(member.num_rows for member in group) >= enough_rows:
            yield from concat_batches(group)
            group = []
    yield from concat_batches(group)


def concat_batches(group: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """One batch of all, or where Arrow cannot join them the pieces."""
    import pyarrow as pa

    if len(group) < 2:
        return group
    try:
        combined: list[pa.RecordBatch] = pa.Table.from_batches(group).combine_chunks().to_batches()
    except own(pa.ArrowException):
        # Arrow cannot join every type; the stream can hold the pieces.
        return group
    return combined
