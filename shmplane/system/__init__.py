"""What Linux gives us. The only place with ctypes, fcntl and mmap."""

from .capabilities import PAGE_NBYTES, require_platform
from .files import (
    allocate,
    check_directory,
    close_own,
    create_file,
    identity_of,
    make_directory,
    open_file,
    punch,
    unlink_quietly,
    write_all,
)
from .forking import join_forks
from .hostlock import Busy, HostLock, Lost
from .mapping import Mapping, Pages, reserve, round_to_pages
from .tokens import Token
from .waiting import wait_for_change, wake_all

__all__ = [
    "PAGE_NBYTES",
    "Busy",
    "HostLock",
    "Lost",
    "Mapping",
    "Pages",
    "Token",
    "allocate",
    "check_directory",
    "close_own",
    "create_file",
    "identity_of",
    "join_forks",
    "make_directory",
    "open_file",
    "punch",
    "require_platform",
    "reserve",
    "round_to_pages",
    "unlink_quietly",
    "wait_for_change",
    "wake_all",
    "write_all",
]
