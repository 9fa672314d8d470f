"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ...system import ReplacingFile, replacing
from ..failures import translated

__all__ = ["writing"]


@contextlib.contextmanager
def writing(path: str) -> Iterator[ReplacingFile]:
    """What is written inside becomes the file at ``path``, at a clean end.

    Raises:
        PlaneFull: there is no room for it; then ``path`` is as it was.
    """
    with translated("writing", path), replacing(path) as out:
        yield out
