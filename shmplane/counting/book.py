"""One process's counting in a plane: which series it has, and where in its pages the value of each lies.

Rule 1. Counting never fails and never waits for long. Where no page is to be had (the plane is full, closed, destroyed, busy),
it goes on in memory of this process, and what was counted there moves to a page as soon as there is one.
Rule 2. A forked child has pages of its own from its first change on, in which it begins at 0 with all series of its parent.
Rule 3. Series beyond the table are counted together, as ``other``; that is said once.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ClosedError, ShmplaneError
from ..system import begin_again_in_forks, logger_of, own
from .pages import FIRST_NBYTES, MOST_NBYTES, Page, Spare
from .series import Series, State, key_of, other_of, series_of
from .totals import Totals

if TYPE_CHECKING:
    from ..plane import Plane

__all__ = ["Book", "Place"]

log: logging.Logger = logger_of("shmplane.counting")

_AGAIN_S = 1.0


class Place(NamedTuple):
    """Where a value lies."""

    page: Page | Spare
    at: int


class Book:
    """All that this process counts in a plane.

    Args:
        most_series: of the host, as far as this process knows when it begins; those of this process beyond that are ``other``.
    """

    def __init__(self, plane: Plane, most_series: int) -> None:
        self._totals = Totals(plane)
        self._most = most_series
        self._said: set[str] = set()
        #: that metrics of this process have
        self.families_here: set[str] = set()
        self._begin()
        begin_again_in_forks(self)

    def _begin(self, keys: tuple[str, ...] = ()) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._places: dict[str, Place] = {}
        self._pages: list[Page] = []
        self._spare = Spare()
        #: series of processes that ended, which need no new room
        self._known: frozenset[str] = frozenset()
        #: series of this process that nobody had before, and those that are ``other``
        self._new = self._others = 0
        self._is_adding = False
        self._try_at = 0.0
        #: of the parent, to be had here as well
        self._inherited = keys

    # Counting

    def place(self, key: str) -> Place:
        """Where a series is counted now, in this process. Cost: a dict's look-up, but for a new one."""
        if self._pid != os.getpid():
            self.begin_again_in_child()
        found = self._places.get(key)
        if found is not None and isinstance(found.page, Page):
            return found
        with self._lock:
            return self._find(key)

    def _find(self, key: str) -> Place:
        if self._is_adding:  # a signal handler that counts what nobody has counted before
            return Place(self._spare, self._spare.add())
        self._find_pages()
        with self._adding():
            return self._move(key)

    def _find_pages(self) -> None:
        """Move what is counted in spare memory, and what the parent counted, to pages, if there may be some by now."""
        if self._is_adding or time.monotonic() < self._try_at:
            return
        with self._adding():
            waiting = (
                [key for key, place in self._places.items() if isinstance(place.page, Spare)]
                if self._spare.size
                else []
            )
            for key in (*self._inherited, *waiting):
                self._move(key)
            self._inherited = ()

    @contextmanager
    def _adding(self) -> Iterator[None]:
        self._is_adding = True
        try:
            yield
        finally:
            self._is_adding = False

    def _move(self, key: str) -> Place:
        """Find the series, or give it a place; what it has in spare memory comes along."""
        known = self._places.get(key)
        if known is not None and isinstance(known.page, Page):
            return known
        made = self._make(key)
        if made is None:
            made = known if known is not None else Place(self._spare, self._spare.add())
        elif known is not None:
            _carry_over(series_of(key), known, made)
        self._places[key] = made
        return made

    def _make(self, key: str) -> Place | None:
        """A place in a page; None when there is none to be had for a while."""
        if time.monotonic() < self._try_at:
            return None
        try:
            if not self._pages:
                self._add_page(0)
            series = series_of(key)
            if not self._has_room(key, series):
                self._say(
                    "series", f"more than {self._most:,} series are counted; new ones are counted together as 'other'"
                )
                return self._make_other(key_of(other_of(series)))
            self._new += key not in self._known
            return self._add(key)
        except own(ShmplaneError) as error:
            self._try_at = time.monotonic() + _AGAIN_S
            self._say("page", f"metrics are counted in this process alone until there is room in the plane: {error}")
            return None

    def _make_other(self, key: str) -> Place | None:
        """There are as many of those as families. Room for them is not counted, but there is an end to it."""
        known = self._places.get(key)
        if known is not None and isinstance(known.page, Page):
            return known
        if self._others >= self._most:
            return None
        made = self._places[key] = self._add(key)
        self._others += 1
        return made

    def _has_room(self, key: str, series: Series) -> bool:
        """What has no labels is as much as the program's text has; so it always has room."""
        return not series.labels or key in self._known or self._new + len(self._known) < self._most

    def _add(self, key: str) -> Place:
        page = self._pages[-1]
        at = page.add(key)
        if at is None:
            page = self._add_page(len(key.encode()) + 64)
            at = page.add(key)
        if at is None:
            raise AssertionError(f"a new page has no room for a key of {len(key):,} letters")
        return Place(page, at)

    def _add_page(self, needed: int) -> Page:
        nbytes = min(FIRST_NBYTES << len(self._pages), MOST_NBYTES)
        page = self._totals.add_page(max(nbytes, needed + 64))
        if not self._pages:
            self._known = frozenset(key for key, _ in self._totals.ended())
        self._pages.append(page)
        return page

    def _say(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s", text)

    # Reading

    def read(self, family: str) -> State | None:
        """The values of a family over all processes; None when the plane was closed or destroyed."""
        try:
            with self._lock:
                self._find_pages()
                return self._totals.read(family)
        except own(ClosedError):
            return None

    def families(self) -> set[str]:
        """The names of all that are counted; none when the plane was closed or destroyed."""
        try:
            with self._lock:
                self._find_pages()
                return self._totals.families()
        except own(ClosedError):
            return set()

    # Ends

    def begin_again_in_child(self) -> None:
        """In a forked child: what the parent counted is the parent's. Again: does nothing."""
        if self._pid == os.getpid():
            return
        pages, keys = self._pages, (*self._inherited, *self._places)
        self._begin(tuple(dict.fromkeys(keys)))
        self._totals.forget()
        for page in pages:
            page.drop()

    def close(self) -> None:
        """Count in this process alone from now on; what was counted stays in the plane, as of a process that ended."""
        with self._lock:
            self._try_at = float("inf")
            for key, place in list(self._places.items()):
                if isinstance(place.page, Page):
                    self._places[key] = Place(self._spare, self._spare.add(place.page.values[place.at]))
            self._totals.forget()
            for page in self._pages:
                page.drop()
            self._pages.clear()


def _carry_over(series: Series, known: Place, made: Place) -> None:
    """What was counted in spare memory since the start, to a place that may have something already."""
    with known.page.lock, made.page.lock:
        old, new = known.page.values, made.page.values
        if series.kind == "gauge" and series.mode.removeprefix("live") != "sum":
            new[made.at], new[made.at + 1] = old[known.at], old[known.at + 1]
        else:
            new[made.at] += old[known.at]
        old[known.at] = 0.0
