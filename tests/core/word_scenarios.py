"""A lock word outside of any plane: parties that each have a mark, here and in children, and turns that they take."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shmplane.core import _core
from shmplane.system.ofd import OfdRange
from tests.support.forked import Forked
from tests.support.inside import native_stores
from tests.support.waiting import HANG_S

OWNER, OFFERED, AWAITED, HEIR = 0x3FFF, 1 << 14, 1 << 15, 0x3FFF << 16
MARKS = 4096 + 256
FAIR_S = 0.006  #: who has waited so long is the heir
WORD, INSIDE, COUNT, LOST, OVER = range(5)  #: which words there are


class Party:
    """Who has the byte of one slot, by a description of the token file that nobody shares."""

    def __init__(self, words: memoryview, tokens: str, slot: int) -> None:
        self.fd = os.open(tokens, os.O_RDWR | os.O_CLOEXEC)
        assert OfdRange(self.fd, slot).try_lock()
        os.lseek(self.fd, 1 << 39 | slot, os.SEEK_SET)
        self.mark, self.words = slot + 1, words
        self.lock = _core.LockWord(words, WORD, self.mark, MARKS, self.fd)
        self.has = False

    def take(self, seconds: float = 0.0) -> bool:
        """Wait for it as ``HostLock`` does; whether it was had in time."""
        began, waited = time.monotonic(), 0.0
        had = self.lock.take() == 0
        while not had and waited < seconds:
            had = self.lock.wait(waited, seconds - waited)
            waited = time.monotonic() - began
        self.has = had
        return had

    def give(self) -> None:
        self.lock.give()
        self.has = False

    def become_heir(self) -> None:
        """Wait for a moment as one who has waited long; unless it is had then, it stays the heir until it takes or gives."""
        self.has = self.lock.wait(FAIR_S, 0.001)

    def leave(self) -> None:
        """Its end, in peace. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Table:
    """The word, and who sits around it."""

    def __init__(self, folder: Path) -> None:
        self.tokens = str(folder / "tokens")
        Path(self.tokens).touch()
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.words = memoryview(self.memory).cast("Q")
        self.parties: list[Party] = []

    def sit(self, slot: int) -> Party:
        party = Party(self.words, self.tokens, slot)
        self.parties.append(party)
        return party

    @property
    def word(self) -> int:
        return self.words[WORD]

    @property
    def owner(self) -> int:
        return self.word & OWNER

    @property
    def heir(self) -> int:
        return (self.word & HEIR) >> 16

    def close(self) -> None:
        for party in self.parties:
            party.leave()
        self.parties.clear()


@contextlib.contextmanager
def table(folder: Path) -> Iterator[Table]:
    made = Table(folder)
    try:
        yield made
    finally:
        made.close()


class Child:
    """A party in a process of its own, which does one thing after the other when it is told to."""

    def __init__(self, around: Table, slot: int, *acts: Callable[[Party], object], stop_at: int = -1) -> None:
        self._told, tell = os.pipe()
        said, self._say = os.pipe()
        self._tell, self._said = tell, said
        self._forked = Forked(lambda: self._be(around, slot, acts, stop_at))
        os.close(self._told)
        os.close(self._say)
        self.pid = self._forked.pid

    def _be(self, around: Table, slot: int, acts: tuple[Callable[[Party], object], ...], stop_at: int) -> None:
        for party in around.parties:
            party.leave()  # or who is killed there lives on here
        os.close(self._tell)
        os.close(self._said)
        party = Party(around.words, around.tokens, slot)
        os.write(self._say, b"!")
        native_stores(stop_at if stop_at >= 0 else 2**62)
        for act in acts:
            if not os.read(self._told, 1):
                return
            act(party)
            os.write(self._say, b"+")
        os.write(self._say, struct.pack("q", native_stores(-1)))
        os.read(self._told, 1)

    def is_there(self) -> bool:
        """Wait until it is ready, or has done what it was told; False: it was killed."""
        return bool(os.read(self._said, 1))

    def go_on(self) -> bool:
        """Let it do the next thing, to its end; False: it was killed there."""
        self.start()
        return self.is_there()

    def start(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._tell, b".")

    def stores(self) -> int:
        """How many there were in all, when it has done everything; 0: it was killed."""
        said = os.read(self._said, 8)
        return int(struct.unpack("q", said)[0]) if said else 0

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def let_go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.close(self._tell)
        os.close(self._said)
        self._forked.kill()


