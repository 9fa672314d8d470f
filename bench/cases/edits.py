"""What does it cost to change a little of much: a row of a gigabyte, a thousand rows more of two million?

Ours: ``plane.edit`` of one row, from the edit to another process that reads the new version (asked and answered over a
pipe, whose own round trip is taken off); edit and next get apart, after a hundred and after three hundred such edits; commit
and attach against the number of touched pages; ``plane.append``.
Baseline: ``np.copyto`` of the whole array between warm arrays, which is the least that a store without versions pays.
Peer: put of the whole array again, as stores without copy-on-write do it.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

import shmplane
from bench.harness import Contestant, Row, Scale, absolute, compare, garbage_later, interleave, show_seconds
from shmplane.plane.blocks import publish
from shmplane.plane.drafts import appending, versions

PAGE_ITEMS = 512  #: float64 items in a page
APPENDED = 1_000


def run(scale: Scale) -> Iterator[Row]:
    yield from _one_row(scale)
    yield from _after_many(scale)
    yield from _by_pages(scale)
    yield from _appends(scale)


# One row of a large array


def _one_row(scale: Scale) -> Iterator[Row]:
    items = scale.pick(1 << 27, 1 << 25)
    size = f"{items * 8 >> 20:,} MB"
    source, target = np.ones(items), np.ones(items)
    with shmplane.Plane.temporary(capacity=items * 8 * 4) as plane:
        plane["x"] = source
        with _reader(plane) as ask:
            position = itertools.count()

            def change() -> None:
                at = next(position) % items
                with plane.edit("x") as draft:
                    draft.array[at] = -at
                if ask(at)[0] != -at:
                    raise RuntimeError("the other process does not see the change")

            contestants = {
                "ours": Contestant(change, 5),
                "copyto": Contestant(lambda: np.copyto(target, source)),
                "pipe": Contestant(lambda: ask(-1), 20),
            }
            if not scale.quick:
                contestants["put again"] = Contestant(lambda: plane.put("y", source).close())
            times = interleave(contestants, scale.rounds)
    pipe = times.pop("pipe")
    note = f"a pipe's round trip of {show_seconds(statistics.median(pipe))} taken off"
    times["ours"] = [max(ours - its, 0.0) for ours, its in zip(times["ours"], pipe, strict=True)]
    most = None if scale.quick else 0.01  # for a gigabyte
    yield compare(f"1 row of {size} changed, seen elsewhere", times, target=most, baseline="copyto", note=note)


#: edits before, and the targets of an edit and of the next get in another process, in µs
_AFTER = ((100, 300, 120), (300, 450, 150))


def _after_many(scale: Scale) -> Iterator[Row]:
    """Rows at random places, each version read in another process. Medians, and the row that was written may be cold."""
    items, counted = scale.pick(1 << 27, 1 << 25), 25
    size = f"{items * 8 >> 20:,} MB"
    random = np.random.default_rng(7)
    edits: list[float] = []
    gets: list[float] = []
    with shmplane.Plane.temporary(capacity=items * 8 * 4) as plane:
        plane["x"] = np.ones(items)

        def edit(at: int, value: float) -> None:
            with plane.edit("x") as draft:
                draft.array[at] = value

        with _reader(plane) as ask:
            for number in range(_AFTER[-1][0] + counted):
                at, value = int(random.integers(items)), -1.0 - number
                edits.append(_timed(lambda at=at, value=value: edit(at, value)))  # type: ignore[misc]
                found, seconds = ask(at)
                gets.append(seconds)
                if found != value:
                    raise RuntimeError("the other process does not see the change")
    for after, most_edit, most_get in _AFTER:
        for what, times, most in (("edit of 1 row", edits, most_edit), ("its next get elsewhere", gets, most_get)):
            of_size = {"ours": times[after : after + counted]}
            target = None if scale.quick else most
            yield absolute(f"{what} of {size}, after {after} edits", of_size, unit="us", target=target)


@contextlib.contextmanager
def _reader(plane: shmplane.Plane) -> Iterator[Callable[[int], tuple[float, float]]]:
    """Another process: what it finds at a place of the current version, and the seconds that getting it took."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, plane))
    process.start()
    theirs.close()

    def ask(at: int) -> tuple[float, float]:
        ours.send(at)
        found: tuple[float, float] = ours.recv()  # EOFError when the process died
        return found

    ask(-1)
    try:
        yield ask
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _answer(connection: Any, plane: shmplane.Plane) -> None:
    with contextlib.suppress(EOFError):
        while True:
            at = connection.recv()
            began = time.perf_counter()
            found = 0.0 if at < 0 else float(plane["x"][at])
            connection.send((found, time.perf_counter() - began))


