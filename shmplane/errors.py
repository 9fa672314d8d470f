"""Every exception of the library.

Rule 1. One root, ``ShmplaneError``; where the standard library has a fitting class, the error is that too.
Rule 2. An error carries its facts as attributes, a stable ``code`` and ``retryable``, and survives pickling.
Rule 3. A message says what was tried, what was found and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

__all__ = [
    "BlockNotFound",
    "ClosedError",
    "Conflict",
    "FileTruncated",
    "ItemTooLarge",
    "LockTimeout",
    "PlaneCorrupt",
    "PlaneFull",
    "PlaneMismatch",
    "PlaneNotFound",
    "PlaneSecurityError",
    "PoolClosed",
    "PoolTimeout",
    "PullFailed",
    "ShmplaneError",
    "StaleHandle",
    "TooManyWaiters",
    "UnsafeCodec",
    "UnsupportedPlatform",
    "UnsupportedValue",
]


class ShmplaneError(Exception):
    """The root of all errors of this library.

    Attributes:
        code: a stable name for programs, never changed once released.
        retryable: the same call may succeed later without a change by the caller.
        facts: what was found, by name; each is also an attribute.
    """

    code: ClassVar[str] = "shmplane"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message: str = message
        self.facts: dict[str, Any] = facts
        for name, fact in facts.items():
            setattr(self, name, fact)

    if TYPE_CHECKING:

        def __getattr__(self, fact: str) -> Any:
            """The facts of an error are its attributes."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message, quotes and all.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.facts)


def _restore(kind: type[ShmplaneError], message: str, facts: dict[str, Any]) -> ShmplaneError:
    return kind(message, **facts)


class PlaneNotFound(ShmplaneError, FileNotFoundError):
    """There is no plane of that name, and it was not to be created."""

    code = "plane_not_found"


class PlaneFull(ShmplaneError, MemoryError):
    """No room, even after reclaiming: in the capacity, in a table, or on the file system."""

    code = "plane_full"
    retryable = True

    def name_plane(self, plane: str) -> None:
        """Say which plane it is, once."""
        if "plane" not in self.facts:
            PlaneFull.__init__(self, f"plane {plane!r}: {self.message}", **self.facts, plane=plane)


class PlaneMismatch(ShmplaneError, ValueError):
    """The plane, or something in it, exists with other parameters than those asked for."""

    code = "plane_mismatch"


class PlaneCorrupt(ShmplaneError):
    """What was read from shared memory cannot have been written by this library."""

    code = "plane_corrupt"


class PlaneSecurityError(ShmplaneError, PermissionError):
    """A file of the plane belongs to someone else, may be used by others, or is not a regular file."""

    code = "plane_security"


class UnsupportedPlatform(ShmplaneError):
    """The operating system lacks what the library needs (Linux, 64 bit, OFD locks)."""

    code = "unsupported_platform"


class PullFailed(ShmplaneError, ConnectionError):
    """A block could not be had from another host: no server, or the connection was lost. Nothing was put."""

    code = "pull_failed"
    retryable = True


class ClosedError(ShmplaneError, ValueError):
    """The object was closed, its plane was destroyed, or this process lost its part in the plane."""

    code = "closed"


class BlockNotFound(ShmplaneError, KeyError):
    """No block has that name."""

    code = "block_not_found"


class StaleHandle(ShmplaneError, LookupError):
    """The version that the handle meant is gone."""

    code = "stale_handle"


class Conflict(ShmplaneError):
    """The name is at another version than the caller expected; nothing was changed."""

    code = "conflict"
    retryable = True


class UnsupportedValue(ShmplaneError, TypeError):
    """No codec can store a value of this type."""

    code = "unsupported_value"


class UnsafeCodec(ShmplaneError):
    """Reading the block would unpickle, and the plane was opened without ``trust_pickle=True``."""

    code = "unsafe_codec"


class LockTimeout(ShmplaneError, TimeoutError):
    """The lock was held by someone else until the deadline."""

    code = "lock_timeout"
    retryable = True


class PoolTimeout(ShmplaneError, TimeoutError):
    """No connection became free before the deadline."""

    code = "pool_timeout"
    retryable = True


class PoolClosed(ShmplaneError):
    """The pool was closed."""

    code = "pool_closed"


class TooManyWaiters(ShmplaneError):
    """The pool's queue of waiters is at ``max_waiting``."""

    code = "too_many_waiters"
    retryable = True


class ItemTooLarge(ShmplaneError, ValueError):
    """The item is larger than every tier of the cache."""

    code = "item_too_large"


class FileTruncated(ShmplaneError, OSError):
    """Someone else cut the mapped file short."""

    code = "file_truncated"
