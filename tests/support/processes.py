"""Child processes with a deadline, which end by their pid and by nothing else.

``run_python`` runs source text in a fresh interpreter. ``Child`` runs a function of a test module in a process that begins
with modules alone (``warm``), or under a start method of the standard library where that is the point, where the child
forks many times or where its memory is measured; when the function is a generator, the two take turns: each ``yield``
hands a value to the parent and waits for ``child.next()``. So an interleaving, or a kill at a chosen
place, reads from top to bottom::

    def holds_a_lease(name):
        view = shmplane.Plane(name)["x"]
        yield "holding"


    with Child(holds_a_lease, plane.name) as child:
        assert child.next() == "holding"
        child.kill()
"""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil

from tests.support import warm

DEADLINE_S = 30.0

Method = Literal["warm", "spawn", "fork", "forkserver"]


class ChildFailed(AssertionError):
    """The child raised, died or was too late; the message has what it said."""


class Child:
    """One child process that runs ``fn(*args)``; leaving the block kills it if it still runs."""

    def __init__(
        self, fn: Callable[..., Any], *args: Any, method: Method = "warm", deadline: float = DEADLINE_S
    ) -> None:
        context: Any = warm if method == "warm" else multiprocessing.get_context(method)
        self._deadline = deadline
        self._ours, theirs = multiprocessing.Pipe()
        self.process = context.Process(target=_serve, args=(warm.Environment(), theirs, fn, args))
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        pid: int = self.process.pid
        return pid

    def next(self, *, timeout: float | None = None) -> Any:
        """Let the generator go on; return what it yields next."""
        self._tell("next")
        return self._receive("yielded", timeout)

    def result(self, *, timeout: float | None = None) -> Any:
        """Return what the function returned; a generator runs to its end."""
        self._tell("finish")
        value = self._receive("returned", timeout)
        self.process.join(self._deadline)
        return value

    def has_said(self) -> bool:
        """Whether there is something to receive, or it has ended."""
        return self._ours.poll()

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL, also wait for the end."""
        os.kill(self.pid, sig)
        if sig == signal.SIGKILL:
            self.process.join(self._deadline)

    def stop(self) -> None:
        """Stop it (SIGSTOP) and wait until the kernel has."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.001)

    def go_on(self) -> None:
        """Let a stopped child run again (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.is_alive():
            kill_tree(self.pid)
        self.process.join(DEADLINE_S)  # to die is not what its own deadline is for
        self._ours.close()
        self.process.close()

    def _tell(self, what: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died; the next receive says how
            self._ours.send(what)

    def _receive(self, expected: str, timeout: float | None) -> Any:
        timeout = self._deadline if timeout is None else timeout
        if not self._ours.poll(timeout):
            self._show_where_it_hangs()
            raise ChildFailed(f"the child said nothing for {timeout} s; its stacks are on stderr")
        try:
            what, value = self._ours.recv()
        except EOFError:
            self.process.join(1)
            raise ChildFailed(f"the child died: exit code {self.process.exitcode}") from None
        if what == "raised":
            error, trace = value
            raise (error or ChildFailed(trace)) from ChildFailed(f"in the child:\n{trace}")
        if what != expected:
            raise ChildFailed(f"the child {what} {value!r}, where the test expected that it {expected}")
        return value

    def _show_where_it_hangs(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.2)


def run_in_child(fn: Callable[..., Any], *args: Any, method: Method = "warm", deadline: float = DEADLINE_S) -> Any:
    """Return what ``fn(*args)`` returns in a child, or raise what it raises there."""
    with Child(fn, *args, method=method, deadline=deadline) as child:
        return child.result()


def run_python(
    source: str | Path,
    *args: str,
    deadline: float = DEADLINE_S,
    env: dict[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run source text, or a file, in a fresh interpreter, with ``args`` as ``sys.argv[1:]``."""
    program = [str(source)] if isinstance(source, Path) else ["-c", source]
    command = [sys.executable, *program, *args]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    ) as process:
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            out, err = process.communicate()
            raise ChildFailed(f"not done after {deadline} s\nstdout: {out}\nstderr: {err}") from None
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check and done.returncode != 0:
        raise ChildFailed(f"exit code {done.returncode}\nstdout: {out}\nstderr: {err}")
    return done


def kill_tree(pid: int) -> None:
    """Kill a process that we started, and the processes that it started; wait for the end of the latter.

    Its own end is for who started it to wait for. What the others hold is nobody's but theirs until they are gone.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        started = process.children(recursive=True)
        for member in [*started, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(started, timeout=DEADLINE_S)


def _serve(environment: object, connection: Connection, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    faulthandler.register(signal.SIGUSR1, file=sys.__stderr__ or sys.stderr, all_threads=True)
    try:
        value = _take_turns(connection, fn(*args)) if inspect.isgeneratorfunction(fn) else fn(*args)
        connection.send(("returned", value))
    except BaseException as error:
        trace = traceback.format_exc()
        connection.send(("raised", (_if_it_pickles(error), trace)))
    finally:
        connection.close()


def _take_turns(connection: Connection, steps: Iterator[Any]) -> Any:
    connection_says = connection.recv()
    while True:
        try:
            value = next(steps)
        except StopIteration as end:
            return end.value
        if connection_says == "next":
            connection.send(("yielded", value))
            connection_says = connection.recv()


def _if_it_pickles(error: BaseException) -> BaseException | None:
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        return None
    return copy if isinstance(copy, BaseException) else None
