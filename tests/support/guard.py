"""The leak guard: what a process holds, before and after a test.

A snapshot counts five kinds of things. A test passes the guard when no count has grown once garbage is
collected and finalizers had their time (a lease ends within 50 ms; the guard waits for up to five seconds).

* files: below the session's root, and in the default root those that carry this run's mark
* descriptors: by what they point to, without those that pytest and multiprocessing keep for good
* mappings: of files in shared memory
* leases: of planes that existed before the test and still do, over all processes
* processes: children of this one
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from dataclasses import dataclass, fields
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from tests.support import warm
from tests.support.roots import RUN, SHARED_MEMORY

PATIENCE_S = 5.0  #: on a machine full of other work, to collect all garbage takes a second


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How many there are of each thing, by its description."""

    files: Counter[str]
    descriptors: Counter[str]
    mappings: Counter[str]
    leases: Counter[str]
    processes: Counter[str]


def take_snapshot(root: Path, *, planes: set[Path] | None = None) -> Snapshot:
    """Count what there is now; leases are counted in ``planes`` that still exist."""
    return Snapshot(
        files=_files(root),
        descriptors=_descriptors(),
        mappings=_mappings(root),
        leases=_leases(planes_below(root) if planes is None else planes),
        processes=_processes(),
    )


def planes_below(root: Path) -> set[Path]:
    """The directories of planes below a root."""
    return {manifest.parent for manifest in root.glob("shmplane-*/*/manifest")}


def leaked_since(before: Snapshot, root: Path, *, planes: set[Path]) -> dict[str, Counter[str]]:
    """What is there now, and was not before, after garbage and finalizers had their time.

    What was frozen before the test (``gc.freeze``) is not looked through until a second has passed: that takes 70 ms
    each time, and nearly all that a test leaves to a collection it has made itself.
    """
    begun = time.monotonic()
    pause_s = 0.005
    while True:
        after = take_snapshot(root, planes=planes)
        leaks = _growth(before, after)
        if not leaks or time.monotonic() > begun + PATIENCE_S:
            return leaks
        if time.monotonic() > begun + PATIENCE_S / 5:
            gc.unfreeze()
        gc.collect()
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.1)


def describe(leaks: dict[str, Counter[str]]) -> str:
    """A line per leaked thing."""
    lines = [
        f"  {kind}: {thing}" + (f" ({count} more)" if count > 1 else "")
        for kind, things in leaks.items()
        for thing, count in sorted(things.items())
    ]
    return "the test left behind:\n" + "\n".join(lines)


def _growth(before: Snapshot, after: Snapshot) -> dict[str, Counter[str]]:
    growth = {field.name: getattr(after, field.name) - getattr(before, field.name) for field in fields(Snapshot)}
    return {kind: things for kind, things in growth.items() if things}


def _files(root: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    # A user's directory of planes may stay; what is in it may not.
    for top in [*_glob(root, "shmplane-*/*"), *_glob(SHARED_MEMORY, f"shmplane-*/*{RUN}*")]:
        found.update(_tree(top))
    found.update(str(path) for path in [*_glob(root, "shmplane.*"), *_glob(SHARED_MEMORY, f"*{RUN}*")])
    return found


def _glob(top: Path, pattern: str) -> list[Path]:
    """Once more when a directory, perhaps of somebody else, goes while we look."""
    while True:
        try:
            return list(top.glob(pattern))
        except FileNotFoundError:
            continue


def _tree(top: Path) -> list[str]:
    try:
        return [str(top), *(str(path) for path in top.rglob("*"))] if top.is_dir() else [str(top)]
    except FileNotFoundError:  # a plane that is just being removed
        return []


def _descriptors() -> Counter[str]:
    kept = {
        # These live as long as the process, from the first spawn on.
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_fd", None),
        getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None),
        getattr(warm.SERVER, "_forkserver_alive_fd", None),
    }
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        if int(name) in kept:
            continue
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
        found[target] += 1
    return found


def _mappings(root: Path) -> Counter[str]:
    places = (str(root), str(SHARED_MEMORY))
    found: Counter[str] = Counter()
    # As a whole, and picked by the file's name before anything is split: there are a thousand lines, twice a test.
    for line in Path("/proc/self/maps").read_bytes().split(b"\n"):
        if b" /" in line:
            path = os.fsdecode(line.split(maxsplit=5)[5])
            if path.startswith(places):
                found[path] += 1
    return found


def _leases(planes: set[Path]) -> Counter[str]:
    """Leases of planes that outlive a test, such as a module's fixture; most tests see none."""
    found: Counter[str] = Counter()
    for directory in planes:
        if not (directory / "manifest").exists():
            continue
        import shmplane

        try:
            with shmplane.Plane(directory.name, create=False, root=str(directory.parent.parent)) as plane:
                found[directory.name] = plane.stats().leases
        except (
            shmplane.ShmplaneError,
            ValueError,
        ):
            continue  # broken on purpose, or a plane without a name
    return found


def _processes() -> Counter[str]:
    kept = {
        getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None),
        getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None),
        getattr(warm.SERVER, "_forkserver_pid", None),
    }
    found: Counter[str] = Counter()
    for task in Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:  # the thread ended, or the kernel does not say
            continue
        found.update(f"pid {child}{_command_of(child)}" for child in children if int(child) not in kept)
    return found


def _command_of(pid: str) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return f" {words[:80].strip()}"
