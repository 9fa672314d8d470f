"""Blocks to another host and back, over Arrow Flight: ``plane.pull``, and what ``shmplane serve`` sends.

A table comes in batches, which are written while they come, as those of a file are (see ``blocks.streaming``). Anything else
comes as its bytes, which go straight to a segment of the size that the server said. In neither way is the block held twice,
and one that does not come whole is not put.

What comes is checked as any bytes from a stranger: a frame against its body, every value of a table, before the block has
its name. A pickle is taken by those alone who read pickles of this plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..codecs import CODECS, Memory, Sink, TableStream, check_origin, check_table, check_values, nbytes_of
from ..errors import PlaneCorrupt, UnsafeCodec, UnsupportedValue
from ..flight import Outgoing, Request, Said, check_columns, open_stream
from ..names import check_block_name
from ..system import own
from .blocks import Block, Target, put_checked, put_stream

if TYPE_CHECKING:
    import pyarrow as pa

    from ..files import StrPath
    from ..flight import Incoming
    from .blocks.claims import Lease
    from .process.attachment import Attachment

__all__ = ["outgoing", "pull"]


def pull(  # noqa: PLR0917 - of ``plane.pull``, passed on
    attachment: Attachment,
    url: str,
    name: str,
    columns: Sequence[str] | None,
    token: str | None,
    tls_ca: StrPath | None,
    timeout: float | None,
    trust_pickle: bool,
) -> Lease:
    """Get a block from a server and put it under the same name."""
    target = Target(check_block_name(name))
    request = Request(name, check_columns(columns))
    certificates = None if tls_ca is None else _read(tls_ca)
    with open_stream(url, request, token=token, tls_ca=certificates, timeout=timeout) as incoming:
        said = incoming.said
        if said.kind == "table":
            return _put_table(attachment, incoming, target, request)
        if request.columns is not None:
            raise PlaneCorrupt(f"{name!r}: columns {list(request.columns)} were asked for, and a {said.kind} came")
        if said.kind == "pickle" and not trust_pickle:
            raise UnsafeCodec(
                f"{name!r} is a pickle, and who reads it runs whatever code it names. Open the plane with "
                f"trust_pickle=True if you trust {url} and everyone who writes to its plane.",
                name=name,
            )
        return put_checked(attachment, _Body(incoming), target, lambda frame, memory: _check(said.kind, frame, memory))


def _read(path: StrPath) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# Tables


def _put_table(attachment: Attachment, incoming: Incoming, target: Target, request: Request) -> Lease:
    names = incoming.schema.names
    if request.columns is not None and tuple(names) != request.columns:
        raise PlaneCorrupt(f"{request.name!r}: columns {list(request.columns)} were asked for, and {names} came")
    origin = check_origin(incoming.said.origin, len(names))
    return put_stream(attachment, TableStream(_Batches(incoming), origin=origin), target)


class _Batches:
    """The batches of a stream, each looked at in full: what a ``TableStream`` reads."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming, self._rows = incoming, 0
        self.schema: Any = incoming.schema

    def read_next_batch(self) -> pa.RecordBatch:
        import pyarrow as pa

        try:
            batch = self._incoming.read_next_batch()
        except own(StopIteration):
            said = self._incoming.said.rows
            if said not in (-1, self._rows):
                raise PlaneCorrupt(f"the stream says that it has {said:,} rows, and {self._rows:,} came") from None
            raise
        check_table(pa.Table.from_batches([batch]))
        self._rows += batch.num_rows
        return batch


# Anything else


class _Body:
    """The bytes of a block, written as they come."""

    whole = None

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        said = incoming.said
        self.kind, self.frame, self.nbytes = said.kind, said.frame, said.nbytes

    def write_to(self, sink: Sink) -> None:
        offset = 0
        while True:
            try:
                batch = self._incoming.read_next_batch()
            except own(StopIteration):
                break
            column = batch.column(0)
            column.validate()
            if column.null_count or offset + len(column) > self.nbytes:
                raise PlaneCorrupt(f"the stream says that it has {self.nbytes:,} B, and others or more came")
            if len(column):
                sink.write(offset, memoryview(column.buffers()[1])[column.offset :][: len(column)])
            offset += len(column)
        if offset != self.nbytes:
            raise PlaneCorrupt(f"the stream says that it has {self.nbytes:,} B, and {offset:,} came")


def _check(kind: str, frame: bytes, memory: Memory) -> None:
    """``PlaneCorrupt`` unless a body is what its frame says; a pickle is not looked into, which would run it."""
    codec = CODECS[kind]
    codec.describe(frame)
    if kind == "pickle":
        return
    try:
        root = codec.open(frame, memory, ())
        check_values(kind, root)
        if kind == "json":
            codec.present(root)
    except own(ModuleNotFoundError, UnsupportedValue):
        if kind != "array":  # one of a dtype that needs a library is checked by every get
            raise


# What a server sends


def outgoing(block: Block, request: Request) -> Outgoing:
    """What of a block was asked for, over its memory, which is leased while any of it lives.

    Raises:
        ValueError: columns that are not there, or columns or rows of what is no table.
    """
    if block.kind == "table":
        table = block.table(request.columns)
        if request.rows is not None:
            table = table.slice(request.rows[0], request.rows[1] - request.rows[0])
        origin = "arrow" if request.columns is not None else block._described().origin
        return Outgoing(Said("table", origin, table.num_rows, nbytes_of(table)), table)
    if request.columns is not None or request.rows is not None:
        raise ValueError(f"{request.name!r} is of kind {block.kind}, and has no columns and rows to choose from")
    frame, body = block._open().flat()
    return Outgoing(Said(block._facts.codec, nbytes=body.nbytes, frame=frame), body=body)
