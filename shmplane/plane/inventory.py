"""What a plane tells about itself: totals, and a row per block, read from a copy of its tables.

The totals of a small plane are read where they are: that takes less time under the lock than to make the copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import observe

# What reads the tables is loaded with the first plane: it is asked when there are no descriptors left to load it with.
from ..manifest import (
    USED,
    WARM,
    BlockInfo,
    PlaneStatistics,
    SemaphoreInfo,
    TableCopier,
    checked,
    held_rows,
    read_snapshot,
    read_summary,
    timestamp,
)
from ..observe import Health, plane_checks
from ..system import NotHad

if TYPE_CHECKING:
    from ..manifest import Block, SemaphoreUse, Summary, TableCopy, Transaction
    from ..observe import Counts, Layout, Metrics
    from .process.attachment import Attachment

__all__ = ["block_infos", "health", "layout", "metrics", "statistics", "try_drawing", "try_layout"]

#: of so many block rows all can be looked at under the lock
_FEW_BLOCKS = 1024


def block_infos(attachment: Attachment) -> list[BlockInfo]:
    """A row per block that is not free, or only because nobody came by since its time. Cost: a tenth is under the lock."""
    snapshot = checked(attachment.name, read_snapshot, attachment.name, attachment.root, _copy(attachment, True))
    return [checked(attachment.name, _block_info, block) for block in snapshot.blocks.values() if not _is_over(block)]


def health(attachment: Attachment) -> Health:
    """Whether anything is to be done about the plane. Blocks are copied only when a process has ended without giving back."""
    return checked(attachment.name, _health, attachment)


def _health(attachment: Attachment) -> Health:
    snapshot = read_snapshot(attachment.name, attachment.root, _copy(attachment, False, attachment.token.is_held))
    return Health.of(plane_checks(snapshot))


def metrics(attachment: Attachment) -> Metrics:
    """What was counted, and how the plane is now. Cost: most of it without the lock."""
    counts = checked(attachment.name, attachment.look, _counts)
    return checked(attachment.name, observe.read_metrics, attachment.manifest, counts)


def _counts(tx: Transaction) -> Counts:
    return observe.read_counts(tx.manifest)


def layout(attachment: Attachment) -> Layout:
    """What is where. Cost: the copy of the tables is made under the lock, all else after it."""
    return _read_layout(attachment, attachment.look(_copy_with_tokens, attachment, _copier(attachment)))


def try_layout(attachment: Attachment, seconds: float) -> Layout | None:
    """The same; None when the lock is not to be had in that time."""
    tables = attachment.try_look(seconds, _copy_with_tokens, attachment, _copier(attachment))
    return None if isinstance(tables, NotHad) else _read_layout(attachment, tables)


def try_drawing(attachment: Attachment) -> dict[str, str] | None:
    """The layout as a notebook shows it; None when the lock is not to be had just now."""
    layout = try_layout(attachment, 0.1)
    return None if layout is None else layout._repr_mimebundle_()


def _copier(attachment: Attachment) -> TableCopier:
    return TableCopier(attachment.manifest, with_blocks=True, own=True)


def _copy_with_tokens(_: Transaction, attachment: Attachment, copier: TableCopier) -> TableCopy:
    return copier.copy(attachment.token.is_held)


def _read_layout(attachment: Attachment, tables: TableCopy) -> Layout:
    name, path = attachment.name, attachment.memory.path
    return checked(
        name, observe.read_layout, name, attachment.root, tables, segment_path=path, own_slot=attachment.slot
    )


def statistics(attachment: Attachment) -> PlaneStatistics:
    """Totals over all processes."""
    engine = "python" if attachment.core is None else "core"
    small = attachment.look(_small_statistics, engine)
    if small is not None:
        return small
    summary = checked(attachment.name, read_summary, attachment.name, attachment.root, _copy(attachment, False))
    semaphores = tuple(_semaphore_info(summary, use) for use in summary.semaphores)
    return PlaneStatistics(
        capacity=summary.capacity,
        used_nbytes=summary.used_nbytes,
        recycled_nbytes=summary.recycled_nbytes,
        free_nbytes=summary.free_nbytes,
        blocks=summary.blocks,
        segments=summary.segments,
        processes=len(summary.processes),
        leases=summary.leases,
        permits=sum(semaphore.held for semaphore in semaphores),
        semaphores=semaphores,
        spilled_nbytes=summary.spilled_nbytes,
        engine=engine,
        lock=attachment.manifest.lock,
    )


def _small_statistics(tx: Transaction, engine: str) -> PlaneStatistics | None:
    """The totals of a small plane in which no semaphore is in use; None of any other."""
    header, manifest = tx.header, tx.manifest
    if manifest.blocks_high > _FEW_BLOCKS or not tx.coordination.is_idle:
        return None
    rows = tx.lease_rows()
    capacity, used, recycled = header.capacity[0], header.used_nbytes[0], header.recycled_nbytes[0]
    return PlaneStatistics(
        capacity=capacity,
        used_nbytes=used,
        recycled_nbytes=recycled,
        free_nbytes=capacity - used - recycled,
        blocks=header.live_blocks[0],
        segments=sum(state in (USED, WARM) for state in tx.segments.state[: manifest.segments_high].tolist()),
        processes=len(rows),
        leases=sum(len(held_rows(tx, slot)) for slot, _ in rows),
        spilled_nbytes=header.spilled_nbytes[0],
        engine=engine,
        lock=manifest.lock,
    )


def _copy(attachment: Attachment, with_blocks: bool, is_alive: Callable[[int], bool] | None = None) -> TableCopy:
    return attachment.look(_copy_tables, TableCopier(attachment.manifest, with_blocks=with_blocks, own=True), is_alive)


def _copy_tables(_: Transaction, copier: TableCopier, is_alive: Callable[[int], bool] | None) -> TableCopy:
    return copier.copy() if is_alive is None else copier.copy(is_alive)


def _is_over(block: Block) -> bool:
    return block.until > 0 and block.name is None and not block.holders


def _block_info(block: Block) -> BlockInfo:
    return BlockInfo(
        name=block.name,
        version=block.version,
        kind=block.kind,
        nbytes=block.nbytes,
        state=block.state,
        leases=len(block.holders),
        holders=block.holders,
        created=timestamp(block.created),
        place=block.place,
    )


def _semaphore_info(summary: Summary, use: SemaphoreUse) -> SemaphoreInfo:
    pids = {process.slot: process.pid for process in summary.processes}
    return SemaphoreInfo(
        kind=use.kind,
        name=use.name,
        permits=use.permits,
        held=sum(use.holders.values()),
        holders=tuple(pids[slot] for slot in use.holders),
        waiters=tuple(pids[slot] for slot in use.waiting),
    )
