"""The scope for asyncio and trio."""

# ruff: noqa: PT012  (the block that raises is the scope, with what it holds)

from __future__ import annotations

import asyncio
import random

import anyio
import anyio.lowlevel
import pytest
import trio

from shmplane import scopes
from shmplane.scopes import AsyncScope

BACKENDS = ["asyncio", "trio"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def run(backend: str, main, *args):
    return anyio.run(main, *args, backend=backend)


class Resource:
    """Takes its time to close, and notes that it was closed."""

    def __init__(self, log: list[object], name: object, *, error: Exception | None = None, seconds=0.001) -> None:
        self.log, self.name, self.error, self.seconds = log, name, error, seconds

    async def aclose(self) -> None:
        await anyio.sleep(self.seconds)
        self.log.append(self.name)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        raise AssertionError("aclose comes first")


def test_a_cancellation_goes_on_as_it_is_and_everything_is_closed(backend, caplog) -> None:
    log: list[object] = []

    async def main() -> None:
        with anyio.move_on_after(0.02) as cancelled:
            async with AsyncScope() as scope:
                scope.own(Resource(log, "a"))
                scope.own(Resource(log, "b", error=OSError("disk")))
                await anyio.sleep(10)
        assert cancelled.cancelled_caught

    run(backend, main)
    assert log == ["b", "a"]
    assert "disk" in caplog.text


def test_a_cleanup_that_takes_too_long_is_left_behind(backend) -> None:
    log: list[object] = []

    async def main() -> None:
        async with AsyncScope(grace=0.05) as scope:
            scope.own(Resource(log, "a"))
            scope.own(Resource(log, "hangs", seconds=60))

    with pytest.raises(ExceptionGroup) as raised:
        run(backend, main)
    assert isinstance(raised.value.exceptions[0], TimeoutError)
    assert log == ["a"]


def test_on_asyncio_a_cleanup_survives_cancellation_again_and_again() -> None:
    log: list[object] = []

    async def use() -> None:
        async with AsyncScope() as scope:
            scope.own(Resource(log, "a", seconds=0.02))
            scope.own(Resource(log, "b", seconds=0.02))
            await asyncio.sleep(10)

    async def main() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(0)
        while not task.done():
            for other in asyncio.all_tasks() - {asyncio.current_task()}:
                other.cancel()
            await asyncio.sleep(0.001)
        assert task.cancelled()

    asyncio.run(main())
    assert log == ["b", "a"]


def test_a_cancellation_during_a_quiet_close_is_raised_afterwards() -> None:
    log: list[object] = []

    async def main() -> None:
        scope = AsyncScope()
        scope.own(Resource(log, "a", seconds=0.02))
        task = asyncio.create_task(scope.close())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert log == ["a"]


def test_asyncio_timeout_works_around_a_scope() -> None:
    log: list[object] = []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), AsyncScope() as scope:
                scope.own(Resource(log, "a"))
                await asyncio.sleep(10)

    asyncio.run(main())
    assert log == ["a"]


def test_bad_grace_is_refused() -> None:
    with pytest.raises(ValueError, match="grace"):
        AsyncScope(grace=-1)


# -- ten thousand scopes


class Trial:
    """One scope with random resources, errors and cancellations; says whether all was closed."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.expected: list[int] = []
        self.closed: list[object] = []

    def resource(self, number: int) -> Resource:
        error = OSError(number) if self.chance.random() < 0.2 else None
        self.expected.append(number)
        return Resource(self.closed, number, error=error, seconds=self.chance.choice([0, 0, 0.0005]))

    async def use(self) -> None:
        async with AsyncScope() as scope:
            for number in range(self.chance.randrange(1, 5)):
                scope.own(self.resource(number))
                if self.chance.random() < 0.3:
                    await anyio.sleep(self.chance.random() * 0.001)
            if self.chance.random() < 0.3:
                raise KeyError
            await anyio.sleep(self.chance.random() * 0.002)

    @property
    def ended_well(self) -> bool:
        return self.closed == self.expected[::-1]


async def on_asyncio(trials: list[Trial]) -> None:
    async def storm(trial: Trial) -> None:
        task = asyncio.create_task(trial.use())
        await asyncio.sleep(trial.chance.random() * 0.003)
        for _ in range(trial.chance.randrange(8)):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(task, return_exceptions=True)

    for start in range(0, len(trials), 250):
        await asyncio.gather(*map(storm, trials[start : start + 250]))


async def on_trio(trials: list[Trial]) -> None:
    async def storm(trial: Trial) -> None:
        # Cancelled by scopes inside each other, each with its own time.
        with (
            trio.move_on_after(trial.chance.random() * 0.006),
            trio.move_on_after(trial.chance.random() * 0.003),
        ):
            try:
                await trial.use()
            except* (KeyError, OSError):
                pass

    for start in range(0, len(trials), 250):
        async with trio.open_nursery() as nursery:
            for trial in trials[start : start + 250]:
                nursery.start_soon(storm, trial)


def closes_everything(backend: str, count: int, seed: int) -> None:
    chance = random.Random(seed)
    trials = [Trial(random.Random(chance.random())) for _ in range(count)]
    if backend == "asyncio":
        asyncio.run(on_asyncio(trials))
    else:
        trio.run(on_trio, trials)
    assert sum(trial.ended_well for trial in trials if trial.expected) == sum(bool(trial.expected) for trial in trials)
    assert scopes.report() == []


def test_what_is_no_async_context_manager_is_a_type_error_at_the_call() -> None:
    async def misuse() -> None:
        async with AsyncScope() as scope:
            with pytest.raises(TypeError, match="__aenter__"):
                await scope.enter_async(open)  # type: ignore[arg-type]

    asyncio.run(misuse())


@pytest.mark.parametrize("seed", range(2))
def test_scopes_close_everything_under_random_errors_and_cancellation(backend, seed, caplog) -> None:
    caplog.set_level("CRITICAL")
    closes_everything(backend, 500, seed)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_scopes_close_everything(backend, seed, caplog) -> None:
    caplog.set_level("CRITICAL")
    closes_everything(backend, 1000, 100 + seed)
