"""The public names: importable, documented, and the same for type checkers as at run time."""

from __future__ import annotations

import importlib.resources
import inspect
from typing import Any

import pytest

import shmplane
from shmplane import errors

NAMES = sorted(shmplane.__all__)


def test_there_are_public_names_and_none_twice() -> None:
    assert len(set(shmplane.__all__)) == len(shmplane.__all__) > 0
    assert {"Plane", "Block"} <= set(shmplane.__all__)


def test_what_public_calls_return_is_public_too() -> None:
    records = {
        "BlockInfo",
        "PlaneStatistics",
        "Reclaimed",
        "SemaphoreInfo",
        "Health",
        "Check",
        "PoolStatistics",
        "Histogram",
    }
    assert records | {"Measurement", "OpenResource"} <= set(shmplane.__all__)
    assert type(shmplane.ConnectionPool(object).health()) is shmplane.Health


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(shmplane.__all__)
    assert [name for name in errors.__all__ if getattr(shmplane, name) is not getattr(errors, name)] == []


def test_a_public_name_is_importable() -> None:
    for name in NAMES:
        namespace: dict[str, Any] = {}
        exec(f"from shmplane import {name}", namespace)
        assert namespace[name] is getattr(shmplane, name), name


def test_a_public_object_is_documented() -> None:
    things = {name: getattr(shmplane, name) for name in NAMES}
    assert [name for name, thing in things.items() if callable(thing) and not (thing.__doc__ or "").strip()] == []


def test_every_public_method_is_documented() -> None:
    kinds = [thing for name in NAMES if inspect.isclass(thing := getattr(shmplane, name))]
    assert kinds
    undocumented = [
        f"{kind.__name__}.{member}"
        for kind in kinds
        for member, value in vars(kind).items()
        if not member.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod)))
        and not (inspect.getdoc(getattr(kind, member)) or "").strip()
    ]
    assert undocumented == []


def test_dir_shows_the_public_names() -> None:
    assert set(shmplane.__all__) <= set(dir(shmplane))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        shmplane.no_such_name  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (importlib.resources.files("shmplane") / "py.typed").is_file()
