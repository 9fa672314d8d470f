"""All calls from many threads of several processes at once, with a thread switch every few bytecodes.

Every value carries its own proof (all of its elements are equal), and views that are held must keep theirs.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from tests.plane.versions import edit, faults, settle
from tests.support.forked import Forked

SECONDS = 4.0
PROCESSES, THREADS = 2, 5
ITEMS = (10, 9_000, 40_000)  #: in a slab, in a segment, and larger
HELD = 12

Act = Callable[[shmplane.Plane, random.Random, str], Any]


def _full(rnd: random.Random) -> Any:
    return np.full(rnd.choice(ITEMS), rnd.randrange(1000))


def _edit_array(plane: shmplane.Plane, rnd: random.Random, name: str) -> None:
    with edit(plane, f"array{name}") as draft:
        draft.array[...] = rnd.randrange(1000)


def _edit_table(plane: shmplane.Plane, rnd: random.Random, name: str) -> None:
    with edit(plane, f"table{name}") as draft:
        draft[f"y{rnd.randrange(3)}"] = np.full(draft.table.num_rows, rnd.randrange(1000))


def _edit_json(plane: shmplane.Plane, rnd: random.Random, name: str) -> None:
    with edit(plane, f"json{name}") as draft:
        draft.value[:] = [rnd.randrange(1000)] * len(draft.value)


def _build(plane: shmplane.Plane, rnd: random.Random, name: str) -> None:
    with plane.create(f"array{name}", (rnd.choice(ITEMS),), "i8") as builder:
        builder.array[...] = rnd.randrange(1000)


def _fill_buffer(plane: shmplane.Plane, rnd: random.Random, name: str) -> None:
    value = _full(rnd)
    with plane.buffer(value.nbytes) as buffer:
        np.frombuffer(buffer, "i8")[:] = value
        buffer.publish(f"array{name}", dtype="i8", shape=value.shape)


def _send_handle(plane: shmplane.Plane, rnd: random.Random, name: str) -> Any:
    block = plane.put(None, _full(rnd), linger=0.05)
    return pickle.loads(pickle.dumps(block)).array()


def _use_block(plane: shmplane.Plane, rnd: random.Random, name: str) -> Any:
    with plane.attach(f"{rnd.choice(['array', 'table', 'json'])}{name}") as block:
        assert block.dtype is not None or block.kind != "array"
        return block.value()


def _wait(plane: shmplane.Plane, rnd: random.Random, name: str) -> Any:
    with contextlib.suppress(TimeoutError):
        return plane.wait(f"array{name}", newer_than=rnd.choice([0, 10**9]), timeout=0.005).array()


def _take_turns(plane: shmplane.Plane, rnd: random.Random, name: str) -> None:
    with plane.lock("lock"):
        inside = plane.mutable("inside", (1,), "i8")
        inside[0] += 1
        assert inside[0] == 1
        inside[0] -= 1


ACTS: list[Act] = [
    lambda plane, rnd, name: plane.update({f"array{name}": _full(rnd)}),
    lambda plane, rnd, name: plane.update({f"table{name}": pa.table({"x": _full(rnd)})}),
    lambda plane, rnd, name: plane.update({f"json{name}": [rnd.randrange(1000)] * rnd.choice([1, 3, 5_000])}),
    lambda plane, rnd, name: plane.get(f"array{name}"),
    lambda plane, rnd, name: plane.get(f"table{name}"),
    lambda plane, rnd, name: plane.get(f"json{name}"),
    lambda plane, rnd, name: plane.get(f"table{name}", as_="pandas"),
    lambda plane, rnd, name: plane.append("rows", pa.table({"x": np.zeros(rnd.choice(ITEMS), "i8")})),
    lambda plane, rnd, name: plane.get("rows"),
    lambda plane, rnd, name: plane.delete(f"{rnd.choice(['array', 'table', 'json'])}{name}"),
    lambda plane, rnd, name: plane.rename(f"array{name}", f"array{rnd.randrange(3)}"),
    lambda plane, rnd, name: plane.get_or_put(f"once{rnd.randrange(100)}", lambda: np.full(10, 7)),
    lambda plane, rnd, name: (plane.stats(), plane.blocks(), list(plane), len(plane)),
    lambda plane, rnd, name: (plane.gc(), plane.trim(rnd.choice([0, 1 << 20]))),
    _edit_array,
    _edit_table,
    _edit_json,
    _build,
    _fill_buffer,
    _send_handle,
    _use_block,
    _wait,
    _take_turns,
]


def _check(value: Any) -> None:
    """All of its elements are equal."""
    for part in [column.to_numpy() for column in value.columns] if isinstance(value, pa.Table) else [np.asarray(value)]:
        assert not len(part) or (part == part[0]).all(), value


def _act(plane: shmplane.Plane, seed: int, failed: list[str]) -> None:
    rnd, held, deadline = random.Random(seed), list[Any](), time.monotonic() + SECONDS
    while time.monotonic() < deadline and not failed:
        try:
            with contextlib.suppress(shmplane.BlockNotFound, shmplane.Conflict, shmplane.StaleHandle):
                value = rnd.choice(ACTS)(plane, rnd, str(rnd.randrange(3)))
                if isinstance(value, (np.ndarray, pa.Table, list)):
                    held.append(value)
            if len(held) > HELD:
                _check(held.pop(rnd.randrange(HELD)))
        except BaseException:
            failed.append(traceback.format_exc())


def _be_process(plane: shmplane.Plane, number: int) -> None:
    sys.setswitchinterval(1e-6)
    failed: list[str] = []
    threads = [threading.Thread(target=_act, args=(plane, 100 * number + at, failed)) for at in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]


def test_threads_of_several_processes_make_all_calls_at_once() -> None:
    with shmplane.Plane.temporary(capacity="512MiB", max_blocks=2048) as plane:
        for process in [Forked(partial(_be_process, plane, number)) for number in range(PROCESSES)]:
            process.wait(60)
        settle(plane)
        assert not faults(plane)
        assert plane.stats().leases == 0
