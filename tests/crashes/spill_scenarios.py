"""Spilling, and what is done with what was spilled, as scenarios.

The world's plane has a spill directory. Before each point what lies there is put anew, so that it lies in memory; for a put
that has to spill the plane is made small. After it the plane is as large as it was, and what each name has is looked at
wherever it lies.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from shmplane.manifest import TableCopier, choose_victims
from shmplane.plane.blocks import spilling
from tests.support.crashing import Scenario, World
from tests.support.inside import attachment_of, change, header_of, is_spilled, look, manifest_of, spill, spill_all
from tests.support.tracing import kill_this_process

SIZE = 130_000
LARGE = {f"large/{number}": b"%d" % number * SIZE for number in range(4)}
SMALL = {f"small/{number}": b"%d" % number * 2_900 for number in range(3)}
ARRAY = bytes(60 * 4096)
EDITED = b"\1" + ARRAY[1:]
TWICE = EDITED[:-1] + b"\2"
CAPACITY = 1 << 20


def _in_memory(world: World) -> None:
    """Whatever was spilled is put anew."""
    world.plane.resize(world.options["capacity"])
    for name, value in world.contents().items():
        if is_spilled(world.plane, name):
            del world.plane[name]
            world.plane[name] = value
    world.plane.gc()


def _on_disk(world: World) -> None:
    spill_all(world.plane)


def _full(world: World) -> None:
    _in_memory(world)
    world.plane.trim(0)
    world.plane.gc()
    world.plane.resize(header_of(world.plane).used_nbytes[0] + SIZE // 2)


def _large_again(world: World, finished: bool) -> list[str]:
    world.plane.resize(world.options["capacity"])
    return []


def _plain(world: World, finished: bool) -> list[str]:
    """Every name gets a plain block: what an edit left is one too many then."""
    for name in world.contents():
        world.plane[name] = b"plain"
    return []


def _spill(world: World, context: Any) -> None:
    spill(world.plane, SIZE)


def _spill_everything(world: World, context: Any) -> None:
    spill(world.plane, sum(map(len, SMALL.values())))


def _put(name: str, value: bytes) -> Callable[[World, Any], Any]:
    def operate(world: World, context: Any) -> None:
        world.plane[name] = value

    return operate


def _hold_all(world: World) -> Any:
    return [world.plane[name] for name in world.plane.names()]


def _get(world: World, context: Any) -> None:
    for name, value in LARGE.items():
        if bytes(world.plane[name]) != value:
            raise AssertionError(f"{name} has other bytes")


def _get_let_go_and_spill(world: World) -> None:
    """What is remembered is where the blocks were; then other bytes lie there."""
    _get(world, None)
    world.plane.gc()
    spill_all(world.plane)
    for number in range(4):
        world.plane["over"] = b"x" * (SIZE + number)
    del world.plane["over"]


def _delete_all(world: World, context: Any) -> None:
    for name in LARGE:
        del world.plane[name]


def _edit(at: int, value: int) -> Callable[[World, Any], Any]:
    def operate(world: World, context: Any) -> None:
        with world.plane.edit("target") as draft:
            draft.array[at] = value

    return operate


def _edited_in_memory(world: World) -> None:
    """A target that is composed of two segments."""
    world.plane["target"] = ARRAY
    _edit(0, 1)(world, None)
    world.plane.gc()


def _edited_on_disk(world: World) -> None:
    _edited_in_memory(world)
    spill_all(world.plane)


def _left_by_a_spiller(world: World) -> None:
    """A process that was killed in the middle of a copy."""
    pid = os.fork()
    if pid == 0:
        try:
            attachment = attachment_of(world.plane)
            kept = change(world.plane, spilling._begin_run, attachment)
            copier = TableCopier(manifest_of(world.plane), with_blocks=True, own=True)
            victim = choose_victims(look(world.plane, lambda _: copier.copy()), SIZE, SIZE)[0]
            creation = change(world.plane, spilling._begin_copy, attachment, victim)
            spilling._copy(attachment, victim, creation)
            del kept
        finally:
            kill_this_process()
    os.waitpid(pid, 0)


def _collect(world: World, context: Any) -> None:
    world.plane.gc()


def _some(found: dict[str, bytes]) -> bool:
    """As many as were not deleted yet, in order."""
    return list(found) == list(LARGE)[len(LARGE) - len(found) :] and all(LARGE[name] == found[name] for name in found)


def scenario(name: str, operate: Any, before: dict[str, bytes], after: Any = None, **options: Any) -> Scenario:
    return Scenario(name, operate, before, after, **{"inspect": _large_again, "arrange": _in_memory, **options})


NEW = b"n" * SIZE
SPILL_SCENARIOS = [
    scenario("spill", _spill, LARGE),
    scenario("spill a slab", _spill_everything, SMALL),
    scenario("spill what an edit left", _spill, {"target": EDITED}, arrange=_edited_in_memory, inspect=_plain),
    scenario("put and spill", _put("new", NEW), LARGE, {**LARGE, "new": NEW}, arrange=_full),
    scenario("put small and spill", _put("new", b"n" * 40_000), LARGE, {**LARGE, "new": b"n" * 40_000}, arrange=_full),
    scenario(
        "put while all is leased", _put("new", NEW), LARGE, {**LARGE, "new": NEW}, arrange=_full, begin=_hold_all
    ),
    scenario("get what was spilled", _get, LARGE, arrange=_on_disk),
    scenario("get what moved", _get, LARGE, begin=_get_let_go_and_spill),
    scenario("delete what was spilled", _delete_all, LARGE, {}, between=_some, arrange=_on_disk),
    scenario("edit what was spilled", _edit(len(ARRAY) - 1, 2), {"target": EDITED}, {"target": TWICE},
             arrange=_edited_on_disk, inspect=_plain),
    scenario("recover from a spiller that was killed", _collect, LARGE, begin=_left_by_a_spiller),
]  # fmt: skip
