"""The core stores what the Python code stores: the same calls on two planes, one with it and one without, word for word."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmplane
import shmplane.core
from shmplane.codecs import encode
from shmplane.manifest import counting, segments, states
from shmplane.manifest.policies import POLICIES
from shmplane.names import MAX_BLOCK_NAME_NBYTES
from shmplane.plane.hot import HotTier
from shmplane.plane.process import attachment
from tests.support.audit import faults_of
from tests.support.inside import (
    attachment_of,
    core_of,
    facts_of,
    let_nobody_wait,
    let_somebody_wait,
    let_somebody_watch,
    look_for_the_dead_later,
    manifest_of,
    native_stores,
    nobody_drains,
    stand_in_line,
    suspect_everything,
    the_lock_is_never_free_at_once,
)
from tests.support.processes import run_python
from tests.support.requires import require_core

#: what differs between any two planes: times, random numbers, and who waited how long
OWN = {
    "Header": {"instance", "created", "scanned", "next_segment", "lock", "lock_word"},
    "Processes": {"pid", "joined"},
    "Blocks": {"created", "used", "rank"},  # the rank of what is evictable is a time as well
    "Segments": {"id"},
    "Semaphores": {"freed"},
    "Counters": {"waited_ns", "waits"},
}
OPTIONS: dict[str, Any] = {"capacity": 8 << 20, "recycle": 900_000, "max_blocks": 96, "max_processes": 4}
NAMES = ["a", "b", "c/d", "é", "x" * 120]
SIZES = [0, 1, 7, 8, 63, 64, 300, 5_000, 30_000, 65_000, 66_000, 100_000]
STEPS = 250


@pytest.fixture
def both(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[shmplane.Plane, shmplane.Plane]]:
    require_core()
    nobody_drains(monkeypatch)
    lock: Any = "word" if request.param == "waited" else request.param
    with shmplane.Plane.temporary(**OPTIONS, lock=lock) as fast:
        monkeypatch.setenv("SHMPLANE_PURE", "1")
        with shmplane.Plane.temporary(**OPTIONS) as plain:
            assert core_of(fast) is not None
            assert core_of(plain) is None
            assert (fast.stats().lock, plain.stats().lock) == (lock, "ofd")
            if request.param == "waited":
                the_lock_is_never_free_at_once(fast)
            yield fast, plain


def words_of(plane: shmplane.Plane) -> dict[str, list[int]]:
    """Every word that should be the same in both."""
    manifest, found = manifest_of(plane), {}
    for table in manifest.tables():
        own = OWN.get(type(table).__name__, set())
        for name, item in table.declared.items():
            if name in own:
                continue
            column = getattr(table, name)
            columns = column if item.grouped else [column]
            for index, one in enumerate(columns):
                rows = (
                    [one.read(row, one.room) for row in range(table.rows)]
                    if item.words > 1 and not item.grouped
                    else one.tolist()
                )
                found[f"{type(table).__name__}.{name}.{index}"] = rows
    found["leases"] = manifest.lease_row(0).tolist()
    if manifest.processes.coordinates[0]:
        found["permits"], found["tickets"] = (row.tolist() for row in manifest.permit_rows(0))
    return found


def assert_same(fast: shmplane.Plane, plain: shmplane.Plane, after: object) -> None:
    found, expected = words_of(fast), words_of(plain)
    wrong = {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}
    assert not wrong, f"after {after}: {wrong}"


def _let_others_own(plane: shmplane.Plane, number: int) -> None:
    """As if another process had been the last to fill some of the warm segments."""
    segments = manifest_of(plane).segments
    for row, state in enumerate(segments.state.tolist()):
        if state == states.WARM and row % 8 < number:
            segments.owner[row] = 4


class Calls:
    """The same calls on one of two planes, from a seed."""

    def __init__(self, plane: shmplane.Plane) -> None:
        self.plane, self.held = plane, dict[str, Any]()
        self.hot = HotTier(plane, "cache/", policy="s3fifo", limit_nbytes=200_000)
        self.permits = {"three": plane.semaphore("three", 3), "one": plane.lock("one")}
        self.taken = dict.fromkeys(self.permits, 0)

    def one(self, choice: random.Random) -> str:
        name, other, nbytes = choice.choice(NAMES), choice.choice(NAMES), choice.choice(SIZES)
        large, warm = choice.randrange(65_537, 300_000), choice.randrange(8)
        value = bytes([choice.randrange(256)]) * nbytes
        plane, held, line = self.plane, self.held, choice.choice(list(self.permits))
        acts: list[tuple[int, str, Callable[[], object]]] = [
            (8, "set", lambda: plane.__setitem__(name, value)),
            (2, "set an array", lambda: plane.__setitem__(name, np.arange(nbytes // 80.0 + 1).reshape(1, -1).T)),
            (1, "set a document", lambda: plane.__setitem__(name, {"n": nbytes})),
            (5, "delete", lambda: self._delete(name)),
            (4, "hold", lambda: held.__setitem__(name, plane.get(name))),
            (4, "get", lambda: plane.get(name)),
            (4, "let go", lambda: held.pop(name, None)),
            (2, "put", lambda: plane.put(name, value).close()),
            (2, "put and hold", lambda: held.__setitem__(name, plane.put(name, value))),
            (1, "build", lambda: self._build(name, nbytes)),
            (1, "begin to build", lambda: held.__setitem__(name, plane.create(name, nbytes, "u1"))),
            (3, "set what is large", lambda: plane.__setitem__(name, bytes([nbytes % 256]) * large)),
            (1, "rename", lambda: self._rename(name, other)),
            (3, "evictable", lambda: plane.put(name, value, evictable=True).close()),
            (2, "cache", lambda: self.hot.put(name[:9], encode(value), cost_us=nbytes)),
            (4, "get from the cache", lambda: self.hot.find(name[:9])),
            (1, "drop from the cache", lambda: self.hot.drop(name[:9])),
            (1, "many", lambda: self._set_many(value[:200])),
            (1, "none of many", lambda: self._delete(*(f"many/{number}" for number in range(12)))),
            (3, "take", lambda: self._take(line)),
            (2, "give", lambda: self._give(line)),
            (1, "use", lambda: self._use(line)),
            (1, "resize", lambda: self.permits["three"].resize(1 + nbytes % 4)),
            (1, "others fill what is warm", lambda: _let_others_own(plane, warm)),
            (1, "gc", plane.gc),
            (1, "trim", plane.trim),
        ]
        [(_, what, act)] = choice.choices(acts, [weight for weight, _, _ in acts])
        act()
        gc.collect()
        return f"{what} {name!r} {nbytes}"

    def _delete(self, *names: str) -> None:
        for name in names:
            if name in self.plane:
                del self.plane[name]

    def end(self) -> None:
        self.held.clear()
        gc.collect()
        while any(self.taken.values()):
            for line in self.taken:
                self._give(line)

    def _take(self, line: str) -> None:
        self.taken[line] += self.permits[line].try_acquire()

    def _give(self, line: str) -> None:
        if self.taken[line]:
            self.permits[line].release()
            self.taken[line] -= 1

    def _use(self, line: str) -> None:
        if self.permits[line].available:
            with self.permits[line]:
                pass

    def _build(self, name: str, nbytes: int) -> None:
        with self.plane.create(name, nbytes, "u1") as builder:
            builder.array[...] = 7

    def _set_many(self, value: bytes) -> None:
        for number in range(12):
            self.plane[f"many/{number}"] = value

    def _rename(self, name: str, other: str) -> None:
        if name in self.plane:
            self.plane.rename(name, other)


@pytest.mark.parametrize(("both", "seed"), [("word", 0), ("waited", 1), ("ofd", 2)], indirect=["both"])
def test_the_same_calls_leave_the_same_words(both: tuple[shmplane.Plane, shmplane.Plane], seed: int) -> None:
    fast, plain = both
    native_stores(2**62)
    calls, choices = [Calls(fast), Calls(plain)], [random.Random(seed), random.Random(seed)]
    for _ in range(STEPS):
        for plane in both:
            look_for_the_dead_later(plane)
        said = [one.one(choice) for one, choice in zip(calls, choices, strict=True)]
        assert_same(fast, plain, said)
        reader = attachment_of(plain).reader
        assert [bool(core_of(fast).sees(name)) for name in NAMES] == [reader.is_seen(name.encode()) for name in NAMES]
    for one in calls:
        one.end()
    assert_same(fast, plain, "the end")
    assert native_stores(-1) > 10 * STEPS
    assert not faults_of(fast)


VALUES = [
    b"",
    b"x",
    b"y" * 700,
    np.arange(12.0).reshape(3, 4),
    np.arange(12.0).reshape(3, 4).T,
    {"a": [1]},
    "text",
    2.5,
]


@pytest.mark.parametrize("both", ["word", "waited"], indirect=True)
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_block_that_is_put_knows_what_its_row_says(
    both: tuple[shmplane.Plane, shmplane.Plane], value: object
) -> None:
    fast, plain = both
    for plane in both:
        plane["é"] = value  # by Python: now the core knows where the slab lies
        look_for_the_dead_later(plane)
    native_stores(2**62)
    block, other = fast.put("é", value), plain.put("é", value)
    assert native_stores(-1) > 20
    known, said = facts_of(fast, block)
    assert known == said
    assert known._replace(segment_id=0, created=0) == facts_of(plain, other)[0]._replace(segment_id=0, created=0)
    assert (block.name, block.version, block.kind, block.nbytes) == (
        other.name,
        other.version,
        other.kind,
        other.nbytes,
    )
    np.testing.assert_equal(block.value(), other.value())
    del block
    gc.collect()
    fast.gc()
    assert not faults_of(fast)
    assert fast.stats().leases == 0


def _structured(*, aligned: bool) -> Any:
    return np.zeros(6, np.dtype([("a", "i4"), ("b", "i4")], align=aligned))


#: values whose buffers say the same, or nearly, though their frames differ
LIKE_ONE_ANOTHER = [
    b"x" * 48,
    np.full(48, ord("x"), "u1"),
    np.zeros(48, "i1"),
    np.zeros(48, "?"),
    np.zeros(48, "S1"),
    np.zeros(48, "V1"),
    np.zeros(6, "i8"),
    np.zeros(6, "q"),
    np.zeros(6, ">i8"),
    np.zeros(6, "M8[s]"),
    np.zeros(6, "M8[ns]"),
    np.zeros(6, "m8[s]"),
    np.zeros(6, "f8"),
    np.zeros(6, "c8"),
    _structured(aligned=True),
    _structured(aligned=False),
    np.zeros((2, 3), "f8"),
    np.zeros((3, 2), "f8"),
    np.zeros((3, 2), "f8", order="F"),
    np.zeros((3, 2, 1), "f8"),
    np.zeros((3, 1, 1, 1, 2), "f8"),
    np.zeros(12, "f8")[::2],
    np.zeros((6, 0), "f8"),
    np.zeros(0, "f8"),
    np.zeros(1, "f8"),
    np.zeros((), "f8"),
    np.zeros(6, "f8").view(np.recarray),
    np.broadcast_to(np.zeros(1), (6,)),
    np.float64(0),
    bytearray(48),
    memoryview(bytes(48)),
    "x" * 48,
]


@pytest.mark.parametrize("both", ["word", "waited"], indirect=True)
def test_a_value_like_one_that_was_put_before_is_stored_as_python_stores_it(
    both: tuple[shmplane.Plane, shmplane.Plane],
) -> None:
    fast, plain = both
    for _ in range(3):  # first by Python, since there is no slab; then it is learned; then the core does all of it
        for value in [*LIKE_ONE_ANOTHER, *reversed(LIKE_ONE_ANOTHER)]:
            for plane in both:
                look_for_the_dead_later(plane)
                plane["é"] = value
            assert_same(fast, plain, value)
            with fast.attach("é") as block, plain.attach("é") as other:
                assert facts_of(fast, block)[1].frame_crc == facts_of(plain, other)[1].frame_crc
                np.testing.assert_equal(block.value(), other.value())
                assert type(block.value()) is type(other.value())
    native_stores(2**62)
    fast["é"] = np.ones(6)
    assert native_stores(-1) > 20
    assert core_of(fast).assign("é", np.ones(6)) is not None


AFTER_OTHERS = """
import array
import numpy as np, shmplane
with shmplane.Plane.temporary() as plane:
    for value in (bytearray(b"x"), memoryview(b"x"), array.array("d", [1]), np.matrix([[1.0]]), np.float64(1), "text", b"x"):
        for _ in range(3):
            plane["first"] = value
    for value in (np.arange(6.0), b"y"):
        for _ in range(3):
            plane["then"] = value
        print(plane._attachment.core.assign("then", value))
