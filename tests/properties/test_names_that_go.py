"""Names with a time to live, against a plain dict whose keys are taken out when their time has come."""

from __future__ import annotations

import gc
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import shmplane
from tests.support.audit import faults_of
from tests.support.inside import let_time_pass_for, suspect_everything

NAMES = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.builds(
    lambda letter, nbytes: bytes([letter]) * nbytes, st.integers(0, 255), st.sampled_from([1, 5_000, 100_000])
)


class Expiring(RuleBasedStateMachine):
    """``model`` has what is there: the value, and whether it goes at a time."""

    @initialize()
    def open(self) -> None:
        self.plane = shmplane.Plane.temporary(capacity=8 << 20, max_blocks=24, max_processes=4)
        self.model: dict[str, tuple[bytes, bool]] = {}
        self.held: list[tuple[Any, bytes]] = []

    @rule(name=NAMES, value=VALUES, goes=st.booleans())
    def put(self, name: str, value: bytes, goes: bool) -> None:
        self.plane.put(name, value, ttl=1000.0 if goes else None).close()
        self.model[name] = value, goes

    @rule(name=NAMES)
    def time_comes(self, name: str) -> None:
        goes = self.model.get(name, (b"", False))[1]
        assert let_time_pass_for(self.plane, name) == goes
        if goes:
            del self.model[name]

    @rule(name=NAMES)
    def hold(self, name: str) -> None:
        value = self.plane.get(name)
        if value is not None and len(self.held) < 8:
            self.held.append((value, self.model[name][0]))

    @rule()
    def let_go(self) -> None:
        self.held.clear()
        gc.collect()

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        try:
            self.plane.rename(old, new)
        except shmplane.BlockNotFound:
            assert old not in self.model
        else:
            self.model[new] = self.model.pop(old)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        try:
            self.plane.delete(name)
        except shmplane.BlockNotFound:
            assert name not in self.model
        else:
            del self.model[name]

    @rule(name=NAMES)
    def edit(self, name: str) -> None:
        if name in self.model:
            with self.plane.edit(name) as draft:
                draft.array[0] ^= 1
            value, goes = self.model[name]
            self.model[name] = bytes([value[0] ^ 1]) + value[1:], goes

    @rule()
    def collect(self) -> None:
        self.plane.gc()
        assert not faults_of(self.plane)

    @rule()
    def recover(self) -> None:
        suspect_everything(self.plane)
        self.plane.gc()
        assert not faults_of(self.plane)

    @invariant()
    def it_is_the_model(self) -> None:
        if not hasattr(self, "plane"):
            return
        assert self.plane.names() == sorted(self.model)
        assert len(self.plane) == len(self.model)
        assert sorted(block.name for block in self.plane.blocks() if block.name) == sorted(self.model)
        for name in ("a", "b", "c", "d"):
            assert (name in self.plane) == (name in self.model)
            found = self.plane.get(name, as_="bytes")
            assert (None if found is None else bytes(found)) == self.model.get(name, (None,))[0]
        assert all(bytes(view) == value for view, value in self.held)

    def teardown(self) -> None:
        if hasattr(self, "plane"):
            self.held.clear()
            self.plane.close()


Expiring.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestExpiring = Expiring.TestCase
