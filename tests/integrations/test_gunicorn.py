"""Real gunicorn workers under real scrapes on loopback: restarted, killed, and one total that never goes back."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import shmplane

WORKERS = 3
DEADLINE_S = 60.0


class Server:
    """A running gunicorn."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self._url = process, f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str | None:
        """None when the worker that was to answer was killed."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=20) as response:
                body: str = response.read().decode()
                return body
        except (OSError, http.client.HTTPException):
            return None

    def scrape(self) -> dict[str, float] | None:
        text = self.get("/metrics")
        if text is None:
            return None
        found = re.findall(r"^(web_\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}


@contextmanager
def gunicorn(*options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--bind", "127.0.0.1:0", *options]
    process = subprocess.Popen(
        [*command, "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "tests.integrations.gunicorn_app:app"],
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"},
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)
        if found:
            break
    else:
        pytest.fail("gunicorn did not start:\n" + "".join(said))
    # What it says later must not fill the pipe.
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    reader.start()
    try:
        yield Server(process, int(found[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        process.stderr.close()


@pytest.mark.parametrize("options", [pytest.param([], marks=pytest.mark.sweep), ["--preload"]], ids=["each", "preload"])
def test_workers_that_restart_and_one_that_is_killed_show_one_total_that_does_not_go_back(
    plane_root: Path, options: list[str]
) -> None:
    answered, lost = [0] * 3, [0] * 3
    pids: set[int] = set()
    scrapes: list[dict[str, float]] = []
    stop = threading.Event()

    def ask(at: int) -> None:
        while not stop.is_set():
            body = server.get("/")
            if body is None:
                lost[at] += 1
            else:
                answered[at] += 1
                pids.add(int(body))

    def scrape() -> None:
        while not stop.is_set():
            found = server.scrape()
            if found is not None:
                scrapes.append(found)

    with gunicorn(*options, "--max-requests", "60") as server:
        deadline = time.monotonic() + DEADLINE_S
        threads = [threading.Thread(target=ask, args=(at,)) for at in range(3)] + [threading.Thread(target=scrape)]
        for thread in threads:
            thread.start()
        try:
            while len(pids) < WORKERS and time.monotonic() < deadline:
                time.sleep(0.02)
            victim = max(pids)
            os.kill(victim, signal.SIGKILL)
            before = len(pids)
            # Restarts, the one of the victim among them.
            while len(pids) < before + 4 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert len(pids) >= before + 4
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        last = server.scrape()
        assert last is not None
        scrapes.append(last)
    requests = [scrape.get('web_requests_total{method="GET"}', 0.0) for scrape in scrapes]
    assert len(requests) > 10
    assert requests == sorted(requests)
    for name in ("web_request_seconds_count", "web_request_seconds_sum", 'web_request_seconds_bucket{le="+Inf"}'):
        told = [scrape.get(name, 0.0) for scrape in scrapes]
        assert told == sorted(told)
    # Every answered request is counted; of the lost ones, those that were killed after they had counted.
    assert sum(answered) <= requests[-1] <= sum(answered) + sum(lost)
    assert 1 <= last["web_workers"] <= WORKERS + 1
    with shmplane.Plane("web") as plane:
        assert not plane.names("counted:page/") or len(plane.names("counted:page/")) <= 2 * WORKERS + 2
        plane.destroy()
