"""Work in a child that was forked here, and that never comes back up the test runner's stack.

A forked child that lets an exception through would go on running tests on its parent's connections: the run then
ends in an internal error of the runner, or hangs. So no test forks by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import traceback
from collections.abc import Callable

from tests.support.waiting import HANG_S, wait_for


class Forked:
    """A child that runs ``act`` and ends; ``wait`` passes on what it raised."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._said, writable = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(act, self._said, writable)
        os.close(writable)

    def wait(self, seconds: float = HANG_S) -> None:
        """Wait for its end; ``AssertionError`` when it failed, hung or was killed."""
        status, said = self.end(seconds)
        assert status == 0, f"the forked child: {said or ('it hung' if status is None else f'status {status}')}"

    def end(self, seconds: float = HANG_S) -> tuple[int | None, str]:
        """Wait for its end; its exit status (None when it hung, and was killed) and its traceback."""
        status = wait_for(self.pid, seconds)
        with os.fdopen(self._said, "rb") as said:
            os.set_blocking(said.fileno(), False)  # a grandchild may hold the other end
            return status, (said.read() or b"").decode(errors="replace")

    def said_already(self) -> str:
        """Its traceback, when it has failed; does not wait."""
        ready, _, _ = select.select([self._said], [], [], 0)
        return os.read(self._said, 4000).decode(errors="replace") if ready else ""

    def kill(self, *, after: float = 0) -> None:
        """SIGKILL, and wait for the end."""
        time.sleep(after)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._said)


def run_forked(act: Callable[[], object], seconds: float = HANG_S) -> None:
    """Fork, run ``act`` in the child, and wait for it."""
    Forked(act).wait(seconds)


def _be_child(act: Callable[[], object], readable: int, writable: int) -> None:
    code = 1
    try:
        os.close(readable)
        act()
        code = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            os.write(writable, traceback.format_exc().encode()[-4000:])
    finally:
        os._exit(code)
