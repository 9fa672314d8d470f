"""The tests' own tools: the guard sees what leaks, the helpers keep their deadlines."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

import shmplane
from tests.support import guard
from tests.support.processes import Child, ChildFailed, run_in_child, run_python
from tests.support.roots import SHARED_MEMORY


@pytest.fixture
def root() -> Path:
    return Path(os.environ["SHMPLANE_ROOT"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE_S", 0.05)


def leaks(before: guard.Snapshot, root: Path) -> dict[str, list[str]]:
    return {kind: sorted(things) for kind, things in guard.leaked_since(before, root, planes=set()).items()}


def test_the_root_of_this_process_lies_in_shared_memory(root: Path) -> None:
    assert root.parent == SHARED_MEMORY


@pytest.mark.usefixtures("impatient")
def test_the_guard_sees_a_file_of_a_plane(root: Path) -> None:
    before = guard.take_snapshot(root)
    segment = root / "shmplane-nobody" / "a-plane" / "s1"
    segment.parent.mkdir(parents=True)
    segment.touch()
    assert leaks(before, root) == {"files": [str(segment.parent), str(segment)]}
    segment.unlink()
    segment.parent.rmdir()
    segment.parent.parent.rmdir()
    assert leaks(before, root) == {}


@pytest.mark.usefixtures("impatient")
def test_the_guard_sees_a_descriptor(root: Path) -> None:
    before = guard.take_snapshot(root)
    descriptor = os.open("/dev/null", os.O_RDONLY)
    assert leaks(before, root) == {"descriptors": ["/dev/null"]}
    os.close(descriptor)
    assert leaks(before, root) == {}


@pytest.mark.usefixtures("impatient")
def test_the_guard_sees_a_mapping_of_shared_memory(root: Path) -> None:
    before = guard.take_snapshot(root)
    file = root / "mapped"
    file.write_bytes(bytes(4096))
    with file.open("rb") as opened:
        mapping = mmap.mmap(opened.fileno(), 4096, access=mmap.ACCESS_READ)
    file.unlink()
    assert "mappings" in leaks(before, root)
    mapping.close()
    assert leaks(before, root) == {}


@pytest.mark.usefixtures("impatient")
def test_the_guard_sees_a_child_process(root: Path) -> None:
    before = guard.take_snapshot(root)
    with subprocess.Popen(["sleep", "60"]) as child:
        assert list(leaks(before, root)) == ["processes"]
        child.kill()
    assert leaks(before, root) == {}


def test_a_child_returns_its_value() -> None:
    assert run_in_child(divmod, 17, 5) == (3, 2)


def test_a_warm_child_has_the_environment_of_now_and_nothing_of_this_process(
    plane: shmplane.Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane["x"] = [1]
    monkeypatch.setenv("SAID_TO_CHILDREN", "yes")
    monkeypatch.chdir(tmp_path)
    assert run_in_child(what_it_has, plane.name) == ("yes", str(tmp_path), False)
    monkeypatch.delenv("SAID_TO_CHILDREN")
    assert run_in_child(what_it_has, plane.name) == (None, str(tmp_path), False)


def what_it_has(name: str) -> tuple[str | None, str, bool]:
    mappings = Path("/proc/self/maps").read_text()
    return os.environ.get("SAID_TO_CHILDREN"), str(Path.cwd()), name in mappings


def test_a_child_raises_its_error_here() -> None:
    with pytest.raises(ZeroDivisionError):
        run_in_child(divmod, 17, 0)


def counts_to(last: int) -> Generator[int, None, int]:
    yield from range(1, last + 1)
    return last * 10


def test_a_generator_takes_turns_with_the_test() -> None:
    with Child(counts_to, 5, method="fork") as child:
        assert [child.next(), child.next()] == [1, 2]
        assert child.result() == 50


def test_a_killed_child_is_reported_as_dead() -> None:
    with Child(counts_to, 5, method="fork") as child:
        child.next()
        child.kill()
        with pytest.raises(ChildFailed, match=f"exit code {-signal.SIGKILL}"):
            child.next()


def test_a_child_that_hangs_is_ended_at_the_deadline() -> None:
    with Child(time.sleep, 60, method="fork", deadline=0.2) as child:
        pid = child.pid
        with pytest.raises(ChildFailed, match="nothing"):
            child.result()
    assert not psutil.pid_exists(pid)


def test_a_program_that_hangs_is_ended_at_the_deadline() -> None:
    with pytest.raises(ChildFailed, match="not done"):
        run_python("import time; time.sleep(60)", deadline=0.5)


def test_a_program_that_fails_shows_what_it_said() -> None:
    with pytest.raises(ChildFailed, match="ValueError: said"):
        run_python("raise ValueError('said')")
