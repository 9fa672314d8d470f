"""Scopes under exceptions of signal handlers: at every bytecode, again and again, and in storms of real signals."""

from __future__ import annotations

import gc
import random
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

import anyio
import pytest

from shmplane import scopes
from shmplane.scopes import AsyncScope, Scope
from tests.scopes.landing import KINDS, Signals, Thing, all_in, began_to_leave, landed_in_the_library, sweep

ALL = ["enter", "own", "file", "own with close", "callback", "release", "directory"]
#: what a scope takes in, and which of them fail
SETS = {
    "one": (["own"], []),
    "two, one fails": (["enter", "callback"], [1]),
    "three, two fail": (["callback", "own with close", "enter"], [0, 2]),
    "four of other kinds": (["release", "file", "directory", "own"], [3]),
    "all": (ALL, []),
}
ASYNC = ["enter async", "own", "callback", "enter", "own with close"]
#: so many points of a set with one kind of exception when not all
SAMPLE = 25


def things_of(ways: list[str], failing: list[int]) -> list[Thing]:
    return [Thing(way, OSError(5, "disk") if index in failing else None) for index, way in enumerate(ways)]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path, caplog) -> Iterator[None]:
    """Cleanup errors are logged, scopes that no ``with`` ended warn: not the point here. Files lie in a place of ours."""
    import tempfile

    caplog.set_level("CRITICAL", "shmplane.scopes")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def play(ways: list[str], failing: list[int], signals: Signals) -> list[str]:
    """One scope, disturbed; what is wrong afterwards."""
    things = things_of(ways, failing)
    scope = signals.scope = Scope("disturbed")

    def use() -> None:
        with scope:
            for thing in things:
                thing.be_taken(scope)

    came = signals.disturb(use)
    faults = []
    # Two are survived wherever they land; a third may hit the very bytecode behind the handling of the second.
    if len(signals.raised) <= 2 and all(began_to_leave(error, Scope.__exit__) for error in signals.raised):
        faults += [f"at the end of with: {fault}" for thing in things for fault in thing.faults()]
    later: BaseException | None = None
    try:
        scope.close()
    except BaseException as error:
        later = error
    faults += [fault for thing in things for fault in thing.faults()]
    lost = [error for error in signals.raised if id(error) not in all_in(came) | all_in(later)]
    if signals.raised and len(lost) == len(signals.raised):
        faults.append(f"the handler's exception did not come out, but {came!r}")
    faults += [str(resource) for resource in scopes.report() if resource.scope == "disturbed"]
    return faults


def play_async(backend: str, signals: Signals) -> list[str]:
    """The same with an AsyncScope. What lands in the event loop itself ends that, which is not ours to mend."""
    things = [Thing(way, OSError(5, "disk") if way == "own" else None) for way in ASYNC]
    scope = signals.scope = AsyncScope("disturbed", grace=5)
    left = [False]

    async def use() -> None:
        async with scope:
            for thing in things:
                if thing.way == "enter async":
                    await scope.enter_async(thing)
                    thing.taken = True
                else:
                    thing.be_taken(scope)
        left[0] = True

    came = signals.disturb(lambda: anyio.run(use, backend=backend))
    if "TrioInternalError" in repr(came):
        return []

    async def close() -> None:
        await scope.close()

    later: BaseException | None = None
    try:
        anyio.run(close, backend=backend)
    except BaseException as error:
        later = error
    faults = [fault for thing in things for fault in thing.faults()]
    # Of several, the event loop may pass on the last one alone.
    came_out = {id(error) for error in signals.raised} & (all_in(came) | all_in(later))
    if not came_out and any(landed_in_the_library(error) for error in signals.raised):
        faults.append(f"the handler's exception did not come out, but {came!r}")
    return faults


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("more", [0, 1, 3])
@pytest.mark.parametrize("chosen", SETS)
def test_every_cleanup_runs_once_whatever_a_signal_handler_raises_and_where(chosen, kind, more) -> None:
    sweep(lambda signals: play(*SETS[chosen], signals), kind, most=SAMPLE, more=more)


# What lands in the event loop itself leaves its coroutines and tasks behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_every_cleanup_of_an_async_scope_runs_once(backend, kind, more) -> None:
    sweep(lambda signals: play_async(backend, signals), kind, most=SAMPLE, more=more)


@pytest.mark.sweep
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("more", [0, 1, 2, 5])
@pytest.mark.parametrize("chosen", SETS)
def test_at_every_bytecode(chosen, kind, more) -> None:
    print(sweep(lambda signals: play(*SETS[chosen], signals), kind, most=None, more=more), "points")


@pytest.mark.sweep
@pytest.mark.timeout(3000)
# What lands in the event loop itself leaves its coroutines, tasks and nurseries behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_at_every_bytecode_of_an_async_scope(backend, kind, more) -> None:
    print(sweep(lambda signals: play_async(backend, signals), kind, most=None, more=more), "points")


# -- storms of real signals


class Storm:
    """Scopes under a timer that raises again and again; every thing is cleaned up once, and every round ends."""

    def __init__(self, kind: type[BaseException], seed: int) -> None:
        self.kind, self.chance = kind, random.Random(seed)
        self.rounds = self.landed = 0
        self.raises = False

    def run(self, seconds: float) -> None:
        before = signal.signal(signal.SIGALRM, self._raise)
        limit = time.monotonic() + seconds
        try:
            while time.monotonic() < limit:
                self._play()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        # Not in the frame of the test, whose own except would be left by it.
        if self.raises and frame is not None and frame.f_code is not Storm._play.__code__:
            self.landed += 1
            raise self.kind("storm")

    def _play(self) -> None:
        things = things_of(["own", "enter", "callback", "own with close", "directory", "own"], [1])
        scope = Scope("storm")
        self.raises = True
        try:
            with scope:
                for thing in things:
                    thing.be_taken(scope)
                signal.setitimer(signal.ITIMER_REAL, self.chance.uniform(2e-6, 1e-4), self.chance.uniform(1e-4, 4e-4))
            self.raises = False
        except BaseException:
            self.raises = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(BaseException):
            scope.close()
        assert [fault for thing in things for fault in thing.faults()] == []
        self.rounds += 1


@pytest.mark.parametrize("kind", [TimeoutError, RuntimeError, KeyboardInterrupt])
def test_every_cleanup_runs_once_in_a_storm_of_signals(kind) -> None:
    storm = Storm(kind, seed=1)
    storm.run(0.7)
    assert storm.rounds > 0
    assert storm.landed > 0


@pytest.mark.sweep
@pytest.mark.parametrize("kind", [TimeoutError, RuntimeError, KeyboardInterrupt])
def test_a_long_storm(kind) -> None:
    storm = Storm(kind, seed=2)
    storm.run(30)
    print(storm.rounds, "rounds", storm.landed, "signals")
