"""Death, and what signal handlers raise, at every point of every public call that writes or reads.

``python -m tests.crashes.sweep --all`` runs every point there is: at every store, at every store of the compiled core, at
every bytecode, inside recovery, and an exception of a signal handler at every bytecode, of each kind (see
``support.thrown``). It prints a line per sweep with the number of points, kills and residues, and ends with 1 when anything
was left behind, or when another exception came out than the handler raised. ``--points N`` takes a regular sample of N of
each kind instead. ``--only stores|native|bytecodes|recovery|interrupts|deadlines|...``, ``--scenario TEXT`` and ``--jobs N``
narrow it down or spread it out. ``--lock word|ofd`` says which lock the planes have; that of stores is a byte in any case.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing import Process, SimpleQueue
from typing import NamedTuple

from shmplane.manifest import LockKind
from tests.crashes.native_scenarios import NATIVE_SCENARIOS
from tests.crashes.scenarios import BY_NAME, DIES_AT_WORK, RECOVERED
from tests.crashes.spill_scenarios import SPILL_SCENARIOS
from tests.support import thrown
from tests.support.crashing import Scenario, Trigger, World
from tests.support.tracing import STORES, Bytecodes, NativeStores, wrap_columns

NEVER = 2**62
MOST_SHOWN = 5
KINDS = ["stores", "native", "bytecodes", "recovery", *thrown.KINDS, thrown.TWICE]


def all_by_name() -> dict[str, Scenario]:
    """Some need NumPy and Arrow, with which a fork takes three times as long: they are not loaded for the others."""
    from tests.crashes.cache_scenarios import CACHE_SCENARIOS
    from tests.crashes.draft_scenarios import DRAFT_SCENARIOS
    from tests.crashes.loading_scenarios import LOADING_SCENARIOS
    from tests.crashes.meter_scenarios import METER_SCENARIOS
    from tests.crashes.queue_scenarios import OVERTAKEN_SCENARIOS, QUEUE_SCENARIOS, RING_SCENARIOS
    from tests.crashes.rate_scenarios import RATE_SCENARIOS
    from tests.crashes.table_scenarios import TABLE_SCENARIOS

    drafts = DRAFT_SCENARIOS + TABLE_SCENARIOS
    work = [*QUEUE_SCENARIOS, *RATE_SCENARIOS, *RING_SCENARIOS, *OVERTAKEN_SCENARIOS]
    others = [
        *CACHE_SCENARIOS,
        *drafts,
        *work,
        *LOADING_SCENARIOS,
        *METER_SCENARIOS,
        *SPILL_SCENARIOS,
        *NATIVE_SCENARIOS,
    ]
    return BY_NAME | {scenario.name: scenario for scenario in others}


def names_for_two() -> list[str]:
    """Of those that are right after a second interrupt as well."""
    from tests.crashes.queue_scenarios import QUEUE_SCENARIOS, RING_SCENARIOS

    return [scenario.name for scenario in (*QUEUE_SCENARIOS, *RING_SCENARIOS)]


class Result(NamedTuple):
    """Of one sweep of one scenario."""

    kind: str
    name: str
    points: int
    kills: int
    problems: list[str]
    seconds: float


def points_of(count: int, sample: int | None) -> list[int]:
    """All of 1 to ``count``, or a regular sample: the same in each run on this Python, others on the ones before and after."""
    if sample is None or sample >= count:
        return list(range(1, count + 1))
    shift = sys.version_info.minor % 3
    return sorted({1 + (3 * index + shift) * count // (3 * sample) for index in range(sample)})


def sweep(
    world: World, scenario: Scenario, kind: str, *, sample: int | None = None, share: float | None = None
) -> Result:
    """Every point of one scenario, or a sample; ``share`` of the points when the number is not known before."""
    interrupts = kind if kind in thrown.KINDS or kind == thrown.TWICE else None
    trigger = _trigger(kind, interrupts=interrupts is not None)
    started = time.perf_counter()
    if scenario.name not in world.warmed:
        world.run(scenario, trigger, NEVER, interrupts=interrupts)  # the first one has other things to do
        world.warmed.add(scenario.name)
    # What handlers raise makes no difference until one does.
    counted = scenario.name, interrupts is not None
    whole = world.whole.get(counted) or world.run(scenario, trigger, NEVER, interrupts=interrupts)
    if not whole.problems and kind != "stores":
        world.whole[counted] = whole
    if kind == "stores":  # so may the second, when the first found a cell among what was garbage
        whole = min(whole, world.run(scenario, trigger, NEVER, interrupts=interrupts), key=lambda run: run.points)
    problems = [f"{scenario.name}, not disturbed: {problem}" for problem in whole.problems]
    if not whole.points:
        problems.append(f"{scenario.name}, {kind}: there is no point to disturb it at")
    if share is not None:
        sample = max(1, round(whole.points * share))
    points = [0, *points_of(whole.points, sample)] if kind == "stores" else points_of(whole.points, sample)
    kills = 0
    for at in points:
        outcome = world.run(scenario, trigger, at, interrupts=interrupts)
        kills += outcome.killed
        problems += [f"{scenario.name}, {kind} {at} of {whole.points}: {problem}" for problem in outcome.problems]
    return Result(kind, scenario.name, len(points), kills, problems, time.perf_counter() - started)


def _trigger(kind: str, *, interrupts: bool) -> Trigger:
    if kind == "stores":
        return STORES
    return NativeStores() if kind == "native" else Bytecodes(interrupt=interrupts)


def sweep_recovery(
    world: World, scenario: Scenario, first: int, *, sample: int | None, share: float | None = None
) -> Result:
    """Kill at the ``first`` store, and then whoever recovers, at every bytecode of that."""
    started = time.perf_counter()
    trigger = Bytecodes()
    whole = world.run(scenario, STORES, first, second=(trigger, NEVER))
    problems = [f"{scenario.name} {first}, recovered: {problem}" for problem in whole.problems]
    if not whole.points:
        problems.append(f"{scenario.name} {first}: nothing was recovered")
    if share is not None:
        sample = max(1, round(whole.points * share))
    points = points_of(whole.points, sample)
    kills = 0
    for at in points:
        outcome = world.run(scenario, STORES, first, second=(trigger, at))
        kills += outcome.killed
        problems += [
            f"{scenario.name} {first}, recovery killed at {at} of {whole.points}: {problem}"
            for problem in outcome.problems
        ]
    name = f"recovery after: {scenario.name}, store {first}"
    return Result("recovery", name, len(points), kills, problems, time.perf_counter() - started)


def run_recovery(
    root: str, scenarios: list[Scenario], *, sample: int | None, share: float | None = None
) -> Iterator[Result]:
    """First the sweep of stores inside recovery, all of them, then that of bytecodes."""
    wrap_columns()
    world = World(root, capacity=32 << 20)
    try:
        if DIES_AT_WORK in scenarios:
            yield sweep_recovery(world, DIES_AT_WORK, NEVER, sample=sample, share=share)
        for name in RECOVERED:
            if BY_NAME[name] in scenarios:
                world.run(BY_NAME[name], STORES, NEVER)
                count = world.run(BY_NAME[name], STORES, NEVER).points
                for part in (1, 2, 3):
                    yield sweep_recovery(world, BY_NAME[name], count * part // 4, sample=sample, share=share)
    finally:
        world.close()


def _spill_of(root: str, scenarios: list[Scenario]) -> str | None:
    """The world's spill directory, for scenarios that need one."""
    return f"{root}/spill" if any(scenario in SPILL_SCENARIOS for scenario in scenarios) else None


