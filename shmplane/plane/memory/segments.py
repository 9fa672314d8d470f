"""This process's mappings of segments, kept while they are likely to be used again.

Readers map read-only. Writable mappings are for the library alone: slabs it puts small blocks into, and warm segments
it fills again; no view is ever built on one. A mapping in the cache is not a claim: its pages may be punched out by
another process, which hurts nobody, since only who leases a block reads it. Segment ids are never used again, so a stale
entry can never be taken for another segment.

A segment in the spill directory is a file like any other, but that it has all its room on the disk before it is written.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ClosedError, PlaneCorrupt, PlaneFull, ShmplaneError
from ...system import (
    Mapping,
    Window,
    allocate,
    backed_nbytes,
    create_file,
    enter_pages,
    exists,
    ignoring,
    link_file,
    move_pages,
    open_file,
    own,
    populate,
    punch,
    remove_entry,
    set_size,
    unlink_quietly,
    unlink_second_name,
    write_all,
)
from .failures import fail, translate, translated

if TYPE_CHECKING:
    from ...manifest import BlockFacts, Contents, Doomed, Place
    from .spill_directory import SpillDirectory

__all__ = ["SegmentMemory"]

_MOST_MAPPINGS = 512
_BACKED_AHEAD_NBYTES = 32 * 1024
_MOST_ROOMS = 16


class _Room(NamedTuple):
    """A block of pages, and from where to where it surely has memory behind it."""

    mapping: Mapping
    start: int
    stop: int


class SegmentMemory:
    """The segments of one plane, as files and as mappings."""

    def __init__(self, directory: str, link_prefix: str, is_destroyed: Callable[[], bool]) -> None:
        self._directory = directory
        self.plane: str = os.path.basename(directory)
        self.opened_as: int = os.geteuid()
        self._is_destroyed = is_destroyed
        self._link_prefix = link_prefix
        self._readable: OrderedDict[int, Mapping] = OrderedDict()
        self._writable: OrderedDict[int, Mapping] = OrderedDict()
        self._rooms: OrderedDict[int, _Room] = OrderedDict()
        #: what else is kept of mappings, to be forgotten with them
        self.kept: list[OrderedDict[Any, Any]] = [self._rooms]
        #: the same for what keeps mappings in C
        self.forget_slabs: Callable[[], None] = _nothing
        self._mutex = threading.RLock()
        #: where segments lie for which memory has no room; None: nowhere
        self.spill: SpillDirectory | None = None
        #: whether this process may only read: a forked child without a part
        self.barred: bool = False

    def path(self, segment_id: int, is_spilled: bool = False) -> str:
        if not is_spilled:
            return f"{self._directory}/s{segment_id}"
        if self.spill is None:
            raise PlaneCorrupt(
                f"segment {segment_id} of the plane in {self._directory} was spilled, and the plane has no spill "
                f"directory: its tables, or its file 'spill', were written over. Remove the plane.",
                path=self._directory,
            )
        return self.spill.path(segment_id)

    def _link(self, segment_id: int) -> str:
        """Where the standard library finds an exported segment."""
        return f"{self._link_prefix}{segment_id}"

    def make_link(self, segment_id: int) -> str:
        """Make, or find, the second name of an exported segment; ``PlaneSecurityError`` when another file has it."""
        path, link = self.path(segment_id), self._link(segment_id)
        with self.translated(f"making the name {link}"):
            try:
                link_file(path, link)
            except own(FileNotFoundError):
                self._check_alive()
                raise
        return link

    def remove_link(self, segment_id: int) -> None:
        """Remove that name."""
        unlink_second_name(self.path(segment_id), self._link(segment_id))

    def readable(self, facts: BlockFacts) -> Mapping:
        """A read-only mapping of the block's segment; the caller leases the block."""
        found = self._readable.get(facts.segment_id)
        if found is not None:
            return found
        return self._map(self._readable, facts.segment_id, facts.segment_nbytes, is_spilled=facts.is_spilled)

    def written(self, place: Place) -> Mapping:
        """A read-only mapping of a segment that a block was written to, and that nobody else knows yet."""
        return self._map(self._readable, place.segment_id, place.nbytes, is_spilled=place.is_spilled)

    def writable(self, segment_id: int, nbytes: int) -> Mapping:
        """A writable mapping of a slab, or of a segment that a block is being written to."""
        found = self._writable.get(segment_id)
        return found if found is not None else self._map(self._writable, segment_id, nbytes, writable=True)

    def room(self, segment_id: int, nbytes: int, *, start: int, stop: int) -> Mapping:
        """A writable mapping of a block of pages, in which what lies between has memory behind it.

        Not one of the others: what is filled through those has memory behind every page.
        """
        found = self._rooms.get(segment_id)
        if found is None or not found.start <= start <= stop <= found.stop:
            last = min(nbytes, stop + _BACKED_AHEAD_NBYTES)
            fd = self.open_segment(segment_id, nbytes, writable=True)
            try:
                with self.translated(f"reserving {last - start:,} B"):
                    allocate(fd, last - start, offset=start)
                    mapping = Mapping(nbytes, writable=True) if found is None else found.mapping
                    if found is None:
                        mapping.lay(fd, mapping.nbytes)
            finally:
                os.close(fd)
            found = self._rooms[segment_id] = _Room(mapping, start, last)
            with self._mutex:
                if len(self._rooms) > _MOST_ROOMS:
                    self._rooms.popitem(last=False)
        return found.mapping

    def _map(self, cache: OrderedDict[int, Mapping], segment_id: int, nbytes: int, **how: bool) -> Mapping:
        try:
            made = self._map_file(segment_id, nbytes, **how)
        except own(PlaneFull):
            # Out of mappings: let go of those that nobody uses and try once more.
            self.drop()
            made = self._map_file(segment_id, nbytes, **how)
        with self._mutex:
            cache[segment_id] = made
            while len(cache) > _MOST_MAPPINGS:
                cache.popitem(last=False)
        return made

    def _map_file(self, segment_id: int, nbytes: int, *, writable: bool = False, is_spilled: bool = False) -> Mapping:
        fd = self.open_segment(segment_id, nbytes, writable=writable, is_spilled=is_spilled)
        try:
            mapping = Mapping(nbytes, writable=writable)
            mapping.lay(fd, mapping.nbytes)
            return mapping
        except own(OSError, PlaneFull) as error:
            fail(error, "mapping a segment", plane=self.plane, opened_as=self.opened_as)
        finally:
            os.close(fd)

    def open_segment(self, segment_id: int, nbytes: int, *, writable: bool = False, is_spilled: bool = False) -> int:
        """The file of a segment that a block lies in, which has at least the bytes that its row says."""
        if writable:
            self._check_part()
        path = self.path(segment_id, is_spilled)
        try:
            fd = open_file(path, writable=writable)
        except own(FileNotFoundError):
            self._check_alive()
            raise PlaneCorrupt(
                f"the segment {path} is gone although a block lies in it: somebody removed the file. "
                f"Delete the block, or the plane.",
                path=path,
            ) from None
        except own(OSError) as error:
            raise translate(error, f"opening the segment {path}", plane=self.plane, opened_as=self.opened_as) from error
        try:
            size = os.fstat(fd).st_size
            # A file shorter than its mapping is SIGBUS for whoever reads behind its end.
            if size < nbytes:
                raise PlaneCorrupt(
                    f"the segment {path} has {size:,} B and should have {nbytes:,}: somebody cut it. Delete its blocks.",
                    path=path,
                )
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_alive(self) -> None:
        if self._is_destroyed() or not exists(f"{self._directory}/manifest"):
            raise ClosedError(f"the plane in {self._directory} was destroyed meanwhile", path=self._directory)

    def window(self, facts: BlockFacts, nbytes: int, *, lease: object) -> Window:
        """The first bytes of a block that ``lease`` is one on, on pages of their own."""
        fd = self.open_segment(facts.segment_id, facts.segment_nbytes, is_spilled=facts.is_spilled)
        try:
            with self.translated("mapping a block"):
                return Window.open(fd, offset=facts.offset, nbytes=nbytes, lease=lease)
        finally:
            os.close(fd)

    def create(self, place: Place) -> int:
        """The empty file of a new segment, open for writing."""
        self._check_part()
        spill = self.spill if place.is_spilled else None
        with self.translated("making a segment") if spill is None else spill.translated():
            path = self.path(place.segment_id, place.is_spilled)
            try:
                fd = create_file(path)
            except own(FileNotFoundError):
                self._check_alive()
                if spill is None:
                    raise
                spill.make()
                fd = create_file(path)
            try:
                # Looked at when the file is there: until the word is set, nobody moves the directory away.
                if self._is_destroyed():
                    unlink_quietly(path)
                    self._check_alive()
                if spill is None:
                    set_size(fd, place.nbytes)
                else:
                    allocate(fd, place.nbytes)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def create_backed(self, place: Place) -> None:
        """A new segment whose every page has memory behind it, so that stores cannot be SIGBUS."""
        fd = self.create(place)
        try:
            if not place.is_spilled:  # which has its room already
                with self.translated(f"reserving {place.nbytes:,} B"):
                    allocate(fd, place.nbytes)
        finally:
            os.close(fd)

    def back(self, place: Place) -> None:
        """The same for a warm one: what was a block of pages may have pages that nobody ever wrote."""
        fd = self.open_writable(place.segment_id)
        try:
            with self.translated(f"reserving {place.nbytes:,} B"):
                if backed_nbytes(fd) < place.nbytes:
                    allocate(fd, place.nbytes)
        finally:
            os.close(fd)

    def to_fill(self, place: Place) -> Mapping | None:
        """The writable mapping of a warm segment, made now where this process has none; None: it cannot be had.

        Its pages are there, so the kernel enters them sixteen at a time: with the copy that takes less than a ``pwrite``.
        """
        found = self._writable.get(place.segment_id)
        if found is None:
            with ignoring(ShmplaneError):
                self.back(place)
                found = self.writable(place.segment_id, place.nbytes)
                enter_pages(found)
        # Another size can only come from tables that somebody wrote over.
        return found if found is not None and found.nbytes >= place.nbytes else None

    def open_for_filling(self, place: Place) -> int:
        """The file of a warm segment that this process has not mapped."""
        return self.open_writable(place.segment_id, place.is_spilled)

    def open_writable(self, segment_id: int, is_spilled: bool = False) -> int:
        self._check_part()
        with self.translated("opening a segment to write it"):
            try:
                return open_file(self.path(segment_id, is_spilled), writable=True)
            except own(FileNotFoundError):
                self._check_alive()
                raise

    def lay_segment(self, mapping: Mapping, segment_id: int, is_spilled: bool = False) -> None:
        """Lay a whole segment over a range."""
        fd = self.open_writable(segment_id, is_spilled)
        try:
            with self.translated("mapping a segment"):
                mapping.lay(fd, mapping.nbytes)
        finally:
            os.close(fd)

    def lay_over(self, mapping: Mapping, place: Place) -> None:
        """Lay a segment over a range that a builder or buffer has reserved, and enter its pages."""
        warm = self._writable.get(place.segment_id)
        if warm is None or warm.nbytes < mapping.nbytes or not move_pages(warm, mapping):
            self.lay_segment(mapping, place.segment_id, place.is_spilled)
            populate(mapping)

    def keep_pages(self, mapping: Mapping, place: Place) -> None:
        """Keep the pages of a range that a segment is laid over, and that is done: who writes it next faults none in.

        What fails here only costs time. The range still shows the segment.
        """
        pid = os.getpid()
        with ignoring(OSError, ShmplaneError):
            warm = self._writable.get(place.segment_id)
            kept = warm or self._map_file(place.segment_id, place.nbytes, writable=True)
            # In a child of a fork the range is private by now, and what shows its pages is for nobody.
            if move_pages(mapping, kept) and warm is None and os.getpid() == pid:
                with self._mutex:
                    self._writable[place.segment_id] = kept

    def write_tail(self, place: Place, contents: Contents) -> None:
        """Write what follows the body: the frame, and zeros up to the end of its page."""
        fd = self.open_for_filling(place)
        try:
            with self.translated("writing the end of a segment"):
                write_all(fd, contents.stored_nbytes, contents.tail())
        finally:
            os.close(fd)

    def remove(self, doomed: Doomed, *, keep_pages: bool = False) -> bool:
        """Give the file's memory back, also where other processes still have it in their cache.

        Raises nothing of its own; False: the file is still there, for want of rights or of a working file system.
        """
        if self.barred:
            return True  # its parent does that
        with self._mutex:
            self._readable.pop(doomed.segment_id, None)
            if self._writable.pop(doomed.segment_id, None) is not None:
                self.forget_slabs()
            self._rooms.pop(doomed.segment_id, None)
        if doomed.is_spilled and self.spill is None:
            return True  # whatever the tables say, there is no file
        path = self.path(doomed.segment_id, doomed.is_spilled)
        if not (doomed.exported or keep_pages):
            with ignoring(OSError, ShmplaneError):
                fd = open_file(path, writable=True)
                try:
                    punch(fd, doomed.nbytes)
                finally:
                    os.close(fd)
        if doomed.exported:
            self.remove_link(doomed.segment_id)
        return remove_entry(path)

    def is_gone(self, segment_id: int, is_spilled: bool = False) -> bool:
        """Whether the file of a segment is not there; False also when that cannot be found out."""
        try:
            os.lstat(self.path(segment_id, is_spilled))
        except own(OSError) as error:
            return error.errno == errno.ENOENT
        return False

    def drop(self) -> None:
        """Forget all mappings; those in use live on with who uses them."""
        with self._mutex:
            self._readable.clear()
            self._writable.clear()
            for kept in self.kept:
                kept.clear()
            self.forget_slabs()

    def after_fork(self) -> None:
        """In a child: what its parent was filling is the parent's, also for a call that goes on here."""
        self._mutex = threading.RLock()
        for mapping in [*self._writable.values(), *[room.mapping for room in self._rooms.values()]]:
            with ignoring(OSError):
                mapping.lay_nothing()
        self._writable.clear()
        self._rooms.clear()

    def bar(self) -> None:
        """In a child that has no part in the plane: nothing is made, written or removed any more."""
        self.barred = True

    def translated(self, what: str) -> AbstractContextManager[None]:
        """Raise the library's error for a system call that fails inside the block."""
        return translated(what, plane=self.plane, opened_as=self.opened_as)

    def _check_part(self) -> None:
        if self.barred:
            raise ClosedError(f"this forked process has no part in the plane in {self._directory}; open it again")


def _nothing() -> None:
    """Nothing else keeps mappings."""
