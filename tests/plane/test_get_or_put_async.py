"""``get_or_put_async``: one call per host, by tasks and threads alike, and no loop that is held up."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

import shmplane
from tests.plane.test_get_or_put import LINE, _load, _note, calls
from tests.support.inside import claims_in_line, processes_in_line
from tests.support.lines import until
from tests.support.processes import Child
from tests.support.stuck import lock_taken, stopped_inside


def _slowly(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


async def _load_async(log: Path, size: int) -> Any:
    _note(log)
    await asyncio.sleep(0.1)
    return np.arange(size)


class Loader:
    """An object that is called like an async function."""

    async def __call__(self, log: Path, size: int) -> Any:
        return await _load_async(log, size)


LOADERS: dict[str, Callable[..., Any]] = {
    "plain": _load,
    "async": _load_async,
    "partial": functools.partial(_load_async),
    "object": Loader(),
    "plain that returns what can be awaited": lambda log, size: _load_async(log, size),
}


def is_free(plane: shmplane.Plane, line: str = LINE) -> bool:
    """Nobody loads, and nobody waits for somebody who does."""
    return processes_in_line(plane, line) == claims_in_line(plane, line) == 0 and (
        plane.get_or_put(f"{line}/probe", lambda: 1) == 1
    )


async def _ask_from_many_tasks(plane: Any, load: Callable[..., Any], log: Path) -> list[int]:
    got = await asyncio.gather(*(plane.get_or_put_async("x", load, log, 50_000) for _ in range(8)))
    return [int(array[-1]) for array in got]


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS.keys())
def test_eight_tasks_at_once_load_once(plane: shmplane.Plane, tmp_path: Path, load: Callable[..., Any]) -> None:
    log = tmp_path / "calls"
    assert asyncio.run(_ask_from_many_tasks(plane, load, log)) == [49_999] * 8
    assert len(calls(log)) == 1
    assert plane["x"].shape == (50_000,)


def test_tasks_of_several_processes_load_once(plane: shmplane.Plane, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_ask, plane, log, method="fork")) for _ in range(4)]
        assert [child.result() for child in children] == [[49_999] * 8] * 4
    assert len(calls(log)) == 1


def _ask(plane: Any, log: Path) -> list[int]:
    return asyncio.run(_ask_from_many_tasks(plane, _load_async, log))


def test_threads_and_tasks_load_once_together(plane: shmplane.Plane, tmp_path: Path) -> None:
    log, got = tmp_path / "calls", []
    threads = [threading.Thread(target=lambda: got.append(plane.get_or_put("x", _load, log, 50_000))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert asyncio.run(_ask_from_many_tasks(plane, _load_async, log)) == [49_999] * 8
    for thread in threads:
        thread.join(20)
    assert [array[-1] for array in got] == [49_999] * 3
    assert len(calls(log)) == 1


@pytest.mark.parametrize("value", [None, 3, b"x", {"rate": [1, 2]}, np.arange(5), np.zeros(100_000)], ids=repr)
def test_the_value_is_what_get_returns_and_is_not_loaded_again(plane: shmplane.Plane, value: Any) -> None:
    async def main() -> list[Any]:
        first = await plane.get_or_put_async("x", lambda: value)
        return [first, *[await plane.get_or_put_async("x", pytest.fail, "called") for _ in range(2)]]

    for got in asyncio.run(main()):
        expected = plane["x"]
        assert type(got) is type(expected)
        np.testing.assert_equal(got, expected)


def test_large_values_are_decoded_beside_the_loop(plane: shmplane.Plane) -> None:
    plane["x"] = {str(number): number for number in range(20_000)}
    assert asyncio.run(plane.get_or_put_async("x", pytest.fail, "called")) == plane["x"]


def test_the_loop_turns_while_a_plain_function_loads(plane: shmplane.Plane) -> None:
    """It ends once the loop has turned."""
    turned = threading.Event()

    async def main() -> Any:
        asyncio.get_running_loop().call_later(0.02, turned.set)
        return await plane.get_or_put_async("x", turned.wait, 10)

    assert asyncio.run(main()) is True


def test_more_loaders_than_a_pool_has_threads_may_wait_for_one_value(plane: shmplane.Plane) -> None:
    def part(number: int) -> int:
        return number + int(plane.get_or_put("shared", _slowly, 0.01, 100))

    async def main() -> list[int]:
        return await asyncio.gather(
            *(plane.get_or_put_async(f"part/{n}", part, n) for n in range(60)),
            plane.get_or_put_async("shared", _slowly, 0.05, 100),
        )

    assert asyncio.run(main()) == [*range(100, 160), 100]


def test_an_error_reaches_its_caller_and_the_others_try_in_turn(plane: shmplane.Plane, tmp_path: Path) -> None:
    log = tmp_path / "calls"

    async def load() -> str:
        _note(log)
        await asyncio.sleep(0.01)
        if len(calls(log)) < 3:
            raise LookupError(f"call {len(calls(log))}")
        return "loaded"

    async def main() -> list[Any]:
        asking = (plane.get_or_put_async("x", load) for _ in range(5))
        return await asyncio.gather(*asking, return_exceptions=True)

    assert sorted(map(str, asyncio.run(main()))) == ["call 1", "call 2", "loaded", "loaded", "loaded"]
    assert len(calls(log)) == 3


@pytest.mark.parametrize("kind", [KeyError, StopIteration, shmplane.BlockNotFound, shmplane.ClosedError, OSError])
def test_no_error_of_a_plain_loader_is_taken_for_another(plane: shmplane.Plane, kind: type[Exception]) -> None:
    error = kind("x")

    def load() -> None:
        raise error

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is asked below
        asyncio.run(plane.get_or_put_async("x", load))
    # A coroutine cannot raise StopIteration: Python puts it into a RuntimeError.
    assert error in {caught.value, caught.value.__cause__}
    assert "x" not in plane
    assert is_free(plane)


def test_a_value_that_cannot_be_stored_is_refused(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.UnsupportedValue):
        asyncio.run(plane.get_or_put_async("x", object))
    assert is_free(plane)


def test_a_killed_loaders_work_passes_to_the_next(plane: shmplane.Plane, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with Child(_load_for_ever, plane, log, method="fork") as loader:
        until(lambda: calls(log))
        with Child(_ask, plane, log, method="fork") as next_one:
            until(lambda: processes_in_line(plane, LINE) == 1)
            loader.kill()
            assert next_one.result() == [49_999] * 8
    assert len(calls(log)) == 2


def _load_for_ever(plane: Any, log: Path) -> None:
    async def load() -> None:
        _note(log)
        await asyncio.sleep(60)

    asyncio.run(plane.get_or_put_async("x", load))


# Asking for one's own name

ASKING: dict[str, Callable[[shmplane.Plane], Any]] = {
    "plain, plain": lambda plane: plane.get_or_put("x", int),
    "plain, async": lambda plane: plane.get_or_put_async("x", int),
    "its own loop": lambda plane: asyncio.run(plane.get_or_put_async("x", int)),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING.keys())
def test_a_plain_loader_that_asks_for_its_own_name_is_told_so(plane: shmplane.Plane, ask: Callable[[Any], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"loader of 'x' asks for 'x' itself \('x' -> 'x'\)"):
        asyncio.run(plane.get_or_put_async("x", ask, plane))
    assert is_free(plane)


async def _in_task(plane: Any) -> Any:
    return await asyncio.create_task(plane.get_or_put_async("x", int))


async def _in_thread(plane: Any) -> Any:
    return await asyncio.to_thread(plane.get_or_put, "x", int)


async def _through_another(plane: Any) -> Any:
    return await plane.get_or_put_async("y", lambda: plane.get_or_put("x", int))


@pytest.mark.parametrize("ask", [_in_task, _in_thread, _through_another, ASKING["plain, async"]])
def test_so_is_an_async_one_whatever_it_asks_with(plane: shmplane.Plane, ask: Callable[[Any], Any]) -> None:
    async def load() -> Any:
        return await ask(plane)

    with pytest.raises(RuntimeError, match="'x' itself"):
        asyncio.run(plane.get_or_put_async("x", load))
    assert is_free(plane)
    assert is_free(plane, "g:y")


def test_so_is_a_thread_that_asks_a_loop_which_it_waits_for(plane: shmplane.Plane) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def load() -> Any:
            return asyncio.run_coroutine_threadsafe(plane.get_or_put_async("x", int), loop).result(10)

        with pytest.raises(RuntimeError, match="'x' itself"):
            await asyncio.to_thread(plane.get_or_put, "x", load)

    asyncio.run(main())
    assert is_free(plane)


def test_two_tasks_that_load_different_names_may_use_each_others(plane: shmplane.Plane) -> None:
    async def main() -> Any:
        async def total() -> int:
            return 1 + int(await plane.get_or_put_async("part", lambda: 2))

        return await asyncio.gather(plane.get_or_put_async("x", total), plane.get_or_put_async("part", lambda: 2))

    assert asyncio.run(main()) == [3, 2]


# Cancelling


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("turns", range(14))
def test_a_cancelled_call_passes_the_work_on(plane: shmplane.Plane, tmp_path: Path, kind: str, turns: int) -> None:
    """Cancelled after so many turns of the loop: nothing is left, and the next one has the value."""
    log, before = tmp_path / "calls", _threads()

    async def wait() -> int:
        await asyncio.sleep(0.003)
        return 1

    load: Any = wait if kind == "async" else functools.partial(_slowly, 0.003, 1)

    async def main() -> None:
        task = asyncio.create_task(plane.get_or_put_async("x", load))
        behind = asyncio.create_task(plane.get_or_put_async("x", load))
        for turn in range(turns):
            await asyncio.sleep(0 if turn < 7 else 0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == 1
        assert await asyncio.wait_for(behind, 10) == 1

    asyncio.run(main())
    assert plane["x"] == 1
    assert plane.attach("x").version in {1, 2}
    assert is_free(plane)
    until(lambda: _threads() <= before)
    assert calls(log) == []


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_task_that_is_cancelled_while_it_puts_has_put(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is cancelled, it keeps its turn until then, so nobody computes again."""
    begun, real = threading.Event(), shmplane.Plane.put

    def put(*args: Any, **options: Any) -> Any:
        begun.set()
        time.sleep(0.1)
        return real(*args, **options)

    async def main() -> None:
        task = asyncio.create_task(plane.get_or_put_async("x", lambda: 5))
        await asyncio.to_thread(begun.wait, 10)
        behind = asyncio.create_task(plane.get_or_put_async("x", pytest.fail, "called"))
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await behind == 5

    monkeypatch.setattr(shmplane.Plane, "put", put)
    asyncio.run(main())
    assert is_free(plane)


