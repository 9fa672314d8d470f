"""What is counted in a plane: the pages of the living, and the totals of those that ended, as one.

Everything is in blocks whose names begin with ``counted:``. One of them, ``counted:totals``, says which pages there are
and what those of processes that ended have come to. It is immutable, so a new version of it is one step: the pages of
the dead go off the list and into the totals at once. A death before that step changes nothing, one after it leaves
pages that nobody counts any more; ``gone`` names them, and whoever comes next deletes them.

Rule 1. The list is changed under the host-wide lock ``counted:totals`` only. Readers take no lock: a page that is on
the list they read, and is not there, has been put into newer totals, or its process died before it had made it.
Rule 2. A page is folded when its process is gone for sure; the process itself writes nothing but its pages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BlockNotFound
from ..plane import is_present, presence_of
from ..system import own
from .pages import Page, PageReader
from .series import Entry, State, add, forget_oldest, series_of

if TYPE_CHECKING:
    from ..plane import Plane

__all__ = ["Totals"]

_NAME = "counted:totals"
_FORMAT = 1
#: how long a new page waits for somebody who changes the list
_PATIENCE_S = 0.25
#: pages from which on whoever adds one folds those of the ended, since nobody may be reading
_MANY_PAGES = 32


class _Version(NamedTuple):
    """One version of the totals: ids of pages, ids of pages that are to be deleted, what the ended have counted."""

    number: int = 0
    pages: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    families: Mapping[str, State] = MappingProxyType({})

    def state(self) -> State:
        """That of all families."""
        return {place: entry for state in self.families.values() for place, entry in state.items()}


class _Look(NamedTuple):
    """A version, its pages, and whose process is there."""

    version: _Version
    readers: Mapping[int, PageReader]
    living: Mapping[int, bool]

    @property
    def is_foldable(self) -> bool:
        return bool(self.version.gone) or sum(self.living.values()) < len(self.version.pages)


class Totals:
    """What one process knows of it. Not safe for use by several threads at once: ``Book`` has a lock around it."""

    def __init__(self, plane: Plane) -> None:
        self.plane: Plane = plane
        self._version = _Version()
        self._readers: dict[int, PageReader] = {}

    def add_page(self, nbytes: int) -> Page:
        """A new page of this process.

        Raises:
            ShmplaneError: the plane is full, or was closed or destroyed, or its list is being changed for too long.
        """
        plane, page = self.plane, int.from_bytes(os.urandom(7), "little")
        lock = plane.lock(_NAME)
        lock.acquire(timeout=_PATIENCE_S)
        try:
            if len(self._read_version().pages) >= _MANY_PAGES:
                self._fold()
            now = self._read_version()
            self._publish(now, (*now.pages, page), now.gone, now.state())
            # A death here leaves a page on the list that is not there, which whoever folds next takes off it.
            return Page(plane.mutable(_page(page), (nbytes,), "u1"), presence_of(plane._open()))
        finally:
            lock.release()

    def ended(self) -> State:
        """What processes that ended have counted."""
        return self._read_version().state()

    def read(self, family: str) -> State:
        """The values of a family over all processes; folds in passing what is left of those that ended."""
        look = self._look()
        if look.is_foldable and self._try_fold():
            look = self._look()
        state = dict(look.version.families.get(family, {}))
        for page, reader in look.readers.items():
            add(state, reader.entries(family), ended=not look.living[page])
        return state

    def families(self) -> set[str]:
        """The names of all that are counted."""
        look = self._look()
        return {*look.version.families, *(name for reader in look.readers.values() for name in reader.families())}

    def _look(self) -> _Look:
        while True:
            now = self._read_version()
            readers = self._open_pages(now)
            if readers is not None:
                attachment = self.plane._open()
                living = {page: is_present(attachment, reader.presence) for page, reader in readers.items()}
                return _Look(now, readers, living)

    def _try_fold(self) -> bool:
        lock = self.plane.lock(_NAME)
        if not lock.try_acquire():
            return False
        try:
            self._fold()
        finally:
            lock.release()
        return True

    def forget(self) -> None:
        """Keep no lease on anything."""
        self._version = _Version()
        self._readers.clear()

    def _open_pages(self, now: _Version) -> dict[int, PageReader] | None:
        """The pages of a version; None when there is a newer one."""
        found: dict[int, PageReader] = {}
        for page in now.pages:
            known = self._readers.get(page)
            if known is None:
                memory = self.plane.get(_page(page))
                if memory is None:
                    if self._read_version().number != now.number:
                        return None
                    continue
                known = PageReader(memory)
                if known.pid == 0:  # is being made; the next look finds more
                    continue
            found[page] = known
        self._readers = found
        return found

    def _fold(self) -> None:
        """Under the lock: nobody makes a page meanwhile, and nobody else folds."""
        look = self._look()
        for page in look.version.gone:
            self._delete(page)
        ended = [page for page in look.version.pages if not look.living.get(page)]
        state = look.version.state()
        for page in ended:
            if page in look.readers:
                add(state, look.readers[page].entries(), ended=True)
        forget_oldest(state)
        self._publish(look.version, set(look.version.pages).difference(ended), ended, state)
        for page in ended:
            self._readers.pop(page, None)
            self._delete(page)

    def _delete(self, page: int) -> None:
        try:
            self.plane.delete(_page(page))
        except own(BlockNotFound):
            pass  # somebody else did, or it was never made

    def _publish(self, before: _Version, pages: Iterable[int], gone: Iterable[int], state: State) -> None:
        import numpy as np

        numbers = np.array([(e.value, e.lost, e.time) for e in state.values()], "f8").reshape(-1, 3)
        said = {
            "format": _FORMAT,
            "pages": list(pages),
            "gone": list(gone),
            "keys": [[key, pid] for key, pid in state],
            "numbers": numbers,
        }
        self.plane.put(_NAME, said, expected_version=before.number)

    def _read_version(self) -> _Version:
        """The current one; read anew when there is another."""
        try:
            block = self.plane.attach(_NAME)
        except own(BlockNotFound):
            self._version = _Version()
            return self._version
        with block:
            if block.version != self._version.number:
                self._version = _parse(block.version, block.value())
            return self._version


def _parse(number: int, said: Any) -> _Version:
    families: dict[str, State] = {}
    for (key, pid), (value, lost, when) in zip(said["keys"], said["numbers"].tolist(), strict=True):
        families.setdefault(series_of(key).family, {})[key, pid] = Entry(key, value, when, pid, lost)
    return _Version(number, tuple(said["pages"]), tuple(said["gone"]), families)


def _page(page: int) -> str:
    return f"counted:page/{page:014x}"
