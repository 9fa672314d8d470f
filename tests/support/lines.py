"""Waiting for what comes, and a witness outside of shared memory for how many hold a permit."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def until(condition: Callable[[], Any], *, seconds: float = 10.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.002)


class Witness:
    """One file per permit: whoever holds a permit locks one of them, and the kernel says when there are too many.

    POSIX locks of a dying process are dropped before its OFD locks are, so before its permits can come back.
    """

    def __init__(self, directory: Path, permits: int) -> None:
        self.directory = directory
        self._files = [os.open(directory / f"holder-{n}", os.O_CREAT | os.O_RDWR, 0o600) for n in range(permits)]
        self._log = os.open(directory / "log", os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Inside, this process counts as a holder."""
        for file in self._files:
            with contextlib.suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
        else:
            self.write("too many")
            raise AssertionError("there are more holders than permits")
        try:
            yield
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN)

    def write(self, line: object) -> None:
        os.write(self._log, f"{line}\n".encode())

    def lines(self) -> list[str]:
        return (self.directory / "log").read_text().splitlines()

    def close(self) -> None:
        for descriptor in [*self._files, self._log]:
            os.close(descriptor)
