"""A check: one thing that can be wrong, how it was found, and the cure. Hosts, planes and pools are told alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

__all__ = ["Check", "Health"]

Status = Literal["pass", "warn", "fail"]


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


@dataclass(frozen=True, slots=True)
class Health:
    """The worst status of all checks (``fail`` before ``warn`` before ``pass``), and the checks."""

    status: Status
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Self:
        """What the checks come to."""
        made = tuple(checks)
        found = {check.status for check in made}
        return cls("fail" if "fail" in found else "warn" if "warn" in found else "pass", made)
