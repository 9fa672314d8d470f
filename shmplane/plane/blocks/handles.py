"""From a pickled handle to the attachment of the plane that it means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import PlaneNotFound, StaleHandle
from ...system import own
from ..process.open import open_attachment
from ..process.options import DEFAULT_LIMITS, Options

if TYPE_CHECKING:
    from ..process.attachment import Attachment, Opened

__all__ = ["attachment_of_handle", "held_attachment"]

_ANY = Options(None, None, DEFAULT_LIMITS)


def attachment_of_handle(root: str, plane: str, instance: int, name: str | None) -> tuple[Attachment, Opened]:
    """Join the plane if need be, held once; ``StaleHandle`` unless it is the very plane the handle was made in."""
    try:
        attachment, opened = open_attachment(root, plane, create=False, options=_ANY)
    except own(PlaneNotFound) as error:
        raise StaleHandle(
            f"the handle of block {name!r} means the plane {plane!r} in {root}, which is not there: it was destroyed, "
            f"or the handle comes from another host or user.",
            name=name,
            plane=plane,
        ) from error
    if attachment.instance != instance:
        attachment.close(opened)
        raise StaleHandle(
            f"the handle of block {name!r} means a plane {plane!r} that was destroyed; the one of that name now is "
            f"another.",
            name=name,
            plane=plane,
        )
    return attachment, opened


@contextmanager
def held_attachment(root: str, plane: str, instance: int, name: str | None) -> Iterator[Attachment]:
    """The same, held for as long as the ``with`` block lasts."""
    attachment, opened = attachment_of_handle(root, plane, instance, name)
    try:
        yield attachment
    finally:
        attachment.close(opened)
