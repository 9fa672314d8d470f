"""Locks and semaphores: order, limits, time-outs, and what becomes of permits when their holders end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import shmplane
from shmplane.manifest import Coordination
from tests.support.inside import (
    attachment_of,
    claims_in_line,
    nobody_drains,
    permits_of,
    processes_in_line,
    row_of_the_next_semaphore,
)
from tests.support.lines import Witness, until
from tests.support.processes import Child, run_in_child, run_python

SOON_S = 5.0  #: far above what it takes, for what must happen at all


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Callable[[int], Witness]]:
    made: list[Witness] = []

    def make(permits: int) -> Witness:
        made.append(Witness(tmp_path, permits))
        return made[-1]

    yield make
    for one in made:
        one.close()


@contextlib.contextmanager
def threads(count: int, target: Callable[..., Any]) -> Iterator[list[threading.Thread]]:
    started = [threading.Thread(target=target, args=(index,)) for index in range(count)]
    for thread in started:
        thread.start()
    yield started
    for thread in started:
        thread.join(30)
        assert not thread.is_alive()


def hold(plane: Any, name: str, permits: int = 1) -> Iterator[str]:
    """A child that takes a permit and gives it back."""
    semaphore = plane.semaphore(name, permits)
    semaphore.acquire(SOON_S)
    yield "holding"
    semaphore.release()
    yield "released"


def wait_in_line(plane: Any, name: str, permits: int = 1) -> float:
    """A child that waits for a permit; how long it took."""
    began = time.monotonic()
    semaphore = plane.semaphore(name, permits)
    semaphore.acquire(20)
    took = time.monotonic() - began
    semaphore.release()
    return took


# One process


def test_a_lock_is_held_by_one_at_a_time(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    with lock:
        assert not lock.try_acquire()
        assert not plane.lock("gpu").try_acquire()
        assert lock.available == 0
    assert lock.try_acquire()
    lock.release()
    assert (lock.permits, lock.available) == (1, 1)


def test_a_semaphore_has_as_many_holders_as_permits(plane: shmplane.Plane) -> None:
    downloads = plane.semaphore("downloads", 3)
    assert [downloads.try_acquire() for _ in range(4)] == [True, True, True, False]
    assert downloads.available == 0
    for _ in range(3):
        downloads.release()
    assert downloads.available == 3


def test_a_lock_and_a_semaphore_of_one_name_are_two(plane: shmplane.Plane) -> None:
    with plane.lock("x"), plane.semaphore("x", 1):
        pass


@pytest.mark.parametrize("permits", [0, -1, 2**31])
def test_an_impossible_count_is_refused(plane: shmplane.Plane, permits: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plane.semaphore("x", permits)
    with pytest.raises(ValueError, match="at least 1"):
        plane.semaphore("x", 1).resize(permits)


@pytest.mark.parametrize("permits", [True, 1.0, "1", None])
def test_a_count_that_is_no_int_is_refused(plane: shmplane.Plane, permits: Any) -> None:
    with pytest.raises(TypeError, match="permits is an int"):
        plane.semaphore("x", permits)


def test_another_count_than_in_use_is_a_mismatch(plane: shmplane.Plane) -> None:
    with plane.semaphore("x", 2), pytest.raises(shmplane.PlaneMismatch, match=r"2 permits.*asked for 3") as caught:
        plane.semaphore("x", 3)
    assert (caught.value.facts["asked"], caught.value.facts["found"]) == (3, 2)


def test_another_count_than_others_wait_with_is_a_mismatch(plane: shmplane.Plane) -> None:
    plane.semaphore("x", 1).acquire()
    with Child(wait_in_line, plane, "x", method="fork") as child:
        until(lambda: processes_in_line(plane, "s:x"))
        with pytest.raises(shmplane.PlaneMismatch):
            plane.semaphore("x", 2)
        plane.semaphore("x", 1).release()
        child.result()


def test_a_semaphore_that_nobody_uses_takes_the_new_count(plane: shmplane.Plane) -> None:
    first = plane.semaphore("x", 2)
    with first:
        pass
    assert plane.semaphore("x", 5).permits == 5
    assert first.permits == 5


def test_releasing_what_is_not_held_is_an_error(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    with pytest.raises(RuntimeError, match=r"lock 'gpu' of plane .* is not held by this process"):
        lock.release()
    with lock, Child(_release, plane, method="fork") as child:
        with pytest.raises(RuntimeError, match="not held by this process"):
            child.result()
        assert not lock.try_acquire()
    assert lock.available == 1


def _release(plane: Any) -> None:
    plane.lock("gpu").release()


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_negative_timeout_is_an_error(plane: shmplane.Plane, timeout: float) -> None:
    lock = plane.lock("gpu")
    with pytest.raises(ValueError, match="0 or more seconds"):
        lock.acquire(timeout)
    with pytest.raises(ValueError, match="0 or more seconds"):
        asyncio.run(lock.acquire_async(timeout))
    assert lock.available == 1


@pytest.mark.parametrize("timeout", ["a", [1]])
def test_a_timeout_that_is_no_number_is_refused_by_its_name(plane: shmplane.Plane, timeout: Any) -> None:
    lock, rate, items = plane.lock("a"), plane.rate("a", 5), plane.queue("a")
    for call in (lock.acquire, partial(rate.acquire, 1), items.get, items.lease, partial(items.put, 1)):
        with pytest.raises(TypeError, match="timeout is a number"):
            call(timeout)
    assert items.empty()


def test_what_is_of_one_process_does_not_pickle_and_says_how_to_open_it_elsewhere(plane: shmplane.Plane) -> None:
    opened = {"lock": plane.lock("a"), "semaphore": plane.semaphore("a", 2), "rate": plane.rate("a", 5)}
    for call, thing in {**opened, "queue": plane.queue("a")}.items():
        with pytest.raises(TypeError, match=rf"open it by name there: .*plane\.{call}\(name"):
            pickle.dumps(thing)


@pytest.mark.parametrize("timeout", [0, 0.0, 0.03])
def test_a_timeout_names_who_holds_the_permits(plane: shmplane.Plane, timeout: float) -> None:
    lock = plane.lock("gpu")
    with lock, pytest.raises(shmplane.LockTimeout, match=f"not free within {timeout:g} s; .*{os.getpid()}") as caught:
        lock.acquire(timeout)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.facts["holders"] == [os.getpid()]
    assert claims_in_line(plane, "l:gpu") == processes_in_line(plane, "l:gpu") == 0
    assert lock.try_acquire()
    lock.release()


def test_a_timeout_says_that_this_process_holds_it_itself(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    with lock, pytest.raises(shmplane.LockTimeout, match=r"held by this process, not re-entrant"):
        lock.acquire(0.01)
    pair = plane.semaphore("pair", 2)
    pair.acquire()
    with Child(hold, plane, "pair", 2, method="fork") as child:
        assert child.next() == "holding"
        with pytest.raises(shmplane.LockTimeout) as caught:
            pair.acquire(0)
        assert "re-entrant" not in str(caught.value)
        child.result()
    pair.release()


def test_a_lock_of_a_closed_plane_object_can_be_released_and_not_taken(plane: shmplane.Plane) -> None:
    own = shmplane.Plane(plane.name, root=plane.root)
    lock = own.lock("gpu")
    lock.acquire()
    own.close()
    lock.release()
    for take in (lock.acquire, lock.try_acquire):
        with pytest.raises(shmplane.ClosedError, match="this Plane object"):
            take()
    assert plane.lock("gpu").available == 1


def test_timeout_zero_takes_a_free_permit(plane: shmplane.Plane) -> None:
    plane.lock("gpu").acquire(0)
    plane.lock("gpu").release()


def test_any_thread_may_release(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    with threads(1, lambda _: lock.release()):
        pass
    assert lock.available == 1


def test_threads_share_one_semaphore_object(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("x", 3)
    inside, most = 0, 0
    guard = threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        for _ in range(40):
            with semaphore:
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0002)
                with guard:
                    inside -= 1

    with threads(8, work):
        pass
    assert most <= 3
    assert semaphore.available == 3


def test_an_exception_inside_with_gives_the_permit_back(plane: shmplane.Plane) -> None:
    with pytest.raises(KeyError), plane.lock("gpu"):
        raise KeyError
    assert plane.lock("gpu").available == 1


def test_rows_of_semaphores_that_nobody_uses_are_used_again(plane: shmplane.Plane) -> None:
    first = plane.semaphore("first", 2)
    first.acquire()
    for index in range(1_500):
        with plane.semaphore(f"short-lived-{index}", 1 + index % 3):
            pass
    assert first.available == 1
    first.release()
    assert len(permits_of(plane)) < 1_100
    with first:
        assert first.permits == 2


def test_too_many_semaphores_in_use_at_once_is_plane_full(plane: shmplane.Plane) -> None:
    held = [plane.lock(f"lock-{index}") for index in range(512)]
    for lock in held:
        lock.acquire()
    with pytest.raises(shmplane.PlaneFull, match="512 locks and semaphores"):
        plane.lock("one more")
    held[100].release()
    with plane.lock("one more"):
        # Its row has gone to another name, and comes back elsewhere when it can.
        with pytest.raises(shmplane.PlaneFull):
            held[100].try_acquire()
        held[101].release()
        assert held[100].try_acquire()
    for index, lock in enumerate(held):
        if index != 101:
            lock.release()


# Order


def test_threads_and_processes_are_served_in_the_order_in_which_they_came(
    plane: shmplane.Plane, witness: Callable[[int], Witness]
) -> None:
    log, lock = witness(1), plane.lock("gpu")
    lock.acquire()
    with contextlib.ExitStack() as stack:
        crews = [stack.enter_context(Child(_crew, plane, log, method="fork")) for _ in range(3)]
        expected = []
        for turn in range(3):
            for crew in (0, 1, 2):
                name = f"{crew}-{turn}"
                _send_in(crews[crew], name)
                expected.append(name)
        lock.release()
        for child in crews:
            child.next()
    assert log.lines() == expected


def _send_in(child: Child, name: str) -> None:
    (Path(child.next()) / f"next-{child.pid}").write_text(name)
    assert child.next() == name


def _are_in_line(plane: Any, count: int) -> bool:
    return claims_in_line(plane, "l:gpu") == count


def _crew(plane: Any, log: Witness) -> Iterator[Any]:
    """Threads that stand in line one after the other."""
    lock, started = plane.lock("gpu"), []

    def take(name: str) -> None:
        with lock, log.holding():
            log.write(name)

    for turn in range(1, 4):
        yield log.directory
        name = (log.directory / f"next-{os.getpid()}").read_text()
        thread = threading.Thread(target=take, args=(name,))
        thread.start()
        started.append(thread)
        until(partial(_are_in_line, plane, turn))
        yield name
    for thread in started:
        thread.join(20)
    yield "done"


@pytest.mark.parametrize("permits", [1, 2])
def test_no_process_waits_longer_than_three_times_its_share(
    plane: shmplane.Plane, witness: Callable[[int], Witness], permits: int
) -> None:
    """Counted in turns, not in time: between two turns of a process the others have at most three each.

    What a process waits for a processor, as the kernel counts it, is not waited for the semaphore: on a busy machine the
    others have their turns meanwhile.
    """
    log = witness(permits)
    gate, stop = plane.semaphore("gate", 4), plane.mutable("stop", (), "u1")
    for _ in range(4):
        gate.acquire()
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Child(_take_turns, plane, log, permits, index, method="fork")) for index in range(4)
        ]
        until(lambda: processes_in_line(plane, "s:gate") == 4)
        for _ in range(4):
            gate.release()
        # Until each has had its 60, so that also the last to get a processor has had them among all others.
        until(lambda: min(_turns_of(log, index) for index in range(4)) >= 60, seconds=60)
        stop[()] = 1
        for worker in workers:
            worker.result()
    del stop
    served = [(int(who), float(delay_ms)) for who, _, delay_ms in (line.split() for line in log.lines())]
    order = [who for who, _ in served]
    # As long as all of them want turns.
    first, last = max(order.index(i) for i in range(4)), min(_last(order, i) for i in range(4))
    assert last - first > 100
    judged = 0
    for index in range(4):
        turns = [place for place in range(first, last) if order[place] == index]
        # One that lost its processor between looking at the clock and writing its line says so in its next line.
        gaps = [
            after - before
            for before, after, later in zip(turns, turns[1:], turns[2:], strict=False)
            if max(served[after][1], served[later][1]) < BRIEF_MS
        ]
        assert max(gaps, default=0) <= 3 * 4, (index, max(gaps))
        judged += len(gaps)
    assert judged


BRIEF_MS = 1.0


def _turns_of(log: Witness, index: int) -> int:
    return sum(line.startswith(f"{index} ") for line in log.lines())


def _last(order: list[int], who: int) -> int:
    return len(order) - 1 - order[::-1].index(who)


def _take_turns(plane: Any, log: Witness, permits: int, index: int) -> None:
    semaphore = plane.semaphore("turns", permits)
    stop = plane.mutable("stop", (), "u1")
    with plane.semaphore("gate", 4):
        pass
    delayed_ms, turn = _delay_ms(), 0
    while not stop[()]:
        turn += 1
        with semaphore, log.holding():
            before, delayed_ms = delayed_ms, _delay_ms()
            log.write(f"{index} {turn} {delayed_ms - before}")
            time.sleep(0.0005)


def _delay_ms() -> float:
    """What this thread was ready to run and had no processor, in all."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6


