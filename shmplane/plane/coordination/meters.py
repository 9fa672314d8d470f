"""What connection pools count, summed over all processes of the host: this process's part.

Pools know a protocol only (``connections.host.HostMeter``); this is its real implementation. A pool says now and then what
it has counted so far; the sum over the pools of one name in this process goes to the process's row. What a closed or
forgotten pool had counted stays in the sum.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import PlaneFull
from ...manifest import LEVEL_WORDS, METER_WORDS, copy_meters
from ...system import NOT_HAD, ignoring, logger_of
from ..process.patience import moment
from ..process.registry import Registry

if TYPE_CHECKING:
    from ...manifest import MeterWords, Transaction
    from ..process.attachment import Attachment

__all__ = ["PoolMeter", "totals"]


class MeterPart:
    """All pools of one name in this process."""

    def __init__(self) -> None:
        self.mutex: threading.Lock = threading.Lock()
        self.readings: dict[weakref.ref[PoolMeter], list[int]] = {}
        self.ended: list[int] = [0] * METER_WORDS

    def note(self, meter: PoolMeter, words: Sequence[int]) -> None:
        """One pool says what it has counted so far."""
        with self.mutex:
            self.readings[weakref.ref(meter)] = [*words, *[0] * (METER_WORDS - len(words))]
            for ref in [ref for ref in self.readings if ref() is None]:
                self._end(ref)

    def end(self, meter: PoolMeter) -> None:
        """One pool will say no more."""
        with self.mutex:
            if weakref.ref(meter) in self.readings:
                self._end(weakref.ref(meter))

    def move(self, meter: PoolMeter, to: MeterPart) -> None:
        """One pool is counted with others from now on."""
        with self.mutex:
            words = self.readings.pop(weakref.ref(meter), None)
        if words is not None:
            to.note(meter, words)

    def total(self) -> list[int]:
        """The sum over all pools."""
        with self.mutex:
            return self._sum()

    def _sum(self) -> list[int]:
        if len(self.readings) == 1 and not any(self.ended):
            return next(iter(self.readings.values()))
        return [sum(column) for column in zip(self.ended, *self.readings.values(), strict=True)]

    def _end(self, ref: weakref.ref[PoolMeter]) -> None:
        counts = [0] * LEVEL_WORDS + self.readings.pop(ref)[LEVEL_WORDS:]
        self.ended = [sum(pair) for pair in zip(self.ended, counts, strict=True)]


class Meters(Registry):
    """What connection pools of each name count in this process."""

    def __init__(self, _: Attachment) -> None:
        self.parts: dict[bytes, MeterPart] = {}
        #: names that are counted together with others, of which nothing has been said yet
        self.beyond: list[bytes] = []
        self.has_said = False

    def begin_again_in_child(self) -> None:
        self.parts.clear()  # what the parent counted is the parent's

    def part(self, name: bytes) -> MeterPart:
        """That of a name."""
        return self.parts.setdefault(name, MeterPart())

    def say_once(self, plane: str) -> None:
        """Warn of the first name that has no meter of its own; never under the lock, since handlers of logs are anybody's."""
        if self.beyond and not self.has_said:
            self.has_said = True
            logger_of("shmplane.plane").warning(
                "plane %r has no meter left for %r: it and any further name are counted together as 'other'; use fewer names",
                plane,
                self.beyond[0].decode(errors="replace").strip("\0"),
            )


class PoolMeter:
    """One pool's part in the counts of all pools of its name.

    Args:
        other: the name that it is counted under when the plane has no room for more names; from then on for good.
    """

    def __init__(self, attachment: Attachment, name: bytes, other: bytes = b"other") -> None:
        self._attachment, self._name, self._other = attachment, name, other
        self._meters = attachment.registry(Meters)
        self._part = self._meters.part(name)
        self._row = -1
        self._closed = False

    def publish(self, words: Sequence[int]) -> None:
        """Say what the pool has counted so far: up to 16 levels first, then counts.

        When the plane's lock is not to be had in a moment, others see it a little later.
        """
        if not self._closed:
            self._part.note(self, words)
            attachment = self._attachment
            if attachment.try_change(moment(attachment), self._write) is NOT_HAD:
                self._write_later()
            self._meters.say_once(attachment.name)

    def publish_with_next(self, words: Sequence[int]) -> None:
        """``publish`` for who is about to take the plane's lock anyway: that says it."""
        if not self._closed:
            self._part.note(self, words)
            if self not in self._attachment.owed:
                self._attachment.owed.append(self)

    def total(self) -> list[int]:
        """The words summed over all processes, also those that have ended."""
        return self._attachment.change(self._total)

    def close(self) -> None:
        """The pool has no levels any more; its counts stay."""
        self._closed = True
        self._part.end(self)
        self._write_later()

    def _write_later(self) -> None:
        """Now, if the lock is to be had in a moment."""
        attachment = self._attachment
        if self not in attachment.owed:
            attachment.owed.append(self)
        attachment.settle(moment(attachment))

    def undo(self, tx: Transaction) -> None:
        """Say what is known by now."""
        with ignoring(PlaneFull):
            self._write(tx)

    def _write(self, tx: Transaction) -> None:
        row = self._find(tx)
        tx.metering.write(self._attachment.slot, row, self._part.total())

    def _total(self, tx: Transaction) -> list[int]:
        return tx.metering.total(self._find(tx))

    def _find(self, tx: Transaction) -> int:
        metering = tx.metering
        metering.back_rows(self._attachment.slot)
        # A row that nobody used may have gone to another name.
        if self._row < 0 or not metering.is_named(self._row, self._name):
            self._row = metering.open(self._name, self._other)
            if not metering.is_named(self._row, self._name):
                self._count_with_others()
        return self._row

    def _count_with_others(self) -> None:
        self._meters.beyond.append(self._name)
        part, self._part, self._name = self._part, self._meters.part(self._other), self._other
        part.move(self, self._part)


def totals(attachment: Attachment) -> dict[str, list[int]]:
    """The words of every meter of the plane by name; of one that begins with a zero, not those of pools."""
    return attachment.look(_copy).totals()


def _copy(tx: Transaction) -> MeterWords:
    return copy_meters(tx.manifest)
