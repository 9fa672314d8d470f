"""A block is opened by programs that have nothing but the standard library, and survives their resource trackers."""

from __future__ import annotations

import errno
import functools
import gc
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shmplane import Block, ClosedError, Plane, ShmplaneError, UnsupportedValue
from tests.support.processes import Child, run_in_child, run_python
from tests.support.roots import SHARED_MEMORY

pytestmark = pytest.mark.default_root

VERSIONS = ("3.11", "3.12", "3.13")
LARGE = 200_000  #: bytes; larger than what shares a slab

#: A program that knows nothing of this library.
FOREIGN = """
import sys
from multiprocessing.shared_memory import SharedMemory
name, offset, nbytes, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])
shared = SharedMemory(name=name, **options)
sys.stdout.write(bytes(shared.buf[offset : offset + nbytes]).hex())
shared.close()
"""


@functools.cache
def interpreter(version: str) -> str | None:
    """An interpreter of that version, if this machine has one that runs."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    return next((str(path) for path in found if path is not None and _runs(path)), None)


def _runs(python: str | Path) -> bool:
    """A name on the PATH may be a shim without an interpreter behind it."""
    return subprocess.run([python, "-I", "-c", ""], capture_output=True, check=False).returncode == 0


def require_interpreter(version: str) -> str:
    found = interpreter(version)
    if found is None:
        pytest.skip(f"no Python {version} on this machine")
    return found


def read_by_foreign_program(python: str, block: Block, options: str = "{}") -> bytes:
    arguments = [block.shm_name, str(block.shm_offset), str(block.nbytes), options]
    done = subprocess.run(
        [python, "-I", "-c", FOREIGN, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return bytes.fromhex(done.stdout)


@pytest.fixture
def shared(plane_name: str) -> Iterator[Plane]:
    """A plane where the standard library looks, under a name of this run; nothing of it is left afterwards."""
    with Plane(plane_name) as plane:
        yield plane
        plane.destroy()
    gc.collect()
    assert links_of(plane_name) == []


def links_of(plane_name: str) -> list[Path]:
    return sorted(SHARED_MEMORY.glob(f"shmplane.*.{plane_name}.*"))


def wait_until_gone(path: Path) -> bool:
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    return not path.exists()


def reads_twice(plane: Plane) -> Iterator[bytes]:
    view = plane["x"]
    yield view.tobytes()
    yield view.tobytes() + plane["x"].tobytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_foreign_resource_tracker_takes_the_name_and_harms_nobody(shared: Plane, version: str) -> None:
    python = require_interpreter(version)
    data = np.random.default_rng(7).integers(0, 255, LARGE, np.uint8)
    block = shared.put("x", data)
    view, wanted = block.value(), data.tobytes()
    with Child(reads_twice, shared) as reader:
        assert reader.next() == wanted
        link = SHARED_MEMORY / block.shm_name
        assert link.exists()
        assert read_by_foreign_program(python, block) == wanted
        assert wait_until_gone(link), "the foreign tracker did not unlink the name; then this test tests nothing"
        # Whoever had the block has it still, and whoever comes finds it.
        assert view.tobytes() == wanted
        assert reader.next() == wanted + wanted
        reader.result()
    assert run_in_child(lengths, shared) == {"x": LARGE}
    # The name comes back by being asked for, and again.
    assert read_by_foreign_program(python, block) == wanted
    assert block.value().tobytes() == wanted


def lengths(plane: Plane) -> dict[str, int]:
    return {name: len(value) for name, value in plane.items()}


def test_an_untracked_foreign_program_leaves_the_name(shared: Plane) -> None:
    python = require_interpreter("3.13")
    block = shared.put("x", b"abc" * LARGE)
    link = SHARED_MEMORY / block.shm_name
    assert read_by_foreign_program(python, block, "{'track': False}") == b"abc" * LARGE
    time.sleep(0.3)
    assert link.exists()


def test_a_foreign_program_that_is_killed_harms_nobody(shared: Plane) -> None:
    block = shared.put("x", np.arange(LARGE))
    source = """
