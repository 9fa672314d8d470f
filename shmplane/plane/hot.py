"""The plane's side of a cache: blocks of one group under names of their own, got without leaving a lease behind.

What is small is copied out when it is first got, and remembered with its name's word: while the word stands, getting it again
takes neither lock nor lease, so it can be evicted at once. What is large is a view, which leases the block for as long as
somebody has it. What is remembered is forgotten by clock: a hand goes round, and what was not got since it came by goes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from ..codecs import CODECS, CopiedMemory, Encoded
from ..errors import ItemTooLarge, PlaneFull, PlaneMismatch
from ..manifest import TEMPORARY_PREFIX, default_root, open_group, row_of_name_word
from ..names import check_block_name
from ..system import NOT_HAD, own
from .blocks import Target, find, held, lease_current
from .blocks.publish import put_unleased
from .blocks.views import lease_by_core
from .plane import Plane
from .process.options import DEFAULT_LIMITS, parse_options
from .process.orphans import remove_orphans
from .process.patience import moment, patience

if TYPE_CHECKING:
    from ..manifest import Queues, Transaction
    from .blocks.claims import Lease

__all__ = ["MISSING", "HotTier", "open_shared_plane"]

#: what ``find`` returns for nothing
MISSING: Any = object()

_COPIED_NBYTES = 16 << 10
_MOST_REMEMBERED = 16_384
_LONGEST_TTL_S = 1e9  #: thirty years, which fit a word


class _Known:
    """A value that is remembered."""

    __slots__ = ("name_row", "nickname", "present", "root", "row", "used", "word")

    def __init__(self, name_row: int, word: int, root: Any, present: Any) -> None:
        self.name_row, self.word, self.root, self.present = name_row, word, root, present
        self.row: int = row_of_name_word(word)
        self.used = False
        self.nickname: Hashable = None  #: what it is called in ``nicknames``


class HotTier:
    """What a cache has in a plane.

    Args:
        plane: where.
        prefix: of the blocks' names; with a policy and a limit it makes their group.
        limit_nbytes: of their cells and segments.

    Raises:
        PlaneMismatch: there are blocks under another policy or limit.
    """

    def __init__(self, plane: Plane, prefix: str, *, policy: str, limit_nbytes: int) -> None:
        self.plane, self._prefix, self._limit_nbytes = plane, prefix, limit_nbytes
        attachment = plane._open()
        self._group: int = attachment.change(open_group, prefix.encode(), policy, limit_nbytes)
        #: a hint, stored without the lock: whoever is told that a block was used does at most one store
        self._hit: Callable[[int], None] = attachment.look(_queues_of, self._group - 1).hit
        self._known: dict[str, _Known] = {}
        self._clock: deque[str] = deque()
        self._nicknames: dict[Hashable, _Known] = {}

    def find(self, name: str) -> Any:
        """The value, or ``MISSING``.

        Cost: below 1 µs when a small value is got again; else a short hold of the plane's lock.
        """
        known = self._known.get(name)
        if known is not None:
            if self.plane._words[known.name_row] == known.word:
                known.used = True
                self._hit(known.row)
                return known.present(known.root)
            self._forget(name)
        return self._look(name)

    def find_nicknamed(self, nickname: Hashable) -> Any:
        """The value of what ``find`` found for a name that was given this nickname, or ``MISSING``. It takes no lock."""
        known = self._nicknames.get(nickname)
        if known is not None and self.plane._words[known.name_row] == known.word:
            known.used = True
            self._hit(known.row)
            return known.present(known.root)
        return MISSING

    def give_nickname(self, name: str, nickname: Hashable) -> None:
        """A shorter way to what is remembered of a name: nothing has to be encoded and hashed for it."""
        known = self._known.get(name)
        if known is not None:
            known.nickname = nickname
            self._nicknames[nickname] = known

    def find_known(self, name: str) -> Any:
        """The value if it is remembered or held here: without any lock. Else ``MISSING``, whatever the plane has."""
        known = self._known.get(name)
        if known is not None and self.plane._words[known.name_row] == known.word:
            known.used = True
            self._hit(known.row)
            return known.present(known.root)
        return self._used(
            self._prefix + name, held(self.plane._open(), self.plane._recent, self._prefix + name, MISSING)
        )

    def _look(self, name: str) -> Any:
        full = self._prefix + name
        if full in self.plane._recent:
            return self._used(full, self.plane.get(full, MISSING))
        attachment = self.plane._open()
        encoded = check_block_name(full)
        found = lease_by_core(attachment, encoded) or attachment.look(lease_current, attachment, encoded)
        if found is None:
            return MISSING
        lease, _, name_row, word = found
        if lease.nbytes > _COPIED_NBYTES or lease.facts.codec == "table":
            del found, lease
            value = find(attachment, self.plane._recent, full, MISSING, trust_pickle=False)
            return self._used(full, value)
        root, present = _copy(lease), CODECS[lease.facts.codec].present
        if word >= 0:
            known = _Known(name_row, word, root, present)
            self._hit(known.row)
            self._remember(name, known)
        return present(root)

    def _used(self, full: str, value: Any) -> Any:
        """Say that a block was used whose view the plane remembers."""
        known = self.plane._recent.get(full)
        if value is not MISSING and known is not None and known[1] > 0:
            self._hit(row_of_name_word(known[1]))
        return value

    def _remember(self, name: str, known: _Known) -> None:
        if name not in self._known:
            self._clock.append(name)
        self._known[name] = known
        while len(self._clock) > _MOST_REMEMBERED:
            oldest = self._clock.popleft()
            entry = self._known.get(oldest)
            if entry is not None and entry.used:
                entry.used = False
                self._clock.append(oldest)
            else:
                self._forget(oldest)

    def _forget(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None and self._nicknames.get(known.nickname) is known:
            self._nicknames.pop(known.nickname, None)

    def contains(self, name: str) -> bool:
        """Whether it is there now."""
        return self._prefix + name in self.plane

    def put(self, name: str, encoded: Encoded, *, until: float | None = None, cost_us: int = 0) -> bool:
        """Publish a value; False when there is no room for it.

        Args:
            until: time.time() at which it goes.
            cost_us: what it took to make, for the policy.
        """
        ttl_ns = None if until is None else int(min(max(0.0, until - time.time()), _LONGEST_TTL_S) * 1e9)
        target = Target(check_block_name(self._prefix + name), ttl_ns=ttl_ns, group=self._group, cost=cost_us)
        try:
            put_unleased(self.plane._open(), encoded, target)
        except own(PlaneFull, ItemTooLarge):
            return False
        return True

    def drop(self, name: str) -> None:
        """It is gone; who has a view keeps it."""
        self._forget(name)
        self.plane._open().change(_delete, check_block_name(self._prefix + name))

    def has_spare_semaphores(self, count: int) -> bool:
        """Whether so many more can be in use in the plane at once; True as well when its lock is not to be had in a moment."""
        attachment = self.plane._open()
        found = attachment.try_look(moment(attachment), _has_spare, count)
        return found is NOT_HAD or found

    def figures(self) -> tuple[int, int]:
        """B of its cells and segments, and how many blocks were evicted for want of room."""
        return self.plane._open().look(_figures, self._group - 1)

    def is_busy(self) -> bool:
        """Whether the plane's lock is not to be had at once, so that whoever only shows something had better not ask."""
        attachment = self.plane._open()
        return attachment.try_look(patience(attachment), _figures, self._group - 1) is NOT_HAD


