"""States of blocks and segments, their order of change, and the packing of name words.

Each arrow is one store, so a kill between any two leaves one of these states, from which recovery goes on.

Block:    FREE -> CREATING -> LIVE -> DEAD -> FREE         (a small block is written under the lock: FREE -> LIVE)
                  CREATING ---------> DEAD                 (given up, or its maker was killed)
Segment:  FREE -> MAKING -> USED <-> WARM                  (WARM: free, its pages kept for the next block)
                  MAKING, USED, WARM -> DOOMED -> FREE     (the file is gone before the row says FREE)
"""

from __future__ import annotations

__all__ = ["BLOCK_STATES", "KINDS", "KIND_CODES", "SEGMENT_STATES", "pack_name_word", "row_of_name_word"]

FREE, CREATING, LIVE, DEAD = range(4)
MAKING, USED, WARM, DOOMED = range(1, 5)

BLOCK_STATES = {FREE: "free", CREATING: "creating", LIVE: "live", DEAD: "dead"}
SEGMENT_STATES = {FREE: "free", MAKING: "making", USED: "used", WARM: "warm", DOOMED: "doomed"}

#: "pages" are what edits of arrays changed: they have no name, and only other blocks show them
KINDS = {1: "array", 2: "table", 3: "bytes", 4: "json", 5: "pickle", 6: "mutable", 7: "pages"}
#: how the bytes of a kind are read, where it is not by the codec of the same name
READ_AS = {"mutable": "array"}
KIND_CODES = {name: code for code, name in KINDS.items()}
PAGES = KIND_CODES["pages"]

MAX_BLOCKS = 2**24 - 2
_ROW_MASK = 2**24 - 1


def pack_name_word(block_row: int, generation: int, name_generation: int) -> int:
    """One word that differs whenever the block, its row's use, or the name row's use differs."""
    return (block_row + 1) | (generation & 0xFFFF_FFFF) << 24 | (name_generation & 0xFF) << 56


def row_of_name_word(word: int) -> int:
    """The block row of a name word; -1 for the empty word."""
    return (word & _ROW_MASK) - 1


def generation_matches(word: int, generation: int) -> bool:
    """Whether the word was packed for this use of the block's row."""
    return (word >> 24) & 0xFFFF_FFFF == generation & 0xFFFF_FFFF
