"""A warm process: it has imported what children import, and each child is a fork of it.

To start an interpreter and to import NumPy, Arrow and pytest takes half a second, ten times a fork. So tests whose point is
another process, and not how it was started, take the start method ``warm``: the standard library's ``forkserver``, but for a
server of our own, so that the library's own children, and tests of start methods, have theirs as users have it.

A child ends as those of a fork do, without what is registered with ``atexit``: where that is needed, it is spawned.

Rule: the server never opens a plane and starts no thread, so that a child begins with nothing but modules. It has the
environment of this session; what a test changed of it, the child gets with its call.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import context, forkserver, popen_forkserver
from typing import Any

#: what is not installed is left out
_PRELOADED = [
    *("pytest", "hypothesis", "numpy", "pyarrow", "pandas", "psutil", "IPython.testing.globalipapp"),
    *("shmplane", "tests.support.processes"),
]
_ENVIRONMENT = dict(os.environ)
SERVER = forkserver.ForkServer()
SERVER.set_forkserver_preload(_PRELOADED)


class _Popen(popen_forkserver.Popen):
    """The standard library's, asking our server."""

    def _launch(self, process: Any) -> None:
        usual = forkserver.connect_to_new_process
        forkserver.connect_to_new_process = _connect
        try:
            super()._launch(process)  # type: ignore[misc]
        finally:
            forkserver.connect_to_new_process = usual


class Process(context.ForkServerProcess):
    """As those of ``get_context("forkserver")``, warm."""

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802 - the name that the standard library calls
        return _Popen(process)


class Environment:
    """This process's environment; where it is unpickled, it is the one of that process as well."""

    def __reduce__(self) -> tuple[Callable[[dict[str, str]], None], tuple[dict[str, str]]]:
        return _begin_with, (dict(os.environ),)


def _begin_with(environment: dict[str, str]) -> None:
    _have_environment(environment)
    tempfile.tempdir = None  # what the server found out for itself


def _connect(fds: Sequence[int]) -> tuple[int, int]:
    with _environment_of_the_session():
        SERVER.ensure_running()
    return SERVER.connect_to_new_process(fds)


@contextlib.contextmanager
def _environment_of_the_session() -> Iterator[None]:
    before = dict(os.environ)
    _have_environment(_ENVIRONMENT)
    try:
        yield
    finally:
        _have_environment(before)


def _have_environment(environment: dict[str, str]) -> None:
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)
