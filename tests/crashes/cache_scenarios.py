"""Caches, as scenarios: what one item has is the old value or the new one, and nothing is left behind in either tier.

The cache has a plane of its own beside the world's, so that stores to both count, and what a handler calls is refused by it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from shmplane import Cache
from shmplane.cache.keys import digest_of, encode_key
from tests.support.audit import faults_of
from tests.support.crashing import Scenario, World
from tests.support.inside import attachment_of, creations_of, leases_taken, mutex_is_taken

DISK = 4 << 20
SMALL, LARGE, LARGEST = b"old" * 100, b"old" * 40_000, b"old" * 400_000

_NOTHING: Callable[[Cache], Any] = lambda cache: None  # noqa: E731


class Case(NamedTuple):
    """One call, and what key x may have after it: ``old``, ``new`` or ``gone``; before it is ``old``, or ``gone`` without one.

    Attributes:
        prepare: in the survivor, before x is set; ``arrange``: after it.
        begin: in the victim, before the points are counted.
    """

    old: bytes
    act: Callable[[Cache], Any]
    after: str
    arrange: Callable[[Cache], Any] = _NOTHING
    prepare: Callable[[Cache], Any] = _NOTHING
    begin: Callable[[Cache], Any] = lambda cache: cache.get("nothing")
    ttl: float | None = None


def _new(old: bytes) -> bytes:
    return old.replace(b"old", b"new")


def _forget_memory(cache: Cache) -> None:
    for name in cache._plane.names(cache._prefix):
        if not name.endswith("limits"):
            del cache._plane[name]


def _fill(cache: Cache) -> None:
    for number in range(30):
        cache[number] = b"f" * 130_000


def _tag_more(cache: Cache) -> None:
    for number in range(3):
        cache.set(number, b"m" * 10_000, tag="tag")


def _is_seen(cache: Cache) -> None:
    """It was found on disk once, so that the next time it is promoted."""
    cache.get("x")


def _memoized(cache: Cache) -> Any:
    @cache.memoize(tag="tag")
    def compute(number: int, factor: int = 3) -> bytes:
        return LARGE

    return compute(1)


def _stale(cache: Cache) -> None:
    cache.get_or_compute("x", lambda: _new(SMALL), ttl=None, grace=1000.0)


CASES = {
    "cache: set": Case(b"", lambda cache: cache.set("x", _new(SMALL)), "new"),
    "cache: set a small one": Case(SMALL, lambda cache: cache.set("x", _new(SMALL)), "new"),
    "cache: set a large one": Case(LARGE, lambda cache: cache.set("x", _new(LARGE)), "new"),
    "cache: set after a fork": Case(LARGE, lambda cache: cache.set("x", _new(LARGE)), "new", begin=_NOTHING),
    "cache: set past memory": Case(LARGEST, lambda cache: cache.set("x", _new(LARGEST)), "new"),
    "cache: set where others go": Case(LARGE, lambda cache: cache.set("x", _new(LARGE)), "new", prepare=_fill),
    "cache: delete": Case(LARGE, lambda cache: cache.delete("x"), "gone"),
    "cache: evict a tag": Case(LARGE, lambda cache: cache.evict("tag"), "gone", _tag_more),
    "cache: clear": Case(SMALL, lambda cache: cache.clear(), "gone", _tag_more),
    "cache: get": Case(LARGE, lambda cache: cache.get("x"), "old"),
    "cache: get from disk": Case(LARGE, lambda cache: cache.get("x"), "old", _forget_memory),
    "cache: promote a small one": Case(SMALL, lambda cache: cache.get("x"), "old", _forget_memory, begin=_is_seen),
    "cache: promote a large one": Case(LARGE, lambda cache: cache.get("x"), "old", _forget_memory, begin=_is_seen),
    "cache: compute": Case(b"", lambda cache: cache.get_or_compute("x", lambda: _new(LARGE)), "new"),
    "cache: compute what is stale": Case(SMALL, _stale, "new", ttl=0.0),
    "cache: memoize": Case(b"", _memoized, "gone"),
}


def cache_of(world: World) -> Cache:
    """The survivor's; in a victim its forked copy."""
    found: Cache | None = world.scratch.get("cache")
    if found is None:
        os.environ["SHMPLANE_ROOT"] = world.root
        found = world.scratch["cache"] = Cache(Path(world.root) / "cache", memory="1MiB", disk=DISK)
    return found


def _with_cache(act: Callable[[Cache], Any]) -> Callable[..., Any]:
    return lambda world, context=None: act(cache_of(world))


def _arranging(case: Case) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        cache = cache_of(world)
        cache.clear()
        case.prepare(cache)
        if case.old:
            cache.set("x", case.old, tag="tag", ttl=case.ttl)
        case.arrange(cache)
        cache._plane.gc()

    return arrange


def _value(cache: Cache) -> str:
    found = cache.get("x")
    if found is None:
        return "gone"
    start, count = bytes(found[:3]), found.nbytes // 3
    return start.decode() if start in {b"old", b"new"} and bytes(found) == start * count else "something else"


def _wrong_with_x(cache: Cache, case: Case, *, finished: bool) -> list[str]:
    before = "old" if case.old and case.ttl is None else "gone"
    found, allowed = _value(cache), {case.after} if finished else {before, case.after}
    return [] if found in allowed else [f"x is {found}, finished={finished}"]


