"""The errors that a plane raises: each carries its facts, says what to do, and arrives whole in another process."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import BlockNotFound, Plane, PlaneFull, ShmplaneError
from shmplane.plane.blocks import missing
from tests.support.processes import run_in_child


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
    "no such block": (lambda plane: plane["missing"], "BlockNotFound", {"name", "plane", "near"}),
    "nothing to delete": (lambda plane: plane.delete("missing"), "BlockNotFound", {"name", "plane"}),
    "nothing to rename": (lambda plane: plane.rename("missing", "x"), "BlockNotFound", {"name", "plane"}),
    "nothing to edit": (lambda plane: plane.edit("missing"), "BlockNotFound", {"name", "plane"}),
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
    "no room": (lambda plane: plane.put("x", np.empty(64 << 20, "u1")), "PlaneFull", {"needed", "capacity", "plane"}),
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


ASKING: dict[str, Callable[[Plane, str], Any]] = {
    "item": lambda plane, name: plane[name],
    "attach": lambda plane, name: plane.attach(name),
    "edit": lambda plane, name: plane.edit(name),
    "delete": lambda plane, name: plane.delete(name),
    "del": lambda plane, name: plane.__delitem__(name),
    "rename": lambda plane, name: plane.rename(name, "x"),
    "mutable": lambda plane, name: plane.mutable(name),
}


@pytest.mark.parametrize("call", ASKING)
def test_a_name_that_is_not_there_is_shown_with_the_plane_and_one_like_it(plane: Plane, call: str) -> None:
    plane["prices/2026"] = 1
    with pytest.raises(BlockNotFound) as caught:
        ASKING[call](plane, "price/2026")
    assert caught.value.near == "prices/2026"
    assert f"plane {plane.name!r}" in str(caught.value)
    assert "did you mean 'prices/2026'?" in str(caught.value)
    with pytest.raises(BlockNotFound) as caught:
        ASKING[call](plane, "something else")
    assert caught.value.near is None
    assert "did you mean" not in str(caught.value)


def test_names_are_not_compared_for_who_gives_a_default(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that asks whether something has come pays for the look alone."""
    plane["name"] = 1
    assert plane["name"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(missing, "get_close_matches", None)
        assert plane.get("nam") is None
        assert plane.get("nam", 5, as_="python") == 5
        assert plane.get("name", 5, as_="python") == 1
    del plane["name"]
    assert [plane.get("name", 7) for _ in range(2)] == [7, 7]


def test_every_way_of_being_full_names_the_plane(plane_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Plane("mine", root=str(plane_root), capacity="1MiB", max_blocks=4, max_processes=1) as plane:
        plane["table"] = pa.table({"a": list(range(20_000))})
        ways: dict[str, Callable[[], Any]] = {
            "capacity": lambda: plane.put("x", bytes(2 << 20)),
            "buffer": lambda: plane.buffer(2 << 20),
            "rows": lambda: [plane.put(f"{number}", b"x") for number in range(8)],
            "resize": lambda: plane.resize(4096),
        }
        for what, use in ways.items():
            with pytest.raises(PlaneFull, match=r"^plane 'mine': ") as caught:
                use()
            assert caught.value.plane == "mine", what
            assert str(caught.value).count("plane 'mine'") == 1
        plane.clear()
        for call in ("pwrite", "open", "ftruncate"):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, fail)
                with pytest.raises(PlaneFull, match=r"^plane 'mine': .*No space left on device"):
                    plane.put("x", bytes(100_000))
        run_in_child(_cannot_join, str(plane_root))
        plane.destroy()


def _cannot_join(root: str) -> None:
    with pytest.raises(PlaneFull, match=r"^plane 'mine': all 1 process slots"):
        Plane("mine", root=root)
