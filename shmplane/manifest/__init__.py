"""The shared truth of a plane: schema, states, the only writer, and recovery."""

from .coordination import NO_TICKET, Coordination, watch_bit
from .places import TEMPORARY_PREFIX, default_root, directory_of, open_files, plane_names, why_left_over
from .reading import BlockFacts, Contents, Reader, held_rows, not_found
from .recovery import reap, rebuild, release_slot, rows_of_owner
from .schema import MAX_REFERENCES
from .segments import Doomed, Place
from .space import CELL_NBYTES, SMALL_NBYTES
from .states import (
    BLOCK_STATES,
    CREATING,
    DOOMED,
    FREE,
    KIND_CODES,
    KINDS,
    LIVE,
    MAKING,
    PAGES,
    SEGMENT_STATES,
    USED,
    WARM,
)
from .store import FORMAT, Limits, Manifest, fingerprint_of_format
from .transaction import Transaction

__all__ = [
    "BLOCK_STATES",
    "CELL_NBYTES",
    "CREATING",
    "DOOMED",
    "FORMAT",
    "FREE",
    "KINDS",
    "KIND_CODES",
    "LIVE",
    "MAKING",
    "MAX_REFERENCES",
    "PAGES",
    "NO_TICKET",
    "SEGMENT_STATES",
    "TEMPORARY_PREFIX",
    "SMALL_NBYTES",
    "USED",
    "WARM",
    "BlockFacts",
    "Contents",
    "Coordination",
    "Doomed",
    "Limits",
    "Manifest",
    "Place",
    "Reader",
    "Transaction",
    "default_root",
    "directory_of",
    "fingerprint_of_format",
    "held_rows",
    "not_found",
    "open_files",
    "plane_names",
    "reap",
    "rebuild",
    "release_slot",
    "rows_of_owner",
    "watch_bit",
    "why_left_over",
]
