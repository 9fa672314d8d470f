"""No route from a view leads to writable memory or ends a lease; every view keeps the lease, and the last lets it go."""

from __future__ import annotations

import copy
import ctypes
import functools
import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from shmplane import Plane
from tests.support.processes import Child

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

LEASE_ENDS_WITHIN_S = 0.05
LARGE = 40_000  #: elements; larger than what shares a slab, so that a segment is mapped for the block alone

ARRAY = np.arange(LARGE, dtype="f8")
TABLE = pa.table({"n": np.arange(LARGE), "text": [f"row {number}" for number in range(LARGE)]})
FRAME = pd.DataFrame({"n": np.arange(LARGE), "x": np.arange(LARGE) / 2})

Derive = Callable[[shmplane.Block], Any]


def exporter_of(array: Any) -> Any:
    """What NumPy keeps at the end of a chain of views."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def as_buffer(block: shmplane.Block) -> Any:
    """An array, which is a buffer though its types do not say so."""
    return block.array()


ARRAY_VIEWS: dict[str, Derive] = {
    "value": lambda block: block.value(),
    "array": lambda block: block.array(),
    "slice": lambda block: block.array()[10:20],
    "element view": lambda block: block.array()[..., 3:4],
    "reshaped": lambda block: block.array().reshape(2, -1),
    "transposed": lambda block: block.array().reshape(2, -1).T,
    "reversed": lambda block: block.array()[::-1],
    "other dtype": lambda block: block.array().view("u1"),
    "matrix view": lambda block: np.lib.stride_tricks.sliding_window_view(block.array(), 3),
    "as_strided": lambda block: np.lib.stride_tricks.as_strided(block.array(), (2,), (8,)),
    "broadcast": lambda block: np.broadcast_to(block.array(), (2, LARGE)),
    "real": lambda block: block.array().real,
    "ravel": lambda block: block.array().ravel(),
    "flat": lambda block: block.array().flat,
    "subclass": lambda block: block.array().view(np.recarray),
    "asarray": lambda block: np.asarray(block),
    "dlpack": lambda block: np.from_dlpack(block),
    "dlpack of a view": lambda block: np.from_dlpack(block.array()),
    "memoryview": lambda block: memoryview(as_buffer(block)),
    "cast memoryview": lambda block: memoryview(as_buffer(block)).cast("B")[8:],
    "frombuffer": lambda block: np.frombuffer(memoryview(as_buffer(block)), "f8"),
    "raw buffer": lambda block: block.buffer(),
    "array of raw buffer": lambda block: np.frombuffer(block.buffer(), "f8"),
    "exporter": lambda block: exporter_of(block.array()),
    "arrow array": lambda block: pa.array(block.array()),
    "arrow table": lambda block: block.table(),
    "py_buffer": lambda block: pa.py_buffer(block.array()),
    "series": lambda block: block.to_pandas(),
    "polars series": lambda block: block.to_polars(),
}
TABLE_VIEWS: dict[str, Derive] = {
    "table": lambda block: block.value(),
    "columns": lambda block: block.table(["text"]),
    "column": lambda block: block.table().column("n"),
    "chunk": lambda block: block.table().column("n").chunk(0),
    "slice": lambda block: block.table().slice(5, 5),
    "batch": lambda block: block.table().to_batches()[0],
    "reader": lambda block: pa.RecordBatchReader.from_stream(block),
    "from stream": lambda block: pa.table(block),
    "buffer": lambda block: block.table().column("n").chunk(0).buffers()[1],
    "sliced buffer": lambda block: block.table().column("n").chunk(0).buffers()[1].slice(8, 16),
    "memoryview of a buffer": lambda block: memoryview(block.table().column("n").chunk(0).buffers()[1]),
    "numpy of a buffer": lambda block: np.frombuffer(block.table().column("n").chunk(0).buffers()[1], "i8"),
    "numpy of a column": lambda block: block.table().column("n").chunk(0).to_numpy(),
    "dlpack of a column": lambda block: np.from_dlpack(block.table().column("n").chunk(0)),
    "pandas": lambda block: block.to_pandas(),
    "pandas column": lambda block: block.to_pandas()["n"],
    "pandas values": lambda block: block.to_pandas()["n"].to_numpy(),
    "polars": lambda block: block.to_polars(),
    "polars column": lambda block: block.to_polars()["n"],
    "polars values": lambda block: block.to_polars()["n"].to_numpy(),
}
FRAME_VIEWS: dict[str, Derive] = {
    "frame": lambda block: block.value(),
    "column": lambda block: block.value()["x"],
    "values": lambda block: block.value()["x"].to_numpy(),
    "rows": lambda block: block.value().iloc[5:10],
    "renamed": lambda block: block.value().rename(columns={"x": "y"}),
    "index-free": lambda block: block.value().reset_index(drop=True),
}
BYTES_VIEWS: dict[str, Derive] = {
    "memoryview": lambda block: block.value(),
    "slice": lambda block: block.value()[5:10],
    "cast": lambda block: block.value().cast("I"),
    "toreadonly": lambda block: block.value().toreadonly(),
    "array": lambda block: block.array(),
    "frombuffer": lambda block: np.frombuffer(block.value(), "u1"),
    "arrow buffer": lambda block: pa.py_buffer(block.value()),
    "exporter": lambda block: block.value().obj,
}
VALUES = {"array": ARRAY, "table": TABLE, "frame": FRAME, "bytes": bytes(range(250)) * 800}
KINDS = {"array": ARRAY_VIEWS, "table": TABLE_VIEWS, "frame": FRAME_VIEWS, "bytes": BYTES_VIEWS}
VIEWS = {f"{kind}: {name}": derive for kind, views in KINDS.items() for name, derive in views.items()}


def addresses(thing: Any) -> Iterator[int]:
    """Where the memory lies that a view shows, as far as its library tells."""
    match thing:
        case np.ndarray():
            yield thing.__array_interface__["data"][0]
        case memoryview():
            yield np.frombuffer(thing, "u1").__array_interface__["data"][0]
        case pa.Buffer():
            yield thing.address
        case pa.Array():
            yield from (buffer.address for buffer in thing.buffers() if buffer is not None and buffer.size)
        case pa.ChunkedArray():
            for chunk in thing.chunks:
                yield from addresses(chunk)
        case pa.Table() | pa.RecordBatch():
            for column in thing.columns:
                yield from addresses(column)
        case pd.DataFrame():
            for name in thing.columns:
                yield from addresses(thing[name])
        case pd.Series():
            if isinstance(thing.dtype, np.dtype):
                yield from addresses(thing.to_numpy())
        case pl.Series():
            yield from addresses(thing.to_arrow())


def mapped(address: int) -> tuple[str, str]:
    """Protection and file of the mapping that an address lies in."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, protection, _, _, _, *path = line.split()
            begin, end = (int(part, 16) for part in span.split("-"))
            if begin <= address < end:
                return protection, path[0] if path else ""
    return "", ""