def test_a_storm_of_cancellations_loses_no_turn(plane: shmplane.Plane) -> None:
    async def load() -> int:
        await asyncio.sleep(0.002)
        return 1

    async def work(index: int) -> None:
        async with asyncio.timeout(0.001 * (index % 9)):
            await plane.get_or_put_async(f"{index % 3}", load)
        plane.delete(f"{index % 3}")

    async def main() -> None:
        await asyncio.gather(*(work(index) for index in range(150)), return_exceptions=True)

    asyncio.run(main())
    for name in "012":
        assert claims_in_line(plane, f"g:{name}") == processes_in_line(plane, f"g:{name}") == 0
        assert plane.get_or_put(name, lambda: 1) == 1


def test_closing_the_plane_object_ends_the_wait_for_a_turn(plane: shmplane.Plane) -> None:
    async def main() -> None:
        other = shmplane.Plane(plane.name, root=plane.root)
        loading = asyncio.create_task(plane.get_or_put_async("x", asyncio.sleep, 60))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(other.get_or_put_async("x", int))
        await asyncio.to_thread(until, lambda: claims_in_line(plane, LINE) == 1)
        other.close()
        with pytest.raises(shmplane.ClosedError):
            await waiting
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    asyncio.run(main())
    assert is_free(plane)


