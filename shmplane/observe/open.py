"""Reading a plane from outside: its files are opened, its lock is held for a moment, and no other word of it is stored.

Rule 1. Nothing is created and nobody is joined: no slot is taken, no lease, no recovery is run.
Rule 2. The lock is waited for one second. If somebody stopped holds it, the words are read without it and the result
says ``approximate``: only single words are sure to be whole then.
Rule 3. A lock word is taken from a seat (see ``core/lockword.h``). Without the compiled core, or where all seats are taken, the
words are read until nobody had the lock meanwhile, as the counts of its turns say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple, TypeVar, TypeVarTuple

from ..core import load
from ..errors import PlaneNotFound
from ..manifest import (
    GroupUse,
    Manifest,
    MeterWords,
    Snapshot,
    SpillPlace,
    Summary,
    TableCopier,
    TableCopy,
    checked,
    copy_meters,
    default_root,
    directory_of,
    lock_turns,
    open_files,
    read_groups,
    read_snapshot,
    read_spill_place,
    read_summary,
    sit_down,
)
from ..names import check_plane_name
from ..system import NOT_HAD, HostLock, Token, check_directory
from .metrics import Counts, Metrics, read_counts, read_metrics

__all__ = ["Figures", "Reading", "figures_of", "reading", "snapshot_of", "summary_of"]

LOCK_PATIENCE_S = 1.0
_QUIET_PATIENCE_S = 0.001

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Figures(NamedTuple):
    """What a plane's processes have counted.

    Attributes:
        meters: the words of what counts under a name, as connection pools and caches do.
        groups: of blocks that are evicted within a limit of their own, as those of caches are.
        approximate: the lock was held for too long by somebody, so this was read while it may have changed.
    """

    metrics: Metrics
    meters: dict[str, list[int]]
    groups: dict[str, GroupUse]
    approximate: bool


class Reading:
    """A plane that is looked at. Made by ``reading``; not safe for use by several threads at once."""

    name: str
    root: str
    path: str
    manifest: Manifest

    def __init__(
        self, name: str, root: str, path: str, *, manifest: Manifest, token: Token, lock: HostLock | None
    ) -> None:
        self.name, self.root, self.path = name, root, path
        self.manifest, self._token, self._lock = manifest, token, lock
        #: where the plane spills to
        self.spill: SpillPlace | None = read_spill_place(path)

    def summary(self) -> Summary:
        """Totals and processes."""
        tables, approximate = self.tables(with_blocks=False)
        found = checked(self.name, read_summary, self.name, self.root, tables)
        return replace(found, approximate=approximate)

    def snapshot(self) -> Snapshot:
        """Every row in use."""
        tables, approximate = self.tables(with_blocks=True)
        found = checked(self.name, read_snapshot, self.name, self.root, tables)
        return replace(found, summary=replace(found.summary, approximate=approximate))

    def figures(self) -> Figures:
        """What was counted."""
        (counts, meters, groups), approximate = self._read(self._read_words)
        metrics = checked(self.name, read_metrics, self.manifest, counts)
        return Figures(metrics, meters.totals(), groups, approximate)

    def _read(self, operation: Callable[[*Ts], R], *args: *Ts) -> tuple[R, bool]:
        """What it returned, and whether somebody else held the lock meanwhile."""
        if self._lock is None:
            return self._read_in_quiet(operation, *args)
        found = self._lock.run(LOCK_PATIENCE_S, operation, *args)
        return (operation(*args), True) if found is NOT_HAD else (found, False)

    def _read_in_quiet(self, operation: Callable[[*Ts], R], *args: *Ts) -> tuple[R, bool]:
        """Without the lock: again and again, until nobody had it meanwhile."""
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while time.monotonic() < deadline:
            before = lock_turns(self.manifest, self._token)
            if before is not None:
                found = operation(*args)
                if lock_turns(self.manifest, self._token) == before:
                    return found, False
            time.sleep(_QUIET_PATIENCE_S)
        return operation(*args), True

    def _read_words(self) -> tuple[Counts, MeterWords, dict[str, GroupUse]]:
        manifest = self.manifest
        if manifest.header.destroyed[0]:
            raise _not_there(self.name, self.root)
        counts = checked(self.name, read_counts, manifest)
        return counts, checked(self.name, copy_meters, manifest), checked(self.name, read_groups, manifest)

    def segment_path(self, segment_id: int, is_spilled: bool = False) -> str:
        """Where a segment's file lies: beside the manifest, or where the plane spills to."""
        directory = self.spill.directory if is_spilled and self.spill is not None else self.path
        return f"{directory}/s{segment_id}"

    def tables(self, *, with_blocks: bool) -> tuple[TableCopy, bool]:
        """The tables, and whether they were copied while somebody else held the lock."""
        copier = TableCopier(self.manifest, with_blocks=with_blocks)
        return self._read(self._copy_tables, copier)

    def _copy_tables(self, copier: TableCopier) -> TableCopy:
        if self.manifest.header.destroyed[0]:
            raise _not_there(self.name, self.root)
        return copier.copy(self._token.is_held)


@contextmanager
def reading(name: str, root: str | None = None) -> Iterator[Reading]:
    """Open a plane for reading.

    Raises:
        PlaneNotFound: there is no such plane.
        PlaneCorrupt: its manifest was made by another release, or damaged.
        PlaneSecurityError: its files belong to somebody else, or can be used by others.
    """
    root = root or default_root()
    path = f"{directory_of(root)}/{check_plane_name(name)}"
    descriptors: list[int] = []
    try:
        yield _open(name, root, path, descriptors)
    finally:
        for fd in descriptors:
            with suppress(OSError):
                os.close(fd)


def _open(name: str, root: str, path: str, descriptors: list[int]) -> Reading:
    try:
        check_directory(directory_of(root))
        check_directory(path)
        token, lock_fd, manifest_fd = open_files(path, descriptors)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_there(name, root) from None
    manifest = Manifest.open(manifest_fd, f"{path}/manifest")
    word, module = None, load()
    if manifest.lock == "word" and module is not None:
        with suppress(OSError):  # a kernel that is too old for it
            word = sit_down(module, manifest, token)
    is_lockable = word is not None or manifest.lock == "ofd"
    lock = HostLock(lock_fd, lambda: "another process", word) if is_lockable else None
    return Reading(name, root, path, manifest=manifest, token=token, lock=lock)


def _not_there(name: str, root: str) -> PlaneNotFound:
    message = f"there is no plane {name!r} in {root}; `shmplane ls` lists those there are"
    return PlaneNotFound(message, name=name, root=root)


def summary_of(name: str, root: str | None = None) -> Summary:
    """Totals and processes of a plane."""
    with reading(name, root) as plane:
        return plane.summary()


def snapshot_of(name: str, root: str | None = None) -> Snapshot:
    """Every row of a plane in use."""
    with reading(name, root) as plane:
        return plane.snapshot()


def figures_of(name: str, root: str | None = None) -> Figures:
    """What the processes of a plane have counted."""
    with reading(name, root) as plane:
        return plane.figures()
