"""Commits, appends and the freeing of chains, as scenarios; those of tables and trees are in ``table_scenarios``.

After each point every name of the plane is replaced by a plain block: then whatever an edit or append left, a block of
pages, a part or a version that nobody reaches, is one block too many.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import numpy as np

import shmplane
from tests.support.crashing import Scenario, World

PAGE = 4096
BASE = bytes(60 * PAGE + 100)


def with_pages(value: bytes, pages: list[int], fill: int) -> bytes:
    changed = bytearray(value)
    for page in pages:
        changed[page * PAGE] = fill
    return bytes(changed)


ONCE = with_pages(BASE, [3, 30], 1)
TWICE = with_pages(ONCE, [30, 31, 50], 2)
#: more than the room at the end of the first block of pages, so that a second one is made
MUCH = with_pages(ONCE, list(range(5, 25)), 3)
WHOLE = with_pages(BASE, list(range(60)), 4)
SMALL, SMALL_AFTER = b"s" * 500, b"t" + b"s" * 499


def edit(world: World, name: str = "target") -> Any:
    return world.plane.edit(name)


def _edit_to(value: bytes) -> Callable[[World, Any], Any]:
    def operate(world: World, context: Any) -> None:
        with edit(world) as draft:
            changed = np.frombuffer(value, np.uint8)
            at = np.flatnonzero(draft.array != changed)
            draft.array[at] = changed[at]

    return operate


def _arrange_chain(*values: bytes) -> Callable[[World], None]:
    """The target as a chain of edits, the last of which has what it is to have."""

    def arrange(world: World) -> None:
        world.plane["target"] = values[0]
        for value in values[1:]:
            _edit_to(value)(world, None)

    return arrange


def _edit_in_vain(world: World, context: Any) -> None:
    with contextlib.suppress(shmplane.Conflict), edit(world) as draft:
        draft.array[0] = 9
        draft.array[40 * PAGE] = 9
        world.plane["target"] = SMALL


def _edit_and_fail(world: World, context: Any) -> None:
    with contextlib.suppress(ZeroDivisionError), edit(world) as draft:
        draft.array[0] = 9
        raise ZeroDivisionError


def _hold_a_version(world: World) -> Any:
    return world.plane["target"]


def _hold_and_delete(world: World) -> Any:
    held = [world.plane["target"]]
    del world.plane["target"]
    return held


def _let_go(world: World, context: Any) -> None:
    context.clear()
    gc.collect()
    world.plane.gc()


# Arrays and JSON

NUMBERS, MORE_NUMBERS = np.arange(20_000).tobytes(), np.arange(20_700).tobytes()


def _append_array(world: World, context: Any) -> None:
    world.plane.append("target", np.arange(20_000, 20_700)).close()


def _arrange_array(world: World) -> None:
    world.plane["target"] = np.arange(20_000)


def _edit_json(world: World, context: Any) -> None:
    with edit(world) as draft:
        draft.value["b"] = 2


def _arrange_json(world: World) -> None:
    world.plane["target"] = {"a": 1}


def _replace_by_plain_blocks(world: World, finished: bool) -> list[str]:
    for name in world.contents():
        world.plane[name] = b"plain"
    return []


def scenario(name: str, operate: Any, before: bytes | None, after: bytes | None, **options: Any) -> Scenario:
    names = [{} if value is None else {"target": value} for value in (before, after)]
    return Scenario(name, operate, names[0], names[1], inspect=_replace_by_plain_blocks, **options)


DRAFT_SCENARIOS = [
    scenario("edit some pages", _edit_to(ONCE), BASE, ONCE),
    scenario("edit some pages, cold", _edit_to(ONCE), BASE, ONCE, cold=True),
    scenario("edit an edit", _edit_to(TWICE), ONCE, TWICE, arrange=_arrange_chain(BASE, ONCE)),
    scenario("edit more than there is room for", _edit_to(MUCH), ONCE, MUCH, arrange=_arrange_chain(BASE, ONCE)),
    scenario("edit almost everything", _edit_to(WHOLE), ONCE, WHOLE, arrange=_arrange_chain(BASE, ONCE)),
    scenario(
        "edit what is leased", _edit_to(TWICE), ONCE, TWICE, arrange=_arrange_chain(BASE, ONCE), begin=_hold_a_version
    ),
    scenario("edit a small block", _edit_to(SMALL_AFTER), SMALL, SMALL_AFTER),
    scenario("edit in vain", _edit_in_vain, BASE, SMALL),
    scenario("edit and leave by an exception", _edit_and_fail, BASE, BASE),
    scenario("edit a JSON value", _edit_json, b'{"a":1}', b'{"a":1,"b":2}', arrange=_arrange_json),
    scenario(
        "delete a chain of edits",
        lambda world, context: world.plane.delete("target"),
        MUCH,
        None,
        arrange=_arrange_chain(BASE, ONCE, MUCH),
    ),
    scenario(
        "replace a chain of edits",
        lambda world, context: world.plane.put("target", SMALL).close(),
        MUCH,
        SMALL,
        arrange=_arrange_chain(BASE, ONCE, MUCH),
    ),
    scenario(
        "end the last lease on a chain of edits",
        _let_go,
        MUCH,
        None,
        arrange=_arrange_chain(BASE, ONCE, MUCH),
        begin=_hold_and_delete,
    ),
    scenario("append to an array", _append_array, NUMBERS, MORE_NUMBERS, arrange=_arrange_array),
]
