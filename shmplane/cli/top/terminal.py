"""The terminal of ``top``: keys one by one, its size, and its modes put back whatever happens.

A signal that says that the size changed, or that the program is to end, becomes a key, so that the loop has one thing to
wait for. Control-Z is off: a stopped program would leave the shell on its screen.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Keys", "keys"]

_SEQUENCES = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down", "[D": "left", "OD": "left", "[5~": "page up", "[6~": "page down",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x03": "interrupt",
    "\x04": "interrupt",
}
#: after an escape, what belongs to it comes at once
_SEQUENCE_S = 0.05
_SIGNALS = {signal.SIGWINCH: b"w", signal.SIGTERM: b"t", signal.SIGHUP: b"t"}


class Keys:
    """What was pressed. Made by ``keys``."""

    def __init__(self, fd: int, signalled: int) -> None:
        self._fd, self._signalled = fd, signalled

    def wait(self, seconds: float) -> str | None:
        """The next key; ``resize`` when the size changed; ``interrupt`` also at the terminal's end; None when none came."""
        ready, _, _ = select.select([self._fd, self._signalled], [], [], max(0.0, seconds))
        if self._signalled in ready:
            return "resize" if set(os.read(self._signalled, 64)) == set(b"w") else "interrupt"
        return self._key() if ready else None

    def _key(self) -> str:
        try:
            first = os.read(self._fd, 1).decode(errors="replace")
        except OSError:  # the terminal is gone
            first = ""
        if not first:
            return "interrupt"
        return _SEQUENCES.get(self._sequence(), "escape") if first == "\x1b" else _CONTROLS.get(first, first)

    def _sequence(self) -> str:
        """What follows an escape: to its last letter, or nothing."""
        read, deadline = "", time.monotonic() + _SEQUENCE_S
        while len(read) < 8 and select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            letter = os.read(self._fd, 1).decode(errors="replace")
            read += letter
            if not letter or (len(read) > 1 and (letter.isalpha() or letter == "~")):
                break
        return read


@contextmanager
def keys(fd: int) -> Iterator[Keys]:
    """Read keys from a terminal; its modes and the handlers of signals are as they were afterwards."""
    before = termios.tcgetattr(fd)
    read, write = os.pipe()
    os.set_blocking(write, False)

    def say(number: int, _: FrameType | None) -> None:
        os.write(write, _SIGNALS[signal.Signals(number)])

    handlers = {}
    try:
        for number in _SIGNALS:
            handlers[number] = signal.signal(number, say)
        _listen(fd)
        yield Keys(fd, read)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        os.close(read)
        os.close(write)


def _listen(fd: int) -> None:
    """No echo, no lines, no signals from keys."""
    tty.setcbreak(fd, termios.TCSADRAIN)
    modes = termios.tcgetattr(fd)
    modes[tty.LFLAG] &= ~termios.ISIG
    termios.tcsetattr(fd, termios.TCSADRAIN, modes)
