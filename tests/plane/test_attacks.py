"""Files of a plane that somebody planted, cut or wrote over: a typed error or the right answer, never a signal or a hang."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmplane
from shmplane.manifest import directory_of
from tests.support import inside
from tests.support.forked import Forked
from tests.support.processes import Child

OPTIONS: dict[str, Any] = {"capacity": 8 << 20, "max_blocks": 64, "max_processes": 4}
CONTENTS = {"a": b"a" * 40, "b": b"b" * 9_000, "c": b"c" * 100_000}


def make(root: Path) -> Path:
    """A plane at rest with some blocks; its directory."""
    with shmplane.Plane("plane", root=str(root), **OPTIONS) as plane:
        for name, value in CONTENTS.items():
            plane[name] = value
        plane["gone"] = b"x" * 70_000
        del plane["gone"]
    return Path(directory_of(str(root))) / "plane"


def reopen(root: Path) -> None:
    with shmplane.Plane("plane", root=str(root)) as plane:
        assert bytes(plane["a"]) == CONTENTS["a"]


# Planted files


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


def _give_away(path: Path) -> None:
    os.chown(path, 65_534, 65_534)


ATTACKS: dict[str, Callable[[Path], None]] = {
    "a link": _link,
    "a pipe": _pipe,
    "a directory": _directory,
    "open to all": _open_to_all,
}


@pytest.mark.parametrize("name", ["manifest", "tokens", "lock"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_planted_file_is_refused(plane_root: Path, name: str, attack: str) -> None:
    ATTACKS[attack](make(plane_root) / name)

    with pytest.raises(shmplane.PlaneSecurityError):
        reopen(plane_root)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_planted_segment_is_refused(plane_root: Path, attack: str) -> None:
    directory = make(plane_root)
    for segment in list(directory.glob("s*")):
        ATTACKS[attack](segment)

    with pytest.raises(shmplane.PlaneSecurityError):
        reopen(plane_root)


def test_a_directory_in_place_of_a_segment_is_an_error_and_goes_with_the_plane(plane_root: Path) -> None:
    with shmplane.Plane("plane", root=str(plane_root), **OPTIONS) as plane:
        for name, value in CONTENTS.items():
            plane[name] = value
        inside.forget_views(plane)
        inside.forget_mappings(plane)
        for segment in inside.directory_of(plane).glob("s*"):
            segment.unlink()
            segment.mkdir(0o700)
            (segment / "stray").mkdir()
            (segment / "stray" / "file").write_bytes(b"x")
        for use in (lambda: plane["c"], lambda: plane.put("a", b"a" * 40), lambda: plane.attach("b").value()):
            with pytest.raises(shmplane.ShmplaneError):
                use()
        plane["new"] = b"n" * 100_000
        for name in CONTENTS:
            plane.delete(name)
        plane.trim()
        plane.gc()
        assert plane.names() == ["new"]
        assert bytes(plane["new"]) == b"n" * 100_000
        plane.destroy()
    assert not list(plane_root.glob("shmplane-*/*"))


def test_whatever_lies_in_a_planes_directory_goes_with_the_plane(plane_root: Path, tmp_path: Path) -> None:
    """Also with the gc that finds the rest of a removal; and nothing is followed out of it."""
    (tmp_path / "precious").write_bytes(b"stays")

    def litter(directory: Path) -> None:
        (directory / "stray" / "deep").mkdir(parents=True)
        (directory / "stray" / "deep" / "file").write_bytes(b"x")
        (directory / "link").symlink_to(tmp_path)

    with shmplane.Plane("plane", root=str(plane_root), **OPTIONS) as plane, shmplane.Plane.temporary() as other:
        litter(inside.directory_of(plane))
        plane.destroy()
        half_removed = inside.directory_of(other).parent / ".dead-0123"
        half_removed.mkdir(0o700)
        litter(half_removed)
        assert other.gc().planes == 1
    assert not list(plane_root.glob("shmplane-*/*"))
    assert (tmp_path / "precious").read_bytes() == b"stays"


@pytest.mark.usefixtures("needs_root")
@pytest.mark.parametrize("name", ["manifest", "tokens", "lock", "."])
def test_a_file_of_another_user_is_refused(plane_root: Path, name: str) -> None:
    _give_away(make(plane_root) / name)

    with pytest.raises(shmplane.PlaneSecurityError):
        reopen(plane_root)


@pytest.mark.parametrize("where", [".", ".."])
def test_directories_that_let_others_in_are_refused(plane_root: Path, where: str) -> None:
    (make(plane_root) / where).chmod(0o755)

    with pytest.raises(shmplane.PlaneSecurityError):
        reopen(plane_root)


def test_a_linked_directory_is_refused(plane_root: Path) -> None:
    directory = make(plane_root)
    directory.rename(plane_root / "elsewhere")
    directory.symlink_to(plane_root / "elsewhere")

    with pytest.raises(shmplane.PlaneSecurityError):
        reopen(plane_root)


# Cut and written over


@pytest.mark.parametrize("nbytes", [0, 7, 100, 4096, -4096, -8, 8])
def test_a_manifest_of_another_size_is_refused(plane_root: Path, nbytes: int) -> None:
    manifest = make(plane_root) / "manifest"
    size = manifest.stat().st_size
    os.truncate(manifest, nbytes if 0 <= nbytes != 8 else size + nbytes)

    with pytest.raises(shmplane.PlaneCorrupt):
        reopen(plane_root)


def test_a_segment_that_was_cut_is_an_error_and_no_signal(plane_root: Path) -> None:
    for segment in make(plane_root).glob("s*"):
        os.truncate(segment, 0)

    with shmplane.Plane("plane", root=str(plane_root)) as plane:
        for name in CONTENTS:
            with pytest.raises(shmplane.PlaneCorrupt):
                plane[name]
        plane.destroy()


def test_a_missing_segment_is_an_error(plane_root: Path) -> None:
    for segment in make(plane_root).glob("s*"):
        segment.unlink()

    with shmplane.Plane("plane", root=str(plane_root)) as plane:
        for name in CONTENTS:
            with pytest.raises(shmplane.PlaneCorrupt):
                plane[name]
        plane.destroy()


def _mutate(manifest: Path, original: bytes, mutations: random.Random) -> str:
    """Write over a few words, of those that are in use for the most part."""
    used = [at for at in range(0, len(original), 8) if original[at : at + 8] != bytes(8)]
    with manifest.open("r+b") as file:
        file.write(original)
        done = []
        for _ in range(mutations.choice([1, 1, 1, 2, 5, 50])):
            at = mutations.choice(used) if mutations.random() < 0.8 else 8 * mutations.randrange(len(original) // 8)
            was = int.from_bytes(original[at : at + 8], "little")
            word = mutations.choice(
                [0, 1, was + 1, was - 1, was ^ (1 << mutations.randrange(64)), 2**64 - 1, 2**63, 2**32,
                 mutations.randrange(200), mutations.randrange(2**64)]
            ) % 2**64  # fmt: skip
            file.seek(at)
            file.write(word.to_bytes(8, "little"))
            done.append((at, word))
    return repr(done)


def _use_what_is_left(root: str) -> None:
    """Every call, on a plane that may be nonsense: only errors of the library are allowed."""
    with contextlib.suppress(shmplane.ShmplaneError), shmplane.Plane("plane", root=root) as plane:
        for act in (
            lambda: plane.names(),
            lambda: [bytes(plane[name])[:1] for name in CONTENTS if name in plane],
            lambda: plane.blocks(),
            lambda: plane.stats(),
            lambda: plane.__setitem__("new", b"n"),
            lambda: plane.__setitem__("new", b"N" * 70_000),
            lambda: plane.delete("a"),
            lambda: plane.rename("b", "d"),
            lambda: plane.gc(),
            lambda: plane.trim(),
        ):
            with contextlib.suppress(shmplane.ShmplaneError):
                act()


def _scribble(root: Path, seed: int, rounds: int) -> list[str]:
    """Mutate and use, each in a forked child; what went wrong."""
    directory = make(root)
    manifest = directory / "manifest"
    pristine = root / "pristine"
    shutil.copytree(directory, pristine)
    original = manifest.read_bytes()
    mutations, problems = random.Random(seed), []
    for round_ in range(rounds):
        done = _mutate(manifest, original, mutations)
        status, said = Forked(lambda: _use_what_is_left(str(root))).end(15)
        if status != 0:
            problems.append(f"seed {seed}, round {round_}, {done}: status {status}\n{said}")
        _restore(directory, pristine)
    return problems


def _restore(directory: Path, pristine: Path) -> None:
    """A mutated plane may have removed its files, rightly."""
    if not all((directory / name).exists() for name in ("manifest", "lock", "tokens")):
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copytree(pristine, directory)
        return
    for path in pristine.iterdir():
        if not (directory / path.name).exists():
            shutil.copy2(path, directory / path.name)


@pytest.mark.parametrize("seed", range(2))
def test_a_manifest_that_was_written_over_gives_errors_of_the_library_only(plane_root: Path, seed: int) -> None:
    problems = _scribble(plane_root, seed, 120)

    assert not problems, "\n".join(problems[:5])


@pytest.mark.sweep
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("seed", range(100, 120))
def test_the_same_many_times(plane_root: Path, seed: int) -> None:
    problems = _scribble(plane_root, seed, 50_000)

    assert not problems, "\n".join(problems[:5])


# Under the feet of readers


def test_a_block_deleted_while_it_is_attached_is_whole_or_not_there(plane: shmplane.Plane) -> None:
    stop, errors, seen = threading.Event(), [], [0]

    def read() -> None:
        try:
            while not stop.is_set():
                with contextlib.suppress(shmplane.BlockNotFound), plane.attach("x") as block:
                    found = bytes(block.buffer())
                    assert len(set(found)) == 1, set(found)
                    seen[0] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    with Child(_attach_often, plane, method="fork") as child:
        child.next()
        child._tell("finish")
        deadline, value = time.monotonic() + 1.0, 0
        while time.monotonic() < deadline:
            value = (value + 1) % 256
            plane["x"] = bytes([value]) * (70_000 if value % 2 else 300)
            if value % 3 == 0:
                del plane["x"]
        stop.set()
        (Path(plane.root) / "stop").touch()
        in_child = child.result()
    for thread in threads:
        thread.join()
    (Path(plane.root) / "stop").unlink()
    assert not errors
    assert seen[0]
    assert in_child


def _attach_often(plane: shmplane.Plane) -> Any:
    yield "ready"
    seen = 0
    while not (Path(plane.root) / "stop").exists():
        with contextlib.suppress(shmplane.BlockNotFound), plane.attach("x") as block:
            assert len(set(bytes(block.buffer()))) == 1
            seen += 1
    return seen


def test_views_outlive_a_plane_that_is_destroyed_under_readers(plane_root: Path) -> None:
    plane = shmplane.Plane("plane", root=str(plane_root), **OPTIONS)
    plane["x"] = b"x" * 100_000
    with Child(_read_until_destroyed, plane, method="fork") as child:
        assert child.next() == "reading"
        plane.destroy()
        assert child.result() == b"x" * 100_000
    with pytest.raises(shmplane.ClosedError):
        plane["x"]
    assert not list(Path(directory_of(str(plane_root))).iterdir())


def _read_until_destroyed(plane: shmplane.Plane) -> Any:
    view = plane["x"]
    yield "reading"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            plane["x"]
            plane.names()
        except shmplane.ClosedError:
            return bytes(view)
    raise AssertionError("the plane goes on")