# The loop and the plane's lock


@pytest.fixture(params=[lock_taken, stopped_inside], ids=["taken", "stopped"])
def neighbour(request: pytest.FixtureRequest, plane: shmplane.Plane) -> Callable[[], Any]:
    return lambda: request.param(plane)


def test_an_event_loop_turns_while_somebody_else_has_the_planes_lock(
    plane: shmplane.Plane, neighbour: Callable[[], Any]
) -> None:
    """Each turn is one of a handful of waits of at most 4 ms: 40 of them are over before the lock is let go."""
    plane["there"] = np.arange(3)
    done: list[str] = []

    async def ask(name: str) -> None:
        await plane.get_or_put_async(name, lambda: np.arange(4))
        done.append(name)

    async def main() -> None:
        with neighbour() as holder:
            asking = [asyncio.create_task(ask(name)) for name in ["there", "new", "new", "other"] * 5]
            for _ in range(40):
                await asyncio.sleep(0.002)
            done.append("turns")
            assert holder.has_it
            holder.go_on()
        await asyncio.gather(*asking)

    asyncio.run(main())
    assert done[0] == "turns"
    assert len(done) == 21
    assert is_free(plane, "g:new")


def test_what_a_view_of_this_process_shows_needs_no_lock(plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(3)
    view = plane["x"]

    async def main() -> None:
        with lock_taken(plane) as holder:
            assert (await plane.get_or_put_async("x", pytest.fail, "called")).tolist() == view.tolist()
            assert holder.has_it

    asyncio.run(main())


def test_another_event_loop_is_told_so(plane: shmplane.Plane) -> None:
    with pytest.raises(RuntimeError, match="needs asyncio"):
        trio.run(plane.get_or_put_async, "x", int)
    plane["x"] = 1
    with pytest.raises(RuntimeError, match="needs asyncio"):
        trio.run(plane.get_or_put_async, "x", int)


def test_names_are_checked_and_closed_planes_refused(plane: shmplane.Plane) -> None:
    with pytest.raises(ValueError, match="name"):
        asyncio.run(plane.get_or_put_async("", int))
    with pytest.raises(TypeError):
        asyncio.run(plane.get_or_put_async(3, int))  # type: ignore[arg-type]
    other = shmplane.Plane(plane.name, root=plane.root)
    other.close()
    with pytest.raises(shmplane.ClosedError):
        asyncio.run(other.get_or_put_async("x", int))
