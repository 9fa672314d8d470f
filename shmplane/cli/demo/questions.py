"""What the workers compute: each a part of the rows, straight from shared memory; the parent merges.

A partial answer is a count and a sum for each group, so merging is addition. An array is asked as a table of its
columns: its fields, the columns of a matrix, or all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

__all__ = ["MOST_GROUPS", "Partial", "Question", "agree", "choose_questions", "merge", "part_of", "partial_answer"]

MOST_GROUPS = 1000
_MOST_COLUMNS = 8
_LOOKED_AT = 100_000

#: rows and their sum, by group
Partial = dict[tuple[str, ...], tuple[int, float]]


class Question(NamedTuple):
    """Mean of ``value``, or how many rows, by the columns ``keys``; no keys: over all rows."""

    title: str
    keys: tuple[str, ...]
    value: str | None


class Group(NamedTuple):
    key: tuple[str, ...]
    rows: int
    mean: float | None


class Answer(NamedTuple):
    """Groups, those with the largest mean first; where there is none, with the largest count."""

    title: str
    groups: list[Group]


def choose_questions(value: Any) -> list[Question]:
    """For the flights those of the title; else by the text column with the fewest values, or of all rows."""
    head = _table_of(part_of(value, 0, row_count(value) // _LOOKED_AT + 1))
    if {"carrier", "dep_delay", "origin", "dest"} <= set(head.column_names):
        delay = Question("mean departure delay, minutes", ("carrier",), "dep_delay")
        return [delay, Question("busiest routes, flights", ("origin", "dest"), None)]
    columns = {name: _plain(head[name]) for name in head.column_names}
    measured = [name for name, of in columns.items() if kinds.is_floating(of.type) or kinds.is_integer(of.type)]
    texts = [name for name, of in columns.items() if kinds.is_string(of.type) or kinds.is_large_string(of.type)]
    groups = {name: pc.count_distinct(columns[name]).as_py() for name in texts}
    key = min((name for name in texts if 1 < groups[name] <= MOST_GROUPS), key=groups.__getitem__, default=None)
    if key is None:
        return [Question(f"mean of {name}", (), name) for name in measured[:_MOST_COLUMNS]]
    means = [Question(f"mean of {name} by {key}", (key,), name) for name in measured[:1]]
    return [*means, Question(f"rows by {key}", (key,), None)]


def row_count(value: Any) -> int:
    return int(value.shape[0]) if value.shape else 1


def part_of(value: Any, part: int, parts: int) -> Any:
    """The rows of one worker, without a copy."""
    start, stop = row_count(value) * part // parts, row_count(value) * (part + 1) // parts
    if hasattr(value, "column_names"):
        return value.slice(start, stop - start)
    return (value if value.shape else value.reshape(1))[start:stop]


def _table_of(value: Any) -> Any:
    if hasattr(value, "column_names"):
        return value
    if value.dtype.names:
        columns = {name: value[name] for name in value.dtype.names}
    elif value.ndim == 2 and value.shape[1] > 1:
        columns = {f"column {index}": value[:, index] for index in range(min(_MOST_COLUMNS, value.shape[1]))}
    else:
        columns = {"all": value.reshape(-1)}
    numbers = {name: column for name, column in columns.items() if column.ndim == 1 and column.dtype.kind in "iufb"}
    return pa.table({name: column.astype("f8", copy=False) for name, column in numbers.items()})


def _plain(column: Any) -> Any:
    """A dictionary column as its values; dictionaries of different chunks may differ."""
    return column.cast(column.type.value_type) if kinds.is_dictionary(column.type) else column


def partial_answer(rows: Any, question: Question) -> Partial:
    """Count and sum of each group in some of the rows; what is null or NaN does not count."""
    rows = _table_of(rows)
    keys = [f"key {index}" for index in range(len(question.keys))]
    columns = dict(zip(keys, (_plain(rows.column(name)) for name in question.keys), strict=True))
    values = pa.repeat(0.0, rows.num_rows)
    if question.value is not None:
        # A sum of whole numbers may not fit into one. A null is neither NaN nor not, so it is left out as well.
        values = pc.cast(rows.column(question.value), pa.float64(), safe=False)
    table = pa.table({**columns, "value": values}).filter(pc.invert(pc.is_nan(values)))
    if not keys:
        return {(): (table.num_rows, float(pc.sum(table["value"]).as_py() or 0.0))}
    wanted = [([], "count_all"), ("value", "sum")]
    found = table.group_by(keys, use_threads=False).aggregate(wanted).to_pydict()
    labels = [["(null)" if key is None else str(key) or "(empty)" for key in found[name]] for name in keys]
    return dict(zip(zip(*labels, strict=True), zip(found["count_all"], found["value_sum"], strict=True), strict=True))


def merge(question: Question, partials: Iterable[Partial]) -> Answer:
    """The answer for all rows; a mean is None when there is none, or it is too large for JSON."""
    totals: Partial = {}
    for key, (count, total) in (item for partial in partials for item in partial.items()):
        before = totals.get(key, (0, 0.0))
        totals[key] = before[0] + count, before[1] + total
    groups = []
    for key, (count, total) in totals.items():
        has_mean = question.value is not None and count > 0 and math.isfinite(total)
        groups.append(Group(key, count, total / count if has_mean else None))
    groups.sort(key=lambda group: (-(group.rows if group.mean is None else group.mean), group.key))
    return Answer(question.title, groups)


def agree(ours: Answer, theirs: Answer) -> bool:
    """The same groups and counts, and means up to rounding."""
    found = {group.key: group for group in theirs.groups}
    return len(ours.groups) == len(found) and all(
        group.key in found
        and group.rows == found[group.key].rows
        and math.isclose(group.mean or 0.0, found[group.key].mean or 0.0, rel_tol=1e-6, abs_tol=1e-6)
        for group in ours.groups
    )