def test_try_acquire_does_not_jump_the_line(plane: shmplane.Plane) -> None:
    """A permit that was given back belongs to who waits, also while that process has not run yet."""
    lock = plane.lock("gpu")
    lock.acquire()
    with Child(wait_in_line_for_lock, plane, method="fork") as child:
        until(lambda: processes_in_line(plane, "l:gpu"))
        child.stop()
        lock.release()
        assert not lock.try_acquire()
        child.go_on()
        child.result()
    assert lock.try_acquire()
    lock.release()


def wait_in_line_for_lock(plane: Any) -> None:
    with plane.lock("gpu"):
        pass


def test_a_stopped_waiter_is_passed_over_once_and_does_not_lose_its_place(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    with Child(_note_when_served, plane, method="fork") as stopped:
        until(lambda: processes_in_line(plane, "l:gpu") == 1)
        stopped.stop()
        with Child(_pass_along, plane, method="fork") as first, Child(_pass_along, plane, method="fork") as second:
            until(lambda: processes_in_line(plane, "l:gpu") == 3)
            began = time.monotonic()
            lock.release()
            first.result()
            second.result()
            took = time.monotonic() - began
            # One second for the first of 40 turns, not for each.
            assert 0.7 < took < 10
        lock.acquire(SOON_S)
        with Child(_pass_along, plane, 1, method="fork") as late:
            until(lambda: processes_in_line(plane, "l:gpu") == 2)
            stopped.go_on()
            # It shows its ticket again, and is first.
            time.sleep(0.3)
            lock.release()
            late.result()
        assert stopped.result() == 41


def _pass_along(plane: Any, turns: int = 20) -> None:
    served = plane.mutable("served", (), "i8")
    for _ in range(turns):
        with plane.lock("gpu"):
            served[()] += 1


def _note_when_served(plane: Any) -> int:
    served = plane.mutable("served", (), "i8")
    with plane.lock("gpu"):
        served[()] += 1
        return int(served[()])


def test_try_acquire_passes_a_stopped_waiter_over_too(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    with Child(wait_in_line_for_lock, plane, method="fork") as child:
        until(lambda: processes_in_line(plane, "l:gpu"))
        child.stop()
        lock.release()
        assert not lock.try_acquire()
        until(lock.try_acquire)
        lock.release()
        assert lock.try_acquire()
        lock.release()
        child.go_on()
        child.result()


# Ends of processes


def test_a_killed_holders_permits_come_back_and_waiters_go_on(plane: shmplane.Plane) -> None:
    with Child(hold, plane, "x", 2, method="fork") as one, Child(hold, plane, "x", 2, method="fork") as other:
        assert (one.next(), other.next()) == ("holding", "holding")
        with Child(wait_in_line, plane, "x", 2, method="fork") as waiting:
            until(lambda: processes_in_line(plane, "s:x"))
            killed = time.monotonic()
            one.kill()
            waiting.result()
            assert time.monotonic() - killed < SOON_S
        assert other.next() == "released"
    assert plane.semaphore("x", 2).available == 2


def test_gc_counts_the_permits_that_came_back(plane: shmplane.Plane) -> None:
    with Child(hold, plane, "x", method="fork") as child:
        child.next()
        plane.gc()
        child.kill()
        with plane.lock("other"):
            pass
        found = plane.gc()
    # The once-a-second look of any process may have been faster.
    assert (found.processes, found.permits) in {(1, 1), (0, 0)}
    assert plane.semaphore("x", 1).available == 1


def test_a_holder_that_ends_without_releasing_gives_its_permit_back(plane: shmplane.Plane) -> None:
    with Child(_keep, plane, method="fork") as child:
        child.result()
    plane.semaphore("x", 1).acquire(SOON_S)
    plane.semaphore("x", 1).release()


def _keep(plane: Any) -> None:
    plane.semaphore("x", 1).acquire()


def test_a_killed_waiter_does_not_block_the_line(plane: shmplane.Plane) -> None:
    lock = plane.semaphore("x", 1)
    lock.acquire()
    with Child(wait_in_line, plane, "x", method="fork") as first:
        until(lambda: processes_in_line(plane, "s:x") == 1)
        with Child(wait_in_line, plane, "x", method="fork") as second:
            until(lambda: processes_in_line(plane, "s:x") == 2)
            first.kill()
            lock.release()
            second.result(timeout=SOON_S)
    assert lock.available == 1


def test_a_stopped_holder_keeps_its_permit(plane: shmplane.Plane) -> None:
    with Child(hold, plane, "x", method="fork") as child:
        child.next()
        child.stop()
        with pytest.raises(shmplane.LockTimeout) as caught:
            plane.semaphore("x", 1).acquire(0.4)
        assert caught.value.facts["holders"] == [child.pid]
        child.go_on()
        assert child.next() == "released"


def test_a_forked_child_holds_nothing(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()
    with Child(_what_a_child_holds, plane, lock, method="fork") as child:
        assert child.result() == (False, True)
    assert not lock.try_acquire()
    lock.release()
    assert lock.available == 1


def _what_a_child_holds(plane: Any, lock: Any) -> tuple[bool, bool]:
    try:
        lock.release()
    except RuntimeError:
        return lock.try_acquire(), plane.lock("other").try_acquire()
    raise AssertionError("a child released its parent's permit")


def test_a_fork_while_threads_wait_leaves_nobody_in_the_childs_line(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    lock.acquire()

    def wait(_: int) -> None:
        with lock:
            pass

    with threads(3, wait):
        until(lambda: claims_in_line(plane, "l:gpu") == 3)
        with Child(claims_in_line, plane, "l:gpu", method="fork") as child:
            assert child.result() == 0
        assert processes_in_line(plane, "l:gpu") == 1
        lock.release()


def test_a_plane_destroyed_under_waiters_ends_their_wait(plane_root: Path) -> None:
    plane = shmplane.Plane("doomed")
    plane.lock("gpu").acquire()
    errors: list[BaseException] = []

    def wait(_: int) -> None:
        try:
            plane.lock("gpu").acquire(20)
        except BaseException as error:
            errors.append(error)

    with Child(_wait_for_doom, plane, method="fork") as child, threads(2, wait):
        until(lambda: processes_in_line(plane, "l:gpu") == 2 and claims_in_line(plane, "l:gpu") == 2)
        began = time.monotonic()
        plane.destroy()
        assert child.result() < SOON_S
    assert time.monotonic() - began < SOON_S
    assert [type(error) for error in errors] == [shmplane.ClosedError] * 2
    with pytest.raises(shmplane.ClosedError):
        plane.lock("gpu")


def _wait_for_doom(plane: Any) -> float:
    lock = plane.lock("gpu")
    began = time.monotonic()
    try:
        lock.acquire(20)
    except shmplane.ClosedError:
        return time.monotonic() - began
    raise AssertionError("there is no plane any more, so nobody can hold its lock")


def test_a_closed_plane_object_keeps_its_permits_until_they_are_released(plane_root: Path) -> None:
    with shmplane.Plane("kept") as other:
        plane = shmplane.Plane("kept")
        lock = plane.lock("gpu")
        lock.acquire()
        plane.close()
        other.close()
        assert run_in_child(_is_free, "kept", method="fork") is False
        lock.release()
        assert run_in_child(_is_free, "kept", method="fork") is True
        with pytest.raises(shmplane.ClosedError):
            lock.acquire()
    with shmplane.Plane("kept") as plane:
        plane.destroy()


def _is_free(name: str) -> bool:
    with shmplane.Plane(name) as plane:
        lock = plane.lock("gpu")
        if lock.try_acquire():
            lock.release()
            return True
        return False


def test_a_closed_plane_with_a_held_permit_ends_with_its_process(plane_root: Path) -> None:
    run_python(
        """
        import shmplane
        plane = shmplane.Plane("kept")
        plane.lock("gpu").acquire()
        plane.close()
    """.replace("\n        ", "\n")
    )
    with shmplane.Plane("kept") as plane:
        plane.lock("gpu").acquire(SOON_S)
        plane.lock("gpu").release()
        plane.destroy()


def test_permits_are_right_in_another_pid_namespace(plane_root: Path, needs_pid_namespaces: None) -> None:
    """Both processes may have the same pid; killed in there, its permit comes back out here."""
    program = (
        "import os, sys, time, shmplane\n"
        "plane = shmplane.Plane('shared')\n"
        "gpu = plane.lock('gpu')\n"
        "gpu.acquire()\n"
        "print('holding', os.getpid(), flush=True)\n"
        "sys.stdin.readline()\n"
        "gpu.release()\n"
        "sys.stdin.readline()\n"
        "gpu.acquire()\n"
        "print('holding again', flush=True)\n"
        "time.sleep(60)\n"
    )
    with shmplane.Plane("shared") as plane:
        command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
            assert inside.stdin is not None
            assert inside.stdout is not None
            lock = plane.lock("gpu")
            try:
                assert inside.stdout.readline() == "holding 1\n"
                assert not lock.try_acquire()
                inside.stdin.write("\n")
                inside.stdin.flush()
                lock.acquire(SOON_S)
                inside.stdin.write("\n")
                inside.stdin.flush()
                until(lambda: processes_in_line(plane, "l:gpu") == 1)
                lock.release()
                assert inside.stdout.readline() == "holding again\n"
                assert not lock.try_acquire()
            finally:
                inside.kill()
            lock.acquire(SOON_S)
            lock.release()
        plane.destroy()


# Interrupts


@pytest.mark.parametrize("waits", [False, True], ids=["free", "in line"])
def test_ctrl_c_leaks_no_permit(plane: shmplane.Plane, waits: bool) -> None:
    with Child(_be_interrupted, plane, waits, method="fork", deadline=60) as child:
        interrupts = child.result()
    assert interrupts > 100
    assert plane.lock("gpu").available == 1


def _be_interrupted(plane: Any, waits: bool) -> int:
    """Interrupted by a timer at random places; a call that did not return has not taken anything."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    lock, interrupts = plane.lock("gpu"), 0
    for turn in range(400):
        if waits:
            lock.acquire()
        took = False
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-4 + (turn % 97) * 1e-6)
            while True:
                try:
                    lock.acquire(0.0005 if waits else None)
                    took = True
                    lock.release()
                    took = False
                except shmplane.LockTimeout:
                    pass
        except KeyboardInterrupt:
            interrupts += not took
        if waits or (took and not lock.available):
            lock.release()
        assert lock.available == 1, turn
        assert claims_in_line(plane, "l:gpu") == processes_in_line(plane, "l:gpu") == 0
    return interrupts


# Counts that change


def test_a_larger_count_lets_waiters_in_at_once(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("x", 1)
    semaphore.acquire()
    with Child(wait_in_line, plane, "x", method="fork") as one, Child(wait_in_line, plane, "x", method="fork") as two:
        until(lambda: processes_in_line(plane, "s:x") == 2)
        semaphore.resize(3)
        one.result(timeout=SOON_S)
        two.result(timeout=SOON_S)
    assert (semaphore.permits, semaphore.available) == (3, 2)
    with pytest.raises(shmplane.PlaneMismatch):
        plane.semaphore("x", 1)
    semaphore.release()


def test_a_smaller_count_takes_effect_as_permits_come_back(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("x", 3)
    for _ in range(3):
        semaphore.acquire()
    with Child(wait_in_line, plane, "x", 3, method="fork") as child:
        until(lambda: processes_in_line(plane, "s:x") == 1)
        semaphore.resize(1)
        for _ in range(2):
            semaphore.release()
            assert semaphore.available == 0
            time.sleep(0.15)
            assert processes_in_line(plane, "s:x") == 1
        semaphore.release()
        child.result(timeout=SOON_S)
    assert (semaphore.permits, semaphore.available) == (1, 1)


# asyncio


def test_tasks_are_served_in_order(plane: shmplane.Plane) -> None:
    lock, served = plane.lock("gpu"), []

    async def work(index: int) -> None:
        async with lock:
            served.append(index)
            await asyncio.sleep(0)

    async def main() -> None:
        await lock.acquire_async()
        tasks = []
        for index in range(30):
            tasks.append(asyncio.create_task(work(index)))
            await asyncio.sleep(0)
        lock.release()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert served == list(range(30))
    assert lock.available == 1


def test_many_tasks_of_two_loops_and_a_thread_never_exceed_the_permits(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("x", 3)
    guard, inside, most, turns = threading.Lock(), 0, 0, 0

    def enter(step: int) -> None:
        nonlocal inside, most, turns
        with guard:
            inside += step
            most = max(most, inside)
            turns += step > 0

    async def work() -> None:
        async with semaphore:
            enter(1)
            await asyncio.sleep(0.0005)
            enter(-1)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(60)))

    def run(index: int) -> None:
        if index < 2:
            asyncio.run(main())
        else:
            for _ in range(20):
                with semaphore:
                    enter(1)
                    enter(-1)

    with threads(3, run):
        pass
    assert (most <= 3, turns) == (True, 140)
    assert semaphore.available == 3


def test_a_permit_that_comes_free_wakes_one_task_and_not_all(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    semaphore, looks = plane.semaphore("x", 2), 0
    really_try = Coordination.try_take

    def try_take(*args: Any) -> bool:
        nonlocal looks
        looks += 1
        return really_try(*args)

    monkeypatch.setattr(Coordination, "try_take", try_take)

    async def work() -> None:
        async with semaphore:
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(400)))

    asyncio.run(main())
    # Each looks once when it comes and a few times at its turn, not at everybody's turn (80,000).
    assert looks < 400 * 20


def test_an_async_timeout_leaves_the_line(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")

    async def main() -> None:
        for timeout in (0, 0.03):
            with pytest.raises(shmplane.LockTimeout):
                await lock.acquire_async(timeout)

    with lock:
        asyncio.run(main())
        assert claims_in_line(plane, "l:gpu") == processes_in_line(plane, "l:gpu") == 0


@pytest.mark.parametrize("steps", range(6))
def test_a_cancelled_acquire_leaves_no_ticket_and_no_thread(plane: shmplane.Plane, steps: int) -> None:
    """Cancelled after so many turns of the loop, also when the permit is given back at that moment."""
    lock = plane.lock("gpu")
    before = _native_threads()

    async def main(release: bool) -> None:
        lock.acquire()
        task = asyncio.create_task(lock.acquire_async())
        for _ in range(steps):
            await asyncio.sleep(0)
        if release:
            lock.release()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            taken = False
        else:
            taken = True
        assert claims_in_line(plane, "l:gpu") == processes_in_line(plane, "l:gpu") == 0
        if not release or taken:
            lock.release()
        assert lock.available == 1

    for release in (False, True):
        asyncio.run(main(release))
    until(lambda: _native_threads() <= before, seconds=2)


def _native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_storm_of_cancellations_loses_no_permit(plane: shmplane.Plane) -> None:
    semaphore = plane.semaphore("x", 2)

    async def work(index: int) -> None:
        async with asyncio.timeout(0.001 * (index % 7)):
            async with semaphore:
                await asyncio.sleep(0.002)

    async def main() -> None:
        await asyncio.gather(*(work(index) for index in range(150)), return_exceptions=True)
        assert claims_in_line(plane, "s:x") == processes_in_line(plane, "s:x") == 0

    asyncio.run(main())
    assert semaphore.available == 2


def test_a_task_is_woken_by_another_process(plane: shmplane.Plane) -> None:
    async def main() -> None:
        await plane.semaphore("x", 1).acquire_async(SOON_S)
        plane.semaphore("x", 1).release()

    with Child(hold, plane, "x", method="fork") as child:
        child.next()
        timer = threading.Timer(0.05, child.next)
        timer.start()
        asyncio.run(main())
        timer.join()


def test_another_event_loop_is_told_so(plane: shmplane.Plane) -> None:
    lock = plane.lock("gpu")
    with pytest.raises(RuntimeError, match="needs asyncio"):
        trio.run(lock.acquire_async)
    with lock, pytest.raises(RuntimeError, match="needs asyncio"):
        trio.run(lock.acquire_async)
    assert lock.available == 1


def test_a_stack_of_contexts_takes_locks(plane: shmplane.Plane) -> None:
    async def in_a_task() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(plane.lock("x"))
            assert not plane.lock("x").try_acquire()

    with contextlib.ExitStack() as stack:
        stack.enter_context(plane.lock("x"))
        assert not plane.lock("x").try_acquire()
    asyncio.run(in_a_task())
    assert plane.lock("x").try_acquire()
    plane.lock("x").release()


def test_a_lock_whose_row_went_to_another_name_shares_nothing_with_that(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plane.lock("first")
    with first:
        pass
    with row_of_the_next_semaphore(monkeypatch, permits_of(plane)[b"l:first"].row):
        other = plane.lock("other")
    with other:
        pass
    assert permits_of(plane)[b"l:first"].row == permits_of(plane)[b"l:other"].row
    with first:
        assert other.try_acquire()
        other.release()


def test_the_last_permit_that_is_released_behind_the_close_of_its_plane_ends_what_this_process_has_there(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_drains(monkeypatch)
    other = shmplane.Plane(plane.name, root=plane.root)
    attachment = attachment_of(plane)
    lock = plane.lock("x")
    with lock:
        plane.close()
        other.close()
        assert attachment.ended is None
    assert attachment.ended is not None