# What is killed at each of its stores


class Choreography(NamedTuple):
    """Turns, each of a victim, or of one of two survivors, or a word that is written over as somebody who died left it."""

    name: str
    turns: str


#: who: ``v`` the victim, ``1`` and ``2`` the survivors; what: see ``_ACTS``
CHOREOGRAPHIES = [
    Choreography("take and give", "v take, v give, v take, v give"),
    Choreography("take what is awaited", "1 take, v try, 1 give, v take, v give"),
    Choreography("hand over", "v take, 1 be heir, v give, 1 take, 1 give"),
    Choreography("be handed it", "1 take, v be heir, 1 give, v take, v give"),
    Choreography("be handed it and pass it on", "1 take, v be heir, 1 give, v give"),
    Choreography("give up waiting", "1 take, v be heir, v give, 1 give"),
    Choreography("take from the dead", "the dead had it, v take, v give"),
    Choreography("take what the dead did not take", "the dead were offered it, v take, v give"),
    Choreography("take what the one before left", "the one before had it, v take, v give"),
    Choreography("give what the one before left", "the one before had it, v give"),
    Choreography("take back what the heir does not take", "1 take, 2 be heir, 1 give, v take, v give"),
]
_ACTS: dict[str, Callable[[Party], object]] = {
    "take": lambda party: party.take(HANG_S),
    "try": lambda party: party.take(0.001),
    "give": Party.give,
    "be heir": Party.become_heir,
}
_VICTIM, _DEAD = 8, 100  #: marks
_LEFT = {
    "the dead had it": _DEAD,
    "the dead were offered it": _DEAD | OFFERED,
    "the one before had it": _VICTIM,
}


def perform(folder: Path, what: Choreography, stop_at: int) -> tuple[int, bool]:
    """Play it with a victim that is killed after so many stores; how many it made, and whether it was killed.

    Whoever lives has the lock within a bounded time, one after the other, and the word ends free.
    """
    turns = [(turn, *turn.partition(" ")[::2]) for turn in what.turns.split(", ")]
    with table(folder) as around:
        survivors = [around.sit(1), around.sit(2)]
        acts = [_ACTS[act] for _, who, act in turns if who == "v"]
        victim = Child(around, _VICTIM - 1, *acts, stop_at=stop_at)
        try:
            alive, count = victim.is_there(), 0
            for turn, who, act in turns:
                if turn in _LEFT:
                    around.words[WORD] = around.word & ~OWNER | _LEFT[turn]
                elif who != "v":
                    _ACTS[act](survivors[int(who) - 1])
                elif alive:
                    alive = victim.go_on()
            if alive:
                count = victim.stores()
        finally:
            victim.kill()
        for party in (*[party for party in survivors if party.has], *survivors, *survivors):
            assert party.has or party.take(HANG_S), f"{around.word:#x}"
            assert around.owner == party.mark
            party.give()
        assert around.word % 2**32 == 0, f"{around.word:#x}"
    return count, not alive


# A flood


def flood(party: Party) -> None:
    """Take it, look that nobody else is inside, count, and give it back; over and over."""
    words = party.words
    while not words[OVER]:
        if not party.take(HANG_S):
            words[LOST] = 1
            return
        if words[INSIDE] and is_alive(party, words[INSIDE]):
            words[LOST] = 2
        words[INSIDE] = party.mark
        words[COUNT] += 1
        words[INSIDE] = 0
        party.give()


def is_alive(party: Party, mark: int) -> bool:
    return OfdRange(party.fd).first_locked(mark - 1, 1) is not None
