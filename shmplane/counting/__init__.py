"""What applications count, host-wide: each process in pages of its own, the totals over all of them, the killed included.

``series`` says what is counted and how values of several processes become one, ``pages`` is the memory, ``totals`` what all
processes come to, ``book`` one process's part. Ways out of it (Prometheus) stand in ``integrations``.
"""

from __future__ import annotations

from .book import Book
from .series import Entry, Series, State, add, key_of, series_of, together

__all__ = ["Book", "Entry", "Series", "State", "add", "key_of", "series_of", "together"]
