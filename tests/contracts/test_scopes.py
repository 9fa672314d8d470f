"""What both scopes promise: one suite for ``Scope``, and for ``AsyncScope`` on asyncio and on trio.

Each test is a coroutine. For ``Scope`` it is run by hand, as it never waits; what differs is in the three ``Kind``s.
"""

# ruff: noqa: PT012, PT031  (the block that raises is the scope, with what it holds)

from __future__ import annotations

import gc
import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane import scopes
from shmplane.errors import ClosedError
from shmplane.scopes import AsyncScope, Scope

Main = Callable[[], Coroutine[Any, Any, None]]


class Resource:
    """Notes when it was closed, and may fail then."""

    def __init__(self, log: list[Any], name: Any, error: BaseException | None = None) -> None:
        self.log, self.name, self.error = log, name, error

    def close(self) -> None:
        self.log.append(self.name)
        if self.error is not None:
            raise self.error


class AsyncResource(Resource):
    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        super().close()

    def close(self) -> None:
        raise AssertionError("aclose comes first")


class Manager:
    """A context manager that notes which error it saw, and may handle it."""

    def __init__(self, log: list[Any], *, handles: bool = False) -> None:
        self.log, self.handles = log, handles

    def __enter__(self) -> Self:
        self.log.append("entered")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        self.log.append(kind)
        return self.handles


class AsyncManager:
    def __init__(self, log: list[Any], *, handles: bool = False) -> None:
        self._manager = Manager(log, handles=handles)

    async def __aenter__(self) -> Manager:
        await anyio.lowlevel.checkpoint()
        return self._manager.__enter__()

    async def __aexit__(self, kind: object, error: object, trace: object) -> bool:
        await anyio.lowlevel.checkpoint()
        return self._manager.__exit__(kind, error, trace)


class Kind:
    """``Scope``, used as an ``AsyncScope`` is."""

    scope: type[Any] = Scope
    resource: type[Resource] = Resource
    manager: type[Any] = Manager

    def run(self, main: Main) -> None:
        with pytest.raises(StopIteration):
            main().send(None)

    def open(self, name: str | None = None) -> AbstractAsyncContextManager[Any]:
        return _entered(Scope(name))

    async def close(self, scope: Any) -> None:
        scope.close()

    async def enter(self, scope: Any, manager: Any) -> Any:
        return scope.enter(manager)


@asynccontextmanager
async def _entered(scope: Scope) -> AsyncIterator[Scope]:
    with scope:
        yield scope


class AsyncKind(Kind):
    scope = AsyncScope
    resource = AsyncResource
    manager = AsyncManager

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def run(self, main: Main) -> None:
        anyio.run(main, backend=self._backend)

    def open(self, name: str | None = None) -> AbstractAsyncContextManager[Any]:
        return AsyncScope(name)

    async def close(self, scope: Any) -> None:
        await scope.close()

    async def enter(self, scope: Any, manager: Any) -> Any:
        return await scope.enter_async(manager)


KINDS = {"plain": Kind(), "asyncio": AsyncKind("asyncio"), "trio": AsyncKind("trio")}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def log() -> list[Any]:
    return []


# Order


def test_cleanup_is_last_in_first_out(kind: Kind, log: list[Any]) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            scope.own(kind.resource(log, "resource"))
            scope.callback(log.append, "callback")
            scope.own("with a way to close it", log.append)
            await kind.enter(scope, kind.manager(log))
            scope.callback(
                kind.resource(log, "method").close if kind.scope is Scope else AsyncResource(log, "method").aclose
            )
            assert log == ["entered"]

    kind.run(main)
    assert log == ["entered", "method", None, "with a way to close it", "callback", "resource"]


def test_a_scope_can_own_a_scope(kind: Kind, log: list[Any]) -> None:
    async def main() -> None:
        async with kind.open() as outer:
            outer.callback(log.append, "outer")
            inner = outer.own(kind.scope())
            inner.callback(log.append, "inner")
            outer.callback(log.append, "above")

    kind.run(main)
    assert log == ["above", "inner", "outer"]


def test_what_a_context_manager_gives_is_what_enter_returns(kind: Kind) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            assert isinstance(await kind.enter(scope, kind.manager([])), Manager)
            stream = scope.enter(io.StringIO("text"))
            assert stream.read() == "text"
        assert stream.closed

    kind.run(main)


# Errors


