"""Large values into warm memory: on two threads when a core is idle, and the same bytes as on one."""

from __future__ import annotations

import random
import resource
import threading

import numpy as np
import pytest

import shmplane
from shmplane import system
from shmplane.plane.memory import copying
from shmplane.system import beside
from tests.support.inside import memory_of

NBYTES = 9_000_001


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A core is always idle; the list has an entry for each copy that was made in two halves."""
    made: list[int] = []

    def counting(first: object, second: object) -> None:
        made.append(1)
        beside.run_beside(first, second)  # type: ignore[arg-type]

    monkeypatch.setattr(system, "has_idle_core", lambda: True, raising=False)
    monkeypatch.setattr(system, "run_beside", counting, raising=False)
    return made


def fill_again(plane: shmplane.Plane, values: list[np.ndarray]) -> None:
    """From the third version on, the segments are warm and mapped."""
    for value in values:
        plane["x"] = value
        assert np.array_equal(plane["x"], value)


def test_both_halves_arrive(plane_root: object, halves: list[int]) -> None:
    dice = np.random.default_rng(1)
    with shmplane.Plane("large", root=str(plane_root), capacity="256MiB") as plane:
        fill_again(plane, [dice.integers(0, 255, NBYTES + turn, np.uint8) for turn in range(6)])
        assert halves
        plane.destroy()


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_either_order_arrive(plane_root: object, halves: list[int], order: str) -> None:
    base = np.arange(1_500_000.0).reshape(1_000, 1_500)
    with shmplane.Plane("large", root=str(plane_root), capacity="256MiB") as plane:
        fill_again(plane, [np.array(base + turn, order=order) for turn in range(6)])  # type: ignore[call-overload]
        assert halves
        plane.destroy()


@pytest.mark.parametrize("nbytes", [8 << 20, (8 << 20) + 1, (8 << 20) + 4097, 20_000_003])
def test_no_byte_beside_the_target_is_touched(halves: list[int], nbytes: int) -> None:
    source = np.random.default_rng(nbytes).integers(0, 255, nbytes, np.uint8)
    room = np.full(nbytes + 2, 7, np.uint8)
    copying.copy_bytes(room.data[1:-1], source.data)
    assert np.array_equal(room[1:-1], source)
    assert room[0] == room[-1] == 7
    assert halves == [1]


def test_smaller_ones_are_copied_by_one_thread(halves: list[int]) -> None:
    source = np.zeros((8 << 20) - 1, np.uint8)
    copying.copy_bytes(np.ones_like(source).data, source.data)
    assert halves == []


def test_without_another_thread_one_copies_it_all(halves: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(system, "run_beside", none_left, raising=False)
    source = np.random.default_rng(3).integers(0, 255, NBYTES, np.uint8)
    target = np.zeros_like(source)
    copying.copy_bytes(target.data, source.data)
    assert np.array_equal(target, source)


def test_threads_that_fill_at_once_do_not_mix(plane_root: object, halves: list[int]) -> None:
    with shmplane.Plane("large", root=str(plane_root), capacity="512MiB") as plane:
        wrong: list[int] = []

        def fill(number: int) -> None:
            dice = random.Random(number)
            for _ in range(6):
                value = np.full(NBYTES, dice.randrange(256), np.uint8)
                plane[f"x{number}"] = value
                if not np.array_equal(plane[f"x{number}"], value):
                    wrong.append(number)

        threads = [threading.Thread(target=fill, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert halves
        plane.destroy()


def test_mappings_for_filling_are_used_again(plane_root: object) -> None:
    """Whatever sizes take turns, what is read is what was put last: a property of mappings that are kept."""
    dice = random.Random(11)
    with shmplane.Plane("large", root=str(plane_root), capacity="128MiB", recycle="64MiB") as plane:
        expected: dict[str, np.ndarray] = {}
        for turn in range(120):
            name = dice.choice("abcd")
            if dice.random() < 0.15 and name in expected:
                del plane[name], expected[name]
            elif dice.random() < 0.1:
                plane.trim()
            else:
                expected[name] = np.full(dice.choice([70_000, 300_000, 1_000_000, 3_000_000]), turn, np.int16)
                plane[name] = expected[name]
            for known, value in expected.items():
                assert np.array_equal(plane[known], value), (turn, known)
        assert memory_of(plane)._writable
        plane.destroy()


def test_a_warm_segment_that_is_mapped_to_be_filled_has_its_pages_already(plane_root: object) -> None:
    with shmplane.Plane("large", root=str(plane_root), capacity="64MiB") as plane:
        value = np.ones(4 << 20, np.uint8)
        for _ in range(6):
            plane["x"] = value
            mappings = list(memory_of(plane)._writable.values())
            if mappings:
                break  # the first was just made, and nobody has touched it
        assert len(mappings) == 1
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        assert sum(mappings[0].view[at] for at in range(0, len(value), 4096)) >= 0
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
        assert faults < 16, "of 1,024 pages, which the kernel enters by 16 at most when they are touched"
        plane.destroy()
