"""A manifest that somebody wrote over: the core does something or leaves it to Python, and never ends the process."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

import pytest

import shmplane
from shmplane.manifest import row_of_name_word
from tests.support.forked import Forked, run_forked
from tests.support.inside import (
    core_of,
    creations_of,
    leases_of,
    look_for_the_dead_later,
    manifest_of,
    native_stores,
    permit_by_core,
    permits_of,
    slot_of,
)
from tests.support.requires import require_core

VALUES = (
    0,
    1,
    2,
    3,
    4,
    63,
    64,
    255,
    4096,
    2**16,
    2**24 - 1,
    2**31,
    2**32 + 1,
    2**48,
    2**62 - 1,
    2**62,
    2**63,
    2**64 - 1,
)
NAMES = [b"a", b"b", b"c", b"new", b"gone", b"x" * 120]


class Tracked:
    """What stands for a lease, or for a block that is being made."""

    __slots__ = ("is_lease", "key", "segment_row")

    def __init__(self, key: int) -> None:
        self.key, self.is_lease, self.segment_row = key, True, -1


def write_over(seed: int, rounds: int) -> None:
    """In a process of its own: words anywhere in the tables, then a call of the core's, then all as it was."""
    choice = random.Random(seed)
    plane = shmplane.Plane.temporary(capacity="4MiB", max_blocks=64, max_processes=4)
    for value in (b"1" * 100, b"2" * 900, b"3" * 5_000):
        for name in ("a", "b", "c", "gone"):
            plane[name] = value  # of all sizes there is a cell, and the core knows its slab
    for value in (b"4" * 80_000, b"5" * 200_000):
        for _ in range(3):
            plane["a"], plane["gone"] = value, value  # segments of these sizes are warm, and mapped here
    plane["a"] = b"6" * 100
    del plane["gone"]
    held = [plane["a"]]
    semaphore = plane.semaphore("used", 3)
    semaphore.acquire()
    core, manifest, leases = core_of(plane), manifest_of(plane), leases_of(plane)
    creations, standing = creations_of(plane), Tracked(-1)
    assert core.reserve(b"b", 75_000, standing)
    assert creations
    starts = [table for table in manifest.tables() if type(table).__name__ not in {"Ghosts", "Groups"}]
    whole = manifest.words[: max(table.start + table.rows * table.row_words for table in starts)]
    permit, ticket = (row[:2] for row in manifest.permit_rows(slot_of(plane)))
    numbers, take_and_give = permits_of(plane)[b"s:used"].numbers, permit_by_core(plane, semaphore)
    counts = dict.fromkeys(["put", "assign", "sees", "delete", "lease", "permit", "put_large", "reserve", "publish"], 0)
    known, made = dict(leases), dict(creations)
    word = manifest.names.word[1]  # of b, which nobody leases
    segment_id = manifest.segments.id[manifest.blocks.segment[row_of_name_word(word)] - 1]
    image, at_rest = memoryview(bytes(whole)).cast("Q"), memoryview(bytes(numbers)).cast("q")
    for number in range(rounds):
        if number % 500 == 0:
            look_for_the_dead_later(plane)
            image = memoryview(bytes(whole)).cast("Q")
        for _ in range(choice.choice([0, 1, 1, 2, 3])):
            table = choice.choice(starts)
            at = table.start + choice.randrange(min(table.rows, 8) * table.row_words)
            whole[at] = choice.choice([*VALUES, choice.getrandbits(64), whole[choice.randrange(len(whole))]])
        if choice.random() < 0.1:
            choice.choice([permit, ticket])[choice.randrange(2)] = choice.choice(VALUES)
        if choice.random() < 0.1:
            numbers[choice.randrange(3)] = choice.choice([-1, 0, 1, 2, 511, 512, 2**40, 2**63 - 1, -(2**63)])
        act = choice.choice(list(counts))
        done: object
        if act == "permit":
            done = take_and_give()
        elif act == "put":
            done = core.put(choice.choice(NAMES), bytes(choice.choice([0, 90, 880, 4_900, 65_000])), b"frame", 3)
        elif act == "assign":
            done = core.assign(choice.choice(NAMES).decode(), choice.choice([b"1" * 100, b"2" * 900, b"3" * 5_000]))
        elif act == "sees":
            done = core.sees(choice.choice(NAMES).decode())
        elif act == "delete":
            done = core.delete(choice.choice(NAMES))
        elif act == "put_large":
            done = core.put_large(
                choice.choice(NAMES), bytes(choice.choice([66_000, 80_000, 200_000])), b"frame", 3, Tracked(-1)
            )
        elif act == "reserve":
            done = core.reserve(choice.choice([b"", *NAMES]), choice.choice([70_000, 80_000, *VALUES]), Tracked(-1))
        elif act == "publish":
            row = choice.choice([standing.key, standing.key, standing.key, 0, 2**24])
            done = core.publish(choice.choice(NAMES), row, 3, 70_000, 70_010, 5, 1, creations.get(row))
        else:
            name_row, row = (
                choice.choice([1, 1, 0, 2**24, 2**64 - 1]),
                choice.choice([row_of_name_word(word), 0, 2**24]),
            )
            done = core.lease(name_row, choice.choice([word, word, *VALUES]), row, 0, segment_id, Tracked(row))
        assert done in (True, False, None) or isinstance(done, bytes)
        counts[act] += bool(done)
        whole[:] = image
        permit[:], ticket[:], numbers[:] = memoryview(bytes(16)).cast("Q"), memoryview(bytes(16)).cast("Q"), at_rest
        permit[numbers[0]] = numbers[2]
        leases.clear()
        leases.update(known)
        creations.clear()
        creations.update(made)
    assert all(counts.values()), counts
    held.clear()
    leases.clear()
    creations.clear()
    plane.destroy()


