"""A plane whose process was killed: what every look from outside has to find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import shmplane
from tests.support.processes import Child


def hold(name: str, root: str):
    """Named, leased; anonymous, leased; being created."""
    plane = shmplane.Plane(name, root=root)
    plane["kept"] = np.arange(50_000.0)
    held = [plane["kept"], plane.put(None, np.zeros(100_000), linger=0.0)]
    with plane.create("unfinished", 200_000, "u1"):
        yield len(held)


@contextmanager
def living_holder(name: str, root: Path) -> Iterator[Child]:
    """A plane in which a process leases two blocks and creates a third."""
    with Child(hold, name, str(root)) as child:
        assert child.next() == 2
        yield child


def leave_stale(name: str, root: Path) -> None:
    """The same with that process killed; the plane stays until ``remove``."""
    with living_holder(name, root) as child:
        child.kill()


def remove(name: str, root: Path) -> None:
    shmplane.Plane(name, root=str(root), create=False).destroy()
