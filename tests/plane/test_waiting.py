"""``wait``, ``wait_async`` and ``follow``: woken by whoever publishes, whatever happens to the name meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import shmplane
from tests.support.inside import permits_of, watches_of, watching_processes
from tests.support.lines import until
from tests.support.processes import Child

SOON_S = 5.0


class Later:
    """``plane.wait`` in a thread."""

    def __init__(self, plane: shmplane.Plane, name: str, **options: Any) -> None:
        self.outcome: list[Any] = []

        def wait() -> None:
            try:
                with plane.wait(name, **{"timeout": 20, **options}) as block:
                    self.outcome.append((block.version, block.value()))
            except BaseException as error:
                self.outcome.append(error)

        before = len(watches_of(plane))
        self._thread = threading.Thread(target=wait)
        self._thread.start()
        until(lambda: self.outcome or len(watches_of(plane)) > before)

    def result(self) -> Any:
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
        return self.outcome.pop()


def test_a_version_that_is_there_is_returned_at_once(plane: shmplane.Plane) -> None:
    plane["x"] = 1
    plane["x"] = 2
    with plane.wait("x", timeout=0) as block:
        assert (block.version, block.value()) == (2, 2)
    with plane.wait("x", newer_than=1, timeout=0) as block:
        assert block.version == 2
    assert watching_processes(plane) == 0


def test_a_name_that_does_not_exist_yet_can_be_waited_for(plane: shmplane.Plane) -> None:
    later = Later(plane, "x")
    plane["other"] = 0
    plane["x"] = {"rate": 2}
    assert later.result() == (1, {"rate": 2})
    assert watching_processes(plane) == 0


def test_another_process_wakes_the_waiter(plane: shmplane.Plane) -> None:
    plane["x"] = 0
    with Child(_wait, plane, "x", 1, method="fork") as child:
        until(lambda: watching_processes(plane) == 1)
        plane["x"] = 7
        assert child.result() == (2, 7)
    assert watching_processes(plane) == 0


def _wait(plane: Any, name: str, newer_than: int, timeout: float = 20) -> Any:
    with plane.wait(name, newer_than=newer_than, timeout=timeout) as block:
        return block.version, block.value()


def test_waiting_goes_on_through_a_delete(plane: shmplane.Plane) -> None:
    plane["x"] = "old"
    later = Later(plane, "x", newer_than=1)
    del plane["x"]
    time.sleep(0.15)
    assert not later.outcome
    plane["x"] = "new"
    assert later.result() == (2, "new")


def test_a_rename_onto_the_name_wakes_its_waiters(plane: shmplane.Plane) -> None:
    plane["x"] = "old"
    plane["draft"] = "new"
    later = Later(plane, "x", newer_than=1)
    plane.rename("draft", "x")
    assert later.result() == (2, "new")


def test_everything_that_publishes_wakes(plane: shmplane.Plane) -> None:
    def create() -> None:
        with plane.create("x", (3,), "u1") as builder:
            builder.array[:] = 1

    def buffer() -> None:
        with plane.buffer(3) as scratch:
            scratch.publish("x")

    def mutable() -> None:
        plane.mutable("x", (3,), "u1")

    for version, publish in enumerate((create, buffer, mutable), start=1):
        later = Later(plane, "x", newer_than=version - 1)
        plane.delete("x") if version == 3 else None
        publish()
        assert later.result()[0] == version


@pytest.mark.parametrize("timeout", [0, 0.03])
def test_no_newer_version_in_time_is_a_timeout(plane: shmplane.Plane, timeout: float) -> None:
    plane["x"] = 1
    with pytest.raises(TimeoutError, match=f"no version of 'x' newer than 1 came within {timeout:g} s"):
        plane.wait("x", newer_than=1, timeout=timeout)
    with pytest.raises(TimeoutError):
        asyncio.run(plane.wait_async("x", newer_than=1, timeout=timeout))
    assert watching_processes(plane) == 0


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_negative_timeout_is_an_error(plane: shmplane.Plane, timeout: float) -> None:
    with pytest.raises(ValueError, match="0 or more seconds"):
        plane.wait("x", timeout=timeout)


def test_many_waiters_of_many_processes_all_wake(plane: shmplane.Plane) -> None:
    plane["x"] = 0
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(_wait_in_threads, plane, 5, method="fork")) for _ in range(4)]
        for child in children:
            assert child.next() == "waiting"
        assert watching_processes(plane) == 4
        plane["x"] = 1
        for child in children:
            assert child.next() == [(2, 1)] * 5
    assert watching_processes(plane) == 0


def _wait_in_threads(plane: Any, count: int) -> Iterator[Any]:
    waiters = [Later(plane, "x", newer_than=1) for _ in range(count)]
    yield "waiting"
    yield [waiter.result() for waiter in waiters]


def test_follow_yields_the_newest_and_may_skip(plane: shmplane.Plane) -> None:
    plane["config"] = 0
    seen = []
    for block in plane.follow("config", timeout=SOON_S):
        with block:
            seen.append((block.version, block.value()))
        if block.version == 6:
            break
        for _ in range(3 if block.version < 4 else 1):
            plane["config"] = block.version + 1
    assert seen[0] == (1, 0)
    assert [version for version, _ in seen] == [1, 4, 5, 6]


def test_follow_yields_a_block_that_was_renamed_to_its_name_once(plane: shmplane.Plane) -> None:
    """Its version became another one by the rename, also for who leased it before."""
    plane["draft"] = b"new"
    held = plane["draft"]
    for turn in range(3):
        plane["config"] = turn
    plane.rename("draft", "config")

    blocks = plane.follow("config", newer_than=3, timeout=0.03)
    with next(blocks) as block:
        assert (block.name, block.version) == ("config", 4)
        plane.put("config", b"next", expected_version=block.version).close()
    with next(blocks) as block:
        assert block.version == 5
    with pytest.raises(TimeoutError):
        next(blocks)
    assert held == b"new"


def test_follow_ends_with_a_timeout(plane: shmplane.Plane) -> None:
    plane["config"] = 0
    blocks = plane.follow("config", timeout=0.03)
    next(blocks).close()
    with pytest.raises(TimeoutError):
        next(blocks)


def test_a_follower_goes_on_after_a_timeout(plane: shmplane.Plane) -> None:
    plane["config"] = 0
    blocks = plane.follow("config", timeout=0.03)
    next(blocks).close()
    with pytest.raises(TimeoutError):
        next(blocks)
    plane["config"] = 1
    with next(blocks) as block:
        assert block.version == 2


def test_follow_in_an_async_for_says_which_call_is_for_it(plane: shmplane.Plane) -> None:
    async def main() -> None:
        async for _ in plane.follow("config"):  # type: ignore[attr-defined]
            raise AssertionError("nothing is there")

    with pytest.raises(TypeError, match=r"plane\.follow_async\('config'\)"):
        asyncio.run(main())


@pytest.mark.parametrize("call", ["follow", "follow_async"])
def test_an_impossible_name_is_refused_at_the_call(plane: shmplane.Plane, call: str) -> None:
    with pytest.raises(ValueError, match="name"):
        getattr(plane, call)("")


def test_follow_async_yields_the_newest_while_the_loop_goes_on(plane: shmplane.Plane) -> None:
    plane["config"] = 0
    seen: list[Any] = []

    async def follow() -> None:
        async for block in plane.follow_async("config", timeout=SOON_S):
            with block:
                seen.append((block.version, block.value()))
            if block.version == 4:
                return

    async def publish() -> None:
        for value in range(1, 4):
            await asyncio.to_thread(until, lambda: len(seen) == value)  # noqa: B023
            plane["config"] = value

    async def main() -> None:
        await asyncio.gather(follow(), publish())

    asyncio.run(main())
    assert seen == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert watching_processes(plane) == 0


def test_follow_async_ends_with_a_timeout_and_with_a_cancellation(plane: shmplane.Plane) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError, match="no version of 'config'"):
            await anext(plane.follow_async("config", timeout=0.01))
        following = asyncio.ensure_future(anext(plane.follow_async("config")))
        await asyncio.sleep(0.01)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(main())
    assert watching_processes(plane) == 0


def test_all_workers_follow_a_configuration(plane: shmplane.Plane) -> None:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Child(_follow, plane, method="fork")) for _ in range(3)]
        until(lambda: watching_processes(plane) == 3)
        for version in range(1, 101):
            plane["config"] = {"version": version, "last": version == 100}
        for worker in workers:
            seen = worker.result()
            assert seen == sorted(set(seen))
            assert seen[-1] == 100


def _follow(plane: Any) -> list[int]:
    seen = []
    for block in plane.follow("config", timeout=20):
        with block:
            value = block.value()
            assert value["version"] == block.version
            seen.append(block.version)
            if value["last"]:
                return seen
    raise AssertionError("follow ended by itself")


def test_a_plane_destroyed_under_waiters_ends_their_wait(plane_root: Path) -> None:
    plane = shmplane.Plane("doomed")
    with Child(_wait_for_doom, plane, method="fork") as child:
        later = Later(plane, "x")
        until(lambda: watching_processes(plane) == 2)
        plane.destroy()
        assert child.result() < SOON_S
        assert isinstance(later.result(), shmplane.ClosedError)


def _wait_for_doom(plane: Any) -> float:
    began = time.monotonic()
    try:
        plane.wait("x", timeout=20)
    except shmplane.ClosedError:
        return time.monotonic() - began
    raise AssertionError("nobody put it")


BLOCKING = {
    "wait": lambda plane: plane.wait("x"),
    "wait with a timeout": lambda plane: plane.wait("x", timeout=20),
    "follow": lambda plane: next(plane.follow("x")),
    "lock": lambda plane: plane.lock("gpu").acquire(),
    "lock with a timeout": lambda plane: plane.lock("gpu").acquire(20),
    "semaphore": lambda plane: plane.semaphore("gpu", 1).acquire(),
}
ASYNC = {
    "wait": lambda plane: plane.wait_async("x"),
    "follow": lambda plane: anext(plane.follow_async("x")),
    "lock": lambda plane: plane.lock("gpu").acquire_async(),
}


def _waits(plane: Any) -> int:
    return len(watches_of(plane)) + sum(len(part.waiters) for part in permits_of(plane).values())


@pytest.mark.parametrize("call", BLOCKING.values(), ids=BLOCKING.keys())
def test_closing_a_plane_object_ends_its_own_waits_and_no_others(plane: shmplane.Plane, call: Any) -> None:
    plane.lock("gpu").acquire()
    plane.semaphore("gpu", 1).acquire()
    closed, other = (shmplane.Plane(plane.name, root=plane.root) for _ in range(2))
    ended: list[str] = []

    def wait(plane: shmplane.Plane, who: str) -> None:
        try:
            call(plane)
        except shmplane.ClosedError as error:
            ended.append(f"{who}: {str(error).partition(' of ')[0]}")

    threads = [threading.Thread(target=wait, args=(closed, "closed")) for _ in range(3)]
    threads.append(threading.Thread(target=wait, args=(other, "other")))
    for thread in threads:
        thread.start()
    until(lambda: _waits(plane) == 4)
    closed.close()
    for thread in threads[:3]:
        thread.join(SOON_S)
    assert ended == ["closed: this Plane object"] * 3
    assert _waits(plane) == 1
    other.close()
    threads[3].join(SOON_S)
    assert ended[3:] == ["other: this Plane object"]
    assert watching_processes(plane) == 0
    plane.lock("gpu").release()
    plane.semaphore("gpu", 1).release()


@pytest.mark.parametrize("call", ASYNC.values(), ids=ASYNC.keys())
def test_closing_a_plane_object_ends_its_tasks_waits(plane: shmplane.Plane, call: Any) -> None:
    plane.lock("gpu").acquire()
    closed = shmplane.Plane(plane.name, root=plane.root)

    async def wait() -> None:
        with pytest.raises(shmplane.ClosedError, match="this Plane object"):
            await call(closed)

    async def main() -> None:
        waits = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.to_thread(until, lambda: _waits(plane) == 3)
        closed.close()
        await asyncio.wait_for(asyncio.gather(*waits), SOON_S)

    asyncio.run(main())
    assert _waits(plane) == 0
    plane.lock("gpu").release()


def test_a_follower_thread_can_be_stopped_by_closing_its_plane(plane: shmplane.Plane) -> None:
    plane["config"] = 1
    own, seen = shmplane.Plane(plane.name, root=plane.root), []

    def follow() -> None:
        with contextlib.suppress(shmplane.ClosedError):
            for block in own.follow("config"):
                seen.append(block.value())
                block.close()

    following = threading.Thread(target=follow)
    following.start()
    until(lambda: seen and _waits(plane))
    own.close()
    following.join(SOON_S)
    assert not following.is_alive()


def test_a_plane_closed_under_a_waiter_ends_the_wait_and_its_part(plane_root: Path) -> None:
    with shmplane.Plane("shared") as outside:
        with Child(_close_while_waiting, "shared", method="spawn") as child:
            assert child.next() == "waiting"
            assert isinstance(child.next(), shmplane.ClosedError)
            until(lambda: outside.stats().processes == 1)
        outside.destroy()


def _close_while_waiting(name: str) -> Iterator[Any]:
    plane = shmplane.Plane(name)
    later = Later(plane, "x")
    plane.close()
    yield "waiting"
    yield later.result()
    time.sleep(0.2)
    yield "done"


def test_a_killed_waiter_is_forgotten(plane: shmplane.Plane) -> None:
    with Child(_wait, plane, "x", 0, method="fork") as child:
        until(lambda: watching_processes(plane) == 1)
        child.kill()
    plane.gc()
    assert watching_processes(plane) == 0


def test_a_forked_child_waits_for_nothing(plane: shmplane.Plane) -> None:
    later = Later(plane, "x")
    with Child(_watches_of_mine, plane, method="fork") as child:
        assert child.result() == (0, 1)
    plane["x"] = 1
    assert later.result() == (1, 1)


def _watches_of_mine(plane: Any) -> tuple[int, int]:
    return len(watches_of(plane)), watching_processes(plane)


def test_waiting_works_across_pid_namespaces(plane_root: Path, needs_pid_namespaces: None) -> None:
    program = (
        "import os, shmplane\n"
        "plane = shmplane.Plane('shared')\n"
        "assert os.getpid() == 1\n"
        "print(plane.wait('x', timeout=20).value(), flush=True)\n"
        "plane['y'] = 'and back'\n"
    )
    with shmplane.Plane("shared") as plane:
        command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as inside:
            assert inside.stdout is not None
            try:
                until(lambda: watching_processes(plane) == 1)
                plane["x"] = "hello"
                assert inside.stdout.readline() == "hello\n"
                with plane.wait("y", timeout=SOON_S) as block:
                    assert block.value() == "and back"
            finally:
                inside.kill()
        plane.destroy()


# asyncio


def test_tasks_wait_while_the_loop_goes_on(plane: shmplane.Plane) -> None:
    plane["x"] = 0

    async def wait() -> Any:
        with await plane.wait_async("x", newer_than=1, timeout=SOON_S) as block:
            return block.value()

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(wait()) for _ in range(50)]
        await asyncio.sleep(0.01)
        plane["x"] = 5
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [5] * 50
    assert watching_processes(plane) == 0


def _both_have(got: list[Any], version: int) -> bool:
    return got.count(version) == 2


def test_two_event_loops_in_threads_wait_at_once(plane: shmplane.Plane) -> None:
    got: list[Any] = []

    async def main() -> None:
        for version in range(5):
            with await plane.wait_async("x", newer_than=version, timeout=SOON_S) as block:
                got.append(block.version)

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in range(5):
        plane["x"] = version
        until(partial(_both_have, got, version + 1))
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive()
    assert len(got) == 10


@pytest.mark.parametrize("steps", range(5))
def test_a_cancelled_wait_leaves_no_thread_and_no_watch(plane: shmplane.Plane, steps: int) -> None:
    before = len(os.listdir("/proc/self/task"))

    async def main(publish: bool) -> None:
        plane.get("x")
        task = asyncio.create_task(plane.wait_async("x", newer_than=10))
        for _ in range(steps):
            await asyncio.sleep(0)
        if publish:
            plane["x"] = 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert watching_processes(plane) == 0

    asyncio.run(main(False))
    asyncio.run(main(True))
    until(lambda: len(os.listdir("/proc/self/task")) <= before, seconds=2)


def test_a_storm_of_cancellations_leaves_nothing(plane: shmplane.Plane) -> None:
    async def wait(index: int) -> None:
        async with asyncio.timeout(0.001 * (index % 9)):
            (await plane.wait_async("x", newer_than=index)).close()

    async def publish() -> None:
        for value in range(20):
            plane["x"] = value
            await asyncio.sleep(0.0005)

    async def main() -> None:
        await asyncio.gather(publish(), *(wait(index) for index in range(100)), return_exceptions=True)

    asyncio.run(main())
    assert watching_processes(plane) == 0
    assert not watches_of(plane)


def test_another_event_loop_is_told_so(plane: shmplane.Plane) -> None:
    plane["x"] = 1
    with pytest.raises(RuntimeError, match="needs asyncio"):
        trio.run(plane.wait_async, "x")
