"""Indexes and labels of pandas: rows as Arrow columns behind the data, labels inside the recipe.

``{"range": [start, step]}`` needs no column (and has a ``"count"`` where no column says how many rows there are),
``{"how": how, "freq": text}`` one, ``{"levels": [how, ...]}`` one for each level of a MultiIndex, dictionary-encoded as
pandas has it (a categorical level by its categories, since Arrow cannot read a dictionary of a dictionary). Names are
packed labels: JSON's own values, with tuples and odd floats written as ``{"tuple": [...]}`` and ``{"float": text}``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from . import pandas_columns as columns
from .pandas_recipe import parse_recipe, text_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "labels_of",
    "pack_index",
    "pack_label",
    "pack_labels",
    "titles",
    "unpack_index",
    "unpack_label",
]


def pack_label(label: Any) -> Any:
    """A name or label as JSON, or ``UnsupportedValue``."""
    if label is None or isinstance(label, (str, bool, int)):
        return label
    if isinstance(label, tuple):
        return {"tuple": [pack_label(part) for part in label]}
    if isinstance(label, float):
        return float(label) if math.isfinite(label) else {"float": str(float(label))}
    item = getattr(label, "item", None)
    if item is not None and isinstance(item(), (str, bool, int, float)):
        return pack_label(item())
    raise UnsupportedValue(
        f"the name or label {label!r} of type {type(label).__name__} cannot be stored; use text or numbers",
        label=repr(label),
    )


def unpack_label(packed: Any) -> Any:
    """The name or label that was packed."""
    if not isinstance(packed, dict):
        return packed
    if "float" in packed:
        return float(packed["float"])
    return tuple(unpack_label(part) for part in packed["tuple"])


def titles(names: Sequence[Any], levels: Sequence[Any]) -> list[str]:
    """Arrow names for columns and index levels. They are for other readers; the recipe has the real ones."""
    level_names = [f"__index_level_{at}__" if name is None else name for at, name in enumerate(levels)]
    return [str(name).encode("utf-8", "replace").decode() for name in (*names, *level_names)]


def pack_index(index: Any) -> tuple[dict[str, Any], list[Any]]:
    """The recipe of an index and its Arrow columns."""
    import pandas as pd

    names = {"names": [pack_label(name) for name in index.names]}
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.step], **names}, []
    if isinstance(index, pd.MultiIndex):
        return _pack_levels(index, names)
    array, level = columns.level_to_arrow(index)
    return {**level, **names}, [array]


def _pack_levels(index: Any, names: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    import pandas as pd
    import pyarrow as pa

    arrays, hows = [], []
    for level, codes in zip(index.levels, index.codes, strict=True):
        categories = None
        if isinstance(level.dtype, pd.CategoricalDtype):
            categories, codes = level.dtype, _codes_of_categories(level, codes)
            level = level.categories
        values, how = columns.level_to_arrow(level)
        if categories is not None:
            how["ordered"] = bool(categories.ordered)
        arrays.append(pa.DictionaryArray.from_arrays(columns.codes_to_arrow(codes), values, safe=False))
        hows.append(how)
    return {"levels": hows, **names}, arrays


def _codes_of_categories(level: Any, codes: Any) -> Any:
    """Codes into a categorical level as codes into its categories."""
    import numpy as np

    within = np.append(level.codes, -1)  # a code of -1 is the last one: nothing
    return within[codes]


def _level_from_arrow(array: Any, said: dict[str, Any]) -> Any:
    import pandas as pd

    level = columns.level_from_arrow(array, said)
    if "ordered" not in said:
        return level
    return pd.CategoricalIndex(pd.Categorical.from_codes(range(len(level)), level, ordered=said["ordered"]))


def unpack_index(packed: dict[str, Any], arrays: Sequence[Any], num_rows: int) -> Any:
    """The index that was packed, of so many rows as there are now."""
    import pandas as pd

    names = [unpack_label(name) for name in packed["names"]]
    if "range" in packed:
        start, step = packed["range"]
        num_rows = num_rows or packed.get("count", 0)
        return pd.RangeIndex(start, start + num_rows * step, step, name=names[0])
    if "levels" not in packed:
        return columns.level_from_arrow(arrays[0], packed).rename(names[0])
    dictionaries = [columns.combined(array) for array in arrays]
    levels = [
        _level_from_arrow(array.dictionary, said) for array, said in zip(dictionaries, packed["levels"], strict=True)
    ]
    return pd.MultiIndex(levels, [columns.codes_from_arrow(array) for array in dictionaries], names=names)


def pack_labels(labels: Any) -> dict[str, Any]:
    """Column labels, whole, inside the recipe: as JSON where that is enough, else as a small Arrow stream."""
    import pandas as pd
    import pyarrow as pa

    if labels.dtype == object and not isinstance(labels, pd.MultiIndex):
        return {"labels": [pack_label(label) for label in labels], "names": [pack_label(labels.name)]}
    packed, arrays = pack_index(labels)
    if not arrays:
        return {**packed, "count": len(labels)}
    table = pa.Table.from_arrays(arrays, names=titles((), labels.names))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return {**packed, "stream": base64.b64encode(sink.getvalue()).decode()}


def labels_of(schema: pa.Schema) -> Any:
    """The column labels in a frame's recipe."""
    return _labels(text_of(schema)).view()  # a name that somebody gives it is his own


@lru_cache(maxsize=64)
def _labels(recipe: bytes) -> Any:
    return _unpack_labels(parse_recipe(recipe)["columns"])


def _unpack_labels(packed: dict[str, Any]) -> Any:
    import pandas as pd
    import pyarrow as pa

    if "labels" in packed:
        labels = [unpack_label(label) for label in packed["labels"]]
        return pd.Index(labels, dtype=object, name=unpack_label(packed["names"][0]), tupleize_cols=False)
    if "stream" not in packed:
        return unpack_index(packed, [], packed["count"])
    table = pa.ipc.open_stream(base64.b64decode(packed["stream"])).read_all()
    table.validate(full=True)
    return unpack_index(packed, table.columns, table.num_rows)
