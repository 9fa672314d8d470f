"""Tables that come batch by batch: put while they are read, at once or not at all."""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from tests.support.inside import creations_of, directory_of, recycled_nbytes
from tests.support.processes import Child

MIB = 1 << 20
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())], metadata={"made": "here"})


def batch(rows: int, start: int = 0) -> pa.RecordBatch:
    text: Any = np.char.mod("row %d", np.arange(start, start + rows)) if rows else []
    return pa.record_batch([pa.array(np.arange(start, start + rows)), pa.array(text, pa.string())], schema=SCHEMA)


def batches(*sizes: int) -> Iterator[pa.RecordBatch]:
    start = 0
    for size in sizes:
        yield batch(size, start)
        start += size


def reader(source: Iterable[pa.RecordBatch], schema: pa.Schema = SCHEMA) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(schema, source)


class Foreign:
    """What another library exports: read once, by the Arrow C stream interface."""

    def __init__(self, source: pa.RecordBatchReader) -> None:
        self._source = source

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._source.__arrow_c_stream__()


EXPORTS: list[Callable[[pa.RecordBatchReader], Any]] = [lambda source: source, Foreign]
SHAPES = [(), (0,), (1,), (10, 0, 20), (5_000,), (100,) * 300, (40_000, 1, 40_000), (1,) * 40 + (60_000,)]


@pytest.mark.parametrize("export", EXPORTS, ids=["reader", "foreign"])
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_the_table_that_is_got_is_the_one_that_was_read(plane: shmplane.Plane, export: Any, sizes: Any) -> None:
    with plane.put("t", export(reader(batches(*sizes)))) as block:
        assert (block.kind, block.version) == ("table", 1)
        assert block.schema is not None
        assert block.schema.equals(SCHEMA, check_metadata=True)
    expected = pa.Table.from_batches(list(batches(*sizes)), schema=SCHEMA)
    got = plane["t"]
    got.validate(full=True)
    assert got.equals(expected, check_metadata=True)
    # Small batches are put together, since each costs every reader.
    assert got.column(0).num_chunks <= max(1, min(len(sizes), 5))


def test_columns_of_any_type_come_back(plane: shmplane.Plane) -> None:
    words = ["a", None, "b"] * 30_000
    parts = [
        pa.record_batch(
            {
                "dictionary": pa.array(words[at:]).dictionary_encode(),
                "list": pa.array([[1, 2], None, []] * 30_000)[at:],
                "struct": pa.array([{"x": 1}, None, {"x": None}] * 30_000)[at:],
                "text": pa.array(words)[at:],
                "null": pa.nulls(90_000 - at),
            }
        )
        for at in (0, 1, 17)
    ]
    plane["t"] = reader(parts, parts[0].schema)
    assert plane["t"].to_pylist() == pa.Table.from_batches(parts).to_pylist()


def test_it_replaces_an_older_version_in_one_step(plane: shmplane.Plane) -> None:
    plane["t"] = 1
    seen: list[Any] = []

    def watching() -> Iterator[pa.RecordBatch]:
        for one in batches(*[20_000] * 5):
            seen.append(plane["t"])
            yield one

    plane["t"] = reader(watching())
    assert seen == [1] * 5
    assert plane.attach("t").version == 2
    assert plane["t"].num_rows == 100_000


def test_expected_versions_anonymous_blocks_and_codecs_hold_for_streams(plane: shmplane.Plane) -> None:
    plane["t"] = 1
    with pytest.raises(shmplane.Conflict):
        plane.put("t", reader(batches(50_000)), expected_version=0)
    assert plane.put("t", reader(batches(50_000)), expected_version=1, codec="table").version == 2
    with plane.put(None, reader(batches(50_000)), linger=0.0) as block:
        assert block.value().num_rows == 50_000
    with pytest.raises(shmplane.UnsupportedValue):
        plane.put("t", reader(batches(50_000)), codec="array")


def test_a_stream_of_something_else_is_a_column(plane: shmplane.Plane) -> None:
    plane["c"] = Foreign(pa.chunked_array([[1, 2], [3]]))
    assert plane["c"].to_pydict() == {"value": [1, 2, 3]}


# Memory


