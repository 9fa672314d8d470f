"""What the host offers: each check asks the kernel and leaves nothing behind.

A limit is a warning when planes of usual size would meet it, with the command that raises it.
"""

from __future__ import annotations

import os
import platform
import resource
import stat
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ..core import why_not
from ..errors import ShmplaneError
from ..manifest import directory_of
from ..scopes import reclaim_orphans
from ..system import Token, check_directory, file_system_of, free_nbytes, memory_limit, require_platform
from .checks import Check
from .logind import check_logout
from .units import count, nbytes

__all__ = ["check_host"]

LIBRARIES = ("numpy", "pyarrow")
#: what extras bring; nothing is wrong without
_OPTIONAL = ("diskcache",)
_PAGEMAP_SCAN_SINCE = (6, 7)
_FEW_DESCRIPTORS = 1024
_USUAL_MAPPINGS = 65_530
_SMALL_ROOT_NBYTES = 256 << 20
_FEW_INODES = 10_000


def check_host(root: str) -> Iterator[Check]:
    """Every check of the host, in the order in which they matter."""
    yield _platform()
    yield from _libraries()
    yield _core()
    is_there = os.path.isdir(root)
    yield _root(root)
    if is_there:
        yield _locks(root)
        yield from _room(root)
        yield _own_directory(root)
        yield check_logout(root)
    yield _temporary_files()
    yield _dirty_pages()
    yield _descriptors()
    yield _mappings()
    yield _address_space()
    if is_there:
        yield _cgroup(root)


def _platform() -> Check:
    found = f"Linux {platform.release()} on {platform.machine()}, Python {platform.python_version()}"
    try:
        require_platform()
    except ShmplaneError as error:
        return Check("platform", "fail", str(error), "Run it on 64-bit Linux.")
    return Check("platform", "pass", found)