def test_a_context_manager_sees_the_error_of_the_body_and_may_handle_it(kind: Kind, log: list[Any]) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            scope.callback(lambda: True)  # what a callback returns handles nothing
            await kind.enter(scope, kind.manager(log))
            await kind.enter(scope, kind.manager(log, handles=True))
            await kind.enter(scope, kind.manager(log))
            raise KeyError

    kind.run(main)
    assert log[3:] == [KeyError, KeyError, None]


def test_an_error_of_the_body_alone_goes_on_as_it_is(kind: Kind) -> None:
    error = KeyError()

    async def main() -> None:
        with pytest.raises(KeyError) as raised:
            async with kind.open() as scope:
                scope.own(kind.resource([], "a"))
                raise error
        assert raised.value is error

    kind.run(main)


def test_every_cleanup_runs_and_the_errors_form_a_group_that_says_where_things_came_from(
    kind: Kind, log: list[Any]
) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup, match="'mine'") as raised:
            async with kind.open("mine") as scope:
                for name, error in (("a", KeyError()), ("b", None), ("c", OSError())):
                    scope.own(kind.resource(log, name, error))
        assert [type(error) for error in raised.value.exceptions] == [OSError, KeyError]
        assert all(__file__ in error.__notes__[0] for error in raised.value.exceptions)

    kind.run(main)
    assert log == ["c", "b", "a"]


