"""The manifest's file: made, opened again, grown, and refused when it is not what this release makes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shmplane import PlaneCorrupt, PlaneFull
from shmplane.manifest import Limits, Manifest, store
from shmplane.manifest.schema import Header
from shmplane.tables import WORD_NBYTES
from tests.manifest.conftest import CAPACITY, LIMITS, MIB


@pytest.fixture
def path(manifest: Manifest, tmp_path: Path) -> Path:
    return tmp_path / "manifest"


def opened(path: Path) -> Manifest:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return Manifest.open(fd, str(path))
    except BaseException:
        os.close(fd)
        raise


def test_a_manifest_says_what_it_was_made_with(manifest: Manifest, path: Path) -> None:
    manifest.processes.pid[1] = 77
    again = opened(path)
    assert again.limits == LIMITS
    assert (again.header.capacity[0], again.header.recycle[0]) == (CAPACITY, MIB)
    assert again.header.instance[0] == manifest.header.instance[0] != 0
    assert again.processes.pid[1] == 77
    again.close()


@pytest.mark.parametrize("limits", [Limits(0, 1), Limits(2**24 - 1, 1), Limits(1, 0), Limits(1, 4097)], ids=str)
def test_limits_that_cannot_be_are_refused(limits: Limits) -> None:
    with pytest.raises(ValueError, match="max_"):
        limits.check()


def test_a_file_takes_memory_only_for_what_is_used(manifest: Manifest, path: Path) -> None:
    before = path.stat().st_blocks * 512
    assert before < manifest.nbytes
    manifest.reserve(manifest.blocks, LIMITS.max_blocks)
    manifest.reserve_lease_row(0, LIMITS.max_blocks)
    assert before < path.stat().st_blocks * 512


DAMAGE: dict[str, tuple[Callable[[Manifest], None], str]] = {
    "magic": (lambda found: found.header.magic.__setitem__(0, 1), "magic"),
    "format": (lambda found: found.header.format.__setitem__(0, 99), "format"),
    "fingerprint": (lambda found: found.header.fingerprint.__setitem__(0, 1), "fingerprint"),
    "no blocks": (lambda found: found.header.max_blocks.__setitem__(0, 0), "max_blocks"),
    "more blocks than there are": (lambda found: found.header.max_blocks.__setitem__(0, 2**20), "should have"),
    "more rows than there are": (lambda found: found.header.blocks_high.__setitem__(0, 2**40), "Blocks"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_header_is_refused(
    manifest: Manifest, path: Path, damage: Callable[[Manifest], None], said: str
) -> None:
    damage(manifest)
    with pytest.raises(PlaneCorrupt, match=said) as caught:
        opened(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("nbytes", [0, Header.row_words * WORD_NBYTES - 1, Header.row_words * WORD_NBYTES, 4096])
def test_a_file_that_was_cut_is_refused(manifest: Manifest, path: Path, nbytes: int) -> None:
    os.truncate(path, nbytes)
    with pytest.raises(PlaneCorrupt, match=r"Remove|remove"):
        opened(path)


def test_no_counter_of_rows_is_believed_when_it_was_written_over(manifest: Manifest) -> None:
    manifest.check_counters()
    for counter in ("blocks_high", "segments_high", "names_high", "semaphores_high", "meters_high"):
        word = getattr(manifest.header, counter)
        word[0] = 2**50
        with pytest.raises(PlaneCorrupt, match="wrote over it"):
            getattr(manifest, counter)
        word[0] = 0


def test_when_the_file_system_is_full_so_is_the_plane(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(fd: int, nbytes: int, *, offset: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "allocate", allocate)
    with pytest.raises(PlaneFull, match="No space left") as caught:
        manifest.reserve(manifest.blocks, 10)
    assert manifest.was_refused(caught.value)


def test_only_the_very_error_that_was_registered_was_refused(manifest: Manifest) -> None:
    registered, other = PlaneFull("x", needed=1), PlaneFull("x", needed=1)
    manifest.refuse(registered)
    assert not manifest.was_refused(other)
    manifest.refuse(registered)
    assert manifest.was_refused(registered)
    assert not manifest.was_refused(registered), "asked once"


def test_rows_of_processes_do_not_run_into_each_other(manifest: Manifest) -> None:
    """Leases, permits, tickets and readings: a row each, for every process."""
    rows: list[Callable[[int], list[object]]] = [
        lambda slot: [manifest.lease_row(slot)],
        lambda slot: list(manifest.permit_rows(slot)),
        lambda slot: [manifest.reading_row(slot)],
    ]
    for slot in range(LIMITS.max_processes):
        manifest.reserve_lease_row(slot, LIMITS.max_blocks)
        manifest.reserve_permit_rows(slot)
        manifest.reserve_reading_rows(slot)
    columns = [column for slot in range(LIMITS.max_processes) for of in rows for column in of(slot)]
    for number, column in enumerate(columns, 1):
        for index in range(len(column)):  # type: ignore[arg-type]
            column[index] = number  # type: ignore[index]
    assert [set(column.tolist()) for column in columns] == [{number} for number in range(1, len(columns) + 1)]  # type: ignore[attr-defined]
