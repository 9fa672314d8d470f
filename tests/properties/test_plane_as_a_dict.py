"""A plane is a dict: one machine in this process, fast, and one over several processes that are killed at random."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import shmplane
from tests.support.audit import faults_of
from tests.support.forked import run_forked
from tests.support.processes import Child

NAMES = st.sampled_from(["a", "b", "c/d", "é", "x" * 120])
VALUES = st.builds(
    lambda letter, nbytes: bytes([letter]) * nbytes,
    st.integers(0, 255),
    st.sampled_from([0, 1, 63, 64, 5_000, 65_000, 65_536, 66_000, 100_000]),
)
OPTIONS: dict[str, Any] = {"capacity": 16 << 20, "max_blocks": 64, "max_processes": 8}


class OneProcess(RuleBasedStateMachine):
    """Every call of a mapping, and views that are held for a while."""

    views = Bundle("views")

    @initialize()
    def open(self) -> None:
        self.plane = shmplane.Plane.temporary(**OPTIONS)
        self.model: dict[str, bytes] = {}
        self.versions: dict[str, int] = {}
        self.held: dict[int, tuple[Any, bytes]] = {}
        self.next = 0

    def _put(self, name: str, value: bytes) -> None:
        self.model[name] = value
        self.versions[name] = self.versions.get(name, 0) + 1

    @rule(name=NAMES, value=VALUES)
    def put(self, name: str, value: bytes) -> None:
        with self.plane.put(name, value) as block:
            self._put(name, value)
            assert block.version == self.versions[name]
            assert bytes(block.buffer()) == value

    @rule(name=NAMES, value=VALUES)
    def assign(self, name: str, value: bytes) -> None:
        self.plane[name] = value
        self._put(name, value)

    @rule(name=NAMES, value=VALUES, expected=st.integers(0, 3))
    def put_if(self, name: str, value: bytes, expected: int) -> None:
        current = self.versions[name] if name in self.model else 0
        if expected == current:
            self.plane.put(name, value, expected_version=expected)
            self._put(name, value)
        else:
            with pytest.raises(shmplane.Conflict):
                self.plane.put(name, value, expected_version=expected)

    @rule(name=NAMES, value=VALUES, fails=st.booleans())
    def build(self, name: str, value: bytes, fails: bool) -> None:
        try:
            with self.plane.create(name, (len(value),), "u1") as builder:
                builder.array[:] = bytearray(value)
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return
        self._put(name, value)

    @rule(name=NAMES, value=VALUES.filter(len), fails=st.booleans())
    def fill_buffer(self, name: str, value: bytes, fails: bool) -> None:
        with self.plane.buffer(len(value)) as buffer:
            memoryview(buffer)[:] = value
            if not fails:
                buffer.publish(name)
                self._put(name, value)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name in self.model:
            del self.plane[name], self.model[name]
        else:
            with pytest.raises(shmplane.BlockNotFound):
                del self.plane[name]

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        if old not in self.model:
            with pytest.raises(shmplane.BlockNotFound):
                self.plane.rename(old, new)
            return
        self.plane.rename(old, new)
        if old != new:
            self.model[new] = self.model.pop(old)
            self.versions[new] = self.plane.attach(new).version

    @rule(target=views, name=NAMES)
    def hold(self, name: str) -> Any:
        if name not in self.model:
            return multiple()
        self.next += 1
        self.held[self.next] = (self.plane[name], self.model[name])
        return self.next

    @rule(view=views)
    def let_go(self, view: int) -> None:
        self.held.pop(view, None)

    @rule()
    def upkeep(self) -> None:
        gc.collect()
        self.plane.gc()
        self.plane.trim()

    @rule()
    def forked_child_reads(self) -> None:
        run_forked(self.all_is_right)

    def all_is_right(self) -> None:
        for name, value in self.model.items():
            assert bytes(self.plane[name]) == value
        for view, value in self.held.values():
            assert bytes(view) == value

    @invariant()
    def views_never_change(self) -> None:
        if hasattr(self, "held"):
            assert all(bytes(view) == value for view, value in self.held.values())

    @invariant()
    def the_plane_has_what_the_dict_has(self) -> None:
        if hasattr(self, "model"):
            assert list(self.plane) == sorted(self.model)
            assert len(self.plane) == len(self.model)
            for name, value in self.model.items():
                assert bytes(self.plane[name]) == value

    def teardown(self) -> None:
        if not hasattr(self, "plane"):
            return
        self.held.clear()
        gc.collect()
        self.plane.gc()
        self.plane.gc()
        try:
            assert not faults_of(self.plane)
            stats = self.plane.stats()
            assert (stats.blocks, stats.leases, stats.processes) == (len(self.model), 0, 1)
        finally:
            self.plane.close()


class Worker:
    """A process that makes the calls it is told, one at a time."""

    def __init__(self, root: str, name: str) -> None:
        from multiprocessing import get_context

        context = get_context("fork")
        self.ours, theirs = context.Pipe()
        self.process = context.Process(target=_obey, args=(theirs, self.ours, root, name))
        self.process.start()
        theirs.close()

    def ask(self, what: str, *args: Any) -> Any:
        self.ours.send((what, args))
        if not self.ours.poll(10):
            raise AssertionError(f"the worker hangs in {what}{args!r:.80}")
        kind, value = self.ours.recv()
        if kind == "raised":
            raise value
        return value

    def tell_and_kill(self, what: str, *args: Any) -> None:
        """Killed while it may be in the middle of the call."""
        self.ours.send((what, args))
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(10)
        self.ours.close()
        self.process.close()


def _obey(pipe: Any, parents_end: Any, root: str, name: str) -> None:
    parents_end.close()
    plane = shmplane.Plane(name, root=root)
    held: dict[str, Any] = {}
    while True:
        try:
            what, args = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            if what == "put":
                plane[args[0]] = args[1]
                value: Any = None
            elif what == "delete":
                plane.delete(args[0])
                value = None
            elif what == "rename":
                plane.rename(*args)
                value = None
            elif what == "get":
                value = bytes(plane[args[0]])
            elif what == "hold":
                held[args[0]] = (plane[args[0]], bytes(plane[args[0]]))
                value = None
            else:
                value = all(bytes(view) == copy for view, copy in held.values())
            pipe.send(("returned", value))
        except BaseException as error:
            pipe.send(("raised", error))


class SeveralProcesses(RuleBasedStateMachine):
    """Calls by three processes in turn; some are killed while they make one."""

    workers = st.integers(0, 2)

    @initialize()
    def open(self) -> None:
        self.root = tempfile.mkdtemp(prefix="machine-", dir=os.environ["SHMPLANE_ROOT"])
        self.plane = shmplane.Plane("plane", root=self.root, **OPTIONS)
        self.model: dict[str, bytes] = {}
        self.team = [Worker(self.root, "plane") for _ in range(3)]
        for worker in self.team:
            assert worker.ask("check")

    @rule(worker=workers, name=NAMES, value=VALUES)
    def put(self, worker: int, name: str, value: bytes) -> None:
        self.team[worker].ask("put", name, value)
        self.model[name] = value

    @rule(worker=workers, name=NAMES)
    def delete(self, worker: int, name: str) -> None:
        if name in self.model:
            self.team[worker].ask("delete", name)
            del self.model[name]
        else:
            with pytest.raises(shmplane.BlockNotFound):
                self.team[worker].ask("delete", name)

    @rule(worker=workers, old=NAMES, new=NAMES)
    def rename(self, worker: int, old: str, new: str) -> None:
        if old in self.model:
            self.team[worker].ask("rename", old, new)
            self.model[new] = self.model.pop(old)

    @rule(worker=workers, name=NAMES)
    def get(self, worker: int, name: str) -> None:
        if name in self.model:
            assert self.team[worker].ask("get", name) == self.model[name]

    @rule(worker=workers, name=NAMES)
    def hold(self, worker: int, name: str) -> None:
        if name in self.model:
            self.team[worker].ask("hold", name)

    @rule(worker=workers, name=NAMES, value=VALUES)
    def kill_in_a_put(self, worker: int, name: str, value: bytes) -> None:
        self.team[worker].tell_and_kill("put", name, value)
        self.team[worker] = Worker(self.root, "plane")
        found = self.plane.get(name)
        assert found is None or bytes(found) in (value, self.model.get(name))
        if found is None:
            assert name not in self.model
        else:
            self.model[name] = bytes(found)

    @rule(worker=workers, name=NAMES)
    def kill_in_a_delete(self, worker: int, name: str) -> None:
        self.team[worker].tell_and_kill("delete", name)
        self.team[worker] = Worker(self.root, "plane")
        if name not in self.plane:
            self.model.pop(name, None)

    @rule()
    def upkeep(self) -> None:
        self.plane.gc()

    @invariant()
    def everybody_sees_what_the_dict_has(self) -> None:
        if hasattr(self, "model"):
            assert list(self.plane) == sorted(self.model)
            for name, value in self.model.items():
                assert bytes(self.plane[name]) == value
            assert all(worker.ask("check") for worker in self.team)

    def teardown(self) -> None:
        if not hasattr(self, "team"):
            return
        for worker in self.team:
            worker.kill()
        try:
            self.plane.gc()
            self.plane.gc()
            assert not faults_of(self.plane)
            stats = self.plane.stats()
            assert (stats.blocks, stats.leases, stats.processes) == (len(self.model), 0, 1)
        finally:
            self.plane.destroy()
            os.rmdir(f"{self.root}/shmplane-{os.geteuid()}")
            os.rmdir(self.root)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def test_one_process() -> None:
    run_state_machine_as_test(
        OneProcess,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=QUIET,
        ),
    )


def test_several_processes_that_are_killed_at_random() -> None:
    run_state_machine_as_test(
        SeveralProcesses,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=QUIET,
        ),
    )


def test_threads_of_one_process_and_another_process_share_a_dict(plane: shmplane.Plane) -> None:
    """The last writer of each name wins, whoever it is."""
    with Child(_write_and_tell, plane, method="fork") as child:
        for value in (b"1", b"2" * 70_000, b"3" * 300):
            plane["x"] = value
            assert child.next() == value
            assert bytes(plane["x"]) == b"child:" + value[:1]


def _write_and_tell(plane: shmplane.Plane) -> Iterator[bytes]:
    for _ in range(3):
        found = bytes(plane["x"])
        plane["x"] = b"child:" + found[:1]
        yield found
