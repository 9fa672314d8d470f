"""Exit codes, and which error means which; a plane that cannot be read is no reason to leave the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..errors import BlockNotFound, ClosedError, LockTimeout, PlaneNotFound, ShmplaneError

__all__ = ["BUSY", "NOT_FOUND", "OK", "PROBLEMS", "UNREADABLE", "USAGE", "Failed", "failure_of", "of_each"]

R = TypeVar("R")

OK, PROBLEMS, USAGE, NOT_FOUND, BUSY = range(5)
#: what a plane raises that somebody wrote over, or that is not ours to read
UNREADABLE = (ShmplaneError, OSError, ValueError)


class Failed(Exception):
    """A command ends here, with a message and an exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def failure_of(error: Exception) -> Failed | None:
    """What an error means for the caller of a command; None: it is a bug and deserves its traceback."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, (PlaneNotFound, BlockNotFound, FileNotFoundError)):
        return Failed(NOT_FOUND, _text(error))
    if isinstance(error, LockTimeout):
        return Failed(BUSY, _text(error))
    if isinstance(error, ClosedError):
        return Failed(BUSY, f"{error} (it was destroyed while this command looked at it)")
    if isinstance(error, (ShmplaneError, OSError)):
        return Failed(PROBLEMS, _text(error))
    return None


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, ShmplaneError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


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
