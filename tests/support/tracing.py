"""Doing something at the n-th store or the n-th bytecode of a piece of code.

Stores: columns of the manifest are wrapped (``wrap_columns``), so that each store can be counted.
Bytecodes: opcode events of ``sys.settrace`` on Python 3.11, ``sys.monitoring`` from 3.12.

An interrupt is not raised where the n-th bytecode stands, since CPython would never do that: it is made pending
there, without running any Python code that could receive it, and CPython delivers it where it looks for signals
(after a call, at a jump back, at a function's start). So what is tested is what Ctrl-C at that moment does.
"""

from __future__ import annotations

import _thread
import inspect
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import shmplane
from shmplane.manifest import store
from shmplane.tables import table
from tests.support.inside import native_stores

_HOUSE = str(Path(shmplane.__file__).parent)
_TOOL = 4


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Signal(int):
    """The number of a signal that can be made pending where nothing must look for signals."""

    # A property whose getter is C code: reading it makes the signal pending and runs no bytecode that looks for it.
    pending = property(_thread.interrupt_main)


class Stores:
    """Counts stores to the manifest's columns while armed; ``act`` is called after the ``at``-th."""

    def __init__(self) -> None:
        self.count, self.at, self.armed = 0, -1, False
        self.act: Callable[[], None] = kill_this_process

    def arm(self, at: int) -> None:
        self.count, self.at, self.armed = 0, at, True
        if at == 0:
            self.act()

    def disarm(self) -> int:
        self.armed = False
        return self.count

    def stored(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.act()


STORES = Stores()


class NativeStores:
    """Counts stores of the compiled core while armed; the process is killed after the ``at``-th."""

    def arm(self, at: int) -> None:
        native_stores(at)

    def disarm(self) -> int:
        return native_stores(-1)


class _CountingColumn:
    """A column that reports its stores."""

    __slots__ = ("_words",)

    def __init__(self, words: Any) -> None:
        self._words = words

    def __getitem__(self, row: Any) -> Any:
        found = self._words[row]
        return _CountingColumn(found) if isinstance(row, slice) else found

    def __setitem__(self, row: int, value: int) -> None:
        self._words[row] = value
        if STORES.armed:
            STORES.stored()

    def __len__(self) -> int:
        return len(self._words)

    def tolist(self) -> list[int]:
        words: list[int] = self._words.tolist()
        return words

    def tobytes(self) -> bytes:
        words: bytes = self._words.tobytes()
        return words


def wrap_columns() -> None:
    """From now on, manifests that this process and its children open have columns that count, in Python alone."""
    os.environ["SHMPLANE_PURE"] = "1"
    plain = table.view_column

    def wrapped(words: memoryview, first: int, step: int, rows: int) -> Any:
        return _CountingColumn(plain(words, first, step, rows))

    table.view_column = wrapped
    store.view_column = wrapped  # type: ignore[attr-defined]


class Bytecodes:
    """Counts the library's bytecodes in this thread while armed; at the ``at``-th kills, or makes ``signum`` pending.

    ``each``: instead of that, called at every one, untraced.
    """

    def __init__(
        self, *, interrupt: bool = False, signum: int = signal.SIGINT, each: Callable[[], None] | None = None
    ) -> None:
        self.count, self.at = 0, -1
        self._interrupt, self._each = Signal(signum) if interrupt else None, each

    def arm(self, at: int) -> None:
        self.count, self.at = 0, at
        if sys.version_info >= (3, 12):
            _monitor(self._here)
        else:
            sys.settrace(self._enter)

    def disarm(self) -> int:
        _stop()
        return self.count

    def _here(self, code: object, offset: int) -> None:
        self.count += 1
        if self._each is not None:
            self._each()
        elif self.count == self.at:
            if self._interrupt is None:
                kill_this_process()
            else:
                interrupt = self._interrupt
                _silence()
                interrupt.pending  # noqa: B018 - reading it is what makes the signal pending

    def _enter(self, frame: types.FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(_HOUSE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._trace

    def _trace(self, frame: types.FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            self.count += 1
            if self._each is not None:
                self._each()
            elif self.count == self.at:
                interrupt = self._interrupt
                if interrupt is None:
                    kill_this_process()
                    return None
                # From here to the end nothing may look for signals, or it would be raised in this function.
                _stop()
                interrupt.pending  # noqa: B018
                return None
        return self._trace


if sys.version_info >= (3, 12):
    _monitoring = sys.monitoring
    _EVENT = _monitoring.events.INSTRUCTION
    _codes: list[types.CodeType] = []
    _known = [0]

    def _monitor(callback: Callable[[types.CodeType, int], None]) -> None:
        if _monitoring.get_tool(_TOOL) is None:
            _monitoring.use_tool_id(_TOOL, "shmplane-tests")
        _monitoring.register_callback(_TOOL, _EVENT, callback)
        for code in _all_codes():
            _monitoring.set_local_events(_TOOL, code, _EVENT)

    def _silence() -> None:
        _monitoring.register_callback(_TOOL, _EVENT, None)

    def _stop() -> None:
        _silence()
        for code in _all_codes():
            _monitoring.set_local_events(_TOOL, code, 0)

    def _all_codes() -> list[types.CodeType]:
        """Every piece of code of the library that is loaded."""
        modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "shmplane"]
        if len(modules) != _known[0]:
            found = {id(code): code for module in modules for code in _codes_in(vars(module))}
            _known[0], _codes[:] = len(modules), found.values()
        return _codes

    def _codes_in(namespace: Mapping[str, Any]) -> Iterator[types.CodeType]:
        for thing in list(namespace.values()):
            if isinstance(thing, type) and thing.__module__.startswith("shmplane"):
                yield from _codes_in(vars(thing))
            parts = (thing.fget, thing.fset) if isinstance(thing, property) else (thing,)
            for part in parts:
                function = inspect.unwrap(getattr(part, "__func__", part))
                if isinstance(function, types.FunctionType) and function.__code__.co_filename.startswith(_HOUSE):
                    yield from _with_inner(function.__code__)

    def _with_inner(code: types.CodeType) -> Iterator[types.CodeType]:
        yield code
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from _with_inner(constant)

else:
    _stop = lambda: sys.settrace(None)  # noqa: E731
    _silence = _stop
