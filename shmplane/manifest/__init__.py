"""The shared truth of a plane: schema, states, the only writer, and recovery."""

from .coordination import NO_TICKET, Coordination, SemaphoreUse, watch_bit
from .metering import LEVEL_WORDS, Metering
from .places import TEMPORARY_PREFIX, default_root, directory_of, link_prefix, open_files, plane_names, why_left_over
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
from .store import FORMAT, MAX_METERS, METER_WORDS, Limits, Manifest, fingerprint_of_format
from .transaction import NeedSlab, Transaction

__all__ = [
    "BLOCK_STATES",
    "CELL_NBYTES",
    "CREATING",
    "DOOMED",
    "FORMAT",
    "FREE",
    "KINDS",
    "KIND_CODES",
    "LEVEL_WORDS",
    "LIVE",
    "MAKING",
    "MAX_METERS",
    "MAX_REFERENCES",
    "METER_WORDS",
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
    "NeedSlab",
    "Metering",
    "Place",
    "Reader",
    "SemaphoreUse",
    "Transaction",
    "default_root",
    "directory_of",
    "fingerprint_of_format",
    "held_rows",
    "link_prefix",
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