import os, signal, sys
from multiprocessing.shared_memory import SharedMemory
shared = SharedMemory(name=sys.argv[1])
os.kill(os.getpid(), signal.SIGKILL)
"""
    link = SHARED_MEMORY / block.shm_name
    assert run_python(source, block.shm_name, check=False).returncode == -9
    assert wait_until_gone(link)
    assert block.value()[-1] == LARGE - 1
    assert SHARED_MEMORY / block.shm_name == link
    assert link.exists()


def test_a_foreign_program_that_unlinks_takes_only_the_name(shared: Plane) -> None:
    block = shared.put("x", np.arange(LARGE))
    run_python(
        "import sys; from multiprocessing.shared_memory import SharedMemory; s = SharedMemory(name=sys.argv[1]); "
        "s.close(); s.unlink()",
        block.shm_name,
    )
    assert links_of(shared.name) == []
    assert block.value()[-1] == LARGE - 1
    assert run_in_child(lengths, shared) == {"x": LARGE}
    assert value_by_standard_library(block) == block.buffer().tobytes()


def value_by_standard_library(block: Block) -> bytes:
    with closing(block.shared_memory()) as shared:
        memory: Any = shared.buf
        return bytes(memory[block.shm_offset : block.shm_offset + block.nbytes])


def test_every_kind_and_size_is_read_through_shared_memory(shared: Plane) -> None:
    table = pa.table({"n": np.arange(50_000)})
    for value in (np.arange(3.0), np.arange(LARGE), b"abc", b"abc" * LARGE, {"a": [1]}, table, table.slice(0, 3)):
        block = shared.put("x", value)
        assert value_by_standard_library(block) == block.buffer().tobytes()
    stream = value_by_standard_library(shared.put("t", table))
    assert pa.ipc.open_stream(stream).read_all().equals(table)


def test_a_small_block_is_shown_as_a_copy_that_ends_with_its_handle(shared: Plane) -> None:
    block = shared.put("small", b"abc")
    first = block.shm_name
    assert block.shm_name == first  # one copy, not one for each time
    assert shared.attach("small").shm_name != first
    link = SHARED_MEMORY / first
    assert link.exists()
    block.close()
    del block
    shared.gc()
    assert wait_until_gone(link)
    assert shared["small"] == b"abc"


def test_ours_is_not_tracked(shared: Plane) -> None:
    block = shared.put("x", b"abc" * LARGE)
    assert run_in_child(opens_and_leaves, shared, block.shm_name) == b"abc"
    time.sleep(0.3)
    assert (SHARED_MEMORY / links_of(shared.name)[0]).exists()


def opens_and_leaves(plane: Plane, name: str) -> bytes:
    block = plane.attach("x")
    shared = block.shared_memory()
    assert shared.name == name == block.shm_name
    memory: Any = shared.buf
    return bytes(memory[:3])


def test_what_a_program_has_open_is_never_used_again(shared: Plane) -> None:
    first = np.full(LARGE, 1, np.uint8)
    block = shared.put("x", first)
    with closing(block.shared_memory()) as foreign:
        memory: Any = foreign.buf
        link = SHARED_MEMORY / block.shm_name
        recycled = shared.stats().recycled_nbytes
        block.close()
        shared.delete("x")
        shared.gc()
        assert wait_until_gone(link)
        assert shared.stats().recycled_nbytes == recycled
        for _ in range(3):
            shared["y"] = np.full(LARGE, 2, np.uint8)
        shared["z"] = np.full(LARGE, 3, np.uint8)
        # It has no lease, so what it sees is nobody's business any more; but it is not another block's.
        assert set(bytes(memory[:LARGE])) <= {0, 1}
        memory[0] = 9  # a stated limit: it can write what it has open; that reaches no block
        assert (shared["y"][0], shared["z"][0]) == (2, 3)
        del memory


def test_nothing_is_left_after_destroy(plane_name: str) -> None:
    with Plane(plane_name) as plane:
        blocks = [plane.put(f"x/{number}", bytes(LARGE)) for number in range(3)] + [plane.put("small", b"a")]
        names = [block.shm_name for block in blocks]
        assert len(set(names)) == 4
        assert [path.name for path in links_of(plane_name)] == sorted(names)
        plane.destroy()
    assert links_of(plane_name) == []
    for block in blocks:
        with pytest.raises(ClosedError):
            _ = block.shm_name


def test_a_link_whose_plane_was_removed_by_force_goes_with_the_next_gc(plane_name: str) -> None:
    done = run_python(
        "import os, signal, sys, shmplane\n"
        "plane = shmplane.Plane(sys.argv[1])\n"
        "block = plane.put('x', bytes(200_000))\n"
        "print(block.shm_name, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
        plane_name,
        check=False,
    )
    link = SHARED_MEMORY / done.stdout.strip()
    assert link.exists()
    shutil.rmtree(SHARED_MEMORY / f"shmplane-{os.geteuid()}" / plane_name)
    assert link.stat().st_nlink == 1
    with Plane(f"{plane_name}.other") as other:
        other.gc()
        other.destroy()
    assert not link.exists()


def test_gc_leaves_the_links_of_living_planes(shared: Plane) -> None:
    block = shared.put("x", bytes(LARGE))
    link = SHARED_MEMORY / block.shm_name
    with Plane(f"{shared.name}.other") as other:
        other.gc()
        other.destroy()
    shared.gc()
    assert link.exists()


def test_a_name_and_a_handle_name_the_same_memory(shared: Plane) -> None:
    block = shared.put("x", np.arange(LARGE))
    assert pickle.loads(pickle.dumps(block)).shm_name == block.shm_name


def test_planes_elsewhere_cannot_be_found_by_the_standard_library(plane_root: Path, plane_name: str) -> None:
    with Plane(plane_name, root=plane_root) as plane:
        block = plane.put("x", b"abc")
        for use in (lambda: block.shm_name, lambda: block.shm_offset, block.shared_memory):
            with pytest.raises(UnsupportedValue, match="root='/dev/shm'"):
                use()
        plane.destroy()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["link", "lstat"])
def test_a_name_that_cannot_be_made_is_a_typed_error(
    shared: Plane, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    block = shared.put("x", bytes(LARGE))

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(ShmplaneError):
            _ = block.shm_name
    assert (SHARED_MEMORY / block.shm_name).exists()
