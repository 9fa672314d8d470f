"""The core of one process in one plane: where the columns lie that it stores to, said at run time.

The core (``_core.c``) does what ``Transaction`` does in its common cases, store by store, and leaves all else to it.
"""

from __future__ import annotations

from collections import deque
from struct import Struct, pack
from types import ModuleType
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..system import HostLock, Token, own
from .index import most_tombstones
from .limits import COUNTER_ROWS_BEFORE, SEATS
from .reading import BlockFacts
from .segments import Place
from .space import CELL_NBYTES, CLASS_BY_LINES, SMALL_NBYTES
from .states import CODECS, KIND_CODES

if TYPE_CHECKING:
    from ..core._core import Core, LockWord
    from .store import Manifest

__all__ = [
    "MARK_MASK",
    "NO_FACTS",
    "facts_of_published",
    "facts_of_written",
    "is_published",
    "lock_turns",
    "make_core",
    "make_lock_word",
    "reserved",
    "sit_down",
]

_PUBLISHED = Struct("=9Q")
_RESERVED = Struct("=4Q")
#: of a block that is not there yet: of another version than any that is
NO_FACTS = BlockFacts(-1, -1, -1, 0, True, 0, 0, 0, 0, 0, -1, 0, None, 0, 0, "bytes", -1)

#: of the lock word: slot or seat + 1 of who has the lock
MARK_MASK = 0x3FFF


def facts_of_published(published: bytes, name: bytes, kind: str, nbytes: int, frame: bytes) -> BlockFacts:
    """What ``Reader.facts`` would say of a block that the core has just put, and what it returned for that."""
    row, generation, segment, segment_nbytes, offset, version, created, name_row, moves = _PUBLISHED.unpack(published)
    end = offset + (nbytes + 7 & ~7)
    return BlockFacts(
        row, generation, segment, segment_nbytes, True, offset, nbytes, len(frame), crc32(frame), KIND_CODES[kind],
        version, created, name.decode(), nbytes, end, kind, name_row, moves=moves,
    )  # fmt: skip


def facts_of_written(published: bytes, name: bytes, kind: int, nbytes: int, frame: bytes) -> BlockFacts:
    """The same of a block with a segment of its own; ``kind`` is a code."""
    row, generation, segment, segment_nbytes, offset, version, created, name_row, moves = _PUBLISHED.unpack(published)
    return BlockFacts(
        row, generation, segment, segment_nbytes, False, offset, nbytes, len(frame), crc32(frame), kind,
        version, created, name.decode(), nbytes, offset + (nbytes + 7 & ~7), CODECS[kind], name_row, moves=moves,
    )  # fmt: skip


def is_published(said: bytes) -> bool:
    """Whether the core has published a block, and not only reserved its row."""
    return len(said) == _PUBLISHED.size


def reserved(said: bytes) -> tuple[int, Place, bool]:
    """The row and the segment that the core has reserved for a block, and whether it has written that."""
    row, segment_row, segment_id, nbytes = _RESERVED.unpack_from(said)
    return row, Place(segment_row, segment_id, nbytes, fresh=False), said[_RESERVED.size :] > bytes(8)


def make_lock_word(module: ModuleType, manifest: Manifest, token: Token, slot: int) -> LockWord:
    """What stands in the lock word for the process that has the token's byte of ``slot``; ``OSError``: no kernel for it."""
    marks = manifest.limits.max_processes + SEATS
    made: LockWord = module.LockWord(manifest.words, manifest.lock_word_at, slot + 1, marks, token.fd)
    return made


def sit_down(module: ModuleType, manifest: Manifest, token: Token) -> LockWord | None:
    """The same for a process that has no slot: on a seat of the token file. None when all are taken."""
    seat = token.take_seat(manifest.limits.max_processes, SEATS)
    return None if seat is None else make_lock_word(module, manifest, token, seat)


def lock_turns(manifest: Manifest, token: Token) -> list[int] | None:
    """How often each process has had the plane's lock word; None: somebody has it now. For who cannot take it."""
    mark = manifest.header.lock_word[0] & MARK_MASK
    if mark and token.is_held(mark - 1):  # who was killed with it does no more
        return None
    counted = [manifest.counters.takes[slot + COUNTER_ROWS_BEFORE] for slot in (-1, *manifest.slots_in_use())]
    return [manifest.header.membership[0], *counted]


def make_core(  # noqa: PLR0917 - called once, by who has all of it
    module: ModuleType,
    manifest: Manifest,
    slot: int,
    lock: HostLock,
    garbage: deque[Any],
    owed: deque[Any],
    gone: deque[Any],
    leased: dict[int, Any],
    creating: dict[int, Any],
) -> Core | None:
    """The core for the process of ``slot``; None where it cannot be: it takes a mutex that is C code.

    Args:
        garbage, owed, gone: what the attachment has to give back; unless they are empty, most is left to Python.
        leased: by row, what stands for this process's leases. It has objects of one class, with slots ``key`` and ``is_lease``.
        creating: the same for blocks that it makes, with a slot ``segment_row`` as well.
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
            lock.word,
            lock.mutex,
            garbage,
            owed,
            gone,
            leased,
            creating,
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
