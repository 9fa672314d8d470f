"""What a plane says of itself in one line: where it is, how full, and what is in it.

Rule 1. It never raises, leases or decodes: it is shown by debuggers and in tracebacks, of planes that are closed, destroyed
or held by a stopped process too.
Rule 2. Its length is bounded, whatever is in the plane.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, NamedTuple

from ..manifest import KINDS, Transaction
from ..system import NOT_HAD, own
from .process.patience import patience

if TYPE_CHECKING:
    from ..observe import Layout
    from .process.attachment import Attachment

__all__ = ["mimebundle_of", "names_now", "text_of"]

_MOST_NAMES = 6
_LONGEST_NAME = 40


class _Summary(NamedTuple):
    used_nbytes: int
    capacity: int
    names: int
    first: list[str]


def text_of(attachment: Attachment, name: str, root: str) -> str:
    """``<Plane 'market' in /dev/shm: 24,000,128 of 1,073,741,824 B used, 2 names: 'config' (json, 12 B), ...>``."""
    found = _try(attachment, _summary)
    if isinstance(found, str):
        return f"<Plane {name!r} in {root}: {found}>"
    names = ", ".join(found.first) + (
        f" and {found.names - len(found.first):,} more" * (found.names > len(found.first))
    )
    count = f"{found.names:,} name{'s' * (found.names != 1)}"
    used = f"{found.used_nbytes:,} of {found.capacity:,} B used"
    return f"<Plane {name!r} in {root}: {used}, {count}{': ' * bool(names)}{names}>"


def mimebundle_of(
    attachment: Attachment, name: str, root: str, try_layout: Callable[[Attachment, float], Layout | None]
) -> dict[str, str]:
    """For notebooks: the line, and the layout as HTML when the plane can be read at once."""
    bundle = {"text/plain": text_of(attachment, name, root)}
    try:
        layout = try_layout(attachment, patience(attachment))
        if layout is not None:
            bundle["text/html"] = layout.html()
    except own(Exception):
        pass  # the line says why
    return bundle


def names_now(attachment: Attachment) -> list[str]:
    """The names, sorted; none when the plane is gone, or its lock is not to be had at once."""
    found = _try(attachment, Transaction.all_names)
    return [] if isinstance(found, str) else sorted(found)


def _try(attachment: Attachment, look: Any, *args: Any) -> Any:
    """What ``look`` finds, or a text that says why it cannot be told."""
    try:
        found = attachment.try_look(patience(attachment), look, *args)
    except own(Exception):
        ended = attachment.ended
        return (
            "not to be read" if ended is None else "destroyed" if "destroyed" in ended else "this process lost its part"
        )
    return "busy" if found is NOT_HAD else found


def _summary(tx: Transaction) -> _Summary:
    names = tx.all_names()
    first = [_shown(tx, name) for name in nsmallest(_MOST_NAMES, names)]
    return _Summary(tx.header.used_nbytes[0], tx.header.capacity[0], len(names), first)


def _shown(tx: Transaction, name: str) -> str:
    row = tx.current(name.encode())[1]
    short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    return f"{short!r} ({KINDS.get(tx.blocks.kind[row], 'unknown')}, {tx.blocks.body_nbytes[row]:,} B)"
