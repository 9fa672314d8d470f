"""What would be reclaimed is what is reclaimed."""

from __future__ import annotations

from pathlib import Path

import shmplane
from shmplane import observe
from shmplane.manifest import Block, Process, Segment, Snapshot, Summary


def make(*blocks: Block, processes: tuple[Process, ...] = ()) -> Snapshot:
    summary = Summary(
        name="p", root="/", created=0, temporary=False, capacity=0, used_nbytes=0, recycled_nbytes=0, recycle=0,
        blocks=len(blocks), names=0, leases=0, max_blocks=9, max_processes=9, processes=processes, dirty=False,
    )  # fmt: skip
    rows = {block.row: block for block in blocks}
    return Snapshot(summary, rows, {row: Segment(row, row + 1, "used", 4096, 0) for row in range(9)})


def block(row: int, **facts: object) -> Block:
    defaults: dict[str, object] = {
        "name": None, "version": 1, "kind": "array", "nbytes": 80, "state": "live", "created": 1, "owner": -1,
        "holders": (), "references": (), "segment": row, "offset": 0, "cell": 0, "frame_nbytes": 8, "frame_crc": 0,
        "expires": 0,
    }  # fmt: skip
    return Block(row=row, **(defaults | facts))  # type: ignore[arg-type]


ALIVE, DEAD = Process(0, 10, 0, alive=True), Process(1, 11, 0, alive=False, leases=(0, 1))


def gone(snapshot: Snapshot, now: int = 100) -> list[int]:
    return [block.row for block in observe.reclaimable(snapshot, now).blocks]


def test_names_and_the_living_keep_blocks_and_the_dead_do_not() -> None:
    blocks = (block(0, name="a"), block(1, holders=(1,)), block(2, holders=(0, 1)))
    found = observe.reclaimable(make(*blocks, processes=(ALIVE, DEAD)), 100)
    assert [row.row for row in found.blocks] == [1]
    assert (len(found.processes), found.leases, found.nbytes) == (1, 2, 4096)


def test_a_block_being_created_goes_with_its_creator() -> None:
    blocks = (block(0, state="creating", owner=0), block(1, state="creating", owner=1))
    assert gone(make(*blocks, processes=(ALIVE, DEAD))) == [1]


def test_a_block_stays_for_the_block_that_refers_to_it() -> None:
    blocks = (block(0, name="a", references=(1,)), block(1, references=(2,)), block(2), block(3))
    assert gone(make(*blocks)) == [3]


def test_a_lingering_block_stays_until_its_time_is_over() -> None:
    lingering = make(block(0, expires=50))
    assert gone(lingering, now=40) == []
    assert gone(lingering, now=60) == [0]


def test_the_linger_time_counts_from_the_death_of_the_last_holder() -> None:
    assert gone(make(block(0, expires=50, holders=(1,)), processes=(DEAD,)), now=60) == []


def test_a_slab_comes_back_only_when_nobody_else_lies_in_it() -> None:
    cells = (block(0, name="a", segment=3, cell=64), block(1, segment=3, cell=64))
    assert observe.reclaimable(make(*cells), 100).nbytes == 0
    assert observe.reclaimable(make(cells[1]), 100).nbytes == 4096


def test_what_is_foretold_is_what_gc_does(stale: str, plane_root: Path) -> None:
    before = observe.snapshot_of(stale)
    foretold = observe.reclaimable(before)
    with shmplane.Plane(stale, create=False) as plane:
        plane.gc()
    after = observe.snapshot_of(stale)
    assert before.summary.leases - after.summary.leases == foretold.leases == 2
    assert before.summary.blocks - after.summary.blocks == len(foretold.blocks) == 2
    assert before.summary.used_nbytes - after.summary.used_nbytes == foretold.nbytes > 0
    assert not observe.reclaimable(after)
    assert after.named("kept") is not None
