"""What steps under the lock gave back, counted where it is given back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["NOTHING", "Freed"]


class Freed(NamedTuple):
    """What one step gave back; ``nbytes``: how much less memory is used."""

    processes: int = 0
    leases: int = 0
    permits: int = 0
    blocks: int = 0
    nbytes: int = 0

    @classmethod
    def total(cls, parts: Iterable[Freed]) -> Freed:
        return cls(*map(sum, zip(NOTHING, *parts, strict=True)))


NOTHING = Freed()
