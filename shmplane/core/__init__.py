"""The optional compiled core: the common path of small operations in C, in front of the complete Python code.

Rule 1. Without it everything works, in Python alone: where there is no compiler or no header of Python, where the build that
lies here is another Python's or another release's, and where ``SHMPLANE_PURE=1`` says so. ``why_not`` tells which.
Rule 2. What is loaded was built from the very C files that lie beside it: the build has their checksum.
Rule 3. It is asked for when a plane is opened, and kept with that: a process may have planes with it and without it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from zlib import crc32

from ..system import own

__all__ = ["load", "source_checksum", "why_not"]

_FOLDER = os.path.dirname(__file__)
#: the module or why there is none, once it was looked for
_found: list[ModuleType | str] = []


def load() -> ModuleType | None:
    """The module ``_core``, or None: see ``why_not``. Cost: the first time about 1 ms."""
    if os.environ.get("SHMPLANE_PURE", "0") not in {"", "0"}:
        return None
    if not _found:
        _found.append(_look())
    found = _found[0]
    return None if isinstance(found, str) else found


def why_not() -> str | None:
    """Why planes that are opened now do without the core; None: they have it."""
    if load() is not None:
        return None
    return _found[0] if _found and isinstance(_found[0], str) else "SHMPLANE_PURE is set"


def source_checksum() -> int:
    """What a build of the source that lies here says it was built from."""
    checksum = 0
    for name in sorted(name for name in os.listdir(_FOLDER) if name.endswith((".c", ".h"))):
        with open(os.path.join(_FOLDER, name), "rb") as file:
            checksum = crc32(file.read(), checksum)
    return checksum


def _look() -> ModuleType | str:
    # The limited API has one layout of objects for all Pythons with a GIL; on others it must not even be loaded.
    if sys.implementation.name != "cpython" or "t" in sys.abiflags:
        return "this Python has no GIL, which the core needs"
    try:
        from . import _core
    except own(ImportError) as error:
        return f"it was not built; with gcc and Python's headers install again, with --no-cache-dir ({error})"
    try:
        is_built_from_this = source_checksum() == _core.SOURCE
    except own(OSError):
        is_built_from_this = False
    return (
        _core
        if is_built_from_this
        else "it was built from another source than lies here; install again, with --no-cache-dir"
    )
