"""Appends to tables, edits of tables and trees, as scenarios. They load Arrow, so each fork takes longer than others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from tests.crashes.draft_scenarios import edit, scenario
from tests.support.crashing import World

# Tables


def rows(count: int, start: int = 0) -> pa.Table:
    return pa.table({"n": np.arange(start, start + count), "s": [f"row {start + at}" for at in range(count)]})


def stream(table: pa.Table) -> bytes:
    """What a block with this table, in these chunks, has for bytes."""
    with shmplane.Plane.temporary(capacity="16MiB") as plane:
        with plane.put("x", table) as block:
            return bytes(block.buffer())


def _chunks(*tables: pa.Table) -> pa.Table:
    return pa.concat_tables(tables)


LARGE_ROWS = rows(5_000)
MADE = stream(rows(2_000))
ONE_MORE = stream(_chunks(rows(2_000), rows(50, 2_000)))
MERGED = stream(_chunks(rows(2_000), _chunks(rows(50, 2_000), rows(50, 2_050)).combine_chunks()))
LARGE_MORE = stream(_chunks(rows(6_000), rows(3_000, 6_000)))
EDITED = stream(rows(2_000).append_column("x", pa.array(np.zeros(2_000))).drop_columns(["s"]))


def _append(count: int, start: int) -> Callable[[World, Any], Any]:
    return lambda world, context: world.plane.append("target", rows(count, start)).close()


def _arrange_table(base: int, *appended: int) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        world.plane["target"] = rows(base)
        total = base
        for count in appended:
            world.plane.append("target", rows(count, total)).close()
            total += count

    return arrange


def _edit_table(world: World, context: Any) -> None:
    with edit(world) as draft:
        draft["x"] = np.zeros(2_000)
        del draft["s"]


# Trees


def tree(first: float = 0.0) -> dict[str, Any]:
    weights = np.zeros((60, 512))
    weights[30, 0] = first
    return {"weights": weights, "layers": [(np.arange(40.0), b"raw"), rows(20)], "name": "a tree"}


def stored(value: Any) -> bytes:
    """What a block with this value has for bytes."""
    with shmplane.Plane.temporary(capacity="16MiB") as plane:
        with plane.put("x", value) as block:
            return bytes(block.buffer())


TREE, TREE_AFTER = stored(tree()), stored(tree(1.0))
SMALL_TREE, SMALL_TREE_AFTER = stored([np.zeros(3), "x"]), stored([np.array([0.0, 1.0, 0.0]), "x"])


def _put_value(value: Any) -> Callable[[World, Any], Any]:
    return lambda world, context: world.plane.put("target", value).close()


def _arrange_value(value: Any) -> Callable[[World], None]:
    def arrange(world: World) -> None:
        world.plane["target"] = value

    return arrange


def _edit_tree(world: World, context: Any) -> None:
    with edit(world) as draft:
        draft.tree["weights"][30, 0] = 1.0


def _edit_small_tree(world: World, context: Any) -> None:
    with edit(world) as draft:
        draft.tree[0][1] = 1.0


TABLE_SCENARIOS = [
    scenario("append to a table", _append(50, 2_000), MADE, ONE_MORE, arrange=_arrange_table(2_000)),
    scenario("append to a missing table", _append(2_000, 0), None, MADE),
    scenario("append and merge", _append(50, 2_050), ONE_MORE, MERGED, arrange=_arrange_table(2_000, 50)),
    scenario("append many rows", _append(3_000, 6_000), stream(rows(6_000)), LARGE_MORE, arrange=_arrange_table(6_000)),
    scenario("put a tree", _put_value(tree()), None, TREE),
    scenario("put a small tree", _put_value([np.zeros(3), "x"]), None, SMALL_TREE),
    scenario("edit a tree", _edit_tree, TREE, TREE_AFTER, arrange=_arrange_value(tree())),
    scenario(
        "edit a small tree", _edit_small_tree, SMALL_TREE, SMALL_TREE_AFTER, arrange=_arrange_value([np.zeros(3), "x"])
    ),
    scenario("edit a table", _edit_table, MADE, EDITED, arrange=_arrange_table(2_000)),
    scenario(
        "delete an appended table",
        lambda world, context: world.plane.delete("target"),
        ONE_MORE,
        None,
        arrange=_arrange_table(2_000, 50),
    ),
]
