"""The host-wide lock: a mutex for this process's threads, then a lock for the host's processes.

That one is of either kind (``ofd.WholeLock``): a byte of the plane's lock file, or a word in its manifest.

Rule 1. The lock is given back whatever happens, also when Ctrl-C arrives between any two bytecodes. CPython delivers
a signal after a call, at a jump back and at a function's start; so each ``finally`` below makes one call, into C, and
taking stands inside the ``try`` whose ``finally`` gives back. (One ``finally`` with two calls lost the mutex in 8,936
of 19,357 interrupts.)
Rule 2. Whoever holds it does not give up the GIL by a system call: see ``libc``.
Rule 3. Re-entry by the same thread (signal handler, finalizer, fork hook) raises at once instead of waiting for itself.
Rule 4. Before it is taken, the file offset shows that the descriptor is still our own open description (it was set to a
random number, which costs a third of ``fstat`` to read) and ``getpid`` that we are still the process that joined;
otherwise the lock protects nothing and says so with ``Lost``.
Rule 5. Parts of a plane have locks of their own, other bytes of the lock file, whatever kind the lock is; the order is mutex,
lock, byte. A byte is tried for, never waited for, so nobody can wait in a circle.
Rule 6. One time-out covers both waits. A lock that is not to be had is a result, ``NOT_HAD``, and no exception: an
exception could as well come from a signal handler of the user.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar, TypeVarTuple

from ..errors import LockTimeout, PlaneCorrupt
from . import libc
from .files import close_own, identity_of, mark_description
from .handlers import own
from .ofd import OfdRange, WholeLock, sleep_and_try

__all__ = ["NOT_HAD", "Busy", "HostLock", "Lost", "NotHad"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_SETLK = 37
#: for a part's byte, of about 1 µs each
_TRIES_BENEATH = 50
#: what ``lseek`` says of a number that is no descriptor any more, or that of a pipe or socket by now
_CLOSED = (errno.EBADF, errno.ESPIPE)
_fcntl = libc.fcntl_keeping_gil
_lseek = os.lseek
_getpid = os.getpid
_SEEK_CUR = os.SEEK_CUR


class Busy(Exception):
    """The lock was not free, and the caller does not wait."""


class NotHad(Enum):
    """What a call returns that could not have the lock in its time."""

    NOT_HAD = "NOT_HAD"


NOT_HAD = NotHad.NOT_HAD


class Lost(Exception):
    """The descriptor is no longer ours, or this is another process than the one that made the lock."""


class HostLock:
    """One lock over all processes that open the same file.

    ``run`` is the only way in. ``describe_holder`` says for a message which process holds it.
    """

    pid: int
    _fd: int
    _lock: WholeLock
    _offset: int

    def __init__(self, fd: int, describe_holder: Callable[[], str], word: WholeLock | None = None) -> None:
        self.identity: tuple[int, int] = identity_of(fd)
        #: where the lock is a word: what stands for our process in it
        self.word: WholeLock | None = word
        self.adopt(fd)
        if word is not None:
            self.use(word)
        self._describe_holder = describe_holder
        self._ending: Callable[[], None] | None = None
        #: seconds that it was waited for by whoever has it, who sets it to 0 again; written under the mutex
        self.waited: float = 0.0
        # Re-entrant only because it knows its owner in C: ``release`` by another thread raises.
        self.mutex: threading.RLock = threading.RLock()
        #: under gevent only a sleep lets other greenlets run
        self._polls: bool = type(self.mutex).__module__ != "_thread"

    @property
    def fd(self) -> int:
        return self._fd

    def close(self) -> None:
        """Close the descriptor, unless somebody closed it before and opened another file in its place."""
        close_own(self._fd, self.identity)
        self._fd, self._lock = -1, OfdRange(-1)

    def end(self, close: Callable[[], None]) -> None:
        """Call ``close``, which closes descriptors, when no thread is inside ``run``: now, or when that thread leaves.

        A number that is closed under a thread that still uses it may be another plane's lock by then.

        Args:
            close: idempotent.
        """
        self._ending = close
        self._end_if_free()

    def leave(self) -> None:
        """Give the mutex back after ``run_holding_mutex``."""
        self.mutex.release()
        self._end_if_free()

    def _end_if_free(self) -> None:
        close = self._ending
        if close is None or self.owned():
            return
        try:
            if self.mutex.acquire(False):
                close()
                self._ending = None
        finally:
            try:
                self.mutex.release()
            except own(RuntimeError):
                pass  # it was not to be had: who has it closes

    def free_mutex_in_child(self) -> None:
        """After a fork: whichever thread of the parent had the mutex, here it is free."""
        self.mutex._at_fork_reinit()  # type: ignore[attr-defined]

    def owned(self) -> bool:
        """Whether this thread is inside ``run``, or holds the mutex for a fork."""
        return self.mutex._is_owned()  # type: ignore[attr-defined, no-any-return]

    def check(self) -> None:
        """``Lost`` unless this is our process and the descriptor still our file."""
        if _getpid() != self.pid:
            raise Lost("the process was forked by C code, which runs none of Python's fork hooks")
        try:
            offset = _lseek(self._fd, 0, os.SEEK_CUR)
        except own(OSError) as error:
            if error.errno not in _CLOSED:
                raise
            raise Lost("somebody closed the library's descriptors (os.closerange, daemonizing)") from None
        if offset != self._offset:
            raise Lost("somebody closed the library's descriptors and opened other files in their place")

    def run(self, timeout: float | None, operation: Callable[[*Ts], R], *args: *Ts) -> R | NotHad:
        """Call ``operation(*args)`` under the lock.

        Args:
            timeout: seconds for all waiting, then ``NOT_HAD`` is returned; 0: one try. None: ``Busy`` when it is not free.
        """
        self.check()
        mutex = self.mutex
        if mutex._is_owned():  # type: ignore[attr-defined]
            raise Busy("re-entered by the thread that holds it (signal handler, finalizer or fork hook)")
        try:
            if not mutex.acquire(False):
                timeout = self._wait_for_mutex(timeout)
                if timeout < 0:
                    return NOT_HAD
            lock = self._lock  # as it is now: who had the mutex may have closed it
            give = lock.give
            try:
                if lock.take() != 0 and not self._contend(lock, timeout):
                    return NOT_HAD
                return operation(*args)
            finally:
                give()
        finally:
            try:  # not ignoring(): it would call Python code here, where an interrupt loses the mutex
                mutex.release()
            except own(RuntimeError):
                pass  # it was never taken
            if self._ending is not None:
                self._end_if_free()

    def run_apart(self, part: OfdRange, operation: Callable[[*Ts], R], *args: *Ts) -> R | NotHad:
        """Call it under another byte of the file, without the host-wide lock; one try.

        Args:
            part: says which byte; its descriptor is not used.
        """
        # ``check``, for most often: this is in every put and get of a queue that is busy.
        if _getpid() != self.pid or _lseek(self._fd, 0, _SEEK_CUR) != self._offset:
            self.check()
        mutex = self.mutex
        if mutex._is_owned():  # type: ignore[attr-defined]
            raise Busy("re-entered by the thread that holds it (signal handler, finalizer or fork hook)")
        try:
            if not mutex.acquire(False):
                return NOT_HAD
            fd = self._fd
            try:
                if _fcntl(fd, _SETLK, part.locking) != 0:
                    return NOT_HAD
                return operation(*args)
            finally:
                _fcntl(fd, _SETLK, part.unlocking)
        finally:
            try:
                mutex.release()
            except own(RuntimeError):
                pass  # it was never taken
            if self._ending is not None:
                self._end_if_free()

    def run_beneath(self, part: OfdRange, operation: Callable[[*Ts], R], *args: *Ts) -> R | NotHad:
        """The same within ``run``: under both locks. Whoever has that byte has it for some µs, unless it is stopped."""
        fd, tries = self._fd, _TRIES_BENEATH
        try:
            while _fcntl(fd, _SETLK, part.locking) != 0:
                tries -= 1
                if not tries:
                    return NOT_HAD
            return operation(*args)
        finally:
            _fcntl(fd, _SETLK, part.unlocking)

    def run_holding_mutex(self, timeout: float, operation: Callable[[*Ts], R], *args: *Ts) -> R | NotHad:
        """The same for a thread that has taken ``mutex`` already, as a fork does, and goes on holding it."""
        self.check()
        lock = self._lock
        give = lock.give
        try:
            if lock.take() != 0 and not self._contend(lock, timeout):
                return NOT_HAD
            return operation(*args)
        finally:
            give()

    def _wait_for_mutex(self, timeout: float | None) -> float:
        """The seconds that are left with the mutex in hand; negative without it."""
        if timeout is None:
            raise Busy("held by another thread")
        deadline = time.monotonic() + timeout
        if not self.mutex.acquire(timeout=min(timeout, threading.TIMEOUT_MAX)):
            return -1.0
        left = max(0.0, deadline - time.monotonic())
        self.waited = timeout - left
        return left

    def _contend(self, lock: WholeLock, timeout: float | None) -> bool:
        """Wait for it; what is had, or asked for, when an exception comes out of here, its caller gives back."""
        try:
            if timeout is None:
                if lock.try_lock():
                    return True
                raise Busy("held by another process")
            began, waited = time.monotonic(), 0.0
            had = timeout <= 0 and lock.try_lock()
            while not had:
                left = timeout - waited
                if left <= 0:
                    self.waited = 0.0
                    return False
                had = sleep_and_try(lock, waited, left) if self._polls else lock.wait(waited, left)
                waited = time.monotonic() - began
            self.waited += waited
            return True
        except own(OSError) as error:
            if error.errno is None:
                raise
            raise Lost(f"its lock file cannot be locked any more ({error})") from error
        except own(ValueError) as error:
            raise PlaneCorrupt(
                f"{error}, and no process can be that. Somebody wrote over it: save what can still be read and remove the "
                f"plane."
            ) from error

    def timed_out(self, timeout: float) -> LockTimeout:
        """What to raise when the lock was not to be had within ``timeout`` seconds."""
        holder = self._holder()
        return LockTimeout(
            f"waited {timeout:g} s for the plane's lock; {holder} holds it. If that process is stopped, let it go on "
            f"(kill -CONT) or end it; the call can be repeated.",
            timeout=timeout,
            holder=holder,
        )

    def _holder(self) -> str:
        """Who holds it now. A thread of ours that waits for it has our mutex and nothing else, so it is not the one."""
        try:
            is_elsewhere = self._lock.is_held_elsewhere()
        except own(OSError):
            is_elsewhere = True
        return self._describe_holder() if is_elsewhere else "another thread of this process"

    def adopt(self, fd: int) -> None:
        """Go on with this descriptor, in this process: in a forked child with one of its own, which then says its ``word``."""
        self._fd = fd
        self._lock = OfdRange(-1 if self.word is not None else fd)
        self._offset = mark_description(fd)
        self.pid = os.getpid()

    def use(self, word: WholeLock) -> None:
        """Go on with this mark in the word; what is had under another one is given back under that."""
        self.word = self._lock = word
