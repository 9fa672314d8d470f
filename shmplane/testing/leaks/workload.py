"""The process in which a function is called again and again, and what it leaves behind is counted."""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...plane import Plane
from .. import counts
from .workers import follow

__all__ = ["default_cycle"]

#: a lease ends within 50 ms after its last view
_SETTLE_S = 0.2


def default_cycle(plane: Plane) -> None:
    """A put, a get and the end of all: arrays, tables, bytes and JSON, an edit, a lock, a handle, a delete."""
    import numpy as np
    import pyarrow as pa

    plane["array"] = np.arange(100_000.0)
    plane["table"] = pa.table({"x": np.arange(10_000), "s": ["word"] * 10_000})
    plane["bytes"], plane["json"] = b"x" * 1000, {"a": [1, 2, 3]}
    views = [plane[name] for name in plane]
    with plane.edit("array") as draft:
        draft.array[17] = 3.0
    with plane.lock("lock"), plane.attach("table") as block:
        views.append(block.value())
    del views
    for name in list(plane):
        del plane[name]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--captures", type=Path)
    parser.add_argument("--cycles", type=int)
    parser.add_argument("function")
    options = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    with Plane.temporary() as plane:
        left = _measure(_bound(options.function, plane), options.cycles, options.captures)
        (options.captures / "left.json").write_text(json.dumps(left))


def _bound(name: str, plane: Plane) -> Callable[[], object]:
    """The function, with a plane when it takes an argument."""
    module, _, function = name.partition(":")
    called = getattr(importlib.import_module(module), function)
    wants_plane = any(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in inspect.signature(called).parameters.values()
    )
    return (lambda: called(plane)) if wants_plane else called


def _measure(call: Callable[[], object], cycles: int, captures: Path) -> dict[str, Any]:
    import memray

    root = os.environ["SHMPLANE_ROOT"]
    with memray.Tracker(captures / "first.bin"):
        pass  # it keeps a pipe from here on
    for _ in range(max(3, cycles // 10)):
        call()
    _settle()
    before = counts.take(root)
    tracker = memray.Tracker(captures / "main.bin")
    follow(captures, tracker)
    with tracker:
        for _ in range(cycles):
            call()
        _settle()
    return {kind: dict(things) for kind, things in counts.settled_growth(before, root).items()}


def _settle() -> None:
    for _ in range(2):
        gc.collect()
        time.sleep(_SETTLE_S)


if __name__ == "__main__":
    main()
