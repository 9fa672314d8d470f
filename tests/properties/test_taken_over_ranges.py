"""Ranges that one version leaves to the next, against plain arrays: whatever is shown, kept or discarded in between."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

import shmplane
from shmplane.plane.drafts import array_draft, planning
from shmplane.system import PAGE_NBYTES
from tests.plane.versions import edit, faults, settle
from tests.support.forked import run_forked
from tests.support.inside import compare_taken_over

ITEMS = PAGE_NBYTES // 8
PAGES = 60
SIZE = PAGES * ITEMS + 3
NAMES = st.sampled_from(["x", "x", "y"])
#: a few pages, or so many that what is published is planned or written whole
FEW = st.sets(st.integers(0, PAGES), min_size=1, max_size=3)
TOUCHED = st.one_of(FEW, FEW, st.sets(st.integers(0, PAGES), min_size=6, max_size=25))
VALUES = st.integers(1, 99)


@pytest.fixture(autouse=True)
def few_extents(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So few that they are joined, copied together and written whole every now and then; and what is taken over is compared."""
    monkeypatch.setattr(planning, "_MOST_PLANNED", 30)
    monkeypatch.setattr(array_draft, "MAX_EXTENTS", 32)
    monkeypatch.setattr(array_draft, "_MANY_EXTENTS", 16)
    pieces = compare_taken_over(monkeypatch, 2)
    yield
    assert pieces, "nothing was ever taken over"


def write(array: Any, touched: set[int], value: int) -> None:
    for page in touched:
        array[min(page * ITEMS + value, SIZE - 1)] = value


class Ranges(RuleBasedStateMachine):
    views = Bundle("views")
    drafts = Bundle("drafts")

    @initialize()
    def open(self) -> None:
        self.plane = shmplane.Plane.temporary(capacity="64MiB", max_blocks=4096)
        self.other = shmplane.Plane(self.plane.name, root=self.plane.root)
        self.model: dict[str, Any] = {}
        self.held: dict[int, tuple[Any, Any]] = {}
        self.kept: list[tuple[Any, Any]] = []
        self.begun: dict[int, tuple[str, Any, Any, Any]] = {}
        self.next = 0
        for name in ("x", "y"):
            self.put(name, 0)

    @rule(name=NAMES, fill=VALUES)
    def put(self, name: str, fill: int) -> None:
        self.model[name] = np.full(SIZE, float(fill))
        self.plane[name] = self.model[name]

    @rule(name=NAMES, touched=TOUCHED, value=VALUES, keeps=st.booleans())
    def edit(self, name: str, touched: set[int], value: int, keeps: bool) -> None:
        after = self.model[name].copy()
        write(after, touched, value)
        with edit(self.plane, name) as draft:
            write(draft.array, touched, value)
            if keeps:
                self.kept.append((draft.array, after.copy()))
        self.model[name] = after

    @rule(name=NAMES, touched=TOUCHED, value=VALUES)
    def edit_and_discard(self, name: str, touched: set[int], value: int) -> None:
        draft = edit(self.plane, name)
        write(draft.array, touched, value)
        draft.discard()

    @rule(name=NAMES)
    def edit_nothing(self, name: str) -> None:
        with edit(self.plane, name) as draft:
            assert (draft.array == self.model[name]).all()

    @rule(target=drafts, name=NAMES, touched=TOUCHED, value=VALUES)
    def begin(self, name: str, touched: set[int], value: int) -> int:
        draft, after = edit(self.plane, name), self.model[name].copy()
        write(draft.array, touched, value)
        write(after, touched, value)
        self.next += 1
        self.begun[self.next] = (name, draft, after, self.model[name])
        return self.next

    @rule(number=drafts)
    def end(self, number: int) -> None:
        name, draft, after, before = self.begun.pop(number, ("", None, None, None))
        if draft is None:
            return
        assert (draft.array == after).all()
        if self.model[name] is before and draft.dirty_nbytes:
            draft.commit()
            self.model[name] = after
        else:
            draft.discard()

    @rule(name=NAMES, touched=TOUCHED, value=VALUES)
    def another_process_edits(self, name: str, touched: set[int], value: int) -> None:
        after = self.model[name].copy()
        write(after, touched, value)

        def work() -> None:
            assert (self.plane[name] == self.model[name]).all()
            with edit(self.plane, name) as draft:
                write(draft.array, touched, value)
            assert (self.plane[name] == after).all()

        run_forked(work, 20)
        self.model[name] = after

    @rule(target=views, name=NAMES, other=st.booleans())
    def hold(self, name: str, other: bool) -> Any:
        self.next += 1
        self.held[self.next] = ((self.other if other else self.plane)[name], self.model[name])
        return self.next

    @rule(view=views)
    def let_go(self, view: int) -> None:
        self.held.pop(view, None)

    @rule()
    def rename(self) -> None:
        self.plane.rename("x", "z")
        self.plane.rename("y", "x")
        self.plane.rename("z", "y")
        self.model["x"], self.model["y"] = self.model["y"], self.model["x"]
        # A draft goes on from the block that a name had.
        for _, draft, _, _ in self.begun.values():
            draft.discard()
        self.begun.clear()

    @rule(value=VALUES)
    def write_to_what_was_kept(self, value: int) -> None:
        for array, expected in self.kept:
            write(array, {value % PAGES}, value)
            write(expected, {value % PAGES}, value)

    @rule()
    def forget_what_was_kept(self) -> None:
        self.kept.clear()

    @rule()
    def upkeep(self) -> None:
        gc.collect()
        self.plane.gc()
        self.plane.trim()

    @invariant()
    def all_show_what_they_should(self) -> None:
        for name, value in getattr(self, "model", {}).items():
            assert (self.plane[name] == value).all(), name
        for view, value in getattr(self, "held", {}).values():
            assert (view == value).all()
        for array, value in getattr(self, "kept", ()):
            assert (array == value).all()

    def teardown(self) -> None:
        if not hasattr(self, "plane"):
            return
        try:
            self.held.clear()
            self.kept.clear()
            for _, draft, _, _ in self.begun.values():
                draft.discard()
            self.begun.clear()
            settle(self.plane)
            assert not faults(self.plane)
        finally:
            self.other.close()
            self.plane.close()


TestRanges = Ranges.TestCase
TestRanges.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
