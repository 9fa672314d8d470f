"""The errors that a plane raises: each carries its facts, says what to do, and arrives whole in another process."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmplane
from shmplane import Plane, ShmplaneError


def stale(plane: Plane) -> Any:
    block = plane.put(None, 1, linger=0)
    handle = pickle.dumps(block)
    block.close()
    return pickle.loads(handle)


def closed_block(plane: Plane) -> Any:
    with plane.put("closed", 1) as block:
        pass
    return block.value()


def closed_plane(plane: Plane) -> Any:
    with Plane(plane.name, create=False) as other:
        pass
    return other["x"]


def finished_builder(plane: Plane) -> Any:
    with plane.create("built", 3, "f4") as builder:
        pass
    return builder.array


def lock_held(plane: Plane) -> Any:
    with plane.lock("a lock"):
        return plane.lock("a lock").acquire(timeout=0.01)


def pickled(plane: Plane) -> Any:
    plane.put("pickled", {1}, codec="pickle")
    return plane["pickled"]


CASES: dict[str, tuple[Callable[[Plane], Any], str, set[str]]] = {
    "no such block": (lambda plane: plane["missing"], "BlockNotFound", {"name"}),
    "nothing to delete": (lambda plane: plane.delete("missing"), "BlockNotFound", {"name"}),
    "nothing to rename": (lambda plane: plane.rename("missing", "x"), "BlockNotFound", {"name"}),
    "nothing to edit": (lambda plane: plane.edit("missing"), "BlockNotFound", {"name"}),
    "another version": (
        lambda plane: plane.put("x", 1, expected_version=5),
        "Conflict",
        {"name", "expected", "found"},
    ),
    "a freed version": (stale, "StaleHandle", {"name", "plane"}),
    "an object": (lambda plane: plane.put("x", object()), "UnsupportedValue", {"type"}),
    "an object array": (lambda plane: plane.put("x", np.array([None])), "UnsupportedValue", {"dtype"}),
    "no such form": (lambda plane: plane.get("json", as_="array"), "UnsupportedValue", {"kind", "as_"}),
    "a pickle": (pickled, "UnsafeCodec", {"name"}),
    "no room": (lambda plane: plane.put("x", np.empty(64 << 20, "u1")), "PlaneFull", {"needed", "capacity"}),
    "no such plane": (lambda plane: Plane("no-such-plane", create=False), "PlaneNotFound", {"name", "root"}),
    "another capacity": (lambda plane: Plane(plane.name, capacity="1GiB"), "PlaneMismatch", {"option"}),
    "a closed block": (closed_block, "ClosedError", {"name", "version"}),
    "a closed plane": (closed_plane, "ClosedError", {"plane"}),
    "a finished builder": (finished_builder, "ClosedError", {"name"}),
    "a held lock": (lock_held, "LockTimeout", {"holders", "timeout"}),
}


def test_every_error_of_a_plane_has_its_facts_and_survives_pickling(plane_name: str, subtests: pytest.Subtests) -> None:
    with Plane(plane_name, capacity="8MiB") as plane:
        plane["json"] = {"a": 1}
        for case, (act, kind, facts) in CASES.items():
            with subtests.test(case):
                with pytest.raises(ShmplaneError) as caught:
                    act(plane)
                error = caught.value
                assert type(error) is getattr(shmplane, kind)
                assert facts <= set(error.facts)
                assert {name: getattr(error, name) for name in error.facts} == error.facts
                arrived = pickle.loads(pickle.dumps(error))
                assert (type(arrived), str(arrived), arrived.facts) == (type(error), str(error), error.facts)
                assert len(str(error)) > 20
                del error, arrived, caught
        plane.destroy()
