"""How a call waits: for the plane's lock, then for what stands in the plane, and how it ends in time.

Rule 1. A timeout covers all waiting, also that for the plane's host-wide lock, which a stopped process may hold.
Rule 2. A waiter looks under the lock, then sleeps on its process's wake word, in slices; whoever changes something wakes it.
Rule 3. The thread of an event loop does not wait for that lock for longer than a moment (see ``process.patience``).
Rule 4. What a call that fails leaves behind (a place in a line, a permit, a watch) is queued first and given back then. If
the lock is not to be had, the next transaction of this process or the drain timer does it. So nothing is lost by it.
Rule 5. Time being over is a result and no exception, since an exception may come from a signal handler of the user.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ClosedError, PlaneFull, ShmplaneError
from ...system import NOT_HAD, NotHad, ignoring, own, wait_for_change, wake_all
from ..process.patience import PATIENCE_S, moment, patience
from ..process.reclaim import load_for_recovery, reclaim_dead
from .waker import Waker, running_loop

if TYPE_CHECKING:
    from ...manifest import Transaction
    from ..process.attachment import Attachment

__all__ = [
    "SLICE_S",
    "Closing",
    "Wait",
    "WaitInLine",
    "cannot_travel",
    "check_timeout",
    "look_once",
    "open_row",
    "settle",
    "wait_for",
    "wait_for_async",
    "wake_waiters",
]

T = TypeVar("T")

#: the longest sleep without a look at who is still alive; of those who are not the first of their process
SLICE_S, _SLICE_BEHIND_S = 0.1, 0.5
#: of the first two it costs less to ask whether it is one
_NUMBERS: Any = (float, int, Real)
_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05


class Closing:
    """Whether the object that somebody waits through was closed: it then ends the waits that it began, and no others."""

    __slots__ = ("closed", "what")

    def __init__(self, what: str) -> None:
        self.what: str = what
        self.closed: bool = False

    def error(self) -> ClosedError:
        return ClosedError(f"{self.what} was closed, which ends what waits through it; open it again")


class Wait(ABC):
    """One caller's wish. Changed under the host-wide lock only.

    Attributes:
        is_done: it has got what it waits for.
        failed: the call ends by an exception, so that nobody has what it may have got.
    """

    __slots__ = ("attachment", "closing", "failed", "is_done")

    attachment: Attachment
    closing: Closing
    is_done: bool
    failed: bool

    def look_at_once(self) -> int | None:
        """``look`` by the core; None: it did nothing, and left it to that."""
        return None

    @property
    @abstractmethod
    def has_left(self) -> bool:
        """There is something that ``undo`` has to give back."""

    @abstractmethod
    def look(self, tx: Transaction) -> int:
        """Take what is wished for if it is there; else the wake word to watch."""

    @abstractmethod
    def undo(self, tx: Transaction) -> None:
        """Give back all that the wish has. Again: does nothing."""

    def is_next(self) -> bool:
        """Whether a change of the wake word may be for this wish; a hint, without the lock."""
        return True

    def slice(self) -> float:
        """Seconds of the longest sleep."""
        return SLICE_S


class WaitInLine(Wait):
    """A wish that stands in a line of this process until it is its turn.

    Attributes:
        ticket: its place in the line of all processes; 0: it stands in none.
    """

    __slots__ = ("ticket",)

    ticket: int

    @property
    @abstractmethod
    def line(self) -> Sequence[object]:
        """Those of this process that stand in it, in their order."""

    def is_next(self) -> bool:
        """Whether it is the first. Who leaves the line wakes the next one."""
        try:
            return self.line[0] is self
        except own(IndexError):
            return True

    def slice(self) -> float:
        return SLICE_S if self.is_next() else _SLICE_BEHIND_S


def look_once(wait: Wait) -> None:
    """Take what is wished for if it is there, and if the plane's lock is to be had in a moment."""
    try:
        if wait.look_at_once() is None:
            wait.attachment.try_change(patience(wait.attachment), wait.look)
    except BaseException:
        wait.failed = True
        wait.attachment.owed.append(wait)  # C code: another interrupt comes after it
        settle(wait.attachment)
        raise


def check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if not isinstance(timeout, _NUMBERS):
        raise TypeError(f"timeout is a number of seconds, or None for ever; not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout is a time of 0 or more seconds, or None for ever; not {timeout}")


def cannot_travel(title: str, call: str) -> TypeError:
    """What pickles must be told: it is this process's part of something that has a name."""
    return TypeError(f"{title} does not pickle: send its plane, which does, and open it by name there: {call}")


