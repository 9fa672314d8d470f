"""Objects that must never be finalised in this process, also not at its end.

A forked child inherits its parent's connections. One that became garbage there would say goodbye on the socket it shares
with the parent (psycopg sends Terminate). So each gets one reference that is never taken back; what is inherited is shared
with the parent's memory anyway.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["immortalise"]


def immortalise(things: Iterable[Any]) -> None:
    """Keep these objects for as long as the process lives."""
    for thing in list(things):
        # Safety: one reference more than anybody will ever give back; nothing is read or written through it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
