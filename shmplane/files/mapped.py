"""``map_file``: files as arrays, tables and windows, without reading them whole.

Rule 1. No descriptor is kept: a thousand mapped files are a thousand ranges of addresses.
Rule 2. A range is given back by garbage collection alone, when no array, table or window can reach it. So ``close()`` ends
the object and nothing that was taken from it, and after ``resize`` old arrays keep their range.
Rule 3. Before anything is handed out, it is asked how long the file is now. Whoever cuts it later makes touching what is gone
a SIGBUS, which no library can prevent: replace files (``os.replace``), do not cut them.
Rule 4. While a window is looked at, the process has at most that window mapped. What lies behind is unmapped; where the file
is larger than half of the memory, or was opened as ``sequential``, it is dropped from the kernel's cache as well, so that
other data stays there. A smaller file stays cached for the next pass.

Nothing is read ahead by ``MADV_WILLNEED``: the kernel's own read-ahead takes larger pages, and a cold walk is twice as fast
(measured: 256 MB in 0.13 s and 0.26 s).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from ..errors import ClosedError, FileTruncated
from ..names import check_count, parse_nbytes
from ..system import (
    PAGE_NBYTES,
    DataFile,
    Mapping,
    advise,
    drop_cached,
    drop_pages,
    grow_data_file,
    is_half_of_memory,
    is_readable,
    make_data_file,
    open_data_file,
    own,
    round_to_pages,
    run_in_forked_child,
    size_of_data_file,
    write_back,
)
from .arrays import array_over, layout_of, layout_of_npy
from .failures import translated

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["MappedFile", "map_file", "walk"]

_FILE = b"ARROW1"
_STREAM = b"\xff\xff\xff\xff"


class Walk(NamedTuple):
    """How a file is walked through."""

    path: str
    file: DataFile
    mapping: Mapping
    window_nbytes: int
    step: int
    private: bool
    drops_cached: bool


def walk(plan: Walk, show: Callable[[int, int], memoryview]) -> Iterator[memoryview]:
    """Each window as ``show(offset, nbytes)`` gives it; the last may be shorter."""
    position = 0
    try:
        while position < plan.file.nbytes:
            end = min(position + plan.window_nbytes, plan.file.nbytes)
            window = show(position, end - position)
            yield window
            del window
            if end == plan.file.nbytes:
                break
            _leave(plan, position, position + plan.step)
            position += plan.step
    finally:
        # Also when the loop was left in the middle.
        _leave(plan, position, min(position + plan.window_nbytes, plan.file.nbytes))


def _leave(plan: Walk, start: int, end: int) -> None:
    if start >= end:
        return
    drop_pages(plan.mapping, at=start, nbytes=end - start, private=plan.private)
    if plan.drops_cached:
        drop_cached(plan.path, plan.file, at=start, nbytes=end - start)


Mode = Literal["r", "r+", "w+", "c"]
Access = Literal["normal", "sequential", "random", "willneed"]

#: two threads that resize: the longer range stays
_mutex = threading.RLock()


def _forget_mutex() -> None:
    """In a forked child: another thread of the parent may have had it."""
    global _mutex  # noqa: PLW0603 - there is one a process
    _mutex = threading.RLock()


run_in_forked_child(_forget_mutex)


class _Range(NamedTuple):
    """The pages that a file is mapped at, and how long it was then."""

    mapping: Mapping
    file: DataFile

    @property
    def nbytes(self) -> int:
        return self.file.nbytes

    def view(self, start: int, nbytes: int) -> memoryview:
        return self.mapping.view[start : start + nbytes]


def map_file(
    path: str | os.PathLike[str], mode: Mode = "r", *, access: Access = "normal", nbytes: int | str | None = None
) -> MappedFile:
    """Map a file, whatever its size; nothing of it is read yet.

    Args:
        mode: ``"r"`` reads; ``"r+"`` also writes, which every process that maps the file sees; ``"w+"`` makes a new file of
            ``nbytes`` zeros (one that had the name lives on with those who mapped it); ``"c"`` writes to private pages that
            never reach the file.
        access: ``"random"`` reads no more than the pages that are touched; ``"sequential"`` reads far ahead and keeps nothing
            behind; ``"willneed"`` begins to read all of it at once.
        nbytes: of the new file, an int or text like ``"4GiB"``; for ``"w+"`` alone. Its room on the disk is reserved.

    Raises:
        FileNotFoundError, IsADirectoryError: as from ``open``. PlaneSecurityError: a ``PermissionError``.
        PlaneFull: no room on the disk for ``"w+"``, or too many mappings.
        ValueError: a bad mode, access or size, or no regular file.

    Cost: about 30 µs, whatever the size; a page of 4 KiB is read when it is first touched.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode is one of r, r+, w+, c; not {mode!r}")
    _check_access(access)
    if (nbytes is None) == (mode == "w+"):
        raise ValueError("mode 'w+' makes a file of nbytes=" if mode == "w+" else "nbytes= is for mode 'w+' alone")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is a str or a Path, not {type(path).__name__}")
    return MappedFile(path, mode, access, None if nbytes is None else parse_nbytes(nbytes, "nbytes"))


