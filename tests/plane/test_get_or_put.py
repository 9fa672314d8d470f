"""``get_or_put``: one call per host, whoever asks, whatever becomes of who loads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmplane
from tests.support.inside import claims_in_line, processes_in_line
from tests.support.lines import until
from tests.support.processes import Child

LINE = "g:x"


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def _note(log: Path) -> None:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")


def _load(log: Path, size: int) -> Any:
    _note(log)
    time.sleep(0.1)
    return np.arange(size)


def _get(plane: Any, log: Path) -> int:
    return int(plane.get_or_put("x", _load, log, 50_000)[-1])


def test_the_value_that_is_there_is_not_loaded(plane: shmplane.Plane) -> None:
    plane["x"] = 3
    assert plane.get_or_put("x", pytest.fail, "called") == 3


def test_a_value_that_is_none_is_a_value(plane: shmplane.Plane) -> None:
    plane["x"] = None
    assert plane.get_or_put("x", pytest.fail, "called") is None


def test_eight_processes_at_once_load_once(plane: shmplane.Plane, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_get, plane, log, method="fork")) for _ in range(8)]
        assert [child.result() for child in children] == [49_999] * 8
    assert len(calls(log)) == 1
    assert plane["x"].shape == (50_000,)


def test_eight_threads_at_once_load_once(plane: shmplane.Plane, tmp_path: Path) -> None:
    log, got = tmp_path / "calls", []
    threads = [threading.Thread(target=lambda: got.append(_get(plane, log))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == [49_999] * 8
    assert len(calls(log)) == 1


def test_an_error_reaches_its_caller_and_the_others_try_in_turn(plane: shmplane.Plane, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_get_in_the_end, plane, log, method="fork")) for _ in range(5)]
        got = sorted(str(child.result()) for child in children)
    assert got == ["call 1", "call 2", "loaded", "loaded", "loaded"]
    assert len(calls(log)) == 3


def _get_in_the_end(plane: Any, log: Path) -> Any:
    def load() -> str:
        _note(log)
        time.sleep(0.05)
        if len(calls(log)) < 3:
            raise LookupError(f"call {len(calls(log))}")
        return "loaded"

    try:
        return plane.get_or_put("x", load)
    except LookupError as error:
        return error.args[0]


def test_a_key_error_of_the_loader_is_not_taken_for_a_missing_block(plane: shmplane.Plane) -> None:
    def load() -> None:
        raise KeyError("from the loader")

    with pytest.raises(KeyError, match="from the loader"):
        plane.get_or_put("x", load)
    assert "x" not in plane
    assert plane.get_or_put("x", lambda: 1) == 1


def test_a_value_that_cannot_be_stored_is_refused(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.UnsupportedValue):
        plane.get_or_put("x", object)
    assert plane.get_or_put("x", lambda: 1) == 1


def test_a_killed_loaders_work_passes_to_the_next(plane: shmplane.Plane, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with Child(_load_for_ever, plane, log, method="fork") as loader:
        until(lambda: calls(log))
        with Child(_get, plane, log, method="fork") as next_one, Child(_get, plane, log, method="fork") as last:
            until(lambda: processes_in_line(plane, LINE) == 2)
            loader.kill()
            assert (next_one.result(), last.result()) == (49_999, 49_999)
    assert len(calls(log)) == 2


def _load_for_ever(plane: Any, log: Path) -> None:
    def load() -> None:
        _note(log)
        time.sleep(60)

    plane.get_or_put("x", load)


def test_loaders_may_need_other_values(plane: shmplane.Plane) -> None:
    assert plane.get_or_put("sum", lambda: plane.get_or_put("part", lambda: 2) + 1) == 3
    assert plane.names() == ["part", "sum"]


def test_a_loader_that_asks_for_its_own_name_is_told_so(plane: shmplane.Plane) -> None:
    with pytest.raises(RuntimeError, match=r"loader of 'a' asks for 'a' itself \('a' -> 'a'\)"):
        plane.get_or_put("a", lambda: plane.get_or_put("a", lambda: 1))
    assert plane.names() == []
    assert plane.get_or_put("a", lambda: 1) == 1


def test_so_is_one_that_asks_through_another_name_or_another_plane_object(plane: shmplane.Plane) -> None:
    other = shmplane.Plane(plane.name, root=plane.root)

    def load_a() -> Any:
        return plane.get_or_put("b", load_b)

    def load_b() -> Any:
        return other.get_or_put("a", load_a)

    with pytest.raises(RuntimeError, match=r"'a' -> 'b' -> 'a'"):
        plane.get_or_put("a", load_a)
    other.close()
    assert plane.lock("free").available == 1
    assert processes_in_line(plane, "g:a") == processes_in_line(plane, "g:b") == 0


def test_a_loader_may_ask_for_its_own_name_in_another_plane(plane: shmplane.Plane) -> None:
    with shmplane.Plane.temporary() as other:
        assert plane.get_or_put("a", lambda: other.get_or_put("a", lambda: 3)) == 3


def test_a_loader_finds_what_it_put_under_its_own_name(plane: shmplane.Plane) -> None:
    def load() -> int:
        plane["a"] = 1
        return int(plane.get_or_put("a", pytest.fail, "called")) + 1

    assert plane.get_or_put("a", load) == 2


def test_another_thread_waits_in_line_for_what_a_thread_loads(plane: shmplane.Plane) -> None:
    """Also one that the loader started, and one that runs in a copy of its context."""
    outcomes: list[int] = []
    threads: list[threading.Thread] = []

    def load() -> int:
        context = contextvars.copy_context()
        ask = lambda: outcomes.append(plane.get_or_put("x", pytest.fail, "called"))  # noqa: E731
        threads.extend([threading.Thread(target=ask), threading.Thread(target=context.run, args=(ask,))])
        for thread in threads:
            thread.start()
        until(lambda: claims_in_line(plane, LINE) == 2)
        return 7

    assert plane.get_or_put("x", load) == 7
    for thread in threads:
        thread.join(10)
    assert outcomes == [7, 7]


def test_a_task_that_a_loader_started_may_ask_once_it_is_over(plane: shmplane.Plane) -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []

        async def ask_later() -> None:
            await asyncio.sleep(0)
            del plane["x"]
            assert plane.get_or_put("x", lambda: 2) == 2

        def load() -> int:
            tasks.append(asyncio.get_running_loop().create_task(ask_later()))
            return 1

        assert plane.get_or_put("x", load) == 1
        await tasks[0]

    asyncio.run(main())


def test_the_value_is_returned_although_somebody_deletes_it_at_once(plane_root: Path) -> None:
    class Hasty(shmplane.Plane):
        """Somebody else is fast."""

        def put(self, name: str | None, value: Any, **options: Any) -> shmplane.Block:
            block = super().put(name, value, **options)
            assert name is not None
            del self[name]
            return block

        def __setitem__(self, name: str, value: Any) -> None:
            super().__setitem__(name, value)
            del self[name]

    with Hasty("hasty") as plane:
        assert plane.get_or_put("x", lambda: {"rate": 2}) == {"rate": 2}
        assert plane.get_or_put("y", np.arange, 100_000).sum() == 4_999_950_000
        plane.destroy()


def test_many_names_leave_no_rows_in_use(plane: shmplane.Plane) -> None:
    for number in range(600):
        assert plane.get_or_put(f"part/{number}", int, number) == number
    assert plane.get_or_put("one more", lambda: 1) == 1
