"""Real servers for the pools: PostgreSQL, a proxy that misbehaves, and HTTP."""

from __future__ import annotations

import http.server
import socketserver
import threading
from typing import TYPE_CHECKING

import pytest

from tests.integration.postgres import Cluster, find_binaries
from tests.integration.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    binaries = find_binaries()
    with Cluster(binaries) as cluster:
        yield cluster


@pytest.fixture
def postgres(_cluster: Cluster) -> Cluster:
    """A running PostgreSQL cluster, the same for all tests."""
    _cluster.ensure_running()
    return _cluster


@pytest.fixture
def proxy(postgres: Cluster) -> Iterator[Proxy]:
    """A TCP proxy in front of it that drops, stalls and cuts."""
    with Proxy(postgres.port) as proxy:
        yield proxy


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


@pytest.fixture
def http_url() -> Iterator[str]:
    """An HTTP server on loopback that answers with the path it was asked for."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
