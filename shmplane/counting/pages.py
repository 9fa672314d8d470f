"""Pages: pieces of shared memory in which one process counts, and which anybody may read, also when that process is dead.

Only its process writes a page. Words of 8 bytes::

    0  bytes in use, these words included; stored last when a series is added, so a half-written one is never visible
    1  slot of the process + 1, and
    2  when it joined the plane: together they name it
    3  its PID, for the modes of gauges that show it
    4  entries, one behind the other: bytes of the key, the key itself up to the next multiple of 8, value, time

A value is one aligned store. A time is stored after its value: the only consequence of a death in between is that the
value, set at that moment, counts as older than it is.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ..plane import Presence
from .series import Entry, series_of

__all__ = ["FIRST_NBYTES", "Page", "PageReader", "Spare", "Words"]

FIRST_NBYTES = 64 * 1024
MOST_NBYTES = 1024 * 1024
_HEAD = 4
_WORD = 8
_LONGEST_KEY = 32 * 1024


class Words(Protocol):
    """Numbers by position."""

    def __getitem__(self, at: int, /) -> Any: ...
    def __setitem__(self, at: int, value: Any, /) -> None: ...


class Page:
    """A page that this process counts in.

    Attributes:
        pid: of the process; in a forked child it is another one, which must not count here.
        values: where the values lie; a position of one is that of a word.
        lock: held around a change of a value.
    """

    def __init__(self, memory: Any, presence: Presence) -> None:
        """A new page, all zero."""
        self.pid: int = os.getpid()
        self.lock: threading.RLock = threading.RLock()
        self._bytes = memoryview(memory).cast("B")
        self._words: Words = words_of(self._bytes, "Q")
        self.values: Words = words_of(self._bytes, "d")
        self._room = len(self._bytes)
        for word, value in enumerate((presence.slot + 1, presence.joined, self.pid), 1):
            self._words[word] = value
        self._words[0] = self._end = _HEAD * _WORD

    def add(self, key: str) -> int | None:
        """Where the value of a new series lies; None when there is no room for it. After an exception: nothing was added."""
        encoded = key.encode()
        at, start = self._end, self._end + _WORD
        value = start + (len(encoded) + 7 & ~7)
        if value + 2 * _WORD > self._room:
            return None
        self._words[at // _WORD] = len(encoded)
        self._bytes[start : start + len(encoded)] = encoded
        # Where an exception ended the one before there may be something.
        self.values[value // _WORD] = self.values[value // _WORD + 1] = 0.0
        self._words[0] = value + 2 * _WORD
        self._end = value + 2 * _WORD
        return value // _WORD

    def drop(self) -> None:
        """In a forked child: the parent's page is the parent's, and no lease of ours keeps it."""
        self.pid = 0
        self._bytes = memoryview(b"")
        self._words = self.values = self._bytes


class Spare:
    """Where it is counted while no page is to be had: memory of this process alone."""

    def __init__(self) -> None:
        #: of no process, so that every change asks whether there is a page by now
        self.pid: int = 0
        self.lock: threading.RLock = threading.RLock()
        self._values = array("d")
        self.values: Words = self._values

    def add(self, value: float = 0.0) -> int:
        at = len(self._values)
        self._values.extend((value, 0.0))
        return at

    @property
    def size(self) -> int:
        return len(self._values)


class PageReader:
    """A page of any process, looked at again and again."""

    def __init__(self, memory: Any) -> None:
        self._bytes = memoryview(memory).cast("B")
        self._words = self._bytes.cast("Q")
        self._values = self._bytes.cast("d")
        self._known: dict[str, list[tuple[str, int]]] = {}
        self._read = _HEAD * _WORD
        self.presence: Presence = Presence(self._words[1] - 1, self._words[2])
        self.pid: int = self._words[3]

    def entries(self, family: str | None = None) -> Iterator[Entry]:
        """The values of a family, or of all, as they are now."""
        self._find_new()
        values = self._values
        for name in [family] if family is not None else list(self._known):
            for key, at in self._known.get(name, ()):
                yield Entry(key, values[at], values[at + 1], self.pid)

    def families(self) -> Iterable[str]:
        self._find_new()
        return list(self._known)

    def _find_new(self) -> None:
        """Keys stay where they are, so each is read once. What cannot be a key ends the page."""
        used, room = min(self._words[0], len(self._bytes)), 2 * _WORD
        while self._read + _WORD <= used:
            nbytes = self._words[self._read // _WORD]
            start = self._read + _WORD
            if not 0 < nbytes <= _LONGEST_KEY or start + (nbytes + 7 & ~7) + room > used:
                return
            value = start + (nbytes + 7 & ~7)
            try:
                key = bytes(self._bytes[start : start + nbytes]).decode()
                family = series_of(key).family
            except ValueError:
                return
            self._known.setdefault(family, []).append((key, value // _WORD))
            self._read = value + room


def words_of(memory: memoryview, kind: str) -> Words:
    """Memory as words; the one place where a page's words come from."""
    words: Words = memory.cast(kind)  # type: ignore[call-overload]
    return words
