"""Caches under death, at every store to the plane and at bytecodes: the old value or the new one, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shmplane import Cache
from tests.cache.test_cache import forget_memory, on_disk
from tests.crashes.sweep import NEVER, points_of
from tests.support.processes import run_in_child
from tests.support.tracing import STORES, Bytecodes, wrap_columns
from tests.support.waiting import HANG_S, deadline

DISK = 8 << 20
SMALL, LARGE = b"old" * 100, b"old" * 40_000


class Case(NamedTuple):
    """One call, and what key x may have after it: ``old``, ``new`` or ``gone``."""

    old: bytes
    act: Callable[[Cache], Any]
    after: str
    arrange: Callable[[Cache], Any] = lambda cache: None


def _new(old: bytes) -> bytes:
    return old.replace(b"old", b"new")


def _ready_to_promote(cache: Cache) -> None:
    forget_memory(cache)
    cache.get("x")


def _full(cache: Cache) -> None:
    for number in range(60):
        cache[number] = b"f" * 130_000


CASES = {
    "set a small one": Case(SMALL, lambda cache: cache.set("x", _new(SMALL)), "new"),
    "set a large one": Case(LARGE, lambda cache: cache.set("x", _new(LARGE)), "new"),
    "set where others have to go": Case(LARGE, lambda cache: cache.set("x", _new(LARGE)), "new", _full),
    "delete": Case(LARGE, lambda cache: cache.delete("x"), "gone"),
    "evict a tag": Case(LARGE, lambda cache: cache.evict("tag"), "gone"),
    "promote": Case(LARGE, lambda cache: cache.get("x"), "old", _ready_to_promote),
    "compute": Case(b"", lambda cache: cache.get_or_compute("x", lambda: LARGE), "old"),
}


def _value(cache: Cache, case: Case) -> str:
    found = cache.get("x")
    old = case.old or LARGE
    return "gone" if found is None else {old: "old", _new(old): "new"}.get(bytes(found), "something else")


def _left_behind(cache: Cache, directory: Path) -> list[str]:
    """What the directory has that no row accounts for."""
    database = cache._open().database
    database.reclaim()
    database.remove_doomed()
    problems = []
    with sqlite3.connect(directory / "cache.db") as connection:
        names = {name for (name,) in connection.execute("SELECT filename FROM Cache WHERE filename IS NOT NULL")}
        for table in ("Reservation", "Doomed"):
            ((count,),) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
            if count:
                problems.append(f"{count} rows are left in {table}")
        ((size, counted),) = connection.execute(
            "SELECT (SELECT TOTAL(size) FROM Cache), (SELECT value FROM Settings WHERE key = 'size')"
        ).fetchall()
    connection.close()
    files = {str(path.relative_to(directory)) for path in directory.glob("v*/*")}
    if files != names:
        problems.append(f"files without a row {files - names}, rows without a file {names - files}")
    if size != counted:
        problems.append(f"rows have {size} B, counted are {counted}")
    if on_disk(directory) > DISK:
        problems.append(f"{on_disk(directory)} B on disk")
    return problems


def _victim(cache: Cache, case: Case, trigger: Any, point: int, report: int) -> None:
    code = 70
    try:
        trigger.arm(point)
        try:
            case.act(cache)
        finally:
            count = trigger.disarm()
        os.write(report, count.to_bytes(8, "little"))
        code = 0
    finally:
        os._exit(code)


def _die_at(cache: Cache, case: Case, trigger: Any, point: int) -> int | None:
    """Points of the whole call, or None when it was killed."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        _victim(cache, case, trigger, point, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert os.waitstatus_to_exitcode(status) == 0, f"the victim ended with {status} at point {point}"
    return int.from_bytes(said, "little")


def sweep(directory: str, kind: str, name: str, sample: int) -> tuple[int, int, list[str]]:
    warnings.filterwarnings("ignore", message="This process .* is multi-threaded", category=DeprecationWarning)
    if kind == "stores":
        wrap_columns()
    trigger: Any = STORES if kind == "stores" else Bytecodes()
    case, problems, kills = CASES[name], [], 0
    with Cache(directory, memory="4MiB", disk=DISK) as cache:
        count = 0
        for point in [NEVER, NEVER, *range(sample)]:  # the first one meets what is cold
            if point != NEVER:
                point = points_of(count, sample)[point % min(sample, count)]
            cache.clear()
            case.arrange(cache)
            if case.old:
                cache.set("x", case.old, tag="tag")
                if case.arrange is _ready_to_promote:
                    case.arrange(cache)
            with deadline(f"{name} at {point}", HANG_S * 4):
                points = _die_at(cache, case, trigger, point)
                count = points if point == NEVER and points else count
                kills += points is None
                found, allowed = _value(cache, case), {"old" if case.old else "gone", case.after}
                if found not in ({case.after} if points is not None else allowed):
                    problems.append(f"{name} at {point}: x is {found}")
                problems += [f"{name} at {point}: {problem}" for problem in _left_behind(cache, Path(directory))]
                cache.set("probe", point % 7)
                if cache.get("probe") != point % 7:
                    problems.append(f"{name} at {point}: it does not work any more")
    return count, kills, problems


@pytest.mark.parametrize(("kind", "sample"), [("stores", 8), ("bytecodes", 12)])
@pytest.mark.parametrize("name", CASES)
def test_death_leaves_the_old_value_or_the_new_one_and_nothing_else(
    tmp_path: Path, name: str, kind: str, sample: int
) -> None:
    count, kills, problems = run_in_child(sweep, str(tmp_path / "cache"), kind, name, sample, deadline=250)
    assert not problems
    assert kills >= 0.8 * min(sample, count)
