"""``.npy``, ``.npz`` (as a dict of arrays) and files that are nothing but their bytes."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import FileTruncated
from ...system import own
from ..arrays import layout_of, layout_of_npy
from .source import PIECE_NBYTES, Pieces, Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ...system import ReplacingFile

__all__ = ["read_npy", "read_npz", "read_raw", "write_in_c_order", "write_npy", "write_npz", "write_raw"]

#: longer than any header that is read
_HEAD_NBYTES = 1 << 16


def read_npy(source: Source) -> Pieces:
    layout = layout_of_npy(memoryview(source.head(_HEAD_NBYTES)), source.path, file_nbytes=source.nbytes)
    pieces = lambda: source.pieces(layout.offset, layout.nbytes)  # noqa: E731
    return Pieces(layout.nbytes, pieces, layout.dtype, layout.shape, layout.order == "F")


def read_raw(source: Source, dtype: Any = None, shape: Any = None) -> Pieces:
    """Its bytes, or an array of ``dtype`` over them."""
    if dtype is None and shape is None:
        return Pieces(source.nbytes, lambda: source.pieces(0, source.nbytes))
    layout = layout_of(source.nbytes, "u1" if dtype is None else dtype, shape, 0)
    return Pieces(layout.nbytes, lambda: source.pieces(0, layout.nbytes), layout.dtype, layout.shape)


@contextlib.contextmanager
def _zipped(path: str) -> Iterator[None]:
    """What reading a zip file that is none, or was cut, raises."""
    try:
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

    def pieces() -> Iterator[tuple[int, memoryview]]:
        held = memoryview(bytearray(min(PIECE_NBYTES, layout.nbytes)))
        with _zipped(source.path), zipfile.ZipFile(source.path) as archive, archive.open(member) as file:
            file.read(layout.offset)
            done = 0
            while done < layout.nbytes:
                # ``readinto`` is the buffered reader's: it fills what it is given, but for the end.
                count = _read_into(file, held[: layout.nbytes - done])
                if not count:
                    raise FileTruncated(f"{path} ends before its array does", path=source.path, found=done)
                yield done, held[:count]
                done += count
                source.report(member.header_offset + min(member.compress_size, done))

    return Pieces(layout.nbytes, pieces, layout.dtype, layout.shape, layout.order == "F")


def _read_into(file: Any, view: memoryview) -> int:
    done = 0
    while done < view.nbytes:
        count = file.readinto(view[done:])
        if not count:
            break
        done += count
    return done


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
    """The elements in C order, whatever order they lie in; at most one item of the first axis is copied."""
    if array.flags.c_contiguous:
        write_raw(out, array)
    else:
        for item in array:
            write_in_c_order(out, item if item.nbytes > PIECE_NBYTES else item.copy(order="C"))


def write_raw(out: ReplacingFile | Any, array: npt.NDArray[Any]) -> None:
    """The elements of an array that lies in one piece, as they lie."""
    import numpy as np

    if array.nbytes:
        flat: npt.NDArray[np.uint8] = array.reshape(-1, order="A").view(np.uint8)
        for start in range(0, flat.nbytes, PIECE_NBYTES):
            out.write(flat[start : start + PIECE_NBYTES].data)
