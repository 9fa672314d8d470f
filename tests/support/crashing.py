"""A survivor, its victims, and what must hold after each of them.

The survivor is attached to a plane and holds checksummed views. For each point it forks a victim that does one
operation and dies, or is interrupted, at that point. Then the survivor runs ``gc`` and looks:

* its views have the bytes that they had
* the names have what they had before the operation, or all that they should have after it
* a full recount of the plane (``support.audit``) finds nothing wrong, and rows, leases, blocks, processes and files
  are as many as before
* the plane still works, and nothing hangs
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import importlib
import mmap
import os
import shutil
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import shmplane
from shmplane.manifest import directory_of
from shmplane.plane.process import close as ending
from shmplane.system import forking
from shmplane.system.imports import LIBRARIES
from shmplane.system.modules import LATE
from tests.support.audit import faults_of
from tests.support.inside import (
    before_each_undo,
    creations_of,
    gc_finds_only_what_is_over,
    leases_taken,
    mutex_is_taken,
)
from tests.support.thrown import TWICE, Thrower
from tests.support.waiting import HANG_S, Hang, deadline, wait_for

INTERRUPTED = 3  #: exit code of a victim's child that Ctrl-C ended
_PR_SET_CHILD_SUBREAPER = 36
_MOST_TEXT = 60_000
#: the second of two interrupts comes so many bytecodes after the undo began, each time others
_STRIDE, _UNDO_BYTECODES = 37, 200

Names = dict[str, bytes]


class InChild(KeyboardInterrupt):
    """A victim's own child was interrupted."""


class Trigger(Protocol):
    def arm(self, at: int, /) -> None: ...
    def disarm(self) -> int: ...


