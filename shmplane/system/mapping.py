"""Mappings: this process's view of memory, one contiguous range composed of pieces of files.

Address space is reserved with Python's own ``mmap`` (nothing is charged for it) and the pieces are laid over it.
The Python object owns the range: no descriptor is kept, and its deallocation unmaps everything at once.

Rule 1. A range is never unmapped, closed or resized while an object can reach it; only garbage collection ends it.
Rule 2. Ranges for readers are read-only pages: no Python trick makes an array over them writable.
Rule 3. Nothing is mapped through a descriptor that carries OFD locks: a forked child's mapping would keep them held.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..errors import PlaneFull
from . import libc
from .capabilities import PAGE_NBYTES
from .handlers import ignoring, own

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Runs = npt.NDArray[np.int64]  #: first page and number of pages of each run, ascending

__all__ = [
    "Mapping",
    "Pages",
    "PrivateMapping",
    "Window",
    "enter_pages",
    "move_pages",
    "populate",
    "reserve",
    "round_to_pages",
]

AnyPages = TypeVar("AnyPages", bound="Pages")

MAP_FAILED = 2**64 - 1
_MAP_FIXED = 0x10
_NORESERVE = 0x4000
_POPULATE_READ, _POPULATE_WRITE = 22, 23
_MOVE_AND_KEEP = 0x01 | 0x02 | 0x04  #: MREMAP_MAYMOVE, _FIXED and _DONTUNMAP
_TABLE_NBYTES = 2 << 20  #: what one page of a page table covers
_MOST_FORGOTTEN_APART = 64
_READ = mmap.PROT_READ
_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


# Safety: only ``map_fixed`` calls it, over a range that its caller has reserved.
_mmap = libc.KEEPING_GIL.mmap
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong)
_mmap.restype = ctypes.c_size_t


def map_fixed(address: int, nbytes: int, prot: int, *, flags: int, fd: int = -1, offset: int = 0) -> None:
    """Map over ``[address, address + nbytes)``, which the caller must have reserved."""
    # Safety: the range belongs to the caller's reservation, so nothing of anybody else is replaced.
    if _mmap(address, nbytes, prot, flags | _MAP_FIXED, fd, offset) == MAP_FAILED:
        libc.raise_errno(f"mmap of {nbytes:,} B")


# Safety: only ``move_pages`` calls it, with two ranges whose mappings its caller keeps alive.
_mremap = ctypes.CDLL(None, use_errno=True).mremap
_mremap.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_size_t)
_mremap.restype = ctypes.c_size_t


class _PyBuffer(ctypes.Structure):
    """``Py_buffer`` of the C API; the same on all supported versions."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(exporter: object) -> int:
    """Where a contiguous buffer starts; valid for as long as the caller keeps ``exporter`` alive."""
    view = _PyBuffer()
    # Safety: the view is released before the function returns; only the number leaves it.
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(view), 0)
    try:
        return view.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))