def _check_access(access: str) -> None:
    if access not in get_args(Access):
        raise ValueError(f"access is one of {', '.join(get_args(Access))}; not {access!r}")


class MappedFile:
    """A file in memory, page by page as it is touched. Made by ``map_file``.

    May be used from several threads, and in forked children. Pickles as its path and mode.

    Attributes:
        path: absolute; a ``Path`` when one was given, else a ``str``.
        mode: ``"r"``, ``"r+"``, ``"w+"`` or ``"c"``.
        access: how it is read, as it was given.
    """

    __slots__ = ("__weakref__", "_last_nbytes", "_name", "_range", "access", "mode", "path")

    def __init__(self, path: str | os.PathLike[str], mode: Mode, access: Access, nbytes: int | None) -> None:
        self._name: str = os.path.abspath(os.fspath(path))
        self.path: str | Path = self._name if isinstance(path, str) else Path(self._name)
        self.mode: Mode = mode
        self.access: Access = access
        self._last_nbytes: int = 0
        self._range: _Range | None = None
        with translated("mapping", self._name):
            if nbytes is None:
                self._range = self._open()
            else:
                with make_data_file(self._name, nbytes) as (fd, file):
                    self._range = self._map(fd, file)

    def _open(self) -> _Range:
        with open_data_file(self._name, writable=self.mode in ("r+", "w+")) as (fd, file):
            return self._map(fd, file)

    def _map(self, fd: int, file: DataFile) -> _Range:
        mapping = Mapping(max(file.nbytes, 1), writable=self.mode != "r")
        if file.nbytes:
            mapping.lay(fd, round_to_pages(file.nbytes), private=self.mode == "c")
            if self.access != "normal":
                advise(mapping, self.access, at=0, nbytes=file.nbytes)
        return _Range(mapping, file)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._range is None

    @property
    def nbytes(self) -> int:
        """How long the file was when it was mapped, or made, or resized."""
        known = self._range
        return self._last_nbytes if known is None else known.nbytes

    def array(
        self, dtype: npt.DTypeLike | None = None, shape: int | tuple[int, ...] | None = None, offset: int = 0
    ) -> npt.NDArray[Any]:
        """An array over the file, without a copy: read-only in mode ``"r"``.

        Args:
            dtype: any of fixed size, no objects; without it the file is a ``.npy`` file, which says itself.
            shape: without it one dimension, up to the end of the file.
            offset: of the first element, in bytes.

        Raises:
            FileTruncated: somebody cut the file since it was mapped, or a ``.npy`` file ends before its array does.
            ValueError: the array does not lie within the file; ClosedError; UnsupportedValue: values are no plain bytes.
        """
        known = self._known()
        if dtype is None:
            if shape is not None or offset != 0:
                raise ValueError("a shape or an offset needs a dtype; without one, array() reads a .npy file")
            self._check(known, min(known.nbytes, PAGE_NBYTES))
            layout = layout_of_npy(known.view(0, known.nbytes), self._name)
        else:
            layout = layout_of(known.nbytes, dtype, shape, offset)
        self._check(known, layout.offset + layout.nbytes)
        return array_over(known.view(layout.offset, layout.nbytes), layout)

    def table(self, *, check: bool = False) -> pa.Table:
        """The table of an Arrow IPC file or stream, without a copy; columns that were written compressed are copies.

        Args:
            check: read every value first, so that a file of doubtful origin cannot lead a reader out of bounds. Without it
                the lengths alone are checked, and nothing is read that is not asked for.

        Raises:
            ValueError: it is no Arrow IPC; FileTruncated: somebody cut it; ClosedError.
        """
        known = self._known()
        self._check(known, known.nbytes)
        return table_over(known.view(0, known.nbytes), self._name, check=check)

    def windows(self, nbytes: int | str, step: int | str | None = None) -> Iterator[memoryview]:
        """Walk through the file: buffers of ``nbytes``, each ``step`` bytes behind the one before.

        The last may be shorter; none is shown that lies within the one before. What was left behind is given back, so that of
        a file larger than memory one window is in memory. One that is kept stays right: it is read again when it is touched.

        Args:
            step: default ``nbytes``; less: windows overlap; more: what lies between is not read.

        Raises:
            ValueError: ``nbytes`` or ``step`` is not above 0. FileTruncated: while iterating, when somebody cut the file.
        """
        known = self._known()
        size = parse_nbytes(nbytes, "the size of a window")
        stride = size if step is None else parse_nbytes(step, "the step between windows")
        if not size or not stride:
            raise ValueError(f"windows have at least 1 byte, and a step of at least 1: {size}, {stride}")
        plan = Walk(
            path=self._name,
            file=known.file,
            mapping=known.mapping,
            window_nbytes=size,
            step=stride,
            private=self.mode == "c",
            drops_cached=self.access == "sequential" or is_half_of_memory(known.nbytes),
        )
        return walk(plan, lambda start, length: self._show(known, start, length))

    def _show(self, known: _Range, start: int, nbytes: int) -> memoryview:
        self._known()
        # The whole file: the walk cannot come to its end when any of it is gone.
        self._check(known, known.nbytes)
        return known.view(start, nbytes)

    def resize(self, nbytes: int | str | None = None) -> None:
        """Make the file longer, by zeros whose room on the disk is reserved; what was taken before keeps its range.

        Args:
            nbytes: the new length; None: as long as the file is by now, when somebody else made it longer, in any mode but
                ``"c"``.

        Raises:
            ValueError: it would become shorter, which ends who has mapped it; or the mode is ``"r"`` or ``"c"``.
            PlaneFull: no room on the disk. FileNotFoundError: another file has its name by now.
        """
        known = self._known()
        if self.mode == "c" or (self.mode == "r" and nbytes is not None):
            raise ValueError(f"a file in mode {self.mode!r} is not resized; map it with mode 'r+'")
        with translated("resizing", self._name):
            if nbytes is not None:
                wanted = parse_nbytes(nbytes, "nbytes")
                if wanted < known.nbytes:
                    raise ValueError(
                        f"{self._name} has {known.nbytes:,} B and is not made shorter: who has mapped the end would be "
                        f"ended by SIGBUS. Write a new file and replace this one (os.replace)."
                    )
                grow_data_file(self._name, known.file, wanted)
            longer = self._open()
        if longer.file[:2] != known.file[:2]:
            raise FileNotFoundError(f"{self._name} is another file by now; map it again")
        with _mutex:
            if self._range is not None and longer.nbytes > self._range.nbytes:
                self._range = longer

    def flush(self) -> None:
        """Write what was stored to the disk, and wait for it (``msync``). Nothing in modes ``"r"`` and ``"c"``."""
        known = self._known()
        if self.mode in ("r+", "w+") and known.nbytes:
            with translated("flushing", self._name):
                write_back(known.mapping)

    def advise(self, access: Access | Literal["dontneed"], offset: int = 0, nbytes: int | None = None) -> None:
        """Say how a part of the file will be read from now on; by default all of it.

        Args:
            access: as for ``map_file``; ``"dontneed"`` gives the pages back, which are read again when they are touched.
            offset: of the part, in bytes; its pages are meant.
            nbytes: of the part; default: up to the end.
        """
        known = self._known()
        start = check_count(offset, "offset is an int of bytes")
        length = known.nbytes - start if nbytes is None else check_count(nbytes, "nbytes is an int")
        if not 0 <= start <= known.nbytes or length < 0:
            raise ValueError(f"{length:,} B from offset {start:,} lie outside of the file, which has {known.nbytes:,}")
        if access == "dontneed":
            drop_pages(known.mapping, at=start, nbytes=length, private=self.mode == "c")
        else:
            _check_access(access)
            advise(known.mapping, access, at=start, nbytes=length)

    def close(self) -> None:
        """End this object. Idempotent; arrays, tables and windows stay valid, the memory goes with the last of them."""
        with _mutex:
            self._last_nbytes = self.nbytes
            self._range = None

    def _known(self) -> _Range:
        known = self._range
        if known is None:
            raise ClosedError(f"the mapping of {self._name} was closed; map it again", path=self._name)
        return known

    def _check(self, known: _Range, end: int) -> None:
        """``FileTruncated`` when the file does not reach to ``end`` any more."""
        found = size_of_data_file(self._name, known.file)
        if found is None and end:
            # It has lost its name: only the kernel can say, of whole pages.
            if is_readable(known.mapping, end - 1):
                return
        elif found is None or found >= end:
            return
        length = "less" if found is None else f"{found:,}"
        raise FileTruncated(
            f"{self._name} had {known.nbytes:,} B when it was mapped and has {length} now: somebody cut it. Arrays of what is "
            f"gone must not be touched (SIGBUS). Replace files (os.replace) instead of writing them anew in place.",
            path=self._name,
            needed=end,
            found=found,
        )

    def __enter__(self) -> Self:
        self._known()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.mode == "c":
            raise TypeError("what was written to private pages of a file does not pickle; send the array")
        return partial(map_file, access=self.access), (self.path, "r" if self.mode == "r" else "r+")

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<MappedFile {self._name!r}, mode {self.mode!r}, {self.nbytes:,} B{state}>"


def table_over(view: memoryview, path: str, *, check: bool) -> pa.Table:
    """The table over the bytes of a whole file, which its columns keep; compressed columns are copies."""
    import pyarrow as pa

    is_file = view[: len(_FILE)] == _FILE
    if is_file and view[-len(_FILE) :] != _FILE:
        raise FileTruncated(
            f"{path} begins as an Arrow IPC file and does not end as one: it was cut short, or is still being written",
            path=path,
            found=len(view),
        )
    if not is_file and view[: len(_STREAM)] != _STREAM:
        raise ValueError(f"{path} is no Arrow IPC file or stream: it begins with {bytes(view[:8])!r}")
    try:
        return _read(pa.py_buffer(view), is_file=is_file, check=check)
    except own(pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as Arrow IPC: {error}") from error


def _read(buffer: Any, *, is_file: bool, check: bool) -> Any:
    import pyarrow as pa

    reader = pa.ipc.open_file(buffer) if is_file else pa.ipc.open_stream(buffer)
    table = reader.read_all()
    table.validate(full=check)
    return table
