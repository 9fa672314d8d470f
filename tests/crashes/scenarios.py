"""Every public call that writes, as a scenario: the state before it, the call, the state after it."""

from __future__ import annotations

import gc
import itertools
import os
import time
from typing import Any

import shmplane
from shmplane.codecs import CODECS, encode
from shmplane.manifest import EVICTABLE, directory_of, open_group, places
from shmplane.plane.blocks.kept import keep_for, lease_kept, put_kept, take_kept
from shmplane.plane.blocks.putting import put
from shmplane.plane.blocks.target import Target
from tests.support.crashing import INTERRUPTED, InChild, Names, Scenario, World
from tests.support.inside import (
    attachment_of,
    header_of,
    index_of,
    kept_rows,
    let_time_pass_for,
    slot_of,
    use_name_rows_again_at,
)
from tests.support.tracing import kill_this_process

SMALL = b"a" * 5_000
OTHER = b"b" * 5_100
LARGE = b"A" * 100_000
LARGER = b"B" * 130_000


def _put(name: str | None, value: bytes, **options: Any) -> Any:
    return lambda world, context: world.plane.put(name, value, **options)


def _set(name: str, value: bytes) -> Any:
    def operate(world: World, context: Any) -> None:
        world.plane[name] = value

    return operate


def _plane(act: Any) -> Any:
    return lambda world, context: act(world.plane)


def _context(act: Any) -> Any:
    return lambda world, context: act(context)


def _warm(world: World) -> None:
    """Warm segments of both sizes."""
    for value in (LARGE, LARGER):
        world.plane["warming"] = value
    del world.plane["warming"]


def _warm_and_mapped(world: World) -> None:
    """Fill a warm segment twice, so that the third time goes through its mapping."""
    for _ in range(3):
        world.plane["warming"] = LARGE
        del world.plane["warming"]


def _build(world: World, context: Any) -> None:
    with world.plane.create("target", (len(LARGE),), "u1") as builder:
        builder.array[:] = LARGE[0]


def _build_small(world: World, context: Any) -> None:
    with world.plane.create("target", (len(SMALL),), "u1") as builder:
        builder.array[:] = SMALL[0]


class _Left(Exception):
    """What leaves a block."""


def _build_and_fail(world: World, context: Any) -> None:
    try:
        with world.plane.create("target", (len(LARGE),), "u1") as builder:
            builder.array[:] = 1
            raise _Left
    except _Left:
        pass


def _build_and_discard(world: World, context: Any) -> None:
    world.plane.create("target", (len(LARGE),), "u1").discard()


def _fill_a_buffer(world: World, context: Any) -> None:
    with world.plane.buffer(len(LARGE)) as buffer:
        memoryview(buffer)[:] = LARGE
        buffer.publish("target")


def _close_a_buffer(world: World, context: Any) -> None:
    with world.plane.buffer(len(LARGE)) as buffer:
        memoryview(buffer)[:7] = b"scratch"


def _hold(*names: str) -> Any:
    return lambda world: [world.plane[name] for name in names]


def _get_and_let_go(world: World) -> None:
    """The block is remembered, and its lease has ended."""
    world.plane["target"]
    world.plane.gc()


def _let_go(world: World, context: Any) -> None:
    context.clear()
    gc.collect()
    world.plane.gc()


def _let_go_and_look(world: World, context: Any) -> None:
    context.clear()
    world.plane.stats()


def _superseded(world: World) -> list[Any]:
    held = [world.plane["target"], world.plane["other"]]
    del world.plane["target"]
    return held


_CYCLES = itertools.count()
#: names that a new plane has room for in the first part of its tables that is backed by memory
ROOM = 64
MANY = {f"many/{index:02}": b"m" for index in range(ROOM - 7)}
MORE = {f"more/{index}": b"m" for index in range(8)}


def _put_more(world: World, context: Any) -> None:
    for name, value in MORE.items():
        world.plane[name] = value


def _some_more(found: Names) -> bool:
    """The many, and of the others as many as were put, in order."""
    more = [name for name in found if name not in MANY]
    return found == {**MANY, **MORE} or (found.keys() >= MANY.keys() and sorted(more) == list(MORE)[: len(more)])


def _join(world: World, context: Any = None) -> Any:
    return shmplane.Plane(world.name, root=world.root)


def _close(world: World, context: Any) -> None:
    context.close()


def _join_and_hold(world: World) -> Any:
    plane = shmplane.Plane(world.name, root=world.root)
    plane["target"]
    return plane


