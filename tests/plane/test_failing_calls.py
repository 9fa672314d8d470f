"""System calls that fail: for every one that a public call makes, a typed error or the result, and nothing is left.

The calls are counted where this package makes them, through ``os`` and ``libc``; the k-th fails once, for every k.
``pytest -m sweep`` has all error numbers, the default run those that real machines give.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane.system import libc, mapping
from tests.plane.test_room import ACTS, LARGE, OPTIONS, SMALL
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.inside import forget_mappings, forget_views
from tests.support.processes import run_in_child

IN_OS = [
    "open", "ftruncate", "pwrite", "pread", "link", "unlink", "stat", "lstat", "rename", "mkdir", "rmdir", "listdir",
    "scandir", "statvfs",
]  # fmt: skip
IN_LIBC = ["fallocate"]
IN_MAPPING = ["map_fixed"]
#: a call that needs no descriptor does not fail for want of one
NEED_A_DESCRIPTOR = {"open", "listdir", "scandir"}
REAL = [errno.ENOSPC, errno.EMFILE]
OTHERS = [errno.EIO, errno.ENOMEM, errno.EACCES, errno.EINTR]
MOST_CALLS = 120
TABLE = pa.table({"a": list(range(2_000)), "b": ["text"] * 2_000})

Act = Callable[[shmplane.Plane], Any]


class Failing:
    """Makes the ``at``-th of the counted calls fail with an error number."""

    def __init__(self, number: int) -> None:
        self.at, self.number, self.count, self.armed = 0, number, 0, False

    def _wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if self.armed and _is_ours(sys._getframe(1)):
                self.count += 1
                if self.at == self.count:
                    raise OSError(self.number, os.strerror(self.number))
            return function(*args, **kwargs)

        return called

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module, names in ((os, IN_OS), (libc, IN_LIBC), (mapping, IN_MAPPING)):
            for name in names:
                if self.number != errno.EMFILE or name in NEED_A_DESCRIPTOR:
                    patch.setattr(module, name, self._wrap(name, getattr(module, name)))

    @contextlib.contextmanager
    def once(self, at: int) -> Iterator[None]:
        self.at, self.count, self.armed = at, 0, True
        try:
            yield
        finally:
            self.armed = False


def _is_ours(frame: Any) -> bool:
    """Whether this package asked for it, itself or by ``os.path``."""
    while frame is not None and frame.f_globals["__name__"] in {"genericpath", "posixpath"}:
        frame = frame.f_back
    return frame is not None and frame.f_globals["__name__"].startswith("shmplane.")


def _edit_array(plane: shmplane.Plane) -> None:
    with plane.edit("array") as draft:
        draft.array[::5_000] = 7


def _edit_table(plane: shmplane.Plane) -> None:
    with plane.edit("table") as draft:
        draft["c"] = pa.array(range(2_000))


def _edit_json(plane: shmplane.Plane) -> None:
    with plane.edit("json") as draft:
        draft.value["limit"] = 6


MORE: dict[str, Act] = {
    "edit array": _edit_array,
    "edit table": _edit_table,
    "edit json": _edit_json,
    "append": lambda plane: plane.append("table", TABLE),
    "append a new one": lambda plane: plane.append("new", TABLE),
    "get or put": lambda plane: plane.get_or_put("new", lambda: LARGE),
    "get table": lambda plane: plane["table"].num_rows,
    "handle": lambda plane: pickle.loads(pickle.dumps(plane.attach("large"))).close(),
    "wait": lambda plane: plane.wait("large", timeout=0).close(),
    "try a lock": lambda plane: plane.lock("a").try_acquire(),
    "names": lambda plane: [*plane.names(), *plane.blocks()],
    "open again": lambda plane: shmplane.Plane("plane", root=plane.root).close(),
    "a temporary plane": lambda plane: shmplane.Plane.temporary(root=plane.root, **OPTIONS).close(),
}
ALL_ACTS = {**ACTS, **MORE}
#: a call that publishes, and then fails to read what it has published
PUBLISHED_ALREADY = {"get or put": {"new": LARGE}}


def _arrange(plane: shmplane.Plane) -> dict[str, bytes]:
    for name in {"new"} & set(plane):
        del plane[name]
    values = {"large": LARGE, "small": SMALL, "json": {"limit": 5}, "array": np.zeros(40_000), "table": TABLE}
    for name, value in values.items():
        plane[name] = value
    plane.resize(OPTIONS["capacity"])
    gc.collect()
    plane.gc()
    plane.trim()
    before = _state(plane)
    forget_views(plane)
    forget_mappings(plane)
    return before


def _state(plane: shmplane.Plane) -> dict[str, bytes]:
    found = {}
    for name in plane:
        with plane.attach(name) as block:
            found[name] = bytes(block.buffer())
    return found


def _sweep(root: Path, monkeypatch: pytest.MonkeyPatch, act: str, number: int) -> int:
    failing = Failing(number)
    with monkeypatch.context() as patch:
        failing.install(patch)
        with shmplane.Plane("plane", root=str(root), **OPTIONS) as plane:
            for at in range(1, MOST_CALLS):
                before, failed = _arrange(plane), False
                with failing.once(at):
                    try:
                        ALL_ACTS[act](plane)
                    except shmplane.ShmplaneError:
                        failed = True
                    except BaseException as error:
                        raise AssertionError(f"at call {at}") from error
                _look(plane, before, PUBLISHED_ALREADY.get(act, {}), failed=failed, where=f"{act}, call {at}")
                if failing.count < at:
                    plane.destroy()
                    assert not list(Path(root).glob("shmplane-*/.*"))
                    return at
    raise AssertionError("the call makes too many system calls")


def _look(
    plane: shmplane.Plane, before: dict[str, bytes], published: dict[str, bytes], *, failed: bool, where: str
) -> None:
    """As before when it failed; whole in any case, without residue; and it still works."""
    gc.collect()
    for _ in range(3):  # what could not be removed is removed by the next one, whose row is free with the one after
        plane.gc()
    found = _state(plane)
    assert not failed or found in (before, before | published), where
    assert not faults_of(plane), where
    stats = plane.stats()
    references = sum(info.name is None for info in plane.blocks())  # of what was edited
    assert (stats.processes, stats.leases, stats.blocks - references) == (1, 0, len(found)), where
    plane["probe"] = SMALL
    assert bytes(plane["probe"]) == SMALL, where
    del plane["probe"]


@pytest.mark.parametrize("number", REAL, ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ALL_ACTS)
def test_a_system_call_that_fails_is_a_typed_error_and_changes_nothing(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch, act: str, number: int
) -> None:
    assert _sweep(plane_root, monkeypatch, act, number)


@pytest.mark.sweep
@pytest.mark.parametrize("number", OTHERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("act", ALL_ACTS)
def test_whatever_a_system_call_fails_with_is_a_typed_error(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch, act: str, number: int
) -> None:
    assert _sweep(plane_root, monkeypatch, act, number)


@pytest.mark.parametrize("number", [*REAL, *OTHERS], ids=errno.errorcode.get)
@pytest.mark.parametrize("create", [True, False], ids=["create", "join"])
def test_opening_and_destroying_survive_system_calls_that_fail(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch, number: int, create: bool
) -> None:
    """What an end that failed has left goes with the next ``gc`` of another plane, or when the plane is opened again."""
    failing = Failing(number)
    failing.install(monkeypatch)
    with shmplane.Plane("other", root=str(plane_root), **OPTIONS) as other:
        for at in range(1, MOST_CALLS):
            with contextlib.ExitStack() as stack:
                if not create:
                    run_forked(lambda: stack.enter_context(shmplane.Plane("new", root=str(plane_root), **OPTIONS)))
                with failing.once(at):
                    try:
                        with shmplane.Plane("new", root=str(plane_root), **OPTIONS) as plane:
                            plane["large"] = LARGE
                            plane.destroy()
                    except shmplane.ShmplaneError:
                        pass
                    except BaseException as error:
                        raise AssertionError(f"at call {at}") from error
            with shmplane.Plane("new", root=str(plane_root), **OPTIONS) as plane:
                assert not faults_of(plane)
                assert plane.stats().processes == 1
                plane.destroy()
            other.gc()
            assert [path.name for path in Path(plane_root).glob("shmplane-*/*")] == ["other"], f"call {at}"
            if failing.count < at:
                break
        other.destroy()


def test_every_call_without_descriptors_has_a_typed_error_or_its_result(plane_root: Path) -> None:
    """In a process that makes each call for the first time: what it loads for it counts as well."""
    assert run_in_child(_call_without_descriptors, str(plane_root), method="spawn", deadline=120) == []


def _call_without_descriptors(root: str) -> list[str]:
    wrong = []
    with shmplane.Plane("plane", root=root, **OPTIONS) as plane:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        for act, call in ALL_ACTS.items():
            for spare in range(3):
                _arrange(plane)
                with _all_taken_but(spare):
                    try:
                        call(plane)
                    except shmplane.ShmplaneError:
                        pass
                    except BaseException as error:
                        wrong.append(f"{act} with {spare} left: {error!r}")
        assert not faults_of(plane)
        plane.destroy()
    return wrong


@contextlib.contextmanager
def _all_taken_but(spare: int) -> Iterator[None]:
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
