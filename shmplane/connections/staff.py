"""The threads of a pool: connectors, and one keeper that does the housekeeping when it is due.

A connector opens connections as long as the roster wants one more, then ends. The keeper sleeps until the
roster's ``due``; what may hang (closing, keep-alive checks) it leaves to a thread of its own. All are
daemons, and the keeper holds its pool weakly, so that a forgotten pool can go.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from shmplane.connections.holders import log
from shmplane.connections.housekeeping import due, sweep
from shmplane.connections.member import OUT, MemberRef

if TYPE_CHECKING:
    from shmplane.connections.member import Plan
    from shmplane.connections.shell import Shell

__all__ = ["Staff"]

SHORTEST_SLEEP = 0.02  #: seconds between two rounds of housekeeping, at least
LONGEST_SLEEP = 3600.0


class Staff:
    """Starts the threads of one pool in one process."""

    def __init__(self, pool: Shell[Any]) -> None:
        self._pool = weakref.ref(pool)
        # Unlike an Event's, its put may be called from a finalizer, whatever this thread is doing.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._keeper: threading.Thread | None = None
        self._hiring = threading.Lock()

    def keep(self) -> None:
        """Start the keeper, unless it works already."""
        if self._keeper is not None:
            return
        with self._hiring:
            if self._keeper is None:
                args = (self._pool, self._alarm)
                self._keeper = threading.Thread(target=_keep, args=args, name="shmplane-keeper", daemon=True)
                self._keeper.start()

    def dismiss(self, *, wait: bool = True) -> None:
        """Send the keeper home."""
        self._alarm.put(None)
        keeper = self._keeper
        if wait and keeper is not None and keeper is not threading.current_thread():
            keeper.join()

    def wake(self) -> None:
        """Let the keeper look at once: something is due earlier than it thought."""
        self._alarm.put(None)

    def connect(self, count: int, *, permitted: bool = False) -> None:
        """Start threads for planned connects."""
        pool = self._pool()
        if pool is None:
            return
        for _ in range(count):
            args = (pool, permitted)
            try:
                threading.Thread(target=_connect, args=args, name="shmplane-connect", daemon=True).start()
            except RuntimeError as error:
                # The system gives us no more threads: the same as if the server gave us no more connections.
                _failed(pool, error, permitted)


def _keep(ref: weakref.ref[Shell[Any]], alarm: SimpleQueue[None]) -> None:
    pause = 0.0
    while True:
        with suppress(Empty):
            alarm.get(timeout=pause)
        pool = ref()
        if pool is None or pool._roster.closed:
            return
        pause = _sweep(pool)
        del pool


def _sweep(pool: Shell[Any]) -> float:
    elsewhere = pool._waiting_elsewhere()
    now = monotonic()
    with pool._lock:
        # Dropped, and Ctrl-C stopped the callback that notes it, which Python swallows.
        gone = [member.ref for member in pool._roster.members.values() if member.state == OUT and member.ref() is None]
        pool._drops.extend(ref for ref in gone if isinstance(ref, MemberRef) and ref not in pool._drops)
        plan = sweep(pool._roster, now, elsewhere)
        next_round = due(pool._roster, now)
    if plan.close or plan.check:
        threading.Thread(target=pool._carry_out, args=(plan,), name="shmplane-chores", daemon=True).start()
    else:
        pool._carry_out(plan)
    pool._seek_permit()
    pool._publish()
    return min(max(next_round - monotonic(), SHORTEST_SLEEP), LONGEST_SLEEP)


def _connect(pool: Shell[Any], permitted: bool = False) -> None:
    """Open planned connections, one after the other, as long as the roster plans more."""
    more = True
    while more:
        plan = _connect_once(pool, permitted)
        more = plan.connect > 0
        # This thread makes the next one itself instead of starting another.
        plan.connect -= more
        permitted = False
        pool._carry_out(plan)


def _connect_once(pool: Shell[Any], permitted: bool) -> Plan:
    started = monotonic()
    conn: Any = None
    try:
        permits = pool._open_permits()
        permitted = permitted or permits is None or permits.try_acquire()
        if permitted:
            conn = _open(pool)
    except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to
        return _failed(pool, error, permitted)
    with pool._lock:
        if permitted:
            return pool._roster.opened(conn, monotonic(), monotonic() - started)
        plan = pool._roster.unpermitted(monotonic())
    pool._seek_permit()
    return plan


def _failed(pool: Shell[Any], error: BaseException, permitted: bool) -> Plan:
    log.warning("pool %r: connecting failed: %r", pool.name, error)
    if permitted:
        pool._give_permit_back()
    with pool._lock:
        plan = pool._roster.failed(error, monotonic())
    # The keeper tries again when the back-off is over.
    pool._staff.wake()
    return plan


def _open(pool: Shell[Any]) -> Any:
    settings = pool._settings
    conn = settings.connect()
    if conn is None:
        raise TypeError("connect returned None instead of a connection")
    if settings.configure is not None:
        try:
            settings.configure(conn)
        except BaseException:
            pool._close_connection(conn)
            raise
    return conn
