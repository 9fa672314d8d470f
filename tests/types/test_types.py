"""The types that users see: complete, and wrong programs are found out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import shmplane
from tests.support.checkers import mypy_faults, untyped_symbols

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_mypy_finds_what_is_wrong_and_nothing_else() -> None:
    assert mypy_faults(REPOSITORY / "tests/types/checked.py") == ""


@pytest.mark.timeout(300)
def test_a_pool_knows_the_type_of_its_connections_from_connect() -> None:
    assert mypy_faults(REPOSITORY / "tests/types/pools.py") == ""


@pytest.mark.timeout(300)
def test_the_public_types_are_complete() -> None:
    unknown, ambiguous = untyped_symbols()
    public = tuple(f"{thing.__module__}.{thing.__qualname__}" for thing in _public_types())
    assert public
    assert [name for name in unknown + ambiguous if name.startswith(public)] == []


def _public_types() -> list[type]:
    things = [getattr(shmplane, name) for name in shmplane.__all__]
    return [thing for thing in things if isinstance(thing, type)]


def test_the_types_are_marked_as_there() -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.resources as r; print(r.files('shmplane').joinpath('py.typed').is_file())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "True"
