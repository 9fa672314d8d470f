"""The thread that gives back what became garbage while nobody calls the plane, and what calls could not give back.

Rule 1. A weak reference's callback is C code: what Python code in it is interrupted by, a signal's exception, would be
swallowed there. So an object that is garbage is queued by ``deque.append``, and a second reference rings by
``SimpleQueue.put``, which wakes this thread.
Rule 2. The thread sleeps until it rings: an idle process with a thousand views costs nothing. Then it waits a little, since
what follows closely is done in one transaction. The next call of the plane, if it comes first, does the same. While this
process has permits or waits, whose end does not ring, it looks 50 times a second, which is 0.1 % of a core.
Rule 3. What it is rung with is kept until it has waited, then emptied when it is a list: so a root that is got again and
again is kept for a moment, and let go in time whatever interrupts the call that wants that.
Rule 4. It ends with its attachment, which it keeps only while it works. Before a fork it ends as well where Python (from 3.12
on) would warn that there are threads, and begins again afterwards; in a forked child there is a new one.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
import types
import weakref
from _queue import Empty, SimpleQueue
from collections.abc import Callable
from typing import Any, Protocol

from ...errors import ShmplaneError
from ...system import exists, ignoring, own

__all__ = ["DrainTimer"]

_INTERVAL_S = 0.02
#: Python warns of a fork beside threads, which it has the kernel count
_FORKS_WARN = sys.version_info >= (3, 12)
#: after the last permit or wait, since what took one often does so again
_TICKS_ON_S = 1.0
#: how long a fork waits for the thread to end
_PATIENCE_S = 0.05
#: the same for it to hear that it was rung
_HEARING_S = 0.005


class Tidied(Protocol):
    """An attachment, as its timer sees it."""

    ended: str | None
    exiting: bool

    @property
    def ends_silently(self) -> bool: ...
    def tidy(self) -> bool: ...


class DrainTimer:
    """Attributes:
    ring: wakes the thread; takes any one argument, as the callback of a weak reference does, and empties it before it drains
        when it is a list. C code.
    running: whether there is a thread.
    is_ticking: whether it looks without being rung.
    """

    def __init__(self, attachment: Tidied) -> None:
        self._due: SimpleQueue[Any] = SimpleQueue()
        self.ring: Callable[[Any], None] = self._due.put
        self._known = weakref.ref(attachment, self.ring)
        self._paused = False
        self.is_ticking: bool = False
        self._listens = False
        self._ticks_until = 0.0
        self._native_id = 0
        self._rung: Any = None
        self.after_fork()

    @property
    def running(self) -> bool:
        return self._alive.locked()

    def watch(self, *, wait: bool = False) -> None:
        """See that there is a thread; without one (there are too many) the next call of the plane does its work.

        Args:
            wait: until it sleeps, nearly, so that C code which forks next forks no thread in the middle of something.
        """
        attachment = self._known()
        if self._alive.locked() or attachment is None or attachment.ended is not None:
            return
        begun: SimpleQueue[None] = SimpleQueue()
        with ignoring(RuntimeError, Empty):
            # Without threading.Thread: its start waits for the thread, and we may have the host's lock.
            _thread.start_new_thread(self._run, (begun,))
            if wait and _threads_are_real():
                begun.get(timeout=_PATIENCE_S)

    def start(self) -> None:
        """Drain within 50 ms. Never waits, never raises."""
        self.watch()
        self.ring(None)

    def tick(self) -> None:
        """Something begins that ends without a bell. Under the lock, after it can be seen."""
        if not self.is_ticking:
            self.start()

    def _run(self, begun: SimpleQueue[None]) -> None:
        alive = self._alive
        if not alive.acquire(blocking=False):
            return  # another call has started one, too
        self._native_id = _thread.get_native_id()
        begun.put(None)
        try:
            while self._is_rung() and self._work():
                pass
        finally:
            alive.release()

    def _is_rung(self) -> bool:
        """Wait for the bell, then a little for what follows closely; False when the thread is to end."""
        attachment = self._known()
        if attachment is None:
            return False
        self.is_ticking = self._should_tick(attachment)
        ticks = self.is_ticking
        del attachment  # not kept while we sleep
        if not _threads_are_real():
            # gevent's: a wait in the kernel would hold up everybody.
            while self._due.empty() and not ticks:
                time.sleep(_INTERVAL_S)
        else:
            self._listens = True
            try:
                self._rung = self._due.get(timeout=_INTERVAL_S if ticks or self._is_deaf else None)
            except own(Empty):
                return not self._paused
            finally:
                self._listens = False
            is_wanted = not self._paused and not self._go_on.acquire(timeout=_INTERVAL_S)
            _empty(self._rung)
            self._rung = None
            return is_wanted
        return not self._paused and not self._go_on.acquire(timeout=_INTERVAL_S)

    def _should_tick(self, attachment: Tidied) -> bool:
        """Whether to look without being rung: while there are permits and waits, and for a second afterwards."""
        # First the word, then the look: whoever begins does it the other way round, and rings if the word is not set.
        now, self.is_ticking = time.monotonic(), self.is_ticking and time.monotonic() < self._ticks_until
        if attachment.ends_silently:
            self._ticks_until = now + _TICKS_ON_S
            return True
        return self.is_ticking

    def _work(self) -> bool:
        attachment = self._known()
        if attachment is None or attachment.ended is not None or attachment.exiting:
            return False
        self._quieten(self._due.qsize())
        try:
            is_done = attachment.tidy()
        except own(ShmplaneError, OSError, MemoryError):
            is_done = False
        if not is_done:
            self.ring(None)  # again in a while: a thread that ended here would leave things for ever
        return True

    def empty(self) -> None:
        """Empty at once what it was rung with, also what nobody else knows of since a call was interrupted."""
        _empty(self._rung)
        due = self._due.qsize()
        if due:
            self.ring(None)  # first: it is woken for whatever else there is
            self._quieten(due)

    def _quieten(self, due: int) -> None:
        for _ in range(due):
            try:
                _empty(self._due.get_nowait())
            except own(Empty):
                break

    # Fork

    def pause(self) -> None:
        """Before a fork: end the thread, unless it is at work for longer than a moment or Python would not notice."""
        soon = time.monotonic() + _HEARING_S
        while self._has_not_heard and time.monotonic() < soon:
            time.sleep(0.0001)
        if not (_FORKS_WARN and self.running and _threads_are_real() and len(os.listdir("/proc/self/task")) == 2):
            return
        if not self._paused:
            self._paused = True
            self._go_on.release()
        self.ring(None)
        deadline = time.monotonic() + _PATIENCE_S
        if self._alive.acquire(timeout=_PATIENCE_S):
            self._alive.release()
            while exists(f"/proc/self/task/{self._native_id}") and time.monotonic() < deadline:
                os.sched_yield()

    @property
    def _has_not_heard(self) -> bool:
        """It was woken and has not run yet: a queue that is forked in this state wakes nobody in the child (Python 3.11)."""
        return self._listens and not self._due.empty()

    def resume(self) -> None:
        """After a fork, in the parent."""
        if self._paused:
            self._go_on.acquire(blocking=False)
            self._paused = False
            self.start()

    def after_fork(self) -> None:
        """In a child no thread of the parent goes on."""
        #: held by the thread as long as it lives
        self._alive = _thread.allocate_lock()
        #: held until the thread is to stop
        self._go_on = _thread.allocate_lock()
        self._go_on.acquire()
        self._paused = self.is_ticking = False
        #: it cannot be woken in this process, and looks by itself
        self._is_deaf = self._has_not_heard
        self._listens = False


def _empty(rung: Any) -> None:
    if type(rung) is list:
        rung.clear()


def _threads_are_real() -> bool:
    """Whether a new thread is one of the kernel's, and not a greenlet."""
    return isinstance(_thread.start_new_thread, types.BuiltinFunctionType)
