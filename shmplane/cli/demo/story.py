"""The demo, step by step. Whatever happens, workers and plane are gone at the end, unless the plane is to be kept.

Each step measures, notes the fields of ``--json``, and tells. Every time is a single run on this machine, said so once;
the benchmarks are elsewhere.
"""

from __future__ import annotations

import secrets
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage
from statistics import median
from typing import Any

from rich.columns import Columns

from ...cache import Cache
from ...observe import directory_of, nbytes, snapshot_of, some
from ...plane import Plane
from ...scopes import Scope
from ..exits import OK, PROBLEMS, Failed
from ..output import Output
from . import questions, workers
from .questions import Data, find_data, load
from .report import Report, table
from .workers import timed

__all__ = ["tell"]

_LARGEST_PUT_NBYTES, _SMALLEST_PUT_NBYTES = 256 << 20, 16 << 20
_MOST_TRIES = 5
#: the array of which a row is edited, under a name that no file gives to a block
_GRID, _COLUMNS = "demo/large array", 16
_APPENDED = 1_000
_MOST_IN_POOL = 2


def tell(options: Namespace, out: Output) -> int:
    """The exit code says whether everything held that is promised."""
    report, data = Report(out, quiet=options.json), find_data(options.data)
    _room_for_the_crash(options.root, data.path.stat().st_size * 5 // 4)
    name, capacity = f"demo-{secrets.token_hex(3)}", disk_usage(options.root).free * 9 // 10
    try:
        with Scope("demo") as scope:
            # As on Ctrl-C: all is ended first.
            before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
            scope.callback(signal.signal, signal.SIGTERM, before)
            plane = scope.own(Plane(name, root=options.root, capacity=capacity), Plane.destroy)
            _Story(plane, data, scope, report).tell(options.workers, keep=options.keep)
    except BrokenProcessPool as error:
        raise Failed(PROBLEMS, f"a worker has ended; is there memory enough? ({error})") from error
    if options.json:
        out.json(**report.fields)
    return OK if report.holds else PROBLEMS


def _room_for_the_crash(root: str, needed: int) -> int:
    """How large the doomed put can be beside what else is needed; ``Failed`` when the root is too small for the demo."""
    free, needed = disk_usage(root).free, needed + 2 * workers.ALONE_NBYTES
    if free < (least := needed + 2 * _SMALLEST_PUT_NBYTES):
        say = f"{root} has {nbytes(free)} free, and the demo needs {nbytes(least)} of shared memory. Free some, use another"
        raise Failed(PROBLEMS, f"{say} --root, or enlarge it (containers: docker run --shm-size=1g).")
    return min((free - needed) // 2, _LARGEST_PUT_NBYTES)


class _Story:
    """The steps, and what they share: the plane, the data in it, and the workers."""

    def __init__(self, plane: Plane, data: Data, scope: Scope, report: Report) -> None:
        self.plane, self.data, self.scope, self.report = plane, data, scope, report
        self.block, self.team = data.block, list[workers.Worker]()

    def tell(self, count: int, *, keep: bool) -> None:
        self.read()
        room = _room_for_the_crash(self.plane.root, self.value.nbytes // 4)
        self.attach(count)
        self.answer()
        if self.questions and find_spec("diskcache") is not None:
            self.answer_again()
        self.crash(room)
        self.change(room)
        self.pool()
        self.end(keep=keep)

    def read(self) -> None:
        _, took = timed(load, self.plane, self.data)
        self.value = value = questions.as_rows(self.plane.get(self.block))
        self.questions = self.data.questions or questions.choose(value)
        title = f"{len(value):,} {self.data.rows}"
        data = {"title": title, "path": str(self.data.path), "rows": len(value), "shape": list(value.shape)}
        data |= {"nbytes": int(value.nbytes), "read_seconds": took}
        self.report.title(f"shmplane demo: {title}")
        where = f"block {self.block!r} of plane {self.plane.name!r}"
        told = {"read": f"{_shape_of(value)}, {nbytes(value.nbytes)}", "in_seconds": took}
        self.report.step(f"They are read straight into {where}.", told, data=data, put_seconds=took)
        self.report.fields |= {"plane": self.plane.name, "block": self.block, "cache": None, "append": None}

    def start(self, count: int) -> list[dict[str, Any]]:
        """Further workers, and how long each took to have the data; one after the other, so that nobody else is busy."""
        self.team += (new := workers.start(count, self.scope))
        where = self.plane.root, self.plane.name, self.block
        return [{"pid": worker.pid, **worker.ask(workers.attach, *where)} for worker in new]

    def checksums(self) -> dict[int, str]:
        return {worker.pid: worker.ask(workers.checksum) for worker in self.team}

    def ask_parts(self, shift: int = 0, cached: dict[str, Any] | None = None) -> tuple[list[Any], list[float]]:
        """The partial answers of each part, and the seconds they took: part 0 by worker ``shift``, and so on."""
        team = self.team[shift:] + self.team[:shift]
        asked = [(its, (self.questions, part, len(team), cached)) for part, its in enumerate(team)]
        found = workers.ask_all(workers.answer, asked)
        return [partials for partials, _ in found], [took for _, took in found]

    def attach(self, count: int) -> None:
        self.report.step(f"{some(count, 'worker')} (spawned) attach it by name. Nothing is copied.")
        team = self.start(count)
        # The same data the usual way, to a worker that is there for nothing else.
        (other,) = workers.start(1, self.scope)
        _, took = timed(other.ask, workers.arrived, self.value)
        copied = {"seconds": took, "private_nbytes": other.ask(workers.private)}
        other.kill()
        self.partials, seconds = self.ask_parts()
        self.before = self.checksums()  # all have read every byte
        for its, worker, work_s in zip(team, self.team, seconds, strict=True):
            its |= {"work_seconds": work_s, "private_nbytes": worker.ask(workers.private)}
        ratio = took / median(its["open_seconds"] + its["get_seconds"] for its in team)
        self.report.show(table(team), "(private: memory beyond the imports (USS), after all have read every byte)", "")
        self.report.show({"by pickle": copied, "": f"{ratio:,.1f} times as long to arrive through a pipe"})
        self.report.show("All times are single runs on this host, not a benchmark.", workers=team, pickle=copied)

    def answer(self) -> None:
        answers, tables, same = list[dict[str, Any]](), [], True
        for asked, partials in zip(self.questions, zip(*self.partials, strict=True), strict=True):
            found = questions.merge(asked, partials)
            alone = questions.merge(asked, [questions.partial_answer(self.value, asked)])
            same = same and questions.agree(found, alone)
            answers.append({"title": asked.title, "groups": found[: questions.MOST_GROUPS]})
            tables.append(table([questions.shown(group, asked.title, self.data.labels) for group in found]))
        nothing = "" if tables else "(nothing in it has a mean or groups; the workers only check its bytes)"
        shown = Columns(tables, padding=(0, 3)), nothing
        self.report.step("Each works on its share of the rows, in place; the answers are merged.", *shown)
        self.report.promise("the same as one process finds in all of it", same, answers_agree=same, answers=answers)

    def answer_again(self) -> None:
        """Through a cache, twice: the second time each asks for what another one has computed."""
        cached: dict[str, Any] = {"directory": f"{self.scope.temporary_directory()}/cache", "memory": "16MiB"}
        with Cache(**cached) as cache:
            first, first_s = self.ask_parts(cached=cached)
            computed = cache.stats().computes
            second, second_s = self.ask_parts(1, cached)
            stats = cache.stats()
        same, again = first == second == self.partials, stats.computes - computed
        found = {"computed": [computed, again], "seconds": [median(first_s), median(second_s)], "hits": stats.hits}
        self.report.step("The same through a cache; then each asks for what another one computed.", found)
        fields = {**found, "misses": stats.misses, "agree": same}
        self.report.promise("the second time nothing was computed", same and not again, cache=fields)

    def crash(self, room: int) -> None:
        for _ in range(_MOST_TRIES):
            held = workers.kill_in_the_middle(self.team.pop(), self.plane, nbytes=room)
            freed, took = timed(self.plane.gc)
            if held is not None:
                break
            self.start(1)  # the put was faster than the signal
        else:
            raise Failed(PROBLEMS, f"{_MOST_TRIES} workers were killed, none in the middle of a put; is the host busy?")
        clean = all(each.pid != held["pid"] for each in snapshot_of(self.plane.name, self.plane.root).processes)
        reclaimed = {name: getattr(freed, name) for name in ("processes", "leases", "blocks", "nbytes")}
        put = f"{nbytes(held['put_nbytes'])}, of which {nbytes(held['written_nbytes'])} were written"
        leased = [f"{it['name'] or 'a block that nobody else knew'!r}, {nbytes(it['nbytes'])}" for it in held["leases"]]
        told = {"it leased": leased, "it was putting": put, "gc reclaimed": reclaimed, "in_seconds": took}
        self.report.step(f"Worker {held['pid']} is killed (SIGKILL) in the middle of a put.", told)
        fields = {**held, "reclaimed": reclaimed, "gc_seconds": took, "clean": clean}
        self.report.promise("nothing of it is left in the plane", clean, crash=fields)

        # What was theirs is used again at once: by a block of the size that only the victim held.
        self.plane.put(None, bytes(workers.ALONE_NBYTES), linger=0.0).close()
        before, after = self.before, self.checksums()
        survivors = [{"pid": pid, "checksum_before": before[pid], "checksum_after": after[pid]} for pid in after]
        same = len({before[pid] for pid in after} | set(after.values())) == 1
        self.report.step("The survivors noticed nothing, though its memory is in use again.", table(survivors))
        told = {"survivors": survivors, "survivors_unchanged": same}
        self.report.promise("for all of them every byte is as it was", same, **told)

    def change(self, room: int) -> None:
        """One row of a large array that is made for this, then the table's last rows once more."""
        plane, length = self.plane, room // (_COLUMNS * 8)
        with plane.create(_GRID, (length, _COLUMNS), "f8") as builder:
            builder.array[:] = 1.0

        def edit() -> int:
            with plane.edit(_GRID) as draft:
                draft.array[length // 2] = 2.0
            return draft.dirty_nbytes

        def append() -> int:
            copied = plane.metrics().copied_nbytes
            plane.append(self.block, added).close()
            return plane.metrics().copied_nbytes - copied

        changes = {"edit": self.measure(edit, _GRID, rows=1, row=length // 2)}
        del plane[_GRID]
        now = []
        if hasattr(self.value, "num_columns"):
            added, rows = self.value[-_APPENDED:], len(self.value)
            changes["append"] = self.measure(append, self.block, rows=len(added), row=rows + len(added) - 1)
            now = [f"block {self.block!r} has {rows + len(added):,} rows now"]
        same = self.checksums().items() <= self.before.items()
        shown = [its.pop("shown") for its in changes.values()]
        self.report.step("A little of much is changed: a new version that shares the rest.", table(shown), *now)
        seen = same and all(its["seen"] for its in changes.values())
        promised = "a worker saw it; whoever reads an old version finds that as before"
        self.report.promise(promised, seen, **changes, old_versions_unchanged=same)

    def measure(self, change: Callable[[], int], block: str, *, rows: int, row: int) -> dict[str, Any]:
        """``change`` makes so many new rows, ``row`` among them, and returns how many bytes it wrote.

        Measured are the seconds until another process had read the row, and those of copying the whole: the least that a
        store without versions does. ``seen``: it was the new row, and whoever held the old version does not see it.
        """
        look = partial(self.team[0].ask, workers.look, block, row)
        old, before = self.plane.get(block), look()
        (written, found), took = timed(lambda: (change(), look()))
        new = self.plane.get(block)
        seen = found == questions.row_of(new, row) != before == questions.row_of(old, row)
        copy_s = timed(lambda: [bytes(buffer) for buffer in questions.buffers_of(new)])[1]
        shown = {"": f"{some(rows, 'row')} of {len(new):,}", "written_nbytes": written, "seen after_seconds": took}
        shown |= {"copying all_seconds": copy_s, "all_nbytes": new.nbytes}
        facts = {"rows": rows, "of_rows": len(new), "shape": _shape_of(new), "nbytes": int(new.nbytes), "shown": shown}
        return {**facts, "copied_nbytes": written, "seconds": took, "full_copy_s": copy_s, "seen": seen}

    def pool(self) -> None:
        """The same questions by a drop-in for the standard library's executor, over whose tasks a worker dies."""
        count, died = len(self.partials), self.scope.temporary_directory() / "died"
        pool = workers.start_pool(min(count, _MOST_IN_POOL), self.plane, self.scope)
        parts = [questions.part_of(self.value, part, count) for part in range(count)]
        asked = [(pool, (self.questions, rows, died)) for rows in parts]
        found, took = timed(workers.ask_all, workers.answer_or_die, asked)
        self.scope.release(pool).shutdown()
        stats = pool.stats()
        told = {"sent_nbytes": stats.sent_nbytes, "shared": some(stats.shared, "buffer"), "in_seconds": took}
        self.report.step("A drop-in ProcessPoolExecutor does the same, though a worker of it is killed.", told)
        same = found == self.partials and stats.retried == 1
        fields = {"retried": stats.retried, "sent_nbytes": stats.sent_nbytes, "shared": stats.shared, "agree": same}
        self.report.promise('its task ran again (on_worker_death="retry"); the answers are the same', same, pool=fields)

    def end(self, *, keep: bool) -> None:
        del self.value  # this process is in the plane for as long as it shows a block
        for worker in self.team:
            worker.kill()
        plane, left = self.plane, list[str]()
        if keep:
            plane.gc()  # the workers have ended, with leases
            self.scope.release(plane).close()
            shown = [f"shmplane --root {plane.root} {it}" for it in (f"info {plane.name}", f"rm {plane.name} --plane")]
            self.report.step("The plane is kept. Look at it, then remove it:", *shown)
        else:
            plane.destroy()
            left += map(str, Path(directory_of(plane.root), plane.name).glob("*"))
            self.report.step("The plane is destroyed.")
            self.report.promise(f"no file of it is left in {plane.root}", not left)
        self.report.fields |= {"kept": keep, "left_behind": left}


def _shape_of(value: Any) -> str:
    """``336,776 rows x 19 columns``, or an array's shape and dtype."""
    if hasattr(value, "num_columns"):
        return f"{value.num_rows:,} rows x {value.num_columns} columns"
    return f"{' x '.join(f'{length:,}' for length in value.shape)} {value.dtype}"
