"""The lock word: one process at a time has it, whoever is killed, stopped or forked, at any store."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.word_scenarios import (
    AWAITED,
    CHOREOGRAPHIES,
    COUNT,
    FAIR_S,
    HEIR,
    LOST,
    MARKS,
    OFFERED,
    OVER,
    OWNER,
    WORD,
    Child,
    Choreography,
    Party,
    Table,
    flood,
    perform,
    table,
)
from tests.support.forked import run_forked
from tests.support.requires import require_core
from tests.support.waiting import HANG_S


@pytest.fixture(autouse=True)
def _with_the_core() -> None:
    require_core()


@pytest.fixture
def around(plane_root: Path) -> Iterator[Table]:
    with table(plane_root) as made:
        yield made


def take_it(party: Party) -> None:
    assert party.take(HANG_S)


# One after the other


def test_one_has_it_at_a_time_and_gives_it_back(around: Table) -> None:
    first, second = around.sit(0), around.sit(1)
    assert first.take()
    assert (around.owner, second.take(), second.take(0.01)) == (1, False, False)
    assert second.lock.is_held_elsewhere()
    assert not first.lock.is_held_elsewhere()
    second.give()  # it has nothing but its wish
    assert around.owner == 1
    first.give()
    first.give()
    assert second.take()
    assert around.owner == 2


def test_a_time_out_is_held_and_leaves_nothing(around: Table) -> None:
    first, second = around.sit(0), around.sit(1)
    first.take()
    assert not second.take(0.05)
    assert around.heir == 2
    second.give()
    assert (around.owner, around.heir) == (1, 0)


def test_who_waits_is_woken(around: Table) -> None:
    first, second = around.sit(0), around.sit(1)
    first.take()
    waiting = threading.Thread(target=take_it, args=[second])
    waiting.start()
    while not around.word & AWAITED:
        time.sleep(0.0005)
    first.give()
    waiting.join(HANG_S)
    assert around.owner == 2


@pytest.mark.parametrize("is_heir", [False, True])
def test_who_sleeps_is_woken_and_does_not_sleep_on(around: Table, is_heir: bool) -> None:
    """By the quickest of many, since a machine may be busy: half a slice or more is what it took who was not woken."""
    owner, other, took = around.sit(0), around.sit(1), list[float]()
    for _ in range(20):
        owner.take()
        if not is_heir:
            around.words[WORD] |= HEIR  # somebody who cannot be is that
        waiting = threading.Thread(target=other.lock.wait, args=[0.2, 60.0])
        waiting.start()
        while not around.word & AWAITED:
            time.sleep(0)
        time.sleep(0.001)  # by then it sleeps
        began = time.monotonic()
        owner.give()
        while around.owner != other.mark or around.word & OFFERED:
            time.sleep(0)
        took.append(time.monotonic() - began)
        waiting.join()
        other.give()
    assert min(took) < 0.05


def test_who_has_slept_wakes_who_sleeps_still(around: Table) -> None:
    """One is woken at a time, and whoever was quicker than the one who was woken knew of nobody."""
    owner, woken = around.sit(0), around.sit(1)
    owner.take()
    assert not woken.lock.wait(0.001, 0.001)
    owner.give()
    assert around.word & AWAITED == 0
    assert woken.lock.wait(0.002, 1.0)
    assert around.word & AWAITED


def test_who_waited_long_is_handed_it_and_nobody_gets_in_between(around: Table) -> None:
    owner, heir, other = around.sit(0), around.sit(1), around.sit(2)
    owner.take()
    heir.become_heir()
    assert not other.lock.wait(FAIR_S, 0.001)
    assert around.heir == 2  # the first one is
    owner.give()
    assert around.word & OFFERED
    assert not owner.take()
    assert not other.take()
    assert heir.take()
    assert (around.owner, around.word & OFFERED) == (2, 0)


def test_an_interrupted_heir_hands_on_what_it_was_offered(around: Table) -> None:
    owner, heir, other = around.sit(0), around.sit(1), around.sit(2)
    owner.take()
    heir.become_heir()
    owner.give()
    heir.give()
    assert other.take()


# Killed, stopped


def test_from_a_killed_owner_it_is_taken_at_once(around: Table) -> None:
    survivor = around.sit(0)
    for slot in range(1, 4):
        child = Child(around, slot, take_it)
        assert child.is_there()
        assert child.go_on()
        assert not survivor.lock.try_lock()
        child.kill()
        assert survivor.lock.try_lock()
        survivor.give()


def test_who_sleeps_takes_it_from_an_owner_that_is_killed_meanwhile(around: Table) -> None:
    survivor = around.sit(0)
    child = Child(around, 1, take_it)
    assert child.is_there()
    assert child.go_on()
    waiting = threading.Thread(target=take_it, args=[survivor])
    waiting.start()
    while around.heir != 1:
        time.sleep(0.001)
    child.kill()
    waiting.join(HANG_S)
    assert around.owner == 1


def test_who_sleeps_takes_what_was_given_back_by_one_who_was_killed_before_it_woke_anybody(around: Table) -> None:
    owner, other = around.sit(0), around.sit(1)
    owner.take()
    waiting = threading.Thread(target=take_it, args=[other])
    waiting.start()
    while around.heir != 2:
        time.sleep(0.001)
    around.words[WORD] = around.word & ~(OWNER | AWAITED | HEIR)  # the store, and nothing after it
    waiting.join(HANG_S)
    assert around.owner == 2


def test_from_a_stopped_owner_it_is_never_taken(around: Table) -> None:
    survivor = around.sit(0)
    child = Child(around, 1, take_it, Party.give)
    assert child.is_there()
    assert child.go_on()
    child.stop()
    for seconds in (0.0, 0.003, 0.3):
        assert not survivor.take(seconds)
        assert around.owner == 2
        survivor.give()
    child.let_go_on()
    assert child.go_on()
    assert survivor.take()
    child.kill()


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_an_heir_that_cannot_take_what_it_is_offered_holds_nobody_up(around: Table, end: str) -> None:
    owner, other = around.sit(0), around.sit(1)
    child = Child(around, 2, Party.become_heir, take_it)
    assert child.is_there()
    owner.take()
    assert child.go_on()
    assert around.heir == 3
    child.stop() if end == "stopped" else child.kill()
    owner.give()
    assert (around.owner, around.word & OFFERED) == (3, OFFERED)
    assert other.take(HANG_S)
    if end == "stopped":
        child.let_go_on()
        child.start()
        time.sleep(0.02)
        assert around.owner == 2  # what it was offered is gone, and it waits on
        other.give()
        assert child.is_there()
        assert around.owner == 3
        child.kill()


def test_the_same_mark_in_the_same_term_is_the_same_process(around: Table) -> None:
    """Or who saw a dead owner could take the lock from a living one that has its slot by now."""
    seen = set()
    for _ in range(3):
        first = around.sit(0)
        assert first.take()
        assert around.word not in seen
        seen.add(around.word)
        first.give()
        first.leave()  # in peace
        child = Child(around, 0, take_it)
        assert child.is_there()
        assert child.go_on()
        assert around.word not in seen
        seen.add(around.word)
        child.kill()  # and the next one has its mark


# Forked


def test_a_child_of_the_owner_does_not_count_and_unlocks_nothing(around: Table) -> None:
    owner = around.sit(0)
    owner.take()
    before = around.word

    def try_all() -> None:
        owner.give()
        assert around.word == before
        assert owner.lock.take() == 1
        with pytest.raises(OSError, match="descriptor"):
            owner.lock.wait(0.0, 0.01)
        assert around.word == before

    run_forked(try_all)
    pid = ctypes.PyDLL(None).fork()  # no hook of Python's runs
    if pid == 0:
        code = 1
        try:
            try_all()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert around.word == before
    owner.give()
    assert around.owner == 0


def test_who_lost_its_token_takes_nothing(around: Table) -> None:
    party = around.sit(0)
    os.close(party.fd)
    assert os.open(around.tokens, os.O_RDWR | os.O_CLOEXEC) == party.fd  # somebody else's, under the same number
    assert party.lock.take() == 1
    with pytest.raises(OSError, match="descriptor"):
        party.lock.try_lock()
    assert around.word == 0


# Signals


def test_a_signal_ends_a_wait_and_its_handler_runs(around: Table) -> None:
    class Raised(Exception):
        pass

    def raise_it(*_: object) -> None:
        raise Raised

    owner, other = around.sit(0), around.sit(1)
    owner.take()
    before = signal.signal(signal.SIGALRM, raise_it)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Raised):
            other.take(HANG_S)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other.give()
    assert (around.owner, around.heir) == (1, 0)


def test_signals_all_the_time_keep_nobody_from_seeing_that_the_owner_died(around: Table) -> None:
    survivor = around.sit(0)
    child = Child(around, 1, take_it)
    assert child.is_there()
    assert child.go_on()
    signals = [0, 0]

    def count(*_: object) -> None:
        signals[0] += 1

    def kill() -> None:
        child.kill()
        signals[1] = signals[0]

    before = signal.signal(signal.SIGALRM, count)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        killing = threading.Timer(0.03, kill)
        killing.start()
        assert survivor.take(3.0)
        killing.join()
        assert signals[0] - signals[1] < 1_000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Written over


@pytest.mark.parametrize("word", [OWNER, 2**64 - 1, MARKS + 1, (MARKS + 1) | OFFERED | AWAITED | HEIR])
def test_an_owner_that_cannot_be_is_an_error(around: Table, word: int) -> None:
    party = around.sit(0)
    around.words[WORD] = word
    assert party.lock.take() == 1
    with pytest.raises(ValueError, match="the lock word says that"):
        party.lock.try_lock()
    with pytest.raises(ValueError, match="the lock word says that"):
        party.lock.wait(0.0, 1.0)
    party.give()
    assert around.owner == word & OWNER


def test_whatever_the_word_says_nobody_hangs_and_a_living_owner_keeps_it(around: Table) -> None:
    choice, owner, other = random.Random(1), around.sit(0), around.sit(1)
    for _ in range(3_000):
        other.give()
        around.words[WORD] = (
            choice.getrandbits(64) if choice.random() < 0.3 else choice.getrandbits(64) & ~OWNER | owner.mark
        )
        is_owned = around.owner == owner.mark and not around.word & OFFERED
        try:
            had = other.lock.wait(choice.choice([0.0, 0.01, 1.0]), choice.choice([0.0, 1e-5, 1e-4]))
        except ValueError:
            had = False
        assert not (had and is_owned)
        if is_owned:
            assert around.owner == owner.mark
    around.words[WORD] = owner.mark | HEIR
    owner.give()  # to an heir that cannot be
    assert around.word & (OWNER | HEIR) == 0


def test_nothing_else_is_written_over_and_no_other_mark_is_taken(around: Table) -> None:
    from shmplane.core import _core

    for at, mark, marks in [(512, 1, 9), (0, 0, 9), (0, 10, 9), (0, 1, 2**14)]:
        with pytest.raises(ValueError, match="cannot be"):
            _core.LockWord(around.words, at, mark, marks, 0)
    with pytest.raises(TypeError):
        around.sit(0).lock.wait(*[0.0])


# All of it


@pytest.mark.parametrize("what", CHOREOGRAPHIES, ids=lambda what: what.name)
def test_death_at_any_store_to_the_word_keeps_nobody_from_it(plane_root: Path, what: Choreography) -> None:
    stores, killed = perform(plane_root, what, -1)
    assert stores
    assert not killed
    for at in range(1, stores + 1):
        assert perform(plane_root, what, at) == (0, True)


def test_processes_that_take_turns_never_meet_while_some_are_killed(around: Table) -> None:
    storm(around, deaths=30)


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_processes_that_take_turns_never_meet_while_many_are_killed(around: Table) -> None:
    storm(around, deaths=3_000)


def storm(around: Table, deaths: int) -> None:
    """Four flood the lock; so do others, with slots that are used again, until they are killed, some stopped before."""
    choice = random.Random(1)
    lasting = [Child(around, slot, flood) for slot in range(4)]
    for child in lasting:
        assert child.is_there()
        child.start()
    for death in range(deaths):
        child = Child(around, 4 + death % 2, flood)
        assert child.is_there()
        child.start()
        time.sleep(choice.uniform(0.0, 0.02))
        if death % 5 == 0:
            child.stop()
            time.sleep(choice.uniform(0.0, 0.03))
        child.kill()
    around.words[OVER] = 1
    for child in lasting:
        assert child.is_there()
        child.kill()
    assert around.words[LOST] == 0
    assert around.words[COUNT] > 10 * deaths
    assert around.sit(9).take(HANG_S)
