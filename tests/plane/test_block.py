"""A block: its metadata, its protocols, and what is left of it after close."""

from __future__ import annotations

import copy
import datetime as dt
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import ArrayDraft, Block, BlockNotFound, ClosedError, Plane, PlaneNotFound, UnsupportedValue
from shmplane.manifest import directory_of
from tests.support.inside import abandon_creation, creations_of
from tests.support.processes import run_in_child

TABLE = pa.table({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]})


def holders_seen_from_outside(plane: Plane, name: str) -> tuple[int, int]:
    block = plane.attach(name)
    while_open = block.leases
    block.close()
    return while_open, plane.stats().processes


def test_a_block_says_what_it_is(plane: Plane) -> None:
    before = dt.datetime.now(dt.UTC)
    array = plane.put("array", np.zeros((2, 3), ">f4"))
    assert (array.name, array.version, array.kind, array.nbytes) == ("array", 1, "array", 24)
    assert (array.dtype, array.shape, array.schema) == (np.dtype(">f4"), (2, 3), None)
    assert array.leases == 1
    assert not array.closed
    assert before - dt.timedelta(seconds=1) <= array.created <= dt.datetime.now(dt.UTC)
    table = plane.put("table", TABLE)
    assert (table.kind, table.dtype, table.shape, table.schema) == ("table", None, (2, 3), TABLE.schema)
    text = plane.put("json", {"a": 1})
    assert (text.kind, text.nbytes, text.dtype, text.shape, text.schema) == ("json", 7, None, None, None)
    assert plane.put(None, b"ab").name is None
    assert plane.put("array", 1).version == 2


def test_leases_count_processes(plane: Plane) -> None:
    block = plane.put("x", 1)
    again = plane.attach("x")
    assert block.leases == again.leases == 1
    assert run_in_child(holders_seen_from_outside, plane, "x") == (2, 2)


METADATA = ("name", "version", "kind", "nbytes", "dtype", "shape", "schema", "created", "leases")


def test_metadata_stays_after_close_also_when_it_was_never_asked_for(plane: Plane) -> None:
    for value in (np.arange(6).reshape(2, 3), TABLE, b"abc", {"a": 1}, np.zeros(200_000, np.uint8)):
        put, attached = plane.put("x", value), plane.attach("x")
        before = {fact: getattr(plane.attach("x"), fact) for fact in METADATA}
        for block in (put, attached):
            block.close()
            assert block.closed
            after = {fact: getattr(block, fact) for fact in METADATA}
            assert {**after, "leases": None} == {**before, "leases": None}
            assert repr(block).startswith("<Block 'x' version ")


def test_a_closed_block_still_counts_the_leases_of_others(plane: Plane) -> None:
    block, other = plane.put("x", 1), plane.attach("x")
    block.close()
    assert block.leases == 1
    other.close()
    assert block.leases == 0
    newer = plane.put("x", 2)
    assert (block.leases, newer.leases) == (0, 1)  # also when the newer one has the older one's row


def test_metadata_outlives_the_plane_and_so_do_values_that_were_read() -> None:
    with Plane.temporary() as plane:
        closed, unread, read = plane.put("x", np.arange(3)), plane.put("y", np.arange(3)), plane.put("z", np.arange(3))
        closed.close()
        view = read.value()
        plane.destroy()
    for block in (closed, unread, read):
        assert (block.shape, block.kind, block.leases) == ((3,), "array", 0)
    assert view.tolist() == read.value().tolist() == [0, 1, 2]


def test_a_block_that_was_not_read_before_its_plane_was_destroyed_is_a_closed_error() -> None:
    with Plane.temporary() as plane:
        block = plane.put("x", np.zeros(200_000, np.uint8))
        plane.destroy()
    with pytest.raises(ClosedError, match="destroyed"):
        block.value()


