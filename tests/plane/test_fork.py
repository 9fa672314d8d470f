"""Fork in the middle of anything, and the other ways in which processes come to share a plane."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

import shmplane
from shmplane.plane.memory import sinks as memory
from tests.support.audit import faults_of
from tests.support.forked import Forked, run_forked
from tests.support.inside import change, do_without_the_core, mark_of, memory_of, slot_of
from tests.support.processes import Child, run_in_child, run_python
from tests.support.waiting import wait_for

LARGE = bytes(range(256)) * 500


@contextlib.contextmanager
def pipes(count: int) -> Iterator[list[tuple[int, int]]]:
    """Pipes that are closed also when the test fails, so that a child that waits on one ends."""
    made = [os.pipe() for _ in range(count)]
    try:
        yield made
    finally:
        for pair in made:
            os.close(pair[0])
            os.close(pair[1])


def test_a_view_that_a_child_inherits_is_leased_by_the_child(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    views = [plane["x"]]
    with pipes(2) as (ready, told):

        def outlive() -> None:
            os.write(ready[1], b"r")
            os.close(told[1])  # so that reading ends when the test fails
            os.read(told[0], 1)  # by now the parent has let go
            assert bytes(views[0]) == LARGE

        child = Forked(outlive)
        os.read(ready[0], 1)
        views.clear()
        del plane["x"]
        gc.collect()
        plane.gc()
        plane["y"] = bytes(len(LARGE))  # would land in the child's memory if the lease were lost
        assert [info.leases for info in plane.blocks() if info.name is None] == [1]
        os.write(told[1], b"t")
        child.wait()
        assert plane.gc().leases == 1
        assert not faults_of(plane)


def test_a_child_uses_the_inherited_plane_at_once(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE

    def act() -> None:
        plane["from the child"] = b"hello"
        assert bytes(plane["x"]) == LARGE
        del plane["x"]

    run_forked(act)

    assert bytes(plane["from the child"]) == b"hello"
    assert "x" not in plane


def test_children_that_ended_leave_their_slots_to_the_next(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), max_processes=2) as plane:
        for turn in range(5):  # far quicker than the scan for dead processes, which runs once a second
            run_forked(functools.partial(plane.put, f"{turn}", b"from a child"))
        assert len(plane) == 5
        plane.destroy()


def test_a_child_that_outlives_its_parent_keeps_what_it_holds(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    with pipes(3) as (ready, told, said):

        def be_orphan(view: object) -> None:
            os.write(ready[1], b"r")
            os.close(told[1])  # so that reading ends when the test fails
            os.read(told[0], 1)
            ok = bytes(view) == LARGE and plane.put("last words", b"!").version == 1  # type: ignore[call-overload]
            os.write(said[1], b"1" if ok else b"0")

        def be_parent() -> None:
            view = plane["x"]
            Forked(lambda: be_orphan(view))
            time.sleep(0.001)

        parent = Forked(be_parent)
        os.read(ready[0], 1)
        parent.wait()
        plane.gc()
        assert plane.stats().processes == 2  # the child must not keep its parent's token
        del plane["x"]
        plane.gc()
        os.write(told[1], b"t")
        assert os.read(said[0], 1) == b"1"
        deadline = time.monotonic() + 5
        while plane.stats().processes > 1 and time.monotonic() < deadline:
            plane.gc()
            time.sleep(0.001)
        assert bytes(plane["last words"]) == b"!"
        plane.gc()
        assert not faults_of(plane)


@contextlib.contextmanager
def busy_threads(plane: shmplane.Plane, count: int) -> Iterator[list[BaseException]]:
    """Threads that put, get and delete without a pause."""
    stop, errors = threading.Event(), []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                plane[f"thread/{number}"] = b"t" * 70_000
                view = plane[f"thread/{number}"]
                plane[f"thread/{number}"] = b"small"
                assert view[0] == ord("t")
                del view, plane[f"thread/{number}"]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def fork_often(plane: shmplane.Plane, times: int) -> None:
    held = []
    for index in range(5):
        plane[f"held/{index}"] = bytes([index]) * 70_000
        held.append(plane[f"held/{index}"])
    checksums = [crc32(view) for view in held]
    with busy_threads(plane, 2) as errors:
        for round_ in range(times):

            def act(round_: int = round_) -> None:
                assert [crc32(view) for view in held] == checksums
                plane[f"child/{round_ % 4}"] = b"c" * (100 if round_ % 2 else 70_000)
                assert plane[f"child/{round_ % 4}"][0] == ord("c")
                leased = [info for info in plane.blocks() if info.name and info.name.startswith("held/")]
                slot = slot_of(plane)
                assert all(slot in info.holders for info in leased), leased

            run_forked(act)
    assert not errors
    plane.gc()
    plane.gc()
    assert plane.stats().processes == 1
    assert not faults_of(plane)


def test_no_lease_is_lost_and_nothing_hangs_when_forking_beside_busy_threads(plane: shmplane.Plane) -> None:
    fork_often(plane, 60)


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_the_same_a_thousand_times(plane: shmplane.Plane) -> None:
    fork_often(plane, 1000)


def test_a_fork_waits_for_the_transaction_of_another_thread(plane: shmplane.Plane) -> None:
    inside, order = threading.Event(), []

    def dwell(tx: Any) -> None:
        inside.set()
        time.sleep(0.2)
        order.append("transaction")

    thread = threading.Thread(target=change, args=(plane, dwell))
    thread.start()
    inside.wait()
    child = Forked(lambda: plane.put("x", LARGE))
    order.append("fork")
    child.wait(10)
    thread.join()

    assert order == ["transaction", "fork"]
    assert bytes(plane["x"]) == LARGE


def test_threads_fork_at_the_same_time(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    view = plane["x"]
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(15):
                run_forked(lambda: bytes(view) == LARGE and plane["x"])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    plane["still"] = b"works"
    plane.gc()
    assert plane.stats().processes == 1


def test_a_fork_inside_a_call_gives_a_child_without_a_part(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    view = plane["x"]

    def act() -> None:
        assert bytes(view) == LARGE  # the parent lives, so this is covered
        with pytest.raises(shmplane.ClosedError):
            plane["y"] = b""
        with shmplane.Plane(plane.name, root=plane.root) as again:
            assert bytes(again["x"]) == LARGE

    change(plane, lambda tx: Forked(act)).wait(10)

    plane["y"] = b"the parent goes on"
    plane.gc()
    assert not faults_of(plane)


def both(act: Callable[[], object], check: Callable[[BaseException | None], bool]) -> None:
    """``act`` forks and comes back in both processes; in the child ``check`` says whether it ended as it should."""
    parent, error = os.getpid(), None
    try:
        act()
    except BaseException as raised:
        if os.getpid() == parent:
            raise
        error = raised
    finally:
        if os.getpid() != parent:
            os._exit(0 if check(error) else 1)


def is_refused(error: BaseException | None) -> bool:
    return isinstance(error, shmplane.ClosedError)


def test_a_child_forked_inside_a_transaction_changes_nothing_on_its_way_out(plane: shmplane.Plane) -> None:
    plane["x"], plane["y"] = LARGE, b"small"

    def operation(tx: Any) -> None:
        pid = os.fork()
        if pid:
            assert wait_for(pid) == 0
            assert tx.header.dirty[0] == mark_of(plane)
            assert tx.header.live_names[0] == 2
        tx.delete(b"x")

    both(lambda: change(plane, operation), is_refused)

    assert plane.names() == ["y"]
    plane.gc()
    assert not faults_of(plane)


def test_a_child_forked_inside_a_put_writes_into_nobodys_cell(plane: shmplane.Plane) -> None:
    """By the time it goes on, the cell may be another block's."""
    do_without_the_core(plane)  # inside of which nobody forks
    plane["x"] = b"old" * 100
    mappings = memory_of(plane)
    real = mappings.writable
    pids: list[int] = []
    with pipes(1) as ((readable, writable),):

        def forking(segment_id: int, nbytes: int) -> object:
            found = real(segment_id, nbytes)
            if not pids:
                pids.append(os.fork())
                if not pids[0]:
                    os.read(readable, 1)
            return found

        mappings.writable = forking
        both(lambda: plane.__setitem__("y", b"new" * 100), is_refused)
        del mappings.writable, plane["y"]
        gc.collect()
        for index in range(20):
            plane[f"{index}"] = b"own" * 100
        os.write(writable, b"g")
        assert wait_for(pids[0]) == 0
    assert all(plane[f"{index}"] == b"own" * 100 for index in range(20))
    plane.clear()
    plane.gc()
    assert not faults_of(plane)


