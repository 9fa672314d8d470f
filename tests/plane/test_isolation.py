"""Snapshot isolation: readers never see half of a change, and a view never changes, while many write.

Every version carries its own proof: each page of an array holds the number of the edit that made the version and what it
follows from it, so a page of another version, or half of a commit, does not add up.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane.system import PAGE_NBYTES
from tests.plane.versions import edit, faults, settle
from tests.support.inside import tables_of
from tests.support.processes import Child

WRITERS = READERS = 8
#: with sixteen processes on all cores, whatever else a run does; a sweep has the long one
SECONDS = 2.0
LONG = [pytest.param(SECONDS, id="short"), pytest.param(20.0, id="long", marks=pytest.mark.sweep)]
PAGES = 48
ITEMS = PAGE_NBYTES // 8
#: an edit touches every third page, another third each time
STRIDE = 3


def write_arrays(plane: shmplane.Plane, who: int, seconds: float) -> int:
    """Commit until the time is over; how many came through."""
    deadline, done = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        with contextlib.suppress(shmplane.Conflict), edit(plane, "x") as draft:
            pages = draft.array.reshape(PAGES, ITEMS)
            number = pages[:, 0].max() + 1
            part = pages[int(number) % STRIDE :: STRIDE]
            part[:, 0] = number
            part[:, 1:] = who
            part[:, -1] = number * 7 + who
            draft.commit()
            done += 1
    return done


def check_array(found: Any) -> float:
    """The number of the version, when all of its pages belong together."""
    pages = found.reshape(PAGES, ITEMS)
    newest = pages[:, 0].max()
    for part in range(STRIDE):
        numbers, rest = pages[part::STRIDE, 0], pages[part::STRIDE]
        assert (numbers == numbers[0]).all(), "half of a commit"
        assert (rest[:, 1:-1] == rest[0, 1]).all(), "pages of two writers"
        assert (rest[:, -1] == numbers[0] * 7 + rest[0, 1]).all()
        assert numbers[0] == 0 or newest - numbers[0] < STRIDE, "a page of an older version"
    return float(newest)


def read_arrays(plane: shmplane.Plane, _: int, seconds: float) -> int:
    """Read until the time is over, and hold some versions all along."""
    deadline, seen, last = time.monotonic() + seconds, 0, 0.0
    held: list[tuple[bytes, int]] = []
    while time.monotonic() < deadline:
        with plane.attach("x") as block:
            view = block.array()
            number = check_array(view)
            assert number == block.version - 1, "the version is another than its contents"
            assert number >= last, "versions go back"
        last, seen = number, seen + 1
        if seen % 20 == 1 and len(held) < 12:
            held.append((view, crc32(view)))  # type: ignore[arg-type]
        assert all(crc32(view) == checksum for view, checksum in held), "a view changed"
    return seen


def append_rows(plane: shmplane.Plane, who: int, seconds: float) -> int:
    deadline, done = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        count = 1 + done % 40
        plane.append("t", {"who": [who] * count, "batch": [done] * count, "size": [count] * count})
        done += 1
    return done


def check_table(found: pa.Table) -> None:
    """Every batch is there whole and once, those of a writer in their order."""
    columns = [found[name].to_numpy() for name in ("who", "batch", "size")]
    who, batch, size = columns
    for writer in range(WRITERS):
        mine = who == writer
        numbers, counts = np.unique(batch[mine], return_counts=True)
        assert numbers.tolist() == list(range(len(numbers))), "a batch is missing"
        assert (counts == size[mine][np.searchsorted(batch[mine], numbers)]).all(), "half of a batch, or one twice"
        assert (np.diff(batch[mine]) >= 0).all(), "batches out of order"


def read_tables(plane: shmplane.Plane, _: int, seconds: float) -> int:
    deadline, seen, last = time.monotonic() + seconds, 0, 0
    held: list[tuple[pa.Table, int]] = []
    while time.monotonic() < deadline:
        found = plane["t"]
        check_table(found)
        assert found.num_rows >= last, "rows went away"
        last, seen = found.num_rows, seen + 1
        if seen % 10 == 1 and len(held) < 8:
            held.append((found, crc32(found["batch"].to_numpy())))
        assert all(crc32(table["batch"].to_numpy()) == checksum for table, checksum in held), "a view changed"
    return seen


@pytest.mark.parametrize("seconds", LONG)
@pytest.mark.parametrize("kind", ["array", "table"])
def test_eight_writers_and_eight_readers_see_whole_versions_only(
    plane: shmplane.Plane, kind: str, seconds: float
) -> None:
    write, read = (write_arrays, read_arrays) if kind == "array" else (append_rows, read_tables)
    if kind == "array":
        plane["x"] = np.zeros(PAGES * ITEMS)
    else:
        empty = pa.array([], "i8")
        plane["t"] = pa.table({"who": empty, "batch": empty, "size": empty})
    with contextlib.ExitStack() as stack:
        writers, readers = (
            [
                stack.enter_context(Child(do, plane, who, seconds, method="fork", deadline=seconds + 90))
                for who in range(count)
            ]
            for do, count in ((write, WRITERS), (read, READERS))
        )
        written = [child.result() for child in writers]
        seen = [child.result() for child in readers]
    assert min(seen) > 0
    assert sum(written) > 0
    if kind == "array":
        assert check_array(plane["x"]) == sum(written) == plane.attach("x").version - 1
    else:
        check_table(plane["t"])
        counts = [
            int(plane["t"]["batch"].to_numpy()[plane["t"]["who"].to_numpy() == who].max()) + 1 for who in range(WRITERS)
        ]
        assert counts == written
        assert plane.attach("t").version == sum(written) + 1
    assert not faults(plane)
    assert settle(plane).processes == 1


def churn_names(plane: shmplane.Plane, who: int, seconds: float) -> int:
    """Names come, go, and make room for others: more than the plane keeps of deleted ones."""
    deadline, done = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        names = [f"{who}/{done + number}" for number in range(64)]
        for name in names:
            plane[name] = b"x"
        for name in names:
            del plane[name]
        done += len(names)
    return done


def look_for_names(plane: shmplane.Plane, _: int, seconds: float) -> int:
    deadline, done = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        for number in range(32):
            assert f"stays/{number}" in plane
            assert f"never/{number}" not in plane
        done += 1
    return done


@pytest.mark.parametrize("seconds", LONG)
def test_names_are_found_without_the_lock_while_others_come_and_go(plane: shmplane.Plane, seconds: float) -> None:
    for number in range(32):
        plane[f"stays/{number}"] = b"x"
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(Child(churn_names, plane, who, seconds, method="fork", deadline=seconds + 90))
            for who in range(3)
        ]
        readers = [
            stack.enter_context(Child(look_for_names, plane, who, seconds, method="fork", deadline=seconds + 90))
            for who in range(3)
        ]
        assert sum(child.result() for child in writers) > 0
        assert sum(child.result() for child in readers) > 0
    assert len(plane) == 32


def test_a_name_that_a_killed_rename_left_behind_is_not_seen(plane: shmplane.Plane) -> None:
    """Its process died between the new word and the old one: recovery, which comes with the lock, empties the old."""
    plane["old"] = b"value"
    tx = tables_of(plane)
    word = tx.names.word[tx.current(b"old")[0]]
    plane.rename("old", "new")
    tx.names.word[tx.index.find(b"old")] = word
    tx.header.dirty[0] = 2

    assert "old" not in plane
    assert plane.names() == ["new"]
