"""Tokens: one locked byte per process says that it is alive.

A process opens the token file itself and keeps the byte of its slot locked for as long as it lives. The kernel drops
the lock after the process's memory is gone, so a free token means: no store of its holder can come any more. It is
right for stopped processes and across PID namespaces; a PID is never used for a decision.

Who has no slot, but is to be seen alive by who waits for a lock word, locks a byte behind those of the slots: a *seat*.
"""

from __future__ import annotations

from . import files
from .ofd import OfdRange

__all__ = ["Token"]


class Token:
    """One open description of the token file, holding at most one slot's byte."""

    __slots__ = ("_identity", "_range", "_seat", "fd", "slot")

    def __init__(self, fd: int) -> None:
        self.fd: int = fd
        self.slot: int = -1
        self._identity = files.identity_of(fd)
        self._range = OfdRange(fd)
        self._seat: OfdRange | None = None
        files.mark_description(fd)

    @classmethod
    def create(cls, path: str) -> Token:
        """Make the token file, and a description of it."""
        return cls(files.create_file(path))

    @classmethod
    def open(cls, path: str) -> Token:
        """A new description of the token file that is there."""
        return cls(files.open_file(path, writable=True))

    def try_take(self, slot: int) -> bool:
        """Lock the byte of ``slot``; False when another process has it."""
        taking = OfdRange(self.fd, slot)
        if not taking.try_lock():
            return False
        self.slot = slot
        self._range = taking
        return True

    def take_seat(self, first: int, seats: int) -> int | None:
        """Lock one of ``seats`` bytes from ``first`` on; None when all are taken."""
        for seat in range(first, first + seats):
            taking = OfdRange(self.fd, seat)
            if taking.try_lock():
                self._seat = taking
                return seat
        return None

    def leave_seat(self) -> None:
        """Unlock it again, when nothing is done under its mark any more. Idempotent."""
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.give()

    def is_held(self, slot: int) -> bool:
        """Whether the process of ``slot`` is alive; our own is."""
        return slot == self.slot or self._range.first_locked(slot, 1) is not None

    def others_alive(self, slots: int) -> bool:
        """Whether any description but this one holds a byte below ``slots``."""
        return self._range.first_locked(0, slots) is not None

    def reopened(self) -> Token:
        """A token on a description of its own, also when the file has been unlinked since."""
        return Token(files.reopen(self.fd))

    def close(self) -> None:
        """Close the descriptor, which drops the lock unless a forked child shares it."""
        files.close_own(self.fd, self._identity)
        self.fd = -1