def _queues_of(tx: Transaction, group: int) -> Queues:
    return tx.eviction.of(group)


def _has_spare(tx: Transaction, count: int) -> bool:
    return tx.coordination.has_spare(count)


def _figures(tx: Transaction, group: int) -> tuple[int, int]:
    groups = tx.manifest.groups
    return groups.used_nbytes[group], groups.evictions[group]


def _delete(tx: Transaction, name: bytes) -> None:
    if tx.current(name)[1] >= 0:
        tx.delete(name)


def _copy(lease: Lease) -> Any:
    lease.open()
    return CODECS[lease.facts.codec].open(lease.frame(), CopiedMemory(lease.copy(lease.nbytes)), ())


def open_shared_plane(name: str, capacity: int) -> Plane:
    """A plane that all who know the name share, gone with its last process; ``PlaneMismatch`` for another capacity."""
    try:
        return _open_shared(name, capacity)
    except own(PlaneMismatch):
        # It may be left over from processes that were killed, and had asked for something else.
        remove_orphans(default_root())
        return _open_shared(name, capacity)


def _open_shared(name: str, capacity: int) -> Plane:
    options = parse_options(capacity, None, DEFAULT_LIMITS.max_blocks, DEFAULT_LIMITS.max_processes, temporary=True)
    plane = Plane.__new__(Plane)
    plane._join(TEMPORARY_PREFIX + name, None, options, create=True, trust_pickle=False)
    return plane
