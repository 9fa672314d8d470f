"""Views of current blocks, remembered per ``Plane`` object so that getting one again costs a comparison.

What is remembered of a name: its row, its word, the root of the block's views (weakly), how to show it, and what a new lease
of the same block can reuse. The word differs whenever the name points to another block, so a remembered entry is either
right or not used.

While a view is alive, the process leases the block and a comparison is enough. When the last view has just become garbage,
the lease's word still stands for up to 50 ms and can be revived without the host's lock. After that it is taken again under
the lock, with all that is known of the block; only a name that has moved on is looked up. A root that was revived, or got
again within 2 ms, is kept until the drain timer's next tick: whoever gets names over and over needs the comparison alone.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import ref

from ...codecs import CODECS, SMALL_DOCUMENT_NBYTES
from ...names import MAX_BLOCK_NAME_NBYTES, check_block_name
from ..process.fast import wait_for_core
from .block import unsafe
from .claims import Claims, Lease, Tracked, claims_of, lease_current
from .missing import no_such_block

if TYPE_CHECKING:
    from ...manifest import BlockFacts, Transaction
    from ..process.attachment import Attachment

__all__ = ["Known", "find", "held", "lease_by_core", "revive", "show"]

#: what no caller has as a default
_NO_DEFAULT: Any = object()
_MOST_REMEMBERED = 16_384
#: what is got again so soon is kept for a moment
_SOON_S = 0.002

#: name row, name word, root or None, how to show it, and what a revived lease needs with the time at which it was got
Known = tuple[int, int, Any, Any, Any]


def find(
    attachment: Attachment, known: dict[str, Known], name: str, default: Any = _NO_DEFAULT, *, trust_pickle: bool
) -> Any:
    """The value of a name, looked up under the lock and remembered; ``BlockNotFound``, or ``default``."""
    # What nobody could have put is not found, and refused then: in the usual case nothing has to be checked.
    is_likely = type(name) is str and len(name) <= MAX_BLOCK_NAME_NBYTES
    encoded = name.encode(errors="surrogatepass") if is_likely else check_block_name(name)
    found = lease_by_core(attachment, encoded) or attachment.look(lease_current, attachment, encoded)
    if found is None:
        encoded = check_block_name(name)
        known.pop(name, None)
        if default is _NO_DEFAULT:
            raise no_such_block(attachment, encoded)
        return default
    return show(known, name, found, trust_pickle=trust_pickle)


def held(attachment: Attachment, known: dict[str, Known], name: str, default: Any) -> Any:
    """The value while a view of it is alive here, without any lock; else ``default``, whatever the plane has."""
    entry = known.get(name)
    if entry is None or attachment.manifest.names.word[entry[0]] != entry[1]:
        return default
    root = entry[2]()
    return default if root is None else entry[3](root)


def show(known: dict[str, Known], name: str, found: tuple[Lease, Tracked, int, int], *, trust_pickle: bool) -> Any:
    """The value of what ``lease_current`` has found, which is remembered."""
    lease, tracked, name_row, word = found
    kind = lease.facts.codec
    if kind == "pickle" and not trust_pickle:
        raise unsafe(name)
    root = lease.root()
    present = CODECS[kind].present
    again = (tracked, lease.facts, lease.known_frame, ref(lease.mapping), monotonic())
    if kind == "json" and lease.nbytes <= SMALL_DOCUMENT_NBYTES:
        # Its text was copied, and the word tells every version from all others: it needs no lease to be right.
        _remember(known, name, (name_row, word, lambda: root, present, again))
    else:
        _remember(known, name, (name_row, word, ref(root), present, again))
    return present(root)


def revive(attachment: Attachment, known: dict[str, Known], name: str) -> Any:
    """A root for the block that is remembered of a name; None when the name has moved on."""
    name_row, word, _, present, (tracked, facts, frame, mapping, since) = known[name]
    claims, row = claims_of(attachment), facts.row
    standing = None
    if row in claims.leases:  # else its word was given back
        standing = claims.revive(attachment, tracked, facts, name_row=name_row, word=word)
    lease = standing or _lease_by_core_again(attachment, claims, facts, name_row, word)
    lease = lease or attachment.look(_lease_again, attachment, facts, name_row, word)
    if lease is None:
        return None
    if lease.facts is facts or lease.facts.moves == facts.moves:
        root = lease.revive(frame, mapping())
    else:  # what is known of its place may not be right any more
        root = lease.revive(frame, None)
        facts, mapping = lease.facts, ref(lease.mapping)
    now = monotonic()
    if standing is not None or now - since < _SOON_S:
        attachment.kept.keep(name, root)
    again = (claims.leases[row], facts, frame, mapping, now)
    known[name] = (name_row, word, ref(root), present, again)
    return root


def _remember(known: dict[str, Known], name: str, entry: Known) -> None:
    if entry[1] < 0:
        known.pop(name, None)
        return
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[name] = entry


def _lease_again(tx: Transaction, attachment: Attachment, facts: BlockFacts, name_row: int, word: int) -> Lease | None:
    """A lease of the block that the name still points to, whose facts are known."""
    if tx.names.word[name_row] != word:
        return None  # it moved on
    is_there_still = facts.moves == tx.header.moves[0]
    return claims_of(attachment).lease(tx, attachment, facts.row, facts if is_there_still else None)


# By the compiled core, which has the lock for no longer than it needs to set a word; None: ask under the lock. The object of a
# lease is there before its word is set: the core enters it among the leases, so that no other thread of this process comes in
# between, and what is not taken means nothing when it is garbage.


def lease_by_core(attachment: Attachment, name: bytes) -> tuple[Lease, Tracked, int, int] | None:
    """``lease_current``; what the block's row says is read before (see ``Reader.peek``)."""
    found = None if attachment.core is None else attachment.reader.peek(name)
    if found is None:
        return None
    name_row, word, facts = found
    claims = claims_of(attachment)
    leases = claims.leases
    if facts.row in leases:
        return None  # which most often means that its lease lives
    lease = _lease_by_core_again(attachment, claims, facts, name_row, word)
    return None if lease is None else (lease, leases[facts.row], name_row, word)


def _lease_by_core_again(
    attachment: Attachment, claims: Claims, facts: BlockFacts, name_row: int, word: int
) -> Lease | None:
    """The lease of a block whose facts are known, if its name still points to it."""
    core = attachment.core
    if core is None or attachment.suspect or attachment.gone or attachment.owed:
        return None
    lease = Lease(attachment, facts)
    row = facts.row
    tracked = claims.track(lease, row)
    is_taken = core.lease(name_row, word, row, facts.moves, facts.segment_id, tracked)
    if is_taken is False:
        wanted = name_row, word, row, facts.moves, facts.segment_id, tracked
        is_taken = wait_for_core(attachment, core, "lease", *wanted)
    return lease if is_taken else None
