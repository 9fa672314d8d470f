"""The demo, step by step. Whatever happens, workers and plane are gone at the end, unless the plane is to be kept.

Each step measures, notes the fields of ``--json``, and tells. Every time is a single run on this machine, said so once;
the benchmarks are elsewhere.
"""

from __future__ import annotations

import os
import secrets
import signal
import statistics
import sys
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.columns import Columns

from ...cache import Cache
from ...observe import directory_of, nbytes, snapshot_of, some
from ...plane import Plane
from ...scopes import Scope
from ..exits import OK, PROBLEMS, Failed
from . import workers
from .change import append_rows, edit_one_row
from .crash import kill_in_the_middle
from .data import Data, find_data, load
from .questions import Answer, agree, choose_questions, merge, partial_answer, row_count, shape_of
from .report import Report, table
from .workers import timed

if TYPE_CHECKING:
    from argparse import Namespace

    from ..output import Output

__all__ = ["tell"]

_LARGEST_PUT_NBYTES = 256 << 20
_SMALLEST_PUT_NBYTES = 16 << 20
_MOST_TRIES = 5


def tell(options: Namespace, out: Output) -> int:
    """The exit code says whether everything held that is promised."""
    report, data = Report(out, quiet=options.json), find_data(options.data)
    _room_for_the_crash(options.root, os.path.getsize(data.path) * 5 // 4)
    plane = Plane(f"demo-{secrets.token_hex(3)}", root=options.root, capacity=_free_nbytes(options.root) * 9 // 10)
    try:
        with Scope("demo") as scope:
            # As on Ctrl-C: all is ended first.
            before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
            scope.callback(signal.signal, signal.SIGTERM, before)
            _Story(plane, data, scope, report).tell(options.workers)
    except BaseException as error:
        plane.destroy()
        if isinstance(error, BrokenProcessPool):
            raise Failed(PROBLEMS, f"a worker has ended; is there memory enough? ({error})") from error
        raise
    _finish(plane, report, keep=options.keep)
    if options.json:
        out.json(**report.fields)
    return OK if report.holds else PROBLEMS


def _free_nbytes(root: str) -> int:
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def _room_for_the_crash(root: str, needed: int) -> int:
    """How large the doomed put can be beside what else is needed; ``Failed`` when the root is too small for the demo."""
    free, needed = _free_nbytes(root), needed + 2 * workers.ALONE_NBYTES
    room = min((free - needed) // 2, _LARGEST_PUT_NBYTES)
    if room < _SMALLEST_PUT_NBYTES:
        raise Failed(
            PROBLEMS,
            f"{root} has {nbytes(free)} free, and the demo needs {nbytes(needed + 2 * _SMALLEST_PUT_NBYTES)} of shared "
            f"memory. Free some, use another --root, or enlarge it (containers: docker run --shm-size=1g).",
        )
    return room


def _finish(plane: Plane, report: Report, *, keep: bool) -> None:
    left: list[str] = []
    if keep:
        plane.gc()  # the workers have ended, with leases
        plane.close()
        look, remove = (
            f"shmplane --root {plane.root} {command}" for command in (f"info {plane.name}", f"rm {plane.name} --plane")
        )
        report.step("The plane is kept. Look at it, then remove it:", look, remove)
    else:
        plane.destroy()
        left = [str(path) for path in Path(directory_of(plane.root), plane.name).glob("*")]
        report.step("The plane is destroyed.")
        report.promise(f"no file of it is left in {plane.root}", not left)
    report.fields |= {"kept": keep, "left_behind": left}


class _Story:
    """The steps, and what they share: the plane, the data in it, and the workers."""

    def __init__(self, plane: Plane, data: Data, scope: Scope, report: Report) -> None:
        self.plane, self.data, self.scope, self.report = plane, data, scope, report
        self.team: list[workers.Worker] = []

    def tell(self, count: int) -> None:
        self.read()
        room = _room_for_the_crash(self.plane.root, self.value.nbytes // 4)
        self.attach(count)
        self.work()
        if self.questions and find_spec("diskcache") is not None:
            self.ask_again()
        before = self.checksums()
        self.crash(room)
        self.survive(before)
        self.change(room)

    def read(self) -> None:
        _, took = timed(load, self.plane, self.data)
        self.value = value = self.plane.get(self.data.block)
        self.questions = choose_questions(value)
        rows, size = row_count(value), int(value.nbytes)
        title = f"{rows:,} {self.data.rows}"
        facts = {"title": title, "path": self.data.path, "rows": rows, "shape": list(value.shape), "nbytes": size}
        self.report.fields |= {"data": {**facts, "read_seconds": took}, "put_seconds": took}
        self.report.fields |= {"plane": self.plane.name, "block": self.data.block, "cache": None, "append": None}
        self.report.title(f"shmplane demo: {title}")
        told = {"read": f"{shape_of(value)}, {nbytes(size)}", "in_seconds": took}
        self.report.step(f"They are read straight into block {self.data.block!r} of plane {self.plane.name!r}.", told)

    def start(self, count: int) -> list[dict[str, Any]]:
        """Further workers, and how long each took to have the data; one after the other, so that nobody else is busy."""
        new = workers.start(count, self.scope)
        self.team += new
        where = self.plane.root, self.plane.name, self.data.block
        return [{"pid": worker.pid, **worker.ask(workers.attach, *where)} for worker in new]

    def attach(self, count: int) -> None:
        self.report.step(f"{some(count, 'worker')} (spawned) attach it by name. Nothing is copied.")
        self.report.fields["workers"] = self.start(count)
        # The same data the usual way, to a worker that is there for nothing else.
        (other,) = workers.start(1, self.scope)
        _, took = timed(other.ask, workers.arrived, self.value)
        self.report.fields["pickle"] = {"seconds": took, "private_nbytes": other.ask(workers.private)}
        other.kill()

    def ask(self, shift: int = 0, cached: dict[str, Any] | None = None) -> tuple[list[Any], list[float]]:
        """The partial answers of each part, and the seconds they took: part 0 by worker ``shift``, and so on."""
        count, asked = len(self.team), []
        for part in range(count):
            worker = self.team[(part + shift) % count]
            asked.append(worker.tell(workers.answer, self.questions, part, count, cached))
        found = [answered.result(workers.PATIENCE_S) for answered in asked]
        return [partials for partials, _ in found], [took for _, took in found]

    def work(self) -> None:
        self.partials, took = self.ask()
        self.checksums()  # all have read every byte
        team, copied = self.report.fields["workers"], self.report.fields["pickle"]
        for its, worker, seconds in zip(team, self.team, took, strict=True):
            its |= {"work_seconds": seconds, "private_nbytes": worker.ask(workers.private)}
        ratio = copied["seconds"] / statistics.median(its["open_seconds"] + its["get_seconds"] for its in team)
        self.report.show(
            table(team),
            "(private: memory beyond the imports (USS), after all have read every byte)",
            "",
            {"by pickle": copied, "": f"{ratio:,.{0 if ratio >= 10 else 1}f} times as long to arrive through a pipe"},
            "All times are single runs on this host, not a benchmark.",
        )
        parts = zip(*self.partials, strict=True)
        answers = [merge(question, of_all) for question, of_all in zip(self.questions, parts, strict=True)]
        alone = [merge(question, [partial_answer(self.value, question)]) for question in self.questions]
        same = all(map(agree, answers, alone))
        self.report.step("Each works on its share of the rows, in place; the answers are merged.")
        nothing = "" if answers else "(nothing in it has a mean or groups; the workers only check its bytes)"
        self.report.show(Columns([self.table_of(found) for found in answers], padding=(0, 2)), nothing)
        fields = [found.as_fields() for found in answers]
        self.report.promise("the same as one process finds in all of it", same, answers_agree=same, answers=fields)

    def table_of(self, answer: Answer) -> Any:
        rows = []
        for key, count, mean in answer.groups:
            label = " - ".join(key) or "all rows"
            label += f"  {self.data.labels[label]}" if label in self.data.labels else ""
            rows.append({answer.title: label, "": f"{count:,}" if mean is None else f"{mean:,.2f}"})
        return table(rows, width=37)

    def ask_again(self) -> None:
        """Through a cache, twice: the second time each asks for what another one has computed."""
        cached: dict[str, Any] = {"directory": f"{self.scope.temporary_directory()}/cache", "memory": "16MiB"}
        with Cache(**cached) as cache:
            first, first_s = self.ask(cached=cached)
            computed = cache.stats().computes
            second, second_s = self.ask(1, cached)
            stats = cache.stats()
        same = first == second == self.partials
        took = [statistics.median(first_s), statistics.median(second_s)]
        found = {"computed": [computed, stats.computes - computed], "seconds": took, "hits": stats.hits}
        self.report.step("The same through a cache; then each asks for what another one computed.", found)
        fields = {**found, "misses": stats.misses, "agree": same}
        self.report.promise("the second time nothing was computed", same and stats.computes == computed, cache=fields)

    def checksums(self) -> dict[int, str]:
        return {worker.pid: f"{worker.ask(workers.checksum):08x}" for worker in self.team}

    def crash(self, room: int) -> None:
        for _ in range(_MOST_TRIES):
            held = kill_in_the_middle(self.team.pop(), self.plane.name, self.plane.root, nbytes=room)
            freed, took = timed(self.plane.gc)
            if held is not None:
                break
            self.start(1)  # the put was faster than the signal
        else:
            raise Failed(
                PROBLEMS, f"{_MOST_TRIES} workers were killed and none in the middle of a put; is the host busy?"
            )
        clean = all(each.pid != held["pid"] for each in snapshot_of(self.plane.name, self.plane.root).processes)
        # What was theirs is used again at once: by a block of the size that only the victim held.
        self.plane.put(None, bytes(workers.ALONE_NBYTES), linger=0.0).close()
        reclaimed = {name: getattr(freed, name) for name in ("processes", "leases", "blocks", "nbytes")}
        put = f"{nbytes(held['put_nbytes'])}, of which {nbytes(held['written_nbytes'])} were written"
        leased = [f"{it['name'] or 'a block that nobody else knew'!r}, {nbytes(it['nbytes'])}" for it in held["leases"]]
        told = {"it leased": leased, "it was putting": put, "gc reclaimed": reclaimed, "in_seconds": took}
        self.report.step(f"Worker {held['pid']} is killed (SIGKILL) in the middle of a put.", told)
        fields = {**held, "reclaimed": reclaimed, "gc_seconds": took, "clean": clean}
        self.report.promise("nothing of it is left in the plane", clean, crash=fields)

    def survive(self, before: dict[int, str]) -> None:
        after = self.checksums()
        survivors = [{"pid": pid, "checksum_before": before[pid], "checksum_after": after[pid]} for pid in after]
        same = len({before[pid] for pid in after} | set(after.values())) == 1
        self.report.step("The survivors noticed nothing, though its memory is in use again.", table(survivors))
        every_byte = "for all of them every byte is as it was"
        self.report.promise(every_byte, same, survivors=survivors, survivors_unchanged=same)

    def change(self, room: int) -> None:
        before = self.checksums()
        changes = {"edit": edit_one_row(self.plane, self.team[0], nbytes=room)}
        if hasattr(self.value, "num_columns"):
            changes["append"] = append_rows(self.plane, self.data.block, self.team[0])
        same = before == self.checksums()
        told = table([_told(its) for its in changes.values()])
        self.report.step("A little of much is changed: a new version that shares the rest.", told)
        if "append" in changes:
            self.report.show(f"block {self.data.block!r} has {changes['append']['of_rows']:,} rows now")
        seen = same and all(its["seen"] for its in changes.values())
        promised = "a worker saw it; whoever reads an old version finds that as before"
        self.report.promise(promised, seen, **changes, old_versions_unchanged=same)


def _told(change: dict[str, Any]) -> dict[str, Any]:
    return {
        "": f"{some(change['rows'], 'row')} of {change['of_rows']:,}",
        "written_nbytes": change["copied_nbytes"],
        "seen after_seconds": change["seconds"],
        "copying all_seconds": change["full_copy_s"],
        "all_nbytes": change["nbytes"],
    }