"""


def test_arrays_are_put_by_the_core_whatever_a_process_puts_first() -> None:
    require_core()
    assert run_python(AFTER_OTHERS).stdout.split() == ["True", "True"]


@pytest.mark.parametrize("both", ["word"], indirect=True)
@pytest.mark.parametrize(
    "name", ["", "a\0", "\x1f", "\x7f", "\x80", "\x9fa", "\udc80", "é" * 61, "x" * 121, b"a", None, 1, "a\nb"]
)
def test_a_name_that_python_refuses_the_core_leaves_to_it(
    both: tuple[shmplane.Plane, shmplane.Plane], name: Any
) -> None:
    refusals = []
    for plane in both:
        plane["a"] = plane["b"] = plane["b"] = b"1" * 100
        with pytest.raises((TypeError, ValueError)) as refusal:
            plane[name] = b"1" * 100
        refusals.append(str(refusal.value))
    assert refusals[0] == refusals[1]
    assert core_of(both[0]).assign(name, b"1" * 100) is None
    assert sorted(both[0]) == ["a", "b"]


@pytest.mark.parametrize("both", ["word"], indirect=True)
@pytest.mark.parametrize("name", ["\xa0", " ", "é", "x" * 120, "日本", "\U0001f600"])
def test_any_other_name_is_the_cores(both: tuple[shmplane.Plane, shmplane.Plane], name: str) -> None:
    plane = both[0]
    plane[name] = plane[name] = b"1" * 100
    assert core_of(plane).assign(name, b"2" * 100) is True
    assert plane[name] == b"2" * 100
    assert list(plane) == [name]


#: by how long it took
WAITED = {f"Counters.permit_waits.{bucket}" for bucket in range(13)} | {"Counters.permit_waited_ns.0"}


@pytest.mark.parametrize("both", ["word", "ofd"], indirect=True)
def test_who_waits_for_a_permit_is_woken_and_takes_it(both: tuple[shmplane.Plane, shmplane.Plane]) -> None:
    """Handed to another process, and taken in line by this one."""
    found, native_stores_of = [], [native_stores(2**62)]
    for plane in both:
        lock = plane.lock("used")
        lock.acquire()
        let_somebody_wait(plane, "l:used")
        look_for_the_dead_later(plane)
        native_stores(2**62)
        lock.release()  # the other one is next
        native_stores_of.append(native_stores(2**62))
        assert not lock.try_acquire()
        let_somebody_wait(plane, "l:used", permits=1)
        before = words_of(plane)
        native_stores(2**62)
        look = stand_in_line(lock)
        native_stores_of.append(native_stores(2**62))
        assert words_of(plane) != before
        assert not look()
        let_nobody_wait(plane)
        look_for_the_dead_later(plane)
        native_stores(2**62)
        assert look()
        lock.release()
        native_stores_of.append(native_stores(2**62))
        found.append({name: words for name, words in words_of(plane).items() if name not in WAITED})
        counted = [sum(words_of(plane)[name]) for name in sorted(WAITED)]
        assert sum(counted[1:]) == 2  # one at once, and one that waited
        assert counted[0] > 0
        assert lock.available == 1
    native_stores(-1)
    assert found[0] == found[1]
    # release, stand in line, take and release: by the core, and by Python
    assert min(native_stores_of[1:4]) > 5
    assert native_stores_of[4:] == [0, 0, 0]


@pytest.mark.parametrize("both", ["word", "waited"], indirect=True)
def test_who_waits_for_a_name_is_woken_by_its_next_version(both: tuple[shmplane.Plane, shmplane.Plane]) -> None:
    native = []
    for plane in both:
        plane["a"] = plane["a"] = plane["b"] = plane["b"] = b"1" * 100
        let_somebody_watch(plane, "a")
        look_for_the_dead_later(plane)
        before = manifest_of(plane).wakes.sequence.tolist()
        native_stores(2**62)
        plane["b"] = b"2" * 100
        assert manifest_of(plane).wakes.sequence.tolist() == before
        plane["a"] = b"2" * 100
        native.append(native_stores(-1))
        assert manifest_of(plane).wakes.sequence.tolist() == [*before[:-1], before[-1] + 1]
    assert_same(*both, "waking")
    assert native[0] > 40
    assert not native[1]


@pytest.mark.parametrize("both", ["word"], indirect=True)
@pytest.mark.parametrize("who", ["other", "nobody any more"])
def test_what_another_process_leases_stays(both: tuple[shmplane.Plane, shmplane.Plane], who: str) -> None:
    native_stores(2**62)
    for plane in both:
        manifest = manifest_of(plane)
        plane["a"], plane["b"], plane["c"] = b"1" * 500, b"2" * 500, b"3" * 500
        manifest.reserve_lease_row(1, manifest.blocks_reserved)
        for name in "ab":
            manifest.lease_row(1)[_row(plane, name)] = 1
        manifest.processes.state[1] = 1
        manifest.header.membership[0] += 1
        look_for_the_dead_later(plane)
        plane["a"] = b"4" * 500
        if who == "nobody any more":
            manifest.processes.state[1] = 0
            manifest.header.membership[0] += 1
        del plane["b"], plane["c"]
    assert_same(*both, who)
    assert native_stores(-1) > 60
    for plane in both:  # nobody has its token, so what it is said to lease goes
        suspect_everything(plane)
        plane.gc()
        assert not faults_of(plane)


class Text(str):
    """A ``str`` that the core does not know."""

    __slots__ = ()


@pytest.mark.parametrize("both", ["word"], indirect=True)
def test_without_the_lock_a_name_is_seen_or_not_known(both: tuple[shmplane.Plane, shmplane.Plane]) -> None:
    fast, plain = both
    for plane in both:
        for there in [*NAMES, "gone"]:
            plane[there] = b"1" * 100
        del plane["gone"]
        plane.put("passing", 1, ttl=60.0)
    sees, header = core_of(fast).sees, manifest_of(fast).header
    names: list[Any] = [
        "gone",
        "\0",
        "",
        "x" * 121,
        None,
        b"a",
        Text("a"),
        "passing",
    ]  # whether it is over, Python says
    assert [sees(name) for name in NAMES] == [True] * len(NAMES)
    assert [sees(name) for name in names] == [None] * len(names)
    for name in [*NAMES, *names]:
        assert (name in fast) == (name in plain) == (name in [*NAMES, "passing"]), name
    for word in (header.dirty, header.destroyed):
        word[0] = 2
        assert sees("a") is None
        word[0] = 0


def _row(plane: shmplane.Plane, name: str) -> int:
    found: int = (manifest_of(plane).names.word[_name_row(plane, name)] & states.ROW_MASK) - 1
    return found


def _name_row(plane: shmplane.Plane, name: str) -> int:
    texts = manifest_of(plane).names.text
    return next(row for row in range(10) if texts.read(row, len(name) + 1) == name.encode() + b"\0")


def test_states_are_called_by_the_same_numbers() -> None:
    source_of = Path(shmplane.core.__file__).parent
    source = (source_of / "_core.c").read_text()
    (line,) = [line for line in source.splitlines() if line.startswith("enum { FREE")]
    named = {name: int(value) for name, value in (pair.split(" = ") for pair in line[7:-3].split(", "))}
    assert named == {name: getattr(states, name) for name in named}
    assert f"enum {{ S3FIFO = {list(POLICIES).index('s3fifo')} }};" in source
    assert f"#define ROW_MASK {states.ROW_MASK:#x}ull\n" in source
    assert f"#define KEPT (1ull << {states.KEPT.bit_length() - 1})\n" in source
    assert f"#define VERSION_BITS_BELOW {states.ROW_MASK.bit_length()}\n" in source
    assert f"#define SCAN_INTERVAL_NS {attachment._SCAN_INTERVAL_NS}ull\n" in source
    assert f"#define SPARED {attachment._SPARED} " in source
    assert f"#define MOST_TRIED {segments._MOST_TRIED_PER_BUCKET}\n" in (source_of / "warm.h").read_text()
    permits = (Path(shmplane.core.__file__).parent / "permits.h").read_text()
    (line,) = [line for line in permits.splitlines() if line.startswith("static const double wait_bounds")]
    assert [float(bound) for bound in line[line.index("{") + 1 : -2].split(", ")] == list(counting.WAIT_BOUNDS)
    assert f"#define NAME_NBYTES {MAX_BLOCK_NAME_NBYTES} " in source
