"""The host-wide limit of connection pools: a semaphore of the plane, as pools want to see it.

Pools know a protocol only (``connections.HostPermits``), so they do without a plane; this is its real
implementation. Permits belong to the process and come back when it dies; a forked child asks for an object of its own.

None of these calls waits for the plane's own lock for longer than 20 ms, in an event loop 4 ms: what was not to be had is
not taken, and what could not be given back at once is given back a little later.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ...errors import ClosedError
from ...names import check_block_name
from ...system import ignoring
from .semaphores import Semaphore, check_permits, open_semaphore
from .waiting import Closing, wake_waiters

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["PoolPermits", "open_pool_permits"]


def open_pool_permits(attachment: Attachment, name: str, limit: int) -> PoolPermits:
    """What a connection pool called ``name`` needs for its ``host_limit``; ``PlaneMismatch`` for another one."""
    check_permits(limit)
    closing, title = Closing(f"pool {name!r}"), f"the limit of pools {name!r} in plane {attachment.name!r}"
    semaphore = open_semaphore(attachment, b"p:" + check_block_name(name), limit, title=title, closing=closing)
    return PoolPermits(attachment, semaphore, closing)


class PoolPermits:
    """One pool's part in the permits of all pools of its name on this host.

    Args:
        closing: that of ``semaphore``, which nobody else uses.
    """

    def __init__(self, attachment: Attachment, semaphore: Semaphore, closing: Closing) -> None:
        self._attachment = attachment
        self._semaphore = semaphore
        self._closing = closing
        self._mutex = threading.Lock()
        self._held = 0
        self._waiting_elsewhere = 0

    def try_acquire(self) -> bool:
        """Take a permit if that can be done at once and nobody waits."""
        return not self._closing.closed and self._semaphore.take_if_free() and self._keep()

    def acquire(self, timeout: float) -> bool:
        """Take a permit; False when none came within ``timeout`` seconds, or ``close`` was called meanwhile."""
        return self._semaphore.take_in_time(timeout) and self._keep()

    def _keep(self) -> bool:
        with self._mutex:
            if not self._closing.closed:
                self._held += 1
                return True
        self._semaphore.release()
        return False

    def release(self) -> None:
        """Give one permit back; after ``close`` they all are already."""
        with self._mutex:
            if not self._held:
                return
            self._held -= 1
        with ignoring(ClosedError):
            self._semaphore.release()

    def waiting_elsewhere(self) -> int:
        """How many other processes wait for a permit at this moment, or did when that could last be seen."""
        found = self._semaphore.waiting_elsewhere()
        if found is not None:
            self._waiting_elsewhere = found
        return self._waiting_elsewhere

    def close(self) -> None:
        """Give back what this pool still holds, and leave. Idempotent."""
        with self._mutex:
            self._closing.closed = True
            held, self._held = self._held, 0
        for _ in range(held):
            # The plane may be gone already, and with it the permits.
            with ignoring(ClosedError, RuntimeError):
                self._semaphore.release()
        wake_waiters(self._attachment)