@pytest.mark.parametrize("warm", [False, True])
def test_a_child_forked_while_a_block_is_written_leaves_it_to_its_parent(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    if warm:
        for _ in range(3):  # from the second time on, it is filled through a mapping
            plane["x"] = LARGE
            del plane["x"]
            plane.gc()
        memory_of(plane).forget_slabs()  # so that it is Python code that fills it, which can be stopped in there
    kind = memory.MappedSink if warm else memory.FileSink
    real = kind.write
    pids: list[int] = []
    with pipes(1) as ((readable, writable),):

        def forking(sink: object, offset: int, data: object) -> None:
            if not pids:
                pids.append(os.fork())
                if not pids[0]:
                    os.read(readable, 1)
            real(sink, offset, data)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(kind, "write", forking)
            both(lambda: plane.__setitem__("x", LARGE), is_refused)
        del plane["x"]
        plane.gc()
        plane["y"] = LARGE[::-1]  # in the same segment
        os.write(writable, b"g")
        assert wait_for(pids[0]) == 0
    assert bytes(plane["y"]) == LARGE[::-1]
    assert plane.names() == ["y"]
    plane.gc()
    plane.gc()
    assert not faults_of(plane)


def test_a_fork_by_c_code_is_noticed(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            try:
                plane["y"] = b""
            except shmplane.ClosedError:
                code = 0
        os._exit(code)
    assert wait_for(pid) == 0
    assert plane.names() == ["x"]
    plane["y"] = b"the parent goes on"


def test_builders_that_were_open_are_the_childs_own_copy(plane: shmplane.Plane) -> None:
    builder = plane.create("built", (100_000,), "u1")
    builder.array[:] = 1

    def act() -> None:
        builder.array[:] = 2
        with pytest.raises(shmplane.ClosedError):
            builder.publish()

    run_forked(act)
    block = builder.publish()

    assert set(bytes(block.buffer())) == {1}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_plane_travels_to_child_processes(plane: shmplane.Plane, method: str) -> None:
    plane["x"] = LARGE

    checksum = run_in_child(_use, plane, method=method)  # type: ignore[arg-type]

    assert checksum == crc32(LARGE)
    assert bytes(plane["from the child"]) == b"hello"


def _use(plane: shmplane.Plane) -> int:
    plane["from the child"] = b"hello"
    return crc32(plane["x"])


def test_a_subprocess_opens_the_plane_by_its_name(plane: shmplane.Plane) -> None:
    plane["x"] = LARGE
    source = "import sys, zlib, shmplane; print(zlib.crc32(shmplane.Plane(sys.argv[1], create=False)['x']))"

    assert int(run_python(source, plane.name).stdout) == crc32(LARGE)


def test_closing_all_descriptors_ends_the_attachment_and_nothing_else(plane: shmplane.Plane) -> None:
    assert run_in_child(_close_descriptors, plane.root, plane.name) == "survived"
    assert bytes(plane["again"]) == b"after"
    plane.gc()
    assert plane.stats().processes == 1
    assert not faults_of(plane)


def _close_descriptors(root: str, name: str) -> str:
    plane = shmplane.Plane(name, root=root)
    plane["x"] = LARGE
    view = plane["x"]
    kept = {name for name in os.listdir("/proc/self/fd") if root not in _target_of(name)}
    for fd in range(3, 64):
        if str(fd) not in kept:
            with contextlib.suppress(OSError):
                os.close(fd)
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]  # in place of ours
    with pytest.raises(shmplane.ClosedError):
        plane["y"] = b""
    with pytest.raises(shmplane.ClosedError):
        plane.names()
    assert bytes(view) == LARGE
    for fd in others:
        os.fstat(fd)  # nobody closed what is not ours
    with shmplane.Plane(name, root=root) as again:
        again["again"] = b"after"
    plane.close()
    return "survived"


def _target_of(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def test_closerange_ends_the_attachment(plane: shmplane.Plane) -> None:
    source = """
import os, sys, shmplane
plane = shmplane.Plane(sys.argv[1], create=False)
view = plane["x"]
os.closerange(3, 256)
try:
    plane["y"] = b""
except shmplane.ClosedError:
    pass
else:
    raise SystemExit("no error")
assert bytes(view) == b"x" * 100_000
shmplane.Plane(sys.argv[1], create=False)["again"] = b"after"
"""
    plane["x"] = b"x" * 100_000

    run_python(source, plane.name)

    assert bytes(plane["again"]) == b"after"


def test_a_stopped_holder_of_the_lock_is_named(plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    for waits in ("attachment", "fast"):
        monkeypatch.setattr(f"shmplane.plane.process.{waits}.LOCK_TIMEOUT_S", 0.3)
    with Child(_hold_the_lock, plane.root, plane.name) as child:
        assert child.next() == "ready"
        child._tell("next")
        deadline = time.monotonic() + 5
        while not _is_stopped(child.pid) and time.monotonic() < deadline:
            time.sleep(0.001)
        with pytest.raises(shmplane.LockTimeout, match=str(child.pid)) as caught:
            plane["x"] = b""
        assert caught.value.retryable
        child.go_on()
        plane["x"] = b"goes on"
        assert child.next() == "went on"


def _hold_the_lock(root: str, name: str) -> Iterator[str]:
    plane = shmplane.Plane(name, root=root)
    yield "ready"
    change(plane, lambda tx: os.kill(os.getpid(), signal.SIGSTOP))
    yield "went on"
    plane.close()


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


@pytest.mark.usefixtures("needs_pid_namespaces")
def test_two_pid_namespaces_share_a_plane(plane: shmplane.Plane) -> None:
    """Tokens and not process numbers say who lives: the same number is somebody else in the other namespace."""
    import subprocess

    source = """
import os, sys, time, shmplane
plane = shmplane.Plane(sys.argv[1], create=False)
assert os.getpid() < 10, os.getpid()
view = plane["x"]
plane.gc()  # must not take those outside for dead
print("holding", flush=True)
sys.stdin.readline()
plane["from inside"] = b"hello"
print(plane.stats().processes, flush=True)
sys.stdin.readline()
"""
    plane["x"] = LARGE
    view = plane["x"]
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", source, plane.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as inside:
        assert inside.stdin is not None
        assert inside.stdout is not None
        assert inside.stdout.readline() == "holding\n"
        plane.gc()
        assert plane.stats().processes == 2
        assert plane.stats().leases == 2
        inside.stdin.write("\n")
        inside.stdin.flush()
        assert inside.stdout.readline() == "2\n"
        assert bytes(plane["from inside"]) == b"hello"
        inside.kill()
    deadline = time.monotonic() + 5
    while plane.stats().processes > 1 and time.monotonic() < deadline:
        plane.gc()
        time.sleep(0.01)
    plane.gc()
    assert (plane.stats().processes, bytes(view)) == (1, LARGE)
    assert not faults_of(plane)