def round_to_pages(nbytes: int) -> int:
    """``nbytes`` rounded up to whole pages."""
    return -(-nbytes // PAGE_NBYTES) * PAGE_NBYTES


class Pages(mmap.mmap):
    """A reservation that cannot be closed by whoever gets hold of it; its subclasses export the C buffer protocol.

    Attributes:
        kept: whatever has to live for as long as somebody can reach these pages.
    """

    kept: object = None

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("memory of a plane is given back by garbage collection; it cannot be closed or resized")

    close: Any = _refuse
    resize: Any = _refuse
    move: Any = _refuse
    __enter__: Any = _refuse
    __exit__: Any = _refuse


class Window(Pages):
    """Read-only bytes on pages of their own, which keep a lease: what can be shown without NumPy, on every Python.

    Attributes:
        nbytes: how many there are; they need not start on a page.
    """

    __slots__ = ("_lease", "_start", "nbytes")
    nbytes: int
    _start: int

    @classmethod
    def open(cls, fd: int, *, offset: int, nbytes: int, lease: object) -> Window:
        """Show ``nbytes`` of a file from ``offset``; the file is that long and stays so while the lease lives."""
        start = offset % PAGE_NBYTES
        window = reserve(start + max(nbytes, 1), writable=False, kind=cls)
        if nbytes:
            mapping = Mapping(start + nbytes, pages=window)
            mapping.lay(fd, mapping.nbytes, offset=offset - start)
        window._start, window.nbytes = start, nbytes
        _hold_lease(window, lease)
        return window

    @property
    def data(self) -> memoryview:
        """A view of the bytes, which keeps the window."""
        return memoryview(self)[self._start : self._start + self.nbytes]


# The slot keeps its place in the object but loses its name: nothing that could be closed is reached from a view.
_hold_lease = Window.__dict__["_lease"].__set__
del Window._lease  # type: ignore[attr-defined]


@overload
def reserve(nbytes: int, *, writable: bool) -> Pages: ...
@overload
def reserve(nbytes: int, *, writable: bool, kind: type[AnyPages]) -> AnyPages: ...
def reserve(nbytes: int, *, writable: bool, kind: type[Pages] = Pages) -> Pages:
    """Address space with nothing behind it yet; ``len`` is ``nbytes``, whole pages are reserved."""
    try:
        return kind(-1, nbytes, flags=mmap.MAP_PRIVATE | _NORESERVE, prot=_WRITE if writable else _READ)
    except own(OSError) as error:
        raise _out_of_mappings(nbytes, error) from error


class Mapping:
    """A range of addresses with pieces of files laid over it.

    Attributes:
        address: where it starts; a multiple of the page size.
        nbytes: its length, whole pages.
        view: its bytes; writable only when the mapping is.
    """

    __slots__ = ("__weakref__", "address", "nbytes", "view", "writable")

    def __init__(self, nbytes: int, *, writable: bool = False, pages: Pages | None = None) -> None:
        self.nbytes: int = round_to_pages(nbytes)
        self.writable: bool = writable
        pages = pages if pages is not None else reserve(self.nbytes, writable=writable)
        # The memoryview pins the range: even mmap.mmap.close(range) raises BufferError while it exists.
        self.view: memoryview = memoryview(pages)
        self.address: int = address_of(pages)

    def lay(self, fd: int, nbytes: int, *, at: int = 0, offset: int = 0, private: bool = False) -> None:
        """Lay ``nbytes`` of a file, from ``offset``, over the range at ``at``; all three in whole pages."""
        if not (0 <= at <= self.nbytes - nbytes and nbytes > 0):
            raise ValueError(f"a piece of {nbytes} B at {at} lies outside a range of {self.nbytes} B")
        flags = mmap.MAP_PRIVATE | _NORESERVE if private else mmap.MAP_SHARED
        prot = _WRITE if self.writable else _READ
        try:
            # Safety: the piece lies within this range, which is reserved and owned by this object.
            map_fixed(self.address + at, nbytes, prot, flags=flags, fd=fd, offset=offset)
        except own(OSError) as error:
            if error.errno == errno.ENOMEM:
                raise _out_of_mappings(nbytes, error) from error
            raise

    def lay_nothing(self) -> None:
        """Replace all pages by private empty ones; addresses handed out before stay valid."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        # Safety: exactly this object's own range.
        map_fixed(self.address, self.nbytes, _WRITE if self.writable else _READ, flags=flags)

    @property
    def pages(self) -> Pages:
        """What the range is made of."""
        pages: Pages = self.view.obj  # type: ignore[assignment]
        return pages

    def words(self) -> memoryview:
        """The range as unsigned 8-byte words."""
        return self.view.cast("Q")


def populate(mapping: Mapping) -> None:
    """Have the kernel enter all pages of a writable mapping at once, which costs a fraction of faulting each (Linux 5.14)."""
    with ignoring(OSError):
        # Safety: exactly this object's own range; what is read from it stays the same.
        libc.madvise(mapping.address, mapping.nbytes, _POPULATE_WRITE)


def enter_pages(mapping: Mapping) -> None:
    """The same where the file has its pages already: as for reading, many at a time; a shared mapping may then write them."""
    with ignoring(OSError):
        # Safety: exactly this object's own range; what is read from it stays the same.
        libc.madvise(mapping.address, mapping.nbytes, _POPULATE_READ)


def move_pages(source: Mapping, target: Mapping) -> bool:
    """Move what is mapped at the start of one range, and is in memory, to another one, so that it is not faulted in again.

    ``source`` still shows the same file, page by page as it is touched. False: the kernel cannot do that (Linux 5.13 can).

    Cost: 4 µs a MiB, a hundredth of faulting its pages in.
    """
    nbytes = min(source.nbytes, target.nbytes)
    # Safety: both ranges are owned by these objects. The old one stays mapped, so nobody else is given its addresses.
    return int(_mremap(source.address, nbytes, nbytes, _MOVE_AND_KEEP, target.address)) == target.address


class PrivateMapping(Mapping):
    """A private, writable mapping that is lent to those who write.

    Attributes:
        loans: how often it was lent.
    """

    __slots__ = ("_lent", "loans")

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes, writable=True, pages=reserve(nbytes, writable=True))
        self.loans: int = 0
        self._lent: list[weakref.ref[Any]] = []

    def lend(self, kept: object = None) -> memoryview:
        """All bytes, for an array. What it is over is garbage when nobody can reach them any more through it.

        Args:
            kept: whatever has to live as long.
        """
        pages = self.pages
        # Safety: the loan holds the buffer of the pages for as long as it lives.
        loan: Any = (ctypes.c_ubyte * len(pages)).from_buffer(pages)
        loan.kept = kept
        self.loans += 1
        # One range may be lent for as many edits as there ever are: those that have ended are not remembered.
        self._lent = [weakref.ref(loan), *(lent for lent in self._lent if lent() is not None)]
        return memoryview(loan)

    @property
    def is_lent(self) -> bool:
        """Whether anything can be reached through which somebody writes."""
        for loan in self._lent:  # noqa: SIM110 - this is in every edit
            if loan() is not None:
                return True
        return False

    def forget_written(self, runs: Runs | None) -> None:
        """Give back the copies of these pages, which then show the file again.

        The tables around them go as well, so that whoever looks for written pages next finds nothing to walk.

        Args:
            runs: first page and number of pages of each. None: all pages.
        """
        pages = self.pages
        if runs is None or len(runs) > _MOST_FORGOTTEN_APART:
            pages.madvise(mmap.MADV_DONTNEED)
            return
        for first, count in runs.tolist():
            # Safety: only this object's own range, of which no page is left out that was written.
            start = self.address + first * PAGE_NBYTES & -_TABLE_NBYTES
            stop = -(-(self.address + (first + count) * PAGE_NBYTES) // _TABLE_NBYTES) * _TABLE_NBYTES
            start, stop = max(start - self.address, 0), min(stop - self.address, self.nbytes)
            pages.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _out_of_mappings(nbytes: int, error: OSError) -> PlaneFull:
    return PlaneFull(
        f"mapping {nbytes:,} B failed: {error}. The process has too many mappings (vm.max_map_count) or an address "
        f"space limit; close blocks that are no longer needed or raise the limit.",
        needed=nbytes,
    )
