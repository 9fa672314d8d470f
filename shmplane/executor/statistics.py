"""What an executor has moved, and which way."""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = ["Counts", "ExecutorStatistics"]


@dataclass(frozen=True, slots=True)
class ExecutorStatistics:
    """What went through an executor since it was made.

    Attributes:
        sent_blocks, sent_nbytes: blocks that arguments were put in, and bytes copied for that.
        shared: large buffers that were not copied: they showed a block already, had been sent just before, or came back as
            they had been sent.
        received_blocks, received_nbytes: blocks of results.
        piped, piped_nbytes: arguments and results that were to be blocks and went through the pipe, since the plane had no
            room for them or could not be used.
        retried: tasks that were run again because their worker died.
    """

    sent_blocks: int = 0
    sent_nbytes: int = 0
    shared: int = 0
    received_blocks: int = 0
    received_nbytes: int = 0
    piped: int = 0
    piped_nbytes: int = 0
    retried: int = 0


class Counts:
    """The same while it is being counted, from several threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, **counts: int) -> None:
        """Add to what is counted under these names."""
        with self._mutex:
            for name, count in counts.items():
                self._counts[name] = self._counts.get(name, 0) + count

    def taken(self) -> ExecutorStatistics:
        """What there is so far."""
        with self._mutex:
            return ExecutorStatistics(**self._counts)
