"""Caches of the tests: each in a directory of its own, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import shmplane


@pytest.fixture(params=["own plane", "given plane"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[shmplane.Cache]:
    if request.param == "own plane":
        with shmplane.Cache(tmp_path / "cache", memory="16MiB", disk="64MiB") as made:
            yield made
        return
    with (
        shmplane.Plane.temporary(capacity="64MiB") as plane,
        shmplane.Cache(tmp_path / "cache", memory="16MiB", disk="64MiB", plane=plane, name="results") as made,
    ):
        yield made
