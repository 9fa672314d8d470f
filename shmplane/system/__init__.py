"""What Linux gives us. The only place with ctypes, fcntl and mmap."""

from typing import TYPE_CHECKING

from .capabilities import PAGE_NBYTES, STORES_IN_ORDER, require_platform
from .files import (
    allocate,
    backed_nbytes,
    check_directory,
    close_own,
    copy_file,
    create_file,
    create_file_into,
    exists,
    identity_of,
    link_file,
    make_directory,
    open_file,
    punch,
    read_start,
    remove_entry,
    remove_tree,
    reopen,
    set_size,
    try_flock,
    unlink_quietly,
    unlink_second_name,
    write_all,
)
from .forking import ForkWitness, begin_again_in_forks, immortalise, join_forks, run_in_forked_child
from .handlers import ignoring, is_from_handler, own
from .hostlock import NOT_HAD, Busy, HostLock, Lost, NotHad
from .imports import is_loaded
from .mapping import Mapping, Pages, PrivateMapping, Window, enter_pages, move_pages, populate, reserve, round_to_pages
from .modules import late, late_names, load_late
from .ofd import OfdRange, WholeLock
from .sizes import SIZE_CLASSES, class_nbytes, fits, size_class_of
from .tokens import Token
from .waiting import wait_for_change, wake_all

if TYPE_CHECKING:
    from .beside import can_run_beside, run_beside
    from .cgroups import MemoryLimit, free_nbytes, has_idle_core, memory_limit
    from .datafiles import DataFile, grow_data_file, make_data_file, open_data_file, size_of_data_file
    from .dirty import DIRTY_METHODS, dirty_runs, is_unwritten
    from .disks import Disk, boot_id, disk_of, file_system_of, require_fallocate
    from .ends import wait_for_end
    from .logs import logger_of
    from .residency import (
        ADVICE,
        advise,
        drop_cached,
        drop_pages,
        is_half_of_memory,
        is_readable,
        scratch_pages,
        write_back,
    )
    from .standard import attach_untracked
    from .user_files import ReplacingFile, is_cached, open_to_read, read_into, replacing
    from .users import run_as

__getattr__ = late_names(
    __name__,
    {
        ".dirty": "DIRTY_METHODS dirty_runs is_unwritten",
        ".disks": "Disk boot_id disk_of file_system_of require_fallocate",
        ".ends": "wait_for_end",
        ".logs": "logger_of",
        ".beside": "can_run_beside run_beside",
        ".cgroups": "MemoryLimit free_nbytes has_idle_core memory_limit",
        ".datafiles": "DataFile grow_data_file make_data_file open_data_file size_of_data_file",
        ".residency": "ADVICE advise drop_cached drop_pages is_half_of_memory is_readable scratch_pages write_back",
        ".standard": "attach_untracked",
        ".user_files": "ReplacingFile is_cached open_to_read read_into replacing",
        ".users": "run_as",
    },
)

__all__ = [
    "ADVICE", "advise", "allocate", "attach_untracked", "backed_nbytes", "begin_again_in_forks", "boot_id", "Busy",
    "can_run_beside", "check_directory", "class_nbytes", "close_own", "copy_file", "create_file", "create_file_into",
    "DataFile", "DIRTY_METHODS", "dirty_runs", "Disk", "disk_of", "drop_cached", "drop_pages", "enter_pages", "exists",
    "file_system_of", "fits", "ForkWitness", "free_nbytes", "grow_data_file", "has_idle_core", "HostLock", "identity_of",
    "ignoring", "immortalise", "is_cached", "is_from_handler", "is_half_of_memory", "is_loaded", "is_readable", "is_unwritten",
    "join_forks", "late", "late_names", "link_file", "load_late", "logger_of", "Lost", "make_data_file",
    "make_directory", "Mapping", "memory_limit", "MemoryLimit", "move_pages", "NOT_HAD", "NotHad", "OfdRange",
    "open_data_file", "open_file", "open_to_read", "own", "PAGE_NBYTES", "Pages", "populate", "PrivateMapping",
    "punch", "read_into", "read_start", "remove_entry", "remove_tree", "reopen", "replacing", "ReplacingFile",
    "require_fallocate", "require_platform", "reserve", "round_to_pages", "run_as", "run_beside",
    "run_in_forked_child", "scratch_pages", "set_size", "size_class_of", "SIZE_CLASSES", "size_of_data_file",
    "STORES_IN_ORDER", "Token", "try_flock", "unlink_quietly", "unlink_second_name", "wait_for_change",
    "wait_for_end", "wake_all", "WholeLock", "Window", "write_all", "write_back",
]  # fmt: skip
