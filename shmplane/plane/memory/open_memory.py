"""Shared memory that builders and buffers of this process are writing.

Whatever ends the writing lays something else over the range, and so does a fork in the child: the user may have kept an
array of it, which must go on working and never again reach shared memory.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

from ...system import Mapping, Pages, open_file, own
from .failures import translated

if TYPE_CHECKING:
    from ...manifest import Place

__all__ = ["OpenMemories", "OpenMemory"]


class OpenMemory:
    """One range that is being written. Its pages keep it; it does not keep them."""

    __slots__ = ("__weakref__", "_keeps", "_nbytes", "_pages", "place")

    def __init__(self, place: Place, pages: Pages, nbytes: int, *, keeps: object) -> None:
        self.place: Place = place
        self._keeps = keeps  #: what gives the memory back when it is garbage
        self._pages = weakref.ref(pages)
        self._nbytes = nbytes

    def make_private(self, path: str) -> None:
        """Lay the same memory over the range privately: what is kept can be written, without reaching the block."""
        pages = self._pages()
        if pages is None:
            return
        mapping = Mapping(self._nbytes, writable=True, pages=pages)
        try:
            fd = open_file(path)
        except own(OSError):
            mapping.lay_nothing()
            return
        try:
            with translated("mapping a segment privately"):
                mapping.lay(fd, mapping.nbytes, private=True)
        finally:
            os.close(fd)


class OpenMemories:
    """All that builders and buffers of this process are writing, for a fork; held weakly, without callbacks."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[weakref.ref[OpenMemory]] = set()

    def add(self, memory: OpenMemory) -> None:
        self._known.difference_update([known for known in list(self._known) if known() is None])
        self._known.add(weakref.ref(memory))

    def discard(self, memory: OpenMemory) -> None:
        self._known.discard(weakref.ref(memory))

    def living(self) -> list[OpenMemory]:
        return [alive for known in list(self._known) if (alive := known()) is not None]
