"""What tests of drafts and appends share."""

from __future__ import annotations

import gc
from typing import Any

import shmplane
from tests.support.audit import faults_of

__all__ = ["edit", "faults", "settle"]


def edit(plane: shmplane.Plane, name: str) -> Any:
    """A draft, of which the test knows the kind."""
    return plane.edit(name)


def settle(plane: shmplane.Plane) -> shmplane.PlaneStatistics:
    """The totals after everything that is garbage, or of the dead, has gone."""
    gc.collect()
    plane.gc()
    plane.gc()  # once more, for rows of files that the first one removed
    return plane.stats()


def faults(plane: shmplane.Plane) -> list[str]:
    """What a full recount finds wrong once everything has settled."""
    settle(plane)
    return faults_of(plane)
