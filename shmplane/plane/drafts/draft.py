"""What every draft is: a lease on the version it began with, and one end, by commit or discard; and which kind has which.

Nothing of a draft is in shared memory before its commit, so there is nothing to be left behind. A commit that fails leaves
the draft open: after ``PlaneFull`` it can be repeated, after ``Conflict`` only a new edit helps.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from ...errors import ClosedError, UnsupportedValue
from ...manifest import KINDS
from ...names import check_block_name
from ..blocks.block import Block
from ..blocks.claims import Lease, claims_of, lease_current
from ..blocks.missing import no_such_block
from ..blocks.target import Target

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt
    import pyarrow as pa

    from ..process.attachment import Attachment

__all__ = ["Draft", "open_draft"]

#: which draft edits which kind of block
_DRAFTS: dict[str, type[Draft]] = {}
_INSTEAD = {
    "mutable": "it changes in place: plane.mutable(name), guarded by plane.lock",
    "pickle": "get it, change it and put it again",
    "records": "plane.append(name, values) adds some; for other changes put them again",
}


class Draft(ABC):
    """A private image of one version of a block. ``with plane.edit(name) as draft:`` commits it on a clean exit.

    It is an ``ArrayDraft``, ``TableDraft``, ``JsonDraft`` or ``TreeDraft``, as the block is. What the other kinds have is
    declared here, for type checkers, and raises ``UnsupportedValue`` that names what this one has.
    """

    #: how this kind is called, and what it has instead of the others
    _called: ClassVar[str] = "a block"
    _use: ClassVar[str] = "another call"

    def __init_subclass__(cls, *, kinds: tuple[str, ...], **options: Any) -> None:
        super().__init_subclass__(**options)
        _DRAFTS.update(dict.fromkeys(kinds, cls))

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        self._attachment = attachment
        self._name = name
        self._base = base
        self._version = base.facts.version
        self._kind = KINDS[base.facts.kind]
        self._target = Target(name.encode(), base=base.facts.row)
        self._pid = os.getpid()
        self._mutex = threading.RLock()
        self._ended: str | None = None
        #: of the committed version, and its block once somebody asks for it
        self._lease: Lease | None = None
        self._block: Block | None = None

    @property
    def array(self) -> npt.NDArray[Any]:
        """Of an ``ArrayDraft``: writable and private."""
        self._refuse("draft.array")

    @property
    def table(self) -> pa.Table:
        """Of a ``TableDraft``: the table as it would be published, zero-copy."""
        self._refuse("draft.table")

    @property
    def value(self) -> Any:
        """Of a ``JsonDraft``: the decoded value, private to this draft."""
        self._refuse("draft.value")

    @value.setter
    def value(self, value: Any) -> None:  # noqa: ARG002 - another kind takes it
        self._refuse("draft.value")

    @property
    def tree(self) -> Any:
        """Of a ``TreeDraft``: its containers, with writable arrays."""
        self._refuse("draft.tree")

    @tree.setter
    def tree(self, tree: Any) -> None:  # noqa: ARG002 - another kind has one
        self._refuse("draft.tree")

    @property
    def dirty_nbytes(self) -> int:
        """Of an ``ArrayDraft`` or ``TreeDraft``: bytes of the pages that were touched."""
        self._refuse("draft.dirty_nbytes")

    @property
    def column_names(self) -> list[Any]:
        """Of a ``TableDraft``: the names of the columns."""
        self._refuse("draft.column_names")

    def append(self, rows: Any) -> None:  # noqa: ARG002 - another kind takes it
        """Of a ``TableDraft``: add rows at the end."""
        self._refuse("draft.append")

    def rename(self, names: Mapping[Any, Any]) -> None:  # noqa: ARG002 - another kind takes it
        """Of a ``TableDraft``: give columns other names."""
        self._refuse("draft.rename")

    def __getitem__(self, name: Any) -> Any:
        """Of a ``TableDraft``: a column as it is now."""
        self._refuse("draft[...]")

    def __setitem__(self, name: Any, values: Any) -> None:
        """Of a ``TableDraft``: replace or add a column."""
        self._refuse("draft[...] = ")

    def __delitem__(self, name: Any) -> None:
        """Of a ``TableDraft``: leave a column out."""
        self._refuse("del draft[...]")

    def __contains__(self, name: object) -> bool:
        """Of a ``TableDraft``: whether there is a column of that name."""
        self._refuse("name in draft")

    #: Defined, or Python would iterate by ``draft[0]``, ``draft[1]``.
    __iter__ = None

    def _refuse(self, what: str) -> NoReturn:
        called = "bytes" if self._kind == "bytes" else self._called
        raise UnsupportedValue(
            f"{what.rstrip()}: block {self._name!r} is {called}: use {self._use}",
            name=self._name,
            kind=self._kind,
        )

    @property
    def block(self) -> Block:
        """The new version, after a commit; the old one, when nothing was touched."""
        with self._mutex:
            if self._lease is None:
                raise ClosedError(
                    f"the edit of {self._name!r} is not committed{', ' + self._ended if self._ended else ''}",
                    name=self._name,
                )
            if self._block is None:
                self._block = Block(self._lease)
            return self._block

    def commit(self) -> Block:
        """Publish the changes as the next version; without changes, nothing is published.

        Raises:
            Conflict: the name has another version than the one the edit began with; nothing was changed.
            PlaneFull: no room; nothing was changed.
            ClosedError: committed or discarded already, or in a process forked from the one that began the edit.
        """
        self._commit()
        return self.block

    def _commit(self) -> None:
        with self._mutex:
            self._check_open()
            if os.getpid() != self._pid:
                raise ClosedError(
                    f"the edit of {self._name!r} belongs to the process that this one was forked from; edit it here",
                    name=self._name,
                )
            lease = self._publish()
            self._lease = self._base if lease is None else lease
            self._end("it was committed")

    def discard(self) -> None:
        """Throw the changes away. Idempotent."""
        with self._mutex:
            if self._lease is not None:
                self._check_open()
            if self._ended is None:
                self._end("it was discarded")

    @abstractmethod
    def _publish(self) -> Lease | None:
        """Make the next version; None when nothing was touched."""

    @abstractmethod
    def _drop_image(self) -> None:
        """Drop the private image."""

    def _end(self, why: str) -> None:
        self._ended = why
        self._drop_image()
        # Whoever keeps the draft does not keep the old version.
        del self._base

    def _check_open(self) -> None:
        if self._ended is not None:
            raise ClosedError(f"the edit of {self._name!r} is over: {self._ended}; edit it again", name=self._name)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ended is not None:
            return
        try:
            if kind is None:
                self._commit()
        finally:
            if self._ended is None:
                self.discard()

    def __repr__(self) -> str:
        state = self._ended or "open"
        return f"<{type(self).__name__} of {self._name!r}, version {self._version}: {state}>"


def open_draft(attachment: Attachment, name: str) -> Draft:
    """A draft of the current version of a name; ``BlockNotFound``."""
    if attachment.kept.lists:
        attachment.kept.forget(name)
    latest = claims_of(attachment).latest.get(name)
    encoded = check_block_name(name) if latest is None else latest.name
    found = attachment.add(lease_current, attachment, encoded, latest)
    if found is None:
        raise no_such_block(attachment, encoded)
    base = found[0]
    if latest is not None and base.facts is latest.facts:
        base.known_frame = latest.frame
    kind = KINDS[base.facts.kind]
    draft = _DRAFTS.get(kind)
    if draft is None:
        raise UnsupportedValue(
            f"block {name!r} is of kind {kind}, which has no drafts; {_INSTEAD.get(kind, 'put it again')}", kind=kind
        )
    return draft(attachment, name, base)
