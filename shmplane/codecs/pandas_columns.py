"""One pandas column as one Arrow array, and back.

``to_arrow`` gives the array and a JSON value ``how``; ``from_arrow`` turns both into what pandas had. ``how`` is
one of ``{"numpy": dtype}``, ``{"object": "none" or "nan"}``, ``{"categories": level, "ordered": bool}``,
``{"interval": closed, "of": how}``, ``{"string": storage, "nan": bool}``, ``{"arrow": null}`` (the Arrow type
is the dtype) and ``{"dtype": name}`` (with ``"zone"`` when its zone is of ``zoneinfo``). A level (the values of an
index, or categories) is ``{"how": how, "freq": name or null}``.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from typing import Any

from ..errors import UnsupportedValue
from ..system import ignoring, own

__all__ = [
    "codes_from_arrow",
    "codes_to_arrow",
    "combined",
    "from_arrow",
    "level_from_arrow",
    "to_arrow",
    "level_to_arrow",
    "values_of",
]

How = dict[str, Any]

SLICE_ROWS = 65_536  #: of Python objects that are compared at a time


def values_of(column: Any) -> Any:
    """The ndarray or extension array behind a Series or Index, without a copy."""
    import numpy as np

    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def to_arrow(values: Any, name: Any) -> tuple[Any, How]:
    """The Arrow array of a column and how to get back, or ``UnsupportedValue`` naming the column."""
    import numpy as np
    import pyarrow as pa

    try:
        return _numpy_to_arrow(values) if isinstance(values, np.ndarray) else _extension_to_arrow(values)
    except own(pa.ArrowException, TypeError, ValueError, NotImplementedError, OverflowError) as error:
        raise UnsupportedValue(
            f"column {name!r} of dtype {values.dtype} cannot be stored: {error}. "
            f"Convert it to one type that Arrow has.",
            column=name,
        ) from error


def _numpy_to_arrow(values: Any) -> tuple[Any, How]:
    import numpy as np
    import pyarrow as pa

    how = {"numpy": values.dtype.str}
    if values.dtype == object:
        return _objects_to_arrow(values)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "c":
        halves = np.ascontiguousarray(native).view(f"f{native.itemsize // 2}")
        return pa.FixedSizeListArray.from_arrays(pa.array(halves, from_pandas=False), 2), how
    return pa.array(native, from_pandas=False), how


def _objects_to_arrow(values: Any) -> tuple[Any, How]:
    """Python objects of one type that Arrow gives back as they were: text, bytes, numbers, dates, decimals,
    lists of them.

    What is missing must be missing in one way, None or a float's NaN, so that it can be put back.
    """
    import pandas as pd
    import pyarrow as pa

    missing = set(map(type, values[pd.isna(values)].tolist()))
    if len(missing) > 1 or missing - {float, type(None)}:
        raise TypeError(f"it marks what is missing by {', '.join(sorted(kind.__name__ for kind in missing))}")
    array: Any
    array, how = pa.array(values, from_pandas=True), {"object": "nan" if float in missing else "none"}
    if array.type == pa.null():
        # A dictionary of nulls is a type that Arrow can write but not read.
        array = array.cast(pa.string())
    column = pa.chunked_array(array.chunks if isinstance(array, pa.ChunkedArray) else [array])
    for start in range(0, len(values), SLICE_ROWS):
        before = values[start : start + SLICE_ROWS]
        _compare_objects(before, _objects_from_arrow(column.slice(start, SLICE_ROWS), how), array.type)
    return array, how


def _compare_objects(before: Any, after: Any, kind: Any) -> None:
    import pandas as pd

    there = ~pd.isna(before)
    kept, back = before[there].tolist(), after[there].tolist()
    if list(map(type, kept)) != list(map(type, back)) or kept != back:
        mixed = ", ".join(sorted({type(value).__name__ for value in kept}))
        raise TypeError(f"its Python objects ({mixed}) would come back from Arrow as {kind}")


def _extension_to_arrow(values: Any) -> tuple[Any, How]:
    import pandas as pd
    import pyarrow as pa

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _categorical_to_arrow(values)
    if isinstance(dtype, pd.IntervalDtype):
        return _interval_to_arrow(values)
    if isinstance(dtype, pd.StringDtype):
        return pa.array(values), {
            "string": dtype.storage,
            "nan": getattr(dtype, "na_value", pd.NA) is not pd.NA,
        }
    if isinstance(dtype, pd.ArrowDtype):
        return pa.array(values), {"arrow": None}
    how = {"dtype": str(dtype)}
    if isinstance(dtype, pd.DatetimeTZDtype) and isinstance(dtype.tz, zoneinfo.ZoneInfo):
        how["zone"] = dtype.tz.key  # pandas 2 would make another kind of zone from the name
    return _named_to_arrow(values, how), how


def _dtype_of(how: How) -> Any:
    import pandas as pd

    dtype: Any = pd.api.types.pandas_dtype(how["dtype"])
    return pd.DatetimeTZDtype(dtype.unit, zoneinfo.ZoneInfo(how["zone"])) if "zone" in how else dtype


def _named_to_arrow(values: Any, how: How) -> Any:
    """What pandas can make again from the name of its dtype."""
    import pandas as pd
    import pyarrow as pa

    dtype = values.dtype
    if isinstance(dtype, pd.SparseDtype):
        raise TypeError("Arrow has no sparse columns; make it dense")
    if _dtype_of(how) != dtype:
        raise TypeError("pandas cannot make this dtype again from its name")
    if isinstance(dtype, pd.DatetimeTZDtype):
        ticks = pa.array(values.asi8.view(f"M8[{dtype.unit}]"))
        return ticks.view(pa.timestamp(dtype.unit, str(dtype.tz)))
    if isinstance(dtype, pd.PeriodDtype):
        return pa.array(values.asi8)
    if not hasattr(dtype, "__from_arrow__"):
        raise TypeError("Arrow has no counterpart")
    return pa.array(values)


def _categorical_to_arrow(values: Any) -> tuple[Any, How]:
    import pyarrow as pa

    categories, how = level_to_arrow(values.categories, "categories")
    indices = codes_to_arrow(values.codes)
    array = pa.DictionaryArray.from_arrays(indices, categories, ordered=values.ordered, safe=False)
    return array, {"categories": how, "ordered": bool(values.ordered)}


def level_to_arrow(index: Any, name: Any = "index") -> tuple[Any, How]:
    """The Arrow array, in one piece, of an index that is not a MultiIndex."""
    array, how = to_arrow(values_of(index), name)
    return combined(array), {"how": how, "freq": _freq_text(index)}


def _freq_text(index: Any) -> str | None:
    """The name of a time index's frequency, if pandas understands it again."""
    import pandas as pd

    if not isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) or index.freq is None:
        return None
    try:
        understood = pd.tseries.frequencies.to_offset(index.freqstr) == index.freq
    except own(ValueError):
        return None
    return index.freqstr if understood else None


