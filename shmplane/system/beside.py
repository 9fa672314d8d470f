"""Two halves of one piece of work at the same time, which is over when both are.

The second half writes into memory that its caller gives away as soon as the call returns or raises. So the call never ends
before it does, whatever a signal handler raises, again and again: the wait is a single call into C, which no signal ends (a
barrier of pthreads), and stands alone in a ``finally``.

Rule 1. That the thread was started is noted by the same call into C that starts it, so nothing comes in between.
Rule 2. In a child that was forked meanwhile there is no such thread, and nobody waits for it: a page that the kernel wipes
says so without a call.
"""

from __future__ import annotations

import _thread
import ctypes
import types
from collections.abc import Callable
from typing import Any

from .forking import ForkWitness

__all__ = ["can_run_beside", "run_beside"]

_BARRIER_NBYTES = 64  #: 32 on all of x86-64 and arm64, glibc and musl

_library = ctypes.CDLL(None)
# Safety: all three take a buffer of ``_BARRIER_NBYTES`` that whoever calls them keeps in a local of its own.
_barrier_init = _library.pthread_barrier_init
_barrier_wait = _library.pthread_barrier_wait

_witness: list[ForkWitness] = []


def can_run_beside() -> bool:
    """Whether threads are the kernel's own, and not greenlets."""
    return isinstance(_thread.start_new_thread, types.BuiltinFunctionType)


def run_beside(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Call both, ``second`` in a thread of its own; raise what either raises. ``second`` may have nothing a signal disturbs.

    Raises:
        RuntimeError: there can be no more threads; nothing was called.
    """
    if not _witness:
        _witness.append(ForkWitness())
    page, barrier = _witness[0].page, ctypes.create_string_buffer(_BARRIER_NBYTES)
    started: list[int] = []
    failed: list[BaseException] = []
    _witness[0].renew()
    # Safety: the buffer is larger than a barrier, and each thread has it in a local until its wait has returned.
    if _barrier_init(barrier, None, 2) != 0:
        raise RuntimeError("no barrier for a second thread")
    try:
        started.extend(map(_thread.start_new_thread, (_run,), ((second, barrier, failed),)))
        first()
    finally:
        if started and page[0]:
            # Safety: as above. A signal does not end this wait; its handler runs after it.
            _barrier_wait(barrier)
    if failed:
        raise failed[0]


def _run(second: Callable[[], object], barrier: Any, failed: list[BaseException]) -> None:
    try:
        second()
    except BaseException as error:  # noqa: BLE001 - the other thread raises it
        failed.append(error)
    finally:
        # Safety: the buffer lives in a local of this thread.
        _barrier_wait(barrier)
