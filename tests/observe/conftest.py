from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.observe import killed


@pytest.fixture
def stale(plane_root: Path) -> Iterator[str]:
    """A plane with a killed process in it."""
    killed.leave_stale("stale", plane_root)
    yield "stale"
    killed.remove("stale", plane_root)