def level_from_arrow(array: Any, said: How) -> Any:
    """The index that ``level_to_arrow`` was given, without its name."""
    import pandas as pd

    values = from_arrow(array, said["how"])
    # Without a dtype pandas would look into the objects and choose another.
    index = pd.Index(values, dtype=values.dtype, copy=False)
    if said["freq"] is not None:
        # Rows that were appended may not go on with it.
        with ignoring(ValueError):
            index.freq = pd.tseries.frequencies.to_offset(said["freq"])
    return index


def codes_to_arrow(codes: Any) -> Any:
    """Codes as indices: -1 stays in the buffer under a null, so that the codes come back without a copy."""
    import pyarrow as pa

    present = pa.array(codes >= 0).buffers()[1] if len(codes) and codes.min() < 0 else None
    plain = pa.array(codes)
    return pa.Array.from_buffers(plain.type, len(plain), [present, plain.buffers()[1]])


def _interval_to_arrow(values: Any) -> tuple[Any, How]:
    import pyarrow as pa

    left, how = to_arrow(values_of(values.left), "left")
    right, _ = to_arrow(values_of(values.right), "right")
    array = pa.StructArray.from_arrays([combined(left), combined(right)], names=["left", "right"])
    return array, {"interval": values.closed, "of": how}


def from_arrow(column: Any, how: How) -> Any:
    """What pandas had, over the column's memory where that is possible."""
    return _FROM_ARROW[next(iter(how))](column, how)


