"""Parquet, Arrow IPC and CSV: read batch by batch, and written from a table.

CSV has no types. They are guessed from the first block; when a later value does not fit, the file is read again from the
start with a wider type for that column, so what comes out never depends on where a value stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import FileTruncated, ShmplaneError
from ...system import own
from ..failures import translated
from .source import Source

if TYPE_CHECKING:
    import pyarrow as pa

    from ...system import ReplacingFile

__all__ = ["read_arrow", "read_csv", "read_parquet", "widen", "write_arrow", "write_csv", "write_parquet"]

_PARQUET, _ARROW, _STREAM, _FEATHER_1 = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"
_BATCH_ROWS = 1 << 16
_GROUP_ROWS = 1 << 20


def _check_ends(source: Source, magic: bytes, what: str) -> None:
    if source.head(len(magic)) != magic:
        raise ValueError(f"{source.path} is no {what} file: it begins with {source.head(8)!r}")
    if source.nbytes < 2 * len(magic) or source.head(len(magic), source.nbytes - len(magic)) != magic:
        raise FileTruncated(
            f"{source.path} begins as a {what} file and does not end as one: it was cut short, or is being written",
            path=source.path,
            found=source.nbytes,
        )


def _refuse(source: Source, what: str, error: BaseException) -> NoReturn:
    if isinstance(error, ShmplaneError):
        raise error
    if isinstance(error, OSError) and error.errno is not None:  # of the system, and not Arrow's word for bad content
        with translated("reading", source.path):
            raise error
    raise ValueError(f"{source.path} cannot be read as {what}: {error}") from error


def _reader(source: Source, what: str, schema: Any, batches: Iterator[tuple[Any, int]]) -> Any:
    """A reader of batches that says what was wrong with which file.

    Args:
        batches: each with how many bytes of the file had been read by then.
    """
    import pyarrow as pa

    def checked() -> Iterator[Any]:
        while True:
            try:
                batch, done = next(batches)
            except own(StopIteration):
                source.check_whole()
                return
            except own(pa.ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
                _refuse(source, what, error)
            source.count(done)
            yield batch
            del batch
            source.report(done)

    return pa.RecordBatchReader.from_batches(schema, checked())


# Parquet


def read_parquet(source: Source, columns: list[str] | None = None, **options: Any) -> Any:
    """A reader of a Parquet file; further options are those of ``pyarrow.parquet.ParquetFile.iter_batches``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_ends(source, _PARQUET, "Parquet")
    try:
        file = pq.ParquetFile(source.path, pre_buffer=False, buffer_size=1 << 20)
        schema = file.schema_arrow
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
        batches = file.iter_batches(columns=columns, **{"batch_size": _BATCH_ROWS, **options})
    except own(pa.ArrowException, OSError, KeyError) as error:
        _refuse(source, "Parquet", error)
    rows = file.metadata.num_rows

    def counting() -> Iterator[tuple[Any, int]]:
        done = 0
        for batch in batches:
            done += batch.num_rows
            yield batch if columns is None else batch.select(columns), source.nbytes * done // max(1, rows)
            del batch

    return _reader(source, "Parquet", schema, counting())


def write_parquet(out: ReplacingFile, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.PythonFile(out, mode="w") as file, pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table, row_group_size=_GROUP_ROWS)


# Arrow IPC


