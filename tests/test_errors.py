"""Errors: one root, the standard library's classes besides, facts that survive pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

from shmplane import errors
from shmplane.errors import ShmplaneError

KINDS = [getattr(errors, name) for name in errors.__all__]
FACTS = {"name": "prices", "needed": 4096, "holders": ["worker 1", "worker 2"], "version": None}

BASES = {
    "PlaneNotFound": FileNotFoundError,
    "PlaneFull": MemoryError,
    "PlaneMismatch": ValueError,
    "PlaneCorrupt": ShmplaneError,
    "PlaneSecurityError": PermissionError,
    "UnsupportedPlatform": ShmplaneError,
    "ClosedError": ValueError,
    "BlockNotFound": KeyError,
    "StaleHandle": LookupError,
    "Conflict": ShmplaneError,
    "UnsupportedValue": TypeError,
    "UnsafeCodec": ShmplaneError,
    "LockTimeout": TimeoutError,
    "PoolTimeout": TimeoutError,
    "PoolClosed": ShmplaneError,
    "PullFailed": ConnectionError,
    "TooManyWaiters": ShmplaneError,
    "ItemTooLarge": ValueError,
    "FileTruncated": OSError,
}


def test_the_contract_names_every_error() -> None:
    assert {"ShmplaneError", *BASES} == set(errors.__all__)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_caught_by_the_root_and_by_its_standard_class(kind: type[ShmplaneError]) -> None:
    assert issubclass(kind, ShmplaneError)
    assert issubclass(kind, BASES.get(kind.__name__, Exception))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not ShmplaneError], ids=lambda kind: kind.__name__)
def test_the_bases_are_those_of_the_contract_and_no_others(kind: type[ShmplaneError]) -> None:
    base = BASES[kind.__name__]
    assert kind.__bases__ == ((ShmplaneError,) if base is ShmplaneError else (ShmplaneError, base))


def test_codes_and_what_may_be_tried_again_never_change() -> None:
    assert {kind.code: kind.retryable for kind in KINDS} == {
        "shmplane": False,
        "plane_not_found": False,
        "plane_full": True,
        "plane_mismatch": False,
        "plane_corrupt": False,
        "plane_security": False,
        "unsupported_platform": False,
        "closed": False,
        "block_not_found": False,
        "stale_handle": False,
        "conflict": True,
        "unsupported_value": False,
        "unsafe_codec": False,
        "lock_timeout": True,
        "pool_timeout": True,
        "pool_closed": False,
        "pull_failed": True,
        "too_many_waiters": True,
        "item_too_large": False,
        "file_truncated": False,
    }


def test_codes_are_distinct_and_fit_for_programs() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    assert all(code.isidentifier() and code.islower() for code in codes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_says_whether_to_try_again(kind: type[ShmplaneError]) -> None:
    assert isinstance(kind.retryable, bool)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_facts(kind: type[ShmplaneError]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        arrived = pickle.loads(pickle.dumps(kind("what was tried and found", **FACTS), protocol))
        assert type(arrived) is kind
        assert str(arrived) == "what was tried and found"
        assert arrived.facts == FACTS
        assert {name: getattr(arrived, name) for name in FACTS} == FACTS
        assert arrived.code == kind.code


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_copying(kind: type[ShmplaneError]) -> None:
    twin = copy.copy(kind("message", **FACTS))
    assert (str(twin), twin.facts) == ("message", FACTS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_shows_its_message_without_quotes(kind: type[ShmplaneError]) -> None:
    error = kind("no block 'x'; there are 3 others")
    assert str(error) == "no block 'x'; there are 3 others"
    assert error.args == ("no block 'x'; there are 3 others",)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_documented(kind: type[ShmplaneError]) -> None:
    assert kind.__doc__
    assert kind.__doc__.strip().endswith(".") or "\n" in kind.__doc__