def combined(column: Any) -> Any:
    """The column in one piece, which it is unless it was put in many."""
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    joined = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def buffer_of(array: Any, dtype: Any) -> Any:
    """The values of a fixed-width array as a read-only ndarray; under a null lies whatever was put there."""
    import numpy as np

    dtype = np.dtype(dtype)
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _numpy_from_arrow(column: Any, how: How) -> Any:
    import numpy as np

    array, dtype = combined(column), np.dtype(how["numpy"])
    if dtype.kind == "b":
        return array.to_numpy(zero_copy_only=False)
    if dtype.kind == "c":
        halves = f"f{dtype.itemsize // 2}"
        return buffer_of(array.flatten(), halves).view(dtype.newbyteorder("=")).astype(dtype, copy=False)
    return buffer_of(array, dtype.newbyteorder("=")).astype(dtype, copy=False)


def _objects_from_arrow(column: Any, how: How) -> Any:
    import numpy as np

    objects = np.empty(len(column), object)
    objects[:] = column.to_pylist()
    if how["object"] == "nan":
        objects[column.is_null().to_numpy()] = np.nan
    return objects


def _categorical_from_arrow(column: Any, how: How) -> Any:
    import pandas as pd

    array = combined(column)
    dtype = pd.CategoricalDtype(level_from_arrow(array.dictionary, how["categories"]), how["ordered"])
    return pd.Categorical.from_codes(codes_from_arrow(array), dtype=dtype)


def codes_from_arrow(array: Any) -> Any:
    """The codes of a dictionary array, -1 where there is none."""
    indices = array.indices
    return buffer_of(indices, indices.type.to_pandas_dtype())


def _interval_from_arrow(column: Any, how: How) -> Any:
    import pandas as pd

    left, right = combined(column).flatten()
    return pd.arrays.IntervalArray.from_arrays(
        from_arrow(left, how["of"]), from_arrow(right, how["of"]), how["interval"]
    )


def _string_from_arrow(column: Any, how: How) -> Any:
    import numpy as np
    import pandas as pd

    dtype = pd.StringDtype(how["string"], na_value=np.nan) if how["nan"] else pd.StringDtype(how["string"])
    return dtype.__from_arrow__(column)


def _arrow_from_arrow(column: Any, _: How) -> Any:
    import pandas as pd

    return pd.ArrowDtype(column.type).__from_arrow__(column)


def _named_from_arrow(column: Any, how: How) -> Any:
    import pandas as pd

    dtype = _dtype_of(how)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pd.array(buffer_of(combined(column), "i8"), dtype=dtype, copy=False)
    if isinstance(dtype, pd.PeriodDtype):
        return pd.arrays.PeriodArray(buffer_of(combined(column), "i8"), dtype=dtype)
    kind = {"i": pd.arrays.IntegerArray, "u": pd.arrays.IntegerArray, "f": pd.arrays.FloatingArray}.get(dtype.kind)
    if kind is None or not hasattr(dtype, "numpy_dtype"):
        return dtype.__from_arrow__(column)
    array = combined(column)
    return kind(buffer_of(array, dtype.numpy_dtype), array.is_null().to_numpy(zero_copy_only=False))


_FROM_ARROW: dict[str, Callable[[Any, How], Any]] = {
    "numpy": _numpy_from_arrow,
    "object": _objects_from_arrow,
    "categories": _categorical_from_arrow,
    "interval": _interval_from_arrow,
    "string": _string_from_arrow,
    "arrow": _arrow_from_arrow,
    "dtype": _named_from_arrow,
}
