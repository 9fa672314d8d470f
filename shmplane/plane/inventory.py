"""What a plane tells about itself: totals, and a row per block, read from a copy of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

# What reads the tables is loaded with the first plane: it is asked when there are no descriptors left to load it with.
from ..manifest import (
    BlockInfo,
    PlaneStatistics,
    SemaphoreInfo,
    TableCopier,
    checked,
    read_snapshot,
    read_summary,
    timestamp,
)

if TYPE_CHECKING:
    from ..manifest import Block, SemaphoreUse, Summary, TableCopy, Transaction
    from .process.attachment import Attachment

__all__ = ["block_infos", "statistics"]


def block_infos(attachment: Attachment) -> list[BlockInfo]:
    """A row per block that is not free, or only because nobody came by since its time. Cost: a tenth is under the lock."""
    snapshot = checked(attachment.name, read_snapshot, attachment.name, attachment.root, _copy(attachment, True))
    return [checked(attachment.name, _block_info, block) for block in snapshot.blocks.values() if not _is_over(block)]


def statistics(attachment: Attachment) -> PlaneStatistics:
    """Totals over all processes."""
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
    )


def _copy(attachment: Attachment, with_blocks: bool) -> TableCopy:
    return attachment.look(_copy_tables, TableCopier(attachment.manifest, with_blocks=with_blocks))


def _copy_tables(_: Transaction, copier: TableCopier) -> TableCopy:
    return copier.copy()


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
