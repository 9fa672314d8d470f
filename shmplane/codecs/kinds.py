"""The codecs by kind, and what is asked of whichever a block has: storing, showing, converting, describing.

All that differs from kind to kind is in one object each: another kind is another object here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ShmplaneError, UnsupportedValue
from ..system import late, own
from . import array, composed, convert, document, origin, pickled, raw, records, table
from .base import CAN_STORE, Encoded, Memory
from .choose import (
    encode_by_rank,
    encode_named_array,
    encode_named_bytes,
    encode_named_table,
    encode_named_tree,
)
from .codec import Codec, Description
from .envelope import corrupt
from .libraries import with_cure
from .rows import rows_from

if TYPE_CHECKING:
    import pyarrow as pa

    from . import torch_, tree
    from . import tree_reading as reading
    from .composed import Part
else:
    torch_ = late("shmplane.codecs.torch_")
    tree = late("shmplane.codecs.tree")
    reading = late("shmplane.codecs.tree_reading")

__all__ = [
    "AS_KINDS",
    "KINDS",
    "CODECS",
    "as_kind",
    "as_table",
    "as_tensors",
    "check_as",
    "check_values",
    "describe",
    "encode",
    "encode_rows",
    "open_table",
    "present",
    "tree_over",
]

AS_KINDS = ("array", "numpy", "arrow", "pandas", "polars", "bytes", "python", "torch")


def _describe_array(frame: bytes) -> Description:
    shape, dtype = array.parse_shape(frame)
    return Description("array", shape, None, dtype)


def _describe_table(frame: bytes) -> Description:
    said = composed.composition_of(frame)
    return Description("table", (said.num_rows, len(said.columns)), said.origin, said.schema)


def _tensor_of_bytes(frame: bytes, _: Memory, body: memoryview) -> Any:
    import numpy as np

    return torch_.tensor_of(np.frombuffer(body, np.uint8, raw.parse_length(frame)))


class Codecs(dict[str, Codec]):
    """The codec of each kind; ``PlaneCorrupt`` for a kind that there is not."""

    def __missing__(self, kind: str) -> NoReturn:
        corrupt(f"it is of kind {kind!r}, which this version does not know")


CODECS = Codecs(
    (codec.kind, codec)
    for codec in (
        Codec(
            "array",
            encode_named_array,
            array.open_array,
            array.present_array,
            _describe_array,
            convert.ARRAY_FORMS,
            lambda frame, _, body: torch_.tensor_of_words(*array.words_over(frame, body)),
        ),
        Codec(
            "table",
            encode_named_table,
            origin.open_table_root,
            origin.present_table,
            _describe_table,
            convert.TABLE_FORMS,
        ),
        Codec(
            "bytes",
            encode_named_bytes,
            raw.open_bytes,
            raw.present_bytes,
            lambda frame: Description("bytes", (raw.parse_length(frame),)),
            convert.BYTES_FORMS,
            _tensor_of_bytes,
        ),
        Codec(
            "json",
            document.encode_document,
            document.open_document,
            document.present_document,
            lambda _: Description("json"),
            convert.JSON_FORMS,
        ),
        Codec(
            "pickle",
            pickled.encode_pickle,
            pickled.open_pickle,
            pickled.present_pickle,
            lambda _: Description("pickle"),
            {"python": pickled.present_pickle},
        ),
        Codec(
            "tree",
            encode_named_tree,
            lambda frame, memory, _=(): reading.open_tree(frame, memory),
            lambda root: reading.present_tree(root),  # noqa: PLW0108 - it is loaded by the first call
            lambda frame: Description("tree", leaves=tree.parse_tree(frame).leaves),
            {"python": lambda root: reading.tree_as_python(root)},  # noqa: PLW0108
            lambda frame, memory, body: reading.tree_of_tensors(reading.open_tree(frame, memory), body),
        ),
        Codec(
            "records",
            records.encode_records,
            records.open_records,
            records.present_records,
            lambda frame: Description("records", (records.count_of(frame),)),
            {"python": records.records_as_python},
        ),
    )
)
KINDS = tuple(CODECS)


def encode(value: Any, codec: str | None = None) -> Encoded:
    """Describe ``value`` for storing, by the first codec that takes it, or by the one named.

    Args:
        value: any of the kinds in the public contract.
        codec: ``"array"``, ``"table"``, ``"bytes"``, ``"json"``, ``"tree"`` or ``"pickle"``; None chooses any but pickle.

    Raises:
        UnsupportedValue: no codec takes it, or not the one named; the message says which kinds there are.
        ValueError: there is no codec of that name.
    """
    if codec is None:
        return encode_by_rank(value)
    if codec not in CODECS:
        raise ValueError(f"there is no codec {codec!r}; there are {', '.join(KINDS)}")
    encoded = CODECS[codec].encode(value)
    if encoded is None:
        raise UnsupportedValue(
            f"{type(value).__name__} cannot be stored as {codec}. {CAN_STORE}", type=type(value).__name__
        )
    return encoded


def encode_rows(rows: Any) -> Encoded:
    """Describe rows that begin an array, when they are one by the order of the contract, or else a table."""
    if not isinstance(rows, (dict, list, tuple, str, bytes)):
        encoded = encode(rows)
        if encoded.kind in {"table", "records"} or (encoded.kind == "array" and array.parse_shape(encoded.frame)[0]):
            return encoded
    return encode(rows_from(rows), "table")


def present(kind: str, root: Any) -> Any:
    """A view or decoded value for one reader. ``pickle`` runs code: the caller checks trust first."""
    return CODECS[kind].present(root)


def check_values(kind: str, root: Any) -> None:
    """Read every value of the tables in a root of doubtful origin; ``PlaneCorrupt`` when one is out of bounds."""
    tables: Iterable[Any] = [root] if kind == "table" else []
    if kind in {"tree", "records"}:
        trees = [root] if kind == "tree" else records.trees_of_records(root)
        tables = (found for tree in trees for found in reading.tables_of_tree(tree))
    for found in tables:
        table.check_table(getattr(found, "table", found))


def describe(kind: str, frame: bytes) -> Description:
    """What ``frame`` says of a block of ``kind``, or ``PlaneCorrupt``. Cost: about 2 µs."""
    return CODECS[kind].describe(frame)


def open_table(
    frame: bytes, memory: Memory, columns: Sequence[str] | None = None, *, parts: Sequence[Part] = ()
) -> pa.Table:
    """The Arrow table of a block, whatever it came from, or just ``columns`` of it, in that order.

    Raises:
        ValueError: there is no column of that name, or more than one.
    """
    if composed.is_composed(frame):
        return composed.read_composed(frame, parts, columns)
    return table.read_table(frame, memory, columns)


def check_as(as_: str) -> None:
    """``ValueError`` unless there is an ``as_`` of that name."""
    if as_ not in AS_KINDS:
        raise ValueError(f"as_={as_!r}: choose one of {', '.join(AS_KINDS)}")


def as_kind(kind: str, root: Any, as_: str) -> Any:
    """The block of ``root`` as ``as_``. ``pickle`` as ``python`` runs code: the caller checks trust first.

    Raises:
        ValueError: there is no ``as_`` of that name.
        UnsupportedValue: this value has no such form; the message says which it has.
    """
    check_as(as_)
    form = CODECS[kind].forms.get("array" if as_ == "numpy" else as_)
    if form is None:
        _refuse(kind, as_, "it has no such form")
    return _converted(kind, as_, form, root)


def as_tensors(kind: str, frame: bytes, memory: Memory, body: Callable[[], memoryview]) -> Any:
    """What ``as_="torch"`` gives of a block whose elements can be shown by tensors; None: its root may have such a form.

    Args:
        body: gives a private, writable copy of the body, which the tensors keep.
    """
    tensors = CODECS[kind].tensors
    if tensors is None:
        return None
    return _converted(kind, "torch", lambda private: tensors(frame, memory, private), body())


def tree_over(root: Any, buffer: memoryview) -> Any:
    """The containers of a tree, with arrays over ``buffer``, which has the bytes of its body; they are written in place."""
    return reading.tree_over(root, buffer)


def _converted(kind: str, as_: str, form: Callable[[Any], Any], root: Any) -> Any:
    try:
        return form(root)
    except own(convert.NoForm) as error:
        _refuse(kind, as_, str(error))
    except own(ModuleNotFoundError) as error:
        raise with_cure(error) from None
    except own(ValueError, TypeError, NotImplementedError, OverflowError) as error:
        # What a pickle's own code raises is its user's; the rest is a library that cannot convert this value.
        if kind == "pickle" or isinstance(error, ShmplaneError):
            raise
        _refuse(kind, as_, str(error), error)


def as_table(kind: str, root: Any) -> pa.Table:
    """The block of ``root`` as a table; an array of one dimension is a table of one column, ``value``."""
    import pyarrow as pa

    if kind == "table":
        return convert.table_of(root)
    if kind != "array":
        raise UnsupportedValue(
            f"a block of kind {kind!r} is no table. A table is had from tables and from arrays.", kind=kind
        )
    found = as_kind(kind, root, "arrow")
    return found if isinstance(found, pa.Table) else pa.Table.from_arrays([found], names=["value"])


def _refuse(kind: str, as_: str, why: str, cause: Exception | None = None) -> NoReturn:
    possible = ", ".join(CODECS[kind].possible)
    raise UnsupportedValue(
        f"a block of kind {kind!r} cannot be had as_={as_!r}: {why}. Possible: {possible}.", kind=kind, as_=as_
    ) from cause
