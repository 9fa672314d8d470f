"""The name index: from the bytes of a name to its row, in shared memory.

Rows are facts, chains are derived. A name keeps its row after a delete (a tombstone), so that versions go on where they
were; the oldest tombstone is used again when there are many. The header keeps the highest version that was lost so, and
rows taken later count on from there. Callers hold the lock.
"""

from __future__ import annotations

from zlib import crc32

from ..errors import PlaneCorrupt, PlaneFull
from .limits import Limits
from .store import Manifest

__all__ = ["NameIndex", "NameLookup", "most_tombstones"]


def most_tombstones(limits: Limits) -> int:
    """With more names without a block than that, the row of the oldest is used again."""
    return max(4096, limits.max_blocks // 8)


class NameLookup:
    """Finds rows of names. Stores nothing."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._header, self._names = manifest.header, manifest.names
        self._first, self._mask = manifest.buckets.first, manifest.bucket_mask
        text = manifest.names.text
        self._bytes, self._start, self._step, self._room = text.memory, text.start, text.step, text.room
        # A scribbled chain may loop; no lookup takes more steps than there are rows.
        self._steps = range(manifest.names.rows + 1)

    def find(self, name: bytes) -> int:
        """The row of a name, which may be a tombstone; -1 when there is none."""
        names, hashed, length = self._names, crc32(name), len(name)
        following = self._first[hashed & self._mask]
        for _ in self._steps:
            if not following:
                return -1
            row = following - 1
            if names.hash[row] == hashed and names.length[row] == length:
                start = self._start + row * self._step
                if self._bytes[start : start + length] == name:
                    return row
            following = names.next[row]
        raise PlaneCorrupt("the chain of a name bucket loops; run `shmplane gc`, which builds the index again")

    def is_at(self, row: int, name: bytes) -> bool:
        """Whether the row is that of this name."""
        return self._names.length[row] == len(name) and self._names.text.read(row, len(name)) == name

    def read(self, row: int) -> str:
        """The name of a row."""
        start = self._start + row * self._step
        length = min(self._names.length[row], self._room)
        return str(self._bytes[start : start + length], errors="replace")


class NameIndex(NameLookup):
    """Also makes rows for names, and uses them again."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self._most_tombstones = most_tombstones(manifest.limits)

    def add(self, name: bytes) -> int:
        """A row for a name that has none."""
        row = self._unused_row()
        names, hashed = self._names, crc32(name)
        names.word[row] = 0
        names.version[row] = self._header.lost_version[0]
        names.hash[row] = hashed
        start = self._start + row * self._step
        self._bytes[start : start + len(name)] = name
        names.length[row] = len(name)
        self.link(row, hashed)
        # Without a block it is a tombstone; if the put that wanted it fails, it stays one.
        self.queue_tombstone(row)
        return row

    def link(self, row: int, hashed: int) -> None:
        """Put a row first in its bucket's chain."""
        bucket = hashed & self._mask
        self._names.next[row] = self._first[bucket]
        self._first[bucket] = row + 1

    def queue_tombstone(self, row: int) -> None:
        """Queue a row without a block among the tombstones, unless it is there already."""
        names, header = self._names, self._header
        if names.queued[row]:
            return
        names.queued[row] = 1
        names.next_tombstone[row] = 0
        tail = header.tombstones_tail[0]
        if tail:
            names.next_tombstone[tail - 1] = row + 1
        else:
            header.tombstones_head[0] = row + 1
        header.tombstones_tail[0] = row + 1
        header.tombstones[0] += 1

    def _unused_row(self) -> int:
        header, names = self._header, self._names
        if header.tombstones[0] > self._most_tombstones:
            row = self._reuse_row()
            if row >= 0:
                return row
        high = header.names_high[0]
        if high < header.names_reserved[0] <= names.rows:  # most often, and what ``names_high`` would check
            header.names_high[0] = high + 1
            return high
        high = self._manifest.names_high
        if high < names.rows:
            reserved = min(names.rows, max(64, high + min(high // 2, 8192)))
            self._manifest.reserve(names, reserved)
            header.names_reserved[0] = reserved
            header.names_high[0] = high + 1
            return high
        row = self._reuse_row()
        if row < 0:
            raise self._manifest.refuse(
                PlaneFull(
                    f"all {names.rows:,} names of the plane are in use. Delete some, or make the plane with a larger "
                    f"max_blocks= ({self._manifest.limits.max_blocks:,} now).",
                    needed=1,
                    max_blocks=self._manifest.limits.max_blocks,
                )
            )
        return row

    def _reuse_row(self) -> int:
        """Take the oldest tombstone out of the queue and the index; -1 when there is none."""
        header, names = self._header, self._names
        for _ in self._steps:
            following = header.tombstones_head[0]
            if not following:
                return -1
            row = following - 1
            header.tombstones_head[0] = names.next_tombstone[row]
            if not names.next_tombstone[row]:
                header.tombstones_tail[0] = 0
            header.tombstones[0] -= 1
            names.queued[row] = 0
            # A name that was put again since it was queued stays.
            if not names.word[row]:
                # Before the name is gone: whoever puts it again goes on above what it had.
                header.lost_version[0] = max(header.lost_version[0], names.version[row])
                self._unlink(row)
                names.length[row] = 0
                names.generation[row] += 1
                return row
        return -1

    def _unlink(self, row: int) -> None:
        names = self._names
        bucket = names.hash[row] & self._mask
        if self._first[bucket] == row + 1:
            self._first[bucket] = names.next[row]
            return
        following = self._first[bucket]
        for _ in self._steps:
            if not following:
                return
            if names.next[following - 1] == row + 1:
                names.next[following - 1] = names.next[row]
                return
            following = names.next[following - 1]
