"""``Cache``: results that are expensive to compute, found by every process of a host and kept within limits."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, cast, overload

from ..errors import BlockNotFound, ClosedError, PlaneMismatch, ShmplaneError
from ..names import check_plane_name, check_seconds, parse_nbytes
from ..plane import MISSING, HotTier, call_in_thread, open_shared_plane
from ..system import PAGE_NBYTES, ignoring, own
from .arguments import key_of_call
from .computing import Computing, Question
from .keys import Key, decode_key, digest_of, encode_key, title_of
from .tally import CacheStatistics, TierStatistics, disk_room, judge
from .tiers import Item, Tiers
from .values import encode_value

if TYPE_CHECKING:
    from ..observe import Health
    from ..plane import Plane
    from .database import Database

__all__ = ["Cache"]

P = ParamSpec("P")
R = TypeVar("R")

Policy = Literal["s3fifo", "lru", "lfu", "fifo", "sieve"]

_POLICIES = ("s3fifo", "lru", "lfu", "fifo", "sieve")
_DEFAULT: Any = object()
_MOST_USERS = 4096
#: keys of these types are the same when type and value are, so a dict can have them
_PLAIN = {str, bytes, int, float, bool, type(None)}


class Cache:
    """A cache of two tiers with hard limits, shared by all processes that open the directory.

    What is found in memory is shown without a copy, in every process. What is found on disk is mapped, not read. ``set`` and
    computed values are on disk before the call returns; what memory has no room for is only dropped from there. Nothing is
    ever pickled or unpickled. Usable from several threads; a forked child may use it at once; pickles as its arguments.

    Args:
        directory: made with mode 0700 when it is not there.
        memory: the most bytes of the hot tier, an int or text such as ``"256MiB"``.
        disk: the most bytes of files and database there; the database's journal comes on top, at most 4 MiB.
        policy: which items leave memory first: ``"s3fifo"`` (what is dear for its size stays longer), ``"lru"``, ``"lfu"``,
            ``"fifo"`` or ``"sieve"``.
        ttl: seconds for which items are kept unless ``set`` says otherwise; None: until there is no room.
        plane: where the hot tier is; None: one of its own, gone with the last process that has the cache open.
        name: of the cache in that plane and in its statistics.

    Raises:
        PlaneMismatch: others have it open with other limits or another policy.
        PlaneSecurityError: the directory is not ours alone, or cannot be written.
        PlaneNotFound: in any later call, when somebody removed the directory meanwhile.
        ImportError: diskcache is not there: ``pip install 'shmplane[cache]'``.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        memory: int | str = "256MiB",
        disk: int | str = "4GiB",
        policy: Policy = "s3fifo",
        ttl: float | None = None,
        plane: Plane | None = None,
        name: str | None = None,
    ) -> None:
        if policy not in _POLICIES:
            raise ValueError(f"policy is one of {', '.join(_POLICIES)}, not {policy!r}")
        self._arguments = (directory, memory, disk, policy, ttl, plane, name)
        self._memory_nbytes = parse_nbytes(memory, "memory")
        self._policy, self._ttl = policy, check_seconds(ttl, "ttl")
        self.name: str | None = None if name is None else check_plane_name(name)
        self.directory: str = os.path.realpath(os.fspath(directory))
        database = _database_class()(self.directory, parse_nbytes(disk, "disk"))
        self._owns_plane = plane is None
        try:
            self._plane: Plane = self._open_plane(database.instance) if plane is None else plane
            self._prefix = f"cache:{(name or 'own')[:32]}:{database.instance}/"
            try:
                self._tiers: Tiers | None = self._open_tiers(database)
            except BaseException:
                if self._owns_plane:
                    self._plane.close()
                raise
        except BaseException:
            database.close()
            raise

    def _open_tiers(self, database: Database) -> Tiers:
        plane, nbytes = self._plane, self._memory_nbytes
        self._check_limits(plane, {"memory": nbytes, "disk": database.limit_nbytes, "policy": self._policy})
        hot = HotTier(plane, self._prefix, policy=self._policy, limit_nbytes=nbytes)
        return Tiers(database, hot, plane, prefix=self._prefix, memory_nbytes=nbytes)

    def _open_plane(self, instance: str) -> Plane:
        try:
            # What says which limits are in use takes a page, also where memory is to have nothing.
            return open_shared_plane(f"cache-{instance}", max(self._memory_nbytes, PAGE_NBYTES))
        except own(PlaneMismatch) as error:
            raise self._mismatch("memory", error.facts.get("found"), self._memory_nbytes) from None

    def _check_limits(self, plane: Plane, limits: dict[str, Any]) -> None:
        """``PlaneMismatch`` when others use it with other limits; what nobody uses takes the new ones."""
        name = f"{self._prefix}limits"
        users = self._users = plane.semaphore(f"{self._prefix}users", _MOST_USERS)
        with plane.lock(name):
            found = plane.get(name)
            if found is not None and found != limits and users.available == _MOST_USERS:
                for block in plane.names(self._prefix):
                    with ignoring(BlockNotFound):
                        plane.delete(block)
            found = plane.get_or_put(name, lambda: limits)
            for what, asked in limits.items():
                if found.get(what) != asked:
                    raise self._mismatch(what, found.get(what), asked)
            users.try_acquire()

    def _mismatch(self, what: str, found: Any, asked: Any) -> PlaneMismatch:
        return PlaneMismatch(
            f"the cache {self.directory} is in use with {what}={found!r}, asked for {asked!r}. Use the same value, or close "
            f"it everywhere first.",
            option=what,
            asked=asked,
            found=found,
        )

    # Single items

    def get(self, key: Key, default: Any = None) -> Any:
        """The value, or ``default``.

        Cost: about 1 µs for what is small and was got before; a short hold of the plane's lock else; a look into the database
        when it is not in memory.
        """
        tiers, is_plain = self._open(), key.__class__ in _PLAIN
        if is_plain:
            value = tiers.find_nicknamed((key.__class__, key))
            if value is not MISSING:
                return value
        encoded = encode_key(key)
        name = digest_of(encoded)
        value = tiers.find(encoded, name)
        if value is MISSING:
            return default
        if is_plain:
            tiers.hot.give_nickname(name, (key.__class__, key))
        return value

    def set(
        self, key: Key, value: Any, *, ttl: float | None = _DEFAULT, tag: str | None = None, cost: float | None = None
    ) -> None:
        """Store a value in place of any other; it is on disk when this returns.

        Args:
            ttl: seconds after which it is out of date; None: never; default: that of the cache.
            tag: for ``evict``.
            cost: seconds that it took to make; what is dear for its size stays in memory for longer.

        Raises:
            ItemTooLarge: it is larger than both tiers.
            UnsupportedValue: no kind takes such a value.
        """
        item = Item(self._ttl_of(ttl), tag=_check_tag(tag), cost=check_seconds(cost, "cost") or 0.0)
        encoded = encode_key(key)
        self._open().store(encoded, digest_of(encoded), encode_value(value), item)

    def delete(self, key: Key) -> bool:
        """Take an item out; whether there was one."""
        encoded = encode_key(key)
        return self._open().delete(encoded, digest_of(encoded))

    def __getitem__(self, key: Key) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise BlockNotFound(
                f"the cache {self.directory} has no fresh item {title_of(key)}", directory=self.directory
            )
        return value

    def __setitem__(self, key: Key, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise BlockNotFound(f"the cache {self.directory} has no item {title_of(key)}", directory=self.directory)

    def __contains__(self, key: Key) -> bool:
        encoded = encode_key(key)
        return self._open().contains(encoded, digest_of(encoded))

    def __len__(self) -> int:
        return self._open().database.count(time.time())

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Key]:
        """The keys of what is not out of date, in the order in which they were first set; what comes meanwhile may be there."""
        after = 0
        while rows := self._open().database.keys(time.time(), after=after):
            after = rows[-1][0]
            for _, encoded in rows:
                try:
                    yield decode_key(encoded)
                except own(ValueError):
                    continue  # somebody else wrote this row

    # Many

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The values of those keys that are there."""
        found = ((key, self.get(key, MISSING)) for key in keys)
        return {key: value for key, value in found if value is not MISSING}

    def set_many(self, items: Mapping[Key, Any], *, ttl: float | None = _DEFAULT, tag: str | None = None) -> None:
        """Store several values, one after the other."""
        for key, value in items.items():
            self.set(key, value, ttl=ttl, tag=tag)

    def evict(self, tag: str) -> int:
        """Take out all items of a tag; how many there were."""
        if _check_tag(tag) is None:
            raise TypeError("tag is a str")
        return self._open().delete_all(tag)

    def clear(self) -> int:
        """Take out everything; how many items there were."""
        return self._open().delete_all()

    # Computing

    def get_or_compute(
        self,
        key: Key,
        fn: Callable[..., R],
        *args: Any,
        ttl: float | None = _DEFAULT,
        tag: str | None = None,
        grace: float = 0.0,
    ) -> R:
        """The value, or what ``fn(*args)`` returns, computed once per host however many processes ask at once.

        An exception of ``fn`` reaches its caller, and the others try in turn; a killed one's work passes to the next within a
        second. How long it took is the item's cost.

        Args:
            grace: seconds after its time for which what is computed here is kept, and for which what is found here may be
                used: meanwhile one computes anew and the others get the old value, and so does the one when ``fn`` raises.

        Raises:
            RuntimeError: ``fn`` asks for the key that it computes.
            UnsupportedValue, ItemTooLarge: what ``fn`` returned cannot be stored.
        """
        return cast("R", self._computing().get(self._question(key, fn, args, (ttl, tag, grace))))

    @overload
    async def get_or_compute_async(
        self,
        key: Key,
        fn: Callable[..., Coroutine[Any, Any, R]],
        *args: Any,
        ttl: float | None = ...,
        tag: str | None = ...,
        grace: float = ...,
    ) -> R: ...
    @overload
    async def get_or_compute_async(
        self,
        key: Key,
        fn: Callable[..., R],
        *args: Any,
        ttl: float | None = ...,
        tag: str | None = ...,
        grace: float = ...,
    ) -> R: ...
    async def get_or_compute_async(
        self,
        key: Key,
        fn: Callable[..., Any],
        *args: Any,
        ttl: float | None = _DEFAULT,
        tag: str | None = None,
        grace: float = 0.0,
    ) -> Any:
        """``get_or_compute`` for asyncio; ``fn`` is async, or plain and called in a thread.

        Files and the database are touched in threads only.
        """
        question = self._question(key, fn, args, (ttl, tag, grace))
        return await self._computing().get_async(question)

    def memoize(
        self, *, ttl: float | None = _DEFAULT, tag: str | None = None, version: object = None, grace: float = 0.0
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """``@cache.memoize()``: calls of a plain or async function with the same arguments are computed once per host.

        Arguments given by position, by keyword or by default are the same; arrays, tables and frames count by what is in them,
        blocks by their version; of other objects ``TypeError`` says which cannot be told apart.

        Args:
            version: another one forgets what was computed by older code.
        """

        def decorate(fn: Callable[P, R]) -> Callable[P, R]:
            signature = inspect.signature(fn)
            options: dict[str, Any] = {"ttl": ttl, "tag": tag, "grace": grace}

            if inspect.iscoroutinefunction(fn):

                @wraps(fn)
                async def remembered_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                    key = await call_in_thread(key_of_call, fn, signature, version, args, kwargs)
                    return await self.get_or_compute_async(key, lambda: fn(*args, **kwargs), **options)

                return cast("Callable[P, R]", remembered_async)

            @wraps(fn)
            def remembered(*args: P.args, **kwargs: P.kwargs) -> R:
                key = key_of_call(fn, signature, version, args, kwargs)
                return self.get_or_compute(key, lambda: fn(*args, **kwargs), **options)

            return remembered

        return decorate

    def _question(self, key: Key, fn: Callable[..., Any], args: tuple[Any, ...], options: tuple[Any, ...]) -> Question:
        ttl, tag, grace = options
        if check_seconds(grace, "grace") is None:
            raise TypeError("grace is a number of seconds, not None")
        return Question(key, fn, args, ttl=self._ttl_of(ttl), tag=_check_tag(tag), grace=grace)

    def _computing(self) -> Computing:
        return Computing(self._open(), self._plane, self._prefix)

    def _ttl_of(self, ttl: float | None) -> float | None:
        return self._ttl if ttl is _DEFAULT else check_seconds(ttl, "ttl")

    # The cache itself

    def stats(self) -> CacheStatistics:
        """What happened, over all processes that have or had it open, and how full it is."""
        tiers = self._open()
        counts = tiers.tally.totals()
        nbytes, evictions = tiers.hot.figures()
        memory = TierStatistics(counts.pop("memory_hits"), evictions, nbytes, self._memory_nbytes)
        database = tiers.database
        disk = TierStatistics(
            counts.pop("disk_hits"), counts.pop("disk_evictions"), database.used_nbytes(), database.limit_nbytes
        )
        return CacheStatistics(
            hits=memory.hits + disk.hits,
            evictions=memory.evictions + disk.evictions,
            memory=memory,
            disk=disk,
            **counts,
        )

    def health(self) -> Health:
        """Is anything to be done about the cache, and what: room on disk, damage, values that are too large for it."""
        found = self.stats()
        return judge(found, disk_room(self.directory))

    def close(self) -> None:
        """End this object; values that were handed out stay valid."""
        tiers, self._tiers = self._tiers, None
        if tiers is None:
            return
        tiers.tally.close()
        tiers.database.close()
        with ignoring(RuntimeError, ShmplaneError):  # a forked child has no permit, and the plane may be gone
            self._users.release()
        if self._owns_plane:
            self._plane.close()

    def _open(self) -> Tiers:
        if self._tiers is None:
            raise ClosedError(f"the cache {self.directory} was closed", directory=self.directory)
        return self._tiers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._arguments)

    def __repr__(self) -> str:
        state = "closed" if self._tiers is None else f"{self._policy}, {self._memory_nbytes:,} B of memory"
        return f"<shmplane.Cache {self.directory!r}: {state}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        with ignoring(Exception):  # it was closed or its plane is gone: the text says what is known
            if not self._open().hot.is_busy():
                from .display import html_of_cache

                bundle["text/html"] = html_of_cache(self.directory, self._policy, self.stats())
        return bundle


def _reopen(kind: type[Cache], arguments: tuple[Any, ...]) -> Cache:
    directory, memory, disk, policy, ttl, plane, name = arguments
    return kind(directory, memory=memory, disk=disk, policy=policy, ttl=ttl, plane=plane, name=name)


def _database_class() -> Any:
    try:
        from .database import Database
    except ModuleNotFoundError as error:
        if error.name != "diskcache":
            raise
        raise ModuleNotFoundError(
            "Cache keeps its items with diskcache, which is not installed: pip install 'shmplane[cache]'",
            name="diskcache",
        ) from None
    return Database


def _check_tag(tag: str | None) -> str | None:
    if tag is not None and not isinstance(tag, str):
        raise TypeError(f"tag is a str, not {type(tag).__name__}")
    return tag
