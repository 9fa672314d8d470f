"""``Plane``: named blocks that the processes of one host share.

What opens a plane is loaded with this module, all else when a call first needs it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from ..errors import BlockNotFound, ClosedError, StaleHandle
from ..manifest import TEMPORARY_PREFIX, LockKind, Transaction, default_root
from ..names import check_block_name, check_plane_name, parse_nbytes
from ..system import ignoring, late, own
from .coordination.waiting import Closing, wake_waiters
from .process.close import destroy, end_if_temporary, forget_ended
from .process.open import open_attachment
from .process.options import DEFAULT_LIMITS, Options, parse_options

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt
    import pyarrow as pa

    from .. import codecs, observe
    from ..files import OnProgress, StrPath
    from ..manifest import BlockInfo, PlaneStatistics, Reclaimed
    from ..observe import Health, Layout, Metrics, Watch
    from . import blocks, drafts, inventory, shown, transfer, travel
    from .blocks import Block, Buffer, Builder, spilling
    from .blocks.claims import Lease
    from .blocks.views import Known
    from .coordination import finding, loading, meters, pools, queues, rates, semaphores, watching
    from .coordination.meters import PoolMeter
    from .coordination.pools import PoolPermits
    from .coordination.queues import Queue
    from .coordination.rates import RateLimiter
    from .coordination.semaphores import Semaphore
    from .drafts import Draft
    from .process import orphans, upkeep
    from .process.attachment import Attachment, Opened
else:
    codecs = late("shmplane.codecs")
    observe = late("shmplane.observe")
    blocks = late("shmplane.plane.blocks")
    drafts = late("shmplane.plane.drafts")
    transfer = late("shmplane.plane.transfer")
    travel = late("shmplane.plane.travel")
    inventory = late("shmplane.plane.inventory")
    shown = late("shmplane.plane.shown")
    finding = late("shmplane.plane.coordination.finding")
    loading = late("shmplane.plane.coordination.loading")
    meters = late("shmplane.plane.coordination.meters")
    pools = late("shmplane.plane.coordination.pools")
    queues = late("shmplane.plane.coordination.queues")
    rates = late("shmplane.plane.coordination.rates")
    semaphores = late("shmplane.plane.coordination.semaphores")
    watching = late("shmplane.plane.coordination.watching")
    orphans = late("shmplane.plane.process.orphans")
    spilling = late("shmplane.plane.blocks.spilling")
    upkeep = late("shmplane.plane.process.upkeep")

__all__ = ["Plane"]

D = TypeVar("D")


class Plane(MutableMapping[str, Any]):
    """A named region of shared memory on this host, like a directory of immutable blocks.

    It is opened, or created, by any process of the same user; there is no server. It stays until ``destroy()``,
    ``shmplane rm`` or a reboot.

    Args:
        name: 1 to 64 of ``A-Z a-z 0-9 . _ -``, not starting with a dot.
        create: False: raise ``PlaneNotFound`` when it is not there.
        capacity: the most bytes of segments, an int or text such as ``"4GiB"``; default: half of what the file system had
            free at creation, or of what the memory cgroup had left when that was less.
        root: a directory on a memory-mappable file system; default ``$SHMPLANE_ROOT`` or ``/dev/shm``.
        max_blocks: how many blocks there can be at once.
        max_processes: how many processes can be attached at once.
        recycle: how many freed bytes stay warm for the next blocks; default: a quarter of the capacity.
        spill: a directory on disk, made if it is missing. When the capacity is reached, blocks that no process leases move
            there, those unused for longest first, and stay readable, mapped from the file; when everything is leased, the
            new block itself goes there. Chosen when the plane is made: every process that opens it finds it.
        trust_pickle: allow reading blocks that were put with ``codec="pickle"``.
        lock: which lock its processes share, for the life of the plane: ``"word"`` is faster, above all when many processes
            write, and only processes with the compiled core can open the plane (else ``PlaneMismatch``); ``"ofd"`` is for all.
            Default: ``"word"`` where the core is there.

    Raises:
        PlaneNotFound, PlaneMismatch, PlaneCorrupt, PlaneSecurityError, PlaneFull, UnsupportedPlatform.

    Cost: joining takes about 1 ms; all ``Plane`` objects of a process share one attachment.
    """

    def __init__(
        self,
        name: str,
        *,
        create: bool = True,
        capacity: int | str | None = None,
        root: str | os.PathLike[str] | None = None,
        max_blocks: int = DEFAULT_LIMITS.max_blocks,
        max_processes: int = DEFAULT_LIMITS.max_processes,
        recycle: int | str | None = None,
        spill: str | os.PathLike[str] | None = None,
        trust_pickle: bool = False,
        lock: LockKind | None = None,
    ) -> None:
        options = parse_options(capacity, recycle, max_blocks, max_processes, spill=spill, lock=lock)
        self._join(check_plane_name(name), root, options, create=create, trust_pickle=trust_pickle)

    @classmethod
    def temporary(
        cls,
        *,
        capacity: int | str | None = None,
        root: str | os.PathLike[str] | None = None,
        max_blocks: int = DEFAULT_LIMITS.max_blocks,
        max_processes: int = DEFAULT_LIMITS.max_processes,
        recycle: int | str | None = None,
        spill: str | os.PathLike[str] | None = None,
        trust_pickle: bool = False,
        lock: LockKind | None = None,
    ) -> Self:
        """An unnamed plane, destroyed when its last process closes it or dies; blocks and views of it stay valid.

        When all its processes were killed, the next ``gc`` of any plane of the same user removes it.
        """
        options = parse_options(capacity, recycle, max_blocks, max_processes, temporary=True, spill=spill, lock=lock)
        plane = cls.__new__(cls)
        plane._join(f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}", root, options, create=True, trust_pickle=trust_pickle)
        return plane

    def _join(
        self, name: str, root: str | os.PathLike[str] | None, options: Options, *, create: bool, trust_pickle: bool
    ) -> None:
        self.name: str = name
        self.root: str = os.path.abspath(root if root is not None else default_root())
        self._trust_pickle = trust_pickle
        self._closing = Closing(f"this Plane object of {name!r}")
        #: views of current blocks, by name
        self._recent: dict[str, Known] = {}
        attachment, opened = open_attachment(self.root, name, create=create, options=options)
        self._attachment = attachment
        self._words = attachment.manifest.names.word
        self._kept = attachment.kept
        #: when this object is garbage, so is the hold, and the drain timer leaves the plane
        self._opened: Opened | None = opened

    # Putting and getting

    def put(
        self,
        name: str | None,
        value: Any,
        *,
        codec: str | None = None,
        evictable: bool = False,
        expected_version: int | None = None,
        linger: float = 30.0,
        ttl: float | None = None,
    ) -> Block:
        """Copy ``value`` into shared memory and publish it under ``name``; an older version stays with who leases it.

        Args:
            name: 1 to 120 bytes of UTF-8 without control characters; None: an anonymous block, which outlives its last
                lease by ``linger`` seconds, so that a handle in a queue arrives, also when its maker was killed.
            value: ndarray of any shape and fixed-size dtype, tensor, Arrow table, DataFrame, buffer, JSON value, or dicts,
                lists and tuples of all these (a tree). Batches of an Arrow reader are written while they are read, so what
                they come from is never held twice.
            codec: force a kind; ``"pickle"`` stores any object, readable only with ``trust_pickle=True``.
            evictable: may be deleted when the plane is full and nobody leases it.
            expected_version: ``Conflict`` unless the name is at it; 0: absent.
            ttl: seconds after which the name is gone, for every process; leases stay valid, and edits and appends keep the
                time. Each get of such a name takes the plane's lock.

        Raises:
            PlaneFull: no room, even after reclaiming.
            UnsupportedValue: no codec stores such a value.

        Cost: one copy and two short holds of the plane's lock; one hold up to 64 KiB.
        """
        attachment = self._open()
        self._kept.forget(name)
        target = blocks.check_target(
            name, expected_version=expected_version, linger=linger, evictable=evictable, ttl=ttl
        )
        encoded = codecs.encode(blocks.unwrapped(value), codec)
        store: Callable[..., Lease] = blocks.put_stream if type(encoded) is codecs.TableStream else blocks.put
        return blocks.Block(store(attachment, encoded, target), trust_pickle=self._trust_pickle)

    def __setitem__(self, name: str, value: Any) -> None:
        attachment = self._open() if self._opened is None else self._attachment
        core = attachment.core
        if self._kept.lists:
            self._kept.forget(name)
        if core is None or attachment.suspect or blocks.overflowing or not core.assign(name, value):
            blocks.assign(self._open(), name, value)

    def __getitem__(self, name: str) -> Any:
        known = self._recent.get(name)
        if known is not None:
            # One word tells whether the name still points to the block that a living view of ours leases.
            name_row, word, find_root, show, _ = known
            if self._words[name_row] == word:
                root = find_root()
                if root is not None:
                    return show(root)
                revived = blocks.revive(self._open(), self._recent, name)
                if revived is not None:
                    return show(revived)
        return blocks.find(self._open(), self._recent, name, trust_pickle=self._trust_pickle)

    @overload
    def get(self, name: str, default: Any = None, *, as_: None = None) -> Any: ...
    @overload
    def get(self, name: str, default: D, *, as_: Literal["array", "numpy"]) -> npt.NDArray[Any] | D: ...
    @overload
    def get(self, name: str, default: None = None, *, as_: Literal["array", "numpy"]) -> npt.NDArray[Any] | None: ...
    @overload
    def get(self, name: str, default: D, *, as_: Literal["bytes"]) -> memoryview | D: ...
    @overload
    def get(self, name: str, default: None = None, *, as_: Literal["bytes"]) -> memoryview | None: ...
    @overload
    def get(self, name: str, default: D, *, as_: Literal["arrow"]) -> pa.Table | D: ...
    @overload
    def get(self, name: str, default: None = None, *, as_: Literal["arrow"]) -> pa.Table | None: ...
    @overload
    def get(self, name: str, default: Any = None, *, as_: Literal["pandas", "polars", "torch", "python"]) -> Any: ...
    def get(self, name: str, default: Any = None, *, as_: str | None = None) -> Any:
        """The current version, as the kind that was put, or ``default``.

        Args:
            as_: ``array`` (or ``numpy``), ``arrow``, ``pandas``, ``polars``, ``torch``, ``bytes`` or ``python`` converts;
                ``UnsupportedValue`` when the kind cannot be shown like that.

        Cost: one comparison and a new view while this process holds the block; else a short hold of the lock.
        """
        if as_ is not None:
            codecs.check_as(as_)
            lease = self._lease(name)
            if lease is None:
                return default
            with blocks.Block(lease, trust_pickle=self._trust_pickle) as block:
                return block.to_torch() if as_ == "torch" else codecs.as_kind(block._facts.codec, block._root(), as_)
        if name not in self._recent:
            return blocks.find(self._open(), self._recent, name, default, trust_pickle=self._trust_pickle)
        try:
            return self[name]
        except own(BlockNotFound):
            return default

    def get_or_put(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """The value of ``name``, or what ``fn(*args)`` returns, put once per host however many processes ask at once.

        An exception of ``fn`` reaches its caller and the others try in turn; a killed loader's work passes to the next.

        Raises:
            RuntimeError: ``fn`` asks for the name that it loads, itself or through the loader of another name.
        """
        return loading.get_or_put(self, name, fn, args)

    async def get_or_put_async(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """``get_or_put`` for asyncio; ``fn`` is async, or plain and called in a thread of its own.

        A cancelled call passes the work on: the next one computes, whatever a plain ``fn`` that goes on returns. Once the
        value is being put, a cancellation comes after that.

        Raises:
            RuntimeError: ``fn``, or a task or thread that it started meanwhile, asks for the name that it loads.
        """
        return await loading.get_or_put_async(self, name, fn, args)

    async def _find_async(self, name: str, default: Any) -> Any:
        """``get`` that never waits for the plane's lock in the loop's thread."""
        find = finding.find_async(
            self._open(), self._recent, name, default, self._closing, trust_pickle=self._trust_pickle
        )
        return await find

    def attach(self, name: str | Block) -> Block:
        """Lease the current version of ``name``, or the version that a handle means.

        Raises:
            BlockNotFound: no such name.
            StaleHandle: the handle's version is gone.
        """
        attachment = self._open()
        if isinstance(name, blocks.Block):
            if name._plane[2] != attachment.instance:
                raise StaleHandle(f"the handle of {name.name!r} means another plane than {self.name!r}", name=name.name)
            return blocks.Block(name._open(), trust_pickle=self._trust_pickle)
        lease = self._lease(name)
        if lease is None:
            raise blocks.no_such_block(attachment, check_block_name(name))
        return blocks.Block(lease, trust_pickle=self._trust_pickle)

    def _lease(self, name: str) -> Lease | None:
        """A lease on the current version of a name, if there is one."""
        attachment = self._open()
        found = attachment.look(blocks.lease_current, attachment, check_block_name(name))
        return None if found is None else found[0]

    def create(self, name: str, shape: Any, dtype: Any) -> Builder:
        """Write an array straight into shared memory: published on a clean end of ``with``, gone on an exception."""
        check_block_name(name)
        return blocks.make_builder(self._open(), name, shape, dtype)

    def edit(self, name: str) -> Draft:
        """A private copy-on-write draft of the current version; leaving its ``with`` block publishes the next one.

        It is an ``ArrayDraft`` (``draft.array``), ``TableDraft`` (``draft.table``, ``draft["column"] = values``),
        ``JsonDraft`` (``draft.value``) or ``TreeDraft`` (``draft.tree["leaf"][...] = values``), as the block is.

        Cost: a mapping for an array of any size; the commit costs what was touched. Readers of the old version see nothing.

        Raises:
            BlockNotFound: no such name.
            UnsupportedValue: a mutable array or a pickle.
            Conflict: at the commit, when the name moved on meanwhile, also through this process.
        """
        return drafts.open_draft(self._open(), name)

    def append(self, name: str, rows: Any) -> Block:
        """Add rows to a table, or to an array along axis 0; concurrent appends from many processes all land, once each.

        What is missing is created: an array from an array, else a table.

        Args:
            rows: for a table of its schema, in any order of columns: a table of any library, a dict of columns or a list of
                dicts. A table that came from pandas or Polars stays one. For an array of its dtype and shape but for axis 0,
                or a list of such rows.

        Raises:
            ValueError: rows of another schema, dtype or shape; the message names the field, or what differs.
            UnsupportedValue: the block is neither.

        Cost: grows with the rows, not with what is there. Each row of a table is copied again about log2(appends) / 2 times;
        an array copies one page (4 KiB) more than the rows, and its whole body once it has grown by as much. Up to 64 KiB,
        and in Fortran order, it is copied whole. Of appends to one array at the same moment one lands, and the others begin
        again; those to a table do not.
        """
        self._kept.forget(name)
        return blocks.Block(drafts.append_rows(self._open(), name, rows), trust_pickle=self._trust_pickle)

    def mutable(self, name: str, shape: Any = None, dtype: Any = None) -> npt.NDArray[Any]:
        """Create (zero-filled) or attach one array that every process sees change; guard it with ``lock``.

        Args:
            shape, dtype: what it is to be; None: whatever is there.

        Raises:
            PlaneMismatch: it is there with another shape or dtype, or is not mutable.
            BlockNotFound: it is not there and ``shape`` is None.
        """
        return blocks.open_mutable(self._open(), name, shape, dtype)

    def load(
        self, name: str, path: StrPath, *, format: str | None = None, progress: OnProgress = None, **read_options: Any
    ) -> Block:
        """Read a file straight into a block: npy, npz, parquet, arrow, feather, csv, safetensors or raw.

        Tables are tables; npz and safetensors are trees, a dict of arrays by name; raw files are bytes.

        Args:
            format: one of these; None: what the end of the file's name says.
            progress: ``progress(done, total)`` in bytes of the file, from the calling thread.
            read_options: ``columns`` of parquet, arrow and feather; others of parquet are those of
                ``ParquetFile.iter_batches``; of csv, those of ``pyarrow.csv``'s options by name, as ``delimiter``; of raw,
                ``dtype`` and ``shape``, which make it an array.

        Raises:
            FileNotFoundError: there is no such file; IsADirectoryError: it is a directory.
            FileTruncated: it ends too early.
            ValueError: it is not what its name says, or nothing says what it is.

        Cost: one copy from the file, without another one of it in memory: a piece, or an Arrow batch, at a time.
        """
        lease = transfer.load(self._open(), name, path, format=format, progress=progress, options=read_options)
        return blocks.Block(lease)

    def save(self, name: str, path: StrPath, *, format: str | None = None) -> None:
        """Write the current version to a file: whole, and on the disk, or not at all; see ``load`` for the formats.

        Raises:
            BlockNotFound: no such name.
            UnsupportedValue: a file of that format cannot have this value.
            PlaneFull: the disk is full; a file that was there is as before.
        """
        with self.attach(name) as block:
            transfer.save(block, path, format)

    def pull(
        self,
        url: str,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        token: str | None = None,
        tls_ca: StrPath | None = None,
        timeout: float | None = 30.0,
    ) -> Block:
        """Get a block from a plane of another host, where ``shmplane serve`` runs, and put it here under the same name.

        A table is written while it comes, and anything else straight to its segment: it is never held twice. What comes is
        checked, every value of it, and a pull that is cut puts nothing.

        Args:
            url: ``grpc://host:port``, or ``grpc+tls://host:port`` for a server with a certificate.
            columns: of a table, those alone, and in that order; what comes is an Arrow table then.
            token: what the server was given by ``--token-file``.
            tls_ca: a file of certificates in PEM that the server's is checked against; None: those of the system.
            timeout: the longest silence of the server, in seconds; None: any.

        Raises:
            BlockNotFound: the server has no such block.
            PullFailed: it is not there, was silent for too long, or the connection was lost.
            PlaneSecurityError: it wants a token, or another one.
            PlaneCorrupt: what came is not what a server sends.
            PlaneFull: no room. UnsafeCodec: a pickle, and this plane was opened without ``trust_pickle=True``.
            ValueError: the URL, or columns that are not there.

        Cost: what the network takes, one copy to memory, and reading a table's values once.
        """
        lease = travel.pull(self._open(), url, name, columns, token, tls_ca, timeout, self._trust_pickle)
        return blocks.Block(lease, trust_pickle=self._trust_pickle)

    def buffer(self, nbytes: int) -> Buffer:
        """A writable scratch buffer of warm recycled pages; its contents are undefined."""
        return blocks.make_buffer(self._open(), nbytes)

    # Names

    def delete(self, name: str) -> None:
        """Take the name away; memory that somebody leases lives until the last lease ends."""
        attachment, encoded = self._open(), check_block_name(name)
        self._kept.forget(name)
        blocks.delete(attachment, encoded)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def clear(self) -> None:
        """Delete every name there is now; nothing is read."""
        for name in self.names():
            with ignoring(BlockNotFound):
                self.delete(name)

    def rename(self, old: str, new: str) -> None:
        """Give a block another name, replacing what had it, atomically."""
        attachment = self._open()
        self._kept.forget_all()
        blocks.rename(attachment, old, new)

    def names(self, prefix: str = "") -> list[str]:
        """The names with a block, sorted."""
        attachment = self._open()
        names = attachment.look(Transaction.all_names)
        return sorted(name for name in names if name.startswith(prefix))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        attachment = self._open()
        return attachment.look(Transaction.count_names)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        core = None if self._opened is None else self._attachment.core
        if core is not None and core.sees(name):
            return True
        attachment = self._open()
        if not isinstance(name, str):
            return False
        try:
            encoded = check_block_name(name)
        except own(ValueError):
            return False
        return attachment.reader.is_seen(encoded) or attachment.look(Transaction.current, encoded)[1] >= 0

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    # With other processes

    def wait(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> Block:
        """Block until ``name`` has a version newer than ``newer_than``, and lease it. Goes on through a delete.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
            ClosedError: the plane was destroyed, or this object closed.

        Cost: woken by whoever publishes, within about 0.1 ms.
        """
        lease = watching.wait(
            self._open(), check_block_name(name), newer_than=newer_than, timeout=timeout, closing=self._closing
        )
        return blocks.Block(lease, trust_pickle=self._trust_pickle)

    async def wait_async(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> Block:
        """``wait`` for asyncio; it can be cancelled at any time."""
        encoded = check_block_name(name)
        lease = await watching.wait_async(
            self._open(), encoded, newer_than=newer_than, timeout=timeout, closing=self._closing
        )
        return blocks.Block(lease, trust_pickle=self._trust_pickle)

    def follow(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> Iterator[Block]:
        """Yield the newest version whenever there is a newer one; may skip versions.

        Raises:
            TimeoutError: none came within ``timeout`` seconds; the next one may still be asked for.
            ClosedError: the plane was destroyed, or this object closed.
        """
        return watching.Following(self, name, newer_than=newer_than, timeout=timeout)

    def follow_async(self, name: str, *, newer_than: int = 0, timeout: float | None = None) -> AsyncIterator[Block]:
        """``follow`` for asyncio: ``async for block in plane.follow_async(name)``."""
        return watching.AsyncFollowing(self, name, newer_than=newer_than, timeout=timeout)

    def lock(self, name: str) -> Semaphore:
        """A host-wide lock: first come, first served; a killed holder's comes back by itself. Not re-entrant."""
        return self._semaphore(b"l:" + check_block_name(name), 1, f"lock {name!r} of plane {self.name!r}")

    def semaphore(self, name: str, permits: int) -> Semaphore:
        """A host-wide semaphore of ``permits``; ``PlaneMismatch`` when others hold or wait with another count."""
        semaphores.check_permits(permits)
        return self._semaphore(b"s:" + check_block_name(name), permits, f"semaphore {name!r} of plane {self.name!r}")

    def rate(self, name: str, limit: float, per: float = 60.0, burst: float | None = None) -> RateLimiter:
        """At most ``limit`` units in ``per`` seconds over all processes of the host; first come, first served.

        Args:
            burst: units that can be granted at once; default: ``limit``, and at least 1.

        Raises:
            PlaneMismatch: others use it with other terms.
            ValueError: a term that is not a finite number above 0.
        """
        return rates.open_rate(self._open(), name, limit, per, burst, closing=self._closing)

    def queue(self, name: str, maxsize: int = 0) -> Queue:
        """A host-wide first-in, first-out queue of values; an item of a killed consumer comes back to the front.

        Args:
            maxsize: how many items fit; 0: any number.

        Raises:
            PlaneMismatch: it is in use with another ``maxsize``.
        """
        attachment = self._open()
        return queues.open_queue(attachment, name, maxsize, closing=self._closing, trust_pickle=self._trust_pickle)

    def _semaphore(self, name: bytes, permits: int, title: str) -> Semaphore:
        return semaphores.open_semaphore(self._open(), name, permits, title=title, closing=self._closing)

    def _host_permits(self, name: str, limit: int) -> PoolPermits:
        """What a connection pool called ``name`` needs for its ``host_limit``."""
        return pools.open_pool_permits(self._open(), name, limit)

    def _host_meter(self, name: str) -> PoolMeter:
        """Where a connection pool called ``name`` counts, so that any process can tell the sums."""
        return meters.PoolMeter(self._open(), check_block_name(name))

    def _host_meters(self) -> dict[str, list[int]]:
        """What the pools of all processes have counted, by their names."""
        return meters.totals(self._open())

    # Upkeep

    def blocks(self) -> list[BlockInfo]:
        """A row per block, also those without a name that somebody still leases."""
        self._kept.forget_all()
        return inventory.block_infos(self._open())

    def stats(self) -> PlaneStatistics:
        """Totals over all processes."""
        self._kept.forget_all()
        return inventory.statistics(self._open())

    def health(self) -> Health:
        """Is anything to be done about the plane, and what: memory, tables, what ended processes left, its lock.

        A fresh plane passes whatever the host's limits are; for those there is ``shmplane doctor``.
        """
        self._kept.forget_all()
        return inventory.health(self._open())

    def metrics(self) -> Metrics:
        """What the processes of the plane, the ended included, have counted, and how it is now; for scrapes and meters.

        Cost: the lock for some 20 µs; then, without it, 0.1 µs a block. Counts themselves cost a store each, and of a value
        that this process still holds none.
        """
        self._kept.forget_all()
        return inventory.metrics(self._open())

    def layout(self) -> Layout:
        """What is where in the plane's memory, who leases it, and what is to be seen to: a picture of one moment.

        It has ``text()``, ``html()``, ``to_arrow()`` and ``to_pandas()``, and a notebook shows it.
        """
        self._kept.forget_all()
        return inventory.layout(self._open())

    def watch(self, seconds: float = 1.0) -> Watch:
        """Show the layout in a notebook and draw it anew every ``seconds``, until ``stop()`` or the end of plane or kernel.

        Returns at once. The picture of an earlier ``watch`` of this object stops.

        Raises:
            RuntimeError: this is no notebook and no IPython.
        """
        self._open()
        return observe.watch(self, lambda plane: inventory.try_drawing(plane._open()), seconds)

    def resize(self, capacity: int | str) -> None:
        """Change the capacity live; ``PlaneFull`` when more than that is in use."""
        attachment = self._open()
        self._kept.forget_all()
        spilling.shrink(attachment, parse_nbytes(capacity, "capacity"))

    def gc(self) -> Reclaimed:
        """Reclaim what dead processes held: in this plane, temporary planes nobody lives in, temporary files of scopes."""
        attachment = self._open()
        self._kept.forget_all()
        return orphans.reclaim_all(attachment)

    def trim(self, nbytes: int = 0) -> int:
        """Give recycled memory back to the system until at most ``nbytes`` stay warm; how many bytes that was."""
        attachment = self._open()
        self._kept.forget_all()
        return attachment.change(upkeep.trim, parse_nbytes(nbytes, "nbytes"))

    # Life

    @property
    def closed(self) -> bool:
        """Whether this object was closed; the plane itself goes on."""
        return self._opened is None

    def _open(self) -> Attachment:
        if self._opened is None:
            raise ClosedError(f"this Plane object of {self.name!r} was closed; open the plane again", plane=self.name)
        if self._attachment.ended is not None:
            raise ClosedError(self._attachment.ended, plane=self.name)
        return self._attachment

    def close(self) -> None:
        """End this object, and with ``ClosedError`` what waits through it; views handed out before stay valid. Idempotent.

        Other ``Plane`` objects of this process go on, as do permits that are held.
        """
        self._closing.closed = True
        self._recent.clear()
        self._kept.forget_all()
        opened, self._opened = self._opened, None
        if opened is not None:
            self._attachment.close(opened)
        wake_waiters(self._attachment)
        end_if_temporary(self._attachment)
        self._attachment.leave_if_idle()  # when Ctrl-C stopped an earlier close
        forget_ended(self._attachment)

    def destroy(self) -> None:
        """End the plane for every process; views handed out before stay valid. Idempotent."""
        self._kept.forget_all()
        if self._attachment.ended is None:
            destroy(self._attachment)
        self.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.name, self.root, self._trust_pickle)

    def __repr__(self) -> str:
        if self.closed:
            return f"<Plane {self.name!r} in {self.root}: closed>"
        return shown.text_of(self._attachment, self.name, self.root)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        if self.closed:
            return {"text/plain": repr(self)}
        return shown.mimebundle_of(self._attachment, self.name, self.root, inventory.try_layout)

    def _ipython_key_completions_(self) -> list[str]:
        """What ``plane["`` and the tabulator key offer in IPython and Jupyter."""
        return [] if self.closed else shown.names_now(self._attachment)


def _reopen(name: str, root: str, trust_pickle: bool) -> Plane:
    return Plane(name, root=root, create=False, trust_pickle=trust_pickle)
