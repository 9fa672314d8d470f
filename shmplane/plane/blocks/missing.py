"""Names that are taken away or changed, and the error for one that has no block, which says what was perhaps meant."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING

from ...errors import BlockNotFound, ShmplaneError
from ...manifest import Transaction
from ...names import check_block_name
from ...system import ignoring, own
from ..process.fast import wait_for_core

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["delete", "no_such_block", "rename"]

_MOST_NAMES = 500  #: in a plane of more, nobody looks for a near one
_MOST_COMPARED = 16  #: names; a miss is an everyday answer, and each comparison takes some 50 µs


def no_such_block(
    attachment: Attachment, name: bytes, *, hint: str = "plane.names() lists those there are"
) -> BlockNotFound:
    """The error for a name; ``near`` is one much like it that there is, or None.

    Args:
        hint: what to do.

    Cost: at most 16 names are compared, some 1 ms.
    """
    text, near = name.decode(), None
    with ignoring(ShmplaneError):
        near = next(iter(get_close_matches(text, _alike(text, attachment.look(_few_names)), n=1)), None)
    meant = f"did you mean {near!r}? " if near is not None else ""
    return BlockNotFound(
        f"no block of plane {attachment.name!r} is named {text!r}; {meant}{hint}",
        name=text,
        plane=attachment.name,
        near=near,
    )


def delete(attachment: Attachment, name: bytes) -> None:
    """Take a name away, or raise that error; memory that somebody leases lives until the last lease ends."""
    core = attachment.core
    if core is not None and not attachment.suspect:
        done = core.delete(name)
        if done or (done is False and wait_for_core(attachment, core, "delete", name)):
            return
    try:
        attachment.change(Transaction.delete, name)
    except own(BlockNotFound):
        raise no_such_block(attachment, name) from None


def rename(attachment: Attachment, old: str, new: str) -> None:
    """Give a block another name, or raise that error."""
    encoded = check_block_name(old)
    try:
        attachment.change(Transaction.rename, encoded, check_block_name(new))
    except own(BlockNotFound):
        raise no_such_block(attachment, encoded) from None


def _few_names(tx: Transaction) -> list[str]:
    return tx.all_names() if tx.count_names() <= _MOST_NAMES else []


def _alike(text: str, names: list[str]) -> list[str]:
    """Those that may be meant: about as long, with nearly the same letters."""
    letters = set(text.lower())
    near = (name for name in names if abs(len(name) - len(text)) <= 2 and len(letters ^ set(name.lower())) <= 3)
    return list(islice(near, _MOST_COMPARED))
