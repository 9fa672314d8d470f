"""The name index: a dict from names to rows that forgets names without a block, oldest first, and never a version."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmplane import PlaneCorrupt, PlaneFull
from shmplane.manifest import Limits, Manifest
from shmplane.manifest.index import NameIndex
from shmplane.manifest.states import pack_name_word
from tests.manifest.conftest import make
from tests.support.inside import limit_tombstones


@pytest.fixture
def index(manifest: Manifest) -> NameIndex:
    return NameIndex(manifest)


def publish(manifest: Manifest, row: int) -> int:
    """What a transaction does with the row of a name: the version it gets."""
    names = manifest.names
    names.version[row] += 1
    names.word[row] = pack_name_word(0, names.version[row])
    return names.version[row]


def forget(manifest: Manifest, index: NameIndex, row: int) -> None:
    manifest.names.word[row] = 0
    index.queue_tombstone(row)


def test_a_name_that_was_never_added_has_no_row(index: NameIndex) -> None:
    assert index.find(b"x") == -1


def test_a_name_keeps_its_row_after_a_delete(manifest: Manifest, index: NameIndex) -> None:
    row = index.add(b"x")
    publish(manifest, row)
    forget(manifest, index, row)
    assert index.find(b"x") == row
    assert index.read(row) == "x"
    assert index.is_at(row, b"x")
    assert not index.is_at(row, b"xy")


def test_names_of_one_bucket_are_told_apart(manifest: Manifest, index: NameIndex) -> None:
    names = [f"{number}".encode() for number in range(72)]
    rows = {name: index.add(name) for name in names}
    assert len(set(rows.values())) == len(names) > manifest.bucket_mask + 1
    assert {name: index.find(name) for name in names} == rows


def test_when_all_rows_have_a_block_the_plane_is_full(manifest: Manifest, index: NameIndex) -> None:
    for number in range(manifest.names.rows):
        publish(manifest, index.add(b"%d" % number))
    with pytest.raises(PlaneFull, match="max_blocks="):
        index.add(b"one more")
    assert index.find(b"one more") == -1
    forget(manifest, index, index.find(b"7"))
    index.add(b"one more")
    assert index.find(b"7") == -1


def test_forgotten_names_go_in_the_order_in_which_they_came_to_be_without_a_block(
    manifest: Manifest, index: NameIndex
) -> None:
    rows = [index.add(b"%d" % number) for number in range(3)]  # each without a block from the beginning
    publish(manifest, rows[0])
    limit_tombstones(index, 0)
    assert [index.add(b"new"), index.add(b"newer")] == rows[1:]
    assert [index.find(b"%d" % number) for number in range(3)] == [rows[0], -1, -1]


def test_a_name_that_was_put_again_is_not_forgotten(manifest: Manifest, index: NameIndex) -> None:
    limit_tombstones(index, 0)
    row = index.add(b"x")
    publish(manifest, row)
    forget(manifest, index, row)
    publish(manifest, row)
    assert index.add(b"y") != row
    assert index.find(b"x") == row


def test_a_chain_that_was_written_over_ends(manifest: Manifest, index: NameIndex) -> None:
    row = index.add(b"x")
    manifest.names.next[row] = row + 1
    manifest.names.hash[row] += 1
    with pytest.raises(PlaneCorrupt, match="loops"):
        index.find(b"x")


names = st.integers(0, 20).map(lambda number: b"name %d" % number)


@settings(deadline=None)
@given(acts=st.lists(st.tuples(st.sampled_from(["put", "put", "delete"]), names), max_size=120), most=st.integers(0, 5))
def test_it_is_a_dict_of_the_names_with_a_block_and_versions_never_go_back(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, bytes]], most: int
) -> None:
    manifest = make(tmp_path_factory.mktemp("index") / "manifest", Limits(max_blocks=16, max_processes=1))
    try:
        index = NameIndex(manifest)
        limit_tombstones(index, most)
        _compare_with_a_dict(manifest, index, acts)
    finally:
        manifest.close()


def _compare_with_a_dict(manifest: Manifest, index: NameIndex, acts: list[tuple[str, bytes]]) -> None:
    rows: dict[bytes, int] = {}
    published: dict[bytes, int] = {}
    words = set()
    for act, name in acts:
        if act == "put":
            row = index.find(name)
            row = index.add(name) if row < 0 else row
            version = publish(manifest, row)
            assert version > published.get(name, 0)
            assert (row, manifest.names.word[row]) not in words
            words.add((row, manifest.names.word[row]))
            rows[name], published[name] = row, version
        elif name in rows:
            forget(manifest, index, rows.pop(name))
        assert len(set(rows.values())) == len(rows)
        assert {name: index.find(name) for name in rows} == rows


def test_burying_twice_is_burying_once(manifest: Manifest, index: NameIndex) -> None:
    row = index.add(b"x")
    index.queue_tombstone(row)
    index.queue_tombstone(row)
    assert manifest.header.tombstones[0] == 1


def test_another_process_finds_what_one_added(manifest: Manifest, index: NameIndex) -> None:
    row = index.add(b"x")
    assert NameIndex(manifest).find(b"x") == row
