"""What the demo tells: steps for people as they happen, and the same as fields for ``--json``.

Every time is a single run on this machine, said so once; the benchmarks are elsewhere.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from ...observe import Snapshot, nbytes, seconds, some
from ..output import clip, printable
from .worker import SCRATCH, Attached, Worked

if TYPE_CHECKING:
    from ..output import Output
    from .change import Change
    from .crash import Held
    from .data import Data
    from .questions import Answer

__all__ = ["Report"]

_SHOWN = 8
_MOST_GROUPS = 1000
_HALF = 37


class Report:
    """Collects ``fields``; prints unless ``quiet``. ``holds`` is False once a promise was seen broken."""

    def __init__(self, out: Output, *, quiet: bool) -> None:
        self._out, self._quiet = out, quiet
        self._step = 0
        self.fields: dict[str, Any] = {}
        self.holds: bool = True

    def data(self, data: Data, read_s: float) -> None:
        self.fields["data"] = {
            "title": data.title,
            "path": data.path,
            "rows": data.rows,
            "shape": list(data.value.shape),
            "nbytes": int(data.value.nbytes),
            "read_seconds": read_s,
        }
        self._line(f"shmplane demo: {data.title}")
        self._line(f"{data.shape}, {nbytes(data.value.nbytes)} in memory, read in {seconds(read_s)}")

    def put(self, plane: str, data: Data, put_s: float) -> None:
        self.fields["plane"] = plane
        self.fields["block"] = data.block
        self.fields["put_seconds"] = put_s
        self._heading(f"One copy goes into shared memory: block {data.block!r} of plane {plane!r}.")
        rate = nbytes(data.value.nbytes / put_s)
        self._row("put", f"{seconds(put_s)}, {rate}/s into fresh memory")

    def attached(self, attached: list[tuple[int, Attached]]) -> None:
        self.fields["workers"] = [
            {"pid": pid, "open_seconds": its.open_s, "get_seconds": its.get_s} for pid, its in attached
        ]
        self._heading(f"{some(len(attached), 'worker')} (spawned) attach it by name. Nothing is copied.")

    def copied(self, copy_s: float, private_nbytes: int) -> None:
        self.fields["pickle"] = {"seconds": copy_s, "private_nbytes": private_nbytes}

    def answers(self, answers: list[Answer], labels: dict[str, str], *, agree: bool) -> None:
        self.fields["answers"] = [_answer_fields(answer) for answer in answers]
        self.fields["answers_agree"] = agree
        self.holds = self.holds and agree
        self._answers = answers, labels, agree

    def worked(self, worked: list[tuple[int, Worked]]) -> None:
        for fields, (_, its) in zip(self.fields["workers"], worked, strict=True):
            fields["work_seconds"] = its.seconds

    def private(self, private: dict[int, int]) -> None:
        """The last figure of the workers; then they and their answers are shown."""
        for fields in self.fields["workers"]:
            fields["private_nbytes"] = private[fields["pid"]]
        self._show_workers()
        self._show_answers()

    def _show_workers(self) -> None:
        workers, copied = self.fields["workers"], self.fields["pickle"]
        self._line("                   open plane      attach        work    private memory")
        for worker in workers[:_SHOWN]:
            times = "".join(f"{seconds(worker[f'{what}_seconds']):>12}" for what in ("open", "get", "work"))
            self._line(f"   pid {worker['pid']:<10}{times}{nbytes(max(0, worker['private_nbytes'])):>18}")
        if len(workers) > _SHOWN:
            self._line(f"   and {len(workers) - _SHOWN} more")
        self._line(f"   by pickle{seconds(copied['seconds']):>29}{nbytes(copied['private_nbytes']):>30}")
        took = statistics.median(worker["open_seconds"] + worker["get_seconds"] for worker in workers)
        self._line("   (private: USS beyond the imports, after all have read every byte)")
        self._line()
        ratio = copied["seconds"] / took
        times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
        self._line(f"   By pickle through a pipe the same data took {times} times as long to arrive.")
        self._line("   All times are single runs on this host, not a benchmark.")

    def _show_answers(self) -> None:
        answers, labels, agree = self._answers
        self._heading("Each works on its share of the rows, in place; the answers are merged.")
        if not answers:
            self._line("   nothing in it has a mean or groups; the workers only check its bytes")
            return
        shown = [_show_answer(answer, labels) for answer in answers]
        for index in range(0, len(shown), 2):
            left, right = shown[index], shown[index + 1] if index + 1 < len(shown) else []
            for row in range(max(len(left), len(right))):
                first = left[row] if row < len(left) else ""
                second = right[row] if row < len(right) else ""
                self._line(f"   {first:<{_HALF}}  {second}".rstrip())
        self._line()
        self._line(f"   {'the same as' if agree else 'NOT THE SAME as'} one process finds in its own copy")

    def crash(self, held: Held, gc_s: float, left: Snapshot) -> None:
        reclaimed = held.reclaimable
        still_there = any(process.pid == held.pid for process in left.processes)
        self.holds = self.holds and not still_there
        self.fields["crash"] = {
            "pid": held.pid,
            "mid_put": True,
            "leases": [{"name": block.name, "nbytes": block.nbytes} for block in held.leased],
            "put_nbytes": held.writing_nbytes,
            "written_nbytes": held.written_nbytes,
            "reclaimed": {
                "processes": len(reclaimed.processes),
                "leases": reclaimed.leases,
                "blocks": len(reclaimed.blocks),
                "nbytes": reclaimed.nbytes,
            },
            "gc_seconds": gc_s,
            "clean": not still_there,
        }
        self._heading(f"Worker {held.pid} is killed (SIGKILL) in the middle of a put.")
        named = [repr(block.name) for block in held.leased if block.name is not None]
        alone = [nbytes(block.nbytes) for block in held.leased if block.name is None]
        self._row("it leased", " and ".join([*named, *(f"a block of {size} that nobody else knew" for size in alone)]))
        self._row(
            "it was putting",
            f"{SCRATCH!r}: {nbytes(held.written_nbytes)} of {nbytes(held.writing_nbytes)} were written",
        )
        self._row(
            "gc reclaimed",
            f"{some(len(reclaimed.processes), 'process')}, {some(reclaimed.leases, 'lease')}, "
            f"{some(len(reclaimed.blocks), 'block')}, {nbytes(reclaimed.nbytes)} in {seconds(gc_s)}",
        )
        if still_there:
            self._row("PROBLEM", "its row is still there")

    def survivors(self, before: dict[int, int], after: dict[int, int]) -> None:
        unchanged = [pid for pid, checksum in after.items() if checksum == before[pid]]
        all_same = len(unchanged) == len(after) and len(set(before.values())) == 1
        self.holds = self.holds and all_same
        self.fields["survivors"] = [
            {"pid": pid, "checksum_before": f"{before[pid]:08x}", "checksum_after": f"{checksum:08x}"}
            for pid, checksum in after.items()
        ]
        self.fields["survivors_unchanged"] = all_same
        self._heading("The survivors noticed nothing, though its memory is in use again.")
        first = next(iter(after))
        self._row("every byte", f"crc32 {before[first]:08x} before, {after[first]:08x} after")
        self._row("unchanged", f"{len(unchanged)} of {some(len(after), 'survivor')}")

    def changed(self, edit: Change, append: Change | None, block: str, *, unchanged: bool) -> None:
        self.fields["edit"] = edit._asdict()
        self.fields["append"] = append and append._asdict()
        self.fields["old_versions_unchanged"] = unchanged
        self.holds = self.holds and edit.seen and (append is None or append.seen) and unchanged
        self._heading("A little of much is changed: a new version that shares the rest.")
        self._line("                         written     a worker saw it        copying it all takes")
        self._change(f"1 row of {edit.of_rows:,}", edit)
        if append is not None:
            self._change(f"{append.rows:,} rows more", append)
        self._row("edited", f"{edit.shape}, made for this")
        if append is not None:
            self._row("appended to", f"{block!r}, which has {append.of_rows:,} rows now")
        self._row("old versions", "as before, for whoever reads them" if unchanged else "PROBLEM: changed")

    def _change(self, what: str, change: Change) -> None:
        after = f"after {seconds(change.seconds)}" if change.seen else "PROBLEM: did not"
        whole = f"{nbytes(change.nbytes)} in {seconds(change.full_copy_s)}"
        self._line(f"   {what:<19}{nbytes(change.copied_nbytes):>10}{after:>20}{whole:>28}")

    def kept(self, plane: str, root: str) -> None:
        self.fields["kept"] = True
        self.fields["left_behind"] = []
        self._heading("The plane is kept. Look at it, then remove it:")
        where = "" if root == "/dev/shm" else f"--root {root} "  # noqa: S108 - only compared
        for command in (f"info {plane}", f"rm {plane} --plane"):
            self._line(f"   shmplane {where}{command}")

    def destroyed(self, root: str, found: list[str]) -> None:
        self.fields["kept"] = False
        self.fields["left_behind"] = found
        self.holds = self.holds and not found
        if found:
            self._heading(f"PROBLEM: {some(len(found), 'file')} of the plane left behind:")
            for path in found:
                self._line(f"   {path}")
        else:
            self._heading(f"The plane is destroyed; no file of it is left in {root}.")

    def _heading(self, text: str) -> None:
        self._step += 1
        self._line()
        self._line(f"{self._step}  {text}")

    def _row(self, name: str, text: str) -> None:
        self._line(f"   {name:<15} {text}")

    def _line(self, text: str = "") -> None:
        if not self._quiet:
            self._out.line(clip(printable(text), 80))
            self._out.flush()


def _show_answer(answer: Answer, labels: dict[str, str]) -> list[str]:
    lines = [answer.title]
    for group, number, mean in answer.groups[:_SHOWN]:
        figure = f"{number:,}" if mean is None else f"{mean:,.2f}"
        label = " - ".join(group) if group else "all rows"
        if len(group) == 1 and group[0] in labels:
            label = f"{label}  {labels[group[0]]}"
        lines.append(f"{clip(label, _HALF - 2 - len(figure)):<{_HALF - len(figure)}}{figure}")
    if len(answer.groups) > _SHOWN:
        lines.append(f"... and {len(answer.groups) - _SHOWN} more")
    return lines


def _answer_fields(answer: Answer) -> dict[str, Any]:
    return {
        "title": answer.title,
        "groups": [
            {"key": list(group), "count": number, "mean": mean} for group, number, mean in answer.groups[:_MOST_GROUPS]
        ],
    }
