"""What a pool was told: its callables, sizes and times, checked once at the border.

Times are seconds; ``math.inf`` stands for never inside, ``None`` for never outside.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import EllipsisType
from typing import Any, Generic, TypedDict, TypeVar

from ..names import check_seconds

__all__ = ["Configured", "Limits", "Options", "Settings", "Timeout", "check_sizes", "deadline_of"]

KEEP_ALIVE = 30.0  #: seconds an idle connection goes without a check, at most

T = TypeVar("T")
Timeout = float | None | EllipsisType  #: seconds, None for ever, ``...`` what the pool was made with


class Options(TypedDict, Generic[T], total=False):
    """What a pool takes beside ``connect``, for type checkers."""

    close: Callable[[T], object] | None
    check: Callable[[T], object] | None
    reset: Callable[[T], object] | None
    configure: Callable[[T], object] | None
    min_size: int
    max_size: int
    timeout: float | None
    max_waiting: int | None
    max_lifetime: float | None
    max_idle: float | None
    leak_after: float | None
    name: str | None
    plane: Any
    host_limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The parameters of a pool, as they were given."""

    connect: Callable[[], Any]
    close: Callable[[Any], Any] | None = None
    check: Callable[[Any], Any] | None = None
    reset: Callable[[Any], Any] | None = None
    configure: Callable[[Any], Any] | None = None
    min_size: int = 0
    max_size: int = 10
    timeout: float | None = 30.0
    max_waiting: int | None = None
    max_lifetime: float | None = 3600.0
    max_idle: float | None = 600.0
    leak_after: float | None = None
    name: str | None = None
    plane: Any = None
    host_limit: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.connect):
            raise TypeError(f"connect is a callable that returns a connection, not {self.connect!r}")
        for what in ("close", "check", "reset", "configure"):
            given = getattr(self, what)
            if given is not None and not callable(given):
                raise TypeError(f"{what} is a callable that takes a connection, or None, not {given!r}")
        check_sizes(self.min_size, self.max_size)
        _check_count("max_waiting", self.max_waiting, least=0)
        for what in ("timeout", "max_idle", "leak_after", "max_lifetime"):
            check_seconds(getattr(self, what), what)
        if self.max_lifetime == 0:
            raise ValueError("max_lifetime of 0 closes what was just opened; give seconds, or None for never")
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"a pool's name is a str, not {type(self.name).__name__}")
        self._check_host_limit()

    def _check_host_limit(self) -> None:
        if self.host_limit is None:
            return
        _check_count("host_limit", self.host_limit, least=1)
        if self.plane is None:
            raise ValueError(
                f"host_limit={self.host_limit} counts connections over all processes of the host, which "
                f"needs shared memory: pass plane= too, or leave host_limit out and use max_size"
            )
        if not hasattr(self.plane, "_host_permits"):
            raise TypeError(f"plane is a shmplane.Plane, which host_limit needs, not {type(self.plane).__name__}")
        if self.name is None:
            raise ValueError(
                "host_limit counts the connections of all pools of one name: pass name= too, the same in every process"
            )


class Configured(ABC, Generic[T]):
    """What is made with the parameters of a pool, which are the same for both."""

    def __init__(
        self,
        connect: Callable[..., T],
        *,
        close: Callable[[T], object] | None = None,
        check: Callable[[T], object] | None = None,
        reset: Callable[[T], object] | None = None,
        configure: Callable[[T], object] | None = None,
        min_size: int = 0,
        max_size: int = 10,
        timeout: float | None = 30.0,
        max_waiting: int | None = None,
        max_lifetime: float | None = 3600.0,
        max_idle: float | None = 600.0,
        leak_after: float | None = None,
        name: str | None = None,
        plane: Any = None,
        host_limit: int | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self._settings = Settings(**given)
        self._start()

    @abstractmethod
    def _start(self) -> None:
        """Begin, with ``_settings``."""

    def __reduce__(self) -> tuple[Any, ...]:
        settings = self._settings
        return _rebuild, (type(self), {field.name: getattr(settings, field.name) for field in fields(settings)})


def _rebuild(kind: type[Configured[Any]], given: dict[str, Any]) -> Configured[Any]:
    pool = kind.__new__(kind)
    Configured.__init__(pool, **given)
    return pool


@dataclass(frozen=True, slots=True)
class Limits:
    """What the roster and its housekeeping go by; seconds, ``math.inf`` for never."""

    min_size: int
    max_waiting: float
    lifetime: float
    max_idle: float
    leak_after: float
    keep_alive: float  #: how long an idle connection goes without a check
    host_limited: bool
    metered: bool  #: other processes are told what is counted

    @classmethod
    def of(cls, given: Settings) -> Limits:
        """From what the user gave."""
        max_idle = _or_never(given.max_idle)
        return cls(
            given.min_size,
            _or_never(given.max_waiting),
            given.max_lifetime or math.inf,
            max_idle,
            _or_never(given.leak_after),
            math.inf if given.check is None else min(KEEP_ALIVE, max_idle / 2 or KEEP_ALIVE),
            host_limited=given.host_limit is not None,
            metered=given.plane is not None and given.name is not None,
        )


def _or_never(given: float | None) -> float:
    return math.inf if given is None else given


def deadline_of(timeout: Timeout, settings: Settings, now: float) -> float:
    """When to give up: ``now`` plus the timeout, or infinity."""
    if timeout is ...:
        timeout = settings.timeout
    check_seconds(timeout, "timeout")
    return math.inf if timeout is None else now + timeout


def check_sizes(min_size: object, max_size: object) -> None:
    """Raise unless ``0 <= min_size <= max_size`` and ``max_size >= 1``."""
    _check_count("min_size", min_size, least=0)
    _check_count("max_size", max_size, least=1)
    if min_size is None or max_size is None:
        raise TypeError("min_size and max_size are ints, not None")
    if min_size > max_size:  # type: ignore[operator]
        raise ValueError(f"min_size {min_size} is above max_size {max_size}")


def _check_count(what: str, value: object, *, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{what} is at least {least}, not {value}")
