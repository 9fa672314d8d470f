"""What is wrong with the planes of a root: stale processes, unfinished work, tables that fill up, foreign files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import PlaneNotFound, PlaneSecurityError, ShmplaneError
from ..manifest import plane_names
from .checks import Check
from .open import reading
from .places import leftovers
from .reclaiming import reclaimable
from .units import count, nbytes, some

if TYPE_CHECKING:
    from ..manifest import Snapshot, Summary

__all__ = ["check_planes"]

_NEARLY = 0.9


def check_planes(root: str) -> Iterator[Check]:
    """Every plane of this user in a root, then what killed processes left beside them."""
    for name in plane_names(root):
        yield from _plane(name, root)
    for left in leftovers(root):
        yield Check("leftover", "warn", f"{left.path}: {left.what}, {nbytes(left.nbytes)}", "shmplane gc")


def _plane(name: str, root: str) -> Iterator[Check]:
    label = f"plane {name}"
    try:
        with reading(name, root) as plane:
            snapshot = plane.snapshot()
    except PlaneNotFound:
        return  # removed meanwhile
    except PlaneSecurityError as error:
        # Whose it is and who may write there is the fault, which its message says how to mend; the values may be well.
        yield Check(label, "fail", str(error), "Mend that first; do not remove the plane for it.")
        return
    except (ShmplaneError, OSError, ValueError) as error:
        yield Check(label, "fail", str(error), f"shmplane rm {name} --plane --force")
        return
    problems = list(_problems(label, snapshot))
    yield from problems or [Check(label, "pass", _describe(snapshot.summary))]


def _describe(summary: Summary) -> str:
    return (
        f"{some(summary.blocks, 'block')}, {nbytes(summary.used_nbytes)} of {nbytes(summary.capacity)}, "
        f"{some(len(summary.living), 'process')}"
    )


def _problems(label: str, snapshot: Snapshot) -> Iterator[Check]:
    summary, name = snapshot.summary, snapshot.summary.name
    if summary.approximate:
        cure = "Look for a stopped process: kill -CONT, or end it."
        yield Check(label, "warn", "its lock has been held for over a second", cure)
    if summary.stale:
        yield Check(label, "warn", str(reclaimable(snapshot)), f"shmplane gc {name}")
    elif summary.dirty and not summary.approximate:
        yield Check(label, "warn", "a call was left unfinished; the next one recovers", f"shmplane gc {name}")
    for what, used, most in (
        ("blocks", summary.blocks, summary.max_blocks),
        ("processes", len(summary.processes), summary.max_processes),
    ):
        if used > _NEARLY * most:
            cure = f"Make the plane with a larger max_{what}=."
            yield Check(label, "warn", f"{count(used)} of {count(most)} {what}", cure)
    if summary.used_nbytes > _NEARLY * summary.capacity:
        yield Check(
            label,
            "warn",
            f"{nbytes(summary.used_nbytes)} of {nbytes(summary.capacity)} in use",
            "Delete blocks, or plane.resize(capacity).",
        )
