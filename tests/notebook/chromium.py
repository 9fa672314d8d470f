"""A headless Chromium, spoken to over its DevTools protocol; it ends with its block, and its profile with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tornado.websocket import WebSocketClientConnection, websocket_connect

PATIENCE_S = 90.0
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Where it is installed (Debian's package ``chromium``)."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


class Chromium:
    """One page of a browser of our own."""

    def __init__(self, directory: Path) -> None:
        self._profile = directory / "profile"
        self._log = directory / "chromium.log"
        self._loop = asyncio.new_event_loop()
        self._connection: WebSocketClientConnection | None = None
        self._calls = 0

    def __enter__(self) -> Self:
        program = find_chromium()
        assert program is not None
        options = [
            "--headless=new", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
            f"--user-data-dir={self._profile}", "--force-color-profile=srgb", "--hide-scrollbars",
        ]  # fmt: skip
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # what it loads is our own server's
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *options, "about:blank"], stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._loop.run_until_complete(self._connect(self._find_page()))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._loop.run_until_complete(asyncio.sleep(0.05))
        end_session(self._process)
        self._loop.close()

    def _find_page(self) -> str:
        told = self._profile / "DevToolsActivePort"
        wait_until(lambda: told.exists() and len(told.read_text().split()) == 2, self._process, self._log)
        port = told.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE_S) as answer:
            pages = [target for target in json.load(answer) if target["type"] == "page"]
        return str(pages[0]["webSocketDebuggerUrl"])

    async def _connect(self, url: str) -> None:
        self._connection = await websocket_connect(url, max_message_size=1 << 28)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the protocol; https://chromedevtools.github.io/devtools-protocol/ has its methods."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), PATIENCE_S))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        connection = self._connection
        assert connection is not None
        self._calls += 1
        await connection.write_message(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            said = await connection.read_message()
            assert said is not None, f"the browser has ended: {self._log.read_text()[-2000:]}"
            message = json.loads(said)
            if message.get("id") == self._calls:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result

    def run(self, script: str) -> Any:
        """The value of an expression, also that of a promise."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true; while the page loads it may also raise."""
        deadline = time.monotonic() + PATIENCE_S
        guarded = f"(() => {{ try {{ return Boolean({script}) }} catch (error) {{ return false }} }})()"
        while not self.run(guarded):
            assert time.monotonic() < deadline, (
                f"the page never came to {script}: {self.run('document.body.innerText')}"
            )
            time.sleep(0.1)

    def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """The window's inside, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def screenshot(self, path: Path, box: dict[str, float] | None = None) -> None:
        """As PNG: the window, or what is in ``box`` (x, y, width, height)."""
        clip = {} if box is None else {"clip": {**box, "scale": 1}}
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, **clip)
        path.write_bytes(base64.b64decode(taken["data"]))


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own, and all that belong to it."""
    for sig, patience_s in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        if process.poll() is None:
            process.send_signal(sig)
        try:
            process.wait(patience_s)
            break
        except subprocess.TimeoutExpired:
            continue
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # helpers that it left behind; the group is its own


def wait_until(condition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until something is the case; an error with the end of its log when the process ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"it did not start: {log.read_text()[-2000:]}"
        time.sleep(0.05)
