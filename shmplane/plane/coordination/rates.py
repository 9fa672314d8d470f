"""Host-wide rates: so many units in so much time over all processes, first come, first served.

The shared part (the arrival, the terms, tickets of those who wait) is in the manifest; this process's part, its waiters in
their order, in ``rate_claims``. All ``RateLimiter`` objects of a name share one such part. While a process has one, the
terms are fixed for others but by ``resize``.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from ...errors import LockTimeout, PlaneMismatch
from ...manifest import Terms, Transaction, is_sound
from ...names import check_block_name
from ..process.patience import is_in_event_loop, patience
from ..process.reclaim import load_for_recovery, reclaim_dead
from .lines import Lines, LocalLine
from .rate_claims import Grant, RateClaim, check_units
from .waiting import Closing, cannot_travel, check_timeout, look_once, open_row, wait_for, wait_for_async

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["Grant", "RateLimiter", "open_rate"]

_clock = time.monotonic_ns


def open_rate(
    attachment: Attachment, name: str, limit: float, per: float, burst: float | None, *, closing: Closing
) -> RateLimiter:
    """A limiter of the rate ``name``; ``PlaneMismatch`` when others use it with other terms."""
    if not attachment.is_ready:
        attachment.is_ready = load_for_recovery()  # the modules of what is opened are among them
    limiter = RateLimiter(attachment, name, check_terms(limit, per, burst), closing=closing)
    if is_in_event_loop():
        # What cannot be had at once, the first who looks at it finds out.
        attachment.try_change(patience(attachment), limiter._check)
    else:
        attachment.change(limiter._check)
    return limiter


def check_terms(limit: float, per: float, burst: float | None) -> Terms:
    """The terms as asked for; ``ValueError`` or ``TypeError`` says what is wrong with them."""
    units = check_units(limit, "limit")
    # One unit can be asked for, also of a rate that has less than one in a period.
    terms = Terms(units, check_units(per, "per"), max(units, 1.0) if burst is None else check_units(burst, "burst"))
    if not is_sound(terms):
        raise ValueError(
            f"a burst of {terms.burst:g} units at {limit:g} in {per:g} s takes more than a year to come back, or no time"
        )
    return terms


class RateLimiter:
    """At most ``limit`` units in ``per`` seconds over all processes of the host, ``burst`` of them at once.

    In any window of time no more than ``burst + limit * time / per`` units are granted. Waiters of all processes and threads
    are served in the order in which they came; one that wishes for much is not overtaken by those that wish for little. A
    killed process leaves nothing behind that others wait for: what it was granted is used, its place in the line is free.

    For two limits of one provider, such as requests and tokens a minute, acquire one after the other, in the same order
    everywhere: a grant is not held, so nobody waits for it to be given back.

    Cost: a grant that can be had at once is one short hold of the plane's lock. A waiter sleeps until it is its turn.
    """

    def __init__(self, attachment: Attachment, name: str, terms: Terms, *, closing: Closing) -> None:
        self._attachment, self._terms, self._closing = attachment, terms, closing
        self._key = b"r:" + check_block_name(name)
        self._title = f"rate {name!r} of plane {attachment.name!r}"
        self._lines = attachment.registry(Lines)
        self._part = LocalLine()  # the process's one is found with the first look
        self._is_checked = False

    # Taking

    def try_acquire(self, amount: float = 1) -> Grant | None:
        """``amount`` units if they can be granted now and nobody waits, else None; never blocks.

        None as well when the plane's own lock was not to be had within 20 ms (in an event loop 4 ms).

        Raises:
            ValueError: ``amount`` is not above 0, or above the burst, so that it can never be granted.
        """
        claim = self._claim(amount, None, waits=False)
        look_once(claim)
        if claim.is_too_large:
            raise self._too_large(claim)
        return claim.grant

    def acquire(self, amount: float = 1, timeout: float | None = None) -> Grant:
        """``amount`` units, waiting in line for them.

        Args:
            timeout: seconds; None: for ever; 0: not at all.

        Raises:
            LockTimeout: they cannot be granted in time, which is said as soon as it is known, most often at once.
            ValueError: ``amount`` is not above 0, or above the burst.
            ClosedError: the plane was destroyed, or the ``Plane`` object of this limiter closed, meanwhile.
        """
        claim = self._claim(amount, timeout)
        wait_for(claim, timeout)
        return self._grant_of(claim, timeout)

    async def acquire_async(self, amount: float = 1, timeout: float | None = None) -> Grant:
        """``acquire`` for asyncio; a cancelled wait leaves its place in the line.

        Raises:
            RuntimeError: this is another event loop than asyncio's.
        """
        claim = self._claim(amount, timeout)
        await wait_for_async(claim, timeout)
        return self._grant_of(claim, timeout)

    def _claim(self, amount: float, timeout: float | None, *, waits: bool = True) -> RateClaim:
        check_timeout(timeout)
        units = check_units(amount, "amount")
        if self._closing.closed:
            raise self._closing.error()
        deadline = None if timeout is None else _clock() + math.ceil(min(timeout, 1e9) * 1e9)
        return RateClaim(self, units, deadline, waits=waits)

    def _grant_of(self, claim: RateClaim, timeout: float | None) -> Grant:
        """What the wait has come to."""
        if claim.grant is not None:
            return claim.grant
        if claim.is_too_large:
            raise self._too_large(claim)
        if self._closing.closed or timeout is None:
            raise self._closing.error()
        if claim.terms is None:
            raise self._attachment.lock.timed_out(timeout)
        needed = max(0, claim.ready - _clock()) / 1e9
        raise LockTimeout(
            f"{self._title} cannot grant {claim.amount:g} units within {timeout:g} s: at {claim.terms.limit:g} units in "
            f"{claim.terms.per:g} s, and with those who came before, that takes {needed:.3g} s more. Wait longer, ask for "
            f"less, or raise the limit with resize().",
            timeout=timeout,
            amount=claim.amount,
            needed=needed,
        )

    def _too_large(self, claim: RateClaim) -> ValueError:
        burst = (claim.terms or self._terms).burst
        return ValueError(
            f"{self._title} grants at most {burst:g} units at once, its burst; {claim.amount:g} can never be granted. Ask "
            f"for less at once, or open it with a larger burst="
        )

    # Terms

    @property
    def limit(self) -> float:
        """How many units there are in ``per`` seconds."""
        return self._attachment.change(self._current).limit

    @property
    def per(self) -> float:
        """The period, in seconds."""
        return self._attachment.change(self._current).per

    @property
    def burst(self) -> float:
        """How many units there can be at once."""
        return self._attachment.change(self._current).burst

    @property
    def available(self) -> float:
        """How many units could be granted now, were nobody in line."""
        return self._attachment.change(self._available)

    def resize(self, limit: float, per: float | None = None, burst: float | None = None) -> None:
        """Change the terms for everybody, at once; as many units as were granted are still to be paid for.

        Args:
            per: None: as it is.
            burst: None: the limit if it was that, else as it is.
        """
        terms = check_terms(limit, 60.0 if per is None else per, burst)
        now = self._attachment.change(self._resize, terms, per is None, burst is None)
        if now is None:
            raise ValueError(f"{self._title}: its burst would take more than a year to come back at {limit:g} units")
        self._terms = now

    def _resize(self, tx: Transaction, terms: Terms, keeps_per: bool, keeps_burst: bool) -> Terms | None:
        now = self._current(tx)
        if keeps_per:
            terms = terms._replace(per=now.per)
        if keeps_burst and now.burst != max(now.limit, 1.0):
            terms = terms._replace(burst=now.burst)
        if not is_sound(terms):
            return None
        tx.rates.change_terms(self._placed(tx).row, terms)
        return terms

    def _current(self, tx: Transaction) -> Terms:
        return tx.rates.terms(self._placed(tx).row)

    def _available(self, tx: Transaction) -> float:
        return tx.rates.available(self._placed(tx).row, self._current(tx))

    # This process's part

    def _check(self, tx: Transaction) -> None:
        """``PlaneMismatch`` when others use it with other terms."""
        tx.coordination.back_rows()
        row = self._open_row(tx)
        if tx.rates.terms(row) != self._terms and reclaim_dead(tx, self._attachment):
            row = self._open_row(tx)  # whoever used it with the other terms may have been killed
        found = tx.rates.terms(row)
        if found != self._terms:
            asked = self._terms
            raise self._attachment.manifest.refuse(
                PlaneMismatch(
                    f"{self._title} has {found.limit:g} units in {found.per:g} s (burst {found.burst:g}) and is in use; "
                    f"asked for {asked.limit:g} in {asked.per:g} s (burst {asked.burst:g}). Use the same, or change it "
                    f"with resize().",
                    asked=tuple(asked),
                    found=tuple(found),
                )
            )
        # Not before: what is garbage has been freed by now, so an earlier limiter of ours does not count as in use.
        self._part = self._lines.part(self._key)
        self._lines.place(tx, self._key, self._part, row)
        self._is_checked = True

    def _open_row(self, tx: Transaction) -> int:
        return open_row(tx, self._attachment, tx.rates.open, self._key, self._terms)

    def _placed(self, tx: Transaction) -> LocalLine:
        """This process's part, with a row that stands for this rate."""
        if not self._is_checked:
            self._check(tx)
        part = self._part
        if not tx.coordination.is_current(part.row, part.generation):
            tx.coordination.back_rows()
            self._lines.place(tx, self._key, part, self._open_row(tx))  # in a forked child
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        raise cannot_travel(self._title, "plane.rate(name, limit, per)")

    def __repr__(self) -> str:
        return f"<{self._title}>"
