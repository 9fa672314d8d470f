"""A web application as users write it: its metrics are plain ``prometheus_client``, made host-wide by one line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import shmplane
from shmplane.integrations.prometheus import use

plane = shmplane.Plane("web")
use(plane)

# Made after it, here or in any library.
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest  # noqa: E402

REQUESTS = Counter("web_requests", "Requests answered.", ["method"])
SECONDS = Histogram("web_request_seconds", "How long they took.")
WORKERS = Gauge("web_workers", "Workers that live.", multiprocess_mode="livesum")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    WORKERS.set(1)
    with SECONDS.time():
        path = environ["PATH_INFO"]
        if path == "/metrics":
            body = generate_latest(REGISTRY)
        else:
            time.sleep(0.001)
            REQUESTS.labels(environ["REQUEST_METHOD"]).inc()
            body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
