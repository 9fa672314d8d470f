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
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...observe import directory_of, nbytes, seconds, snapshot_of, some
from ..exits import OK, PROBLEMS, Failed
from .change import Change, append_rows, edit_one_row
from .crash import kill_in_the_middle
from .data import Data, read_data
from .questions import MOST_GROUPS, agree, choose_questions, merge, partial_answer
from .report import Report, beside, table
from .workers import CACHED_NBYTES, SCRATCH, Worker, Workers, timed

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.table import Table

    from ...plane import Plane
    from ..output import Output

__all__ = ["tell"]

_ALONE_NBYTES = 16 << 20
_LARGEST_PUT_NBYTES = 256 << 20
_SMALLEST_PUT_NBYTES = 16 << 20
_MOST_TRIES = 5
_SHOWN = 8


def tell(options: Namespace, out: Output) -> int:
    report = Report(out, quiet=options.json)
    data = _read(options.data, report)
    put_nbytes = _room_for_the_crash(data, options.root)
    from ...plane import Plane

    name = f"demo-{secrets.token_hex(3)}"
    plane = Plane(name, root=options.root, capacity=_free_nbytes(options.root) * 9 // 10)
    try:
        with _ending_on_sigterm(), Workers() as workers:
            _put(data, plane, report)
            team = workers.start(options.workers)
            _attach(team, data, plane, report=report)
            _copy(workers, data, report)
            _work(team, data, report)
            before = _checksums(team)
            _show_work({worker.pid: worker.ask("private") for worker in team}, data.labels, report)
            _ask_again(team, data, report)
            _crash(workers, team.pop(), data, plane=plane, put_nbytes=put_nbytes, report=report)
            _survive(before, _checksums(team), report)
            _change(team, data, plane, array_nbytes=put_nbytes, report=report)
    except BaseException:
        plane.destroy()
        raise
    _finish(plane, report, keep=options.keep)
    if options.json:
        out.json(**report.fields)
    return OK if report.holds else PROBLEMS


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """As on Ctrl-C: workers and plane go first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _read(path: str | None, report: Report) -> Data:
    began = time.monotonic()
    data = read_data(path)
    took = time.monotonic() - began
    size, shape = int(data.value.nbytes), list(data.value.shape)
    facts = {"title": data.title, "path": data.path, "rows": data.rows, "shape": shape, "nbytes": size}
    report.fields["data"] = {**facts, "read_seconds": took}
    report.title(f"shmplane demo: {data.title}")
    report.show(f"{data.shape}, {nbytes(size)} in memory, read in {seconds(took)}", indent=0)
    return data


def _free_nbytes(root: str) -> int:
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def _room_for_the_crash(data: Data, root: str) -> int:
    """How large the doomed put can be; ``Failed`` when the root is too small for the demo."""
    free, needed = _free_nbytes(root), int(data.value.nbytes) * 5 // 4 + 2 * _ALONE_NBYTES
    room = min((free - needed) // 2, _LARGEST_PUT_NBYTES)
    if room < _SMALLEST_PUT_NBYTES:
        raise Failed(
            PROBLEMS,
            f"{root} has {nbytes(free)} free, and the demo needs {nbytes(needed + 2 * _SMALLEST_PUT_NBYTES)} of shared "
            f"memory. Free some, use another --root, or enlarge it (containers: docker run --shm-size=1g).",
        )
    return room


def _put(data: Data, plane: Plane, report: Report) -> None:
    _, took = timed(lambda: plane.put(data.block, data.value).close())
    report.fields |= {"plane": plane.name, "block": data.block, "put_seconds": took}
    report.step(f"One copy goes into shared memory: block {data.block!r} of plane {plane.name!r}.")
    report.show({"put": f"{seconds(took)}, {nbytes(data.value.nbytes / took)}/s into fresh memory"})


def _attach(team: list[Worker], data: Data, plane: Plane, *, report: Report) -> None:
    report.step(f"{some(len(team), 'worker')} (spawned) attach it by name. Nothing is copied.")
    # One after the other, so that none is timed while another is busy.
    report.fields["workers"] = [
        {"pid": worker.pid, **worker.ask("attach", plane.root, plane.name, data.block)} for worker in team
    ]


def _copy(workers: Workers, data: Data, report: Report) -> None:
    """The same data the usual way, to a worker that is there for nothing else."""
    (other,) = workers.start(1)
    began = time.monotonic()
    took = other.ask("arrived", data.value) - began
    report.fields["pickle"] = {"seconds": took, "private_nbytes": other.ask("private")}
    other.stop()


def _work(team: list[Worker], data: Data, report: Report) -> None:
    questions = choose_questions(data.value)
    for part, worker in enumerate(team):
        worker.tell("answer", questions, part, len(team))
    worked = [worker.answer() for worker in team]
    for its, (_, took) in zip(report.fields["workers"], worked, strict=True):
        its["work_seconds"] = took
    answers = [merge(question, [partials[i] for partials, _ in worked]) for i, question in enumerate(questions)]
    alone = [merge(question, [partial_answer(data.value, question)]) for question in questions]
    same = all(map(agree, answers, alone))
    fields = [
        {
            "title": title,
            "groups": [{"key": key, "count": rows, "mean": mean} for key, rows, mean in groups[:MOST_GROUPS]],
        }
        for title, groups in answers
    ]
    report.promise(same, answers_agree=same, answers=fields)


def _checksums(team: list[Worker]) -> dict[int, int]:
    return {worker.pid: worker.ask("checksum") for worker in team}


def _show_work(private: dict[int, int], labels: dict[str, str], report: Report) -> None:
    workers, copied = report.fields["workers"], report.fields["pickle"]
    rows = []
    for its in workers:
        its["private_nbytes"] = private[its["pid"]]
        times = (seconds(its[f"{what}_seconds"]) for what in ("open", "get", "work"))
        rows.append((f"pid {its['pid']}", *times, nbytes(max(0, its["private_nbytes"]))))
    rows[_SHOWN:] = [(f"and {len(rows) - _SHOWN} more",)] if len(rows) > _SHOWN else []
    rows.append(("by pickle", "", seconds(copied["seconds"]), "", nbytes(copied["private_nbytes"])))
    ratio = copied["seconds"] / statistics.median(its["open_seconds"] + its["get_seconds"] for its in workers)
    report.show(
        table(("", "open plane", "attach", "work", "private memory"), rows),
        "(private: USS beyond the imports, after all have read every byte)",
        "",
        f"By pickle through a pipe the same data took {ratio:,.{0 if ratio >= 10 else 1}f} times as long to arrive.",
        "All times are single runs on this host, not a benchmark.",
    )
    report.step("Each works on its share of the rows, in place; the answers are merged.")
    if not report.fields["answers"]:
        report.show("nothing in it has a mean or groups; the workers only check its bytes")
        return
    agreed = "the same as" if report.fields["answers_agree"] else "PROBLEM: not the same as"
    answers = [_table_of(answer, labels) for answer in report.fields["answers"]]
    report.show(beside(answers), "", f"{agreed} one process finds in its own copy")


def _ask_again(team: list[Worker], data: Data, report: Report) -> None:
    """The same questions through a cache, twice: the second time each worker asks for what another one has computed."""
    questions = choose_questions(data.value)
    try:
        import diskcache  # noqa: F401 - the extra ``cache``
    except ModuleNotFoundError:
        questions = []
    report.fields["cache"] = None
    if not questions:
        return
    from ...cache import Cache

    count, passes = len(team), []
    with tempfile.TemporaryDirectory(prefix="shmplane-demo-") as made:
        directory = os.path.join(made, "cache")
        with Cache(directory, memory=CACHED_NBYTES, disk=4 * CACHED_NBYTES) as cache:
            for further in range(2):
                for number, worker in enumerate(team):
                    worker.tell("answer_by_cache", directory, questions, (number + further) % count, count)
                passes.append([worker.answer() for worker in team])
            found = cache.stats()
    first, second = ({index: answers for index, (answers, _, _) in enumerate(asked)} for asked in passes)
    same = all(second[number] == first[(number + 1) % count] for number in range(count))
    computed = [sum(computed for _, computed, _ in asked) for asked in passes]
    took = [statistics.median(its for _, _, its in asked) for asked in passes]
    report.promise(
        same and computed[1] == 0,
        cache={"computed": computed, "seconds": took, "hits": found.hits, "misses": found.misses, "agree": same},
    )
    report.step("The same through a cache; then each asks for what another one computed.")
    report.show({"computed": f"{computed[0]}, then {computed[1]}: {found.hits} hits",
                 "answers": f"{seconds(took[0])}, then {seconds(took[1])}"})  # fmt: skip


def _table_of(answer: dict[str, Any], labels: dict[str, str]) -> Table:
    rows: list[tuple[str, ...]] = []
    for group in answer["groups"]:
        label = " - ".join(group["key"]) or "all rows"
        if label in labels:
            label = f"{label}  {labels[label]}"
        rows.append((label, f"{group['count']:,}" if group["mean"] is None else f"{group['mean']:,.2f}"))
    rows[_SHOWN:] = [(f"... and {len(rows) - _SHOWN} more",)] if len(rows) > _SHOWN else []
    return table((answer["title"], ""), rows, width=37)


def _crash(workers: Workers, victim: Worker, data: Data, *, plane: Plane, put_nbytes: int, report: Report) -> None:
    for _ in range(_MOST_TRIES):
        victim.ask("lease_alone", _ALONE_NBYTES)
        held = kill_in_the_middle(victim, plane.name, plane.root, nbytes=put_nbytes)
        if held is not None:
            break
        # The put was faster than the signal: clean up, and let somebody else try.
        plane.gc()
        (victim,) = workers.start(1)
        victim.ask("attach", plane.root, plane.name, data.block)
    else:
        raise Failed(PROBLEMS, f"{_MOST_TRIES} workers were killed and none in the middle of a put; is the host busy?")
    _, took = timed(plane.gc)
    clean = all(process.pid != victim.pid for process in snapshot_of(plane.name, plane.root).processes)
    # What was theirs is used again at once: by a block of the size that only the victim held.
    plane.put(None, bytes(_ALONE_NBYTES), linger=0.0).close()
    report.promise(clean, crash={**held, "gc_seconds": took, "clean": clean})
    report.step(f"Worker {victim.pid} is killed (SIGKILL) in the middle of a put.")
    leased = [
        repr(block["name"])
        if block["name"] is not None
        else f"a block of {nbytes(block['nbytes'])} that nobody else knew"
        for block in held["leases"]
    ]
    found = held["reclaimed"]
    counts = [some(found["processes"], "process"), some(found["leases"], "lease"), some(found["blocks"], "block")]
    facts = {
        "it leased": " and ".join(leased),
        "it was putting": f"{SCRATCH!r}: {nbytes(held['written_nbytes'])} of {nbytes(held['put_nbytes'])} were written",
        "gc reclaimed": f"{', '.join(counts)}, {nbytes(found['nbytes'])} in {seconds(took)}",
    }
    report.show(facts if clean else {**facts, "PROBLEM": "its row is still there"})


def _survive(before: dict[int, int], after: dict[int, int], report: Report) -> None:
    unchanged = [pid for pid, checksum in after.items() if checksum == before[pid]]
    same = len(unchanged) == len(after) and len(set(before.values())) == 1
    sums = {pid: (f"{before[pid]:08x}", f"{checksum:08x}") for pid, checksum in after.items()}
    fields = [{"pid": pid, "checksum_before": old, "checksum_after": new} for pid, (old, new) in sums.items()]
    report.promise(same, survivors_unchanged=same, survivors=fields)
    report.step("The survivors noticed nothing, though its memory is in use again.")
    seen = "crc32 {} before, {} after".format(*next(iter(sums.values())))
    report.show({"every byte": seen, "unchanged": f"{len(unchanged)} of {some(len(after), 'survivor')}"})


def _change(team: list[Worker], data: Data, plane: Plane, *, array_nbytes: int, report: Report) -> None:
    before = _checksums(team)
    edit = edit_one_row(plane, team[0], nbytes=array_nbytes)
    append = append_rows(plane, data, team[0]) if hasattr(data.value, "num_columns") else None
    same = before == _checksums(team)
    seen = edit.seen and (append is None or append.seen)
    fields = {"edit": edit._asdict(), "append": append and append._asdict()}
    report.promise(same and seen, old_versions_unchanged=same, **fields)
    report.step("A little of much is changed: a new version that shares the rest.")
    rows = [_row_of(f"1 row of {edit.of_rows:,}", edit)]
    facts = {"edited": f"{edit.shape}, made for this"}
    if append is not None:
        rows.append(_row_of(f"{append.rows:,} rows more", append))
        facts["appended to"] = f"{data.block!r}, which has {append.of_rows:,} rows now"
    facts["old versions"] = "as before, for whoever reads them" if same else "PROBLEM: changed"
    report.show(table(("", "written", "a worker saw it", "copying it all takes"), rows), facts)


def _row_of(what: str, change: Change) -> tuple[str, ...]:
    seen = f"after {seconds(change.seconds)}" if change.seen else "PROBLEM: did not"
    return what, nbytes(change.copied_nbytes), seen, f"{nbytes(change.nbytes)} in {seconds(change.full_copy_s)}"


def _finish(plane: Plane, report: Report, *, keep: bool) -> None:
    found: list[str] = []
    if keep:
        plane.gc()  # the workers have ended, with leases
        plane.close()
        report.step("The plane is kept. Look at it, then remove it:")
        where = "" if plane.root == "/dev/shm" else f"--root {plane.root} "  # noqa: S108 - only compared
        report.show(f"shmplane {where}info {plane.name}", f"shmplane {where}rm {plane.name} --plane")
    else:
        directory = f"{directory_of(plane.root)}/{plane.name}"
        plane.destroy()
        found = [f"{directory}/{entry}" for entry in os.listdir(directory)] if os.path.isdir(directory) else []
        left = f"PROBLEM: {some(len(found), 'file')} of it were" if found else "no file of it is"
        report.step(f"The plane is destroyed; {left} left in {plane.root}.")
        report.show(*found)
    report.promise(not found, kept=keep, left_behind=found)
