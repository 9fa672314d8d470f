"""How long a call that is not to block waits for the plane's lock, which is usually held for some microseconds only.

A thread waits 20 ms, the thread of an event loop 4 ms. Once that was in vain, event loops, and whoever can as well come
later, do not wait for it during 50 ms but try once. So the many tasks of a loop together do not hold it up either.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

__all__ = ["LOCK_TIMEOUT_S", "PATIENCE_S", "REFUSED_FOR_S", "is_in_event_loop", "moment", "patience"]

#: of calls that may block
LOCK_TIMEOUT_S = 10.0
PATIENCE_S = 0.02
_LOOP_PATIENCE_S = 0.004
REFUSED_FOR_S = 0.05


class Refused(Protocol):
    """An attachment that remembers how long nobody in a hurry is to wait for the lock."""

    refused_until: float


def patience(attachment: Refused) -> float:
    """Seconds for a call that is not to block."""
    return moment(attachment) if is_in_event_loop() else PATIENCE_S


def moment(attachment: Refused) -> float:
    """Seconds for what can as well be done later: none, if the lock was not to be had just now."""
    if attachment.refused_until and time.monotonic() < attachment.refused_until:
        return 0.0
    return _LOOP_PATIENCE_S if "asyncio" in sys.modules and is_in_event_loop() else PATIENCE_S


def is_in_event_loop() -> bool:
    """Whether an asyncio loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
