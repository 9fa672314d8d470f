"""What the roster works with: members (connections with their bookkeeping), waiters, and plans.

Rule 1. While a connection is out, a member holds no strong reference to it, where its type allows weak
ones: so a connection that its user dropped becomes garbage, and its slot comes back.
Rule 2. A member's fields are written by the roster only.
Rule 3. The callback of ``ref`` is one call into C. Python code in a callback would swallow what a signal raises there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

from ..system import own

__all__ = ["BUSY", "IDLE", "OUT", "Member", "MemberRef", "Outcome", "Plan", "Taken", "Waiter", "place_of"]

IDLE = 0  #: in the pool, may be handed out
OUT = 1  #: with a user, or on its way to a waiter that was chosen
BUSY = 2  #: the pool itself works on it: check, reset, keep-alive, closing


#: Where and by which thread a connection was taken: code, instruction, thread ident (None: an asyncio task).
#: Code and instruction cost a fraction of what a traceback does; they become a line when somebody asks.
Taken = tuple[CodeType | None, int, int | None]
NOWHERE: Taken = (None, -1, None)


class Member:
    """One open connection and what the pool knows of it."""

    __slots__ = (
        "anchor",
        "checked",
        "conn",
        "expires",
        "fresh",
        "key",
        "notice",
        "ref",
        "reported",
        "since",
        "state",
        "taken",
    )

    def __init__(
        self,
        conn: Any,
        now: float,
        expires: float,
        dropped: Callable[[Any], object],
        noticed: Callable[[Any], object] | None = None,
    ) -> None:
        self.conn: Any = conn  #: the connection, or ``anchor`` while it is out
        self.key: int = id(conn)
        try:
            #: its callback warns. Made first, so that it is called last: the slot does not depend on it
            self.notice: MemberRef | None = MemberRef(conn, noticed)
            self.notice.key = self.key
            self.ref: Callable[[], Any] = MemberRef(conn, dropped)
            self.ref.key = self.key
            self.anchor: Any = None  #: what stays in ``conn`` while the connection is out
        except own(TypeError):
            self.ref = lambda: conn
            self.notice = None
            self.anchor = conn
        self.state: int = BUSY
        self.since: float = now  #: when it went out, or became idle
        self.checked: float = now  #: when it last proved to be alive
        self.expires: float = expires
        self.fresh: bool = True  #: was never out, so it needs no check
        self.reported: float = -1.0  #: the ``since`` for which it was reported as a leak
        self.taken: Taken = NOWHERE


class MemberRef(weakref.ref[Any]):
    """A weak reference to a connection that still knows its key when the connection is gone."""

    __slots__ = ("key",)
    key: int


def gone() -> None:
    """Stands in for a reference to a connection that the pool has let go."""


class Outcome(NamedTuple):
    """What came of a user's callable."""

    value: Any
    error: BaseException | None


class Waiter:
    """A caller in the queue, until it was served, refused or gave up."""

    __slots__ = ("done", "error", "member", "refused", "since", "taken", "wake")

    def __init__(self, wake: Any, since: float, taken: Taken) -> None:
        self.wake: Any = wake  #: how its pool wakes it: a lock or a future
        self.since: float = since
        self.taken: Taken = taken
        self.member: Member | None = None  #: set by the roster: served
        self.refused: bool = False  #: set by the roster: no connection will come
        self.error: BaseException | None = None  #: why; None: the pool was closed
        self.done: bool = False  #: set by the roster: served, refused, or what it waited for is the case


class Plan:
    """What the roster decided, for its pool to carry out without the lock, in this order."""

    __slots__ = ("check", "close", "connect", "leaks", "woken")

    def __init__(self) -> None:
        self.woken: list[Waiter] = []  #: served or refused; wake them
        self.connect: int = 0  #: connects to start; their slots are taken already
        self.close: list[Member] = []  #: close each, then say ``closed``
        self.check: list[Member] = []  #: keep-alive: check each, then say ``checked``
        self.leaks: list[Member] = []  #: held too long; report each

    def __bool__(self) -> bool:
        return bool(self.woken or self.connect or self.close or self.check or self.leaks)


def place_of(taken: Taken) -> tuple[str, int, str]:
    """File, line and function."""
    code, lasti, _ = taken
    if code is None:
        return "?", 0, "?"
    line = code.co_firstlineno
    for start, end, at in code.co_lines():
        if start <= lasti < end and at is not None:
            line = at
            break
    return code.co_filename, line, code.co_qualname
