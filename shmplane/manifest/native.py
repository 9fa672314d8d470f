"""The core of one process in one plane: where the columns lie that it stores to, said at run time.

The core (``_core.c``) does what ``Transaction`` does in its common cases, store by store, and leaves all else to it.
"""

from __future__ import annotations

from collections import deque
from struct import Struct, pack
from types import ModuleType
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..system import own
from .index import most_tombstones
from .limits import COUNTER_ROWS_BEFORE
from .reading import BlockFacts
from .space import CELL_NBYTES, CLASS_BY_LINES, SMALL_NBYTES
from .states import KIND_CODES

if TYPE_CHECKING:
    from ..core._core import Core
    from ..system import HostLock
    from .store import Manifest

__all__ = ["NO_FACTS", "facts_of_published", "make_core"]

_PUBLISHED = Struct("=9Q")
#: of a block that is not there yet: of another version than any that is
NO_FACTS = BlockFacts(-1, -1, -1, 0, True, 0, 0, 0, 0, 0, -1, 0, None, 0, 0, "bytes", -1)


def facts_of_published(published: bytes, name: bytes, kind: str, nbytes: int, frame: bytes) -> BlockFacts:
    """What ``Reader.facts`` would say of a block that the core has just put, and what it returned for that."""
    row, generation, segment, segment_nbytes, offset, version, created, name_row, moves = _PUBLISHED.unpack(published)
    end = offset + (nbytes + 7 & ~7)
    return BlockFacts(
        row, generation, segment, segment_nbytes, True, offset, nbytes, len(frame), crc32(frame), KIND_CODES[kind],
        version, created, name.decode(), nbytes, end, kind, name_row, moves=moves,
    )  # fmt: skip


def make_core(  # noqa: PLR0917 - called once, by who has all of it
    module: ModuleType,
    manifest: Manifest,
    slot: int,
    lock: HostLock,
    garbage: deque[Any],
    owed: deque[Any],
    gone: deque[Any],
    leased: dict[int, Any],
) -> Core | None:
    """The core for the process of ``slot``; None where it cannot be: it takes a mutex that is C code.

    Args:
        garbage, owed, gone: what the attachment has to give back; unless they are empty, most is left to Python.
        leased: by row, what stands for this process's leases. It has objects of one class, with slots ``key`` and ``is_lease``.
    """
    if type(lock.mutex).__module__ != "_thread":
        return None  # gevent's, whose methods may switch to another greenlet
    try:
        core: Core = module.Core(
            manifest.words,
            _layout(manifest, module.COLUMNS.split()),
            bytes(CLASS_BY_LINES[: SMALL_NBYTES // 64 + 1]),  # larger ones have a segment of their own
            pack(f"{len(CELL_NBYTES)}Q", *CELL_NBYTES),
            manifest.leases_start(0),
            manifest.leases_start(1) - manifest.leases_start(0),
            slot,
            slot + COUNTER_ROWS_BEFORE,
            most_tombstones(manifest.limits),
            lock.fd,
            lock.mutex,
            garbage,
            owed,
            gone,
            leased,
        )
    except own(OSError, ValueError):
        return None  # a kernel before 4.14, or tables that somebody wrote over
    return core


def _layout(manifest: Manifest, wanted: list[str]) -> bytes:
    """First word, words from row to row and rows, of each column as ``Table.column``."""
    tables = {type(table).__name__: table for table in manifest.tables()}
    words = list[int]()
    for table, column in (name.split(".") for name in wanted):
        found = tables[table]
        words.extend((found.start + found.offsets[column], found.row_words, found.rows))
    return pack(f"{len(words)}Q", *words)