def _wrong_with_the_plane(cache: Cache) -> list[str]:
    plane = cache._plane
    plane.gc()
    plane.gc()
    problems = faults_of(plane)
    stats, names = plane.stats(), plane.names()
    if stats.blocks != len(names):
        problems.append(f"there are {stats.blocks} blocks for {len(names)} names")
    if creations_of(plane):
        problems.append(f"{len(creations_of(plane))} creations are left")
    if mutex_is_taken(plane):
        problems.append("the mutex is still taken")
    if leases_taken(plane):
        problems.append(f"{leases_taken(plane)} leases are left")
    return problems


def _wrong_with_the_directory(directory: Path) -> list[str]:
    """What it has that no row accounts for."""
    problems = []
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        names = {name for (name,) in connection.execute("SELECT filename FROM Cache WHERE filename IS NOT NULL")}
        for table in ("Reservation", "Doomed"):
            ((count,),) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
            if count:
                problems.append(f"{count} rows are left in {table}")
        ((size, counted),) = connection.execute(
            "SELECT (SELECT TOTAL(size) FROM Cache), (SELECT value FROM Settings WHERE key = 'size')"
        ).fetchall()
    files = {str(path.relative_to(directory)) for path in directory.glob("v*/*")}
    if files != names:
        problems.append(f"files without a row {files - names}, rows without a file {names - files}")
    if size != counted:
        problems.append(f"rows have {size} B, counted are {counted}")
    taken = sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if not path.name.startswith("cache.db-"))
    if taken > DISK:
        problems.append(f"{taken} B on disk")
    return problems


def _does_not_work(cache: Cache) -> list[str]:
    """Each stripe's lock is asked for, and that of x's computation."""
    problems = []
    for number in range(64):
        if not cache._open().lock_of(number).try_acquire():
            problems.append(f"the lock of stripe {number} is still taken")
        else:
            cache._open().lock_of(number).release()
    for value in (b"p" * 10, b"q" * 20_000):
        cache["probe"] = value
        if bytes(cache["probe"]) != value:
            problems.append("what was set is not what is found")
        cache.delete("probe")
    making = cache._plane.lock(f"{cache._prefix}make/{digest_of(encode_key('x'))}")
    if not making.try_acquire():
        problems.append("the lock of the computation is still taken")
    else:
        making.release()
    return problems


def _inspecting(case: Case) -> Callable[[World, bool], list[str]]:
    def inspect(world: World, finished: bool) -> list[str]:
        cache = cache_of(world)
        cache._plane.gc()
        problems = _wrong_with_x(cache, case, finished=finished)
        database = cache._open().database
        database.reclaim()
        database.remove_doomed()
        problems += _wrong_with_the_directory(Path(world.root) / "cache")
        problems += _wrong_with_the_plane(cache) + _does_not_work(cache)
        if cache._users.available != 4095:
            problems.append(f"{4096 - cache._users.available} processes have the cache open")
        return [f"cache: {problem}" for problem in problems]

    return inspect


def _going_on(case: Case) -> Callable[[World, bool], list[str]]:
    """In the process that was interrupted."""

    def go_on(world: World, interrupted: bool) -> list[str]:
        cache = cache_of(world)
        problems = _wrong_with_x(cache, case, finished=not interrupted)
        problems += _wrong_with_the_plane(cache) + _does_not_work(cache)
        cache._open().database.reclaim()
        # Before the directory is looked at, by a connection of its own, whose descriptor SQLite keeps: closing it would
        # end the locks of the cache's.
        problems += _lost_descriptors(world) + _wrong_with_the_directory(Path(world.root) / "cache")
        return [f"cache, interrupted={interrupted}: {problem}" for problem in problems]

    return go_on


def _lost_descriptors(world: World) -> list[str]:
    """One is allowed: between the return of ``open(2)`` and the store of its result nothing can know its number."""
    places = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(place) for place in places if os.path.lexists(place)]
    inside = [target for target in targets if target.startswith(f"{world.root}/cache/")]
    values = [target for target in inside if "/v" in target]
    nests = [target for target in inside if "/writers/" in target]
    databases = [target for target in inside if target.endswith("cache.db")]
    lost = values + nests[1:] + databases[1:]
    return [f"open descriptors {lost}"] if len(lost) > 1 else []


def _open_and_close(world: World, context: Any) -> None:
    with Cache(Path(world.root) / "newborn", memory="1MiB", disk=DISK) as cache:
        cache["x"] = SMALL


def _look_at_newborn(world: World, finished: bool) -> list[str]:
    directory = Path(world.root) / "newborn"
    with Cache(directory, memory="1MiB", disk=DISK) as cache:
        found = cache.get("x")
        problems = [] if found is None or bytes(found) == SMALL else ["x is something else"]
        if finished and found is None:
            problems.append("x is gone")
        if cache._users.available != 4095:
            problems.append(f"{4096 - cache._users.available} processes have the cache open")
        problems += _wrong_with_the_directory(directory) + _does_not_work(cache)
        cache.clear()
    if attachment_of(cache._plane).ended is None:
        problems.append("its plane is still open")
    return problems


CACHE_SCENARIOS = [
    Scenario(
        name,
        _with_cache(case.act),
        {},
        arrange=_arranging(case),
        begin=_with_cache(case.begin),
        inspect=_inspecting(case),
        go_on=_going_on(case),
        called=lambda world: cache_of(world)._plane.stats(),
    )
    for name, case in CASES.items()
] + [Scenario("cache: open and close", _open_and_close, inspect=_look_at_newborn)]
