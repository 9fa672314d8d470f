"""What every draft is: a lease on the version it began with, and one end, by commit or discard.

Nothing of a draft is in shared memory before its commit, so there is nothing to be left behind. A commit that fails leaves
the draft open: after ``PlaneFull`` it can be repeated, after ``Conflict`` only a new edit helps.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from ...errors import ClosedError
from ..blocks.block import Block
from ..blocks.composing import Target

if TYPE_CHECKING:
    from types import TracebackType

    from ..process.attachment import Attachment
    from ..process.leases import Lease

__all__ = ["Draft"]


class Draft(ABC):
    """A private image of one version of a block. ``with plane.edit(name) as draft:`` commits it on a clean exit."""

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        self._attachment = attachment
        self._name = name
        self._base = base
        self._version = base.facts.version
        self._target = Target(name.encode(), base.facts.row)
        self._pid = os.getpid()
        self._mutex = threading.RLock()
        self._ended: str | None = None
        self._block: Block | None = None

    @property
    def block(self) -> Block:
        """The new version, after a commit; the old one, when nothing was touched."""
        if self._block is None:
            raise ClosedError(
                f"the edit of {self._name!r} is not committed{', ' + self._ended if self._ended else ''}",
                name=self._name,
            )
        return self._block

    def commit(self) -> Block:
        """Publish the changes as the next version; without changes, nothing is published.

        Raises:
            Conflict: the name has another version than the one the edit began with; nothing was changed.
            PlaneFull: no room; nothing was changed.
            ClosedError: committed or discarded already, or in a process forked from the one that began the edit.
        """
        with self._mutex:
            self._check_open()
            if os.getpid() != self._pid:
                raise ClosedError(
                    f"the edit of {self._name!r} belongs to the process that this one was forked from; edit it here",
                    name=self._name,
                )
            lease = self._publish()
            self._block = Block(self._base if lease is None else lease)
            self._end("it was committed")
            return self._block

    def discard(self) -> None:
        """Throw the changes away. Idempotent."""
        with self._mutex:
            if self._block is not None:
                self._check_open()
            if self._ended is None:
                self._end("it was discarded")

    @abstractmethod
    def _publish(self) -> Lease | None:
        """Make the next version; None when nothing was touched."""

    @abstractmethod
    def _let_go(self) -> None:
        """Drop the private image."""

    def _end(self, why: str) -> None:
        self._ended = why
        self._let_go()
        # Whoever keeps the draft does not keep the old version.
        del self._base

    def _check_open(self) -> None:
        if self._ended is not None:
            raise ClosedError(f"the edit of {self._name!r} is over: {self._ended}; edit it again", name=self._name)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ended is not None:
            return
        try:
            if kind is None:
                self.commit()
        finally:
            if self._ended is None:
                self.discard()

    def __repr__(self) -> str:
        state = self._ended or "open"
        return f"<{type(self).__name__} of {self._name!r}, version {self._version}: {state}>"
