"""The demo, step by step. Whatever happens, workers and plane are gone at the end, unless the plane is to be kept."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...observe import directory_of, nbytes, snapshot_of
from ..exits import OK, PROBLEMS, Failed
from .change import append_rows, edit_one_row
from .crash import Held, kill_in_the_middle
from .crew import Crew, Hand
from .data import Data, read_data
from .progress import Bar
from .questions import choose_questions, merge, partial_answer
from .report import Report

if TYPE_CHECKING:
    from argparse import Namespace

    from ...plane import Plane
    from ..output import Output
    from .worker import Attached, Copied, Worked

__all__ = ["demo"]

_ALONE_NBYTES = 16 << 20
_LARGEST_PUT_NBYTES = 256 << 20
_SMALLEST_PUT_NBYTES = 16 << 20
_MOST_TRIES = 5


def demo(options: Namespace, out: Output) -> int:
    report = Report(out, quiet=options.json)
    data = _read(options.data, report)
    put_nbytes = _room_for_the_crash(data, options.root)
    from ...plane import Plane

    name = f"demo-{secrets.token_hex(3)}"
    plane = Plane(name, root=options.root, capacity=_free_nbytes(options.root) * 9 // 10)
    try:
        with _ending_on_sigterm(), Crew() as crew:
            _tell(data, plane, crew=crew, workers=options.workers, put_nbytes=put_nbytes, report=report)
    except BaseException:
        plane.destroy()
        raise
    _finish(plane, report, keep=options.keep)
    if options.json:
        out.json(**report.fields)
    return OK if report.holds else PROBLEMS


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the demo like Ctrl-C: workers and plane go first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(data: Data, plane: Plane, *, crew: Crew, workers: int, put_nbytes: int, report: Report) -> None:
    _put(data, plane, report)
    hands = crew.hire(workers)
    _attach(hands, data, plane, report=report)
    _copy(crew, data, report)
    _work(hands, data, report)
    before = {hand.pid: hand.ask("checksum") for hand in hands}
    report.private({hand.pid: hand.ask("private") for hand in hands})
    victim, survivors = hands[-1], hands[:-1]
    _crash(crew, victim, data, plane=plane, put_nbytes=put_nbytes, report=report)
    after = {hand.pid: hand.ask("checksum") for hand in survivors}
    report.survivors(before, after)
    _change(survivors, data, plane, nbytes=put_nbytes, report=report)


def _read(path: str | None, report: Report) -> Data:
    began = time.monotonic()
    with Bar("reading " + (os.path.basename(path) if path else "the flights")) as bar:
        data = read_data(path, bar.update)
    report.data(data, time.monotonic() - began)
    return data


def _free_nbytes(root: str) -> int:
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def _room_for_the_crash(data: Data, root: str) -> int:
    """How large the doomed put can be; ``Failed`` when the root is too small for the demo."""
    free, table = _free_nbytes(root), int(data.value.nbytes) * 5 // 4
    room = min((free - table - 2 * _ALONE_NBYTES) // 2, _LARGEST_PUT_NBYTES)
    if room < _SMALLEST_PUT_NBYTES:
        needed = table + 2 * _ALONE_NBYTES + 2 * _SMALLEST_PUT_NBYTES
        raise Failed(
            PROBLEMS,
            f"{root} has {nbytes(free)} free, and the demo needs {nbytes(needed)} of shared memory. Free some, use "
            f"another --root, or enlarge it (containers: docker run --shm-size=1g).",
        )
    return room


def _put(data: Data, plane: Plane, report: Report) -> None:
    began = time.monotonic()
    plane.put(data.block, data.value).close()
    report.put(plane.name, data, time.monotonic() - began)


def _attach(hands: list[Hand], data: Data, plane: Plane, *, report: Report) -> None:
    # One after the other, so that none is timed while another is busy.
    attached: list[tuple[int, Attached]] = [
        (hand.pid, hand.ask("attach", plane.root, plane.name, data.block)) for hand in hands
    ]
    report.attached(attached)


def _copy(crew: Crew, data: Data, report: Report) -> None:
    """The same table the usual way, to a worker that is there for nothing else."""
    (hand,) = crew.hire(1)
    began = time.monotonic()
    copied: Copied = hand.ask("copied", data.value)
    report.copied(copied.arrived - began, copied.private_nbytes)
    crew.dismiss([hand])


def _work(hands: list[Hand], data: Data, report: Report) -> None:
    questions = choose_questions(data.value)
    for part, hand in enumerate(hands):
        hand.tell("answer", questions, part, len(hands))
    worked: list[Worked] = [hand.answer() for hand in hands]
    answers = [merge(question, [its.partials[index] for its in worked]) for index, question in enumerate(questions)]
    alone = [merge(question, [partial_answer(data.value, question)]) for question in questions]
    report.answers(answers, data.labels, agree=_agree(answers, alone))
    report.worked([(hand.pid, its) for hand, its in zip(hands, worked, strict=True)])


def _agree(answers: list[Any], alone: list[Any]) -> bool:
    """The same groups and counts as one process finds in its own copy, and means up to rounding."""
    return all(
        {group: number for group, number, _ in ours.groups} == {group: number for group, number, _ in theirs.groups}
        and _close(ours, theirs)
        for ours, theirs in zip(answers, alone, strict=True)
    )


def _close(ours: Any, theirs: Any) -> bool:
    means = {group: mean for group, _, mean in theirs.groups}
    return all(
        mean is None or means[group] is None or abs(mean - means[group]) <= 1e-6 * max(1.0, abs(mean))
        for group, _, mean in ours.groups
    )


def _crash(crew: Crew, victim: Hand, data: Data, *, plane: Plane, put_nbytes: int, report: Report) -> None:
    held: Held | None = None
    for _ in range(_MOST_TRIES):
        victim.ask("lease_alone", _ALONE_NBYTES)
        held = kill_in_the_middle(victim, plane.name, plane.root, nbytes=put_nbytes)
        if held is not None:
            break
        # The put was faster than the signal: clean up, and let somebody else try.
        plane.gc()
        (victim,) = crew.hire(1)
        victim.ask("attach", plane.root, plane.name, data.block)
    if held is None:
        raise Failed(PROBLEMS, f"{_MOST_TRIES} workers were killed and none in the middle of a put; is the host busy?")
    began = time.monotonic()
    plane.gc()
    seconds = time.monotonic() - began
    left = snapshot_of(plane.name, plane.root)
    # What was theirs is used again at once: by a block of the size that only the victim held.
    plane.put(None, bytes(_ALONE_NBYTES), linger=0.0).close()
    report.crash(held, seconds, left)


def _change(hands: list[Hand], data: Data, plane: Plane, *, nbytes: int, report: Report) -> None:
    before = {hand.pid: hand.ask("checksum") for hand in hands}
    edit = edit_one_row(plane, hands[0], nbytes=nbytes)
    append = append_rows(plane, data, hands[0]) if hasattr(data.value, "num_columns") else None
    unchanged = before == {hand.pid: hand.ask("checksum") for hand in hands}
    report.changed(edit, append, data.block, unchanged=unchanged)


def _finish(plane: Plane, report: Report, *, keep: bool) -> None:
    if keep:
        plane.close()
        report.kept(plane.name, plane.root)
        return
    directory = f"{directory_of(plane.root)}/{plane.name}"
    plane.destroy()
    found = [f"{directory}/{entry}" for entry in os.listdir(directory)] if os.path.isdir(directory) else []
    report.destroyed(plane.root, found)
