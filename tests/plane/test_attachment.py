"""A process's part in a plane: it ends with what needs it, without waiting for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmplane
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.inside import (
    attachment_of,
    before_each_transaction,
    forget_mappings,
    leases_of,
    memory_of,
    open_once_more,
    opened_of,
)


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _wait(plane: shmplane.Plane) -> None:
    async def wait() -> None:
        waiting = asyncio.create_task(plane.wait_async("a"))
        await asyncio.sleep(0.01)
        plane["a"] = b"a"
        (await waiting).close()

    asyncio.run(wait())


def _lock(plane: shmplane.Plane) -> None:
    with plane.lock("a"):
        pass


USES: dict[str, Callable[[shmplane.Plane], Any]] = {
    "nothing": lambda plane: None,
    "put and get": lambda plane: (plane.put("a", b"a"), plane["a"]),
    "large": lambda plane: (plane.put("a", bytes(100_000)), plane["a"]),
    "edit": lambda plane: plane.put("a", [1]),
    "mutable": lambda plane: plane.mutable("a", (3,)),
    "wait": _wait,
    "lock": _lock,
}


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("end", ["close", "destroy"])
@pytest.mark.parametrize("use", USES)
def test_nothing_of_it_waits_for_the_collector(plane_root: Path, use: str, end: str) -> None:
    plane = shmplane.Plane("plane", root=str(plane_root))
    known = weakref.ref(attachment_of(plane))
    USES[use](plane)
    getattr(plane, end)()
    del plane
    until_gone(known)
    with shmplane.Plane("plane", root=str(plane_root)) as again:
        again.destroy()


def until_gone(known: weakref.ref[Any]) -> None:
    """The drain timer's thread, and the waker's, keep it until they end."""
    deadline = time.monotonic() + 2
    while known() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert known() is None, gc.get_referrers(known())


@pytest.mark.usefixtures("no_collection")
def test_a_view_that_outlives_the_plane_keeps_it_no_longer_than_itself(plane_root: Path) -> None:
    plane = shmplane.Plane("plane", root=str(plane_root))
    known = weakref.ref(attachment_of(plane))
    plane["a"] = bytes(100_000)
    view = plane["a"]
    plane.destroy()
    del plane
    assert known() is not None
    assert not any(view)
    del view
    until_gone(known)


def test_planes_are_opened_while_others_close(plane: shmplane.Plane) -> None:
    opened, other = opened_of(plane), open_once_more(plane)

    class ClosesAnother:
        """What may happen while one is looked at: a finalizer runs, or another thread goes on."""

        def __call__(self) -> object:
            opened.discard(weakref.ref(other))
            return self

    looked_at: Any = ClosesAnother()
    opened.add(looked_at)
    with shmplane.Plane(plane.name, root=plane.root) as again:
        assert attachment_of(again) is attachment_of(plane)
    opened.discard(looked_at)
    assert len(opened) == 1


def _make_anew(name: str, root: str, value: bytes) -> None:
    """In another process: destroy the plane and make another one of its name."""

    def act() -> None:
        shmplane.Plane(name, root=root).destroy()
        shmplane.Plane(name, root=root).put("x", value).close()

    run_forked(act)


@pytest.mark.parametrize("nbytes", [100, 100_000])
def test_a_block_is_never_read_from_the_next_plane_of_the_name(plane_root: Path, nbytes: int) -> None:
    root = str(plane_root)
    with shmplane.Plane("plane", root=root) as plane:
        plane["x"] = b"o" * nbytes
        forget_mappings(plane)
        block = plane.attach("x")  # leased, and not yet mapped
        _make_anew("plane", root, b"n" * nbytes)
        with pytest.raises(shmplane.ClosedError):
            block.buffer()
    shmplane.Plane("plane", root=root).destroy()


def test_a_put_into_a_plane_that_was_made_anew_meanwhile_leaves_no_file_in_it(
    plane_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(plane_root)
    with shmplane.Plane("plane", root=root) as plane:
        memory = memory_of(plane)
        real = memory.create

        def create(place: Any) -> int:
            _make_anew("plane", root, b"new")
            fd: int = real(place)
            return fd

        monkeypatch.setattr(memory, "create", create)
        with pytest.raises(shmplane.ClosedError):
            plane["x"] = bytes(100_000)
    monkeypatch.undo()
    with shmplane.Plane("plane", root=root) as again:
        assert not faults_of(again)
        assert again["x"] == b"new"
        again.destroy()


def test_the_drain_timer_goes_on_after_it_ran_out_of_memory(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def run_out_of_memory() -> None:
        if threading.current_thread() is not threading.main_thread() and not failed.is_set():
            failed.set()
            raise MemoryError

    with before_each_transaction(monkeypatch, plane, run_out_of_memory):
        deadline = time.monotonic() + 5
        while not failed.is_set() and time.monotonic() < deadline:
            views = [plane.put(None, b"x", linger=0.0), plane.put(None, b"y", linger=0.0)]
            views.clear()
            time.sleep(0.05)
        assert failed.is_set()
        while leases_of(plane) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not leases_of(plane)


def test_destroy_removes_the_directory_whatever_stands_in_place_of_its_files(plane_root: Path) -> None:
    plane = shmplane.Plane("p", root=str(plane_root), capacity="4MiB")
    plane["x"] = b"value"
    directory = Path(attachment_of(plane).path)
    for name in ("lock", "manifest"):
        (directory / name).unlink()
        (directory / name / "stray").mkdir(parents=True)
    plane.destroy()
    assert not directory.exists()
    with shmplane.Plane("p", root=str(plane_root), capacity="4MiB") as other:
        assert list(other) == []
        other.destroy()
