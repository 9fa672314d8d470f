"""Tables that are not in memory yet: a reader of Arrow batches, written batch by batch while it is read.

Rule 1. What cannot be stored is refused by its schema, before the first batch is read.
Rule 2. A batch is dropped before the next one is read. Small ones are gathered first, since each costs every reader a
        little: up to a thirty-second of what was written.
Rule 3. A reader can be read once. Who cannot write while it is read gets it as any other value: all of it in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..errors import ShmplaneError, UnsupportedValue
from ..system import own
from .stream import SinkFile, concat_batches, open_writer
from .table import EncodedTable, check_schema, encode_table, nbytes_of, table_frame

if TYPE_CHECKING:
    import pyarrow as pa

    from .base import Sink

__all__ = ["TableStream", "Written", "stream_of"]

_LEAST_GATHERED_NBYTES = 256 << 10
_MOST_GATHERED_NBYTES = 16 << 20


class Written(NamedTuple):
    """What a stream has become: the bytes of its body and its frame."""

    nbytes: int
    frame: bytes


def stream_of(value: Any) -> TableStream | None:
    """A table that comes in batches; None for what exports a stream of something else."""
    import pyarrow as pa

    if not isinstance(value, pa.RecordBatchReader):
        if not hasattr(pa.RecordBatchReader, "from_stream"):
            return None
        try:
            value = pa.RecordBatchReader.from_stream(value)
        except own(Exception):  # foreign code may raise anything; asked for as a table it says why
            return None
    return TableStream(value)


class TableStream:
    """A reader of batches, as a value to be stored: by ``stream_to`` as it comes, or else from memory."""

    kind = "table"
    whole = None

    def __init__(
        self, reader: pa.RecordBatchReader, share: Callable[[], float] | None = None, *, origin: str = "arrow"
    ) -> None:
        """``share``: how much of the whole has been read from where it comes, when that is known."""
        check_schema(reader.schema)
        self._reader = reader
        self._share = share
        self._origin = origin
        self._read: list[pa.RecordBatch] = []  #: and not written yet

    def all_within(self, nbytes: int) -> EncodedTable | None:
        """The whole table when there is no more of it than ``nbytes``; None when there is, and nothing is lost."""
        found = 0
        for batch in self._batches():
            self._read.append(batch)
            found += nbytes_of(batch)
            if found > nbytes:
                return None
        return self._whole

    def expected_nbytes(self) -> int | None:
        """About how large its body will be, judging by what was read and is not written yet; None: nobody knows."""
        share = self._share() if self._share is not None else 0.0
        return round(sum(map(nbytes_of, self._read)) / share) if share > 0 else None

    def stream_to(self, sink: Sink) -> Written:
        """Write the table while it is read, each byte once and in ascending order."""
        num_rows = 0
        with SinkFile(sink) as file:
            with open_writer(file.arrow, self._reader.schema) as writer:
                for batch in self._gathered(lambda: file.offset):
                    num_rows += batch.num_rows
                    _write(writer, batch)
                    del batch
            file.flush_small()
            nbytes = file.offset
        return Written(nbytes, table_frame(self._reader.schema, self._origin, num_rows=num_rows, nbytes=nbytes))

    def _gathered(self, written: Callable[[], int]) -> Iterator[pa.RecordBatch]:
        """The batches, small neighbours as one."""
        group: list[pa.RecordBatch] = []
        gathered = 0
        for batch in self._batches():
            group.append(batch)
            gathered += nbytes_of(batch)
            del batch
            if gathered >= min(max(_LEAST_GATHERED_NBYTES, written() // 32), _MOST_GATHERED_NBYTES):
                yield from concat_batches(_taken(group))
                gathered = 0
        yield from concat_batches(group)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """What was read already, and then what comes; the caller drops it before it asks again."""
        while self._read:
            yield self._read.pop(0)
        while True:
            batch = self._next()
            if batch is None:
                return
            yield batch
            del batch

    def _next(self) -> pa.RecordBatch | None:
        import pyarrow as pa

        try:
            batch = self._reader.read_next_batch()
            batch.validate()  # as every reader does
        except own(StopIteration):
            return None
        except own(pa.ArrowException, OSError) as error:
            _refuse("its batches ended by an error", error)
        return batch

    # As any other value: all of it in memory

    def table(self) -> pa.Table:
        """What has not been read yet."""
        import pyarrow as pa

        return pa.Table.from_batches(list(self._batches()), schema=self._reader.schema)

    @cached_property
    def _whole(self) -> EncodedTable:
        return encode_table(self.table(), self._origin)

    @property
    def frame(self) -> bytes:
        return self._whole.frame

    @property
    def nbytes(self) -> int:
        return self._whole.nbytes

    def write_to(self, sink: Sink) -> None:
        self._whole.write_to(sink)


def _taken(group: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """What is in the list, which is empty afterwards."""
    taken = list(group)
    group.clear()
    return taken


def _write(writer: pa.RecordBatchWriter, batch: pa.RecordBatch) -> None:
    import pyarrow as pa

    try:
        writer.write_batch(batch)
    except own(pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError) as error:
        _refuse("Arrow cannot write it", error)


def _refuse(problem: str, error: BaseException) -> NoReturn:
    if isinstance(error, ShmplaneError):
        raise error
    raise UnsupportedValue(f"nothing of this table was put, since {problem}: {error}") from error
