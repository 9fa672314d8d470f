"""Whom a worker works for: what it is told when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..plane import Presence

__all__ = ["Origin"]


class Origin(NamedTuple):
    """The process that a worker works for, and how it wants its results."""

    root: str
    plane: str
    instance: int
    presence: Presence
    token: bytes
    threshold: int
    pickler: str
    pid: int
