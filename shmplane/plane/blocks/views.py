"""Views of current blocks, remembered per ``Plane`` object so that getting one again costs a comparison.

What is remembered of a name: its row, its word, the root of the block's views (weakly), how to show it, and what a new lease
of the same block can reuse. The word differs whenever the name points to another block, so a remembered entry is either
right or not used.

While a view is alive, the process leases the block and a comparison is enough. When the last view has just become garbage,
the lease's word still stands for up to 50 ms and can be revived without the host's lock. After that it is taken again under
the lock, with all that is known of the block; only a name that has moved on is looked up.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ...codecs import SMALL_DOCUMENT_NBYTES, presenter
from ...names import check_block_name
from .block import unsafe
from .claims import claims_of, lease_current
from .missing import missing

if TYPE_CHECKING:
    from ...manifest import BlockFacts, Transaction
    from ..process.attachment import Attachment
    from .claims import Lease, Tracked

__all__ = ["Known", "Views"]

#: what no caller has as a default
_NO_DEFAULT: Any = object()
_MOST_REMEMBERED = 16_384

#: name row, name word, root or None, how to show it, and what a revived lease needs
Known = tuple[int, int, Any, Any, Any]


class Views:
    def __init__(self, *, trust_pickle: bool) -> None:
        self.known: dict[str, Known] = {}
        self._trust_pickle = trust_pickle

    def find(self, attachment: Attachment, name: str, default: Any = _NO_DEFAULT) -> Any:
        """The value of a name, looked up under the lock and remembered; ``BlockNotFound``, or ``default``."""
        encoded = check_block_name(name)
        found = attachment.look(lease_current, attachment, encoded)
        if found is None:
            self.known.pop(name, None)
            if default is _NO_DEFAULT:
                raise missing(attachment, encoded)
            return default
        return self.show(name, found)

    def held(self, attachment: Attachment, name: str, default: Any) -> Any:
        """The value while a view of it is alive here, without any lock; else ``default``, whatever the plane has."""
        known = self.known.get(name)
        if known is None or attachment.manifest.names.word[known[0]] != known[1]:
            return default
        root = known[2]()
        return default if root is None else known[3](root)

    def show(self, name: str, found: tuple[Lease, Tracked, int, int]) -> Any:
        """The value of what ``lease_current`` has found, which is remembered."""
        lease, tracked, name_row, word = found
        kind = lease.facts.codec
        if kind == "pickle" and not self._trust_pickle:
            raise unsafe(name)
        root = lease.root()
        show = presenter(kind)
        held = (tracked, lease.facts, lease.frame(), weakref.ref(lease.mapping))
        if kind == "json" and lease.nbytes <= SMALL_DOCUMENT_NBYTES:
            # Its text was copied, and the word tells every version from all others: it needs no lease to be right.
            self._remember(name, (name_row, word, lambda: root, show, held))
        else:
            self._remember(name, (name_row, word, weakref.ref(root), show, held))
        return show(root)

    def revive(self, attachment: Attachment, name: str, known: Known) -> Any:
        """A root for a block that we have leased before; None when the name has moved on."""
        name_row, word, _, show, (tracked, facts, frame, mapping) = known
        lease = claims_of(attachment).revive(attachment, tracked, facts, name_row=name_row, word=word)
        if lease is None:
            lease = attachment.look(_lease_again, attachment, facts, name_row, word)
            if lease is None:
                return None
        root = lease.revive(frame, mapping())
        held = (claims_of(attachment).leases[facts.row], facts, frame, mapping)
        self._remember(name, (name_row, word, weakref.ref(root), show, held))
        return root

    def _remember(self, name: str, known: Known) -> None:
        if known[1] < 0:
            self.known.pop(name, None)
            return
        if len(self.known) >= _MOST_REMEMBERED:
            self.known.clear()
        self.known[name] = known

    def forget(self) -> None:
        self.known.clear()


def _lease_again(tx: Transaction, attachment: Attachment, facts: BlockFacts, name_row: int, word: int) -> Lease | None:
    """A lease of the block that the name still points to, whose facts are known."""
    if tx.names.word[name_row] != word:
        return None  # it moved on
    return claims_of(attachment).lease(tx, attachment, facts.row, facts)
