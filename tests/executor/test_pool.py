"""The executor as a drop-in: what goes in and comes out, under each start method."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import pickle
import time
import weakref
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import shmplane
from shmplane import ProcessPoolExecutor
from shmplane.executor import sent
from shmplane.executor.message import Span
from shmplane.executor.packing import LeftOut
from shmplane.executor.reading import images_of_spans
from shmplane.plane.blocks import origin
from tests.executor import tasks
from tests.support.audit import faults_of
from tests.support.inside import kept_rows, slot_of
from tests.support.lines import until

METHODS = ["spawn", "forkserver", "fork"]
SIZE = 50_000  #: of float64, well above the threshold


def pool(workers: int = 1, method: str = "fork", **options: Any) -> ProcessPoolExecutor:
    context: Any = multiprocessing.get_context(method)
    return ProcessPoolExecutor(workers, context, **options)


@pytest.mark.parametrize("method", METHODS)
def test_calls_results_errors_and_maps_are_those_of_the_standard_library(method: str) -> None:
    with pool(2, method) as executor:
        assert isinstance(executor, futures.Executor)
        array = np.arange(float(SIZE))
        future = executor.submit(tasks.double, array)
        assert type(future) is futures.Future
        assert (future.result() == 2 * array).all()
        assert executor.submit(tasks.add, 1, other=2, third=3).result() == 6
        error = executor.submit(tasks.fail, "what went wrong").exception()
        assert type(error) is ValueError
        assert error.args == ("what went wrong",)
        assert "in fail" in str(error.__cause__)
        assert list(executor.map(tasks.add, range(10), range(10), chunksize=3)) == list(range(0, 20, 2))
        assert [found.sum() for found in executor.map(tasks.ones, [SIZE] * 5, chunksize=2)] == [SIZE] * 5
        assert futures.wait([executor.submit(tasks.pid)]).not_done == set()
        assert executor.submit(tasks.submits, method).result() == 2 * SIZE
        counted = executor.stats()
        assert counted.sent_blocks == 1
        assert counted.received_blocks >= 4
        assert counted.piped == 0
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.pid)
    result = future.result()
    result[:] = 7  # its pages are still there, and still private
    assert result.sum() == 7 * SIZE


VALUES: dict[str, Any] = {
    "array": np.arange(float(SIZE)),
    "fortran": np.asfortranarray(np.arange(float(SIZE)).reshape(100, -1)),
    "strided": np.arange(float(4 * SIZE)).reshape(-1, 4)[::2, 1:3],
    "backwards": np.arange(float(SIZE))[::-1],
    "broadcast": np.broadcast_to(np.arange(100.0), (SIZE, 100)),
    "dates": np.arange(SIZE).astype("M8[s]"),
    "records": np.zeros(SIZE, [("a", "f4"), ("b", "M8[ns]"), ("c", "S3")]),
    "bools": np.ones(10 * SIZE, bool),
    "nested": {"a": [np.ones(SIZE), (np.zeros(SIZE, "i2"), b"x" * 100_000)], "b": "y" * 100_000},
    "dataclass": tasks.Sample("s", [np.ones(SIZE), np.ones(3)]),
    "bytes": b"b" * 200_000,
    "bytearray": bytearray(b"c" * 200_000),
    "objects": np.array([None, "x", 3] * 30_000, object),
    "small": [np.ones(3), np.ones((2, 2), order="F"), np.array(5), np.ones(0), b"", None, "x"],
    "many small": [np.full(1_000, number) for number in range(200)],
    "empty": np.ones((0, 3)),
}


def _arrays_in(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tasks.Sample):
        return value.arrays
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [array for item in items for array in _arrays_in(item)]


def _assert_same(found: Any, value: Any) -> None:
    assert type(found) is type(value)
    if not isinstance(value, np.ndarray):
        assert pickle.dumps(found) == pickle.dumps(value) or str(found) == str(value)
    for one, other in zip(_arrays_in(found), _arrays_in(value), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert (one == other).all()
        assert one.flags.f_contiguous == other.flags.f_contiguous or not other.flags.forc


def test_values_of_every_kind_come_back_equal_and_writable() -> None:
    with pool() as executor:
        for value in VALUES.values():
            for array in _arrays_in(value):
                array.flags.writeable = False
            found = executor.submit(tasks.same, value).result()
            _assert_same(found, value)
            for array in _arrays_in(found):
                assert array.flags.writeable
                array[...] = array[:1] if array.ndim and len(array) else array
    assert executor.stats().piped == 0


def test_tables_and_frames_travel_in_blocks() -> None:
    table = pa.table({"n": range(SIZE), "s": [f"text {number}" for number in range(SIZE)]})
    frame = pd.DataFrame({"n": np.arange(float(SIZE)), "s": [f"text {number}" for number in range(SIZE)]})
    with pool() as executor:
        assert executor.submit(tasks.same, table).result().equals(table)
        pd.testing.assert_frame_equal(executor.submit(tasks.same, frame).result(), frame)
        pd.testing.assert_frame_equal(executor.submit(tasks.same, frame.iloc[::3]).result(), frame.iloc[::3])
        polars = pl.DataFrame({"n": range(SIZE), "s": ["x"] * SIZE})
        assert executor.submit(tasks.same, polars).result().equals(polars)
        found = executor.submit(tasks.same, frame).result()
        found.loc[0, "n"] = 5.0
        assert frame.loc[0, "n"] == 0
        counted = executor.stats()
        assert counted.sent_blocks == 5
        assert counted.piped == 0


def test_what_comes_back_as_it_was_sent_is_not_copied() -> None:
    large, small = np.ones(SIZE), np.ones(SIZE // 4)
    with pool() as executor:
        found = executor.submit(tasks.same, [large, small]).result()
        assert executor.stats().received_blocks == 0
        assert executor.stats().shared == 2
        found[0][:] = 3
        again = executor.submit(tasks.set_and_return, [large, small], 0).result()
        assert [again[0][0], again[0].sum(), again[1].sum()] == [7, SIZE + 6, SIZE // 4]
        again = executor.submit(tasks.set_and_return, [large, small], 1).result()
        assert [again[1][0], again[0].sum(), again[1].sum()] == [7, SIZE, SIZE // 4 + 6]
        before = executor.stats().received_blocks
        piece = executor.submit(
            tasks.same, small[: SIZE // 5]
        ).result()  # which owns no memory, but is all that was sent
        assert executor.submit(tasks.first_of, [large, small], 10_000).result().sum() == 10_000  # would keep all
        assert executor.stats().received_blocks == before + 1
    assert found[0].sum() == 3 * SIZE
    assert piece.sum() == SIZE // 5
    assert large.sum() == SIZE


def test_a_view_of_a_plane_comes_back_as_a_view(plane: shmplane.Plane) -> None:
    plane["x"] = np.ones(SIZE)
    with shmplane.Plane.temporary() as other, pool(plane=plane) as executor:
        other["y"] = np.full(SIZE, 2.0)
        for view in (plane["x"], other["y"]):
            found = executor.submit(tasks.same, view).result()
            assert (found == view).all()
            found[:] = 5
            assert view[0] < 5
        assert executor.stats().sent_blocks == executor.stats().received_blocks == 0
        del view, found


def test_what_is_given_twice_is_two_arrays_in_the_worker(plane: shmplane.Plane, tmp_path: Path) -> None:
    plane["x"] = np.arange(float(SIZE))
    view, private = plane["x"], np.arange(float(SIZE))
    calls = [
        lambda array: (array, array[:]),
        lambda array: (array[100:], array[:-100], array[200:30_000], array),
        lambda array: tuple(array[start : start + 20_000] for start in range(0, 30_000, 10_000)),
    ]
    with pool(2, plane=plane) as executor:
        for number, (array, call) in enumerate((array, call) for array in (view, private) for call in calls):
            first = [float(one[0]) + 1 for one in call(array)]
            go = tmp_path / str(number)
            holding = executor.submit(tasks.hold, call(array), go)  # while it is under way its block is there
            before = executor.stats().shared
            try:
                for _ in range(2):
                    assert executor.submit(tasks.write_each, *call(array)).result() == first
                assert executor.stats().shared >= before + 2 * len(first)
            finally:
                go.touch()
            assert holding.result() == len(first)
        for array in (view, private):
            assert list(executor.map(tasks.write_each, [array[:] for _ in range(8)], chunksize=4)) == [[1.0]] * 8
            windows = [array[number * 5_000 :][:20_000] for number in range(6)]
            found = executor.map(tasks.write_each, windows, chunksize=3)
            assert list(found) == [[number * 5_000 + 1] for number in range(6)]
            assert executor.submit(tasks.write_each, array, array).result() == [2.0, 2.0]  # one and the same stays one
    assert view[0] == private[0] == 0
    del view, array, windows


@pytest.mark.parametrize("where", ["argument", "plane"])
def test_what_a_task_returns_twice_is_two_arrays(plane: shmplane.Plane, where: str) -> None:
    plane["x"] = np.zeros(SIZE)
    with pool(plane=plane) as executor:
        array = np.zeros(SIZE) if where == "argument" else plane["x"]
        found = executor.submit(tasks.returned_twice, array).result()
        assert executor.stats().shared >= 2
        for number, one in enumerate(found):
            one += number + 1
        assert [(one.min(), one.max()) for one in found] == [(1, 1), (2, 2), (3, 3)]
        assert not kept_rows(plane, slot_of(plane))
    del array, found


def test_views_of_two_planes_are_told_apart(plane: shmplane.Plane) -> None:
    with shmplane.Plane.temporary() as other, pool(plane=plane) as executor:
        plane["x"], other["x"] = np.full(SIZE, 1.0), np.full(SIZE, 2.0)  # of the same row and generation
        assert executor.submit(tasks.write_each, plane["x"], other["x"]).result() == [2, 3]


def test_images_are_as_few_as_overlapping_pieces_allow() -> None:
    rng = np.random.default_rng(5)
    for most in (3, 100):
        for _ in range(200):
            spans = [Span(*map(int, rng.integers(1, 30, 2))) for _ in range(20)]
            chosen = images_of_spans(spans, most)
            covered = np.zeros((most, 64), int)
            for (start, nbytes), image in zip(spans, chosen, strict=True):
                if image is not None:
                    covered[image, start : start + nbytes] += 1
            assert covered.max() == 1
            depth = max(sum(start <= at < start + nbytes for start, nbytes in spans) for at in range(64))
            assert len({image for image in chosen if image is not None}) == min(most, depth)
            assert (None in chosen) == (depth > most)


def test_very_many_overlapping_pieces_arrive_as_they_are(plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(float(SIZE))
    view = plane["x"]
    with pool(plane=plane) as executor:
        pieces = [view[number : number + 10_000] for number in range(1_000)]
        assert executor.submit(tasks.write_each, *pieces).result() == list(range(1, 1_001))
    del view, pieces


def _views() -> dict[str, memoryview]:
    data: Any = np.arange(float(SIZE))
    records = np.zeros(SIZE, np.dtype([("a", "i1"), ("b", ">f8", (2,)), ("c", "S5")], align=True))
    packed = np.zeros(SIZE, [("a", "i4"), ("b", "f8", (2,)), ("c", "S5")])
    arrays: list[Any] = [
        packed, packed[:1], packed[::2],
        np.float64(3), np.zeros(0), np.zeros((0, 3)), np.zeros((2, 0), ">i4"), data.astype(">f8"), data.astype(">i2")[:5],
        data.astype(">f8").reshape(-1, 4)[::2, ::-1], np.asfortranarray(data.astype(">f8").reshape(-1, 4)),
        data.astype("c16"), data.astype("f2"), np.zeros(SIZE, "V7"), np.array(["abc"] * SIZE), records, records[:3],
    ]  # fmt: skip
    found = {f"{number}: {array.dtype} {array.shape}": memoryview(array) for number, array in enumerate(arrays)}
    return found | {
        "B": memoryview(data).cast("B"),
        "d": memoryview(data.reshape(100, -1)),
        "strided": memoryview(data)[::2],
        "read-only": memoryview(b"x" * 200_000),
        "empty": memoryview(b""),
        "empty, writable": memoryview(bytearray()),
    }


def test_memoryviews_arrive_as_they_are() -> None:
    with pool() as executor, pool(threshold=0) as all_in_blocks:
        for name, view in _views().items():
            for one in (view, view.toreadonly()):
                for each in (executor, all_in_blocks):
                    found = each.submit(tasks.same, one).result()
                    assert type(found) is memoryview
                    facts = [(this.format, this.shape, this.readonly, this.tobytes()) for this in (found, one)]
                    assert facts[0] == facts[1], name


def test_memoryviews_that_nothing_makes_again_are_refused_as_by_the_standard_library() -> None:
    with pool() as executor:
        refused: list[Any] = [np.array([{}] * SIZE), np.zeros(3, [("a", "O")]), (ctypes.c_int * 3)()]
        for data in refused:
            error = executor.submit(tasks.same, memoryview(data)).exception()
            assert type(error) is TypeError
            assert "cannot pickle" in str(error)
        assert executor.submit(tasks.add, 1).result() == 1


def test_what_is_below_the_threshold_stays_in_the_pickle() -> None:
    with pool(threshold="1MiB") as executor:
        assert executor.submit(tasks.same, np.ones(SIZE)).result().sum() == SIZE
        assert executor.stats().sent_blocks == executor.stats().received_blocks == 0
    with pool(threshold=0) as executor:
        assert executor.submit(tasks.same, np.ones(3)).result().sum() == 3
        assert executor.submit(tasks.same, 3).result() == 3
        assert executor.stats().sent_blocks == 2


def test_what_is_large_although_each_of_it_is_plain_goes_as_a_block() -> None:
    many = [[[f"{number:064}" for number in range(part, part + 16)] for part in range(16)] for _ in range(16)]
    with pool() as executor:
        assert executor.submit(tasks.same, many[0]).result() == many[0]
        assert executor.stats().sent_blocks == 0
        assert executor.submit(tasks.same, many).result() == many
        assert executor.submit(tasks.add, *many).exception() is not None
        assert executor.stats().sent_blocks == 1 + 1


@pytest.mark.parametrize("on_worker_death", ["break", "retry"])
def test_the_same_argument_is_copied_once(tmp_path: Path, on_worker_death: str) -> None:
    array, frozen = np.ones(SIZE), np.ones(SIZE)
    frozen.flags.writeable = False
    frame = pd.DataFrame({"n": np.arange(float(SIZE)), "m": np.arange(SIZE)})
    with pool(2, on_worker_death=on_worker_death) as executor:
        for number, argument in enumerate((array, frozen, frame)):
            go = tmp_path / str(number)
            holding = executor.submit(tasks.hold, argument, go)  # while it is under way its block is there
            while executor.stats().sent_blocks <= number:
                time.sleep(0.005)
            before = executor.stats()
            assert list(executor.map(tasks.rows, [argument] * 5)) == [SIZE] * 5
            assert executor.submit(tasks.rows, argument).result() == SIZE
            after = executor.stats()
            go.touch()
            assert holding.result() == SIZE
            assert after.sent_blocks == before.sent_blocks
            assert after.shared >= before.shared + 6  # the frame has two buffers


def test_what_is_under_way_is_not_looked_through_for_each_new_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(thing: Any) -> Any:
        def look() -> Any:
            nonlocal looks
            looks += 1
            return thing

        return look

    monkeypatch.setattr(sent, "weakref", SimpleNamespace(ref=counted))
    known, raw, lease = sent.Sent(), memoryview(bytearray(8)), object()
    for address in range(0, 40_000, 8):
        known.remember(LeftOut(raw, address, None), None, cast("Any", lease), 0)
    assert looks < 3 * 5_000


def test_of_many_leased_blocks_those_are_looked_at_that_a_view_can_be_of(
    plane: shmplane.Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    bodies: Any = origin._bodies

    def counted(lease: Any) -> Any:
        looked_at.append(lease.facts.row)
        return bodies(lease)

    monkeypatch.setattr(origin, "_bodies", counted)
    for number in range(20):
        plane[f"{number}"] = np.full(SIZE, float(number))
    views = [plane[f"{number}"] for number in range(20)]
    with pool() as executor:
        assert executor.submit(tasks.total, views[7][100:]).result() == 7.0 * (SIZE - 100)
    assert len(looked_at) == 1


def test_pieces_of_one_array_are_told_apart() -> None:
    array = np.arange(float(4 * SIZE)).reshape(-1, 4)
    array.flags.writeable = False
    with pool(2) as executor:
        for pieces in ([array[:, n] for n in range(4)] * 3, [array.T[n : n + 2] for n in range(3)] * 3):
            assert list(executor.map(tasks.total, pieces)) == [piece.sum() for piece in pieces]
            assert [executor.submit(tasks.total, one).result() for one in pieces] == [one.sum() for one in pieces]


def test_an_argument_that_changed_is_sent_anew(tmp_path: Path) -> None:
    array = np.ones(SIZE)
    with pool(2) as executor:
        holding = executor.submit(tasks.add, array, 0)
        executor.submit(tasks.pid).result()
        array[-1] = 5
        assert executor.submit(tasks.total, array).result() == SIZE + 4
        assert holding.result()[-1] in (1, 5)


def test_a_read_only_array_that_its_owner_changed_is_sent_anew(tmp_path: Path) -> None:
    array = np.zeros(SIZE)
    with pool(2) as executor:
        found = []
        for number in range(3):
            array.flags.writeable = True
            array[:] = number
            array.flags.writeable = False
            found.append(executor.submit(tasks.first_later, array, tmp_path / "go"))
            _wait_for_sent(executor, number + 1)
        (tmp_path / "go").touch()
        assert [one.result() for one in found] == [0, 1, 2]


def test_an_array_that_a_generator_changes_is_sent_anew(tmp_path: Path) -> None:
    array = np.zeros(SIZE)
    with pool(2) as executor:

        def changing() -> Any:
            for number in range(3):
                array[:] = number
                yield array
                _wait_for_sent(executor, number + 1)

        found = executor.map(tasks.first_later, changing(), [tmp_path / "go"] * 3)
        (tmp_path / "go").touch()
        assert list(found) == [0, 1, 2]


def _wait_for_sent(executor: ProcessPoolExecutor, number: int) -> None:
    while executor.stats().sent_blocks + executor.stats().shared < number:
        time.sleep(0.005)


def test_blocks_and_views_travel_as_handles(plane: shmplane.Plane) -> None:
    plane["x"] = np.arange(float(SIZE))
    plane["t"] = pa.table({"n": range(SIZE)})
    with pool(plane=plane) as executor:
        view, block = plane["x"], plane.attach("x")
        assert executor.submit(tasks.total, view).result() == view.sum()
        assert executor.submit(tasks.total, view[10:-10:1]).result() == view[10:-10].sum()
        assert executor.submit(tasks.total, block).result() == view.sum()
        assert executor.submit(tasks.same, plane["t"]).result().equals(plane["t"])
        doubled = executor.submit(tasks.double, view).result()
        assert (doubled == 2 * view).all()  # the task wrote into pages of its own
        counted = executor.stats()
        assert counted.sent_blocks == 0
        assert counted.shared == 5  # the table came back as it was sent
        found = executor.submit(tasks.same, block).result()
        assert isinstance(found, shmplane.Block)
        assert (found.array() == view).all()
    assert view[1] == 1
    del view, block, found, doubled
    plane.gc()
    assert not faults_of(plane)


def test_a_handle_whose_block_is_gone_is_its_futures_exception(plane: shmplane.Plane) -> None:
    with pool(plane=plane) as executor:
        executor.submit(tasks.pid).result()  # a worker that is forked now would inherit the lease
        block = plane.put(None, np.ones(SIZE), linger=0)
        handle = _Handle(pickle.dumps(block))
        del block
        plane.gc()
        assert isinstance(executor.submit(tasks.same, handle).exception(), shmplane.StaleHandle)
        assert executor.submit(tasks.add, 1).result() == 1


class _Handle:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return pickle.loads, (self.data,)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_pickled_or_read_is_its_futures_exception(method: str) -> None:
    with pool(1, method) as executor:
        calls: list[tuple[Any, tuple[Any, ...], Any]] = [
            (tasks.unpicklable, (), (pickle.PicklingError, AttributeError)),
            (tasks.generator, (), TypeError),
            (tasks.same, (lambda: None,), (pickle.PicklingError, AttributeError)),
            (tasks.same, (tasks.Unreadable(),), LookupError),
            (tasks.same, ([np.ones(SIZE), tasks.Unreadable()],), LookupError),
            (tasks.unreadable, (), LookupError),
            (tasks.unreadable, (True,), LookupError),
            (tasks.raise_odd, (), TypeError),
        ]
        for task, args, kind in calls:
            assert isinstance(executor.submit(task, *args).exception(), kind), task
            assert executor.submit(tasks.add, 1).result() == 1


def test_what_the_plane_has_no_room_for_goes_through_the_pipe(
    plane_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with shmplane.Plane("small", root=plane_root, capacity="1MiB", recycle=0) as plane:
        with pool(plane=plane) as executor:
            for _ in range(2):
                array = np.ones(4 * SIZE)
                found = executor.submit(tasks.double, array).result()
                assert (found == 2).all()
                assert found.flags.writeable
            counted = executor.stats()
        assert counted.piped == 4
        assert counted.piped_nbytes > 4 * array.nbytes
        assert [record.name for record in caplog.records] == ["shmplane.executor"]
        plane.gc()
        assert not faults_of(plane)
        plane.destroy()


def test_a_view_in_a_result_that_finds_no_room_still_travels_as_a_handle(plane_root: Path) -> None:
    with shmplane.Plane("small", root=plane_root, capacity="1MiB", recycle=0) as plane:
        plane["x"] = np.ones(SIZE)
        with pool(plane=plane) as executor:
            view, array = executor.submit(tasks.view_beside_array, plane, "x", 4 * SIZE).result()
            assert (view.sum(), array.sum()) == (SIZE, 4 * SIZE)
            assert executor.stats().piped_nbytes < array.nbytes + view.nbytes
            assert not kept_rows(plane, slot_of(plane))
        del view
        plane.destroy()


def test_very_many_tiny_tasks_leave_nothing_in_the_plane(plane: shmplane.Plane) -> None:
    with pool(2, plane=plane) as executor:
        assert sum(executor.map(tasks.add, range(3_000))) == sum(range(3_000))
        assert sum(executor.map(tasks.add, range(100_000), chunksize=1_000)) == sum(range(100_000))
        assert executor.stats() == shmplane.ExecutorStatistics()
    assert plane.stats().blocks == 0


def test_a_generator_of_arguments_is_read_at_once(plane: shmplane.Plane) -> None:
    with pool(2, plane=plane) as executor:
        results = executor.map(tasks.total, (np.full(SIZE, number) for number in range(20)))
        assert next(results) == 0
        assert list(results) == [SIZE * number for number in range(1, 20)]
        del results
    gc.collect()
    plane.gc()
    assert plane.stats().blocks == 0


def test_scipys_sparse_arrays_travel_in_blocks() -> None:
    sparse: Any = pytest.importorskip("scipy.sparse")
    with pool() as executor:
        for kind in ("csr_array", "csc_array", "coo_array", "bsr_array"):
            value = getattr(sparse, kind)(sparse.random_array((2_000, 2_000), density=0.02, format="csr", rng=1))
            found = executor.submit(tasks.same, value).result()
            assert type(found) is type(value)
            assert (found != value).nnz == 0
        assert executor.stats().sent_blocks == 4


@pytest.mark.parametrize("returned", ["nothing", "text", "a lambda"])
def test_a_worker_keeps_nothing_of_an_argument_whatever_its_task_returns(plane: shmplane.Plane, returned: str) -> None:
    with pool(plane=plane) as executor:
        executor.submit(tasks.write_for_nothing, np.ones(SIZE), returned).exception()
        assert [executor.submit(tasks.add, 1).result() for _ in range(3)] == [1, 1, 1]
        until(lambda: plane.stats().blocks == 0)


def test_pages_that_a_call_has_mapped_are_mapped_for_the_next_one() -> None:
    with pool() as executor:
        faults = [executor.submit(tasks.faults_of_reading, np.full(1 << 20, float(n))).result() for n in range(12)]
        assert faults[0] >= 64
        assert min(faults[6:]) < 16


def test_what_a_task_retains_is_its_own_whatever_the_next_ones_are_given() -> None:
    with pool() as executor:
        for number in range(4):
            executor.submit(tasks.retain, np.full(SIZE, float(number))).result()
            assert executor.submit(tasks.total, np.full(SIZE, 9.0)).result() == 9 * SIZE
        assert executor.submit(tasks.write_retained, 10.0).result() == [{10.0}, {11.0}, {12.0}, {13.0}]
        executor.submit(tasks.forget_retained).result()
        for number in range(8):
            assert executor.submit(tasks.total, np.full(SIZE, float(number))).result() == number * SIZE
            assert set(executor.submit(tasks.double, np.full(SIZE, float(number))).result()) == {2.0 * number}


@pytest.mark.parametrize("on_worker_death", ["break", "retry"])
def test_an_argument_goes_when_its_task_is_done_without_waiting_for_garbage_to_be_collected(
    on_worker_death: str,
) -> None:
    gc.collect()
    gc.disable()
    try:
        with pool(on_worker_death=on_worker_death) as executor:
            array: Any = np.ones(SIZE)
            known = weakref.ref(array)
            assert executor.submit(tasks.total, array).result() == SIZE
            assert executor.submit(tasks.total, memoryview(array)).result() == SIZE
            del array
        assert known() is None
        gc.collect()  # of what had a view among it, this ended the process
    finally:
        gc.enable()


def test_results_outlive_executor_and_plane(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=plane_root) as plane:
        with pool(plane=plane) as executor:
            found = executor.submit(tasks.ones, SIZE).result()
            assert not kept_rows(plane, slot_of(plane))
        assert plane.stats().blocks == 1
        plane.destroy()
    assert found.sum() == SIZE
    found[:] = 2
    assert found.sum() == 2 * SIZE


def test_the_executor_has_an_opening_of_the_plane_of_its_own(plane_root: Path) -> None:
    plane = shmplane.Plane("plane", root=plane_root)
    with pool(plane=plane) as executor:
        plane.close()
        assert executor.submit(tasks.ones, SIZE).result().sum() == SIZE
        assert executor.stats().piped == 0
    with shmplane.Plane("plane", root=plane_root) as again:
        again.destroy()


def test_workers_are_replaced_after_so_many_tasks() -> None:
    with pool(1, "forkserver", max_tasks_per_child=1) as executor:
        pids = {executor.submit(tasks.pid).result() for _ in range(2)}
        assert executor.submit(tasks.ones, SIZE).result().sum() == SIZE
    assert len(pids) == 2


def test_initializers_run_first_and_a_bad_one_breaks_the_pool() -> None:
    with pool(initializer=tasks.begin, initargs=("x",)) as executor:
        assert executor.submit(tasks.begun).result() == ["x"]
    with pool(initializer=tasks.bad_start) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.pid).result()


def test_bad_options_are_refused(plane: shmplane.Plane) -> None:
    for options, error in [
        ({"max_workers": 0}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"threshold": -1}, ValueError),
        ({"threshold": "much"}, ValueError),
        ({"on_worker_death": "ignore"}, ValueError),
        ({"plane": "market"}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
    ]:
        with pytest.raises(error):
            ProcessPoolExecutor(**options)  # type: ignore[arg-type]


def test_what_is_not_wanted_any_more_is_cancelled(tmp_path: Path) -> None:
    with pool() as executor:
        first = executor.submit(tasks.wait_for, tmp_path / "go")
        others = [executor.submit(tasks.ones, SIZE) for _ in range(10)]
        assert others[-1].cancel()
        executor.shutdown(wait=False, cancel_futures=True)
        (tmp_path / "go").touch()
        assert first.result().sum() == SIZE
        executor.shutdown()
    assert sum(future.cancelled() for future in others) >= 8
