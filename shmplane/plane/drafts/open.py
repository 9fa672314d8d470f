"""Which draft edits which kind of block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import UnsupportedValue
from ...manifest import KINDS
from ...names import check_block_name
from ..blocks.claims import lease_current
from ..blocks.missing import no_such_block
from .array_draft import ArrayDraft
from .draft import Draft
from .json_draft import JsonDraft
from .table_draft import TableDraft

if TYPE_CHECKING:
    from ..process.attachment import Attachment

__all__ = ["open_draft"]

_DRAFTS: dict[str, type[Draft]] = {
    "array": ArrayDraft,
    "bytes": ArrayDraft,
    "table": TableDraft,
    "json": JsonDraft,
}
_INSTEAD = {
    "mutable": "it changes in place: plane.mutable(name), guarded by plane.lock",
    "pickle": "get it, change it and put it again",
}


def open_draft(attachment: Attachment, name: str) -> Draft:
    """A draft of the current version of a name; ``BlockNotFound``."""
    encoded = check_block_name(name)
    found = attachment.look(lease_current, attachment, encoded)
    if found is None:
        raise no_such_block(attachment, encoded)
    base = found[0]
    kind = KINDS[base.facts.kind]
    draft = _DRAFTS.get(kind)
    if draft is None:
        raise UnsupportedValue(
            f"block {name!r} is of kind {kind}, which has no drafts; {_INSTEAD.get(kind, 'put it again')}", kind=kind
        )
    return draft(attachment, name, base)