def write_all_the_time(seconds: float) -> None:
    """In a process of its own: another one writes over words in the middle of calls of the core's, and puts them right."""
    plane = shmplane.Plane.temporary(capacity="4MiB", max_blocks=64, max_processes=4)
    for name in ("a", "b", "c"):
        for value in (b"1" * 100, b"2" * 900):
            plane[name] = value
    for _ in range(3):
        plane["a"], plane["c"] = b"3" * 70_000, b"4" * 70_000
    del plane["c"]
    core, manifest = core_of(plane), manifest_of(plane)
    places = [
        table.start + table.offsets[column] + row * table.row_words
        for table, column, rows in [
            (manifest.header, "tombstones_tail", 1),
            (manifest.header, "names_reserved", 1),
            (manifest.header, "blocks_reserved", 1),
            (manifest.header, "free_blocks", 1),
            (manifest.blocks, "segment", 6),
            (manifest.blocks, "next", 6),
            (manifest.blocks, "name", 6),
            (manifest.segments, "slab", 4),
            (manifest.names, "next", 4),
            (manifest.names, "word", 4),
            (manifest.segments, "next", 6),
            (manifest.segments, "nbytes", 6),
            (manifest.recycled, "first", 20),
            (manifest.classes, "free", 12),
            (manifest.classes, "slab", 12),
        ]
        for row in range(rows)
    ]
    image = bytes(manifest.words[: manifest.counters.start])
    whole = manifest.words[: manifest.counters.start]
    stop_at = time.monotonic() + seconds
    writer = Forked(partial(_flicker, manifest.words, places, stop_at + 1))
    done = 0
    try:
        while time.monotonic() < stop_at:
            for _ in range(20):
                if core.put_large(b"a", bytes(70_000), b"frame", 3, Tracked(-1)) is not None:
                    creations_of(plane).clear()
                for key in (b"c", b"a", b"new"):
                    done += bool(core.put(key, bytes(90), b"frame", 3))
                    core.sees(key.decode())
                    done += bool(core.delete(key))
            whole[:] = memoryview(image).cast("Q")
            look_for_the_dead_later(plane)
    finally:
        writer.kill()
    whole[:] = memoryview(image).cast("Q")
    assert done > 100, done
    plane.destroy()


