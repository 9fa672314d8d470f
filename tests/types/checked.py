"""What a type checker says about programs that use the library; mypy reads this file, nobody runs it.

Each ``type: ignore[...]`` is an expected error: mypy is strict here, so one that no longer occurs is an error itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from shmplane import (
    ArrayDraft,
    Block,
    BlockInfo,
    Buffer,
    Builder,
    Conflict,
    Draft,
    ExecutorStatistics,
    JsonDraft,
    Plane,
    PlaneStatistics,
    ProcessPoolExecutor,
    Reclaimed,
    ShmplaneError,
    TableDraft,
)


def what_is_put_is_a_block(plane: Plane) -> None:
    assert_type(plane.put("x", [1], expected_version=0), Block)
    assert_type(plane.put(None, [1], linger=5), Block)
    assert_type(plane.attach("x"), Block)
    assert_type(plane.attach(plane.attach("x")), Block)
    plane.put(b"x", 1)  # type: ignore[arg-type]
    plane.put("x", 1, "pickle")  # type: ignore[call-arg]  # keywords from the third on
    plane[3]  # type: ignore[index]
    plane.attach(3)  # type: ignore[arg-type]


def get_knows_what_it_converts_to(plane: Plane) -> None:
    assert_type(plane.get("x", as_="array"), npt.NDArray[Any] | None)
    assert_type(plane.get("x", None, as_="array"), npt.NDArray[Any] | None)
    assert_type(plane.get("x", 3, as_="array"), npt.NDArray[Any] | int)
    assert_type(plane.get("x", as_="bytes"), memoryview | None)
    assert_type(plane.get("x", b"", as_="bytes"), memoryview | bytes)
    plane.get("x", as_="xarray")  # type: ignore[call-overload]
    plane.get("x", 1, "array")  # type: ignore[call-overload]
    plane.get("x", as_="array").sum()  # type: ignore[union-attr]  # it may be None


def a_block_is_not_writable(block: Block) -> None:
    assert_type(block.array(), npt.NDArray[Any])
    assert_type(block.buffer(), memoryview)
    assert_type(block.name, str | None)
    assert_type(block.version, int)
    assert_type(block.shape, tuple[int, ...] | None)
    block.version = 3  # type: ignore[misc]
    block.name = "y"  # type: ignore[misc]
    block.array = np.ones(3)  # type: ignore[method-assign, assignment]
    block[0] = 1  # type: ignore[index]
    block.publish("y")  # type: ignore[attr-defined]
    block.commit()  # type: ignore[attr-defined]
    block.other = 1  # type: ignore[attr-defined]
    # NumPy's types do not tell a read-only array from another, so that this cannot be caught; NumPy raises ValueError.
    block.array()[0] = 1
    # Nor do memoryview's.
    block.buffer()[0] = 1


def a_builder_is_writable(plane: Plane) -> None:
    with plane.create("x", (3, 4), "f4") as builder:
        assert_type(builder, Builder)
        assert_type(builder.array, npt.NDArray[Any])
        builder.array[...] = 0
        builder.array()  # type: ignore[operator]  # a property, unlike the method of a Block
        builder.array = np.ones(3)  # type: ignore[misc]
        builder.value()  # type: ignore[attr-defined]
    assert_type(builder.block, Block)
    assert_type(builder.publish(), Block)


def a_buffer_is_writable(plane: Plane) -> None:
    with plane.buffer(1 << 20) as buffer:
        assert_type(buffer, Buffer)
        buffer[0] = 1
        np.frombuffer(buffer, "f4")[:] = 0
        memoryview(buffer)[0] = 1
        buffer.array()  # type: ignore[attr-defined]
        assert_type(buffer.publish("x", dtype="f4", shape=(1 << 18,)), Block)
        buffer.publish("x", "f4")  # type: ignore[call-arg]


def a_draft_is_writable(plane: Plane) -> None:
    assert_type(plane.edit("x"), Draft)
    with plane.edit("x") as draft:
        draft.array[17] = 3.0
        draft.array()  # type: ignore[operator]
        draft.array = np.ones(3)  # type: ignore[misc]
        assert_type(draft.dirty_nbytes, int)
    assert_type(draft.commit(), Block)
    assert_type(draft.block, Block)
    with plane.edit("y") as draft:
        draft["fee"] = [1, 2]
        del draft["fee"]
        draft.rename({"a": "b"})
        draft.append([{"b": 1}])
        draft.table.num_rows  # noqa: B018
        draft.column()  # type: ignore[attr-defined]
    with plane.edit("z") as draft:
        draft.value["limit"] = 5
        draft.value = {"limit": 6}
        draft.tree["weights"]


def a_draft_may_be_narrowed(draft: ArrayDraft | TableDraft | JsonDraft) -> None:
    assert_type(draft.commit(), Block)
    if isinstance(draft, TableDraft):
        assert_type(draft.column_names, list[Any])
    common: Draft = draft
    del common


def a_plane_is_a_mapping_of_names(plane: Plane) -> None:
    for name in plane:
        assert_type(name, str)
    assert_type(plane.names("a"), list[str])
    assert_type(plane.blocks(), list[BlockInfo])
    assert_type(plane.stats(), PlaneStatistics)
    assert_type(plane.gc(), Reclaimed)
    assert_type(len(plane), int)
    plane.stats().blocks = 3  # type: ignore[misc]  # records are frozen
    Plane("x", "1GiB")  # type: ignore[call-arg, arg-type]
    Plane("x", capacity=1.5)  # type: ignore[arg-type]


def errors_have_facts(error: Conflict) -> None:
    assert_type(error.code, str)
    assert_type(error.retryable, bool)
    assert_type(error.facts, dict[str, Any])
    caught: ShmplaneError = error
    del caught


def a_block_speaks_the_protocols(block: Block) -> None:
    np.asarray(block)
    np.from_dlpack(block)
    with block as same:
        assert_type(same, Block)


def an_executor_is_typed_as_the_standard_one(plane: Plane) -> None:
    def half(number: int, *, of: float = 1.0) -> float:
        return number / 2 * of

    with ProcessPoolExecutor(2, plane=plane, threshold="1MiB", on_worker_death="retry") as executor:
        assert_type(executor.submit(half, 3), Future[float])
        assert_type(executor.submit(half, 3, of=2.0).result(), float)
        assert_type(executor.map(half, [1, 2], chunksize=2), Iterator[float])
        assert_type(executor.stats(), ExecutorStatistics)
        any_executor: Executor = executor
        any_executor.shutdown()
        executor.submit(half, "3")  # type: ignore[arg-type]
    ProcessPoolExecutor(on_worker_death="ignore")  # type: ignore[arg-type]
    ProcessPoolExecutor(plane="market")  # type: ignore[arg-type]
