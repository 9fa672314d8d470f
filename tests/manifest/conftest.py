"""Manifests without a plane: a file, and nobody else in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shmplane.manifest import Limits, Manifest

MIB = 1 << 20
CAPACITY = 4 * MIB
LIMITS = Limits(max_blocks=64, max_processes=4)


def make(path: Path, limits: Limits = LIMITS, *, capacity: int = CAPACITY, recycle: int = MIB) -> Manifest:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return Manifest.create(fd, limits, capacity=capacity, recycle=recycle, temporary=False)


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    """An empty one; slot 0 is in use."""
    made = make(tmp_path / "manifest")
    made.processes.state[0] = 1
    yield made
    made.close()
