"""What the operating system must offer, found out once.

Linux on a 64-bit little-endian machine: aligned 8-byte stores are then single stores, and open-file-description
(OFD) locks, ``MAP_NORESERVE`` and ``fallocate`` are there. Elsewhere ``require_platform`` says what is missing.
"""

from __future__ import annotations

import mmap
import os
import sys

from ..errors import UnsupportedPlatform

__all__ = ["PAGE_NBYTES", "STORES_IN_ORDER", "require_platform"]

MACHINES = ("x86_64", "aarch64", "arm64")

PAGE_NBYTES = mmap.PAGESIZE
#: whether one processor sees another's stores in the order in which they were made, also without a lock in between
STORES_IN_ORDER = os.uname().machine == "x86_64"


def require_platform() -> None:
    """Raise ``UnsupportedPlatform`` unless this is 64-bit little-endian Linux."""
    machine = os.uname().machine
    found = f"{sys.platform} on {machine}, {sys.maxsize.bit_length() + 1} bit, {sys.byteorder} endian"
    if sys.platform != "linux" or machine not in MACHINES:
        raise UnsupportedPlatform(f"shmplane needs Linux on {' or '.join(MACHINES[:2])}; this is {found}")
    if sys.maxsize != 2**63 - 1 or sys.byteorder != "little":
        raise UnsupportedPlatform(f"shmplane needs a 64-bit little-endian Python; this is {found}")
