"""``.npy``, ``.npz`` (as a dict of arrays) and files that are nothing but their bytes."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from ...errors import FileTruncated
from ...system import own
from ..arrays import layout_of, layout_of_npy
from ..failures import translated
from .source import PIECE_NBYTES, Fill, Pieces, Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ...system import ReplacingFile

__all__ = ["read_npy", "read_npz", "read_raw", "write_in_c_order", "write_npy", "write_npz", "write_raw"]

#: longer than any header that is read
_HEAD_NBYTES = 1 << 16
_WRITTEN_NBYTES = 1 << 20  #: at a time


def read_npy(source: Source) -> Pieces:
    layout = layout_of_npy(memoryview(source.head(_HEAD_NBYTES)), source.path, file_nbytes=source.nbytes)
    return Pieces(layout.nbytes, source.part(layout.offset), layout.dtype, layout.shape, layout.order == "F")


def read_raw(source: Source, dtype: Any = None, shape: Any = None) -> Pieces:
    """Its bytes, or an array of ``dtype`` over them."""
    if dtype is None and shape is None:
        return Pieces(source.nbytes, source.part(0))
    layout = layout_of(source.nbytes, "u1" if dtype is None else dtype, shape, 0)
    return Pieces(layout.nbytes, source.part(0), layout.dtype, layout.shape)


@contextlib.contextmanager
def _zipped(path: str) -> Iterator[None]:
    """What reading a zip file that is none, or was cut, raises; inside the block nothing else is called."""
    try:
        with translated("reading", path):
            yield
    except own(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is no whole .npz file: {error}") from error


def read_npz(source: Source) -> dict[str, Pieces]:
    found: dict[str, Pieces] = {}
    with _zipped(source.path), zipfile.ZipFile(source.path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in found or not member.filename.endswith(".npy"):
                raise ValueError(
                    f"{source.path} has {member.filename!r}, which is no array or one of two; as np.savez writes it, it "
                    f"has one .npy file for each array"
                )
            with archive.open(member) as file:
                head = file.read(_HEAD_NBYTES)
            found[name] = _member(source, member, head)
    return found


def _member(source: Source, member: zipfile.ZipInfo, head: bytes) -> Pieces:
    path = f"{source.path}:{member.filename}"
    layout = layout_of_npy(memoryview(head), path, file_nbytes=member.file_size)

    @contextlib.contextmanager
    def reading() -> Iterator[Fill]:
        with contextlib.ExitStack() as opened:
            with _zipped(source.path):
                archive = opened.enter_context(zipfile.ZipFile(source.path))
                file = opened.enter_context(archive.open(member))
                file.read(layout.offset)
            yield partial(_fill, source, member, file)

    return Pieces(layout.nbytes, reading, layout.dtype, layout.shape, layout.order == "F")


def _fill(source: Source, member: zipfile.ZipInfo, file: IO[bytes], view: memoryview) -> None:
    done = 0
    while done < view.nbytes:
        # Not all at once: what is read of a member is made anew and then copied.
        with _zipped(source.path):
            data = file.read(min(PIECE_NBYTES, view.nbytes - done))
        if not data:
            raise FileTruncated(
                f"{source.path}:{member.filename} ends before its array does", path=source.path, found=done
            )
        view[done : done + len(data)] = data
        done += len(data)
        source.report(member.header_offset + min(member.compress_size, file.tell()))


# Writing


def write_npy(out: ReplacingFile | Any, array: npt.NDArray[Any]) -> None:
    import numpy as np

    described = np.lib.format.header_data_from_array_1_0(array)
    try:
        np.lib.format.write_array_header_1_0(out, described)
    except own(ValueError):  # it is too long
        np.lib.format.write_array_header_2_0(out, described)
    write_raw(out, array)


def write_npz(out: ReplacingFile, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                write_npy(file, array)


def write_in_c_order(out: ReplacingFile, array: npt.NDArray[Any]) -> None:
    """The elements in C order, whatever order they lie in; only a piece is copied at a time."""
    if array.flags.c_contiguous:
        write_raw(out, array)
        return
    rows = _WRITTEN_NBYTES // array[0].nbytes
    if not rows:
        for item in array:
            write_in_c_order(out, item)
        return
    for start in range(0, len(array), rows):
        write_raw(out, array[start : start + rows].copy(order="C"))


def write_raw(out: ReplacingFile | Any, array: npt.NDArray[Any]) -> None:
    """The elements of an array that lies in one piece, as they lie."""
    import numpy as np

    if array.nbytes:
        flat: npt.NDArray[np.uint8] = array.reshape(-1, order="A").view(np.uint8)
        for start in range(0, flat.nbytes, _WRITTEN_NBYTES):
            out.write(flat[start : start + _WRITTEN_NBYTES].data)
