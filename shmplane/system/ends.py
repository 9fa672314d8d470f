"""Waiting for another process to end, whoever its parent is."""

from __future__ import annotations

import os
import select
import time

from .handlers import own

__all__ = ["wait_for_end"]

_LOOK_EVERY_S = 1.0


def wait_for_end(pid: int) -> None:
    """Return once the process ``pid`` of this user has ended; at once when it is not there."""
    try:
        handle = os.pidfd_open(pid)
    except own(ProcessLookupError):
        return
    except own(OSError):  # no descriptors, or a system that does not let it
        while _is_there(pid):
            time.sleep(_LOOK_EVERY_S)
        return
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        ended.poll()
    finally:
        os.close(handle)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except own(OSError) as error:
        return not isinstance(error, ProcessLookupError)
    return True
