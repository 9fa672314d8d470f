"""``shmplane serve``: a plane for readers of other hosts, over Arrow Flight, until SIGTERM or Ctrl-C.

Rule 1. Nothing listens beyond this host unless a token is asked for.
Rule 2. It takes part in the plane as any reader does: what is being sent is leased. A name stands for the plane that has it: of
        one that was destroyed that is said, and one that was made anew is opened for the next request, which is said here.
Rule 3. A signal ends it within ``_GRACE_S`` and a little: a stream that its reader does not take cannot be cut in time, so the
        process ends without it, which gives back what it leased.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import threading
from typing import TYPE_CHECKING

from ..errors import ClosedError
from .exits import BUSY, OK, PROBLEMS, USAGE, Failed
from .output import SCHEMA_VERSION, Output, printable

if TYPE_CHECKING:
    from argparse import Namespace

    from ..flight import Outgoing, Request, Server
    from ..plane import Plane

__all__ = ["serve"]

_GRACE_S = 3.0
_MOST_TOKEN_NBYTES = 4096


def serve(options: Namespace, out: Output) -> int:
    token = None if options.token_file is None else _token(options.token_file)
    tls = _tls(options)
    if token is None and not _is_loopback(options.host):
        raise Failed(
            BUSY,
            f"{options.host} can be reached from other hosts, and without a token anybody could read: --token-file F",
        )
    ending = threading.Event()
    before = {number: signal.signal(number, lambda *_: ending.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.closing(_Served(options.plane, options.root, out)) as served:
            server = _start(options, served, token, tls)
            _announce(options, out, server.port, is_tls=tls is not None)
            if token is not None and tls is None and not _is_loopback(options.host):
                out.message("without --tls-cert and --tls-key, the token and all data can be read on their way")
            ending.wait()
            _end(server, out)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return OK


class _Served:
    """The plane, opened again when it was destroyed meanwhile."""

    def __init__(self, name: str, root: str, out: Output) -> None:
        self._name, self._root, self._out = name, root, out
        self._mutex = threading.Lock()
        self._plane = self._open()

    def _open(self) -> Plane:
        from ..plane import Plane

        return Plane(self._name, root=self._root, create=False)

    def find(self, request: Request) -> Outgoing:
        from ..plane import outgoing

        try:
            block = self._plane.attach(request.name)
        except ClosedError:
            block = self._again().attach(request.name)
        return outgoing(block, request)

    def names(self) -> list[str]:
        try:
            return self._plane.names()
        except ClosedError:
            return self._again().names()

    def _again(self) -> Plane:
        with self._mutex:
            try:
                self._plane.names()
            except ClosedError:
                try:
                    self._plane = self._open()
                except FileNotFoundError as error:
                    raise ClosedError(f"the plane {self._name!r} was destroyed, and none was made anew") from error
                self._out.message(
                    f"plane {printable(self._name)!r} was destroyed and made anew: from now on the new one is served"
                )
            return self._plane

    def close(self) -> None:
        self._plane.close()


def _token(path: str) -> str:
    with open(path, "rb") as file:
        line = file.read(_MOST_TOKEN_NBYTES + 1).partition(b"\n")[0].strip()
    try:
        token = line.decode("ascii") if len(line) <= _MOST_TOKEN_NBYTES else ""
    except UnicodeDecodeError:
        token = ""
    if not (token and token.isprintable()):
        raise Failed(
            USAGE, f"{printable(path)}: the first line of a token file is the token: up to 4,096 of printable ASCII"
        )
    return token


def _tls(options: Namespace) -> tuple[bytes, bytes] | None:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise Failed(USAGE, "--tls-cert and --tls-key belong together")
    if options.tls_cert is None:
        return None
    with open(options.tls_cert, "rb") as certificate, open(options.tls_key, "rb") as key:
        return certificate.read(), key.read()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int, *, is_tls: bool) -> str:
    bare = host.strip("[]")
    return f"grpc{'+tls' if is_tls else ''}://{f'[{bare}]' if ':' in bare else bare}:{port}"


def _start(options: Namespace, served: _Served, token: str | None, tls: tuple[bytes, bytes] | None) -> Server:
    import pyarrow as pa

    from ..flight import Server

    url = _url(options.host, options.port, is_tls=tls is not None)
    try:
        return Server(url, find=served.find, names=served.names, token=token, tls=tls)
    except (pa.ArrowException, OSError) as error:
        raise Failed(
            PROBLEMS,
            f"cannot listen at {url}: {error}. See whether something else does, or the address, or the certificate",
        ) from error


def _announce(options: Namespace, out: Output, port: int, *, is_tls: bool) -> None:
    url = _url(options.host, port, is_tls=is_tls)
    if options.json:
        said = {"plane": options.plane, "host": options.host, "port": port, "url": url, "pid": os.getpid()}
        out.line(json.dumps({"schema_version": SCHEMA_VERSION, **said}))
    else:
        out.line(f"{options.plane}: {url}")
    out.flush()


def _end(server: Server, out: Output) -> None:
    thread = threading.Thread(target=server.end, name="shmplane-serve-end", daemon=True)
    thread.start()
    thread.join(_GRACE_S)
    if thread.is_alive():
        out.message("ended while somebody was still reading")
        out.flush()
        os._exit(OK)