def _wait_for_child(pid: int) -> None:
    """When the child did not come to its end, the operation did not either."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == INTERRUPTED:
        raise InChild
    if status:
        kill_this_process()


def _fork(world: World, context: Any) -> None:
    pid = os.fork()
    if pid == 0:
        world.end_child()
    _wait_for_child(pid)


def _fork_and_use(world: World, context: Any) -> None:
    pid = os.fork()
    if pid == 0:
        world.plane["target"] = LARGE
        world.end_child()
    _wait_for_child(pid)


def _lock_and_unlock(world: World, context: Any) -> None:
    with world.plane.lock("the one"):
        pass


def _lock_is_free(world: World, finished: bool) -> list[str]:
    lock = world.plane.lock("the one")
    if not lock.try_acquire():
        return ["the lock of a dead process is still taken"]
    lock.release()
    return []


def _share(world: World, context: Any) -> None:
    world.plane.mutable("target", (len(LARGE),), "u1")[:] = LARGE[0]


def _shared(found: Names) -> bool:
    return list(found) == ["target"] and set(found["target"]) <= {0, LARGE[0]}


# Planes beside the world's own


def _create(world: World, context: Any) -> Any:
    return shmplane.Plane("newborn", root=world.root, **world.options)


def _look_at_newborn(world: World, finished: bool) -> list[str]:
    """It is there whole, or not at all; what was half made is removed once it is old enough."""
    problems = []
    try:
        plane = shmplane.Plane("newborn", root=world.root, create=False)
    except shmplane.PlaneNotFound:
        if finished:
            problems.append("a plane that was made is not there")
    else:
        problems += world.use(plane)
        plane.destroy()
    return problems + _leftovers(world)


def _live_and_die(world: World, context: Any) -> None:
    with shmplane.Plane.temporary(root=world.root, **world.options) as plane:
        plane["x"] = SMALL


def _live_and_die_read(world: World, context: Any) -> None:
    with shmplane.Plane.temporary(root=world.root, **world.options) as plane:
        plane["x"], plane["y"] = SMALL, LARGE
        views = plane["x"], plane["y"]
    del views


def _look_at_temporary(world: World, finished: bool) -> list[str]:
    return _leftovers(world)


def _leftovers(world: World) -> list[str]:
    module: Any = places
    real = module.time

    class Later:
        """A clock on which everything half made is old."""

        time = staticmethod(lambda: real.time() + 120)

    module.time = Later
    try:
        world.plane.gc()
    finally:
        module.time = real
    left = set(os.listdir(directory_of(world.root))) - {world.name}
    return [f"left beside the plane: {sorted(left)}"] if left else []


def _second_plane(world: World) -> None:
    world.scratch.clear()
    second = shmplane.Plane("second", root=world.root, **world.options)
    second["small"], second["large"] = SMALL, LARGE
    world.scratch["plane"], world.scratch["view"] = second, second["large"]


def _destroy_second(world: World, context: Any) -> None:
    world.scratch["plane"].destroy()


def _look_at_second(world: World, finished: bool) -> list[str]:
    second, problems = world.scratch["plane"], []
    if bytes(world.scratch["view"]) != LARGE:
        problems.append("a view of a destroyed plane changed")
    try:
        names = second.names()
    except shmplane.ClosedError:
        pass
    else:
        if finished or names != ["large", "small"] or bytes(second["small"]) != SMALL:
            problems.append(f"finished={finished}: a plane that was to be destroyed has {names}")
        second.destroy()
    world.scratch.clear()
    gc.collect()
    with shmplane.Plane("second", root=world.root, **world.options) as again:
        if len(again):
            problems.append("a plane made again is not empty")
        problems += world.use(again)
        again.destroy()
    return problems + _leftovers(world)


def _fill_up(world: World) -> None:
    """So little room that the next block needs an evictable one to go."""
    del world.plane["victim"]
    world.plane.put("victim", LARGE, evictable=True)
    world.plane.gc()
    world.plane.trim(0)
    stats = world.plane.stats()
    world.plane.resize(stats.used_nbytes + 50_000)


def _make_evictable(*names: str, group: str = "") -> Any:
    """Put what is there again, evictable; in a group of its own when that has a name."""

    def arrange(world: World) -> None:
        for name in names:
            value = bytes(world.plane[name])
            world.plane.delete(name)
            _put_in_group(name, value, group)(world, None)

    return arrange


def _put_in_group(name: str, value: bytes, policy: str) -> Any:
    def operate(world: World, context: Any) -> None:
        attachment = attachment_of(world.plane)
        group = attachment.change(open_group, policy.encode(), policy, 140_000) if policy else EVICTABLE
        put(attachment, encode(value), Target(name.encode(), group=group, cost=5))

    return operate


def _many_in_group(world: World) -> None:
    """A group that is full; what it evicts last is the target of before."""
    _make_evictable("target", group="s3fifo")(world)
    attachment = attachment_of(world.plane)
    for row in attachment.look(lambda tx: [tx.current(b"target")[1]]):
        attachment.look(lambda tx, row: tx.eviction.of(tx.blocks.group[row] - 1).hit(row), row)


def _give_room(world: World, finished: bool) -> list[str]:
    world.plane.resize(world.options["capacity"])
    return []


def _bury(world: World) -> None:
    """The next new name takes the row of "lost", which was deleted at some version."""
    index, header = index_of(world.plane), header_of(world.plane)
    use_name_rows_again_at(world.plane, 0)
    for _ in range(3):
        world.scratch["lost at"] = world.plane.put("lost", SMALL).version
    row = index.find(b"lost")
    world.plane.delete("lost")
    while header.tombstones_head[0] != row + 1:
        name = f"cycle/{next(_CYCLES)}"
        world.plane[name] = SMALL
        world.plane.delete(name)


def _put_again(world: World, finished: bool) -> list[str]:
    """Whether or not its row was taken, its versions go on above what it had."""
    found = world.plane.put("lost", SMALL).version
    world.plane.delete("lost")
    problems = [] if found > world.scratch["lost at"] else [f"a name was at {world.scratch['lost at']}, then {found}"]
    use_name_rows_again_at(world.plane, 4096)
    return problems


def _put_kept(value: bytes, *, by_whom: str = "survivor") -> Any:
    """A block that is kept for the survivor, which does not take it, or for a process that dies."""

    def operate(world: World, context: Any) -> None:
        attachment = attachment_of(world.plane)
        slot = world.scratch["slot"] if by_whom == "survivor" else slot_of(world.plane)
        lease = put_kept(attachment, encode(value), slot)
        world.scratch["kept"] = lease.facts.row, lease.facts.generation

    return operate


def _keep_what_is_there(world: World, context: Any) -> None:
    """What has a name as well, for the survivor; then for a process that dies, which looks at it."""
    attachment = attachment_of(world.plane)
    for name, slot in (("target", world.scratch["slot"]), ("other", slot_of(world.plane))):
        with world.plane.attach(name) as block:
            keep_for(attachment, block._open(), slot)
    world.scratch["seen"] = len(lease_kept(attachment))


def _know_slot(world: World) -> None:
    world.scratch["slot"] = slot_of(world.plane)


def _drop_what_is_kept(world: World, finished: bool) -> list[str]:
    """It waits for the survivor when the put was finished, and is whole; then it goes."""
    kept = kept_rows(world.plane, world.scratch["slot"])
    if finished != bool(kept) and finished:
        return [f"finished={finished}, and {kept} are kept"]
    problems = []
    for row, generation in kept:
        lease = take_kept(attachment_of(world.plane), row, generation)
        if bytes(CODECS[lease.facts.codec].present(lease.root())) not in (SMALL, LARGE):
            problems.append("what was kept is not what was put")
        del lease
    gc.collect()
    world.plane.gc()
    return problems


def _keep_for_survivor(world: World) -> None:
    _know_slot(world)
    attachment = attachment_of(world.plane)
    facts = put_kept(attachment, encode(SMALL), world.scratch["slot"]).facts
    world.scratch["kept"] = facts.row, facts.generation
    gc.collect()


def _put_what_is_over(world: World) -> None:
    for number in range(3):
        world.plane.put(f"over/{number}", SMALL if number else LARGE, ttl=1000.0).close()
        let_time_pass_for(world.plane, f"over/{number}")


def _wait_for_linger(world: World, finished: bool) -> list[str]:
    time.sleep(0.003)
    return []


SCENARIOS = [
    Scenario(
        "put under the row that another name had",
        _put("target", SMALL),
        {},
        {"target": SMALL},
        arrange=_bury,
        inspect=_put_again,
    ),
    Scenario(
        "rename to the row that another name had",
        _plane(lambda plane: plane.rename("old", "target")),
        {"old": SMALL},
        {"target": SMALL},
        arrange=_bury,
        inspect=_put_again,
    ),
    Scenario("put a small block, which needs a slab", _put("target", SMALL), {}, {"target": SMALL}, cold=True),
    Scenario("put a small block into a slab that is there", _put("target", b"x"), {}, {"target": b"x"}),
    Scenario("set a small block", _set("target", b"x"), {}, {"target": b"x"}),
    Scenario("put a large block into a fresh file", _put("target", LARGE), {}, {"target": LARGE}, cold=True),
    Scenario("put a large block into a warm file", _put("target", LARGE), {}, {"target": LARGE}, arrange=_warm),
    Scenario(
        "put a large block through a warm mapping",
        _put("target", LARGE),
        {},
        {"target": LARGE},
        begin=_warm_and_mapped,
    ),
    Scenario("set a large block", _set("target", LARGE), {}, {"target": LARGE}),
    Scenario("replace a small block", _put("target", OTHER), {"target": SMALL}, {"target": OTHER}),
    Scenario("replace a large block", _put("target", LARGER), {"target": LARGE}, {"target": LARGER}),
    Scenario("replace a small block by a large one", _set("target", LARGE), {"target": SMALL}, {"target": LARGE}),
    Scenario("replace a large block by a small one", _set("target", SMALL), {"target": LARGE}, {"target": SMALL}),
    Scenario(
        "replace a block that is leased",
        _set("target", LARGER),
        {"target": LARGE},
        {"target": LARGER},
        begin=_hold("target"),
    ),
    Scenario(
        "put if the version is the expected one",
        _put("target", LARGE, expected_version=0),
        {},
        {"target": LARGE},
    ),
    Scenario("put a small anonymous block", _put(None, SMALL, linger=0.0)),
    Scenario("put a large anonymous block", _put(None, LARGE, linger=0.0)),
    Scenario("put an anonymous block that lingers", _put(None, LARGE, linger=0.001), inspect=_wait_for_linger),
    Scenario("put a small anonymous block that lingers", _put(None, SMALL, linger=0.001), inspect=_wait_for_linger),
    Scenario(
        "put a small block that is kept for another", _put_kept(SMALL), arrange=_know_slot, inspect=_drop_what_is_kept
    ),
    Scenario(
        "put a large block that is kept for another", _put_kept(LARGE), arrange=_know_slot, inspect=_drop_what_is_kept
    ),
    Scenario("put a block that is kept for who dies", _put_kept(LARGE, by_whom="itself")),
    Scenario(
        "keep what is there for another, and for who dies",
        _keep_what_is_there,
        {"target": SMALL, "other": LARGE},
        {"target": SMALL, "other": LARGE},
        arrange=_know_slot,
        inspect=_drop_what_is_kept,
    ),
    Scenario("put for a time", _put("target", SMALL, ttl=1000.0), {}, {"target": SMALL}),
    Scenario("replace by a block for a time", _put("target", LARGE, ttl=1000.0), {"target": SMALL}, {"target": LARGE}),
    Scenario(
        "put and remove what is over in passing",
        _put("target", SMALL),
        {},
        {"target": SMALL},
        begin=_put_what_is_over,
    ),
    Scenario("build and publish", _build, {}, {"target": LARGE}),
    Scenario("build and replace", _build, {"target": LARGER}, {"target": LARGE}),
    Scenario("build a small block", _build_small, {}, {"target": SMALL}),
    Scenario("build and leave by an exception", _build_and_fail),
    Scenario("build and discard", _build_and_discard, cold=True),
    Scenario("publish a buffer", _fill_a_buffer, {}, {"target": LARGE}),
    Scenario("close a buffer", _close_a_buffer, cold=True),
    Scenario("delete a small block", _plane(lambda plane: plane.delete("target")), {"target": SMALL}, {}),
    Scenario("delete a large block", _plane(lambda plane: plane.delete("target")), {"target": LARGE}, {}),
    Scenario(
        "delete a block that is leased",
        _plane(lambda plane: plane.delete("target")),
        {"target": LARGE},
        {},
        begin=_hold("target"),
    ),
    Scenario("rename", _plane(lambda plane: plane.rename("target", "new")), {"target": LARGE}, {"new": LARGE}),
    Scenario(
        "rename over another",
        _plane(lambda plane: plane.rename("target", "new")),
        {"target": LARGE, "new": SMALL},
        {"new": LARGE},
    ),
    Scenario("get a small block", _plane(lambda plane: plane["target"]), {"target": SMALL}),
    Scenario("get a large block", _plane(lambda plane: plane["target"]), {"target": LARGE}),
    Scenario(
        "get a block again",
        _plane(lambda plane: plane["target"]),
        {"target": LARGE},
        begin=_get_and_let_go,
    ),
    Scenario("attach", _plane(lambda plane: plane.attach("target")), {"target": LARGE}),
    Scenario("attach and close", _plane(lambda plane: plane.attach("target").close()), {"target": LARGE}),
    Scenario(
        "end leases and drain",
        _let_go,
        {"target": LARGE, "other": SMALL},
        begin=_hold("target", "other"),
    ),
    Scenario(
        "end a lease and look",
        _let_go_and_look,
        {"target": LARGE},
        begin=_hold("target"),
    ),
    Scenario(
        "end the last lease on a deleted block",
        _let_go,
        {"target": LARGE, "other": SMALL},
        {"other": SMALL},
        begin=_superseded,
    ),
    Scenario("gc", _plane(lambda plane: plane.gc())),
    Scenario("trim", _plane(lambda plane: plane.trim(0)), arrange=_warm),
    Scenario("resize", _plane(lambda plane: plane.resize(4 << 20)), arrange=_warm, inspect=_give_room),
    Scenario(
        "resize until warm memory goes", _plane(lambda plane: plane.resize(500_000)), arrange=_warm, inspect=_give_room
    ),
    Scenario(
        "put what needs an evictable block to go",
        _put("target", LARGER),
        {"victim": LARGE},
        {"target": LARGER},
        between=lambda found: not found,
        arrange=_fill_up,
        inspect=_give_room,
    ),
    Scenario("put an evictable block", _put("target", SMALL, evictable=True), {}, {"target": SMALL}),
    Scenario(
        "replace an evictable block",
        _put("target", OTHER, evictable=True),
        {"target": SMALL, "other": SMALL},
        {"target": OTHER, "other": SMALL},
        arrange=_make_evictable("target", "other"),
    ),
    Scenario(
        "delete an evictable block between two",
        _plane(lambda plane: plane.delete("target")),
        {"a": SMALL, "target": SMALL, "b": SMALL},
        {"a": SMALL, "b": SMALL},
        arrange=_make_evictable("a", "target", "b"),
    ),
    Scenario(
        "end the lease on an evictable block",
        _let_go,
        {"a": SMALL, "target": SMALL, "b": SMALL},
        arrange=_make_evictable("a", "target", "b"),
        begin=_hold("target"),
    ),
    Scenario(
        "put into a group with a limit",
        _put_in_group("target", SMALL, "s3fifo"),
        {},
        {"target": SMALL},
    ),
    Scenario(
        "put into a group that is full",
        _put_in_group("new", LARGE, "s3fifo"),
        {"target": LARGE},
        {"new": LARGE},
        between=lambda found: not found,
        arrange=_make_evictable("target", group="s3fifo"),
    ),
    Scenario(
        "put into a group in which what was hit moves on",
        _put_in_group("new", LARGE, "s3fifo"),
        {"target": LARGE},
        {"new": LARGE},
        between=lambda found: not found,
        arrange=_many_in_group,
    ),
    Scenario("put until the tables grow", _put_more, MANY, {**MANY, **MORE}, between=_some_more, fresh=True),
    Scenario("make a mutable array", _share, {}, {"target": LARGE}, between=_shared),
    Scenario("lock and unlock", _lock_and_unlock, inspect=_lock_is_free),
    Scenario("join", _join, bare=True),
    Scenario("close", _close, {"target": LARGE}, begin=_join, bare=True),
    Scenario("close with leases", _close, {"target": LARGE}, begin=_join_and_hold, bare=True),
    Scenario("create a plane", _create, bare=True, inspect=_look_at_newborn),
    Scenario("create and close a temporary plane", _live_and_die, bare=True, inspect=_look_at_temporary),
    Scenario("close a temporary plane that is read", _live_and_die_read, bare=True, inspect=_look_at_temporary),
    Scenario("destroy", _destroy_second, arrange=_second_plane, inspect=_look_at_second),
    Scenario("fork", _fork),
    Scenario("fork with a lease, and the child puts", _fork_and_use, {}, {"target": LARGE}, begin=_hold("kept/large")),
]


def _die_at_work(world: World, context: Any) -> None:
    """Outside of any transaction, with a lease, a lock, a block that is being built and one that lingers."""
    held = [world.plane["target"], world.plane.lock("the one"), world.plane.create("building", (len(LARGE),), "u1")]
    held[1].acquire()
    del world.plane["target"]
    held.append(world.plane.put(None, SMALL, linger=0.001))
    kill_this_process()


DIES_AT_WORK = Scenario(
    "die with leases, a lock, and a block that is being built",
    _die_at_work,
    {"target": LARGE},
    {},
    inspect=_wait_for_linger,
)

#: after which calls, killed at a few of their stores, recovery is killed as well
RECOVERED = [
    "put a small block, which needs a slab",
    "put a large block into a fresh file",
    "replace a small block",
    "replace a large block",
    "put an anonymous block that lingers",
    "rename over another",
    "delete a large block",
    "end the last lease on a deleted block",
    "trim",
    "fork",
]

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
