"""A plane's lock is of one kind for life: a word of its manifest, for processes with the compiled core, or a byte of a file."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane import observe
from tests.support.audit import faults_of
from tests.support.forked import Forked, run_forked
from tests.support.inside import (
    change,
    counters_of,
    die_in_a_transaction,
    header_of,
    plane_lock,
    seat_of,
    slot_of,
)
from tests.support.processes import run_python
from tests.support.requires import require_core, require_lock
from tests.support.stuck import stopped_inside, stranger_to

KINDS: list[Any] = ["word", "ofd"]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, plane_root: Path) -> Iterator[shmplane.Plane]:
    require_lock(request.param)
    with shmplane.Plane("made", lock=request.param, max_processes=32, capacity="64MiB") as plane:
        yield plane
        plane.destroy()


# Which one


def test_a_plane_keeps_the_kind_that_it_was_made_with(made: shmplane.Plane) -> None:
    kind: Any = made.stats().lock
    assert kind in KINDS
    program = "import shmplane\nwith shmplane.Plane('made') as plane: print(plane.stats().lock); plane['a'] = 1"
    assert run_python(program).stdout.strip() == kind
    assert made["a"] == 1
    with shmplane.Plane("made", lock=kind):
        pass
    other = KINDS[1 - KINDS.index(kind)]
    for open_it in (partial(shmplane.Plane, "made", lock=other), partial(_open_elsewhere, other)):
        with pytest.raises(shmplane.PlaneMismatch, match=f"has lock='{kind}', asked for '{other}'"):
            open_it()


def _open_elsewhere(lock: str) -> None:
    done = run_python(
        f"import shmplane\ntry: shmplane.Plane('made', lock={lock!r})\nexcept shmplane.PlaneMismatch as e: print(e)"
    )
    raise shmplane.PlaneMismatch(done.stdout)


def test_the_word_is_the_default_where_the_core_is(monkeypatch: pytest.MonkeyPatch) -> None:
    require_core()
    with shmplane.Plane.temporary() as plane:
        assert plane.stats().lock == "word"
    monkeypatch.setenv("SHMPLANE_PURE", "1")
    with shmplane.Plane.temporary() as plane:
        assert plane.stats().lock == "ofd"


@pytest.mark.parametrize(
    ("lock", "error"), [("flock", ValueError), ("", ValueError), (1, TypeError), (b"ofd", TypeError)]
)
def test_there_are_no_other_kinds(lock: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="lock is 'word', 'ofd' or None, not"):
        shmplane.Plane("never", lock=lock)
    with pytest.raises(error, match="lock is 'word', 'ofd' or None, not"):
        shmplane.Plane.temporary(lock=lock)


def test_without_the_core_a_word_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch, plane_root: Path) -> None:
    monkeypatch.setenv("SHMPLANE_PURE", "1")
    with pytest.raises(shmplane.PlaneMismatch, match=r"needs the compiled core: SHMPLANE_PURE is set.*lock='ofd'"):
        shmplane.Plane("never", lock="word")
    assert not list(plane_root.glob("*/*"))


WITHOUT_CORE = """
import os
os.environ["SHMPLANE_PURE"] = "1"
import shmplane
try:
    shmplane.Plane("made")
except shmplane.PlaneMismatch as error:
    print(error)
else:
    raise SystemExit("it was opened")
"""


@pytest.mark.parametrize("made", ["word"], indirect=True)
def test_who_has_no_core_is_told_the_cure(made: shmplane.Plane) -> None:
    said = run_python(WITHOUT_CORE).stdout
    assert "has lock='word', which needs the compiled core, and this process has none: SHMPLANE_PURE is set." in said
    assert "Install shmplane with its core, or make the plane with lock='ofd'" in said
    made["a"] = 1  # and nothing has happened to it
    assert made["a"] == 1


def test_both_kinds_of_process_share_a_plane_of_the_other_lock(plane_root: Path) -> None:
    require_core()
    program = "import shmplane\nfor n in range(300): shmplane.Plane('made')[f'{n % 7}'] = bytes(900)"
    with shmplane.Plane("made", lock="ofd") as plane:
        children = [Forked(partial(run_python, program, env={"SHMPLANE_PURE": pure})) for pure in ("0", "1")]
        for number in range(300):
            plane[f"{number % 7}"] = bytes(800)
        for child in children:
            child.wait()
        plane.gc()
        assert not faults_of(plane)
        assert {len(plane[name]) for name in plane.names()} <= {800, 900}
        plane.destroy()


def test_a_kind_that_cannot_be_is_said_so(made: shmplane.Plane) -> None:
    kind = header_of(made).lock[0]
    header_of(made).lock[0] = 7
    try:
        with pytest.raises(shmplane.PlaneCorrupt, match="its lock is of no kind that there is"):
            raise shmplane.PlaneCorrupt(run_python(CORRUPT).stdout)
    finally:
        header_of(made).lock[0] = kind


CORRUPT = """
import shmplane
try:
    shmplane.Plane("made")
except shmplane.PlaneCorrupt as error:
    print(error)
