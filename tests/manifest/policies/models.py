"""The policies once more, as one would write them on a blackboard: Python lists, oldest item first, and no limit of work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Item:
    nbytes: int
    cost: int
    key_hash: int
    used: int = 0
    seen: int = 0
    rank: int = 0


@dataclass
class Model:
    """One queue, the oldest first."""

    limit_nbytes: int
    now: Callable[[], int]
    items: dict[int, Item] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def admit(self, row: int, item: Item) -> None:
        self.items[row] = item
        self.order.append(row)

    def hit(self, row: int) -> None:
        self.items[row].seen = 1

    def victim(self, leased: set[int]) -> int | None:
        raise NotImplementedError

    def evicted(self, row: int) -> None:
        self.forget(row)

    def forget(self, row: int) -> None:
        self.order.remove(row)
        del self.items[row]

    def none_may_go(self, leased: set[int]) -> bool:
        return not set(self.items) - leased


class Fifo(Model):
    def victim(self, leased: set[int]) -> int | None:
        if self.none_may_go(leased):
            return None
        while self.order[0] in leased:
            self.order.append(self.order.pop(0))
        return self.order[0]


class Lru(Model):
    def admit(self, row: int, item: Item) -> None:
        item.used = self.now()
        super().admit(row, item)

    def hit(self, row: int) -> None:
        self.items[row].used = self.now()

    def victim(self, leased: set[int]) -> int | None:
        if self.none_may_go(leased):
            return None
        while (oldest := min(self.items, key=lambda row: self.items[row].used)) in leased:
            self.items[oldest].used = self.now()
        return oldest


class Lfu(Model):
    """Of the least count, whoever came to that count's queue first; items come to it when they are looked at."""

    def __init__(self, limit_nbytes: int, now: Callable[[], int]) -> None:
        super().__init__(limit_nbytes, now)
        self.queues: dict[int, list[int]] = {count: [] for count in range(48)}

    def admit(self, row: int, item: Item) -> None:
        super().admit(row, item)
        self.queues[0].append(row)

    def hit(self, row: int) -> None:
        self.items[row].seen += 1

    def forget(self, row: int) -> None:
        super().forget(row)
        next(queue for queue in self.queues.values() if row in queue).remove(row)

    def victim(self, leased: set[int]) -> int | None:
        if self.none_may_go(leased):
            return None
        while True:
            count, queue = next((count, queue) for count, queue in self.queues.items() if queue)
            row = queue[0]
            rightful = count + 1 if row in leased else self.items[row].seen
            if rightful <= count:
                return row
            self.queues[min(rightful, 47)].append(queue.pop(0))


class Sieve(Model):
    hand: int | None = None

    def victim(self, leased: set[int]) -> int | None:
        if self.none_may_go(leased):
            return None
        while True:
            row = self.order[0] if self.hand is None else self.hand
            if row not in leased and not self.items[row].seen:
                self.hand = row
                return row
            self.items[row].seen = 0
            self._advance(row)

    def forget(self, row: int) -> None:
        if self.hand == row:
            self._advance(row)
        super().forget(row)

    def _advance(self, row: int) -> None:
        younger = self.order[self.order.index(row) + 1 :]
        self.hand = younger[0] if younger else None


class S3Fifo(Model):
    """``order`` is the small queue."""

    def __init__(self, limit_nbytes: int, now: Callable[[], int]) -> None:
        super().__init__(limit_nbytes, now)
        self.classes: dict[int, list[int]] = {}
        self.ghosts: dict[int, int] = {}  #: key hash -> bytes evicted from the small queue until then
        self.evicted_nbytes = 0
        self.level = 0

    def admit(self, row: int, item: Item) -> None:
        self.items[row] = item
        ghost = self.ghosts.pop(item.key_hash, None)
        if ghost is not None and self.evicted_nbytes - ghost <= self.limit_nbytes:
            self._to_main(row)
        else:
            self.order.append(row)

    def victim(self, leased: set[int]) -> int | None:
        if self.none_may_go(leased):
            return None
        in_use = False
        while True:
            row = self._oldest(small_first=in_use)
            in_use = row in leased
            if row not in leased and not self.items[row].seen:
                return row
            self.items[row].seen = 0
            at_least = 1 + max((self.items[tail].rank for tail in self._tails()), default=0) if row in leased else 0
            self._take(row)
            self._to_main(row, at_least)

    def evicted(self, row: int) -> None:
        item = self.items[row]
        if row in self.order:
            self.evicted_nbytes += item.nbytes
            self.ghosts[item.key_hash] = self.evicted_nbytes
        else:
            self.level = max(self.level, item.rank)
        self.forget(row)

    def forget(self, row: int) -> None:
        self._take(row)
        del self.items[row]

    def _oldest(self, *, small_first: bool) -> int:
        small = sum(self.items[row].nbytes for row in self.order)
        if self.order and (small_first or small * 10 >= self.limit_nbytes or not self._tails()):
            return self.order[0]
        return min(self._tails(), key=lambda row: self.items[row].rank)

    def _tails(self) -> list[int]:
        return [queue[0] for _, queue in sorted(self.classes.items()) if queue]

    def _take(self, row: int) -> None:
        for queue in (self.order, *self.classes.values()):
            if row in queue:
                queue.remove(row)

    def _to_main(self, row: int, at_least: int = 0) -> None:
        item = self.items[row]
        item.rank = max(self.level + int((item.cost or 1000) * 65536 / item.nbytes**0.5), at_least)
        self.classes.setdefault(item.nbytes.bit_length(), []).append(row)


MODELS: dict[str, type[Model]] = {"s3fifo": S3Fifo, "lru": Lru, "lfu": Lfu, "fifo": Fifo, "sieve": Sieve}