def _flicker(words: memoryview, places: list[int], until: float) -> None:
    """Each word for a moment something else, and again what it was."""
    while time.monotonic() < until:
        for place in places:
            was = words[place]
            for value in (2**40, 2**63, 40):
                words[place] = value
                words[place] = was


@pytest.fixture(autouse=True)
def _with_the_core() -> None:
    require_core()


def test_words_that_were_written_over_end_no_process() -> None:
    run_forked(partial(write_over, 1, 5_000), seconds=60)


def test_words_that_are_written_over_meanwhile_end_no_process() -> None:
    run_forked(partial(write_all_the_time, 2.0), seconds=60)


@pytest.mark.sweep
def test_words_that_are_written_over_for_long_end_no_process() -> None:
    run_forked(partial(write_all_the_time, 60.0), seconds=200)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(10))
def test_no_words_that_were_written_over_end_a_process(seed: int) -> None:
    run_forked(partial(write_over, seed, 100_000), seconds=900)


@pytest.mark.parametrize(
    "arguments",
    [(), (b"a",), ("a", b"", b"", 3), (b"a", b"", b"", "3"), (b"a" * 121, b"", b"", 3), (b"a", b"", b"", -1)],
)
def test_other_arguments_are_refused(arguments: tuple[Any, ...]) -> None:
    with shmplane.Plane.temporary() as plane, pytest.raises((TypeError, ValueError, OverflowError)):
        core_of(plane).put(*arguments)


@pytest.mark.parametrize(
    "arguments", [(), (b"a",), ("a", b"", b"", 3, None), (b"a", b"", b"", "3", None), (b"a" * 121, b"", b"", 3, None)]
)
def test_other_arguments_for_what_is_large_are_refused(arguments: tuple[Any, ...]) -> None:
    with shmplane.Plane.temporary() as plane:
        core = core_of(plane)
        for call in (core.put_large, core.reserve, core.publish):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                call(*arguments)


@pytest.mark.parametrize("nbytes", [65_530, 65_536, 80_000, 10**6])
def test_what_python_gives_a_segment_of_its_own_is_left_to_it(nbytes: int) -> None:
    with shmplane.Plane.temporary() as plane:
        assert core_of(plane).put(b"a", bytes(nbytes), b"a frame", 3) is None
        assert core_of(plane).put(b"a", b"body", bytes(nbytes + 100), 3) is None


def test_a_process_that_left_stores_nothing_by_the_core_it_still_has() -> None:
    """A thread may have it in hand while another one closes the plane."""
    plane = shmplane.Plane.temporary()
    plane["a"] = b"1" * 100
    plane["a"] = b"2" * 100
    core, word = core_of(plane), manifest_of(plane).names.word[0]
    other = shmplane.Plane(plane.name, root=plane.root)
    assert core.put(b"a", b"3" * 100, b"frame", 3)
    assert core.assign("a", b"3" * 100)
    plane.close()
    other.close()
    native_stores(2**62)
    assert [
        core.put(b"a", b"3" * 100, b"frame", 3),
        core.assign("a", b"3" * 100),
        core.sees("a"),
        core.delete(b"a"),
        core.lease(0, word, 0, 0, 0, Tracked(0)),
        core.reserve(b"a", 70_000, Tracked(-1)),
        core.put_large(b"a", bytes(70_000), b"", 3, Tracked(-1)),
    ] == [None] * 7
    assert native_stores(-1) == 0


@pytest.mark.parametrize("wrong", [0, 2, -1, 2**40])
def test_a_permit_is_pythons_when_the_process_holds_another_number_than_its_word_says(wrong: int) -> None:
    with shmplane.Plane.temporary() as plane:
        semaphore = plane.semaphore("used", 3)
        semaphore.acquire()
        take_and_give, numbers = permit_by_core(plane, semaphore), permits_of(plane)[b"s:used"].numbers
        look_for_the_dead_later(plane)
        assert take_and_give()
        numbers[2] = wrong
        assert not take_and_give()
        numbers[2] = 1
        assert take_and_give()
        semaphore.release()