def read_arrow(source: Source, columns: list[str] | None = None) -> Any:
    """A reader of an Arrow IPC file or stream; Feather files are the former."""
    import pyarrow as pa

    head = source.head(8)
    if head[:4] == _STREAM:
        return _read_stream(source, columns)
    if head[:4] == _FEATHER_1:
        raise ValueError(
            f"{source.path} is of version 1 of Feather, which is not read; write it anew with pyarrow.feather"
        )
    _check_ends(source, _ARROW, "Arrow IPC")
    try:
        # Not mapped: a file that shrinks would be the end of the process.
        file = pa.ipc.open_file(pa.OSFile(source.path), options=_chosen(columns, _schema_of(source)))
    except own(pa.ArrowException, OSError) as error:
        _refuse(source, "Arrow IPC", error)
    count = file.num_record_batches

    read = ((file.get_batch(at), source.nbytes * (at + 1) // count) for at in range(count))
    return _reader(source, "Arrow IPC", file.schema, read)


def _schema_of(source: Source) -> Any:
    import pyarrow as pa

    with pa.OSFile(source.path) as file:
        return pa.ipc.open_file(file).schema


def _chosen(columns: list[str] | None, schema: Any) -> Any:
    import pyarrow as pa

    if columns is None:
        return None
    return pa.ipc.IpcReadOptions(included_fields=[schema.names.index(name) for name in columns])


def _read_stream(source: Source, columns: list[str] | None) -> Any:
    import pyarrow as pa

    try:
        with pa.OSFile(source.path) as file:
            options = _chosen(columns, pa.ipc.open_stream(file).schema)
        file = pa.OSFile(source.path)
        stream = pa.ipc.open_stream(file, options=options)
    except own(pa.ArrowException, OSError) as error:
        _refuse(source, "an Arrow IPC stream", error)

    return _reader(source, "an Arrow IPC stream", stream.schema, ((batch, file.tell()) for batch in stream))


def write_arrow(out: ReplacingFile, table: pa.Table) -> None:
    import pyarrow as pa

    try:
        table = table.unify_dictionaries()  # a file has one for each column
    except own(pa.ArrowException):
        pass  # no dictionary that would have to be
    with pa.PythonFile(out, mode="w") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_GROUP_ROWS)


# CSV


#: what a column is tried as after a value did not fit
_WIDER = {
    "null": "int64",
    "int64": "double",
    "double": "string",
    "bool": "string",
    "date32[day]": "timestamp[s]",
    "timestamp[s]": "timestamp[ns]",
}
_DOES_NOT_FIT = re.compile(r"In CSV column #(\d+): .*conversion error to ([^:]+):")


def read_csv(source: Source, guessed: dict[str, str], **options: Any) -> Any:
    """A reader of a CSV file.

    Args:
        guessed: types of columns that were found out by reading it before; see ``widen``.
        options: those of ``ReadOptions``, ``ParseOptions`` and ``ConvertOptions`` of ``pyarrow.csv``.
    """
    import pyarrow as pa
    from pyarrow import csv

    given = [_some(kind, options) for kind in (csv.ReadOptions, csv.ParseOptions, csv.ConvertOptions)]
    if options:
        raise TypeError(f"a CSV file is not read with {', '.join(sorted(options))}")
    types = {name: pa.type_for_alias(alias) for name, alias in guessed.items()}
    given[2].column_types = {**types, **_as_types(given[2].column_types)}
    try:
        stream = csv.open_csv(pa.OSFile(source.path), *given)
    except own(pa.ArrowException, OSError) as error:
        _refuse(source, "CSV", error)

    # A batch comes of one block; the file itself is read ahead of that.
    blocks = ((batch, count * given[0].block_size) for count, batch in enumerate(stream, 1))
    return _reader(source, "CSV", stream.schema, blocks)


def _as_types(given: Any) -> dict[str, Any]:
    return {name: given[name] for name in given} if given else {}


def _some(kind: Callable[[], Any], options: dict[str, Any]) -> Any:
    """Options of one kind, taken out of those that were given."""
    made = kind()
    for name in [name for name in options if not name.startswith("_") and hasattr(made, name)]:
        setattr(made, name, options.pop(name))
    return made


def widen(error: BaseException | None, names: list[str], guessed: dict[str, str], fixed: Any) -> bool:
    """Note a wider type for the column in which a value did not fit; False when that is not what went wrong."""
    said = None
    while error is not None and said is None:
        said, error = _DOES_NOT_FIT.search(str(error)), error.__cause__
    if said is None or int(said[1]) >= len(names) or names[int(said[1])] in (fixed or {}):
        return False
    name, tried = names[int(said[1])], said[2]
    wider = _WIDER.get(tried, "string")
    if tried == "string" or guessed.get(name) == wider:
        return False
    guessed[name] = wider
    return True


def write_csv(out: ReplacingFile, table: pa.Table) -> None:
    import pyarrow as pa
    from pyarrow import csv

    with pa.PythonFile(out, mode="w") as file:
        csv.write_csv(table, file)
