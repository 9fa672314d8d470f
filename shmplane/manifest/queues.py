"""The queues of evictable blocks: those of each group, in which its policy keeps the order. Under the lock.

Policies work on columns; here these are words of the manifest. What they are is derived: recovery makes them anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ItemTooLarge, PlaneFull
from ..system import late, round_to_pages
from .limits import MAX_GROUPS
from .space import CELL_NBYTES, class_of

if TYPE_CHECKING:
    from . import policies
    from .policies import Ghosts, Queues
    from .store import Manifest
else:
    policies = late("shmplane.manifest.policies")

__all__ = ["EvictionQueues"]


def _taken_nbytes(nbytes: int) -> int:
    """What a block of a size takes at least: a cell, or whole pages."""
    return CELL_NBYTES[class_of(nbytes)] if nbytes <= CELL_NBYTES[-1] else round_to_pages(nbytes)


class _TakenNbytes:
    """B that each block takes: its cell, or its segment."""

    def __init__(self, manifest: Manifest) -> None:
        self._blocks, self._segments = manifest.blocks, manifest.segments

    def __getitem__(self, row: int) -> int:
        return self._blocks.cell[row] or self._segments.nbytes[self._blocks.segment[row] - 1]

    def __setitem__(self, row: int, nbytes: int) -> None:
        raise TypeError("what a block takes follows from its place")

    def __len__(self) -> int:
        return self._blocks.rows


class _Rows:
    """The block table, as policies see it."""

    def __init__(self, manifest: Manifest) -> None:
        blocks = manifest.blocks
        self.queue, self.before, self.after = blocks.queue, blocks.before, blocks.after
        self.seen, self.rank, self.cost, self.used = blocks.seen, blocks.rank, blocks.cost, blocks.used
        self.nbytes = _TakenNbytes(manifest)


class _NoGhosts:
    """While no memory stands behind the table of ghosts."""

    def __init__(self) -> None:
        self.word = [0]


class EvictionQueues:
    """The queues of each group, made when they are first asked for."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._groups = manifest, manifest.groups
        self._queues: dict[tuple[int, int, int], Queues] = {}

    def of(self, group: int) -> Queues:
        """Those of a group's row."""
        has_ghosts = self._manifest.header.ghosts_reserved[0]
        key = group, self._groups.policy[group], has_ghosts
        found = self._queues.get(key)
        if found is None:
            manifest = self._manifest
            ghosts: Ghosts = manifest.ghosts if has_ghosts == manifest.ghosts.rows else _NoGhosts()
            found = self._queues[key] = policies.queues_of(_Rows(manifest), manifest.groups, ghosts, group)
        return found

    def check_room(self, group: int, nbytes: int) -> None:
        """Whether a block of ``nbytes``, with its frame, fits into a group's limit.

        Raises:
            ItemTooLarge: it is larger than the limit.
            PlaneFull: others have to go first; ``group`` among its facts is the row.
        """
        limit, used = self._groups.limit_nbytes[group], self._groups.used_nbytes[group]
        taken = _taken_nbytes(nbytes)
        if not limit or taken <= limit - used:
            return
        if taken > limit:
            raise self._manifest.refuse(
                ItemTooLarge(
                    f"it takes {taken:,} B and all of its kind may take {limit:,} B; use a larger limit",
                    nbytes=taken,
                    limit=limit,
                )
            )
        raise self._manifest.refuse(
            PlaneFull(
                f"{taken:,} B more are needed, and {used:,} B of {limit:,} are in use by blocks of the same group that "
                f"somebody leases. End leases, or use a larger limit.",
                needed=taken,
                group=group,
                limit=limit,
            )
        )

    def admit(self, row: int, key_hash: int) -> None:
        """A block of a group is published."""
        group = self._manifest.blocks.group[row] - 1
        self.of(group).admit(row, key_hash)
        self._groups.blocks[group] += 1

    def hit(self, row: int) -> None:
        """A block was used without being leased. A hint, without the lock: nothing when it is evictable no more."""
        blocks = self._manifest.blocks
        group = blocks.group[row]
        if 0 < group <= MAX_GROUPS and blocks.queue[row]:
            self.of(group - 1).hit(row)

    def forget(self, row: int) -> None:
        """A block that is in a queue is freed."""
        group = self._manifest.blocks.group[row] - 1
        self.of(group).forget(row)
        self._groups.blocks[group] -= 1

    def released(self, row: int) -> None:
        """The lease of a block that is in a queue has ended."""
        self.of(self._manifest.blocks.group[row] - 1).released(row)

    def rebuild(self, rows: list[int]) -> None:
        """Make all queues anew from the rows that are live and evictable."""
        blocks, groups = self._manifest.blocks, self._groups
        members: dict[int, list[int]] = {group: [] for group in range(MAX_GROUPS)}
        for row in rows:
            members[blocks.group[row] - 1].append(row)
        for group, state in enumerate(groups.state.tolist()):
            if state:
                self.of(group).rebuild(members[group])
                groups.blocks[group] = len(members[group])
