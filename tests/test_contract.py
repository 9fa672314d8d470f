"""The signatures of the public contract, as it writes them: names, order, kinds and defaults.

A parameter is as in a call: ``*`` begins those that are keyword-only, ``=`` gives the default.
"""

from __future__ import annotations

import inspect
from collections.abc import MutableMapping
from typing import Any

import pytest

import shmplane

CALLS = {
    "Plane.put": "name, value, *, codec=None, evictable=False, expected_version=None, linger=30.0, ttl=None",
    "Plane.get": "name, default=None, *, as_=None",
    "Plane.get_or_put": "name, fn, *args",
    "Plane.get_or_put_async": "name, fn, *args",
    "Plane.load": "name, path, *, format=None, progress=None, **read_options",
    "Plane.attach": "name",
    "Plane.create": "name, shape, dtype",
    "Plane.edit": "name",
    "Plane.mutable": "name, shape=None, dtype=None",
    "Plane.append": "name, rows",
    "Plane.delete": "name",
    "Plane.rename": "old, new",
    "Plane.names": "prefix=''",
    "Plane.blocks": "",
    "Plane.wait": "name, *, newer_than=0, timeout=None",
    "Plane.wait_async": "name, *, newer_than=0, timeout=None",
    "Plane.lock": "name",
    "Plane.semaphore": "name, permits",
    "Plane.rate": "name, limit, per=60.0, burst=None",
    "Plane.queue": "name, maxsize=0",
    "Plane.buffer": "nbytes",
    "Plane.stats": "",
    "Plane.layout": "",
    "Plane.watch": "seconds=1.0",
    "Plane.health": "",
    "Plane.gc": "",
    "Plane.trim": "nbytes=0",
    "Plane.resize": "capacity",
    "Plane.close": "",
    "Plane.destroy": "",
    "map_file": "path, mode='r', *, access='normal', nbytes=None",
    "MappedFile.array": "dtype=None, shape=None, offset=0",
    "MappedFile.windows": "nbytes, step=None",
    "MappedFile.flush": "",
    "MappedFile.close": "",
    "BufferPool": "max_bytes",
    "BufferPool.buffer": "nbytes, *, timeout=0.0",
    "BufferPool.stats": "",
    "Layout.text": "",
    "Layout.html": "",
    "Layout.to_arrow": "",
    "Layout.to_pandas": "",
    "Buffer.publish": "name, *, dtype=None, shape=None",
    "Block.value": "",
    "Block.array": "",
    "Block.table": "columns=None",
    "Block.buffer": "",
    "Block.to_pandas": "",
    "Block.to_polars": "",
    "Block.to_torch": "",
    "Block.shared_memory": "",
    "Block.close": "",
    "ArrayDraft.commit": "",
    "ArrayDraft.discard": "",
    "TreeDraft.commit": "",
    "TreeDraft.discard": "",
    "TableDraft.append": "rows",
    "TableDraft.rename": "names",
    "RateLimiter.acquire": "amount=1, timeout=None",
    "RateLimiter.try_acquire": "amount=1",
    "RateLimiter.acquire_async": "amount=1, timeout=None",
    "Grant.settle": "actual",
    "Queue.put": "value, timeout=None",
    "Queue.put_nowait": "value",
    "Queue.put_async": "value, timeout=None",
    "Queue.get": "timeout=None",
    "Queue.get_nowait": "",
    "Queue.get_async": "timeout=None",
    "Queue.lease": "timeout=None",
    "Queue.lease_async": "timeout=None",
    "Queue.qsize": "",
    "Queue.empty": "",
    "Queue.full": "",
    "Item.value": "",
    "Semaphore.acquire": "timeout=None",
    "Semaphore.try_acquire": "",
    "Semaphore.acquire_async": "timeout=None",
    "Semaphore.release": "",
    "Semaphore.resize": "permits",
    "ConnectionPool.release": "conn, *, broken=False",
    "ConnectionPool.resize": "max_size",
    "AsyncConnectionPool.release": "conn, *, broken=False",
    "AsyncConnectionPool.resize": "max_size",
    "Scope": "name=None",
    "AsyncScope": "name=None, *, grace=10.0",
    "Scope.enter": "cm",
    "Scope.own": "resource, close=None",
    "Scope.callback": "fn, *args",
    "Scope.release": "resource",
    "Scope.temporary_file": "suffix=''",
    "Scope.temporary_directory": "",
    "AsyncScope.enter_async": "cm",
    "AsyncScope.own": "resource, close=None",
}
POOL = (
    "connect, *, close=None, check=None, reset=None, configure=None, min_size=0, max_size=10, timeout=30.0, "
    "max_waiting=None, max_lifetime=3600.0, max_idle=600.0, leak_after=None, name=None, plane=None, host_limit=None"
)
PLANE = {
    "create": True, "capacity": None, "root": None, "max_blocks": 65_536, "max_processes": 256, "recycle": None,
    "spill": None, "trust_pickle": False, "lock": None,
}  # fmt: skip
COROUTINES = {
    "Plane": {"wait_async", "get_or_put_async"},
    "Semaphore": {"acquire_async"},
    "RateLimiter": {"acquire_async"},
    "Queue": {"put_async", "get_async"},
    "ConnectionPool": set(),
    "AsyncConnectionPool": {"acquire", "release", "drain", "wait", "close"},
    "Scope": set(),
    "AsyncScope": {"enter_async", "close"},
}
RECORDS = {
    "BlockInfo": "name version kind nbytes state leases holders created",
    "PlaneStatistics": "capacity used_nbytes recycled_nbytes free_nbytes blocks segments processes leases",
    "Reclaimed": "processes leases permits blocks nbytes",
    "Health": "status checks",
    "BufferPoolStatistics": "max_bytes out_nbytes kept_nbytes out kept reused made",
    "Layout": "name root capacity used_nbytes segments blocks processes advice",
}
PROPERTIES = {
    "Plane": "closed",
    "MappedFile": "nbytes closed",
    "Block": "name version kind nbytes dtype shape schema leases created closed shm_name shm_offset",
    "ArrayDraft": "array dirty_nbytes block",
    "TableDraft": "table block",
    "JsonDraft": "value block",
    "TreeDraft": "tree dirty_nbytes block",
    "Builder": "array",
}


