"""Names, slots and units: what may be said, checked once at the border.

A slot is a ``NewType``, so that a row is not taken for one; sizes are ints of bytes everywhere inside.
"""

from __future__ import annotations

import re
from operator import index
from typing import NewType, SupportsIndex

__all__ = ["Slot", "check_block_name", "check_count", "check_plane_name", "check_seconds", "parse_nbytes"]

Slot = NewType("Slot", int)  #: a process's row in a plane

MAX_BLOCK_NAME_NBYTES = 120

_MOST_NBYTES = 2**63 - 1  #: of any file

_PLANE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"\s*([0-9]+)(?:\.([0-9]+))?\s*([kmgtp]?)(i?)(b?)\s*", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_plane_name(name: object) -> str:
    """Return ``name`` if it can name a plane, else raise ``TypeError`` or ``ValueError``."""
    if not isinstance(name, str):
        raise TypeError(f"a plane's name is a str, not {type(name).__name__}")
    if not _PLANE_NAME.fullmatch(name):
        raise ValueError(f"plane name {name!r}: use 1 to 64 of A-Z a-z 0-9 . _ - and do not start with a dot")
    return name


def check_block_name(name: object) -> bytes:
    """Return the UTF-8 bytes of a block's name, or raise ``TypeError`` or ``ValueError``."""
    if not isinstance(name, str):
        raise TypeError(f"a block's name is a str, not {type(name).__name__}")
    # Most names are ASCII and printable, which one C call tells.
    if not (name.isascii() and name.isprintable()):
        if _CONTROL.search(name):
            raise ValueError(f"block name {name!r} has control characters; leave them out")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"block name {name!r} is not valid Unicode (it has a lone surrogate)") from None
    encoded = name.encode()
    if not 0 < len(encoded) <= MAX_BLOCK_NAME_NBYTES:
        raise ValueError(
            f"a block's name has 1 to {MAX_BLOCK_NAME_NBYTES} bytes of UTF-8; {name[:40]!r} has {len(encoded)}"
        )
    return encoded


def check_count(count: object, what: str) -> int:
    """Return ``count`` as an int, also when it is NumPy's; ``TypeError`` with ``what`` it is to be for anything else."""
    if isinstance(count, bool) or not isinstance(count, SupportsIndex):
        raise TypeError(f"{what}, not {type(count).__name__}")
    return index(count)


def check_seconds(seconds: float | None, what: str) -> float | None:
    """Return a time of 0 or more seconds, or None, else raise ``TypeError`` or ``ValueError``."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} is a number of seconds or None, not {type(seconds).__name__}")
    if not seconds >= 0:
        raise ValueError(f"{what} is 0 or more seconds, or None, not {seconds}")
    return float(seconds)


def parse_nbytes(size: object, what: str = "size") -> int:
    """Bytes from an int or from text such as ``"512MiB"``, ``"4GiB"`` or ``"10GB"``.

    ``MiB`` counts in 1,024s, ``MB`` in 1,000s.
    """
    if not isinstance(size, str):
        count = check_count(size, f"{what} is an int of bytes or text like '512MiB'")
        if count < 0:
            raise ValueError(f"{what} cannot be negative: {count}")
        return _check_nbytes(count, what)
    found = _SIZE.fullmatch(size)
    if not found or (found[4] and not found[3]):
        raise ValueError(f"{what} {size!r}: write an int of bytes or text like '512MiB', '4GiB', '10GB'")
    unit = (1024 if found[4] else 1000) ** " kmgtp".index(found[3].lower() or " ")
    fraction = found[2] or ""
    # In whole numbers: a float loses bytes above 8 PiB.
    nbytes: int = (int(found[1] + fraction) * unit) // 10 ** len(fraction)
    return _check_nbytes(nbytes, what)


def _check_nbytes(nbytes: int, what: str) -> int:
    if nbytes > _MOST_NBYTES:
        raise ValueError(f"{what} is at most {_MOST_NBYTES:,} B, not {nbytes:,}")
    return nbytes
