"""Values that are written while they are read, files that are loaded and saved, as scenarios."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shmplane
from shmplane.codecs import encode
from shmplane.flight import Said
from shmplane.plane import travel
from tests.support.crashing import Scenario, World

SCHEMA = pa.schema([("n", pa.int64())])


def batches(count: int, rows: int) -> Iterator[pa.RecordBatch]:
    for at in range(count):
        yield pa.record_batch([pa.array(np.arange(at * rows, (at + 1) * rows))], schema=SCHEMA)


def reader(count: int, rows: int) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(SCHEMA, batches(count, rows))


def streamed(count: int, rows: int) -> bytes:
    """What a block that was read from so many batches has for bytes."""
    with shmplane.Plane.temporary(capacity="16MiB") as plane, plane.put("x", reader(count, rows)) as block:
        return bytes(block.buffer())


def _stream(count: int, rows: int) -> Callable[[World, Any], Any]:
    def operate(world: World, context: Any) -> None:
        world.plane["target"] = reader(count, rows)

    return operate


OLD = b"o" * 90_000
ARRAY = np.arange(30_000)


def _make_files(directory: Path) -> None:
    np.save(directory / "a.npy", ARRAY)
    np.savez(directory / "a.npz", a=ARRAY, b=np.arange(5))
    pq.write_table(pa.Table.from_batches(batches(4, 60_000)), directory / "a.parquet", row_group_size=60_000)
    with shmplane.Plane.temporary(capacity="16MiB") as plane:
        plane["x"] = {"w": ARRAY, "b": np.arange(5)}
        plane.save("x", directory / "a.safetensors")


def _loaded() -> dict[str, bytes]:
    """What blocks that were loaded from them have for bytes."""
    found = {}
    with tempfile.TemporaryDirectory() as directory, shmplane.Plane.temporary(capacity="16MiB") as plane:
        _make_files(Path(directory))
        for name in ("a.npy", "a.npz", "a.parquet", "a.safetensors"):
            with plane.load("x", Path(directory) / name) as block:
                found[name] = bytes(block.buffer())
    return found


LOADED = _loaded()


def _files(world: World) -> Path:
    return Path(world.root) / "files"


def _arrange_files(world: World) -> None:
    if not _files(world).exists():
        _files(world).mkdir()
        _make_files(_files(world))


def _load(file: str) -> Callable[[World, Any], Any]:
    return lambda world, context: world.plane.load("target", _files(world) / file).close()


NEW = b"n" * 200_000


def _saved(world: World) -> Path:
    return Path(world.root) / "saved"


def _prepare_saved(world: World) -> None:
    shutil.rmtree(_saved(world), ignore_errors=True)
    _saved(world).mkdir()
    (_saved(world) / "x.bin").write_bytes(OLD)


def _save(world: World, context: Any) -> None:
    world.plane.save("target", _saved(world) / "x.bin")


def _look_at_saved(world: World, finished: bool) -> list[str]:
    found, names = (_saved(world) / "x.bin").read_bytes(), sorted(path.name for path in _saved(world).iterdir())
    problems = (
        [] if found == NEW or (found == OLD and not finished) else [f"the file has {len(found)} B of {found[:3]!r}"]
    )
    # Between the name beside it and its place there is one call.
    extra = [name for name in names if name != "x.bin"]
    return problems + ([f"beside it there is {extra}"] if len(extra) > (not finished) else [])


class _Stream:
    """What comes from a server, without one: no thread of gRPC's survives a fork."""

    def __init__(self, said: Said, batches: list[pa.RecordBatch]) -> None:
        self.said, self.schema, self._batches = said, batches[0].schema, iter(batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read_next_batch(self) -> pa.RecordBatch:
        return next(self._batches)


PULLED = b"p" * 150_000


def _come(world: World) -> None:
    """In a victim: what is pulled comes from here."""
    column = pa.schema([pa.field("bytes", pa.uint8(), nullable=False)])

    def open_stream(url: str, *_: object, **__: object) -> _Stream:
        if url == "table":
            return _Stream(Said("table", rows=300_000), list(batches(5, 60_000)))
        body = PULLED[:300] if url == "small" else PULLED
        pieces = [np.frombuffer(body[at : at + 60_000], "u1") for at in range(0, len(body), 60_000)]
        return _Stream(
            Said("bytes", nbytes=len(body), frame=encode(body).frame),
            [pa.record_batch([piece], schema=column) for piece in pieces],
        )

    mock.patch.object(travel, "open_stream", open_stream).start()  # the victim ends with it


def _pull(url: str) -> Callable[[World, Any], Any]:
    return lambda world, context: world.plane.pull(url, "target").close()


LOADING_SCENARIOS = [
    Scenario("load an array", _load("a.npy"), {}, {"target": LOADED["a.npy"]}, cold=True, arrange=_arrange_files),
    Scenario(
        "load an array over a block",
        _load("a.npy"),
        {"target": OLD},
        {"target": LOADED["a.npy"]},
        arrange=_arrange_files,
    ),
    Scenario("load a tree", _load("a.npz"), {}, {"target": LOADED["a.npz"]}, arrange=_arrange_files),
    Scenario(
        "load a table", _load("a.parquet"), {}, {"target": LOADED["a.parquet"]}, cold=True, arrange=_arrange_files
    ),
    # Not cold: what the turn before had is warm, and fits.
    Scenario(
        "load a table into warm memory",
        _load("a.parquet"),
        {"target": OLD},
        {"target": LOADED["a.parquet"]},
        arrange=_arrange_files,
    ),
    Scenario("load tensors", _load("a.safetensors"), {}, {"target": LOADED["a.safetensors"]}, arrange=_arrange_files),
    Scenario("save", _save, {"target": NEW}, arrange=_prepare_saved, inspect=_look_at_saved),
    Scenario("stream a table", _stream(5, 60_000), {}, {"target": streamed(5, 60_000)}, cold=True),
    Scenario("stream over a block", _stream(2, 60_000), {"target": OLD}, {"target": streamed(2, 60_000)}),
    Scenario("stream a small table", _stream(3, 20), {}, {"target": streamed(3, 20)}),
    Scenario("pull bytes", _pull("bytes"), {"target": OLD}, {"target": PULLED}, cold=True, begin=_come),
    Scenario("pull a few bytes", _pull("small"), {}, {"target": PULLED[:300]}, begin=_come),
    Scenario("pull a table", _pull("table"), {}, {"target": streamed(5, 60_000)}, cold=True, begin=_come),
]
