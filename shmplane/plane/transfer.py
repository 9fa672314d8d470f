"""Files to blocks and back: ``plane.load`` and ``plane.save``.

A file is never held twice, and hardly once: arrays are read into the warm memory of their block, or into a fresh one a piece
at a time; tables come a batch at a time (see ``blocks.streaming``), and a dict of arrays is one tree whose leaves are read
when they are written. A file that is written takes the place of the old one when it is whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import files
from ..codecs import Encoded, EncodedBytes, Sink, TableStream, describe_array, encode_tree, room_in
from ..errors import UnsupportedValue
from ..names import check_block_name
from ..system import own
from .blocks import Block, Outgrown, Target, put, put_stream

if TYPE_CHECKING:
    from ..files import OnProgress, Pieces, Source
    from .blocks.claims import Lease
    from .process.attachment import Attachment

__all__ = ["load", "save"]

_TAKEN = {
    "npy": (),
    "npz": (),
    "safetensors": (),
    "raw": ("dtype", "shape"),
    "arrow": ("columns",),
    "feather": ("columns",),
}
_MOST_GUESSES = 200  #: of the types of a CSV file's columns


class _FromFile:
    """What is read from a file when it is written to a block."""

    whole = None

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self.nbytes: int = pieces.nbytes
        if pieces.dtype is None:
            self.kind, self.frame = "bytes", EncodedBytes(None, pieces.nbytes).frame
        else:
            self.kind = "array"
            self.frame = describe_array(pieces.dtype, pieces.shape, is_fortran=pieces.is_fortran)[0]

    def write_to(self, sink: Sink) -> None:
        if not self.nbytes:
            return
        room = room_in(sink, 0, self.nbytes)
        with self._pieces.reading() as fill:
            if room is not None:
                fill(room)
                return
            held = memoryview(bytearray(min(files.PIECE_NBYTES, self.nbytes)))
            for offset in range(0, self.nbytes, len(held)):
                piece = held[: self.nbytes - offset]
                fill(piece)
                sink.write(offset, piece)


def load(
    attachment: Attachment,
    name: str,
    path: Any,
    *,
    format: str | None,
    progress: OnProgress,
    options: dict[str, Any],
) -> Lease:
    """Read a file into a block."""
    target, path = Target(check_block_name(name)), os.fsdecode(path)
    found = files.format_of(path, format)
    taken = _TAKEN.get(found.name)
    unknown = sorted(options if taken is None else options.keys() - set(taken))
    if unknown and taken is not None:
        raise TypeError(f"a file of format {found.name} is not read with {', '.join(unknown)}")
    source = files.Source(path, progress)
    try:
        lease = (_load_table if found.is_table else _load_value)(attachment, target, source, found.name, options)
        source.report_all()
        return lease
    finally:
        source.close()


def _load_value(attachment: Attachment, target: Target, source: Source, name: str, options: dict[str, Any]) -> Lease:
    found = _read(source, name, options)
    encoded: Encoded
    if isinstance(found, dict):
        encoded = encode_tree({key: _FromFile(pieces) for key, pieces in found.items()}, _never)
    else:
        encoded = _FromFile(found)
    return put(attachment, encoded, target)


def _read(source: Source, name: str, options: dict[str, Any]) -> Pieces | dict[str, Pieces]:
    if name == "npy":
        return files.read_npy(source)
    if name == "raw":
        return files.read_raw(source, **options)
    return files.read_npz(source) if name == "npz" else files.read_safetensors(source)


def _never(leaf: Any) -> Encoded:
    raise AssertionError(f"every leaf is described, but not {leaf!r}")


def _load_table(attachment: Attachment, target: Target, source: Source, name: str, options: dict[str, Any]) -> Lease:
    if name == "csv":
        return _load_csv(attachment, target, source, options)
    read = files.read_parquet if name == "parquet" else files.read_arrow
    return _put_stream(attachment, target, source, lambda: read(source, **options))


def _put_stream(attachment: Attachment, target: Target, source: Source, read: Callable[[], Any]) -> Lease:
    """Put what ``read`` gives; it is called again when there was too little memory behind a good guess."""
    try:
        return put_stream(attachment, TableStream(read(), source.share), target)
    except own(Outgrown):
        return put_stream(attachment, TableStream(read()), target)


def _load_csv(attachment: Attachment, target: Target, source: Source, options: dict[str, Any]) -> Lease:
    guessed: dict[str, str] = {}
    for _ in range(_MOST_GUESSES):
        names: list[str] = []

        def read(names: list[str] = names) -> Any:
            reader = files.read_csv(source, guessed, **options)
            names[:] = reader.schema.names
            return reader

        try:
            return _put_stream(attachment, target, source, read)
        except own(ValueError) as error:
            if not files.widen(error, names, guessed, options.get("column_types")):
                raise
    return put_stream(attachment, TableStream(files.read_csv(source, guessed, **options)), target)


def save(block: Block, path: Any, format: str | None = None) -> None:
    """Write a block to a file, which takes the place of the one that is there."""
    path = os.fsdecode(path)
    found = files.format_of(path, format)
    if found.is_table:
        _save_table(block, path, found.name)
    elif found.name in {"npz", "safetensors"}:
        arrays = _arrays_of(block, path)
        with files.writing(path) as out:
            (files.write_npz if found.name == "npz" else files.write_safetensors)(out, arrays)
    else:
        array = _array_of(block, path, found.name)
        with files.writing(path) as out:
            (files.write_npy if found.name == "npy" else files.write_raw)(out, array)


def _save_table(block: Block, path: str, name: str) -> None:
    table = block.table()
    write = {"parquet": files.write_parquet, "csv": files.write_csv}.get(name, files.write_arrow)
    with files.writing(path) as out:
        import pyarrow as pa

        try:
            write(out, table)
        except own(pa.ArrowException, NotImplementedError) as error:
            raise UnsupportedValue(f"a {name} file cannot have this table: {error}", kind=block.kind) from error


def _array_of(block: Block, path: str, name: str) -> Any:
    if block.kind in {"array", "mutable"}:
        return block.array()
    if name == "raw" and block.kind in {"bytes", "json"}:
        import numpy as np

        return np.frombuffer(block.buffer(), np.uint8)
    raise UnsupportedValue(
        f"{path}: a {name} file holds an array{' or bytes' if name == 'raw' else ''}, and block {block.name!r} is of kind "
        f"{block.kind}; save tables as .parquet, .arrow or .csv, and trees of arrays as .npz or .safetensors",
        kind=block.kind,
    )


def _arrays_of(block: Block, path: str) -> dict[str, Any]:
    import numpy as np

    value = block.value() if block.kind in {"tree", "array"} else None
    if isinstance(value, np.ndarray):
        return {"arr_0": value}
    if isinstance(value, dict) and all(isinstance(leaf, np.ndarray) for leaf in value.values()):
        return dict(value)
    raise UnsupportedValue(
        f"{path}: such a file holds a dict of arrays by name, and block {block.name!r} is of kind {block.kind} "
        f"{'with other leaves, or containers within it' if block.kind == 'tree' else ''}; put such a dict and save that",
        kind=block.kind,
    )
