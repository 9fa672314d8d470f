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
from ...system import NOT_HAD, ignoring
from ..process.patience import moment
from ..process.registry import Registry

if TYPE_CHECKING:
    from ...manifest import MeterWords, Transaction
    from ..process.attachment import Attachment

__all__ = ["MeterPart", "PoolMeter", "totals"]


class MeterPart:
    """All pools of one name in this process."""

    def __init__(self) -> None:
        self.mutex: threading.Lock = threading.Lock()
        self.readings: dict[weakref.ref[PoolMeter], list[int]] = {}
        self.ended: list[int] = [0] * METER_WORDS

    def read(self, meter: PoolMeter, words: Sequence[int]) -> list[int]:
        """The sum over all pools, of which one says something new."""
        with self.mutex:
            self.readings[weakref.ref(meter)] = [*words, *[0] * (METER_WORDS - len(words))]
            for ref in [ref for ref in self.readings if ref() is None]:
                self._end(ref)
            return [sum(column) for column in zip(self.ended, *self.readings.values(), strict=True)]

    def end(self, meter: PoolMeter) -> list[int]:
        """The sum, of which one pool will say no more."""
        with self.mutex:
            if weakref.ref(meter) in self.readings:
                self._end(weakref.ref(meter))
            return [sum(column) for column in zip(self.ended, *self.readings.values(), strict=True)]

    def total(self) -> list[int]:
        """The sum as it is known."""
        with self.mutex:
            return [sum(column) for column in zip(self.ended, *self.readings.values(), strict=True)]

    def _end(self, ref: weakref.ref[PoolMeter]) -> None:
        counts = [0] * LEVEL_WORDS + self.readings.pop(ref)[LEVEL_WORDS:]
        self.ended = [sum(pair) for pair in zip(self.ended, counts, strict=True)]


class Meters(Registry):
    """What connection pools of each name count in this process."""

    def __init__(self, _: Attachment) -> None:
        self.parts: dict[bytes, MeterPart] = {}

    def begin_again_in_child(self) -> None:
        self.parts.clear()  # what the parent counted is the parent's


class PoolMeter:
    """One pool's part in the counts of all pools of its name."""

    def __init__(self, attachment: Attachment, name: bytes) -> None:
        self._attachment, self._name = attachment, name
        self._part = attachment.registry(Meters).parts.setdefault(name, MeterPart())
        self._row = -1
        self._closed = False

    def publish(self, words: Sequence[int]) -> None:
        """Say what the pool has counted so far: up to 16 levels first, then counts.

        When the plane's lock is not to be had in a moment, others see it a little later.
        """
        if not self._closed:
            sums, attachment = self._part.read(self, words), self._attachment
            if attachment.try_change(moment(attachment), self._write, sums) is NOT_HAD:
                self._write_later()

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
            self._write(tx, self._part.total())

    def _write(self, tx: Transaction, words: list[int]) -> None:
        tx.metering.write(self._attachment.slot, self._find(tx), words)

    def _total(self, tx: Transaction) -> list[int]:
        return tx.metering.total(self._find(tx))

    def _find(self, tx: Transaction) -> int:
        metering = tx.metering
        metering.back_rows(self._attachment.slot)
        # A row that nobody used may have gone to another name.
        if self._row < 0 or not metering.is_named(self._row, self._name):
            self._row = metering.open(self._name)
        return self._row


def totals(attachment: Attachment) -> dict[str, list[int]]:
    """The words of every meter of the plane by name; of one that begins with a zero, not those of pools."""
    return attachment.look(_copy).totals()


def _copy(tx: Transaction) -> MeterWords:
    return copy_meters(tx.manifest)
