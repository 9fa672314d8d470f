"""What there is of things that have to be given back: planes, segments, leases, permits, descriptors.

They are counted before and after something, by what they are called; what has grown was left behind. Planes are read
from outside: counting takes no part in them. A lease ends within 50 ms after its last view is garbage, so what has grown
is looked at again for a while.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from ..errors import ShmplaneError
from ..observe import plane_names, snapshot_of

__all__ = ["Counts", "describe", "settled_growth", "take"]

_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are of each, by what they are called.

    Attributes:
        planes: in the root.
        segments: of those planes that hold blocks, and those that this process maps although their plane is gone.
        leases: of those planes, over all processes.
        permits: of locks and semaphores that are held there.
        descriptors: of this process, without those that Python keeps for good.
    """

    planes: Counter[str]
    segments: Counter[str]
    leases: Counter[str]
    permits: Counter[str]
    descriptors: Counter[str]


def take(root: str | Path) -> Counts:
    """Count what there is in a root and in this process. Cost: a reading of every plane there, some 10 µs a block."""
    root = str(root)
    planes, segments, leases, permits = Counter[str](), _mapped_of_planes_gone(root), Counter[str](), Counter[str]()
    for name in plane_names(root):
        try:
            snapshot = snapshot_of(name, root)
        except (ShmplaneError, OSError, ValueError):
            continue  # removed meanwhile, or damaged on purpose
        label = f"plane {name!r}"
        planes.update({label: 1})
        segments.update({label: sum(segment.state == "used" for segment in snapshot.segments.values())})
        leases.update({label: snapshot.summary.leases})
        permits.update({label: sum(process.permits for process in snapshot.processes)})
    return Counts(planes, segments, leases, permits, _descriptors())


def settled_growth(
    before: Counts, root: str | Path, *, kept: Callable[[str, str], bool] | None = None
) -> dict[str, Counter[str]]:
    """What there is more of, by kind, once garbage is collected and finalizers had their time; at once when there is nothing.

    Args:
        kept: whether a thing of that kind may stay; None: nothing may.
    """
    deadline, pause_s = time.monotonic() + _PATIENCE_S, 0.005
    while True:
        grown = _growth(before, take(root), kept)
        if not grown or time.monotonic() > deadline:
            return grown
        gc.collect()
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.1)


def _growth(before: Counts, after: Counts, kept: Callable[[str, str], bool] | None) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for field in fields(Counts):
        more = getattr(after, field.name) - getattr(before, field.name)
        things = Counter({thing: count for thing, count in more.items() if not (kept and kept(field.name, thing))})
        if things:
            found[field.name] = things
    return found


def describe(grown: dict[str, Counter[str]]) -> str:
    """A line a thing."""
    return "\n".join(
        f"  {kind}: {count} more of {thing}"
        for kind, things in grown.items()
        for thing, count in sorted(things.items())
    )


def _mapped_of_planes_gone(root: str) -> Counter[str]:
    found: Counter[str] = Counter()
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            parts = line.rstrip("\n").split(maxsplit=5)
            path = parts[5] if len(parts) == 6 else ""
            if path.startswith(f"{root}/") and path.endswith(" (deleted)") and not Path(path).parent.exists():
                found["planes that are gone, in views that somebody keeps"] += 1
    return found


def _descriptors() -> Counter[str]:
    kept = {
        # These live as long as the process, from the first spawn on.
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_fd", None),
        getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None),
    }
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        if int(name) in kept:
            continue
        try:
            found[os.readlink(f"/proc/self/fd/{name}")] += 1
        except OSError:  # the descriptor of the listing itself
            continue
    return found
