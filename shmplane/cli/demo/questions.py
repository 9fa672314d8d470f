"""What the workers compute: each a part of the rows, straight from shared memory; the parent merges.

A partial answer is a count and a sum for each group, so merging is addition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["Answer", "Partial", "Question", "choose_questions", "merge", "part_of", "partial_answer"]

_MOST_GROUPS = 1000
_MOST_COLUMNS = 8
_LOOKED_AT = 100_000


class Question(NamedTuple):
    """Mean of ``value``, or how many rows, by the columns ``keys``; no keys: over all rows."""

    title: str
    keys: tuple[str, ...]
    value: str | None


Partial = dict[tuple[str, ...], tuple[int, float]]


class Answer(NamedTuple):
    """Groups with their count and mean: largest mean first, or largest count first when there is no mean."""

    title: str
    groups: list[tuple[tuple[str, ...], int, float | None]]


def choose_questions(value: Any) -> list[Question]:
    """For the flights those of the title, for other data what its columns allow."""
    if not hasattr(value, "column_names"):
        return [Question(f"mean of {name}", (), name) for name in _numeric_parts(value)]
    names = set(value.column_names)
    if {"carrier", "dep_delay", "origin", "dest"} <= names:
        return [
            Question("mean departure delay, minutes", ("carrier",), "dep_delay"),
            Question("busiest routes, flights", ("origin", "dest"), None),
        ]
    key, numeric = _grouping_column(value), _numeric_columns(value)
    if key is None:
        return [Question(f"mean of {name}", (), name) for name in numeric[:_MOST_COLUMNS]]
    questions = [Question(f"rows by {key}", (key,), None)]
    measured = next((name for name in numeric if name != key), None)
    if measured is not None:
        questions.insert(0, Question(f"mean of {measured} by {key}", (key,), measured))
    return questions


def _grouping_column(table: Any) -> str | None:
    """The text column with the fewest values; else a whole-number column with few."""
    import pyarrow as pa
    import pyarrow.compute as pc

    candidates: list[tuple[bool, int, str]] = []
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if is_text or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            column = _plain(table.column(field.name).slice(0, _LOOKED_AT))
            candidates.append((not is_text, pc.count_distinct(column).as_py(), field.name))
    return next((name for _, distinct, name in sorted(candidates) if 1 < distinct <= _MOST_GROUPS), None)


def _numeric_columns(table: Any) -> list[str]:
    import pyarrow as pa

    return [field.name for field in table.schema if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)]


def _plain(column: Any) -> Any:
    """A dictionary column as its values; dictionaries of different chunks may differ."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _numeric_parts(array: Any) -> dict[str, Any]:
    """The columns of an array that have a mean: fields, the columns of a matrix, or all of it."""
    if array.dtype.names:
        return {name: array[name] for name in array.dtype.names if array[name].dtype.kind in "iuf"}
    if array.dtype.kind not in "iufb":
        return {}
    if array.ndim == 2 and array.shape[1] > 1:
        return {f"column {index}": array[:, index] for index in range(min(_MOST_COLUMNS, array.shape[1]))}
    return {"all": array}


def part_of(value: Any, part: int, parts: int) -> Any:
    """The rows of one worker, without a copy."""
    rows = len(value) if getattr(value, "shape", None) else 1
    start, stop = rows * part // parts, rows * (part + 1) // parts
    if hasattr(value, "column_names"):
        return value.slice(start, stop - start)
    return value.reshape(-1)[start:stop] if not value.shape else value[start:stop]


def partial_answer(rows: Any, question: Question) -> Partial:
    """Count and sum of each group in some of the rows; what is null or NaN does not count."""
    if not hasattr(rows, "column_names"):
        import numpy as np

        found = _numeric_parts(rows)[question.value or "all"]
        kept = found[~np.isnan(found)] if found.dtype.kind == "f" else found
        return {(): (int(kept.size), float(kept.sum(dtype=np.float64)))}
    return _partial_of_table(rows, question)


def _partial_of_table(rows: Any, question: Question) -> Partial:
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = [f"key {index}" for index in range(len(question.keys))]
    columns = dict(zip(keys, (_plain(rows.column(name)) for name in question.keys), strict=True))
    if question.value is not None:
        # A sum of whole numbers may not fit into one.
        columns["value"] = pc.cast(rows.column(question.value), pa.float64(), safe=False)
    table = pa.table(columns)
    if question.value is not None:
        # A null is neither NaN nor not, so it is left out as well.
        table = table.filter(pc.invert(pc.is_nan(table["value"])))
    if not keys:
        return {(): (table.num_rows, float(pc.sum(table["value"]).as_py() or 0.0))}
    wanted = [("value", "sum")] if question.value is not None else []
    found = table.group_by(keys, use_threads=False).aggregate([([], "count_all"), *wanted])
    sums = found["value_sum"].to_pylist() if wanted else [0.0] * found.num_rows
    names = zip(*(map(_label, found[key].to_pylist()) for key in keys), strict=True)
    return dict(zip(names, zip(found["count_all"].to_pylist(), sums, strict=True), strict=True))


def _label(value: Any) -> str:
    return "(null)" if value is None else str(value) or "(empty)"


def merge(question: Question, partials: Iterable[Partial]) -> Answer:
    """The answer for all rows."""
    totals: Partial = {}
    for partial in partials:
        for group, (number, total) in partial.items():
            before = totals.get(group, (0, 0.0))
            totals[group] = before[0] + number, before[1] + total
    groups = [
        (group, number, _mean(number, total) if question.value is not None else None)
        for group, (number, total) in totals.items()
    ]
    by_mean = question.value is not None
    groups.sort(key=lambda row: (-(row[2] if by_mean and row[2] is not None else row[1]), row[0]))
    return Answer(question.title, groups)


def _mean(number: int, total: float) -> float | None:
    """None: there is none, or it is too large for JSON."""
    mean = total / number if number else math.nan
    return mean if math.isfinite(mean) else None
