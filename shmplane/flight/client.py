"""The receiving end: one stream, read in a thread of its own.

Arrow's calls come back when the peer answers, which may be never. So they are made in a thread, and the caller waits for
what it brings: Ctrl-C ends that wait, and so does a silence that is too long. The thread reads one batch ahead.

Rule 1. No error of Arrow leaves: it is the peer's refusal, a connection that was lost, or bytes that nobody of ours has sent.
Rule 2. Whoever opened a stream closes it. A thread that cannot be ended, since its peer neither sends nor closes, is a
        daemon and holds nothing but its connection.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ..errors import BlockNotFound, PlaneCorrupt, PlaneSecurityError, PullFailed, ShmplaneError
from ..names import check_seconds
from ..system import ignoring, own
from .said import Request, Said, is_said_column, pack_ticket, read_said, schema_without

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Incoming", "open_stream"]

_SCHEMES = {"grpc", "grpc+tcp", "grpc+tls"}
_SLICE_S = 0.1
_JOIN_S = 2.0
_MOST_TEXT = 300
_END = object()


def open_stream(
    url: str, request: Request, *, token: str | None = None, tls_ca: bytes | None = None, timeout: float | None = None
) -> Incoming:
    """Ask for a block, and wait for what the server says of it.

    Args:
        url: ``grpc://host:port``, or ``grpc+tls://host:port``.
        tls_ca: certificates in PEM that the server's is checked against; None: those of the system.
        timeout: the longest silence, in seconds.

    Raises:
        ValueError: the URL, the token, or what the server says of the request.
        BlockNotFound, PlaneSecurityError, PullFailed, PlaneCorrupt.
    """
    _check_url(url)
    return Incoming(url, request, _headers(token), tls_ca, check_seconds(timeout, "timeout"))


def _check_url(url: str) -> None:
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str like 'grpc://host:port', not {type(url).__name__}")
    try:
        found = urlsplit(url)
        is_good = found.scheme in _SCHEMES and bool(found.hostname and found.port) and found.path in ("", "/")
        is_good = is_good and not (found.query or found.fragment or found.username is not None)
    except own(ValueError):
        is_good = False
    if not is_good:
        raise ValueError(f"{url!r}: write grpc://host:port, or grpc+tls://host:port for a server with a certificate")


def _headers(token: str | None) -> list[tuple[bytes, bytes]]:
    if token is None:
        return []
    if not isinstance(token, str):
        raise TypeError(f"a token is a str, not {type(token).__name__}")
    if not (token.isascii() and token.isprintable() and token and token == token.strip()):
        raise ValueError("a token is printable ASCII without spaces around it")  # and is not shown
    return [(b"authorization", b"Bearer " + token.encode())]


class Incoming:
    """A stream that has begun: what is said of its block, and then its batches, in turn.

    Attributes:
        said: of the block.
        schema: of the table; of other blocks, that of their bytes.
    """

    said: Said
    schema: Any

    def __init__(
        self,
        url: str,
        request: Request,
        headers: list[tuple[bytes, bytes]],
        tls_ca: bytes | None,
        timeout: float | None,
    ) -> None:
        self._url, self._request, self._timeout = url, request, timeout
        self._came: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._is_closed = threading.Event()
        self._reader: Any = None
        self._ended = False
        self._thread = threading.Thread(target=self._receive, args=(headers, tls_ca), name="shmplane-pull", daemon=True)
        self._thread.start()
        try:
            schema = self._next()
            self.said = read_said(schema)
            if self.said.kind != "table" and not is_said_column(schema):
                raise PlaneCorrupt(f"{url} says that it brings a {self.said.kind}, and its stream is a table")
            self.schema = schema_without(schema)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_next_batch(self) -> pa.RecordBatch:
        """The next one; ``StopIteration`` at the end, as Arrow's own readers have it."""
        found = _END if self._ended else self._next()
        if found is _END:
            self._ended = True
            raise StopIteration
        return found

    def close(self) -> None:
        """End the stream, whether it was read to its end or not."""
        self._is_closed.set()
        reader = self._reader
        if reader is None and self._thread.is_alive():
            return  # nobody has answered yet, and that cannot be ended
        if reader is not None and not self._ended:
            with ignoring(Exception):
                reader.cancel()
        self._thread.join(_JOIN_S)

    def _next(self) -> Any:
        waited = 0.0
        while True:
            try:
                found = self._came.get(timeout=_SLICE_S)
            except own(queue.Empty):
                waited += _SLICE_S
                if self._timeout is not None and waited >= self._timeout:
                    raise PullFailed(
                        f"pulling {self._request.name!r} from {self._url}: nothing came for {self._timeout:g} s. See "
                        f"whether the server is there, and the network; or give it longer by timeout=.",
                        url=self._url,
                        name=self._request.name,
                    ) from None
                continue
            if isinstance(found, BaseException):
                self._ended = True
                raise self._translated(found) from found
            return found

    def _translated(self, error: BaseException) -> BaseException:
        """The library's error for what Arrow raised."""
        if isinstance(error, (ShmplaneError, MemoryError, ImportError)) or not isinstance(error, Exception):
            return error
        import pyarrow as pa
        from pyarrow import flight

        name, what = self._request.name, f"pulling {self._request.name!r} from {self._url}"
        if isinstance(error, pa.ArrowKeyError):
            return BlockNotFound(f"{what}: there is no block of that name", name=name)
        if isinstance(error, (flight.FlightUnauthenticatedError, flight.FlightUnauthorizedError)):
            return PlaneSecurityError(
                f"{what}: the server wants a token, or another one than it was given; say token=", url=self._url
            )
        if isinstance(error, flight.FlightServerError) and error.extra_info == b"refused":
            return ValueError(f"{what}: {_text(error)}")
        if _is_of_call(error) or isinstance(error, (flight.FlightError, OSError, pa.ArrowNotImplementedError)):
            return PullFailed(f"{what}: {_text(error)}. Nothing was put; try again.", url=self._url, name=name)
        return PlaneCorrupt(f"{what}: what came is no stream of Arrow's: {_text(error)}", url=self._url, name=name)

    # In the thread

    def _receive(self, headers: list[tuple[bytes, bytes]], tls_ca: bytes | None) -> None:
        try:
            from pyarrow import flight

            options = flight.FlightCallOptions(headers=headers)
            with flight.FlightClient(self._url, tls_root_certs=tls_ca) as client:
                self._reader = reader = client.do_get(flight.Ticket(pack_ticket(self._request)), options)
                self._give(reader.schema)
                while not self._is_closed.is_set():
                    try:
                        chunk = reader.read_chunk()
                    except StopIteration:
                        self._give(_END)
                        return
                    if chunk.data is not None:
                        self._give(chunk.data)
                    del chunk
                reader.cancel()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._give(error)

    def _give(self, came: Any) -> None:
        while not self._is_closed.is_set():
            try:
                self._came.put(came, timeout=_SLICE_S)
            except queue.Full:
                continue
            return


def _is_of_call(error: BaseException) -> bool:
    """Whether the call failed, which Arrow says by whatever kind of error, and not what came of it was wrong."""
    return any(sign in str(error) for sign in ("gRPC returned ", "gRPC client debug context"))


def _text(error: BaseException) -> str:
    """What the server said, without what Arrow adds to it, and nothing that a terminal would obey."""
    text = str(error).partition(". Detail: ")[0].partition(". gRPC client debug")[0]
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: 2 * _MOST_TEXT])
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"
