"""Values as ``prometheus_client`` wants them, in the pages of a book.

The library asks for one per series, calls ``inc`` and ``set`` as often as its user does, and nothing else matters as much:
one comparison of PIDs, one lock of this process, one store.
"""

from __future__ import annotations

from os import getpid
from typing import TYPE_CHECKING, Any

from ...counting import Series, key_of

if TYPE_CHECKING:
    from ...counting import Book

__all__ = ["SharedValue"]


class SharedValue:
    """A value as ``prometheus_client`` wants it, in this process's page. Made by the metrics that are made after ``use``."""

    _multiprocess = True
    book: Book  #: set by a subclass for each book

    def __init__(self, *given: Any, multiprocess_mode: str = "", **_: Any) -> None:
        kind, family, name, label_names, label_values, meaning = given
        labels = tuple(sorted(zip(label_names, label_values, strict=True)))
        self._key = key_of(Series(kind, multiprocess_mode, family, name, labels, meaning))
        self._find_page()
        self.book.families_here.add(family)

    def inc(self, amount: float) -> None:
        """Cost: a lock of this process, and one store."""
        page = self._page
        if page.pid != getpid():
            page = self._find_page()
        with page.lock:
            page.values[self._at] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        page = self._page
        if page.pid != getpid():
            page = self._find_page()
        with page.lock:
            page.values[self._at] = value
            page.values[self._at + 1] = timestamp or 0.0

    def get(self) -> float:
        """That of this process alone."""
        page = self._page
        if page.pid != getpid():
            page = self._find_page()
        return float(page.values[self._at])

    def _find_page(self) -> Any:
        self._page, self._at = self.book.place(self._key)
        return self._page

    def set_exemplar(self, exemplar: Any) -> None:
        """Exemplars are not shared, as with a multiprocess directory."""

    def get_exemplar(self) -> None:
        return None
