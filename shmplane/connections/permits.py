"""The limit over all processes of a host, as the pools see it.

A plane has the real thing: permits in shared memory that come back when their process dies. Pools only know
this protocol, so they work without a plane and are tested without one. ``permits_of`` is the one place where
a plane is turned into it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HostPermits", "PermitSeeker", "permits_of"]

SEEK_SLICE = 5.0  #: seconds of one wait; the place in the queue is lost between two, so not too short


@runtime_checkable
class HostPermits(Protocol):
    """A named set of N permits, shared by all processes of the host; this object is one process's part in it.

    Rule 1. Permits belong to the process; any of its threads may release. All of them come back by themselves
    within a second after the process died, however it died.
    Rule 2. First come, first served over all processes: ``try_acquire`` fails while another process waits.
    Rule 3. A forked child holds none of its parent's permits, and asks for an object of its own.
    """

    def try_acquire(self) -> bool:
        """Take a permit if that can be done at once."""

    def acquire(self, timeout: float) -> bool:
        """Take a permit; False when none came within ``timeout`` seconds."""

    def release(self) -> None:
        """Give one permit of this process back."""

    def waiting_elsewhere(self) -> int:
        """How many other processes wait for a permit at this moment. Cheap: asked four times a second."""

    def close(self) -> None:
        """Give back what this process still holds, and leave; an ``acquire`` under way returns False soon."""


def permits_of(plane: Any, name: str, limit: int) -> HostPermits:
    """This process's part in the permits of all pools called ``name`` on the plane's host."""
    permits: HostPermits = plane._host_permits(name, limit)
    return permits


class PermitSeeker:
    """A thread that waits for a permit as long as the pool wants one; at most one per pool and process.

    Only one waits at a time, so a process takes one place in the host's queue, not one per caller.
    """

    def __init__(self, permits: HostPermits, *, wanted: Callable[[], bool], found: Callable[[], bool]) -> None:
        self._permits = permits
        self._wanted = wanted  #: asked between two waits
        self._found = found  #: called with a permit in hand; False when it is not needed any more
        self._running = threading.Lock()

    def seek(self) -> None:
        """Start, unless it is under way."""
        if self._running.acquire(blocking=False):
            try:
                threading.Thread(target=self._seek, name="shmplane-permits", daemon=True).start()
            except BaseException:
                self._running.release()
                raise

    def _seek(self) -> None:
        try:
            while self._wanted():
                if self._permits.acquire(SEEK_SLICE) and not self._found():
                    self._permits.release()
        finally:
            self._running.release()
        # A caller that asked just before the lock was free was turned away; look once more for it.
        if self._wanted():
            self.seek()
