"""A program on a terminal of its own: keys go in, and the screen is what a terminal would show."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyte

__all__ = ["Terminal", "on_terminal"]


class Terminal:
    """What runs on it, what was written to it and what it shows. Made by ``on_terminal``."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes], columns: int, lines: int) -> None:
        self.fd, self._process, self.pid = fd, process, process.pid
        self.written = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def lines(self) -> list[str]:
        return self.shown.split("\n")

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def wait_for(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """The screen shows it at last."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.shown)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} did not come:\n{self.shown}"
            assert self._read(0.1), f"ended without {pattern!r}:\n{self.shown}"
        return found

    def wait_for_end(self, seconds: float = 30.0) -> int:
        """The exit code, when all that was written has been read."""
        deadline = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < deadline, f"it does not end:\n{self.shown}"
        return self._process.wait(seconds)

    def _read(self, seconds: float) -> bool:
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def on_terminal(*command: str, columns: int = 80, lines: int = 24, **env: str) -> Iterator[Terminal]:
    """``python -m shmplane COMMAND`` on a terminal; ended with the block, if it runs still."""
    fd, inner = os.openpty()
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    unset = {"COLUMNS", "LINES", "NO_COLOR"} - env.keys()
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    # setsid gives it the terminal without code of ours between a fork and an exec.
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "shmplane", *command],
        stdin=inner, stdout=inner, stderr=inner, env={**kept, "TERM": "xterm-256color", **env},
    )  # fmt: skip
    os.close(inner)
    terminal = Terminal(fd, process, columns, lines)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(fd)
