"""Words of a live plane that somebody wrote over: each call has a right answer or a typed error, and it ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane.manifest.schema import Header
from tests.support.forked import Forked
from tests.support.inside import manifest_of

VALUES = (0, 1, 2, 3, 4, 255, 2**31, 2**32 + 1, 2**62, 2**63, 2**64 - 1)
#: what is written over when the tables are: a row in use, and the row behind the last one in use
TABLES = ["processes", "blocks", "segments", "names", "semaphores", "classes", "recycled", "buckets"]
TABLES += ["meters", "groups"]
SMALL, LARGE = b"s" * 500, np.arange(40_000.0)
TABLE = pa.table({"a": list(range(900)), "b": ["text"] * 900})
OTHER_TABLE = pa.table({"x": ["text"] * 50, "y": [1.5] * 50, "z": [b"z"] * 50})
ENDS_WITHIN_S = 20.0


class Word(NamedTuple):
    """One word of a manifest, and what is written there."""

    table: str
    column: str
    row: int
    value: int

    def __str__(self) -> str:
        return f"{self.table}.{self.column}[{self.row}] = {self.value:#x}"


def make(root: Path) -> shmplane.Plane:
    """A plane with something in every table, some of it leased and held."""
    plane = shmplane.Plane("hostile", root=root, capacity="16MiB", max_blocks=64, max_processes=4)
    # First, so that the rows which are written over are theirs: a table, what was appended to it, and both together.
    plane["table"] = TABLE
    plane.append("table", TABLE[:100]).close()  # few, so that they stay apart
    plane["other table"] = OTHER_TABLE
    plane["json"] = {"limit": 5}
    for number in range(6):
        plane[f"small/{number}"] = SMALL
    plane["large"], plane["other"] = LARGE, LARGE[:20_000]
    for number in range(3):
        plane.put(f"evictable/{number}", SMALL, evictable=True).close()
        plane.put(f"for a time/{number}", SMALL, ttl=1000.0).close()
    plane["gone"] = SMALL
    del plane["gone"], plane["other"]
    plane.lock("known").acquire()
    plane.lock("known").release()
    return plane


def calls(plane: shmplane.Plane) -> dict[str, Callable[[], Any]]:
    """Every public call, so that each ends soon when all is well."""

    def build() -> None:
        with plane.create("built", (5_000,), "f8") as builder:
            builder.array[:] = 1

    def scratch() -> None:
        with plane.buffer(30_000) as buffer:
            buffer.publish("from buffer", dtype="u1", shape=(30_000,))

    def edit() -> None:
        draft: Any
        with plane.edit("large") as draft:
            draft.array[7] = 7.0

    def edit_table() -> None:
        draft: Any
        with plane.edit("table") as draft:
            draft["a"] = draft.table["a"]
            draft.append(TABLE)

    def edit_json() -> None:
        draft: Any
        with plane.edit("json") as draft:
            draft.value["limit"] = 6

    def hold() -> None:
        lock = plane.lock("known")
        lock.acquire(timeout=0.05)
        lock.release()

    def anonymous() -> None:
        plane.put(None, SMALL, linger=0.01).close()

    def many() -> None:
        for number in range(90):
            plane[f"many/{number}"] = SMALL

    return {
        "get": lambda: check(plane.get("small/1"), SMALL),
        "get large": lambda: check_large(plane["large"]),
        "contains": lambda: "small/2" in plane,
        "len": lambda: len(plane),
        "names": lambda: plane.names(),
        "blocks": lambda: plane.blocks(),
        "stats": lambda: plane.stats(),
        "put small": lambda: plane.put("put", SMALL),
        "put evictable": lambda: plane.put("evictable/1", SMALL, evictable=True).close(),
        "put for a time": lambda: plane.put("put", SMALL, ttl=0.001).close(),
        "put large": lambda: plane.put("put", LARGE),
        "put if": lambda: plane.put("small/0", SMALL, expected_version=1),
        "anonymous": anonymous,
        "create": build,
        "buffer": scratch,
        "edit": edit,
        "get table": lambda: plane["table"],
        "describe": lambda: [(block.shape, block.schema, block.dtype) for block in [plane.attach("table")]],
        "append": lambda: plane.append("table", TABLE),
        "append rows": lambda: plane.append("table", {"a": [1], "b": ["x"]}),
        "edit table": edit_table,
        "edit json": edit_json,
        "get json": lambda: plane["json"],
        "as arrow": lambda: plane.get("large", as_="arrow"),
        "mutable": lambda: plane.mutable("shared", (10,), "u1"),
        "attach": lambda: plane.attach("small/3").close(),
        "delete": lambda: plane.delete("small/4"),
        "rename": lambda: plane.rename("small/5", "renamed"),
        "wait": lambda: plane.wait("small/1", newer_than=5, timeout=0.02),
        "lock": hold,
        "try lock": lambda: plane.lock("new").try_acquire(),
        "semaphore": lambda: plane.semaphore("two", 2).try_acquire(),
        "get_or_put": lambda: plane.get_or_put("computed", bytes, 9),
        "many": many,
        "resize": lambda: plane.resize("12MiB"),
        "trim": lambda: plane.trim(),
        "gc": lambda: plane.gc(),
    }


class AnotherValue(AssertionError):
    """What was got is not what was put."""


def check(found: Any, expected: bytes) -> None:
    if not (found is None or (isinstance(found, memoryview) and bytes(found) == expected)):
        raise AnotherValue


def check_large(found: Any) -> None:
    if not (found[8:] == LARGE[8:]).all():
        raise AnotherValue


def columns_of(plane: shmplane.Plane, table: str) -> dict[str, Any]:
    manifest = manifest_of(plane)
    found = getattr(manifest, table)
    columns = {name: column for name in found.declared if hasattr(column := getattr(found, name), "tolist")}
    if table == "blocks":
        columns |= {f"reference {number}": column for number, column in enumerate(found.reference[:3])}
    return columns


def meet(root: Path, word: Word, seed: int) -> None:
    """In a process of its own: write the word, then make every call in some order."""
    root.mkdir()
    plane = make(root)
    held = plane["large"]
    columns_of(plane, word.table)[word.column][word.row] = word.value
    order = list(calls(plane).items())
    random.Random(seed).shuffle(order)
    done = []
    for name, call in [*order, ("close", plane.close)]:
        try:
            call()
        except (shmplane.ShmplaneError, TimeoutError):
            done.append(f"{name} refused")
        except AnotherValue:
            # Rows are facts: which values they mean nobody can tell.
            if word.table == "header":
                raise
        except BaseException as error:
            raise AssertionError(f"{word}: after {done}, {name} raised {error!r}") from error
        else:
            done.append(name)
    if word.table == "header":
        check_large(held)


def words_of(table: str, rows: range) -> Iterator[Word]:
    with shmplane.Plane.temporary(max_blocks=64, max_processes=4) as plane:
        names = list(columns_of(plane, table))
    return (Word(table, name, row, value) for name in names for row in rows for value in VALUES)


def meet_all(words: list[Word], root: Path) -> None:
    wrong = []
    for seed, word in enumerate(words):
        status, said = Forked(partial(meet, root / str(seed), word, seed)).end(ENDS_WITHIN_S)
        if status != 0:
            wrong.append(f"{word}: {'it hung' if status is None else f'status {status}'} {said[-800:]}")
    assert not wrong, f"{len(wrong)} of {len(words)}:\n" + "\n".join(wrong[:12])


BOUNDS = [name for name in Header.declared if name.endswith(("_high", "_reserved"))]


@pytest.mark.parametrize("column", BOUNDS)
def test_a_counter_of_rows_that_was_written_over_hangs_nobody(plane_root: Path, column: str) -> None:
    meet_all([Word("header", column, 0, value) for value in (2**31, 2**62)], plane_root)


def test_words_of_the_header_that_were_written_over_hang_nobody(plane_root: Path) -> None:
    words = list(words_of("header", range(1)))
    meet_all(random.Random(1).sample(words, 40), plane_root)


def test_words_of_queues_that_were_written_over_hang_nobody(plane_root: Path) -> None:
    chains = {"queue", "before", "after", "rank", "group", "until", "owner"}
    words = [word for word in words_of("blocks", range(4)) if word.column in chains]
    generator = random.Random(3)
    meet_all(generator.sample(words, 10) + generator.sample(list(words_of("groups", range(1))), 10), plane_root)


def test_a_table_that_refers_to_other_rows_than_its_own_is_corrupt_and_nothing_else(plane_root: Path) -> None:
    """Whatever reads, edits or appends to it: no error of Arrow's, and no rows of another table."""
    words = [word for word in words_of("blocks", range(2, 3)) if word.column in {"reference 0", "reference 1"}]
    meet_all([word for word in words if word.value < 5], plane_root)


@pytest.mark.sweep
@pytest.mark.parametrize("table", ["header", *TABLES])
def test_no_word_that_was_written_over_hangs_anybody(plane_root: Path, table: str) -> None:
    words = list(words_of(table, range({"header": 1, "blocks": 4}.get(table, 2))))
    meet_all(words if len(words) < 700 else random.Random(2).sample(words, 700), plane_root)