def wait_for(wait: Wait, timeout: float | None) -> bool:
    """Wait until it is done; False, with nothing held, when time is over or ``wait.closing`` was closed."""
    try:
        found: int | NotHad | None = wait.look_at_once()
        if not wait.is_done:
            deadline = None if timeout is None else time.monotonic() + timeout
            if found is None:
                found = wait.attachment.try_change(SLICE_S if timeout is None else _slice_of(timeout), wait.look)
            if not wait.is_done:
                for sequence, seconds in _more_tries(wait, found, timeout, deadline, in_loop=False):
                    wait_for_change(wait.attachment.wake_address(), sequence, seconds)
        is_done = wait.is_done
        if not is_done:
            undo_soon(wait.attachment, wait)
    except BaseException:
        # These come without a call before the append, which is C code: a second interrupt finds it done.
        wait.failed = True
        wait.attachment.owed.append(wait)
        settle(wait.attachment)
        raise
    # No call from here on: Ctrl-C in it would lose what was taken.
    return is_done


async def wait_for_async(wait: Wait, timeout: float | None) -> bool:
    """The same for asyncio; a cancelled one leaves nothing behind."""
    loop = running_loop()
    try:
        found: int | NotHad | None = wait.look_at_once()
        if not wait.is_done:
            deadline = None if timeout is None else time.monotonic() + timeout
            if found is None:
                found = wait.attachment.try_change(patience(wait.attachment), wait.look)
            if not wait.is_done:
                for sequence, seconds in _more_tries(wait, found, timeout, deadline, in_loop=True):
                    await wait.attachment.registry(Waker).wait(loop, sequence, seconds, wait.is_next)
        is_done = wait.is_done
        if not is_done:
            undo_soon(wait.attachment, wait)
    except BaseException:
        # These come without a call before the append, which is C code: a second interrupt finds it done.
        wait.failed = True
        wait.attachment.owed.append(wait)
        settle(wait.attachment)
        raise
    return is_done


def _more_tries(
    wait: Wait, found: int | NotHad, timeout: float | None, deadline: float | None, *, in_loop: bool
) -> Iterator[tuple[int, float]]:
    """Try until it is done, its time is over or its object closed; between two tries the wake word and for how long at most.

    Args:
        found: by the first try, which most often is the only one.
    """
    attachment = wait.attachment
    if not attachment.is_ready:
        attachment.is_ready = load_for_recovery()  # who waits looks for the dead, under the lock
    left, pause = SLICE_S if timeout is None else timeout, _PAUSE_S
    # Closing is looked at after the word: who closes changes it afterwards.
    while not (wait.is_done or wait.closing.closed):
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                return
        if found is NOT_HAD:
            sequence, longest = attachment.wake_sequence(), pause
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            sequence, longest, pause = found, wait.slice(), _PAUSE_S
        yield sequence, longest if deadline is None else min(left, longest)
        known = wait.look_at_once()
        if known is None:
            found = attachment.try_change(patience(attachment) if in_loop else _slice_of(left), wait.look)
        else:
            found = known


def _slice_of(left: float) -> float:
    """How long a thread waits for the plane's lock at once."""
    return max(PATIENCE_S, min(left, SLICE_S))


def undo_soon(attachment: Attachment, wait: Wait) -> None:
    """Undo what a call has; now if the lock is to be had in a moment, else soon."""
    if wait.has_left:
        attachment.owed.append(wait)
        settle(attachment)
    else:
        attachment.leave_if_idle()


def settle(attachment: Attachment) -> None:
    """Undo what is owed; now if the lock is to be had in a moment, else soon."""
    try:
        attachment.settle(moment(attachment))
    except BaseException:
        # Ctrl-C: once more, before that goes on. What fails now is done by the drain timer.
        with ignoring(ShmplaneError):
            attachment.settle(moment(attachment))
        raise
    attachment.leave_if_idle()


def open_row(tx: Transaction, attachment: Attachment, open_it: Callable[[bytes, T], int], name: bytes, given: T) -> int:
    """The row of a semaphore, rate or queue; when all are in use, what dead processes held comes back first."""
    try:
        return open_it(name, given)
    except own(PlaneFull):
        if not reclaim_dead(tx, attachment):
            raise
        return open_it(name, given)


def wake_waiters(attachment: Attachment) -> None:
    """Have whoever waits in this process look again, at once or with its next slice."""
    if attachment.ended is not None or not attachment.ends_silently:
        return
    with ignoring(ClosedError):
        # Under the lock the word changes, so that those who have looked and do not sleep yet look again as well.
        if attachment.try_change(moment(attachment), _wake, attachment.slot) is NOT_HAD:
            wake_all(attachment.wake_address())


def _wake(tx: Transaction, slot: int) -> None:
    tx.coordination.wake(slot)
