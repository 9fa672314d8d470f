"""``Block``: a lease on one immutable version, as users hold it; and from a pickled handle to the plane that it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from ...codecs import as_kind, as_table, describe, find_columns, open_table, present
from ...errors import ClosedError, PlaneNotFound, ShmplaneError, StaleHandle, UnsafeCodec
from ...manifest import KINDS, Transaction, timestamp
from ...system import ignoring, is_loaded, own
from ..process.open import open_attachment
from ..process.options import DEFAULT_LIMITS, Options
from .claims import Lease, claims_of
from .export import export
from .private import private_array, tensors_of

if TYPE_CHECKING:
    from multiprocessing.shared_memory import SharedMemory

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from ..process.attachment import Attachment, Opened

__all__ = ["Block", "attachment_of_handle"]

_LONGEST_NAMES_NBYTES = 200  #: of root, plane and block in a handle of less than 300


class Block:
    """A lease on one version of a block: nothing in it changes, and its memory stays, while the lease lasts.

    ``with block:`` or ``close()`` ends the handle. Arrays and tables taken from it stay valid: each of them holds the
    lease, which ends within 50 ms after the last of them is garbage.
    """

    __slots__ = ("__weakref__", "_exports", "_facts", "_kept", "_lease", "_plane", "_trust_pickle")

    def __init__(self, lease: Lease, *, trust_pickle: bool = False) -> None:
        self._lease: Lease | None = lease
        self._facts = lease.facts
        self._plane = (lease.attachment.root, lease.attachment.name, lease.attachment.instance)
        self._trust_pickle = trust_pickle
        self._kept: Any = None
        self._exports: list[Lease] = []

    # Metadata, also after close

    @property
    def name(self) -> str | None:
        """The name it had when it was leased; None: anonymous."""
        return self._facts.name

    @property
    def version(self) -> int:
        """How often the name had been published, with this; 0: anonymous."""
        return self._facts.version

    @property
    def kind(self) -> str:
        """``array table bytes json tree records pickle``; ``mutable`` for an array without versions."""
        return KINDS[self._facts.kind]

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return self._facts.body_nbytes

    @property
    def created(self) -> datetime:
        """When it was published, in local time."""
        return timestamp(self._facts.created)

    @property
    def closed(self) -> bool:
        """Whether this handle was closed; what was taken from it stays valid."""
        return self._lease is None

    @property
    def leases(self) -> int:
        """How many processes lease it now; 0 once this version, or its plane, is gone."""
        try:
            with held_attachment(*self._plane, self.name) as attachment:
                row, generation = self._facts.row, self._facts.generation
                return attachment.look(_count_holders, row, generation)
        except own(StaleHandle):
            return 0

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of an array; else None."""
        return self._described().dtype  # type: ignore[no-any-return]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of an array, or (rows, columns) of a table; else None."""
        return self._described().shape  # type: ignore[no-any-return]

    @property
    def schema(self) -> pa.Schema | None:
        """Of a table; else None."""
        return self._described().schema

    @property
    def _leaves(self) -> int | None:
        """Of a tree, how many arrays, tables and buffers it has."""
        return self._described().leaves  # type: ignore[no-any-return]

    def _described(self) -> Any:
        if self._kept is None:
            self._kept = describe(self._facts.codec, self._open().frame())
        return self._kept

    # Values

    def value(self) -> Any:
        """The value as the kind that was put: zero-copy and read-only where the kind allows it."""
        return present(self._facts.codec, self._root())

    __shmplane_value__ = value

    def array(self) -> npt.NDArray[Any]:
        """The value as a read-only ndarray."""
        return as_kind(self._facts.codec, self._root(), "array")  # type: ignore[no-any-return]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The value as an Arrow table, or just some of its columns; the others are not touched."""
        if self.kind == "table":
            lease = self._open()
            lease.open()
            return open_table(lease.frame(), lease, columns, parts=lease.parts())
        table = as_table(self._facts.codec, self._root())
        return table if columns is None else table.select(find_columns(table.column_names, columns))

    def buffer(self) -> memoryview:
        """The bytes as they are stored, read-only: array elements, an Arrow IPC stream, JSON text, the bytes put.

        A table that was edited or appended to lies in several blocks: its stream is a private copy.
        """
        return self._open().flat()[1]

    def to_pandas(self) -> Any:
        """The value as a pandas DataFrame."""
        return as_kind(self._facts.codec, self._root(), "pandas")

    def to_polars(self) -> Any:
        """The value as a polars DataFrame."""
        return as_kind(self._facts.codec, self._root(), "polars")

    def to_torch(self) -> Any:
        """The value as a tensor, that of a tree as plain containers of tensors; needs torch.

        Arrays, bytes and trees are shown by private pages: no copy, and writing reaches neither the block nor others.
        """
        self._check_trust()
        return tensors_of(self._open())

    def _root(self) -> Any:
        self._check_trust()
        return self._open().root()

    def _check_trust(self) -> None:
        if self.kind == "pickle" and not self._trust_pickle:
            raise unsafe(self.name)

    def _open(self) -> Lease:
        lease = self._lease  # once: another thread may close the handle at any moment
        if lease is None:
            raise ClosedError(
                f"block {self.name!r} (version {self.version}) was closed; attach it again",
                name=self.name,
                version=self.version,
            )
        return lease

    # As the standard library sees it

    @property
    def shm_name(self) -> str:
        """The name for ``multiprocessing.shared_memory.SharedMemory(name=...)`` in any program of the same user.

        Makes the name again when another program's resource tracker removed it. A program that opens it can write through
        it. The value starts at ``shm_offset``. Needs root ``/dev/shm``.
        """
        return export(self._export())[1]

    @property
    def shm_offset(self) -> int:
        """Where the value starts in the segment of ``shm_name``, in bytes."""
        return self._export().facts.offset

    def _export(self) -> Lease:
        """The lease whose segment has a name of its own."""
        exports = self._exports
        if not exports:
            exports.append(export(self._open())[0])
        return exports[0]  # the first, should another thread have made a copy too

    def shared_memory(self) -> SharedMemory:
        """The segment as the standard library attaches it, without its resource tracker. It holds no lease: keep the block."""
        from ...system import attach_untracked

        name = self.shm_name
        return attach_untracked(name, f"{self._plane[0]}/{name}")

    # Life

    def close(self) -> None:
        """End this handle; metadata stays readable. Idempotent."""
        if self._lease is not None:
            with ignoring(ShmplaneError):
                self._described()
        self._lease, self._exports = None, []

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from .display import mimebundle_of_block

        return mimebundle_of_block(self)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        from .display import text_of_block

        return text_of_block(self)

    # Protocols

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        import numpy as np

        array = self.array()
        if copy:
            return np.array(array, dtype=dtype)
        if dtype is None or array.dtype == dtype:
            return array
        if copy is False:
            raise ValueError(f"a copy is needed to convert {array.dtype} to {np.dtype(dtype)}")
        return array.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        # Some consumers write into what is marked as read-only, and older ones cannot be told: so the pages are private.
        lease = self._open()
        if is_loaded("torch") and self._described().is_foreign:
            return tensors_of(lease).__dlpack__(**options)  # NumPy cannot say such types
        array = private_array(lease) if self._facts.codec in ("array", "bytes") else self.array().copy()
        if options.get("max_version") is None:
            return array.__dlpack__(**options)
        marked = array.view()
        marked.flags.writeable = False
        try:
            return marked.__dlpack__(**options)
        except own(TypeError):  # NumPy 1 knows no versions
            return array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table().__arrow_c_stream__(requested_schema)

    def __buffer__(self, flags: int) -> memoryview:
        # NumPy asks for this before ``__array__``: it must say dtype and shape, or refuse so that NumPy goes on.
        if self.kind not in ("array", "bytes"):
            raise BufferError(f"a block of kind {self.kind!r} is no plain buffer; block.buffer() has what is stored")
        array: Any = self.array()
        try:
            return memoryview(array)
        except own(ValueError) as error:
            raise BufferError(f"{error}; block.buffer() has its bytes as stored") from None

    def __reduce__(self) -> tuple[Any, ...]:
        self._open()
        root, name, instance = self._plane
        block_name = self._facts.name
        if block_name is not None and len(root) + len(name) + len(block_name.encode()) > _LONGEST_NAMES_NBYTES:
            block_name = None  # it is only for messages, and a handle is to be short
        return attach_handle, (
            root,
            name,
            instance,
            self._facts.row,
            self._facts.generation,
            block_name,
            self._trust_pickle,
        )