def test_the_error_of_the_body_joins_the_group(kind: Kind) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with kind.open() as scope:
                scope.own(kind.resource([], "a", OSError()))
                raise KeyError
        assert [type(error) for error in raised.value.exceptions] == [KeyError, OSError]

    kind.run(main)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_goes_on_as_it_is_and_cleanup_errors_are_logged(
    kind: Kind, log: list[Any], interrupt: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with pytest.raises(interrupt):
            async with kind.open() as scope:
                scope.own(kind.resource(log, "a"))
                scope.own(kind.resource(log, "b", OSError("disk")))
                raise interrupt

    kind.run(main)
    assert log == ["b", "a"]
    assert "disk" in caplog.text


def test_an_interrupt_of_a_cleanup_does_not_stop_the_others(
    kind: Kind, log: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt() -> None:
        log.append("interrupted")
        raise KeyboardInterrupt

    async def main() -> None:
        with pytest.raises(KeyboardInterrupt):
            async with kind.open() as scope:
                scope.own(kind.resource(log, "a", OSError("disk")))
                scope.callback(interrupt)

    kind.run(main)
    assert log == ["interrupted", "a"]
    assert "disk" in caplog.text


entries = st.lists(st.tuples(st.sampled_from(["resource", "callback", "manager"]), st.booleans()), max_size=8)


@given(entries=entries, body_fails=st.booleans(), which=st.sampled_from(sorted(KINDS)))
def test_whatever_fails_everything_is_cleaned_up_once_and_every_error_is_said(
    entries: list[tuple[str, bool]], body_fails: bool, which: str
) -> None:
    kind = KINDS[which]
    cleaned: list[int] = []
    raised: list[Exception] = []
    errors = {index: OSError(index) for index, (_, fails) in enumerate(entries) if fails}

    class Leaving(Manager):
        def __init__(self, index: int) -> None:
            self.index = index

        def __enter__(self) -> Self:
            return self

        def __exit__(self, kind: object, error: object, trace: object) -> None:  # type: ignore[override]
            clean(self.index)

    def clean(index: int) -> None:
        cleaned.append(index)
        if index in errors:
            raise errors[index]

    async def main() -> None:
        try:
            async with kind.open() as scope:
                for index, (what, _) in enumerate(entries):
                    if what == "resource":
                        scope.own(kind.resource(cleaned, index, errors.get(index)))
                    elif what == "callback":
                        scope.callback(clean, index)
                    else:
                        scope.enter(Leaving(index))
                if body_fails:
                    raise KeyError
        except KeyError as error:
            raised.append(error)
        except ExceptionGroup as group:
            raised.extend(group.exceptions)

    kind.run(main)
    assert cleaned == list(reversed(range(len(entries))))
    assert [type(error) for error in raised[: len(raised) - len(errors)]] == [KeyError] * body_fails
    assert raised[len(raised) - len(errors) :] == [errors[index] for index in sorted(errors, reverse=True)]


# Taking and handing over


def test_what_is_released_is_not_closed(kind: Kind, log: list[Any]) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            one, two = scope.own(kind.resource(log, "one")), scope.own(kind.resource(log, "two"))
            assert scope.release(one) is one
            with pytest.raises(ValueError, match="does not hold"):
                scope.release(one)
        assert two is not one

    kind.run(main)
    assert log == ["two"]


def test_release_goes_by_identity(kind: Kind, log: list[Any]) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            scope.own([], lambda _: log.append("closed"))
            with pytest.raises(ValueError, match="does not hold"):
                scope.release([])

    kind.run(main)
    assert log == ["closed"]


def test_closing_twice_is_harmless_and_a_closed_scope_takes_nothing(kind: Kind, log: list[Any]) -> None:
    async def main() -> None:
        scope = kind.scope()
        scope.callback(log.append, "a")
        assert not scope.closed
        await kind.close(scope)
        await kind.close(scope)
        assert log == ["a"]
        assert scope.closed
        misuses: list[Callable[[], Any]] = [
            lambda: scope.callback(print),
            lambda: scope.own(kind.resource(log, "b")),
            lambda: scope.enter(Manager(log)),
            scope.temporary_file,
            scope.temporary_directory,
        ]
        for misuse in misuses:
            with pytest.raises(ClosedError):
                misuse()
        with pytest.raises(ClosedError):
            await kind.enter(scope, kind.manager(log))
        with pytest.raises(ClosedError):
            async with kind.open() as again:
                await kind.close(again)
                again.callback(print)

    kind.run(main)
    assert log == ["a"]


def test_what_cannot_be_closed_is_refused_at_once(kind: Kind) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            with pytest.raises(TypeError, match="pass close="):
                scope.own(object())

    kind.run(main)


def test_what_is_no_context_manager_or_callable_is_a_type_error_at_the_call(kind: Kind) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            misuses: list[Any] = [scope.enter, scope.callback, lambda end: scope.own(io.StringIO(), end)]
            for misuse in misuses:
                with pytest.raises(TypeError, match="5"):
                    misuse(5)
            with pytest.raises(TypeError, match="5"):
                await kind.enter(scope, 5)
            assert "0 open" in repr(scope)

    kind.run(main)


def test_a_context_manager_that_fails_to_enter_is_not_left(kind: Kind, log: list[Any]) -> None:
    class Refuses(Manager):
        def __enter__(self) -> Self:
            raise OSError("no")

    async def main() -> None:
        async with kind.open() as scope:
            with pytest.raises(OSError, match="no"):
                scope.enter(Refuses(log))

    kind.run(main)
    assert log == []


# What is open


def test_the_report_says_what_is_open_and_where_it_was_acquired(kind: Kind) -> None:
    async def main() -> None:
        async with kind.open("mine") as scope:
            scope.own(kind.resource([], "a"))
            (found,) = (resource for resource in scopes.report() if resource.scope == "mine")
            assert found.file == __file__
            assert found.line > 0
        assert not [resource for resource in scopes.report() if resource.scope == "mine"]

    kind.run(main)


def test_a_forgotten_scope_warns_with_where_the_resource_was_acquired(kind: Kind) -> None:
    scope = kind.scope("forgotten")
    scope.own(kind.resource([], "a"))
    with pytest.warns(ResourceWarning, match="never closed") as warned:
        del scope
        gc.collect()
    assert warned[0].filename == __file__


# Temporary files


@pytest.fixture
def own_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No other test's ``gc`` is faster: this one's files lie elsewhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.mark.usefixtures("own_temporary_files")
def test_temporary_files_are_there_and_then_gone(kind: Kind) -> None:
    async def main() -> None:
        async with kind.open() as scope:
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

    kind.run(main)


def test_temporary_files_go_also_when_the_body_and_a_cleanup_fail(kind: Kind) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with kind.open() as scope:
                files.append(scope.temporary_file())
                scope.own(kind.resource([], "a", OSError()))
                files.append(scope.temporary_file())
                raise KeyError

    files: list[Path] = []
    kind.run(main)
    assert len(files) == 2
    assert not any(file.exists() for file in files)


def test_a_temporary_file_that_was_moved_or_removed_is_no_error(kind: Kind, tmp_path: Path) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            one, two = scope.temporary_file(), scope.temporary_file()
            one.rename(tmp_path / "kept")
            two.unlink()

    kind.run(main)
    assert (tmp_path / "kept").exists()


@pytest.mark.usefixtures("own_temporary_files")
def test_a_temporary_file_that_was_handed_over_stays(kind: Kind) -> None:
    async def main() -> None:
        async with kind.open() as scope:
            file = scope.release(scope.temporary_file())
            other = scope.temporary_file()
        assert file.exists()
        assert not other.exists()
        # Without it, the next scope to make a file leaves nothing behind, not even the directory.
        for path in (file, file.parent / ".kept"):
            path.unlink()
        async with kind.open() as scope:
            scope.temporary_file()
        assert not file.parent.exists()

    kind.run(main)