def _libraries() -> Iterator[Check]:
    versions, missing = [], []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield Check("libraries", "fail", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    else:
        yield Check("libraries", "pass", ", ".join([*versions, *map(_say_optional, _OPTIONAL)]))


def _core() -> Check:
    """Nothing is wrong without: only small operations take longer."""
    why = why_not()
    return Check("core", "pass", "compiled" if why is None else f"Python alone, which is slower: {why}")


def _say_optional(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"no {name} (pip install 'shmplane[cache]' for Cache)"


def _root(root: str) -> Check:
    if not os.path.isdir(root):
        return Check("root", "fail", f"{root} is not a directory", "Set SHMPLANE_ROOT or --root to one in memory.")
    if not os.access(root, os.W_OK | os.X_OK):
        return Check("root", "fail", f"{root} cannot be written to", "Set SHMPLANE_ROOT or --root to one that can.")
    kind = file_system_of(root)
    if kind not in ("tmpfs", "ramfs", "hugetlbfs"):
        return Check(
            "root", "warn", f"{root} is on {kind}, not in memory", "Use a tmpfs; otherwise pages are written to disk."
        )
    return Check("root", "pass", f"{root}, a {kind}")


def _locks(root: str) -> Check:
    """Two descriptions of a file without a name: one locks, the other must see it, and get it afterwards."""
    try:
        with tempfile.TemporaryFile(dir=root) as file:
            first, second = Token(file.fileno()).reopened(), Token(file.fileno()).reopened()
            try:
                taken, seen, refused = first.try_take(0), second.is_held(0), not second.try_take(0)
                first.close()
                freed = second.try_take(0)
            finally:
                first.close()
                second.close()
    except (OSError, ShmplaneError) as error:
        return Check("locks", "fail", f"OFD locks: {error}", "Use a root on a local file system such as /dev/shm.")
    if taken and seen and refused and freed:
        return Check("locks", "pass", "OFD locks exclude, are seen by others, and end with their descriptor")
    return Check("locks", "fail", "OFD locks do not exclude each other", "Use a root on a tmpfs of a Linux kernel.")


def _room(root: str) -> Iterator[Check]:
    found = os.statvfs(root)
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    what = f"{nbytes(free)} free of {nbytes(size)}"
    if size < _SMALL_ROOT_NBYTES:
        yield Check(
            "room", "warn", what, f"Enlarge it: mount -o remount,size=4G {root} (containers: docker run --shm-size=4g)."
        )
    elif free < size // 10:
        yield Check("room", "warn", what, "See what lies there: `shmplane ls`, then `shmplane gc` or `shmplane rm`.")
    else:
        yield Check("room", "pass", what)
    if found.f_files and found.f_favail < _FEW_INODES:
        what = f"{count(found.f_favail)} of {count(found.f_files)} inodes free"
        yield Check("inodes", "warn", what, f"mount -o remount,nr_inodes=1m {root}, or remove files there.")
    elif found.f_files:
        yield Check("inodes", "pass", f"{count(found.f_favail)} of {count(found.f_files)} free")


def _own_directory(root: str) -> Check:
    path = directory_of(root)
    try:
        check_directory(path)
    except FileNotFoundError:
        return Check("directory", "pass", f"{path} is made with the first plane")
    except (OSError, ShmplaneError) as error:
        return Check("directory", "fail", str(error), _cure_of_directory(path))
    return Check("directory", "pass", f"{path}, mode {stat.S_IMODE(os.lstat(path).st_mode):04o}, ours")


def _cure_of_directory(path: str) -> str:
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
        return f"See whether somebody else put anything there, then: chmod 700 {path}"
    return f"Look at {path} and who made it; then remove it, or set another root."


def _temporary_files() -> Check:
    """Those of scopes; a process that lives has its own locked."""
    try:
        left = reclaim_orphans(dry_run=True)
    except (OSError, ShmplaneError) as error:
        return Check(
            "temporary files", "fail", str(error), "Look at it and who made it; then remove it, or set TMPDIR."
        )
    if left:
        found = f"{count(left)} of scopes whose process was killed"
        return Check("temporary files", "warn", found, "shmplane gc")
    return Check("temporary files", "pass", "nothing is left of scopes whose process was killed")


def _dirty_pages() -> Check:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    readable = os.access("/proc/self/pagemap", os.R_OK)
    if not readable:
        what = "/proc/self/pagemap cannot be read, so drafts compare whole arrays"
        return Check("dirty pages", "warn", what, "Mount /proc without restrictions.")
    if numbers >= _PAGEMAP_SCAN_SINCE:
        return Check("dirty pages", "pass", f"/proc/self/pagemap; Linux {release} has PAGEMAP_SCAN")
    return Check("dirty pages", "pass", "/proc/self/pagemap; PAGEMAP_SCAN (Linux 6.7) would make commits faster")


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = f"{_limit(soft)} (ulimit -n), at most {_limit(hard)}"
    if soft != resource.RLIM_INFINITY and soft < _FEW_DESCRIPTORS:
        return Check("descriptors", "warn", what, f"ulimit -n {hard if hard > soft else 4096}")
    return Check("descriptors", "pass", what)


def _mappings() -> Check:
    try:
        found = int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        return Check(
            "mappings", "warn", f"vm.max_map_count cannot be read: {error}", "Mount /proc without restrictions."
        )
    if found < _USUAL_MAPPINGS:
        return Check(
            "mappings", "warn", f"vm.max_map_count is {count(found)}", f"sysctl -w vm.max_map_count={_USUAL_MAPPINGS}"
        )
    return Check("mappings", "pass", f"vm.max_map_count is {count(found)}")


def _address_space() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return Check("address space", "pass", "unlimited (ulimit -v)")
    what = f"{nbytes(soft)} (ulimit -v), and mappings count against it"
    return Check("address space", "warn", what, "ulimit -v unlimited")


def _cgroup(root: str) -> Check:
    """At a cgroup's limit the kernel kills the writer; no call fails before."""
    found = memory_limit()
    if found is None:
        return Check("cgroup", "pass", "no memory limit")
    what = f"{nbytes(found.room_nbytes)} left of {nbytes(found.limit_nbytes)}"
    if found.room_nbytes < found.limit_nbytes // 10:
        return Check(
            "cgroup",
            "warn",
            f"{what}; a new plane's default capacity is {nbytes(free_nbytes(root) // 2)}",
            "At the limit the kernel kills the writer. Free memory, or raise the group's limit.",
        )
    return Check("cgroup", "pass", what)


def _limit(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else count(value)