def test_a_temporary_plane_is_gone_when_it_is_closed_although_it_is_read(plane_root: Path) -> None:
    with Plane.temporary() as plane:
        directory = Path(directory_of(str(plane_root)), plane.name)
        plane["config"] = {"a": 1}
        plane["array"] = np.arange(100_000)
        plane["table"] = pa.table({"a": range(50_000)})
        with plane.edit("array") as draft:
            assert isinstance(draft, ArrayDraft)
            draft.array[0] = 7
        view, unread = plane["array"], [plane.attach(name) for name in plane]
        assert directory.exists()
    assert not directory.exists()
    array, config, table = (block.value() for block in unread)
    assert view[0] == array[0] == 7
    assert view.sum() == array.sum()
    assert config == {"a": 1}
    assert table.num_rows == 50_000
    with pytest.raises(PlaneNotFound):
        Plane(plane.name, create=False)
    with pytest.raises(ClosedError):
        plane["config"]


def test_a_temporary_plane_does_not_wait_for_what_is_garbage(plane_root: Path) -> None:
    for _ in range(5):
        with Plane.temporary() as plane:
            blocks = [plane.put(str(number), bytes(100_000)) for number in range(5)]
            directory = Path(directory_of(str(plane_root)), plane.name)
            del blocks
        assert not directory.exists()


def test_a_temporary_plane_stays_for_who_waits_writes_or_holds_a_lock_in_it(plane_root: Path) -> None:
    plane = Plane.temporary()
    directory = Path(directory_of(str(plane_root)), plane.name)
    lock, builder = plane.lock("l"), plane.create("b", 100_000, "f8")
    lock.acquire()
    plane.close()
    assert directory.exists()
    builder.publish().close()
    lock.release()
    del builder
    patience = time.monotonic() + 5
    while directory.exists() and time.monotonic() < patience:
        time.sleep(0.01)
    assert not directory.exists()


def test_nothing_of_the_value_is_had_after_close(plane: Plane) -> None:
    block = plane.put("x", np.arange(3))
    with block as same:
        assert same is block
    block.close()  # idempotent
    for use in (
        block.value,
        block.array,
        block.table,
        block.buffer,
        block.to_pandas,
        block.to_polars,
        block.shared_memory,
        lambda: block.shm_name,
        lambda: block.shm_offset,
        block.__enter__,
        lambda: np.asarray(block),
        lambda: np.from_dlpack(block),
        lambda: pa.table(block),
        block.__reduce__,
        lambda: copy.copy(block),
        lambda: plane.attach(block),
        lambda: plane.put("y", block),
    ):
        with pytest.raises(ClosedError, match="attach it again"):
            use()


def test_what_was_taken_before_close_stays(plane: Plane) -> None:
    with plane.put("x", np.arange(3)) as block:
        array = block.array()
    assert array.tolist() == [0, 1, 2]
    assert plane.stats().leases == 1


def test_an_exception_inside_with_ends_the_handle_and_passes(plane: Plane) -> None:
    with pytest.raises(ZeroDivisionError), plane.put("x", 1) as block:
        _ = 1 / 0
    assert block.closed


# Protocols


def test_numpy_sees_an_array(plane: Plane) -> None:
    block = plane.put("x", np.arange(3, dtype="i2"))
    view = np.asarray(block)
    assert (view.dtype, view.tolist(), view.flags.writeable) == (np.dtype("i2"), [0, 1, 2], False)
    assert np.shares_memory(view, block.array())
    assert np.array(block).flags.writeable  # a copy of its own
    assert np.asarray(block, dtype="f8").dtype == "f8"
    assert np.asarray(block, dtype="i2", copy=False).tolist() == [0, 1, 2]
    assert np.sum(block) == 3
    with pytest.raises(ValueError, match="copy"):
        np.asarray(block, dtype="f8", copy=False)


def test_dlpack_gives_a_view_that_cannot_be_written(plane: Plane) -> None:
    view = np.from_dlpack(plane.put("x", np.arange(3)))
    assert view.tolist() == [0, 1, 2]
    assert not view.flags.writeable


