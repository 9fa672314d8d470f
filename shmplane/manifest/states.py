"""States of blocks and segments, their order of change, and the packing of name words.

Each arrow is one store, so a kill between any two leaves one of these states, from which recovery goes on.

Block:    FREE -> CREATING -> LIVE -> DEAD -> FREE         (a small block is written under the lock: FREE -> LIVE)
                  CREATING ---------> DEAD                 (given up, or its maker was killed)
Segment:  FREE -> MAKING -> USED <-> WARM                  (WARM: free, its pages kept for the next block)
                  MAKING, USED, WARM -> DOOMED -> FREE     (the file is gone before the row says FREE)
One in the spill directory is never WARM. A block moves there by the word that says in which segment it lies.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "BLOCK_STATES",
    "KINDS",
    "KIND_CODES",
    "LockKind",
    "SEGMENT_STATES",
    "kept_for",
    "pack_name_word",
    "queue_of",
    "queued_in",
    "ring_of",
    "row_of_name_word",
    "taker_of",
]

LockKind = Literal["word", "ofd"]

FREE, CREATING, LIVE, DEAD = range(4)
MAKING, USED, WARM, DOOMED = range(1, 5)
IN_MEMORY, SPILLED = range(2)

BLOCK_STATES = {FREE: "free", CREATING: "creating", LIVE: "live", DEAD: "dead"}
SEGMENT_STATES = {FREE: "free", MAKING: "making", USED: "used", WARM: "warm", DOOMED: "doomed"}
PLACES = {IN_MEMORY: "memory", SPILLED: "spill"}

#: kinds of the plane's lock: a byte of its lock file, or the word in its header
LOCKS: tuple[LockKind, ...] = ("ofd", "word")

#: "pages" are what edits of arrays changed: they have no name, and only other blocks show them
KINDS = {1: "array", 2: "table", 3: "bytes", 4: "json", 5: "pickle", 6: "mutable", 7: "pages", 8: "tree", 9: "records"}
KIND_CODES = {name: code for code, name in KINDS.items()}
#: which codec reads the bytes of a kind
CODECS = {code: "array" if name == "mutable" else name for code, name in KINDS.items()}
PAGES = KIND_CODES["pages"]
MUTABLE = KIND_CODES["mutable"]

#: the group, row + 1, of what is put as evictable
EVICTABLE = 1

#: their policy: position in ``POLICIES``
LRU = 1

#: marks the owner of a live block: not who made it, but for whom it is kept
KEPT = 1 << 32
#: marks the owner of a live block that is in a queue: below it row + 1 of the queue, and above that who has taken it
QUEUED = 1 << 33
_TAKER_SHIFT, _QUEUE_MASK = 16, 0xFFFF
#: and that of the block that is a queue's ring
RING = 1 << 34

MAX_BLOCKS = 2**24 - 2
ROW_MASK = 2**24 - 1
VERSION_MASK = 2**40 - 1


def pack_name_word(block_row: int, version: int) -> int:
    """One word that no name row has twice.

    The versions of a name row only go up: with each publication and rename, and when the row is used for another name. So
    a word that was remembered and still stands means the same publication of the same name. Its 40 bits of the version
    come round after 10**12 publications under one row, and would have to meet the same block row there.
    """
    return (block_row + 1) | (version & VERSION_MASK) << 24


def row_of_name_word(word: int) -> int:
    """The block row of a name word; -1 for the empty word."""
    return (word & ROW_MASK) - 1


def kept_for(owner: int) -> int:
    """For the process of which slot a live block is kept, by its owner word; -1: for none."""
    return owner - KEPT - 1 if KEPT < owner < QUEUED else -1


def queued_in(queue: int, taker: int = -1) -> int:
    """The owner word of an item of a queue, by the queue's row and the slot of the process that has taken it."""
    return QUEUED | (taker + 1) << _TAKER_SHIFT | queue + 1


def ring_of(queue: int) -> int:
    """The owner word of the ring of a queue."""
    return RING | queued_in(queue)


def queue_of(owner: int) -> int:
    """The row of the queue that a block is in, or was taken from, by its owner word; -1: none."""
    return (owner & _QUEUE_MASK) - 1 if owner >= QUEUED else -1


def taker_of(owner: int) -> int:
    """The slot of the process that has taken an item; -1: it waits in its queue, or is no item."""
    return ((owner & QUEUED - 1) >> _TAKER_SHIFT) - 1 if owner >= QUEUED else -1


def version_matches(word: int, version: int) -> bool:
    """Whether the word was packed for this version."""
    return word >> 24 == version & VERSION_MASK