# Commit and attach, by the number of touched pages


def _by_pages(scale: Scale) -> Iterator[Row]:
    """The pages are scattered at random. Each round starts from a plain array, so that chains do not add up.

    Attach is the first read in another process, which has the plane open and has mapped the version before.
    """
    pages = scale.pick(1 << 18, 1 << 16)
    source = np.ones(pages * PAGE_ITEMS)
    target = source.copy()
    random = np.random.default_rng(7)
    with shmplane.Plane.temporary(capacity=source.nbytes * 4) as plane, _reader(plane) as ask:
        for count in (1, 10, 1_000, min(100_000, pages // 2)):
            commits, attaches, copies = [], [], []
            for _ in range(scale.pick(7, 5)):
                plane["x"] = source
                ask(0)
                touched = random.choice(pages, count, replace=False) * PAGE_ITEMS
                draft: Any = plane.edit("x")
                draft.array[touched] = 2.0
                with garbage_later():
                    commits.append(_timed(draft.commit))
                    found, seconds = ask(int(touched[0]))
                    copies.append(_timed(lambda: np.copyto(target, source)))
                if found != 2.0:
                    raise RuntimeError("the other process does not see the change")
                attaches.append(seconds)
                del draft
            where = f"{count:,} of {pages:,} pages"
            for what, times in (("commit", commits), ("attach", attaches)):
                yield compare(f"{what}, {where}", {"ours": times, "copyto": copies}, target=None, baseline="copyto")


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# Appends


def _appends(scale: Scale) -> Iterator[Row]:
    base, number = scale.pick(2_000_000, 500_000), scale.pick(1_000, 200)
    table = _table(base)
    rows = table.slice(0, APPENDED)
    rounds: list[float] = []
    gets: list[float] = []
    written = 0.0
    for _ in range(scale.pick(5, 2)):
        with shmplane.Plane.temporary(capacity="2GiB") as plane, _counting() as counted:
            plane["t"] = table
            times = interleave({"ours": Contestant(lambda: plane.append("t", rows).close(), number)}, 1, warm_up=0)
            rounds += times["ours"]
            written = sum(counted) / (number * rows.nbytes)
            found = plane["t"]
            if found.num_rows != base + number * APPENDED or not found.slice(base, APPENDED).equals(rows):
                raise RuntimeError("the appended table is another than it should be")
            del found
            gets += interleave({"ours": Contestant(lambda: plane["t"], 200)}, 1)["ours"]
    what = f"append {APPENDED:,} rows to {base / 1e6:g} M, mean of {number:,}"
    yield absolute(what, {"ours": rounds}, unit="ms", target=1)
    yield Row("bytes written for a byte appended", written, "x", 12)
    yield absolute("get the appended table, lease taken anew", {"ours": gets}, unit="us", target=None)


@contextlib.contextmanager
def _counting() -> Iterator[list[int]]:
    """Bytes of every part, and of every description of a version, that appends store."""
    counted: list[int] = []
    real_prepare, real_contents = publish.prepare, versions.contents_of_composition

    def prepare(attachment: Any, contents: Any, *args: Any, **options: Any) -> Any:
        counted.append(contents.nbytes)
        return real_prepare(attachment, contents, *args, **options)

    def contents_of_composition(said: Any, nbytes: int) -> Any:
        contents = real_contents(said, nbytes)
        counted.append(len(contents.frame))
        return contents

    places: list[tuple[Any, str, Any]] = [
        (publish, "prepare", prepare),
        (appending, "prepare", prepare),
        (appending, "contents_of_composition", contents_of_composition),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, function in places:
        setattr(module, name, function)
    try:
        yield counted
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


def _table(rows: int) -> pa.Table:
    random = np.random.default_rng(7)
    words = pa.array([f"symbol-{number:04}" for number in range(5_000)])
    return pa.table(
        {
            "time": pa.array(np.arange(rows), pa.timestamp("us")),
            "symbol": words.take(pa.array(random.integers(0, 5_000, rows))),
            "price": random.random(rows),
            "size": random.integers(0, 1_000, rows),
        }
    )