def test_arrow_sees_a_table(plane: Plane) -> None:
    block = plane.put("x", TABLE)
    assert pa.table(block).equals(TABLE)
    assert pa.RecordBatchReader.from_stream(block).read_all().equals(TABLE)


def test_an_array_is_a_table_of_one_column(plane: Plane) -> None:
    block = plane.put("x", np.arange(3))
    assert block.table().equals(pa.table({"value": [0, 1, 2]}))
    assert block.table(["value"]).equals(block.table())
    assert pa.table(block).equals(block.table())
    with pytest.raises(ValueError, match="no column 'a'"):
        block.table(["a"])
    records = plane.put("y", np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]))
    assert records.table(["b"]).to_pydict() == {"b": [2.5]}


def test_a_column_is_a_table_of_one_column(plane: Plane) -> None:
    block = plane.put("x", pa.chunked_array([[1, 2]]))
    assert block.table().equals(pa.table({"value": [1, 2]}))
    assert block.array().tolist() == [1, 2]


def test_columns_are_chosen_in_the_order_asked_for(plane: Plane) -> None:
    block = plane.put("x", TABLE)
    assert block.table(["c", "a"]).column_names == ["c", "a"]
    assert block.table([]).num_columns == 0
    with pytest.raises(ValueError, match="no column 'z'"):
        block.table(["z"])
    with pytest.raises(TypeError, match=r"write \['a'\]"):
        block.table("a")


def test_what_is_no_array_or_table_is_refused(plane: Plane) -> None:
    for value in (b"abc", {"a": 1}):
        block = plane.put("x", value)
        for use in (block.table, block.to_pandas, block.to_polars, lambda block=block: pa.table(block)):
            with pytest.raises(UnsupportedValue):
                use()
    assert plane.put("x", b"abc").array().tolist() == [97, 98, 99]
    with pytest.raises(UnsupportedValue):
        plane.put("x", {"a": 1}).array()
    with pytest.raises(UnsupportedValue):
        plane.put("x", np.ones((2, 2))).table()


def test_the_buffer_is_what_is_stored(plane: Plane) -> None:
    assert plane.put("x", {"a": 1}).buffer().tobytes() == b'{"a":1}'
    assert plane.put("x", np.arange(2, dtype="u1")).buffer().tobytes() == b"\0\1"
    stream = plane.put("x", TABLE).buffer()
    assert stream.readonly
    assert pa.ipc.open_stream(stream).read_all().equals(TABLE)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 688 came with Python 3.12")
def test_a_block_is_a_buffer(plane: Plane) -> None:
    block: Any = plane.put("x", b"abc")
    view = memoryview(block)
    assert view.readonly
    assert view.tobytes() == b"abc"
    assert bytes(block) == b"abc"
    assert np.frombuffer(block, "u1").tolist() == [97, 98, 99]
    block.close()
    assert view.tobytes() == b"abc"
    with pytest.raises(ClosedError):
        memoryview(block)
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    block = plane.put("x", array)
    assert (memoryview(block).format, memoryview(block).shape) == (">h", (2, 3))
    assert bytes(block) == array.tobytes()
    assert np.frombuffer(block, ">i2").tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 688 came with Python 3.12")
def test_what_no_buffer_can_describe_is_refused_as_a_buffer(plane: Plane) -> None:
    for value in (TABLE, {"a": 1}, np.array(["2026-01-01"], "M8[D]")):
        block: Any = plane.put("x", value)
        with pytest.raises(BufferError, match=r"block\.buffer\(\)"):
            memoryview(block)