"""


# What is done with it


def test_from_who_is_killed_in_a_transaction_the_next_one_takes_it_and_recovers(made: shmplane.Plane) -> None:
    made["a"] = b"1" * 900
    for _ in range(3):
        status, _said = Forked(partial(die_in_a_transaction, made)).end()
        assert status is not None
        made["a"] = b"2" * 900
    made.gc()
    assert not faults_of(made)
    assert made.stats().processes == 1


def test_who_is_killed_while_it_joins_with_the_lock_in_hand_holds_nobody_up(made: shmplane.Plane) -> None:
    program = """
import os, signal, shmplane
from shmplane.plane.process import join
join.reclaim_dead = lambda tx, joining: os.kill(os.getpid(), signal.SIGKILL)
shmplane.Plane("made")
"""
    for _ in range(2):
        assert run_python(program, check=False).returncode == -signal.SIGKILL
        made["a"] = b"1"
    made.gc()
    assert (made.stats().processes, faults_of(made)) == (1, [])


def test_a_stopped_owner_keeps_it_and_loses_nothing(made: shmplane.Plane) -> None:
    made["a"] = 1
    lock = made.lock("a")
    with stopped_inside(made) as neighbour, stranger_to(made) as stranger:
        for _ in range(3):
            assert not stranger.take()
            with pytest.raises(shmplane.LockTimeout):
                lock.acquire(0.1)
        assert f"process {neighbour.pid} holds it" in str(plane_lock(made).timed_out(1.0))
        assert neighbour.has_it
        neighbour.go_on()
    assert made["a"] == 1
    made.gc()
    assert not faults_of(made)


def test_a_forked_child_takes_it_by_a_mark_of_its_own(made: shmplane.Plane) -> None:
    parents = slot_of(made)

    def be_child() -> None:
        assert slot_of(made) != parents
        made["a"] = b"1" * 900
        change(made, lambda tx: None)

    run_forked(be_child)
    assert bytes(made["a"]) == b"1" * 900


def test_a_child_forked_inside_of_a_transaction_gives_back_nothing_of_its_parents(made: shmplane.Plane) -> None:
    """It goes up the stack of its parent's call, which ends with giving the lock back."""
    ours, seen = os.getpid(), []

    def fork(tx: Any) -> None:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            with stranger_to(made) as stranger:
                seen.append(stranger.take())

    try:
        change(made, fork)
    finally:
        if os.getpid() != ours:
            os._exit(0)
    assert seen == [False]
    made["a"] = 1
    assert made["a"] == 1


@pytest.mark.parametrize("made", ["word"], indirect=True)
def test_many_may_join_at_once(made: shmplane.Plane) -> None:
    children = [Forked(_open_and_put) for _ in range(3)]
    for child in children:
        child.wait()
    made.gc()
    assert (made.stats().processes, faults_of(made)) == (1, [])


def _open_and_put() -> None:
    for _ in range(2):
        run_python("import shmplane\nwith shmplane.Plane('made') as plane: plane['a'] = 1")


@pytest.mark.parametrize("made", ["word"], indirect=True)
def test_who_finds_no_seat_to_join_from_is_told_so_and_others_go_on(made: shmplane.Plane, plane_root: Path) -> None:
    with stranger_to(made) as stranger:
        for seat in range(256):
            seat_of(made, stranger.fd, [seat])
        said = run_python(JOIN).stdout
        assert "LockTimeout: all seats of processes that join plane 'made' or look at it are taken" in said
        made["a"] = 1
        assert observe.summary_of("made").names == 1  # read without the lock
    assert run_python(JOIN).stdout.strip() == "joined"


JOIN = """
import shmplane
try:
    shmplane.Plane("made")
    print("joined")
except shmplane.LockTimeout as error:
    print(f"LockTimeout: {error}")
"""


@pytest.mark.parametrize("made", ["word"], indirect=True)
@pytest.mark.parametrize("word", [2**64 - 1, 0x3FFF, 32 + 256 + 1, 2**63 | 300 << 16 | 0x3000])
def test_a_word_that_was_written_over_is_said_so_and_the_plane_can_be_destroyed(
    made: shmplane.Plane, word: int
) -> None:
    made["a"] = b"1" * 900
    view = made["a"]
    header_of(made).lock_word[0] = word
    for call in (partial(made.put, "a", b"2" * 900), made.gc, made.stats, partial(observe.summary_of, "made")):
        with pytest.raises(shmplane.PlaneCorrupt, match=r"the lock word says that .* Somebody wrote over it"):
            call()
    assert bytes(view) == b"1" * 900
    made.destroy()
    assert bytes(view) == b"1" * 900
    assert "made" not in observe.plane_names(os.environ["SHMPLANE_ROOT"])


def test_each_wait_for_it_is_counted_once(made: shmplane.Plane) -> None:
    for _ in range(2):
        made["a"] = b"1" * 900  # from the second time on by the core, where there is one
    before = sum(sum(bucket) for bucket in counters_of(made).waits)
    for _ in range(3):
        with stranger_to(made) as stranger:
            assert stranger.take()
            threading.Timer(0.1, stranger.give).start()
            made["a"] = b"2" * 900
    assert sum(sum(bucket) for bucket in counters_of(made).waits) == before + 3


def test_a_process_that_looks_takes_no_slot_and_keeps_nobody_out(made: shmplane.Plane) -> None:
    with observe.reading("made") as reading:
        assert len(reading.summary().processes) == 1
        made["a"] = 1
        assert run_python(JOIN).stdout.strip() == "joined"
        assert reading.summary().names == 1
