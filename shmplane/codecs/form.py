"""What a conversion raises that is not there for this very value."""

from __future__ import annotations

__all__ = ["NoForm"]


class NoForm(Exception):
    """This very value has no such form, though others of its kind may."""
