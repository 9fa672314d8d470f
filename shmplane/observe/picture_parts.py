"""What a layout shows, as plain records: what the renderers of text and HTML are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .sharing import Share

if TYPE_CHECKING:
    from ..manifest import Process

__all__ = ["Advice", "Picture", "ShownBlock", "ShownSegment"]


class Advice(NamedTuple):
    """Something that is to be seen to."""

    what: str
    cure: str


class ShownSegment(NamedTuple):
    """A segment as a bar.

    Attributes:
        used_nbytes: by blocks; the rest of the bar is empty.
        what: what is in it, as a text.
        kind: of the block that has it; "slab" where small blocks share it; "" where it is empty.
        place: of its file: "memory", or "spill" on disk.
    """

    id: int
    state: str
    nbytes: int
    used_nbytes: int
    what: str
    kind: str
    place: str


class ShownBlock(NamedTuple):
    """A row of the matrix.

    Attributes:
        label: its name; what it is when it has none.
        holders: slots of the processes that lease it.
        is_stale: a process that ended leases it, or was making it.
        place: of its own bytes: "memory", or "spill" on disk.
        shares: what it is made of, when other blocks have bytes of it.
    """

    label: str
    version: int
    kind: str
    nbytes: int
    state: str
    holders: tuple[int, ...]
    is_stale: bool
    place: str
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """What is where in a plane's memory, who leases it, and what is to be seen to.

    Attributes:
        name, root: of the plane.
        capacity, used_nbytes, recycled_nbytes, free_nbytes: used + recycled + free = capacity.
        spilled_nbytes: on disk, beside the capacity.
        segments: the largest, those in memory first, for a bar each; ``more_segments`` others have ``more_segments_nbytes``.
        blocks: stale ones first, then the largest; ``more_blocks`` are left out.
        processes: those that ended first, then by their leases; ``more_processes`` are left out.
        advice: what is to be seen to, with the cure.
        own_slot: of the process that asked; -1 when it has no part in the plane.
    """

    name: str
    root: str
    capacity: int
    used_nbytes: int
    recycled_nbytes: int
    free_nbytes: int
    spilled_nbytes: int
    segments: tuple[ShownSegment, ...]
    more_segments: int
    more_segments_nbytes: int
    blocks: tuple[ShownBlock, ...]
    more_blocks: int
    processes: tuple[Process, ...]
    more_processes: int
    advice: tuple[Advice, ...]
    own_slot: int
