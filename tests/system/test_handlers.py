"""Whether an exception came from a signal handler: as handlers are really written, and called by CPython."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shmplane.system import ignoring, is_from_handler, own


class Deadline(TimeoutError):
    pass


def takes_anything(*_: Any) -> None:
    raise Deadline


def takes_both(signum: int, frame: object) -> None:
    raise Deadline


def drops_its_arguments(signum: int, frame: object) -> None:
    del signum, frame
    raise Deadline


def calls_something(signum: int, frame: object) -> None:
    _raise()


def restores_another(signum: int, frame: object) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    raise Deadline


def uses_its_arguments_inside(signum: int, frame: object) -> None:
    def inner() -> object:
        return frame

    inner()
    raise Deadline


def raises_again(signum: int, frame: object) -> None:
    try:
        _raise()
    except Deadline as first:
        raise first.with_traceback(first.__traceback__) from None


def has_options(extra: str, signum: int, frame: object, *, more: int = 0) -> None:
    raise Deadline


def _raise() -> None:
    raise Deadline


class Handler:
    def method(self, signum: int, frame: object) -> None:
        del signum, frame
        raise Deadline

    def __call__(self, signum: int, frame: object) -> None:
        del signum, frame
        raise Deadline


HANDLERS: list[Callable[..., Any]] = [
    takes_anything,
    takes_both,
    drops_its_arguments,
    calls_something,
    restores_another,
    uses_its_arguments_inside,
    raises_again,
    functools.partial(has_options, "extra"),
    Handler().method,
    Handler(),
]


@pytest.fixture(params=HANDLERS, ids=lambda handler: getattr(handler, "__qualname__", type(handler).__name__))
def handled(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, request.param)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _interrupted() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(3):
        pass


@pytest.mark.usefixtures("handled")
def test_what_a_handler_raises_is_known_as_its_own() -> None:
    with pytest.raises(Deadline) as caught:
        _interrupted()

    assert is_from_handler(caught.value)


def _be_interrupted_in_a_call() -> None:
    try:
        _interrupted()
    except own(OSError) as error:
        raise AssertionError("it was taken for a failed call") from error


@pytest.mark.usefixtures("handled")
def test_an_except_for_what_a_call_raises_lets_it_pass() -> None:
    with pytest.raises(Deadline):
        _be_interrupted_in_a_call()


@pytest.mark.usefixtures("handled")
def test_ignoring_what_a_call_raises_lets_it_pass() -> None:
    with pytest.raises(Deadline), ignoring(OSError):
        _interrupted()


def test_what_the_call_itself_raises_is_caught() -> None:
    try:
        os.stat("/nowhere/to/be/found")
    except own(FileNotFoundError, ValueError):
        pass
    with ignoring(FileNotFoundError):
        os.stat("/nowhere/to/be/found")


def test_an_error_of_a_callback_that_is_no_handler_is_caught() -> None:
    def callback(number: int, other: object) -> None:
        raise ValueError(number)

    caught = None
    try:
        callback(1, sys)
    except own(ValueError) as error:
        caught = error
    assert caught is not None
    assert caught.args == (1,)


def _look_up_in_vain() -> None:
    try:
        dict[str, int]()["missing"]
    except own(OSError):
        raise AssertionError("a KeyError is no OSError") from None


def test_another_kind_passes_an_except_for_its_own() -> None:
    with pytest.raises(KeyError):
        _look_up_in_vain()