class Counted:
    """Memory that Arrow borrows, so that it is seen when the last buffer over it goes."""

    alive = peak = 0

    def __init__(self, nbytes: int) -> None:
        array = np.zeros(nbytes, "u1")
        Counted.alive += nbytes
        Counted.peak = max(Counted.peak, Counted.alive)
        weakref.finalize(array, self._gone, nbytes)
        self.buffer = pa.py_buffer(array)

    @staticmethod
    def _gone(nbytes: int) -> None:
        Counted.alive -= nbytes


def counted(total: int, nbytes: int) -> Iterator[pa.RecordBatch]:
    for _ in range(total // nbytes):
        yield pa.record_batch([pa.Array.from_buffers(pa.int64(), nbytes // 8, [None, Counted(nbytes).buffer])], ["n"])


@pytest.mark.parametrize("export", EXPORTS, ids=["reader", "foreign"])
@pytest.mark.parametrize(("nbytes", "most"), [(8 * MIB, 16 * MIB), (MIB, 4 * MIB), (40_000, 4 * MIB)])
def test_no_more_than_a_few_batches_are_in_memory_at_once(plane_root: Any, export: Any, nbytes: int, most: int) -> None:
    """Of 64 MiB, nothing of which is held twice: one batch while the next is made, or what small ones are gathered to."""
    Counted.alive = Counted.peak = 0
    before = pa.total_allocated_bytes()
    with shmplane.Plane("large") as plane:
        block = plane.put("t", export(reader(counted(64 * MIB, nbytes), pa.schema([("n", pa.int64())]))))
        assert block.nbytes > 63 * MIB
        assert Counted.alive == 0
        assert nbytes <= Counted.peak <= most
        assert pa.total_allocated_bytes() == before
        used = plane.stats().used_nbytes
        assert 0 <= used - block.nbytes < 2 * 4096
        block.close()
        plane.destroy()


def test_a_plane_is_full_for_a_stream_when_it_is_full_for_its_bytes(plane_root: Any) -> None:
    with shmplane.Plane("tight", capacity=16 * MIB) as plane:
        plane["t"] = reader(counted(15 * MIB, MIB), pa.schema([("n", pa.int64())]))
        with pytest.raises(shmplane.PlaneFull):
            plane["u"] = reader(counted(4 * MIB, MIB), pa.schema([("n", pa.int64())]))
        assert plane.names() == ["t"]
        with pytest.raises(shmplane.PlaneFull):
            plane["u"] = reader(counted(20 * MIB, MIB), pa.schema([("n", pa.int64())]))
        plane["u"] = bytes(100_000)
        plane.put("old", bytes(900_000), evictable=True).close()
        del plane["t"], plane["u"]
        # Warm memory and evictable blocks make way.
        plane["t"] = reader(counted(31 * MIB // 2, MIB // 2), pa.schema([("n", pa.int64())]))
        assert plane.names() == ["t"]
        plane.destroy()


# Cut off


def failing(error: BaseException, *sizes: int) -> Iterator[pa.RecordBatch]:
    yield from batches(*sizes)
    raise error


def nothing_is_left(plane: shmplane.Plane, names: list[str]) -> bool:
    """Neither a name nor a block that is being made, nor memory that is neither warm nor a block's."""
    plane.trim()
    files = [entry for entry in os.listdir(directory_of(plane)) if entry.startswith("s")]
    return (
        plane.names() == names
        and not creations_of(plane)
        and recycled_nbytes(plane) == 0
        and len(files) == plane.stats().segments
    )


@pytest.mark.parametrize("sizes", [(), (100,), (40_000,), (40_000,) * 8], ids=str)
def test_an_exception_of_the_source_reaches_its_caller_and_nothing_is_put(plane: shmplane.Plane, sizes: Any) -> None:
    plane["old"] = 1
    for error in (ZeroDivisionError("boom"), KeyError("boom"), StopAsyncIteration("boom")):
        with pytest.raises(type(error), match="boom"):
            plane["t"] = reader(failing(error, *sizes))
        with pytest.raises(shmplane.UnsupportedValue, match="boom") as caught:
            plane["t"] = Foreign(reader(failing(error, *sizes)))
        assert isinstance(caught.value.__cause__, pa.ArrowException)
        del error, caught
    assert nothing_is_left(plane, ["old"])


@pytest.mark.parametrize("kind", [OSError, pa.ArrowInvalid, FileNotFoundError])
def test_what_the_source_raises_of_arrow_or_the_system_stays_as_the_cause(
    plane: shmplane.Plane, kind: type[Exception]
) -> None:
    error = kind("the disk is gone")
    with pytest.raises(shmplane.UnsupportedValue, match="the disk is gone") as caught:
        plane["t"] = reader(failing(error, 40_000))
    assert isinstance(caught.value.__cause__, kind)
    assert nothing_is_left(plane, [])


def test_one_of_ours_stays_what_it_is(plane: shmplane.Plane) -> None:
    with pytest.raises(shmplane.PlaneSecurityError):
        plane["t"] = reader(failing(shmplane.PlaneSecurityError("no"), 40_000))


def test_a_source_that_closes_the_plane_gets_its_error(plane_root: Any) -> None:
    plane = shmplane.Plane("closing")

    def destroying() -> Iterator[pa.RecordBatch]:
        yield from batches(40_000)
        plane.destroy()
        yield from batches(*[400_000] * 2)

    with pytest.raises(shmplane.ClosedError):
        plane["t"] = reader(destroying())


def test_batches_of_another_schema_are_refused(plane: shmplane.Plane) -> None:
    other = pa.record_batch([pa.array([1.0] * 10_000)], names=["x"])
    with pytest.raises(shmplane.UnsupportedValue):
        plane["t"] = reader(iter([batch(40_000), other]))
    assert nothing_is_left(plane, [])


def test_a_column_that_cannot_be_stored_is_refused_before_anything_is_read(plane: shmplane.Plane) -> None:
    class Own(pa.ExtensionType):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(pa.int64(), "tests.own")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

    def never() -> Iterator[pa.RecordBatch]:
        yield pytest.fail("it was read")

    kind = Own()  # Arrow refers to it weakly
    with pytest.raises(shmplane.UnsupportedValue, match="'n'"):
        plane["t"] = reader(never(), pa.schema([("n", kind)]))


def test_a_reader_that_is_used_up_is_a_table_without_rows(plane: shmplane.Plane) -> None:
    used = reader(batches(10))
    used.read_all()
    plane["t"] = used
    assert plane["t"].num_rows == 0


def test_a_stream_that_is_killed_in_the_middle_leaves_nothing(plane: shmplane.Plane) -> None:
    with Child(_put_until_killed, plane, method="fork") as child:
        assert child.next() == "in the middle"
        assert plane.stats().used_nbytes > 4 * MIB
        child.kill()
    plane.gc()
    assert nothing_is_left(plane, [])
    assert plane.stats().used_nbytes == 0


def _put_until_killed(plane: Any) -> Iterator[str]:
    import threading

    written = threading.Event()

    def stopping() -> Iterator[pa.RecordBatch]:
        yield from batches(*[40_000] * 10)
        written.set()
        threading.Event().wait(60)

    threading.Thread(target=plane.put, args=("t", reader(stopping())), daemon=True).start()
    written.wait(30)
    yield "in the middle"


# Appending


@pytest.mark.parametrize("export", EXPORTS, ids=["reader", "foreign"])
def test_rows_of_a_reader_are_appended_once(plane: shmplane.Plane, export: Any) -> None:
    for count in range(1, 4):
        plane.append("t", export(reader(batches(10, 30_000)))).close()
        assert plane["t"].num_rows == count * 30_010


def test_a_reader_whose_table_others_make_meanwhile_is_appended_to_theirs(plane: shmplane.Plane) -> None:
    def racing() -> Iterator[pa.RecordBatch]:
        yield from batches(10)
        plane["t"] = pa.table({"n": [1], "s": ["x"]})

    plane.append("t", reader(racing())).close()
    assert plane["t"].num_rows == 11


def test_random_sizes_come_back(plane: shmplane.Plane) -> None:
    dice = random.Random(7)
    for _ in range(20):
        sizes = [dice.choice([0, 1, 7, 500, 9_000, 30_000]) for _ in range(dice.randrange(12))]
        plane["t"] = reader(batches(*sizes))
        assert plane["t"].equals(pa.Table.from_batches(list(batches(*sizes)), schema=SCHEMA))
