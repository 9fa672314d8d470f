"""A check: one thing that can be wrong, how it was found, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Status", "worst"]

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        status: ``warn``: it works, but not for long or not for everything; ``fail``: it does not.
        found: what was seen, in one line.
        cure: what to do; empty when nothing is to be done.
    """

    name: str
    status: Status
    found: str
    cure: str = ""


def worst(checks: list[Check]) -> Status:
    """The status that counts: ``fail`` before ``warn`` before ``ok``."""
    found = {check.status for check in checks}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"
