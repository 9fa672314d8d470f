"""What planes and blocks say of themselves in one line, and what the tabulator key offers."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from shmplane import Plane
from tests.support.inside import look
from tests.support.processes import Child


def test_a_plane_says_how_full_it_is_and_what_is_in_it(plane: Plane) -> None:
    plane["prices"] = np.zeros((1000, 3))
    plane["config"] = {"limit": 5}
    stats = plane.stats()
    assert repr(plane) == (
        f"<Plane {plane.name!r} in {plane.root}: {stats.used_nbytes:,} of {stats.capacity:,} B used, 2 names: "
        f"'config' (json, 11 B), 'prices' (array, 24,000 B)>"
    )


def test_the_text_of_a_plane_is_bounded_and_leases_nothing(plane: Plane) -> None:
    for number in range(200):
        plane[f"{number:03}" + "x" * 100] = number
    leases = plane.stats().leases
    assert "and 194 more" in repr(plane)
    assert len(repr(plane)) < 700
    assert plane.stats().leases == leases


def test_planes_that_are_closed_or_destroyed_say_so(plane_root) -> None:
    closed, other = Plane("x"), Plane("x")
    closed.close()
    assert repr(closed) == f"<Plane 'x' in {plane_root}: closed>"
    with Child(_destroys) as child:
        child.next()
    assert repr(other) == f"<Plane 'x' in {plane_root}: destroyed>"
    assert other._ipython_key_completions_() == closed._ipython_key_completions_() == []
    other.close()


def _destroys():
    Plane("x").destroy()
    yield None


def test_a_plane_whose_lock_is_held_says_that_it_is_busy_at_once(plane: Plane) -> None:
    def inside(_: object) -> tuple[str, list[str]]:
        return repr(plane), plane._ipython_key_completions_()

    # The same thread holds it: nobody may wait here.
    text, names = look(plane, inside)
    assert text == f"<Plane {plane.name!r} in {plane.root}: not to be read>"
    assert names == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((1000, 3)), "array float64 (1000, 3), 24,000 B"),
        (np.zeros((), "M8[ns]"), "array datetime64[ns] (), 8 B"),
        (b"xyz", "bytes, 3 B"),
        ({"a": 1}, "json, 7 B"),
    ],
)
def test_a_block_says_what_it_is(plane: Plane, value: object, said: str) -> None:
    block = plane.put("x", value)
    assert repr(block) == f"<Block 'x' version 1: {said}>"
    block.close()
    assert repr(block) == f"<Block 'x' version 1: {said}, closed>"


def test_a_table_says_its_rows_and_columns(plane: Plane) -> None:
    block = plane.put("x", pa.table({"city": ["Rome"], "km": [1.5]}))
    assert "table of 1 rows x 2 columns (city, km)" in repr(block)
    wide = plane.put("y", pa.table({f"column {number}" * 20: [number] for number in range(100)}))
    assert "100 columns" in repr(wide)
    assert len(repr(wide)) < 600


def test_a_block_of_a_destroyed_plane_still_says_what_it_is() -> None:
    plane = Plane.temporary()
    block = plane.put("x", np.zeros(3))
    plane.destroy()
    assert repr(block) == "<Block 'x' version 1: array float64 (3,), 24 B>"


def test_the_tabulator_key_completes_names(plane: Plane) -> None:
    for name in ("prices/2026", "config", "b"):
        plane[name] = 1
    assert plane._ipython_key_completions_() == ["b", "config", "prices/2026"]


def test_ipython_offers_the_names_of_a_plane() -> None:
    pytest.importorskip("IPython")
    script = """
import shmplane
from IPython.core.completer import provisionalcompleter
from IPython.testing.globalipapp import start_ipython
ip = start_ipython()
with shmplane.Plane.temporary() as plane:
    plane["prices"], plane["volumes"] = 1, 2
    ip.user_ns["plane"] = plane
    ip.Completer.use_jedi = False
    print(ip.complete('plane["pr')[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    assert "prices" in done.stdout.splitlines()[-1], done.stderr
