"""The base of arrays that the compiled core makes: read-only, keeping what owns the bytes, and made by nobody else."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from tests.support.requires import require_core

BYTES = np.arange(8, dtype="u1")


class Owner:
    """What is to live as long as an array of its bytes."""


@pytest.fixture(autouse=True)
def _with_the_core() -> None:
    require_core()


def exporter_of(kept: object, nbytes: int = 8) -> Any:
    from shmplane.core import _core

    return _core.export(kept, BYTES.__array_interface__["data"][0], nbytes)


def test_an_array_over_it_is_read_only_whatever_is_done_and_keeps_what_it_keeps() -> None:
    from shmplane.core import _core

    owner = Owner()
    alive = weakref.ref(owner)
    array = np.ndarray((2, 4), "u1", exporter_of(owner))
    del owner
    assert array.tolist() == BYTES.reshape(2, 4).tolist()
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(TypeError, match="too small"):
        np.ndarray((3, 4), "u1", array.base)
    view = memoryview(array.base)  # type: ignore[arg-type]
    assert view.readonly
    assert _core.kept_by(array.base) is alive()
    assert [name for name in dir(array.base) if not name.startswith("__")] == ["dtype"]
    del array
    gc.collect()
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


def test_a_cycle_through_it_is_found() -> None:
    owner: Any = Owner()
    alive = weakref.ref(owner)
    owner.array = np.ndarray(8, "u1", exporter_of(owner))
    owner.exporter = owner.array.base
    del owner
    gc.collect()
    # NumPy's arrays are not looked through by the collector: only what is reached without one can be found.
    kept: Any = alive()
    assert kept is not None
    del kept.array
    del kept
    gc.collect()
    assert alive() is None


def test_nobody_else_makes_one() -> None:
    exporter = exporter_of(None)
    from shmplane.core import _core

    with pytest.raises(TypeError, match="cannot create"):
        type(exporter)()
    unfit: list[Any] = [(), (None, 0), (None, -1, 8), (None, 0, -1), (None, 0, 2**64), (None, "0", 8), (None, 2**64, 8)]
    for wrong in unfit:
        with pytest.raises((TypeError, OverflowError, ValueError)):
            _core.export(*wrong)
    assert _core.kept_by(BYTES) is None
