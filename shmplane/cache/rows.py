"""The ``Disk`` of diskcache's database, as this cache wants it: bytes in, bytes out.

diskcache's own unpickles what a row or file says is a pickle, so whoever can write a row runs code (CVE-2025-69872). This one
can neither make nor read a pickle: keys and values are ``bytes``, anything else counts as damaged, and paths stay inside.
"""

from __future__ import annotations

import os
import re
from typing import Any

import diskcache

from ..errors import PlaneCorrupt
from ..system import ignoring

__all__ = ["RowDisk", "is_file_name"]

_FILE_NAME = re.compile(r"v[0-9a-f]{2}/[0-9a-f]{30}\.val", re.ASCII)
_RAW = 1  #: diskcache's mode of a value that is in its row


def is_file_name(name: object) -> bool:
    """Whether a row's file is one of those that this cache makes: not a path to anywhere else."""
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None


class RowDisk(diskcache.Disk):  # type: ignore[misc]
    """Stores what it is given when that is ``bytes``."""

    def __init__(self, directory: str, **_: Any) -> None:  # settings of the stock one may stand in the database
        super().__init__(directory)

    def put(self, key: Any) -> tuple[bytes, bool]:
        if type(key) is not bytes:
            raise TypeError(f"keys of the database are bytes, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> bytes:
        if type(key) is not bytes or not raw:
            raise PlaneCorrupt("a key of the cache's database was not written by this library")
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, str | None, bytes]:  # noqa: ARG002
        if type(value) is not bytes or read:
            raise TypeError(f"values of the database are bytes, not {type(value).__name__}")
        return 0, _RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:  # noqa: ARG002
        if mode != _RAW or type(value) is not bytes:
            raise PlaneCorrupt("a value of the cache's database was not written by this library")
        return value

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:  # noqa: ARG002
        token = os.urandom(16).hex()
        name = f"v{token[:2]}/{token[2:]}.val"
        return name, os.path.join(self._directory, name)

    def remove(self, file_path: Any) -> None:
        if is_file_name(file_path):
            with ignoring(OSError):
                os.unlink(os.path.join(self._directory, file_path))
