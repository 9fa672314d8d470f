"""What a caller of ``put`` asks for: under which name to publish, on which condition, and for how long."""

from __future__ import annotations

from math import inf
from operator import index
from typing import NamedTuple

from ...manifest import EVICTABLE
from ...names import check_block_name

__all__ = ["ANYWHERE", "Target", "check_target"]

_LONGEST_LINGER_S = 1e9  #: thirty years, which fit a word


class Target(NamedTuple):
    """Under which name to publish, and on which condition."""

    name: bytes | None  #: None: anonymous
    expected_version: int | None = None  #: which the name has to be at; 0: absent
    base: int = -1  #: row of the block that the name has to point to still; -1: any
    linger_ns: int = 0
    ttl_ns: int | None = None  #: after which the name goes; None: never
    kept_for: int = -1  #: slot of the process that an anonymous block is kept for; -1: for none
    group: int = 0  #: row + 1 of the group that it is evicted with; 0: it stays
    cost: int = 0  #: µs that it took to compute, for the policy of the group; 0: not known


ANYWHERE = Target(None)


def check_target(
    name: str | None, *, expected_version: int | None, linger: float, evictable: bool, ttl: float | None = None
) -> Target:
    """What a caller of ``put`` asks for, or ``TypeError`` or ``ValueError``."""
    encoded_name = None if name is None else check_block_name(name)
    if not 0 <= linger < inf:
        raise ValueError(f"linger is a finite time of 0 or more seconds, not {linger}")
    if expected_version is not None:
        if name is None:
            raise ValueError("an anonymous block has no version to expect; give it a name, or no expected_version")
        expected_version = index(expected_version)
        if expected_version < 0:
            raise ValueError(f"versions count from 1, and 0 means absent; expected_version is {expected_version}")
    if ttl is not None:
        if not ttl >= 0:
            raise ValueError(f"ttl is a time of 0 or more seconds, not {ttl}")
        if name is None:
            raise ValueError("an anonymous block has no name to go after a ttl; say linger= for how long it waits")
    linger_ns = int(min(linger, _LONGEST_LINGER_S) * 1e9) if name is None else 0
    ttl_ns = None if ttl is None or ttl > _LONGEST_LINGER_S else int(ttl * 1e9)
    group = EVICTABLE if evictable and name is not None else 0
    return Target(encoded_name, expected_version, linger_ns=linger_ns, ttl_ns=ttl_ns, group=group)
