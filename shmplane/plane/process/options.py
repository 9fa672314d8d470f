"""What a caller may ask of a plane."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, get_args

from ...errors import PlaneMismatch
from ...manifest import Limits, LockKind
from ...names import check_count, parse_nbytes
from ...system import own

if TYPE_CHECKING:
    from .attachment import Attachment

__all__ = ["DEFAULT_LIMITS", "Options", "check_options", "parse_options"]

DEFAULT_LIMITS = Limits(max_blocks=65_536, max_processes=256)


class Options(NamedTuple):
    """What the caller asked of the plane; None: whatever it is."""

    capacity: int | None
    recycle: int | None
    limits: Limits
    temporary: bool = False
    spill: str | None = None
    lock: LockKind | None = None


def parse_options(
    capacity: int | str | None,
    recycle: int | str | None,
    max_blocks: int,
    max_processes: int,
    *,
    temporary: bool = False,
    spill: str | os.PathLike[str] | None = None,
    lock: LockKind | None = None,
) -> Options:
    """What the arguments of ``Plane`` mean, or ``TypeError`` or ``ValueError``."""
    return Options(
        capacity=None if capacity is None else parse_nbytes(capacity, "capacity"),
        recycle=None if recycle is None else parse_nbytes(recycle, "recycle"),
        limits=Limits(
            check_count(max_blocks, "max_blocks is an int"), check_count(max_processes, "max_processes is an int")
        ),
        temporary=temporary,
        spill=None if spill is None else _check_directory_name(spill),
        lock=_check_lock(lock),
    )


def _check_lock(lock: LockKind | None) -> LockKind | None:
    if lock is not None and not isinstance(lock, str):
        raise TypeError(f"lock is 'word', 'ofd' or None, not {lock!r}")
    if lock not in (None, *get_args(LockKind)):
        raise ValueError(f"lock is 'word', 'ofd' or None, not {lock!r}")
    return lock


def _check_directory_name(spill: str | os.PathLike[str]) -> str:
    path = os.fspath(spill)
    if not isinstance(path, str):
        raise TypeError(f"spill is the path of a directory, not {spill!r}")
    if not path or "\0" in path:
        raise ValueError(f"spill is the path of a directory, not {spill!r}")
    return os.path.abspath(path)


def check_options(joined: Attachment, options: Options) -> None:
    header = joined.manifest.header
    asked = {
        "capacity": (options.capacity, header.capacity[0], None),
        "recycle": (options.recycle, header.recycle[0], None),
        "max_blocks": (options.limits.max_blocks, header.max_blocks[0], DEFAULT_LIMITS.max_blocks),
        "max_processes": (options.limits.max_processes, header.max_processes[0], DEFAULT_LIMITS.max_processes),
    }
    for what, (wanted, found, default) in asked.items():
        if wanted is not None and wanted not in (found, default):
            raise PlaneMismatch(
                f"plane {joined.name!r} has {what}={found:,}, asked for {wanted:,}. Leave the option out, use the same "
                f"value, or change it with plane.resize().",
                option=what,
                asked=wanted,
                found=found,
            )
    if options.lock not in (None, joined.manifest.lock):
        raise PlaneMismatch(
            f"plane {joined.name!r} has lock={joined.manifest.lock!r}, asked for {options.lock!r}. Leave the option out, or "
            f"use the same value; which lock a plane has is chosen when it is made.",
            option="lock",
            asked=options.lock,
            found=joined.manifest.lock,
        )
    if options.spill is not None:
        _check_spill(joined, options.spill)


def _check_spill(joined: Attachment, asked: str) -> None:
    spill = joined.memory.spill
    found = None if spill is None else spill.place.chosen
    if found is None or not _is_same_directory(found, asked):
        has = "no spill directory" if found is None else f"spill={found!r}"
        raise PlaneMismatch(
            f"plane {joined.name!r} has {has}, asked for {asked!r}. Leave the option out, or use the same value; where a "
            f"plane spills to is chosen when it is made.",
            option="spill",
            asked=asked,
            found=found,
        )


def _is_same_directory(found: str, asked: str) -> bool:
    if found == asked:
        return True
    try:
        return os.path.samestat(os.stat(found), os.stat(asked))
    except own(OSError):
        return False
