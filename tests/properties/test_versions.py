"""Drafts, appends and versions against plain values: one process with many views, and processes that are killed."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import shmplane
from shmplane.system import PAGE_NBYTES
from tests.plane.versions import edit, faults, settle
from tests.support.forked import Forked, run_forked

ITEMS = PAGE_NBYTES // 8
SIZES = {"small": 100, "paged": 40 * ITEMS + 3, "more": 90 * ITEMS}
ARRAYS = st.sampled_from(sorted(SIZES))
#: pages that an edit touches, as fractions of the array
PLACES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12)
TABLES = st.sampled_from(["t", "u"])
COUNTS = st.sampled_from([1, 3, 700, 9_000])
OPTIONS: dict[str, Any] = {"capacity": 256 << 20, "max_blocks": 4096}


def rows(count: int, start: int) -> dict[str, Any]:
    return {"n": list(range(start, start + count)), "s": [f"text {number}" for number in range(start, start + count)]}


class Versions(RuleBasedStateMachine):
    views = Bundle("views")
    drafts = Bundle("drafts")

    @initialize()
    def open(self) -> None:
        self.plane = shmplane.Plane.temporary(**OPTIONS)
        self.model: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.held: dict[int, tuple[Any, Any]] = {}
        self.open_drafts: dict[int, Any] = {}
        self.next = 0

    def number(self) -> int:
        self.next += 1
        return self.next

    def publish(self, name: str, value: Any) -> None:
        self.model[name] = value
        self.versions[name] = self.versions.get(name, 0) + 1

    # Arrays

    @rule(name=ARRAYS, fill=st.integers(0, 9))
    def put_array(self, name: str, fill: int) -> None:
        value = np.full(SIZES[name], float(fill))
        self.plane[name] = value
        self.publish(name, value)

    @rule(target=drafts, name=ARRAYS)
    def begin(self, name: str) -> Any:
        if name not in self.model:
            return multiple()
        number = self.number()
        draft = edit(self.plane, name)
        self.open_drafts[number] = (name, self.versions[name], draft, self.model[name].copy())
        assert (draft.array == self.model[name]).all()
        return number

    @rule(draft=drafts, places=PLACES, value=st.integers(10, 99))
    def write(self, draft: int, places: list[float], value: int) -> None:
        if draft in self.open_drafts:
            _, _, found, expected = self.open_drafts[draft]
            at = [int(place * len(expected)) for place in places]
            found.array[at] = expected[at] = value
            assert found.dirty_nbytes > 0

    @rule(draft=drafts, ends=st.sampled_from(["commit", "commit", "discard"]))
    def end(self, draft: int, ends: str) -> None:
        if draft not in self.open_drafts:
            return
        name, version, found, expected = self.open_drafts.pop(draft)
        if ends == "discard":
            found.discard()
        elif not found.dirty_nbytes:
            assert found.commit().version == version
        elif name in self.model and self.versions[name] == version:
            assert found.commit().version == version + 1
            self.publish(name, expected)
        else:
            with pytest.raises(shmplane.Conflict):
                found.commit()
            found.discard()

    @rule(name=ARRAYS, places=PLACES, value=st.integers(10, 99), fails=st.booleans())
    def edit_array(self, name: str, places: list[float], value: int, fails: bool) -> None:
        if name not in self.model:
            return
        expected = self.model[name].copy()
        at = [int(place * len(expected)) for place in places]
        expected[at] = value
        with contextlib.suppress(ZeroDivisionError), edit(self.plane, name) as draft:
            draft.array[at] = value
            if fails:
                raise ZeroDivisionError
        if not fails and draft.block.version > self.versions[name]:
            self.publish(name, expected)
        elif not fails:
            assert (expected == self.model[name]).all(), "what changed is published"

    # Tables

    @rule(name=TABLES, count=COUNTS)
    def append(self, name: str, count: int) -> None:
        found = self.model.get(name)
        added = rows(count, 0 if found is None else len(found["n"]))
        if found is not None and "x" in found:
            added["x"] = [0.5] * count
        block = self.plane.append(name, added)
        self.publish(name, added if found is None else {key: found[key] + added[key] for key in found})
        assert block.version == self.versions[name]

    @rule(name=TABLES, how=st.sampled_from(["add", "replace", "delete", "append"]))
    def edit_table(self, name: str, how: str) -> None:
        found = self.model.get(name)
        if found is None:
            return
        expected = dict(found)
        with edit(self.plane, name) as draft:
            if how == "delete" and "x" in found:
                del draft["x"], expected["x"]
            elif how == "append":
                added = {key: values[-2:] for key, values in found.items()}
                draft.append(added)
                expected = {key: found[key] + added[key] for key in found}
            elif how == "replace":
                draft["s"] = expected["s"] = [text.upper() for text in found["s"]]
            else:
                draft["x"] = expected["x"] = [number / 2 for number in found["n"]]
        if draft.block.version > self.versions[name]:
            self.publish(name, expected)
        assert how == "delete" or draft.block.version == self.versions[name]

    # All of them

    @rule(name=st.one_of(ARRAYS, TABLES))
    def delete(self, name: str) -> None:
        if name in self.model:
            del self.plane[name], self.model[name]

    @rule(target=views, name=st.one_of(ARRAYS, TABLES))
    def hold(self, name: str) -> Any:
        if name not in self.model:
            return multiple()
        number = self.number()
        self.held[number] = (self.plane[name], self.model[name])
        return number

    @rule(view=views)
    def let_go(self, view: int) -> None:
        self.held.pop(view, None)

    @rule()
    def upkeep(self) -> None:
        gc.collect()
        self.plane.gc()
        self.plane.trim()

    @rule()
    def a_forked_child_sees_the_same(self) -> None:
        run_forked(self.check_all, 20)

    @rule(name=st.one_of(ARRAYS, TABLES), delay=st.floats(0, 0.01))
    def a_child_is_killed_at_work(self, name: str, delay: float) -> None:
        """It has published some of its changes, each whole, and nothing else."""
        if name not in self.model:
            return
        before, version = self.model[name], self.versions[name]
        Forked(lambda: work(self.plane, name)).kill(after=delay)
        self.plane.gc()
        with self.plane.attach(name) as block:
            done = block.version - version
        found, expected = self.plane[name], changed(before, name, done)
        assert same(found, expected)
        self.model[name], self.versions[name] = expected, version + done

    def check_all(self) -> None:
        for name, value in self.model.items():
            assert same(self.plane[name], value)
        for view, value in self.held.values():
            assert same(view, value)

    @invariant()
    def views_and_values_are_those_of_the_model(self) -> None:
        if hasattr(self, "model"):
            self.check_all()

    def teardown(self) -> None:
        if not hasattr(self, "plane"):
            return
        try:
            self.held.clear()
            for _, _, draft, _ in self.open_drafts.values():
                draft.discard()
            self.open_drafts.clear()
            assert not faults(self.plane)
            for name in list(self.model):
                del self.plane[name]
            stats = settle(self.plane)
            assert (stats.blocks, stats.leases, stats.processes) == (0, 0, 1)
        finally:
            self.plane.close()


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return bool(found.to_pydict() == expected)
    return bool((found == expected).all())


def work(plane: shmplane.Plane, name: str) -> None:
    """Change after change, until it is killed."""
    while True:
        value = plane[name]
        if isinstance(value, pa.Table):
            plane.append(name, {key: [value[key].to_pylist()[-1]] for key in value.column_names})
        else:
            with edit(plane, name) as draft:
                draft.array[:: len(value) // 3] += 1.0
        del value


def changed(value: Any, name: str, times: int) -> Any:
    """What ``work`` makes of a value when it got so far."""
    if isinstance(value, dict):
        return {key: [*values, *values[-1:] * times] for key, values in value.items()}
    value = value.copy()
    value[:: len(value) // 3] += times
    return value


Versions.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestVersions = Versions.TestCase
