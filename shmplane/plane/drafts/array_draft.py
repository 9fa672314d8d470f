"""``ArrayDraft`` and ``TreeDraft``: arrays whose pages are copied by the kernel when they are first written.

``ImageDraft`` is what both have in common. Its image is private pages over the body, taken over
from an earlier draft where that can be; or, for what shares a slab, a copy. When it is committed, the draft first lets go of
its arrays. If nobody else has kept one, then whatever was written is found, and the image can serve the next draft.

A few runs of pages that fit into the room of the youngest block of pages are copied there, under the lock, by the transaction
that publishes the version. Any other number is planned (see ``pages``).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...codecs import array_over, open_body, tree_over
from ...errors import ItemTooLarge, PlaneFull, UnsupportedValue
from ...manifest import KIND_CODES, PAGES, BlockFacts, NeedSlab, Transaction
from ...system import PAGE_NBYTES, dirty_runs, own
from ..blocks.claims import Lease, claims_of
from ..blocks.private import copy_body
from ..blocks.publish import (
    Prepared,
    StoredBytes,
    contents_of,
    describe_contents,
    prepare,
    publish_in,
    store,
    with_slabs,
)
from ..memory.extents import MAX_EXTENTS, Extents, Piece
from .draft import Draft
from .pages import publish_pages

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..blocks.target import Target
    from ..memory.compositions import Image
    from ..memory.extents import Integers as Runs
    from ..process.attachment import Attachment

__all__ = ["ArrayDraft", "TreeDraft"]

#: finding what was written takes longer when much was read or written: then all of the image's page tables are given back
_SLOW_S = 0.001
#: at most so many runs, and so many pages in all, are copied under the lock
_FEW_RUNS = 4
_FEW_PAGES = 16
#: when there would be many extents, runs with fewer clean pages between them are copied as one: an extent is a mapping in
#: every reader, which costs more than that
_MANY_EXTENTS = 256
_CLOSE_PAGES = 4


class ImageDraft(Draft, kinds=()):
    """A draft that is written in place: its commit costs the pages of the image that were touched."""

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        image = attachment.compositions.image(base.facts, kept=base)
        self._image: _Image = _Copied(base) if image is None else _Paged(base, image)
        self._shown: Any = self._show(base, self._image.lend())
        self._dirty_nbytes = 0
        super().__init__(attachment, name, base)

    @abstractmethod
    def _show(self, base: Lease, body: memoryview) -> Any:
        """What users write to, over the bytes of the image, which it keeps."""

    def _writable(self) -> Any:
        """What users write to."""
        with self._mutex:
            self._check_open()
            if self._shown is None:  # a commit failed
                self._shown = self._show(self._base, self._image.lend())
            return self._shown

    @property
    def dirty_nbytes(self) -> int:
        """Bytes of the pages that were touched so far; after the end, of those that had been when it was committed."""
        with self._mutex:
            if self._ended is None:
                self._dirty_nbytes = self._image.find_changes()
            return self._dirty_nbytes

    def _publish(self) -> Lease | None:
        self._shown = None
        self._dirty_nbytes = self._image.find_changes()
        return self._image.publish(self._target) if self._dirty_nbytes else None

    def _drop_image(self) -> None:
        self._shown = None
        self._image.end(committed=self._lease is not None)
        del self._image


class ArrayDraft(ImageDraft, kinds=("array", "bytes")):
    """A private, writable image of an array (or of bytes, as ``uint8``), of the same dtype, shape and order.

    Beginning one costs a mapping, whatever its size; writing costs a copy of each touched page (4 KiB); committing
    costs these pages. Arrays of up to 64 KiB are copied whole.

    ``array`` may be kept after the end; it stays private.
    """

    _called = "an array"
    _use = "draft.array"

    @property
    def array(self) -> npt.NDArray[Any]:
        """Writable and private."""
        return self._writable()  # type: ignore[no-any-return]

    def _show(self, base: Lease, body: memoryview) -> npt.NDArray[Any]:
        import numpy as np

        if base.facts.codec == "array":
            return array_over(base.frame(), body)
        return np.frombuffer(body, np.uint8)


# Images


class _Image(Protocol):
    """A private, writable copy of a body, which finds out what was changed."""

    def lend(self) -> memoryview:
        """Its bytes, for who writes."""

    def find_changes(self) -> int:
        """Bytes of what was changed; 0: nothing."""

    def publish(self, target: Target) -> Lease:
        """The next version, with what was found."""

    def end(self, *, committed: bool) -> None:
        """It is needed no more, unless the user kept an array of it."""


class _Copied:
    """A copy, compared with what it was copied from."""

    def __init__(self, base: Lease) -> None:
        self._base = base
        self._copy: memoryview = copy_body(base)

    def lend(self) -> memoryview:
        return self._copy

    def find_changes(self) -> int:
        return self._copy.nbytes if self._copy != open_body(self._base) else 0

    def publish(self, target: Target) -> Lease:
        body = StoredBytes(self._base.facts.codec, self._base.frame(), self._copy)
        return store(self._base.attachment, target, contents_of(body), body)

    def end(self, *, committed: bool) -> None:
        pass


class _Paged:
    """Private pages over the body."""

    def __init__(self, base: Lease, image: Image) -> None:
        self._base, self._image = base, image
        self._written: Any = None
        #: how often it had been lent when all that was ever written was found; -1: it was not, somebody could still write
        self._loans = -1
        self._was_slow = False

    def lend(self) -> memoryview:
        return self._image.mapping.lend()

    def find_changes(self) -> int:
        mapping = self._image.mapping
        self._loans = -1 if mapping.is_lent else mapping.loans
        began = time.monotonic()
        try:
            self._written = dirty_runs(mapping, self._clean)
        except own(OSError, PlaneFull) as error:
            with self._base.attachment.memory.translated("finding the pages that were written"):
                raise error  # noqa: TRY201 - what is under way there is what is translated
        self._was_slow = time.monotonic() - began > _SLOW_S
        return min(int(self._written[:, 1].sum()) * PAGE_NBYTES, self._base.facts.body_nbytes)

    def _clean(self) -> memoryview:
        self._base.open()
        return open_body(self._base)

    def publish(self, target: Target) -> Lease:
        mapping, extents = self._image
        runs = self._written
        if len(extents.rows) + 2 * len(runs) > _MANY_EXTENTS:
            runs = _join_close(runs)
        few = _fit_into_room(self._base, extents, runs) if len(runs) <= _FEW_RUNS else None
        found = None
        if few is not None:
            try:
                found = _publish_in_room(target, self._base, few, mapping.view)
            except own(PlaneFull):
                pass  # what is planned is tried once more when there is room again
        return found or publish_pages(target, self._base, extents.listed(), view=mapping.view, dirty=runs)

    def end(self, *, committed: bool) -> None:
        if committed and self._loans == self._image.mapping.loans:
            written = None if self._was_slow else self._written
            self._base.attachment.compositions.keep(self._base.facts, self._image, written)


def _join_close(runs: Runs) -> Runs:
    import numpy as np

    if len(runs) < 2:
        return runs
    ends = runs[:, 0] + runs[:, 1]
    is_apart = runs[1:, 0] - ends[:-1] >= _CLOSE_PAGES
    firsts = runs[np.concatenate(([True], is_apart)), 0]
    return np.stack((firsts, ends[np.concatenate((is_apart, [True]))] - firsts), axis=1)


# A few runs into the room that is there


class _Few(NamedTuple):
    """What a version becomes when its runs fill the room from ``start`` on, as its base saw it."""

    extents: Extents
    stored: bytes  #: the same, as a table
    pieces: list[Piece]  #: what is written
    sources: tuple[BlockFacts, ...]  #: as they will be
    references: list[int]  #: their rows
    youngest: BlockFacts  #: as it is
    nbytes: int

    def copy(self, image: memoryview, room: memoryview) -> None:
        for at, _, first, pages in self.pieces:
            run = image[at * PAGE_NBYTES : (at + pages) * PAGE_NBYTES]
            room[first * PAGE_NBYTES : first * PAGE_NBYTES + len(run)] = run


def _fit_into_room(base: Lease, extents: Extents, runs: Runs) -> _Few | None:
    """None: they do not fit, or the version needs a plan."""
    sources = list(base.facts.references)
    pages, number = int(runs[:, 1].sum()), -1
    for index, source in enumerate(sources):
        if source.kind == PAGES:
            number = index
    if number < 0 or pages > _FEW_PAGES or 2 * pages > extents.pages:
        return None
    youngest = sources[number]
    if youngest.in_slab or youngest.offset or youngest.is_spilled:
        return None  # somebody wrote over its row, or it counts as full
    page = youngest.stored_nbytes // PAGE_NBYTES
    if page + pages > youngest.body_nbytes // PAGE_NBYTES or len(extents.rows) + 2 * len(runs) > MAX_EXTENTS - 2:
        return None
    pieces = []
    for at, count in runs.tolist():
        pieces.append(Piece(at, number, page, count))
        page += count
    after = extents.with_pieces(pieces)
    if not after.shows_all_sources():
        return None
    sources[number] = youngest._replace(stored_nbytes=page * PAGE_NBYTES)
    references = [source.row for source in sources]
    return _Few(after, after.pack(), pieces, tuple(sources), references, youngest, pages * PAGE_NBYTES)


def _publish_in_room(target: Target, base: Lease, few: _Few, view: memoryview) -> Lease | None:
    """The new version; None when the room was taken."""
    attachment, facts, youngest = base.attachment, base.facts, few.youngest
    frame = base.known_frame or base.frame()
    start = youngest.stored_nbytes
    room = attachment.memory.room(youngest.segment_id, youngest.segment_nbytes, start=start, stop=start + few.nbytes)
    nbytes = len(few.stored)
    contents = describe_contents(KIND_CODES[facts.codec], facts.body_nbytes, frame, stored_nbytes=nbytes)
    block = prepare(attachment, contents, StoredBytes(facts.codec, frame, few.stored))
    copy = partial(few.copy, view, room.view)
    lease = with_slabs(attachment, _fill_and_publish, attachment, target, block, few, copy)
    if lease is not None:
        claims_of(attachment).remember(lease, few.extents, frame)
    return lease


def _fill_and_publish(  # noqa: PLR0917 - an operation, called by position
    tx: Transaction, attachment: Attachment, target: Target, block: Prepared, few: _Few, copy: Callable[[], None]
) -> Lease | None:
    blocks, row, base = tx.blocks, few.youngest.row, target.base
    name_row = tx.check_unmoved(target.name or b"", base)
    start = few.youngest.stored_nbytes
    if blocks.stored_nbytes[row] != start or blocks.body_nbytes[row] - start < few.nbytes:
        return None
    copy()
    tx.take_pages(row, few.nbytes)
    group, until = blocks.group[base], blocks.until[base]
    try:
        made = publish_in(tx, attachment, name_row, block, (), few.references, True, group, 0, until)
    except own(PlaneFull, ItemTooLarge, NeedSlab):
        # Raised before anything is published. After any other it may have been, so the room stays taken.
        tx.abandon_pages(row, start, few.nbytes)
        raise
    facts = tx.facts(made, few.sources)
    return claims_of(attachment).new_lease(attachment, facts)


class TreeDraft(ImageDraft, kinds=("tree",)):
    """A private image of a tree: the same containers, with arrays that are written in place.

    ``draft.tree["weights"][17] = 3.0``; the commit costs the pages that were touched (4 KiB each), whatever the size and
    number of the leaves. Leaves that are no arrays are as a reader has them. Replacing, adding or removing a leaf is
    refused: put the value anew.

    ``tree`` may be kept after the end; it stays private.
    """

    _called = "a tree"
    _use = "draft.tree"

    @property
    def tree(self) -> Any:
        """The containers, with writable and private arrays."""
        return self._writable()

    @tree.setter
    def tree(self, tree: Any) -> None:
        if tree is not self._writable():
            raise UnsupportedValue(
                f"the draft of {self._name!r} has the tree that was put: change its arrays in place, or put the value anew: "
                f"plane[{self._name!r}] = value",
                name=self._name,
                kind=self._kind,
            )

    def _show(self, base: Lease, body: memoryview) -> Any:
        return tree_over(base.root(), body)