def written(call: Any) -> str:
    """A signature without ``self`` and annotations."""
    parameters = inspect.signature(call).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters if p.name != "self"]
    return str(inspect.Signature(plain))[1:-1]


def found(path: str) -> Any:
    thing: Any = shmplane
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def test_a_call_has_the_signature_of_the_contract() -> None:
    assert {path: written(found(path)) for path in CALLS} == CALLS


@pytest.mark.parametrize("name", ["ConnectionPool", "AsyncConnectionPool"])
def test_a_pool_takes_what_the_contract_says(name: str) -> None:
    assert written(found(name)) == POOL
    for method in ("acquire", "connection", "wait"):
        assert list(inspect.signature(found(f"{name}.{method}")).parameters) == ["self", "timeout"]
    assert list(inspect.signature(found(f"{name}.close")).parameters) == ["self", "grace"]


def test_a_plane_takes_what_the_contract_says() -> None:
    parameters = inspect.signature(shmplane.Plane).parameters
    assert next(iter(parameters)) == "name"
    options = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY and name[0] != "_"}
    assert options == PLANE
    assert issubclass(shmplane.Plane, MutableMapping)


@pytest.mark.parametrize("name", COROUTINES)
def test_what_is_awaited_and_nothing_else_is_a_coroutine(name: str) -> None:
    methods = inspect.getmembers(found(name), inspect.iscoroutinefunction)
    assert {method for method, _ in methods if method[0] != "_"} == COROUTINES[name]


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_frozen_and_slotted_and_begins_with_its_fields(name: str) -> None:
    record = found(name)
    assert record.__dataclass_params__.frozen
    assert "__dict__" not in dir(record)
    assert set(RECORDS[name].split()) <= set(record.__dataclass_fields__)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_property_is_there(name: str) -> None:
    for attribute in PROPERTIES[name].split():
        assert isinstance(inspect.getattr_static(found(name), attribute), property), attribute
