"""Whether a process that was in a plane is there still, for whoever leaves something behind that others may take over.

A slot alone does not name a process, since the next one takes it; with the time at which it joined it does. The token of the
slot says whether it lives: once it is free no store of that process can come any more. Needs no lock: what is read are
single words, and a process that goes at this moment is gone the next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .attachment import Attachment

__all__ = ["Presence", "is_present", "presence_of"]


class Presence(NamedTuple):
    """A process's part in a plane, as two words."""

    slot: int
    joined: int


def presence_of(attachment: Attachment) -> Presence:
    """That of this process; another one in a forked child."""
    return Presence(attachment.slot, attachment.manifest.processes.joined[attachment.slot])


def is_present(attachment: Attachment, presence: Presence) -> bool:
    """Whether that process lives and is in the plane. False for words that nobody can have written."""
    slot, processes = presence.slot, attachment.manifest.processes
    if not 0 <= slot < processes.rows or not processes.state[slot] or processes.joined[slot] != presence.joined:
        return False
    return attachment.token.is_held(slot)