def is_writable(thing: Any) -> bool:
    match thing:
        case np.ndarray():
            return bool(thing.flags.writeable)
        case memoryview():
            return not thing.readonly
        case pa.Buffer():
            return bool(thing.is_mutable)
        case pa.Array():
            return any(buffer.is_mutable for buffer in thing.buffers() if buffer is not None)
        case pa.ChunkedArray():
            return any(is_writable(chunk) for chunk in thing.chunks)
        case pa.Table() | pa.RecordBatch():
            return any(is_writable(column) for column in thing.columns)
    return False


def wait_for_leases(plane: Plane, count: int) -> bool:
    """Generous where the processor is shared; how soon a lease ends is measured by one test alone."""
    deadline = time.monotonic() + 5
    while plane.stats().leases != count and time.monotonic() < deadline:
        time.sleep(0.001)
    return plane.stats().leases == count


#: views of which no library tells the address
OPAQUE = {"array: exporter", "array: flat", "table: reader", "table: polars", "bytes: exporter"}
#: copy-on-write pages of their own, for consumers that write into what is marked as read-only
PRIVATE = {"array: dlpack"}


def test_no_view_can_be_written_and_every_view_keeps_the_lease(plane: Plane, subtests: pytest.Subtests) -> None:
    plane.update(VALUES)
    for name, derive in VIEWS.items():
        with subtests.test(name):
            wanted = "rw-p" if name in PRIVATE else "r--s"
            check_view(plane, name.partition(":")[0], derive, opaque=name in OPAQUE, wanted=wanted)


