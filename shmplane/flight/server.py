"""The sending end: a read-only Arrow Flight server over whatever finds blocks for it.

Rule 1. Nothing is written: what Flight has for that is not implemented, and Arrow refuses it.
Rule 2. Who has no token is refused before anything else is looked at; tokens are compared in constant time.
Rule 3. A batch of a stream is a slice of the block, which is leased until the stream ends; nothing is copied but to the socket.
Rule 4. An error tells what is wrong with the request, and nothing of this process.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
from pyarrow import flight

from ..errors import BlockNotFound, ShmplaneError
from ..system import own
from .said import PIECE_NBYTES, Request, Said, pack_said, parse_ticket

__all__ = ["Outgoing", "Server"]

#: letters of an error: gRPC sends it in its headers, as up to 12 bytes a letter, and loses a call with more than 8 KiB of those
_MOST_TEXT = 300


class Outgoing(NamedTuple):
    """A block as it is sent.

    Attributes:
        table: of a table, its columns over the block's memory.
        body: of anything else.
    """

    said: Said
    table: pa.Table | None = None
    body: memoryview | None = None

    @property
    def schema(self) -> pa.Schema:
        """Of the stream."""
        return pack_said(self.said, None if self.table is None else self.table.schema)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Slices of the block, each of about a message."""
        if self.table is not None:
            return _slices_of_table(self.table, self.said.nbytes)
        return _slices_of_bytes(self.body, schema)


def _slices_of_table(table: pa.Table, nbytes: int) -> Iterator[pa.RecordBatch]:
    row_nbytes = max(1, nbytes // max(1, table.num_rows))
    yield from table.to_batches(max_chunksize=max(1, PIECE_NBYTES // row_nbytes))


def _slices_of_bytes(body: memoryview | None, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if body is None or not body.nbytes:
        return
    whole = pa.py_buffer(body)
    for start in range(0, whole.size, PIECE_NBYTES):
        piece = whole.slice(start, min(PIECE_NBYTES, whole.size - start))
        yield pa.record_batch([pa.Array.from_buffers(pa.uint8(), piece.size, [None, piece])], schema=schema)


class _Token(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Lets those pass who have the token."""

    def __init__(self, token: str) -> None:
        self._expected = b"Bearer " + token.encode()

    def start_call(self, _: Any, headers: dict[str, list[Any]]) -> None:
        given = next((values for name, values in headers.items() if name.lower() == "authorization"), [])
        said = given[0] if given else b""
        if not hmac.compare_digest(said if isinstance(said, bytes) else said.encode(), self._expected):
            raise flight.FlightUnauthenticatedError("this server wants its token: 'authorization: Bearer TOKEN'")


class Server(flight.FlightServerBase):  # type: ignore[misc]
    """It serves from the moment it is made.

    Args:
        find: of a request, the block as it is to be sent.
        names: of the blocks that there are.
        tls: certificate and key in PEM.
    """

    def __init__(
        self,
        url: str,
        *,
        find: Callable[[Request], Outgoing],
        names: Callable[[], Sequence[str]],
        token: str | None = None,
        tls: tuple[bytes, bytes] | None = None,
    ) -> None:
        self._find, self._names = find, names
        self._is_ending = threading.Event()
        middleware = {"token": _Token(token)} if token is not None else None
        try:
            super().__init__(url, tls_certificates=[tls] if tls is not None else None, middleware=middleware)
        except BaseException:
            del self._find, self._names  # Arrow keeps a server that did not start, and that would keep the plane
            raise

    def end(self) -> None:
        """Cut the streams that are being sent, and wait until they are; those that nobody reads cannot be cut."""
        self._is_ending.set()
        self.shutdown()

    # What Flight calls

    def do_get(self, context: Any, ticket: flight.Ticket) -> Any:
        outgoing = self._found(ticket.ticket)
        schema = outgoing.schema
        batches = self._sent(context, outgoing.batches(schema))
        # Not Flight's own stream over a generator: that leaves out the dictionaries of columns.
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(schema, batches))

    def _sent(self, context: Any, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if self._is_ending.is_set():
                raise flight.FlightUnavailableError("the server is ending")
            if context.is_cancelled():
                return
            yield batch
            del batch

    def get_flight_info(self, _: Any, descriptor: Any) -> Any:
        ticket = _ticket_of(descriptor)
        return self._info(descriptor, ticket, self._found(ticket))

    def get_schema(self, _: Any, descriptor: Any) -> Any:
        return flight.SchemaResult(self._found(_ticket_of(descriptor)).schema)

    def list_flights(self, _: Any, criteria: bytes) -> Iterator[Any]:
        """The blocks by name; ``criteria`` is what their names begin with."""
        prefix = criteria.decode("utf-8", "replace")
        for name in _translated(self._names):
            if not name.startswith(prefix):
                continue
            try:
                found = self._found(name.encode())
            except own(KeyError, flight.FlightError):
                continue  # gone meanwhile, or nothing that travels
            yield self._info(flight.FlightDescriptor.for_path(name), name.encode(), found)

    def _found(self, ticket: bytes) -> Outgoing:
        return _translated(lambda: self._find(parse_ticket(ticket)))  # type: ignore[no-any-return]

    def _info(self, descriptor: Any, ticket: bytes, found: Outgoing) -> Any:
        endpoints = [flight.FlightEndpoint(ticket, [])]
        return flight.FlightInfo(found.schema, descriptor, endpoints, found.said.rows, found.said.nbytes)


def _ticket_of(descriptor: Any) -> bytes:
    return b"/".join(descriptor.path) if descriptor.path else descriptor.command or b""


def _translated(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except own(BlockNotFound) as error:
        raise KeyError(_cut(str(error))) from None
    except own(ValueError, TypeError, ShmplaneError) as error:
        _refuse(error)
    except own(Exception):
        raise flight.FlightInternalError("this block could not be read here") from None


def _refuse(error: Exception) -> NoReturn:
    if isinstance(error, ShmplaneError) and error.code == "closed":
        raise flight.FlightUnavailableError("the plane that was served was destroyed, and none was made anew") from None
    raise flight.FlightServerError(_cut(str(error)), b"refused") from None


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"
