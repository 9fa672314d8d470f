"""Values that are written while they are read, as scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from tests.support.crashing import Scenario, World

SCHEMA = pa.schema([("n", pa.int64())])


def batches(count: int, rows: int) -> Iterator[pa.RecordBatch]:
    for at in range(count):
        yield pa.record_batch([pa.array(np.arange(at * rows, (at + 1) * rows))], schema=SCHEMA)


def reader(count: int, rows: int) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(SCHEMA, batches(count, rows))


def streamed(count: int, rows: int) -> bytes:
    """What a block that was read from so many batches has for bytes."""
    with shmplane.Plane.temporary(capacity="16MiB") as plane, plane.put("x", reader(count, rows)) as block:
        return bytes(block.buffer())


def _stream(count: int, rows: int) -> Callable[[World, Any], Any]:
    def operate(world: World, context: Any) -> None:
        world.plane["target"] = reader(count, rows)

    return operate


OLD = b"o" * 90_000
LOADING_SCENARIOS = [
    Scenario("stream a table", _stream(5, 60_000), {}, {"target": streamed(5, 60_000)}, cold=True),
    Scenario("stream over a block", _stream(2, 60_000), {"target": OLD}, {"target": streamed(2, 60_000)}),
    Scenario("stream a small table", _stream(3, 20), {}, {"target": streamed(3, 20)}),
]