def test_numpy_sees_the_same_on_every_python(plane: Plane) -> None:
    # From 3.12 on NumPy asks for the buffer before ``__array__``.
    for array in (
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.ones((2, 3))),
        np.array(["2026-01-01", "NaT"], "M8[D]"),
        np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
        np.array(["a", "ü"]),
        np.array(2.5),
        np.empty((0, 3)),
        np.array([1j], "c8"),
    ):
        seen = np.asarray(plane.put("x", array))
        assert (seen.dtype, seen.shape, seen.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert seen.flags.f_contiguous == array.flags.f_contiguous
        assert not seen.flags.writeable
    assert np.asarray(plane.put("x", pa.table({"a": [1, 2]}))).tolist() == [1, 2]
    with pytest.raises(UnsupportedValue):
        np.asarray(plane.put("x", {"a": 1}))
    with pytest.raises(UnsupportedValue):
        np.asarray(plane.put("x", TABLE))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there it is one")
def test_a_block_is_no_buffer_before_python_3_12(plane: Plane) -> None:
    block: Any = plane.put("x", b"abc")
    with pytest.raises(TypeError):
        memoryview(block)


def test_a_notebook_shows_the_metadata_escaped(plane: Plane) -> None:
    hostile = "<script>alert(1)</script>&"
    block = plane.put(hostile, pa.table({"<b>": [1], "plain": ["x"]}))
    shown = block._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    assert shown["text/plain"] == repr(block)
    html = shown["text/html"]
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in html
    assert "&lt;b&gt;: int64" in html
    assert "style=" in html
    assert "<style" not in html
    assert block._repr_mimebundle_(include=None, exclude=set()) == shown
    block.close()
    assert "closed" in block._repr_mimebundle_()["text/html"]
    array = plane.put(None, np.zeros((2, 3), "f4"))._repr_mimebundle_()["text/html"]
    assert "anonymous" in array
    assert "float32" in array
    assert "2 x 3" in array


def test_a_block_compares_by_identity(plane: Plane) -> None:
    block, other = plane.put("x", 1), plane.attach("x")
    assert block != other
    assert len({block, other}) == 2


def test_a_copy_of_a_block_is_another_handle(plane: Plane) -> None:
    block = plane.put("x", np.arange(3))
    for twin in (copy.copy(block), copy.deepcopy(block)):
        block.close()
        assert twin.value().tolist() == [0, 1, 2]
        block = twin


# The plane as a mapping


def test_a_plane_is_a_mutable_mapping(plane: Plane) -> None:
    plane.update({"b": 2}, a=1)
    assert list(plane) == ["a", "b"] == list(plane.keys()) == sorted(plane)
    assert (len(plane), list(plane.values()), dict(plane)) == (2, [1, 2], {"a": 1, "b": 2})
    assert plane.setdefault("a", 5) == 1
    assert plane.setdefault("c", [3]) == [3]
    assert plane.pop("c") == [3]
    assert plane.pop("c", None) is None
    with pytest.raises(BlockNotFound):
        plane.pop("c")
    assert plane.popitem() == ("a", 1)
    del plane["b"]
    with pytest.raises(KeyError):
        plane.popitem()
    with pytest.raises(BlockNotFound):
        del plane["b"]
    plane.update([("x", 1), ("y", 2)])
    plane.clear()
    assert (list(plane), len(plane)) == ([], 0)


def test_names_are_sorted_and_found_by_prefix(plane: Plane) -> None:
    for name in ("b", "a/2", "ü", "a/10", "B"):
        plane[name] = 1
    assert list(plane) == plane.names() == sorted(["b", "a/2", "ü", "a/10", "B"])
    assert plane.names("a/") == ["a/10", "a/2"]
    assert plane.names("z") == []


def test_a_plane_is_always_true_and_compares_by_identity(plane: Plane) -> None:
    assert plane
    assert len(plane) == 0
    with Plane(plane.name, create=False) as other:
        assert plane != other
        assert plane == plane  # noqa: PLR0124 - the subject
        assert len({plane, other}) == 2
        assert plane != {}
    assert other
    assert "closed" in repr(other)


def test_what_can_be_no_name_is_not_in_a_plane(plane: Plane) -> None:
    names: list[Any] = [3, None, b"x", 1.5, ("x",), [], "", "a\n", "y" * 121, "\ud800"]
    for name in names:
        assert name not in plane


def test_bad_names_are_bad_arguments(plane: Plane) -> None:
    bad: list[tuple[Any, type[Exception]]] = [
        (3, TypeError), (b"x", TypeError), ("", ValueError), ("a\n", ValueError), ("\x7f", ValueError),
        ("ü" * 61, ValueError), ("\ud800", ValueError),
    ]  # fmt: skip
    for name, kind in bad:
        for use in (
            lambda name=name: plane[name],
            lambda name=name: plane.get(name),
            lambda name=name: plane.put(name, 1),
            lambda name=name: plane.__setitem__(name, 1),
            lambda name=name: plane.delete(name),
            lambda name=name: plane.rename("a", name),
            lambda name=name: plane.attach(name),
            lambda name=name: plane.create(name, 3, "f4"),
        ):
            with pytest.raises(kind) as caught:
                use()
            assert not isinstance(caught.value, shmplane.ShmplaneError)
    assert len(plane) == 0


def test_a_name_may_have_120_bytes_slashes_and_colons(plane: Plane) -> None:
    for name in ("ü" * 60, "a" * 120, "prices/2026:eu", " ", ".hidden", "..", "/"):
        plane[name] = name
    assert {name: plane[name] for name in plane} == {name: name for name in plane}
    assert len(plane) == 7


def test_attach_takes_names_and_handles(plane: Plane) -> None:
    block = plane.put("x", 1)
    plane["x"] = 2
    assert plane.attach(block).version == 1
    assert plane.attach("x").version == 2
    with pytest.raises(BlockNotFound, match="'missing'") as caught:
        plane.attach("missing")
    assert isinstance(caught.value, KeyError)
    bad: Any
    for bad in (3, None, b"x"):
        with pytest.raises(TypeError):
            plane.attach(bad)


def test_after_destroy_every_use_is_a_closed_error() -> None:
    plane, other = Plane.temporary(), None
    try:
        plane["x"] = 1
        other = Plane(plane.name, create=False)
        plane.destroy()
        plane.destroy()
        for one in (plane, other):
            for use in (
                lambda one=one: one["x"], lambda one=one: one.get("x"), lambda one=one: one.put("x", 1),
                lambda one=one: one.attach("x"), lambda one=one: list(one), lambda one=one: len(one),
                lambda one=one: "x" in one, lambda one=one: 3 in one, one.stats, one.gc, one.blocks, one.names,
                one.clear, lambda one=one: one.wait("x", timeout=1), lambda one=one: one.lock("x"),
                lambda one=one: one.buffer(10), lambda one=one: one.create("x", 3, "f4"), one.__enter__,
            ):  # fmt: skip
                with pytest.raises(ClosedError):
                    use()
            assert bool(one)
            assert one.name in repr(one)
    finally:
        plane.close()
        if other is not None:
            other.close()


def test_a_block_is_exported_from_the_package() -> None:
    assert shmplane.Block is Block


def test_a_block_that_was_renamed_away_and_back_has_its_new_version(plane: Plane) -> None:
    plane["x"] = bytes(100_000)
    assert plane["x"].nbytes == 100_000  # it is remembered, and its lease ends
    plane.gc()
    with Plane(plane.name, root=plane.root) as other:
        other.rename("x", "y")
        other.rename("y", "x")
    view = plane["x"]
    with plane.attach("x") as block:
        assert block.version == plane.wait("x").version
        assert block.name == "x"
        assert block.version > 1
    del view


def test_what_became_a_block_is_not_abandoned_in_the_row_of_another_that_is_being_made(plane: Plane) -> None:
    """Whoever is interrupted between a publication and its return abandons it, and another thread may have the row by then."""
    first = plane.create("first", 50_000, "f8")
    (tracked,) = creations_of(plane).values()
    creation = tracked()
    first.publish().close()
    del plane["first"], first
    plane.gc()
    with plane.create("second", 50_000, "f8") as second:
        (other,) = creations_of(plane)
        assert other == creation.key
        abandon_creation(plane, creation)
        second.array[:] = 7.0
    assert plane["second"][-1] == 7.0