def run(
    kind: str,
    scenarios: list[Scenario],
    root: str,
    *,
    sample: int | None,
    share: float | None = None,
    lock: LockKind | None = None,
) -> Iterator[Result]:
    if kind == "stores":
        wrap_columns()
    return run_kinds({kind: sample}, scenarios, root, share=share, lock=lock)


def run_kinds(
    samples: Mapping[str, int | None],
    scenarios: list[Scenario],
    root: str,
    *,
    share: float | None = None,
    lock: LockKind | None = None,
) -> Iterator[Result]:
    """Several kinds, each with its sample, in one world: what is undisturbed is looked at and counted once."""
    world = World(root, capacity=32 << 20, spill=_spill_of(root, scenarios), lock=lock)
    try:
        for scenario in scenarios:
            for kind, sample in samples.items():
                yield sweep(world, scenario, kind, sample=sample, share=share)
    finally:
        world.close()


def _work(job: tuple[str, str, int | None], lock: LockKind | None, say: SimpleQueue[Result | str | None]) -> None:
    kind, name, sample = job
    root = tempfile.mkdtemp(prefix="shmplane-sweep-", dir="/dev/shm")
    try:
        if kind == "recovery":
            results = run_recovery(root, [BY_NAME.get(name, DIES_AT_WORK)], sample=sample)
        else:
            results = run(kind, [all_by_name()[name]], root, sample=sample, lock=None if kind == "stores" else lock)
        for result in results:
            say.put(result)
    except BaseException:
        say.put(f"{kind} {name}: {traceback.format_exc()}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
        say.put(None)


def _run_jobs(jobs: list[tuple[str, str, int | None]], most: int, lock: LockKind | None) -> Iterator[Result | str]:
    """A fresh process per job, ``most`` at once: a sweep that is torn down cannot disturb another."""
    say: SimpleQueue[Result | str | None] = SimpleQueue()
    waiting, running = list(reversed(jobs)), 0
    while waiting or running:
        while waiting and running < most:
            Process(target=_work, args=(waiting.pop(), lock, say)).start()
            running += 1
        said = say.get()
        if said is None:
            running -= 1
        else:
            yield said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every point")
    parser.add_argument("--points", type=int, default=20, help="points of each scenario, unless --all")
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--scenario", default="", help="only those whose name has this in it")
    parser.add_argument("--lock", choices=["word", "ofd"], help="which lock the planes have")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    options = parser.parse_args()
    sample = None if options.all else options.points
    names = {kind: list(all_by_name()) for kind in KINDS}
    names["recovery"] = [DIES_AT_WORK.name, *RECOVERED]
    names[thrown.TWICE] = names_for_two()
    names["native"] = [scenario.name for scenario in NATIVE_SCENARIOS]
    jobs = [
        (kind, name, sample)
        for kind in ([options.only] if options.only else KINDS)
        for name in names[kind]
        if options.scenario in name
    ]
    totals: dict[str, list[float]] = {}
    failed = False
    for result in _run_jobs(jobs, options.jobs, options.lock):
        if isinstance(result, str):
            print(result, flush=True)
            failed = True
            continue
        print(
            _line(result.kind, result.name, result.points, result.kills, len(result.problems), result.seconds),
            flush=True,
        )
        for problem in result.problems[:MOST_SHOWN]:
            print("    " + problem.replace("\n", "\n    "), flush=True)
        failed = failed or bool(result.problems) or not result.points  # a sweep of nothing says nothing
        total = totals.setdefault(result.kind, [0, 0, 0, 0])
        for index, number in enumerate((result.points, result.kills, len(result.problems), result.seconds)):
            total[index] += number
    version = ".".join(map(str, sys.version_info[:3]))
    for kind, (points, kills, residues, seconds) in totals.items():
        print(_line(kind, f"all, on Python {version}", int(points), int(kills), int(residues), seconds))
    return int(failed)


def _line(kind: str, name: str, points: int, kills: int, residues: int, seconds: float) -> str:
    return f"{kind:10} {name:58} {points:7} points {kills:7} kills {residues:4} residues {seconds:8.1f} s"


if __name__ == "__main__":
    sys.exit(main())
