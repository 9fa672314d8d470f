"""Both tiers together: where a value is put, where it is found, and what keeps old ones from coming back.

Rule 1. Of each key there is one truth, its row. What is in memory has a row, or goes with it.
Rule 2. Under the key's lock ``set`` drops the block, writes to disk and publishes; nobody promotes meanwhile, since a promotion
takes that lock, without waiting, and reads the row again. So no reader of memory ever sees a value older than a ``set`` that
has returned.
Rule 3. Locks are shared by keys of one stripe. Who holds one waits for no other: an item that has to make room and is busy
is passed over.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from ..errors import ItemTooLarge, PlaneCorrupt, PlaneSecurityError, ShmplaneError
from ..plane import MISSING
from ..system import ignoring, own
from .keys import digest_of
from .records import IN_FILE, IN_MEMORY, IN_ROW, Record, file_nbytes, pack_record, unpack_record
from .tally import Tally
from .values import Rendered, map_body, render, show_file, show_row, write_file

if TYPE_CHECKING:
    from ..codecs import Encoded
    from ..plane import HotTier, Plane, Semaphore
    from .database import Database, Reserved, Row

__all__ = ["Item", "Tiers"]

_STRIPES = 64
#: values up to this stand in their row
_ROW_NBYTES = 8 << 10
_MOST_SEEN = 16_384
#: items in memory that are passed over once, when there has to be room on disk for another
_MOST_SPARED = 32
#: rows that are taken out at once: each makes the journal longer
_AT_ONCE = 32


class Item:
    """What is to be stored beside the value."""

    __slots__ = ("cost_us", "grace", "tag", "until")

    def __init__(self, ttl: float | None, *, grace: float = 0.0, tag: str | None = None, cost: float = 0.0) -> None:
        self.until: float | None = None if ttl is None or math.isinf(ttl) else time.time() + ttl
        self.grace: float = grace
        self.tag: str | None = tag
        self.cost_us: int = int(min(cost * 1e6, 1 << 40))


class Tiers:
    """The hot tier, which is blocks of a plane, and the cold one, which is rows and files of a directory."""

    def __init__(self, database: Database, hot: HotTier, plane: Plane, *, prefix: str, memory_nbytes: int) -> None:
        self.database, self.hot, self.memory_nbytes = database, hot, memory_nbytes
        self.tally: Tally = Tally(plane, prefix)
        self._plane, self._prefix = plane, prefix
        self._locks: dict[int, Semaphore] = {}
        #: names that were found on disk once, lately
        self._seen: OrderedDict[str, None] = OrderedDict()

    # Finding

    def find_nicknamed(self, nickname: Hashable) -> Any:
        """What is remembered here and stands, or ``MISSING``, which says nothing."""
        value = self.hot.find_nicknamed(nickname)
        if value is not MISSING:
            self.tally.hit()
        return value

    def find(self, key: bytes, name: str) -> Any:
        """The value, or ``MISSING``."""
        value = self.hot.find(name)
        if value is not MISSING:
            self.tally.hit()
            return value
        value = self.find_on_disk(key, name)
        self.tally.count("misses" if value is MISSING else "disk_hits")
        return value

    def find_again(self, key: bytes, name: str, *, counted: bool = True) -> Any:
        """The value that may have come meanwhile, or ``MISSING``, which is counted already."""
        value = self.hot.find(name)
        if value is not MISSING:
            if counted:
                self.tally.hit()
            return value
        value = self.find_on_disk(key, name)
        if counted and value is not MISSING:
            self.tally.count("disk_hits")
        return value

    def find_on_disk(self, key: bytes, name: str) -> Any:
        """The value by its row, or ``MISSING``; at the second time it is promoted."""
        row = self.database.find(key)
        if row is None or not is_fresh(row):
            return MISSING
        value, rendered = self.show(row, name)
        if rendered is not None and value is not MISSING and self._is_second(name):
            self._promote(row, name, rendered)
        return value

    def find_stale(self, key: bytes, name: str, grace: float) -> Any:
        """The value although it is out of date, by at most ``grace`` seconds; or ``MISSING``."""
        row = self.database.find(key)
        if row is None or row.fresh_until is None or time.time() >= row.fresh_until + grace:
            return MISSING
        return self.show(row, name)[0]

    def show(self, row: Row, name: str) -> tuple[Any, Rendered | None]:
        """The value of a row; what is damaged or gone is taken out and counts as missing."""
        try:
            record = unpack_record(row.value)
            if record.place == IN_ROW:
                return show_row(record), Rendered(record.kind, record.frame, record.body)
            if record.place == IN_MEMORY:
                value = self.hot.find(name)
                if value is not MISSING:
                    return value, None
                raise FileNotFoundError(name)
            path = self.database.path_of(row)
            if path is None:
                raise PlaneCorrupt("a row of the cache names a file that is none of its own")
            return show_file(record, path)
        except own(FileNotFoundError):
            pass  # it was evicted or replaced at this moment, or somebody removed the file
        except own(PlaneCorrupt, PlaneSecurityError):
            self.tally.count("damaged")
        with ignoring(ShmplaneError):  # what finds nothing needs no room on disk, and no right to write there
            self.database.remove(row)
        return MISSING, None

    def contains(self, key: bytes, name: str) -> bool:
        """Whether there is a fresh value; nothing is read of it."""
        row = self.database.find(key)
        if row is None or not is_fresh(row):
            return False
        try:
            return unpack_record(row.value).place != IN_MEMORY or self.hot.contains(name)
        except own(PlaneCorrupt):
            return False

    def _is_second(self, name: str) -> bool:
        if self._seen.pop(name, MISSING) is None:
            return True
        self._seen[name] = None
        if len(self._seen) > _MOST_SEEN:
            with ignoring(KeyError):  # another thread was faster
                self._seen.popitem(last=False)
        return False

    def _promote(self, row: Row, name: str, rendered: Rendered) -> None:
        if rendered.nbytes > self.memory_nbytes:
            self.database.touch(row.rowid)
            return
        lock = self._lock_of(name)
        if not lock.try_acquire():
            return
        try:
            if self.database.find(row.key) == row:
                self.tally.count_with_next("promotions")
                cost_us = unpack_record(row.value).cost_us
                self.hot.put(name, rendered, until=row.fresh_until, cost_us=cost_us)
        finally:
            lock.release()
        self.database.touch(row.rowid)

    # Storing

    def store(self, key: bytes, name: str, encoded: Encoded, item: Item) -> None:
        """Store a value on disk, where there is room for it, and in memory; ``ItemTooLarge``."""
        total = (encoded.nbytes + 7 & ~7) + len(encoded.frame)
        is_small = total <= _ROW_NBYTES
        row_nbytes = len(key) + len(encoded.frame) + (encoded.nbytes if is_small else 0) + 256
        file_size = 0 if is_small else total
        fits_disk = self.database.could_hold(file_size, row_nbytes)
        if not fits_disk and total > self.memory_nbytes:
            raise self._too_large(total)
        if is_small:
            encoded = render(encoded)
        with self._lock_of(name):
            self.hot.drop(name)
            if fits_disk and self._store_on_disk(key, name, encoded, item, row_nbytes=row_nbytes, is_small=is_small):
                self.tally.count_with_next("sets")
                return
            self._store_in_memory(key, name, encoded, item, total=total)
            self.tally.count_with_next("sets")

    def _store_on_disk(
        self, key: bytes, name: str, encoded: Encoded, item: Item, *, row_nbytes: int, is_small: bool
    ) -> bool:
        place = IN_ROW if is_small else IN_FILE
        body = bytes(encoded.whole) if isinstance(encoded, Rendered) and is_small else b""
        record = Record(encoded.kind, place, encoded.frame, body, encoded.nbytes, item.cost_us, item.grace)
        size = 0 if is_small else file_nbytes(record)
        database, rendered = self.database, encoded
        if is_small and self._put_row(key, record, item, row_nbytes=row_nbytes):
            self._publish(name, rendered, item)
            return True
        reserved = database.reserve(size, row_nbytes, _Evicting(self, name).make_room)
        if reserved is None:
            return False
        try:
            if not is_small:
                path = database.write(reserved.name, encoded, write_file)
                rendered = Rendered(encoded.kind, encoded.frame, map_body(path, encoded.nbytes))
            self._put_row(key, record, item, reserved=reserved, file_size=size)
        except BaseException:
            database.abandon(reserved)
            raise
        self._publish(name, rendered, item)
        return True

    def _publish(self, name: str, rendered: Encoded, item: Item) -> None:
        if rendered.nbytes > self.memory_nbytes or not self.hot.put(
            name, rendered, until=item.until, cost_us=item.cost_us
        ):
            self.tally.count_with_next("past_memory")

    def _store_in_memory(self, key: bytes, name: str, encoded: Encoded, item: Item, *, total: int) -> None:
        """What does not fit the disk: its row says so, and it goes when memory needs the room."""
        record = Record(encoded.kind, IN_MEMORY, encoded.frame, b"", encoded.nbytes, item.cost_us, item.grace)
        room = len(key) + len(encoded.frame) + 256
        reserved = self.database.reserve(0, room, _Evicting(self, name).make_room)
        if reserved is None:
            raise self._too_large(total)
        try:
            self._put_row(key, record, item, reserved=reserved)
        except BaseException:
            self.database.abandon(reserved)
            raise
        self.tally.count_with_next("past_disk")
        if total > self.memory_nbytes or not self.hot.put(name, encoded, until=item.until, cost_us=item.cost_us):
            self.database.delete([key])
            raise self._too_large(total)

    def _put_row(
        self,
        key: bytes,
        record: Record,
        item: Item,
        *,
        reserved: Reserved | None = None,
        file_size: int = 0,
        row_nbytes: int = 0,
    ) -> bool:
        gone_at = None if item.until is None else item.until + item.grace
        return self.database.put(
            key,
            pack_record(record),
            name="" if reserved is None else reserved.name,
            file_nbytes=file_size,
            row_nbytes=row_nbytes,
            fresh_until=item.until,
            gone_at=gone_at,
            tag=item.tag,
        )

    def _too_large(self, nbytes: int) -> ItemTooLarge:
        return ItemTooLarge(
            f"the item takes {nbytes:,} B; the memory of the cache has {self.memory_nbytes:,} and its disk "
            f"{self.database.limit_nbytes:,}. Open it with larger limits, or store the item in parts.",
            nbytes=nbytes,
            memory=self.memory_nbytes,
            disk=self.database.limit_nbytes,
        )

    # Taking out

    def delete(self, key: bytes, name: str) -> bool:
        """Take an item out of both tiers; whether there was one that was not out of date."""
        with self._lock_of(name):
            self.hot.drop(name)
            return any(map(is_fresh, self.database.delete([key])))

    def delete_all(self, tag: str | None = None) -> int:
        """Take out all items that are there now, or those of a tag; how many there were that were not out of date."""
        by_stripe: defaultdict[int, list[tuple[bytes, str]]] = defaultdict(list)
        for key in self.database.keys_of(tag):
            name = digest_of(key)
            by_stripe[stripe_of(name)].append((key, name))
        count = 0
        for stripe, items in by_stripe.items():
            for start in range(0, len(items), _AT_ONCE):
                some = items[start : start + _AT_ONCE]
                with self.lock_of(stripe):
                    for _, name in some:
                        self.hot.drop(name)
                    count += sum(map(is_fresh, self.database.delete([key for key, _ in some], tag=tag)))
        if tag is None:
            self.database.delete_foreign()
        return count

    # Locks

    def lock_of(self, stripe: int) -> Semaphore:
        """The lock of all keys of a stripe."""
        found = self._locks.get(stripe)
        if found is None:
            found = self._locks[stripe] = self._plane.lock(f"{self._prefix}keys/{stripe}")
        return found

    def _lock_of(self, name: str) -> Semaphore:
        return self.lock_of(stripe_of(name))


class _Evicting:
    """Makes room on disk for an item whose lock is held.

    What is in memory was used lately, though its row does not say so: it is spared once, and goes next time.
    """

    def __init__(self, tiers: Tiers, name: str) -> None:
        self._tiers, self._ours = tiers, stripe_of(name)
        self._spared = 0

    def make_room(self, row: Row) -> int | None:
        """Take an item out: B that come free; 0 when it was spared; None when it is busy."""
        name = digest_of(row.key)
        stripe = stripe_of(name)
        if stripe == self._ours:
            return self._take_out(row, name)
        lock = self._tiers.lock_of(stripe)
        if not lock.try_acquire():
            return None
        try:
            return self._take_out(row, name)
        finally:
            lock.release()

    def _take_out(self, row: Row, name: str) -> int:
        tiers = self._tiers
        if self._spared < _MOST_SPARED and is_fresh(row) and tiers.hot.contains(name):
            self._spared += 1
            tiers.database.touch(row.rowid)
            return 0
        tiers.hot.drop(name)
        if tiers.database.remove(row):
            tiers.tally.count_with_next("disk_evictions")
        return row.nbytes + len(row.key) + len(row.value)


def stripe_of(name: str) -> int:
    """Which lock a name has."""
    return int(name[:2], 16) % _STRIPES


def is_fresh(row: Row) -> bool:
    """Whether its time has not come."""
    return row.fresh_until is None or time.time() < row.fresh_until
