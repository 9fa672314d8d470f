"""The scope for plain code."""

# ruff: noqa: PT012, PT031  (the block that raises is the scope, with what it holds)

from __future__ import annotations

import gc
import io
import os
import tempfile
from typing import Any

import pytest

import shmplane
from shmplane import scopes
from shmplane.errors import ClosedError
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


def test_cleanup_is_last_in_first_out() -> None:
    log: list[str] = []
    with Scope() as scope:
        scope.own(Resource(log, "a"))
        scope.callback(log.append, "b")
        scope.own("thing", log.append)
        assert log == []
    assert log == ["thing", "b", "a"]


def test_context_managers_are_entered_and_left() -> None:
    with Scope() as scope:
        stream = scope.enter(io.StringIO("text"))
        assert stream.read() == "text"
    assert stream.closed


def test_a_context_manager_sees_and_may_handle_the_error_of_the_body() -> None:
    with Scope() as scope:
        scope.callback(lambda: True)
        scope.enter(pytest.raises(KeyError))
        raise KeyError


def test_an_error_of_the_body_alone_goes_on_as_it_is() -> None:
    with pytest.raises(KeyError), Scope() as scope:
        scope.own(Resource([], "a"))
        raise KeyError


def test_every_cleanup_runs_and_the_errors_form_a_group() -> None:
    log: list[str] = []
    with pytest.raises(ExceptionGroup) as raised, Scope("s") as scope:
        for name, error in (("a", KeyError()), ("b", None), ("c", OSError())):
            scope.own(Resource(log, name, error))
    assert log == ["c", "b", "a"]
    assert [type(error) for error in raised.value.exceptions] == [OSError, KeyError]
    assert "test_scope.py" in raised.value.exceptions[0].__notes__[0]


def test_the_error_of_the_body_joins_the_group() -> None:
    with pytest.raises(ExceptionGroup) as raised, Scope() as scope:
        scope.own(Resource([], "a", OSError()))
        raise KeyError
    assert [type(error) for error in raised.value.exceptions] == [KeyError, OSError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_on_as_it_is_and_cleanup_errors_are_logged(kind, caplog) -> None:
    log: list[str] = []
    with pytest.raises(kind), Scope() as scope:
        scope.own(Resource(log, "a"))
        scope.own(Resource(log, "b", OSError("disk")))
        raise kind
    assert log == ["b", "a"]
    assert "disk" in caplog.text


def test_an_interrupt_of_a_cleanup_does_not_stop_the_others(caplog) -> None:
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt), Scope() as scope:
        scope.own(Resource(log, "a", OSError("disk")))
        scope.own(Resource(log, "b", KeyboardInterrupt()))
    assert log == ["b", "a"]
    assert "disk" in caplog.text


def test_what_is_released_is_not_closed() -> None:
    log: list[str] = []
    with Scope() as scope:
        one, two = scope.own(Resource(log, "one")), scope.own(Resource(log, "two"))
        assert scope.release(one) is one
        with pytest.raises(ValueError, match="does not hold"):
            scope.release(one)
    assert log == ["two"]
    assert two is not one


def test_closing_twice_is_harmless_and_a_closed_scope_takes_nothing() -> None:
    log: list[str] = []
    scope = Scope()
    scope.callback(log.append, "a")
    scope.close()
    scope.close()
    assert log == ["a"]
    for use in (lambda: scope.callback(print), lambda: scope.own(Resource(log, "b")), scope.temporary_file):
        with pytest.raises(ClosedError):
            use()


def test_what_cannot_be_closed_is_refused_at_once() -> None:
    with Scope() as scope, pytest.raises(TypeError, match="pass close="):
        scope.own(object())


def test_what_is_no_context_manager_or_callable_is_a_type_error_at_the_call() -> None:
    stream = io.StringIO()
    with Scope() as scope:
        misuses: list[Any] = [scope.enter, scope.callback, lambda end: scope.own(stream, end)]
        for misuse in misuses:
            with pytest.raises(TypeError, match="5"):
                misuse(5)
        assert "0 open" in repr(scope)


def test_the_report_says_what_is_open_and_where_it_was_acquired() -> None:
    with Scope("mine") as scope:
        scope.own(Resource([], "a"))
        (found,) = (resource for resource in scopes.report() if resource.scope == "mine")
        assert found.file == __file__
        assert found.line > 0
    assert not [resource for resource in scopes.report() if resource.scope == "mine"]


def test_a_forgotten_scope_warns_with_where_the_resource_was_acquired() -> None:
    scope = Scope("forgotten")
    scope.own(Resource([], "a"))
    with pytest.warns(ResourceWarning, match="never closed") as warned:
        del scope
        gc.collect()
    assert warned[0].filename == __file__


@pytest.mark.usefixtures("own_temporary_files")
def test_temporary_files_are_there_and_then_gone() -> None:
    with Scope() as scope:
        file, directory = scope.temporary_file(".csv"), scope.temporary_directory()
        assert file.suffix == ".csv"
        assert os.stat(file).st_mode & 0o777 == 0o600
        assert os.stat(directory).st_mode & 0o777 == 0o700
        (directory / "deep").mkdir()
        (directory / "deep" / "x").write_text("x")
        assert scopes.reclaim_orphans() == 0
        assert file.exists()
    assert not file.exists()
    assert not directory.exists()
    assert not file.parent.exists()


def test_a_temporary_file_that_was_moved_or_removed_is_no_error(tmp_path) -> None:
    with Scope() as scope:
        one, two = scope.temporary_file(), scope.temporary_file()
        one.rename(tmp_path / "kept")
        two.unlink()
    assert (tmp_path / "kept").exists()


def test_a_temporary_file_that_was_handed_over_stays() -> None:
    with Scope() as scope:
        file = scope.release(scope.temporary_file())
    assert file.exists()
    for path in (file, file.parent / ".kept"):
        path.unlink()
    with Scope() as scope:
        scope.temporary_file()
    assert not file.parent.exists()


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
