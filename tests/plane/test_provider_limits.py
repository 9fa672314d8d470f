"""A recipe: workers that call a provider with two limits, requests and tokens, some of them killed or stopped meanwhile.

The provider answers 429 when more than its limits allow has come since it began. Requests reach it after they were granted, so
this much can be told without a doubt, however late the machine lets them arrive.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

import shmplane
from tests.support.processes import Child

REQUESTS, TOKENS, BURST_REQUESTS, BURST_TOKENS = 150.0, 20_000.0, 10.0, 1_500.0


class Provider(ThreadingHTTPServer):
    """A loopback server that counts."""

    daemon_threads = True
    request_queue_size = 64  # nobody is turned away by the kernel

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.began = time.monotonic()
        self.mutex = threading.Lock()
        self.requests = self.tokens = self.refused = 0

    def admit(self, tokens: int) -> bool:
        with self.mutex:
            self.requests += 1
            self.tokens += tokens
            since = time.monotonic() - self.began
            fits = self.requests <= BURST_REQUESTS + REQUESTS * since and self.tokens <= BURST_TOKENS + TOKENS * since
            self.refused += not fits
            return fits


class _Handler(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.server.admit(int(self.path[1:])) else 429)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield server
        server.shutdown()
        serving.join(10)


def ask(plane: Any, url: str, seed: int) -> int:
    """A worker: a grant of each limit, always in this order; then a request that costs at most what was granted."""
    requests = plane.rate("requests", REQUESTS, 1.0, BURST_REQUESTS)
    tokens = plane.rate("tokens", TOKENS, 1.0, BURST_TOKENS)
    stop, dice, refused = plane.mutable("stop", (), "u1"), random.Random(seed), 0
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        while not stop[()]:
            guess = dice.randint(50, 300)
            used = dice.randint(10, guess)
            requests.acquire()
            grant = tokens.acquire(guess)
            refused += client.get(f"/{used}").status_code == 429
            grant.settle(used)
    return refused


def test_no_request_is_refused_although_workers_are_killed_and_stopped(
    plane: shmplane.Plane, provider: Provider
) -> None:
    stop, dice = plane.mutable("stop", (), "u1"), random.Random(3)
    url = f"http://127.0.0.1:{provider.server_address[1]}"
    provider.began = time.monotonic()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Child(ask, plane, url, number, method="fork")) for number in range(8)]
        for worker in workers:
            worker._tell("finish")
        for number in range(4):
            time.sleep(0.15)
            index = dice.randrange(len(workers))
            workers[index].kill()
            workers[index] = stack.enter_context(Child(ask, plane, url, 10 + number, method="fork"))
            workers[index]._tell("finish")
            stopped = workers[(index + 1 + dice.randrange(len(workers) - 1)) % len(workers)]
            stopped.stop()
            time.sleep(0.1)
            stopped.go_on()
        stop[()] = 1
        assert sum(worker._receive("returned", 30) for worker in workers) == 0
    assert provider.refused == 0
    assert provider.requests > 30
    del stop
