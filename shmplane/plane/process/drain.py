"""The timer that gives back what finalizers could not: a thread that exists only while there is something to drain.

Finalizers never wait, so when somebody is in the way they leave their rows queued and start this. It also takes what
comes too fast to be worth a transaction each.
"""

from __future__ import annotations

import _thread
import time
import weakref
from typing import TYPE_CHECKING

from ...errors import ShmplaneError
from ...system import own

if TYPE_CHECKING:
    from .holdings import Holdings

__all__ = ["DrainTimer"]

_INTERVAL_S = 0.02
#: it stays a little, since what made garbage once often does so again
_IDLE_ROUNDS = 5


class DrainTimer:
    def __init__(self, attachment: Holdings) -> None:
        self._known = weakref.ref(attachment)
        self.running: bool = False

    def start(self) -> None:
        """Drain within 50 ms. Never waits, never raises."""
        attachment = self._known()
        if self.running or attachment is None or attachment.ended is not None:
            return
        self.running = True
        try:
            # Without threading.Thread: its start waits for the thread, and a finalizer must not.
            _thread.start_new_thread(self._run, (attachment,))
        except own(RuntimeError):
            self.running = False  # the interpreter is going down, or there are too many threads

    def _run(self, attachment: Holdings) -> None:
        idle = 0
        while idle < _IDLE_ROUNDS and attachment.ended is None and not attachment.exiting:
            time.sleep(_INTERVAL_S)
            is_due = attachment.queue or attachment.owed
            idle = 0 if is_due else idle + 1
            if is_due:
                try:
                    attachment.run(_nothing, writes=False)
                except own(ShmplaneError, OSError, MemoryError):
                    continue  # a thread that ended here would never be started again
        self.running = False
        if attachment.queue or attachment.owed:
            attachment.try_drain()
        attachment.leave_if_idle()


def _nothing() -> None:
    """The empty transaction: what it does is drain the queue."""
