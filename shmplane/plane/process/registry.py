"""The live Python objects behind this process's rows of one kind: claims on blocks, permits, watches, counts of pools.

The attachment names no kind: whoever needs one asks for its registry, which is made when it is first needed. So a new
kind joins without an edit of the attachment, of forks, of closing or of the audit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ...manifest import Transaction

__all__ = ["Garbage", "Owed", "Registry"]


class Owed(Protocol):
    """What a call has left to be undone."""

    def undo(self, tx: Transaction) -> None:
        """Give it back. Again: does nothing."""


class Garbage(Protocol):
    """What stood for an object that is garbage."""

    def free(self, tx: Transaction) -> None:
        """Give its row back. Again: does nothing."""


class Registry:
    """What an attachment asks of every kind. It refers to no attachment, so that this one ends with its last user."""

    @property
    def is_idle(self) -> bool:
        """Nothing of it is being made, waited for or held."""
        return True

    @property
    def has_views(self) -> bool:
        """Something of it needs this process's slot although the plane may be closed here."""
        return False

    @property
    def ends_silently(self) -> bool:
        """It has objects that end without ringing the drain timer's bell, which looks by itself as long as there are any."""
        return False

    def open_views(self) -> None:
        """The plane is about to go: map what living views will need."""

    def audit(self, tx: Transaction) -> None:
        """Give back every row of ours that no Python object stands for."""

    def queue_garbage(self) -> None:
        """Queue what is garbage and not in the queue: the drain that had taken it out came to no end."""

    def begin_again_in_child(self) -> None:
        """After a fork: what is the parent's stays the parent's."""

    def end(self) -> None:
        """The attachment has ended: drop what refers to it."""
