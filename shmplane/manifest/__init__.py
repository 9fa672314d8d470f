"""The shared truth of a plane: schema, states, the only writer, and recovery."""

from .allocation import Doomed, Place
from .coordination import Coordination, watch_bit
from .recovery import reap, rebuild, release_slot, rows_of_owner
from .space import CELL_NBYTES, SMALL_NBYTES
from .states import BLOCK_STATES, CREATING, DOOMED, FREE, KIND_CODES, KINDS, LIVE, MAKING, SEGMENT_STATES, USED, WARM
from .store import FORMAT, Limits, Manifest
from .transaction import BlockFacts, Contents, Transaction, held_rows, not_found

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
    "SEGMENT_STATES",
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
    "Transaction",
    "held_rows",
    "not_found",
    "reap",
    "rebuild",
    "release_slot",
    "rows_of_owner",
    "watch_bit",
]