def unwrapped(value: Any) -> Any:
    """The value of a block that is put again; anything else as it is."""
    return value.value() if isinstance(value, Block) else value


def unsafe(name: str | None) -> UnsafeCodec:
    return UnsafeCodec(
        f"block {name!r} is a pickle, and reading it would run whatever code it names. Open the plane with "
        f"trust_pickle=True if you trust everyone who writes to it.",
        name=name,
    )


def attach_handle(  # noqa: PLR0917 - a pickle's arguments have no names
    root: str, plane: str, instance: int, row: int, generation: int, name: str | None, trust_pickle: bool
) -> Block:
    """What unpickling a block's handle does: lease that very version, or raise ``StaleHandle``."""
    with held_attachment(root, plane, instance, name) as attachment:
        lease = attachment.change(_lease_if_current, attachment, row, generation)
        if lease is None:
            raise StaleHandle(
                f"the version of block {name!r} in plane {plane!r} that the handle means is gone; send the handle while "
                f"somebody leases it, or put with a longer linger=.",
                name=name,
                plane=plane,
            )
        return Block(lease, trust_pickle=trust_pickle)


def _count_holders(tx: Transaction, row: int, generation: int) -> int:
    return len(tx.holders(row)) if tx.is_current(row, generation) else 0


def _lease_if_current(tx: Transaction, attachment: Attachment, row: int, generation: int) -> Lease | None:
    return claims_of(attachment).lease(tx, attachment, row) if tx.is_current(row, generation) else None


Lease.make_handle = Block


_ANY = Options(None, None, DEFAULT_LIMITS)


def attachment_of_handle(root: str, plane: str, instance: int, name: str | None) -> tuple[Attachment, Opened]:
    """Join the plane if need be, held once; ``StaleHandle`` unless it is the very plane the handle was made in."""
    try:
        attachment, opened = open_attachment(root, plane, create=False, options=_ANY)
    except own(PlaneNotFound) as error:
        raise StaleHandle(
            f"the handle of block {name!r} means the plane {plane!r} in {root}, which is not there: it was destroyed, "
            f"or the handle comes from another host or user.",
            name=name,
            plane=plane,
        ) from error
    if attachment.instance != instance:
        attachment.close(opened)
        raise StaleHandle(
            f"the handle of block {name!r} means a plane {plane!r} that was destroyed; the one of that name now is "
            f"another.",
            name=name,
            plane=plane,
        )
    return attachment, opened


@contextmanager
def held_attachment(root: str, plane: str, instance: int, name: str | None) -> Iterator[Attachment]:
    """The same, held for as long as the ``with`` block lasts."""
    attachment, opened = attachment_of_handle(root, plane, instance, name)
    try:
        yield attachment
    finally:
        attachment.close(opened)