def _stats_of(world: World) -> object:
    return world.plane.stats()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One public call that writes, with the state before it and after it."""

    name: str
    operate: Callable[[World, Any], Any]
    before: Names = field(default_factory=dict)  #: names beside those that the survivor keeps
    after: Names | None = None  #: None: as before
    between: Callable[[Names], bool] = lambda found: False  #: what else may be found on the way
    begin: Callable[[World], Any] = lambda world: None  #: in the victim, before the points are counted
    cold: bool = False  #: without warm memory or idle slabs
    bare: bool = False  #: the victim has no part in the plane yet
    fresh: bool = False  #: in a plane made anew, for what happens once in its life
    #: in the survivor, before the victim is made
    arrange: Callable[[World], None] = lambda world: None
    #: in the survivor, after the other checks; says what is wrong
    inspect: Callable[[World, bool], list[str]] = lambda world, finished: []
    #: in a process that was interrupted, when it goes on; says what is wrong
    go_on: Callable[[World, bool], list[str]] = lambda world, interrupted: []
    #: what a signal handler of kind ``calls`` calls
    called: Callable[[World], object] = _stats_of

    def allows(self, found: Names, *, finished: bool) -> bool:
        """Whether the names may be like this: as before, as after, and when it is finished only the latter."""
        if found == (self.before if self.after is None else self.after):
            return True
        return not finished and (found == self.before or self.between(found))


class Outcome(NamedTuple):
    """What became of one victim."""

    finished: bool  #: the operation came to its end before the point did
    killed: bool
    points: int  #: as counted, when it finished
    problems: list[str]


class World:
    """The survivor's side: one plane, and views of it whose bytes are known."""

    KEPT: Names = {"kept/small": b"s" * 300, "kept/large": b"L" * 100_000, "kept/moved": b"new" * 50}

    def __init__(self, root: str, *, name: str = "plane", **options: Any) -> None:
        # The drain timer is a thread, and forking beside it is what we are here for.
        warnings.filterwarnings("ignore", message="This process .* is multi-threaded", category=DeprecationWarning)
        # Safety: takes no pointers.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.root, self.name = root, name
        self.options = {"capacity": 8 << 20, "max_blocks": 256, "max_processes": 8, **options}
        _load_what_victims_load()
        gc.freeze()  # collections, here and in victims, look at what is made from now on
        self._report = mmap.mmap(-1, _MOST_TEXT + 64)
        self.scratch: dict[str, Any] = {}
        self.warmed: set[str] = set()  #: scenarios that have run here once
        self.whole: dict[
            tuple[str, bool], Outcome
        ] = {}  #: what came of one that was not disturbed: its number of points
        self._strict = contextlib.ExitStack()
        self._strict.enter_context(gc_finds_only_what_is_over())
        self.open()

    def open(self) -> None:
        self.warmed.clear()
        self.whole.clear()
        self.plane = shmplane.Plane(self.name, root=self.root, **self.options)
        self.plane["kept/moved"] = b"old" * 40
        self.views = [(self.plane["kept/moved"], crc32(b"old" * 40))]
        for name, value in self.KEPT.items():
            self.plane[name] = value
            self.views.append((self.plane[name], crc32(value)))
        self.plane["kept/slab"] = b"k"
        self.plane.gc()
        self.baseline = self.totals()

    def close(self) -> None:
        self.views.clear()
        self.scratch.clear()
        self.plane.destroy()
        self._strict.close()
        self._report.close()
        gc.collect()
        shutil.rmtree(f"{directory_of(self.root)}", ignore_errors=True)

    # What there is

    def totals(self) -> dict[str, int]:
        stats = self.plane.stats()
        return {"blocks": stats.blocks, "processes": stats.processes, "leases": stats.leases}

    def contents(self, plane: Any = None) -> Names:
        """The bytes of every name that the survivor does not keep."""
        plane = self.plane if plane is None else plane
        found = {}
        for name in plane.names():
            if name not in self.KEPT and name != "kept/slab":
                with plane.attach(name) as block:
                    found[name] = bytes(block.buffer())
        return found

    def changed_views(self) -> list[str]:
        return [
            f"the bytes of view {index} changed"
            for index, (view, checksum) in enumerate(self.views)
            if crc32(view) != checksum
        ]

    # One point

    def run(
        self,
        scenario: Scenario,
        trigger: Trigger,
        at: int,
        *,
        interrupts: str | None = None,
        second: tuple[Trigger, int] | None = None,
    ) -> Outcome:
        """Fork a victim for one point and look at what it left.

        ``interrupts``: the victim is not killed there; a signal handler of this kind raises (see ``thrown``), and what
        it raised must be what comes out.
        ``second``: another process comes first, recovers, and dies at a point of that; ``count`` and ``killed`` are its.
        """
        if scenario.fresh:
            self.renew()
        self.arrange(scenario)
        self._report[:64] = bytes(64)
        with _no_fork_hooks() if scenario.bare else contextlib.nullcontext():
            pid = os.fork()
            if pid == 0:
                if scenario.bare:
                    strip_attachments()
                self._be_victim(scenario, trigger, at, interrupts=interrupts)
        status = wait_for(pid)
        self._reap_orphans()
        finished, count, said = self._read_report()
        self._load_libraries()
        if second is not None:
            status, count = self._recover_and_die(*second)
            said += self._read_report()[2]
        problems = [said] if said else []
        if status is None:
            problems.append("the victim hung")
        killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status is not None and os.waitstatus_to_exitcode(status) != 0:
            problems.append(f"the victim ended with {os.waitstatus_to_exitcode(status)}")
        try:
            with deadline("looking after the victim"):
                problems += self.inspect(scenario, finished=finished)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            problems.append("".join(traceback.format_exception(error)))
        if problems:
            self._start_again()
        return Outcome(finished, killed, count, problems)

    def _load_libraries(self) -> None:
        """Those that the victim had to load: the next one has them, and a fork is slower by no others."""
        (loaded,) = struct.unpack("q", self._report[16:24])
        for name in reversed(LIBRARIES):
            if loaded >> LIBRARIES.index(name) & 1:
                importlib.import_module(name)

    def arrange(self, scenario: Scenario) -> None:
        plane = self.plane
        found = self.contents()
        for name in found.keys() - scenario.before.keys():
            del plane[name]
        for name, value in scenario.before.items():
            if found.get(name) != value:
                plane[name] = value
        if scenario.cold:
            plane.trim(0)
        scenario.arrange(self)
        plane.gc()

    def inspect(self, scenario: Scenario, *, finished: bool) -> list[str]:
        """What is wrong after a victim of this scenario."""
        plane = self.plane
        plane.gc()
        problems = self.changed_views()
        contents = self.contents()
        if not scenario.allows(contents, finished=finished):
            problems.append(f"the names have {_short(contents)}: neither before nor after, finished={finished}")
        problems += scenario.inspect(self, finished)
        plane.gc()
        plane.gc()  # once more, for rows of files that the first one removed
        problems += faults_of(plane)
        expected = {**self.baseline, "blocks": self.baseline["blocks"] + len(contents)}
        if self.totals() != expected:
            problems.append(f"there are {self.totals()}, expected {expected}")
        problems += self.use(plane)
        return problems

    def use(self, plane: Any) -> list[str]:
        """The plane works."""
        problems = []
        for value in (b"works", b"w" * 70_000):
            plane["kept/probe"] = value
            if bytes(plane["kept/probe"]) != value:
                problems.append("what was put is not what is got")
            del plane["kept/probe"]
        if "kept/probe" in plane:
            problems.append("a deleted name is still there")
        return problems

    def renew(self) -> None:
        """The same plane, made anew."""
        self.views.clear()
        self.plane.destroy()
        gc.collect()
        self.open()

    def _start_again(self) -> None:
        """After a failure: a plane without its traces, so that the next point stands for itself."""
        self.views.clear()
        with contextlib.suppress(Exception), deadline("destroying the plane"):
            self.plane.destroy()
        for attachment in list(ending.attached.values()):
            attachment.end("thrown away by the test")
        ending.attached.clear()
        shutil.rmtree(directory_of(self.root), ignore_errors=True)
        for kept in self.scratch.values():
            with contextlib.suppress(Exception):
                kept.close()
        self.scratch.clear()
        gc.collect()
        self.open()

    # The victim

    def end_child(self) -> None:
        """The end of a victim's own child; its points count as well."""
        self._report[40:48] = struct.pack("q", self._trigger.disarm())
        os._exit(0)

    def _be_victim(self, scenario: Scenario, trigger: Trigger, at: int, *, interrupts: str | None) -> None:
        code = 70
        self._trigger = trigger
        try:
            sys.unraisablehook = lambda *_: None  # an interrupted finalizer says so; that is not the point here
            if interrupts is not None:
                self._second = 1 + at * _STRIDE % _UNDO_BYTECODES if interrupts == TWICE else 0
                thrower = Thrower(interrupts, lambda: scenario.called(self))
                signal.signal(signal.SIGINT, thrower.handler)
                problems = self._be_interrupted(scenario, trigger, at, thrower)
                if problems:
                    self._say("\n".join(problems))
            else:
                context = scenario.begin(self)
                trigger.arm(at)
                kept = scenario.operate(self, context)
                count = trigger.disarm()
                self._report[:24] = struct.pack("qqq", count, 1, _loaded())
                del kept
            code = 0
        except BaseException:
            with contextlib.suppress(BaseException):
                trigger.disarm()
            self._say(traceback.format_exc())
        finally:
            os._exit(code)

    def _be_interrupted(self, scenario: Scenario, trigger: Trigger, at: int, thrower: Thrower) -> list[str]:
        swallowed: list[Any] = []
        sys.unraisablehook = lambda what: swallowed.append(what.object)
        context, kept = scenario.begin(self), None
        pid = os.getpid()
        interrupted, problems = False, []

        def interrupt_again() -> None:
            if self._second and len(thrower.thrown) == 1 and threading.current_thread() is threading.main_thread():
                trigger.arm(self._second)

        try:
            with before_each_undo(self.plane, interrupt_again) if self._second else contextlib.nullcontext():
                trigger.arm(at)
                kept = scenario.operate(self, context)
                count = trigger.disarm()
            self._report[:24] = struct.pack("qqq", count, 1, _loaded())
        except BaseException as error:
            trigger.disarm()
            interrupted = True
            if not (thrower.knows(error) or isinstance(error, InChild)):
                problems.append(
                    f"what came was not what the handler raised: {''.join(traceback.format_exception(error))}"
                )
        if thrower.thrown and not interrupted and not _by_the_interpreter(swallowed):
            problems.append(f"the exception of the handler was swallowed {swallowed}")
        if os.getpid() != pid:
            os._exit(INTERRUPTED)  # a fork that was interrupted in its child
        thrower.forget()
        del context, kept  # an interrupt may have come when the operation had returned already
        gc.collect()
        with deadline("going on after the interrupt"):
            return problems + self._go_on(scenario, interrupted=interrupted)

    def _go_on(self, scenario: Scenario, *, interrupted: bool) -> list[str]:
        """In the process that was interrupted: the plane can be used, and nothing stays that nobody stands for."""
        if scenario.bare:
            return self._go_on_bare()
        plane = self.plane
        plane.gc()
        held = self._held_now()
        problems = [f"interrupted: {wrong}" for wrong in self.changed_views()]
        contents = self.contents()
        if not scenario.allows(contents, finished=not interrupted):
            problems.append(f"interrupted={interrupted}: the names have {_short(contents)}: neither before nor after")
        plane.resize(self.options["capacity"])
        problems += self.use(plane)
        plane.gc()
        plane.gc()
        for what, leases in (("right after", held), ("later", self._held_now())):
            if leases != len(self.views):
                problems.append(f"interrupted: {what}, {leases} blocks are leased for {len(self.views)} views")
        if creations_of(plane):
            problems.append(f"interrupted: {len(creations_of(plane))} creations are left")
        if mutex_is_taken(plane):
            problems.append("interrupted: the mutex is still taken")
        problems += self._lost_descriptors() + scenario.go_on(self, interrupted)
        return problems + [f"interrupted: {wrong}" for wrong in faults_of(plane)]

    def _held_now(self) -> int:
        return leases_taken(self.plane)

    def _go_on_bare(self) -> list[str]:
        with shmplane.Plane(self.name, root=self.root) as plane:
            problems = self.use(plane)
            plane.gc()
            plane.gc()
            problems += [f"interrupted: {wrong}" for wrong in faults_of(plane)]
        gc.collect()
        # What was interrupted on its way out is left by the drain timer's thread.
        limit = time.monotonic() + HANG_S / 4
        while ending.attached and time.monotonic() < limit:
            time.sleep(0.001)
        if ending.attached:
            problems.append(f"interrupted: still attached to {list(ending.attached)} after the last close")
        return problems + self._lost_descriptors()

    def _lost_descriptors(self) -> list[str]:
        """Descriptors of segments, or of planes that this process has no part in.

        One is allowed. CPython may deliver Ctrl-C between the return of ``open(2)`` and the store of its result, and
        nothing written in Python can know the number then. It carries no lock: tokens are locked later, when an
        object stands for them.
        """
        ours = {
            fd
            for attachment in ending.attached.values()
            for fd in (attachment.token.fd, attachment.lock.fd, attachment.manifest.fd)
        }
        lost = [
            target
            for name in os.listdir("/proc/self/fd")
            if (target := _target_of(name)).startswith(f"{self.root}/shmplane-") and int(name) not in ours
        ]
        return [f"interrupted: open descriptors {lost}"] if len(lost) > 1 else []

    def _recover_and_die(self, trigger: Trigger, at: int) -> tuple[int | None, int]:
        """Let another process join and recover, killed at a point of that; its status, and the points it counted."""
        self._report[:64] = bytes(64)
        with _no_fork_hooks():
            pid = os.fork()
            if pid == 0:
                strip_attachments()
                self._be_victim(_RECOVERING, trigger, at, interrupts=None)
        return wait_for(pid), self._read_report()[1]

    def _say(self, text: str) -> None:
        data = text.encode()[-_MOST_TEXT:]
        self._report[32:40] = struct.pack("q", len(data))
        self._report[64 : 64 + len(data)] = data

    def _read_report(self) -> tuple[bool, int, str]:
        count, finished = struct.unpack("qq", self._report[:16])
        (length,) = struct.unpack("q", self._report[32:40])
        (in_child,) = struct.unpack("q", self._report[40:48])
        return bool(finished), max(count, in_child), self._report[64 : 64 + length].decode(errors="replace")

    def _reap_orphans(self) -> None:
        """Children of victims become ours; wait for their end."""
        limit = time.monotonic() + HANG_S
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                if time.monotonic() > limit:
                    raise Hang("a victim's child did not end")
                time.sleep(0.0005)


