"""What a command does with every plane of a root: one that cannot be read is no reason to leave the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import PlaneNotFound, ShmplaneError

__all__ = ["UNREADABLE", "of_each"]

R = TypeVar("R")

#: what a plane raises that somebody wrote over, or that is not ours to read
UNREADABLE = (ShmplaneError, OSError, ValueError)


def of_each(planes: Iterable[str], call: Callable[[str], R]) -> tuple[dict[str, R], dict[str, str]]:
    """What ``call`` returns for each, and what is wrong with those that cannot be read; removed meanwhile: in neither."""
    found, problems = dict[str, R](), dict[str, str]()
    for name in planes:
        try:
            found[name] = call(name)
        except PlaneNotFound:
            continue
        except UNREADABLE as error:
            problems[name] = str(error)
    return found, problems
