"""Looking as another user: in a child that gives up root for good before it touches anything of that user.

What a user left in a directory of theirs may be hostile to root: links, fifos, files that change while they are read. As
that user nobody can be led anywhere that the user could not go already. The kernel marks a process that changed its user
as not to be traced, so the user cannot reach into the child either; what they can do is stop or kill it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable

from .handlers import ignoring

__all__ = ["run_as"]

#: a user may stop a child that runs as them
_PATIENCE_S = 60.0
_MOST_NBYTES = 64 << 20


def run_as(uid: int, gid: int, work: Callable[[], bytes]) -> bytes | None:
    """What ``work()`` returns as user ``uid``; None when the child failed, was killed, or took over a minute. For root."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        # Threads of numerical libraries may run; the child touches none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_child(uid, gid, work, readable=readable, writable=writable)
    os.close(writable)
    try:
        said = _read_all(readable)
    finally:
        os.close(readable)
        if not _has_ended(pid):
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if status == 0 else None


def _be_child(uid: int, gid: int, work: Callable[[], bytes], *, readable: int, writable: int) -> None:
    code = 1
    try:
        os.close(readable)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        if os.getresuid() == (uid, uid, uid):
            with os.fdopen(writable, "wb") as said:
                said.write(work())
            code = 0
    except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _read_all(fd: int) -> bytes:
    """Until the other side is closed, time is over, or it is too much."""
    said, deadline = bytearray(), time.monotonic() + _PATIENCE_S
    while len(said) <= _MOST_NBYTES:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        piece = os.read(fd, 1 << 16)
        if not piece:
            break
        said += piece
    return bytes(said)


def _has_ended(pid: int) -> bool:
    """Whether the child ends within a moment; it stays to be waited for."""
    for _ in range(100):
        with ignoring(InterruptedError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        time.sleep(0.01)
    return False
