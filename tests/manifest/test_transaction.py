"""Transactions against a model: which blocks live, which name is at which version, what the dead leave behind."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shmplane import BlockNotFound, Conflict, PlaneFull, PlaneMismatch
from shmplane.manifest import (
    CELL_NBYTES,
    KIND_CODES,
    LIVE,
    Contents,
    Limits,
    Manifest,
    Need,
    NeedSlab,
    evict,
    evict_in_group,
    expire_all,
    open_group,
    rebuild,
    reclaim_slot,
)
from shmplane.manifest.policies import POLICIES
from tests.manifest.conftest import MIB, make
from tests.support.audit import wrong_groups
from tests.support.inside import transaction_for

LARGE = CELL_NBYTES[-1] + 1


def contents(nbytes: int) -> Contents:
    frame = b"frame"
    return Contents(KIND_CODES["bytes"], nbytes, frame, crc32(frame), nbytes, nbytes + 8 + len(frame))


def begin(tx: Any, nbytes: int) -> int:
    """A row with memory for so many bytes."""
    if nbytes > CELL_NBYTES[-1]:
        row: int = tx.begin_large(nbytes)[0]
        return row
    try:
        row = tx.begin_small(nbytes)
    except NeedSlab:
        tx.space.finish_slab(tx.space.make_slab_for(nbytes).segment_row)
        row = tx.begin_small(nbytes)
    return row


def abandon(tx: Any, row: int) -> None:
    tx.abandon(row)
    tx.abandon_small(row)


def put(
    tx: Any,
    name: bytes,
    nbytes: int = 100,
    *,
    lease: bool = False,
    references: tuple[int, ...] = (),
    group: int = 0,
) -> int:
    row = begin(tx, nbytes)
    try:
        name_row = tx.name_row(name)
    except PlaneFull:
        abandon(tx, row)
        raise
    tx.fill(row, contents(nbytes), group=group)
    tx.publish(row, name_row, lease=lease, references=references)
    return row


def put_without_a_name(tx: Any, nbytes: int = 100, linger_ns: int = 0) -> int:
    row = begin(tx, nbytes)
    tx.fill(row, contents(nbytes))
    tx.publish_anonymous(row, linger_ns)
    return row


def remove_files(tx: Any) -> None:
    for doomed in tx.space.doomed.values():
        tx.space.forget_segment(doomed.segment_row, doomed.segment_id)
    tx.space.doomed.clear()


@pytest.fixture
def tx(manifest: Manifest) -> Any:
    return transaction_for(manifest, 0)


def test_what_was_put_is_what_the_name_points_to(tx: Any) -> None:
    row = put(tx, b"x", 1000)
    facts = tx.facts(tx.current(b"x")[1])
    assert (facts.row, facts.name, facts.version, facts.body_nbytes, facts.codec) == (row, "x", 1, 1000, "bytes")
    assert facts.in_slab
    assert facts.frame_offset == facts.offset + 1000


def test_a_put_over_a_name_frees_the_old_block_unless_it_is_leased(tx: Any) -> None:
    first = put(tx, b"x")
    second = put(tx, b"x", lease=True)
    put(tx, b"x")
    assert tx.blocks.state[first] == LIVE, "its row is used again already"
    assert tx.blocks.state[second] == LIVE
    assert tx.header.live_blocks[0] == 2
    tx.release(second)
    assert tx.header.live_blocks[0] == 1


def test_versions_go_on_after_a_delete(tx: Any) -> None:
    put(tx, b"x")
    put(tx, b"x")
    tx.delete(b"x")
    with pytest.raises(BlockNotFound):
        tx.delete(b"x")
    assert tx.facts(put(tx, b"x")).version == 3


def test_an_expected_version_that_is_not_the_current_one_is_a_conflict(tx: Any) -> None:
    tx.check_version(b"x", 0)
    put(tx, b"x")
    tx.check_version(b"x", 1)
    tx.check_version(b"x", None)
    for expected in (0, 2):
        with pytest.raises(Conflict) as caught:
            tx.check_version(b"x", expected)
        assert (caught.value.expected, caught.value.found) == (expected, 1)


def test_an_edit_of_what_is_no_longer_current_is_a_conflict(tx: Any) -> None:
    row = put(tx, b"x", lease=True)
    assert tx.check_unmoved(b"x", row) == tx.current(b"x")[0]
    put(tx, b"x")
    with pytest.raises(Conflict, match="edit it again"):
        tx.check_unmoved(b"x", row)


def test_a_block_without_a_name_lives_as_long_as_its_lease(tx: Any) -> None:
    row = put_without_a_name(tx)
    assert tx.header.live_blocks[0] == 1
    tx.release(row)
    assert tx.header.live_blocks[0] == 0


def test_a_block_that_lingers_outlives_its_lease_for_that_long(tx: Any) -> None:
    row = put_without_a_name(tx, linger_ns=10**12)
    tx.release(row)
    assert expire_all(tx)[0].blocks == 0
    tx.blocks.expires[row] = 1  # long ago
    assert expire_all(tx)[0].blocks == 1
    assert tx.header.live_blocks[0] == tx.header.lingering[0] == 0


def test_a_part_lives_as_long_as_a_block_shows_it(tx: Any) -> None:
    part = put_without_a_name(tx)
    put(tx, b"x", references=(part,))
    tx.release(part)
    assert [facts.row for facts in tx.facts(tx.current(b"x")[1]).references] == [part]
    put(tx, b"y", references=(part,))
    tx.delete(b"x")
    assert tx.header.live_blocks[0] == 2
    tx.delete(b"y")
    assert tx.header.live_blocks[0] == 0


def _there(tx: Any, names: int = 4) -> list[bool]:
    return [tx.current(b"%d" % number)[1] >= 0 for number in range(names)]


def test_eviction_takes_the_oldest_that_nobody_leases(tx: Any) -> None:
    for number in range(4):
        put(tx, b"%d" % number, lease=number == 0, group=int(number < 3))
    rows = tx.blocks.rows
    assert evict(tx, Need(rows=rows - 3)).blocks == 1
    assert _there(tx) == [True, False, True, True]
    found = evict(tx, Need(rows=rows))
    assert (found.blocks, found.is_enough, found.left) == (1, False, 1)
    assert _there(tx) == [True, False, False, True]


def test_eviction_takes_the_least_recently_used(tx: Any) -> None:
    rows = [put(tx, b"%d" % number, group=1) for number in range(4)]
    tx.lease(rows[0])
    tx.release(rows[0])
    evict(tx, Need(rows=tx.blocks.rows - 3))
    assert _there(tx) == [True, False, True, True]


def test_what_is_referred_to_kept_or_without_a_name_is_not_evicted(tx: Any) -> None:
    shown, kept, deleted = (put(tx, name, group=1) for name in (b"0", b"1", b"2"))
    put(tx, b"3", references=(shown,))
    tx.keep_for(kept, 0)
    tx.lease(deleted)
    tx.delete(b"2")
    assert evict(tx, Need(rows=tx.blocks.rows)).blocks == 0
    assert _there(tx) == [True, True, False, True]
    tx.release(deleted)
    tx.release_kept(kept, 0)
    tx.delete(b"3")
    assert evict(tx, Need(rows=tx.blocks.rows)) == (2, True, 0)


def test_a_cell_of_the_class_is_room_enough(tx: Any) -> None:
    for number in range(4):
        put(tx, b"%d" % number, 1000, group=1)
    row = tx.current(b"0")[1]
    index = CELL_NBYTES.index(tx.blocks.cell[row])
    tx.manifest.classes.slab[index] = 0  # as if it were full
    found = evict(tx, Need(nbytes=1 << 40, cell=index))
    assert (found.blocks, found.is_enough) == (1, True)
    assert _there(tx) == [False, True, True, True]


def test_a_group_keeps_its_limit(tx: Any) -> None:
    group = open_group(tx, b"cache", "lru", 3000)
    assert open_group(tx, b"cache", "lru", 3000) == group
    for number in range(4):
        evict_in_group(tx, group - 1, 1024)
        put(tx, b"%d" % number, 1000, group=group)
    assert _there(tx) == [False, False, True, True]
    assert tx.manifest.groups.used_nbytes[group - 1] == 2 * tx.blocks.cell[tx.current(b"3")[1]] <= 3000
    assert tx.manifest.groups.evictions[group - 1] == 2


def test_a_group_in_use_is_opened_with_its_own_limit_and_policy(tx: Any) -> None:
    group = open_group(tx, b"cache", "s3fifo", 3000)
    assert open_group(tx, b"cache", "lru", 4000) == group
    put(tx, b"x", group=group)
    for policy, limit in (("lru", 5000), ("fifo", 4000)):
        with pytest.raises(PlaneMismatch, match="cache"):
            open_group(tx, b"cache", policy, limit)
    with pytest.raises(ValueError, match="s3fifo"):
        open_group(tx, b"cache", "mru", 4000)


def test_there_are_so_many_groups_and_no_more(tx: Any) -> None:
    for number in range(31):
        open_group(tx, b"%d" % number, "lru", 3000)
    with pytest.raises(PlaneFull, match="groups"):
        open_group(tx, b"one more", "lru", 3000)
    assert open_group(tx, b"30", "lru", 3000) == 32


NAMES = [b"a", b"b", b"c", b"d"]
names = st.sampled_from(NAMES)
slots = st.sampled_from([0, 1])
sizes = st.sampled_from([1, 100, 5000, LARGE, 3 * LARGE])


class Changing(RuleBasedStateMachine):
    """Two processes, of which one dies now and then; few rows and little capacity."""

    path: Path

    def __init__(self) -> None:
        super().__init__()
        self.manifest = make(self.path, Limits(max_blocks=16, max_processes=2), capacity=2 * MIB, recycle=MIB // 2)
        self.processes = [transaction_for(self.manifest, slot) for slot in (0, 1)]
        self.named: dict[bytes, int] = {}
        self.versions = Counter[bytes]()
        self.leased: list[set[int]] = [set(), set()]
        self.shown: dict[int, tuple[int, ...]] = {}
        self.groups: dict[int, int] = {}
        self.group_words = [0, 1, *(open_group(self.processes[0], name.encode(), name, MIB) for name in POLICIES)]

    def teardown(self) -> None:
        self.manifest.close()
        self.path.unlink()

    @property
    def living(self) -> set[int]:
        roots = {*self.named.values(), *self.leased[0], *self.leased[1]}
        return roots.union(*(self.shown.get(row, ()) for row in roots))

    @rule(slot=slots, name=names, nbytes=sizes, lease=st.booleans(), shows=st.booleans(), which=st.integers(0, 6))
    def put(self, slot: int, name: bytes, nbytes: int, lease: bool, shows: bool, which: int) -> None:
        plain = sorted(row for row in self.living if not self.shown.get(row))
        references = tuple(plain[:2]) if shows else ()
        try:
            group = self.group_words[which]
            row = put(self.processes[slot], name, nbytes, lease=lease, references=references, group=group)
        except (PlaneFull, NeedSlab):
            return
        self.named[name], self.shown[row], self.groups[row] = row, references, group
        self.versions[name] += 1
        if lease:
            self.leased[slot].add(row)

    @rule(slot=slots, nbytes=sizes)
    def put_without_a_name(self, slot: int, nbytes: int) -> None:
        try:
            row = put_without_a_name(self.processes[slot], nbytes)
        except (PlaneFull, NeedSlab):
            return
        self.leased[slot].add(row)
        self.shown[row], self.groups[row] = (), 0

    @rule(slot=slots, name=names)
    def delete(self, slot: int, name: bytes) -> None:
        if name in self.named:
            self.processes[slot].delete(name)
            del self.named[name]

    @rule(slot=slots, old=names, new=names)
    def rename(self, slot: int, old: bytes, new: bytes) -> None:
        if old in self.named and old != new:
            try:
                self.processes[slot].rename(old, new)
            except PlaneFull:
                return
            version = self.processes[slot].facts(self.named[old]).version
            assert version > self.versions[new]
            self.versions[new] = version
            self.named[new] = self.named.pop(old)

    @rule(slot=slots, name=names)
    def lease(self, slot: int, name: bytes) -> None:
        if name in self.named:
            self.processes[slot].lease(self.named[name])
            self.leased[slot].add(self.named[name])

    @rule(slot=slots, which=st.integers(0, 20))
    def release(self, slot: int, which: int) -> None:
        if self.leased[slot]:
            row = sorted(self.leased[slot])[which % len(self.leased[slot])]
            self.leased[slot].remove(row)
            self.processes[slot].release(row)

    @rule(slot=slots, which=st.integers(1, 6), nbytes=st.sampled_from([1, LARGE, 2 * MIB]))
    def evict(self, slot: int, which: int, nbytes: int) -> None:
        """What goes is in that group and in use by nobody; when it was not enough, nothing more could go."""
        tx, group = self.processes[slot], self.group_words[which]
        leased = {*self.leased[0], *self.leased[1]}
        in_use = leased.union(*(self.shown.get(row, ()) for row in (*leased, *self.named.values())))
        could = {name for name, row in self.named.items() if self.groups[row] == group and row not in in_use}
        before = {name: self.groups[row] for name, row in self.named.items()}
        for _ in range(3):
            is_enough = evict_in_group(tx, group - 1, nbytes).is_enough
        gone = {name for name in self.named if tx.current(name)[1] < 0}
        assert gone <= could, before
        assert is_enough or gone == could
        for name in gone:
            del self.named[name]

    @rule(half_made=st.booleans(), carefully=st.booleans())
    def one_dies(self, half_made: bool, carefully: bool) -> None:
        """It is reclaimed by what it held, or everything is built again: the outcome is the same."""
        if half_made:
            with contextlib.suppress(PlaneFull):
                self.processes[1].begin_large(LARGE)
        self.leased[1].clear()
        if carefully:
            reclaim_slot(self.processes[0], 1)
        else:
            rebuild(self.processes[0], {0})
        self.processes[1] = transaction_for(self.manifest, 1)

    @rule()
    def everything_derived_is_built_again(self) -> None:
        def derived() -> list[int]:
            header = self.manifest.header
            return [header.live_blocks[0], header.used_nbytes[0], header.live_names[0], header.lingering[0]]

        before = derived()
        rebuild(self.processes[0], {0, 1})
        assert derived() == before

    @invariant()
    def files_are_removed(self) -> None:
        for process in self.processes:
            remove_files(process)

    @invariant()
    def what_is_held_lives_and_nothing_else_does(self) -> None:
        states = self.manifest.blocks.state[: self.manifest.blocks_high].tolist() if self.manifest.blocks_high else []
        assert {row for row, state in enumerate(states) if state == LIVE} == self.living
        assert self.manifest.header.live_blocks[0] == len(self.living)

    @invariant()
    def queues_have_what_is_of_their_group(self) -> None:
        groups, blocks = self.manifest.groups, self.manifest.blocks
        for group in self.group_words[1:]:
            members = {row for row in self.living if self.groups[row] == group}
            assert groups.blocks[group - 1] == len(members)
            taken = sum(blocks.cell[row] or self.manifest.segments.nbytes[blocks.segment[row] - 1] for row in members)
            assert groups.used_nbytes[group - 1] == taken
            assert all(blocks.queue[row] for row in members)
        assert not wrong_groups(self.processes[0])

    @invariant()
    def names_point_to_their_blocks(self) -> None:
        for process in self.processes:
            found = {name: process.current(name)[1] for name in NAMES}
            assert found == {name: self.named.get(name, -1) for name in NAMES}
        for name, row in self.named.items():
            assert self.processes[0].facts(row).version == self.versions[name]

    @invariant()
    def blocks_show_what_they_were_published_with(self) -> None:
        for row in self.living:
            assert [facts.row for facts in self.processes[0].facts(row).references] == list(self.shown[row])


Changing.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestChanging = Changing.TestCase


@pytest.fixture(autouse=True, scope="module")
def _where_the_machine_lies(tmp_path_factory: pytest.TempPathFactory) -> None:
    Changing.path = tmp_path_factory.mktemp("changing") / "manifest"
