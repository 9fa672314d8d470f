"""The scope for plain code."""

# ruff: noqa: PT012  (the block that raises is the scope, with what it holds)

from __future__ import annotations

import errno
import os
import tempfile

import pytest

import shmplane
from shmplane import scopes
from shmplane.scopes import Scope
from tests.support.forked import run_forked
from tests.support.processes import Child


class Resource:
    """Notes when it was closed."""

    def __init__(self, log: list[str], name: str, error: BaseException | None = None) -> None:
        self.log, self.name, self.error = log, name, error

    def close(self) -> None:
        self.log.append(self.name)
        if self.error is not None:
            raise self.error


@pytest.fixture
def own_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No other test's ``gc`` is faster: this one's files lie elsewhere, also its children's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_an_interrupt_of_a_cleanup_does_not_stop_the_others(caplog) -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt), Scope() as scope:
        scope.own(Resource(log, "a", OSError("disk")))
        scope.own(Resource(log, "b", KeyboardInterrupt()))
    assert log == ["b", "a"]
    assert "disk" in caplog.text


@pytest.mark.usefixtures("own_temporary_files")
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, shmplane.PlaneFull),
        (errno.EDQUOT, shmplane.PlaneFull),
        (errno.EMFILE, shmplane.PlaneFull),
        (errno.EACCES, shmplane.PlaneSecurityError),
        (errno.EROFS, shmplane.PlaneSecurityError),
    ],
)
@pytest.mark.parametrize("call", ["mknod", "mkdir"])
def test_a_temporary_file_that_cannot_be_made_is_a_typed_error(
    monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception], call: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with Scope() as scope:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(expected, match=os.strerror(number)) as raised:
                scope.temporary_file()
        assert isinstance(raised.value, shmplane.ShmplaneError)
        assert raised.value.facts["errno"] == number
        assert scope.temporary_file().exists()  # and it works again


def _makes_files():
    scope = Scope()
    file, directory, given = scope.temporary_file(), scope.temporary_directory(), scope.temporary_file()
    (directory / "x").write_text("x")
    scope.release(given)
    yield [str(file), str(directory), str(given)]


@pytest.mark.usefixtures("own_temporary_files")
def test_files_of_a_killed_owner_are_removed_by_the_next_gc_of_any_plane() -> None:
    with Child(_makes_files) as child, shmplane.Plane.temporary() as plane:
        file, directory, given = child.next()
        assert scopes.reclaim_orphans() == plane.gc().files == 0
        assert os.path.exists(file)
        child.kill()
        assert scopes.reclaim_orphans(dry_run=True) == 2
        assert os.path.exists(file)
        assert plane.gc().files == 2
    assert not os.path.exists(file)
    assert not os.path.exists(directory)
    assert os.path.exists(given)
    for path in (given, os.path.join(os.path.dirname(given), ".kept")):
        os.unlink(path)
    os.rmdir(os.path.dirname(given))


def test_a_forked_child_does_not_clean_up_what_its_parent_acquired(tmp_path) -> None:
    note = tmp_path / "note"
    with Scope() as scope:
        file = scope.temporary_file()
        scope.callback(note.write_text, "closed")

        def use_own() -> None:
            with Scope() as own:
                mine = own.temporary_file()
                assert mine.parent != file.parent
            scope.close()
            assert file.exists()
            assert not note.exists()
            assert not mine.exists()

        run_forked(use_own)
        assert file.exists()
        assert not note.exists()
    assert note.exists()