def _load_what_victims_load() -> None:
    """They are forked from here, and an import of theirs would swallow what a handler raises in it (DESIGN.md, limits).

    What sends blocks to other hosts is left out: it loads Arrow, with which each fork takes three times as long.
    """
    for name in LATE:  # which grows meanwhile
        if not name.startswith(("shmplane.flight", "shmplane.plane.travel")):
            importlib.import_module(name)


def _loaded() -> int:
    return sum((name in sys.modules) << index for index, name in enumerate(LIBRARIES))


def _join_and_collect(world: World, context: Any) -> None:
    shmplane.Plane(world.name, root=world.root).gc()


_RECOVERING = Scenario("recover", _join_and_collect)


def _by_the_interpreter(swallowed: list[Any]) -> bool:
    """Whether CPython itself swallowed it: it prints what a hook of a fork raises, whoever raised it there.

    So it does with what is raised where the locks of imports go, which a fork takes and gives back.
    """
    hooks = (forking._before, forking._in_parent, forking._in_child)
    machinery = ("importlib._bootstrap", "_frozen_importlib")
    return any(what in hooks or getattr(what, "__module__", "") in machinery for what in swallowed)


def strip_attachments() -> None:
    """In a child that was forked without hooks: have no part in any plane."""
    for attachment in list(ending.attached.values()):
        attachment.exiting = True
        attachment.ended = "this process has no part in the plane"
        attachment.close_descriptors()
    ending.attached.clear()


@contextlib.contextmanager
def _no_fork_hooks() -> Iterator[None]:
    """A child forked inside has no part in any plane, as if it had been started by somebody else."""
    known = forking._participants[:]
    forking._participants.clear()
    try:
        yield
    finally:
        forking._participants[:] = known


def _target_of(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return ""


def _short(contents: Names) -> str:
    return (
        ", ".join(f"{name!r}: {len(value)} B of {value[:3]!r}" for name, value in sorted(contents.items())) or "nothing"
    )
