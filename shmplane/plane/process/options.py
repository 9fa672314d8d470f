"""What a caller may ask of a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...errors import PlaneMismatch
from ...manifest import Limits
from ...names import check_count, parse_nbytes

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


def parse_options(
    capacity: int | str | None,
    recycle: int | str | None,
    max_blocks: int,
    max_processes: int,
    *,
    temporary: bool = False,
) -> Options:
    """What the arguments of ``Plane`` mean, or ``TypeError`` or ``ValueError``."""
    return Options(
        capacity=None if capacity is None else parse_nbytes(capacity, "capacity"),
        recycle=None if recycle is None else parse_nbytes(recycle, "recycle"),
        limits=Limits(
            check_count(max_blocks, "max_blocks is an int"), check_count(max_processes, "max_processes is an int")
        ),
        temporary=temporary,
    )


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