def check_view(plane: Plane, name: str, derive: Derive, *, opaque: bool, wanted: str) -> None:
    with plane.attach(name) as block:
        view = derive(block)
    del block
    assert not is_writable(view)
    places = {mapped(address) for address in addresses(view)}
    assert places or opaque
    assert {protection for protection, file in places if plane.root in file} <= {wanted}
    assert opaque or any(plane.root in file for _, file in places), "it shows a copy"
    assert wait_for_leases(plane, 1)
    time.sleep(0.01)
    assert plane.stats().leases == 1
    del view
    assert wait_for_leases(plane, 0)


class OldConsumer:
    """A DLPack consumer that cannot be told of read-only memory, or does not look: it writes."""

    def __init__(self, block: shmplane.Block, **options: Any) -> None:
        self.block, self.options = block, options

    def __dlpack__(self, **_: Any) -> Any:
        return self.block.__dlpack__(**self.options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.block.__dlpack_device__()


def write_as_c_code_does(array: Any) -> None:
    ctypes.memset(array.__array_interface__["data"][0], 1, array.nbytes)


@pytest.mark.parametrize("value", [np.arange(10.0), np.arange(100_000.0), np.ones((300, 300), order="F")], ids=len)
def test_what_a_dlpack_consumer_writes_reaches_neither_the_block_nor_another_consumer(plane: Plane, value: Any) -> None:
    block = plane.put("x", value)
    one, other = (np.from_dlpack(OldConsumer(block)) for _ in range(2))
    assert np.array_equal(one, value)
    write_as_c_code_does(one)
    assert np.array_equal(plane["x"], value)
    assert np.array_equal(other, value)
    block.close()
    del block, other
    plane["x"] = 0
    plane.gc()
    assert set(one.ravel().view("u1").tolist()) == {1}


def test_an_edited_array_is_written_privately_too(plane: Plane) -> None:
    plane["x"] = np.zeros(100_000)
    with plane.edit("x") as draft:
        draft.array[50_000] = 5.0
    consumed = np.from_dlpack(OldConsumer(plane.attach("x")))
    assert consumed[50_000] == 5.0
    write_as_c_code_does(consumed)
    assert plane["x"][50_000] == 5.0


def test_a_tensor_of_a_block_is_changed_in_place_without_reaching_it(plane: Plane) -> None:
    torch = pytest.importorskip("torch")
    image = np.full((64, 64), 255, "f4")
    for block in (plane.put("x", image), plane.put("small", image[:4])):
        tensor = torch.from_dlpack(block)
        tensor /= 255
        assert float(tensor.max()) == 1.0
        assert block.array().max() == 255


def test_an_exporter_shows_nothing_that_could_be_closed(plane: Plane) -> None:
    exporter = exporter_of(plane.put("x", ARRAY).array())
    assert [name for name in dir(exporter) if not name.startswith("__")] == ["dtype"]
    with pytest.raises(AttributeError):
        exporter.lease = None


def test_a_view_cannot_be_made_writable(plane: Plane) -> None:
    plane["x"] = ARRAY
    plane["b"] = b"abc"
    view, text = plane["x"], plane["b"]
    for array in (view, view[3:], view.reshape(2, -1), np.asarray(text), np.from_dlpack(plane.attach("x"))):
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert not np.lib.stride_tricks.as_strided(view, (2,), (8,), writeable=True).flags.writeable
    with pytest.raises(TypeError):
        text[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        view.sort()
    with pytest.raises(ValueError, match="output array is read-only"):
        np.add(view, 1, out=view)
    with pytest.raises(TypeError):
        memoryview(view).cast("B")[0] = 1
    with pytest.raises((TypeError, BufferError)):
        os.readv(0, [memoryview(view)])
    assert view[0] == 0


def set_first(frame: Any) -> None:
    frame.iloc[0, 0] = -1


def set_cell_of(name: str, frame: Any) -> None:
    frame.iloc[1, frame.columns.get_loc(name)] = frame[name].iloc[0]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "loc": lambda frame: frame.loc.__setitem__((0, "n"), -1),
    "iloc": lambda frame: frame.iloc.__setitem__((slice(1, 3), 0), 7),
    "at": lambda frame: frame.at.__setitem__((0, "x"), 9.0),
    "iat": lambda frame: frame.iat.__setitem__((0, frame.columns.get_loc("x")), 9.0),
    "mask by loc": lambda frame: frame.loc.__setitem__((frame["n"] > 1, "x"), 5.0),
    "all rows": lambda frame: frame.loc.__setitem__((slice(None), "x"), 5.0),
    "row": lambda frame: frame.loc.__setitem__(0, frame.loc[1]),
    "new row": lambda frame: frame.loc.__setitem__(len(frame), frame.loc[1]),
    "column": lambda frame: frame.__setitem__("x", frame["x"] + 1),
    "column in place": lambda frame: frame.__setitem__("x", frame["x"].__iadd__(1)),
    "delete": lambda frame: frame.__delitem__("x"),
    "pop": lambda frame: frame.pop("x"),
    "insert": lambda frame: frame.insert(0, "new", 1),
    "fillna": lambda frame: frame.fillna({"x": 0.0}, inplace=True),
    "replace": lambda frame: frame.replace({1.0: 2.0}, inplace=True),
    "where": lambda frame: frame.where(frame["n"] > 1, other=frame, inplace=True),
    "mask": lambda frame: frame.__setitem__("x", frame["x"].mask(frame["n"] > 1, 0.0)),
    "clip": lambda frame: frame.__setitem__("x", frame["x"].clip(0, 1)),
    "update": lambda frame: frame.update(pd.DataFrame({"x": [5.0]})),
    "sort": lambda frame: frame.sort_values("x", ascending=False, inplace=True),
    "rename": lambda frame: frame.rename(columns={"x": "y"}, inplace=True),
    "eval": lambda frame: frame.eval("x = x + 1", inplace=True),
    "drop": lambda frame: frame.drop(columns="x", inplace=True),
    "labels": lambda frame: setattr(frame, "index", frame.index + 5),
    **{
        f"cell of {name}": functools.partial(set_cell_of, name)
        for name in ("text", "when", "kind", "count", "arrow", "flag", "object", "span")
    },
    "shallow copy": lambda frame: set_first(frame.copy(deep=False)),
    "columns of it": lambda frame: set_first(frame[["n", "x"]]),
    "rows of it": lambda frame: set_first(frame.iloc[1:].reset_index(drop=True)),
}
CHANGED = pd.DataFrame(
    {
        "n": range(4),
        "x": [1.0, np.nan, 3.0, 4.0],
        "text": ["a", None, "b", "c"],
        "when": pd.date_range("2026-01-01", periods=4, tz="Europe/Paris"),
        "kind": pd.Categorical(["x", "y", "x", "y"]),
        "count": pd.array([1, None, 3, 4], dtype="Int64"),
        "arrow": pd.array([1.5, None, 2.5, 3], dtype="double[pyarrow]"),
        "flag": [True, False, True, True],
        "object": pd.Series([b"a", b"b", None, b"d"], dtype=object),
        "span": pd.interval_range(0, 4),
    }
)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("rows", [4, 1_000])  # in a slab, and in a segment of its own
def test_a_frame_is_changed_like_any_other_and_the_block_does_not_notice(
    plane: Plane, subtests: pytest.Subtests, rows: int
) -> None:
    frame = pd.concat([CHANGED] * (rows // 4), ignore_index=True)
    plane["frame"] = frame
    assert (plane.attach("frame").nbytes > 1 << 16) == (rows > 4)
    plane["edited"] = frame.drop(columns="x")
    with plane.edit("edited") as draft:
        draft["x"] = frame["x"]
    for name in ("frame", "edited"):
        wanted = plane[name].copy()
        for what, change in CHANGES.items():
            with subtests.test(f"{name}: {what}"):
                mine, alike = plane[name], wanted.copy()
                change(mine)
                change(alike)
                pd.testing.assert_frame_equal(mine, alike)
                pd.testing.assert_frame_equal(plane[name], wanted)


def test_whatever_is_had_as_pandas_is_changed_like_any_other(plane: Plane) -> None:
    values = {
        "array": np.arange(20_000.0),
        "matrix": np.ones((20_000, 2)),
        "records": np.zeros(20_000, [("a", "f8"), ("b", "i4")]),
        "table": pa.table({"a": np.arange(20_000.0), "b": np.arange(20_000)}),
        "column": pa.chunked_array([np.arange(20_000.0)]),
        "series": pd.Series(np.arange(20_000.0)),
        "polars": pl.DataFrame({"a": np.arange(20_000.0)}),
        "pandas array": pd.array(range(20_000), dtype="Int64"),
    }
    plane.update(values)
    for name in values:
        for mine in (plane.get(name, as_="pandas"), plane.attach(name).to_pandas()):
            before = mine.copy()
            mine.iloc[3] = 7
            assert (mine.iloc[3] == 7).all() if mine.ndim == 2 else mine.iloc[3] == 7
            assert plane.get(name, as_="pandas").equals(before)


def test_changing_a_polars_frame_changes_nothing_for_others(plane: Plane) -> None:
    polars = pl.DataFrame({"n": range(20_000), "s": ["a", "b"] * 10_000})
    plane["polars"] = polars
    frame = plane["polars"]
    frame[0, "n"] = 99
    frame[0, "s"] = "changed"
    series = plane["polars"]["n"]
    series[1] = 99
    plane["polars"]["n"].to_numpy(writable=True)[:] = 0
    plane["polars"]["n"].sort(descending=True, in_place=True)
    frame.extend(polars)
    frame.insert_column(0, pl.Series("new", range(40_000)))
    assert plane["polars"].equals(polars)


@pytest.mark.parametrize("more", ["", "x" * 100_000])
def test_one_decoded_value_serves_every_get_and_cannot_be_changed(plane: Plane, more: str) -> None:
    plane["x"] = {"a": [1], "more": more}
    value = plane["x"]
    assert plane["x"] is value
    with pytest.raises(TypeError, match=r"plane\.edit"):
        value["a"].append(2)
    plane["x"] = {"a": [2], "more": more}
    assert (value["a"], plane["x"]["a"]) == ([1], [2])
    assert plane["x"] is plane["x"]
    mine = plane.get("x", as_="python")
    mine["a"].append(3)
    assert plane["x"]["a"] == [2]


def test_from_no_view_can_a_lease_be_closed(plane: Plane) -> None:
    plane["x"] = ARRAY
    view = plane["x"]
    memoryview(view).release()  # that one is over; the array is not
    base: Any = view
    while base is not None:
        # Dunders aside, an exporter has one name, which says what to view it as.
        closers = [name for name in ("close", "release", "unmap", "__exit__", "__del__") if hasattr(base, name)]
        assert closers == []
        base = getattr(base, "base", None)
    assert view[5] == 5
    table = plane.put("t", TABLE).value()
    buffer = table.column("n").chunk(0).buffers()[1]
    assert not hasattr(buffer, "close")
    parent = buffer.parent
    while parent is not None:
        assert not hasattr(parent, "close")
        parent = getattr(parent, "parent", None)


def test_views_outlive_block_plane_and_name(plane: Plane) -> None:
    with Plane(plane.name, create=False) as other:
        block = other.put("x", ARRAY)
        view, table = block.array()[100:200], other.put("t", TABLE).table(["n"])
        block.close()
        other.delete("x")
        other["t"] = 0
    del other
    gc.collect()
    plane.trim()
    plane["y"] = np.zeros(LARGE)  # takes whatever memory is free
    assert view.tolist() == list(range(100, 200))
    assert table.column("n")[LARGE - 1].as_py() == LARGE - 1
    assert plane.stats().leases == 2


def test_copies_need_no_lease(plane: Plane) -> None:
    plane["x"] = ARRAY
    own = plane["x"].copy(), copy.deepcopy(plane["x"]), np.array(plane["x"]), plane["x"] + 1
    gc.collect()
    assert wait_for_leases(plane, 0)
    for array in own:
        array[0] = 9


def watches_leases(plane: Plane) -> Iterator[Any]:
    """Another process: the time in which the lease of the first was seen to end."""
    while plane.stats().leases != 1:
        time.sleep(0.001)
    yield "seen"
    began = time.monotonic()
    while plane.stats().leases:
        if time.monotonic() - began > 10:
            break
        time.sleep(0.0005)
    yield time.monotonic()


def test_a_lease_ends_soon_after_the_last_view_as_another_process_sees_it(plane: Plane) -> None:
    plane["x"] = ARRAY
    with Child(watches_leases, plane) as child:
        view = plane["x"]
        last = memoryview(view[5:10])
        del view
        assert child.next() == "seen"
        ended = time.monotonic()
        del last
        # 50 ms where the processes get a processor at once; ten times that on a machine full of other work.
        assert child.next() - ended < 10 * LEASE_ENDS_WITHIN_S
        child.result()
