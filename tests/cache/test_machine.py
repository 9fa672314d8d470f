"""A cache beside a dict: whatever is done in whatever order, both have the same, or the cache has less where it may."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shmplane import Cache
from tests.cache.test_cache import forget_memory, on_disk

KEYS = ["a", b"a", 1, 1.0, True, None, ("t", 1)]
keys = st.sampled_from(range(len(KEYS)))
#: from what stands in a row to what is mapped
sizes = st.sampled_from([0, 3, 8_000, 9_000, 100_000])
tags = st.sampled_from([None, "red", "blue"])


class CacheMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cache-machine-"))
        self.caches = [Cache(self.directory / "cache", memory="8MiB", disk="32MiB") for _ in range(2)]
        self.model: dict[int, tuple[bytes, str | None]] = {}
        self.turn = 0

    def teardown(self) -> None:
        for cache in getattr(self, "caches", []):
            cache.close()
        shutil.rmtree(getattr(self, "directory", "/nonexistent"), ignore_errors=True)

    def cache(self) -> Cache:
        """Now one object, now the other: what one changes the other sees."""
        self.turn += 1
        return self.caches[self.turn % 2]

    def value(self, size: int) -> bytes:
        return self.turn.to_bytes(4, "big") + bytes(size)

    @rule(key=keys, size=sizes, tag=tags)
    def set(self, key: int, size: int, tag: str | None) -> None:
        cache, value = self.cache(), self.value(size)
        cache.set(KEYS[key], value, tag=tag)
        self.model[key] = value, tag

    @rule(key=keys)
    def get(self, key: int) -> None:
        found = self.cache().get(KEYS[key])
        assert (None if found is None else bytes(found)) == self.model.get(key, (None, None))[0]

    @rule(key=keys, size=sizes)
    def compute(self, key: int, size: int) -> None:
        cache, value = self.cache(), self.value(size)
        found = bytes(cache.get_or_compute(KEYS[key], lambda: value))
        assert found == self.model.setdefault(key, (value, None))[0]

    @rule(key=keys)
    def delete(self, key: int) -> None:
        assert self.cache().delete(KEYS[key]) == (self.model.pop(key, None) is not None)

    @rule(tag=st.sampled_from(["red", "blue"]))
    def evict(self, tag: str) -> None:
        going = [key for key, (_, its) in self.model.items() if its == tag]
        assert self.cache().evict(tag) == len(going)
        for key in going:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        assert self.cache().clear() == len(self.model)
        self.model.clear()

    @rule()
    def memory_is_evicted(self) -> None:
        forget_memory(self.cache())

    @invariant()
    def both_have_the_same_keys(self) -> None:
        if hasattr(self, "caches"):
            cache = self.cache()
            found: list[Any] = list(cache)
            assert len(cache) == len(found) == len(self.model)
            assert {(type(key), key) for key in found} == {(type(KEYS[key]), KEYS[key]) for key in self.model}
            assert on_disk(self.directory / "cache") <= 32 << 20


TestCacheBesideADict = CacheMachine.TestCase
TestCacheBesideADict.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
