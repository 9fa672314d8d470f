"""For users' own tests: ``pytest -p shmplane.testing``, and ``python -m shmplane.testing.leaks`` for a leak report.

The plugin gives the fixtures ``plane`` (a temporary one) and ``once_per_run``, keeps the planes of a test run away from all
others, and fails a test that leaves planes, segments, leases, permits or descriptors behind.
"""

from __future__ import annotations

__all__ = ["pytest_plugins"]

#: what pytest loads when it is given this package; nothing here imports pytest
pytest_plugins: tuple[str, ...] = ("shmplane.testing.plugin",)
