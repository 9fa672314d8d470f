"""The pytest plugin, in runs of its own: what it gives, and what it catches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HEAD = """
import os
import subprocess
import sys
import threading

import pytest
import shmplane

kept = []

@pytest.fixture(scope="module")
def other():
    with shmplane.Plane("other", max_blocks=64, max_processes=4) as made:
        yield made
        made.destroy()
"""

LEAKS = """
from shmplane.testing import counts

counts._PATIENCE_S = 0.3  # what is left here stays: to wait longer for it finds nothing out

def test_planes():
    shmplane.Plane("left", max_blocks=64, max_processes=4).close()

def test_segments(plane):
    kept.append(plane.put(None, bytes(200_000)).value())

def test_leases(other):
    other["x"] = b"123"
    kept.append(other["x"])

def test_permits(other):
    other.semaphore("gpu", 2).acquire()

def test_descriptors():
    os.open("/dev/null", os.O_RDONLY)

@pytest.mark.shmplane_leaves("descriptors")
def test_unsaid():
    pass
"""

GOOD = """
def test_the_plane(plane, other):
    plane["x"] = other["x"] = [1]
    assert plane["x"] == other["x"] == [1]

@pytest.mark.shmplane_leaves("descriptors", reason="on purpose")
def test_may_leave():
    os.open("/dev/null", os.O_RDONLY)

def test_late(other):
    view = other.put("y", b"1" * 1000).value()
    threading.Timer(0.2, view.release).start()

def test_children(plane):
    with shmplane.Plane("named", max_blocks=64, max_processes=4) as named:
        named["x"] = [1, 2]
        code = "import shmplane; print(shmplane.Plane('named', create=False)['x'])"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert said.stdout == "[1, 2]\\n"
        named.destroy()

@pytest.mark.shmplane_default_root
def test_default_root():
    assert "shmplane-run-" not in os.environ.get("SHMPLANE_ROOT", "")

def test_that_fails(other):
    other["x"] = b"123"
    kept.append(other["x"])
    assert 0
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, plane_root: Path):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        result = pytester.runpytest_subprocess("-p", "shmplane.testing", "-p", "no:cacheprovider", *options)
        # Nothing of a run outlives it, whatever its tests left.
        assert not [name for name in os.listdir(plane_root) if name.startswith("shmplane-run-")]
        return result

    return run


def test_a_test_that_leaks_fails_and_says_what(run) -> None:
    result = run(HEAD + LEAKS)
    result.assert_outcomes(passed=6, errors=6)
    for kind in ("planes", "segments", "leases", "permits", "descriptors"):
        result.stdout.fnmatch_lines(
            [f"*ERROR at teardown of test_{kind}*", "the test left behind:", f"  {kind}: * more of *"]
        )
    result.stdout.fnmatch_lines(["*needs a reason*"])


def test_a_test_that_gives_everything_back_passes_and_one_that_failed_is_not_blamed_twice(
    run, plane_root: Path
) -> None:
    killed = plane_root / "shmplane-run-killed"  # by a run that was killed
    killed.mkdir()
    (killed / ".owner").touch()
    run(HEAD + GOOD).assert_outcomes(passed=5, failed=1)
    assert not killed.exists()


def test_a_value_is_computed_once_for_all_workers_of_a_run(run, tmp_path: Path) -> None:
    result = run(
        f"""
        import os
        import numpy as np
        import pytest

        def compute():
            with open({str(tmp_path / "computed")!r}, "a") as log:
                log.write(f"{{os.getpid()}}\\n")
            return np.arange(1000.0)

        @pytest.mark.parametrize("number", range(8))
        def test_it(once_per_run, number):
            value = once_per_run("data", compute)
            assert value.sum() == 499500
            assert not value.flags.writeable
        """,
        "-n2",
    )
    result.assert_outcomes(passed=8)
    assert len((tmp_path / "computed").read_text().split()) == 1
