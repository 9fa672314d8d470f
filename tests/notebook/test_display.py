"""What trees, pools and caches look like in a notebook: what is said, and that nobody's text is markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import shmplane
from shmplane import AsyncConnectionPool, Cache, ConnectionPool, Plane
from tests.connections.fakes import Server
from tests.support.page import Page, page_of
from tests.support.processes import run_python
from tests.support.stuck import lock_taken

HOSTILE = "<script>alert(1)</script>&\"'"


def shown(thing: Any) -> Page:
    bundle = thing._repr_mimebundle_(include=None, exclude=None)
    assert bundle.get("text/plain", repr(thing)) == repr(thing)
    return page_of(bundle["text/html"])


def test_a_tree_shows_its_leaves_and_where_they_are(plane: Plane) -> None:
    plane["model"] = {
        "epoch": 3,
        "layers": [np.zeros((1000, 10), "f4"), {"bias": np.ones(3)}],
        "log": pa.table({"loss": [0.5, 0.25]}),
        "frame": pd.DataFrame({"a": [1]}),
        "raw": b"abc",
    }
    text = shown(plane["model"]).text
    assert "tree of 6 leaves, 40,043 B" in text
    assert '["layers"][0] ndarray float32 1,000 x 10, 40,000 B' in text
    assert '["layers"][1]["bias"] ndarray float64 3, 24 B' in text
    assert '["log"] Table 2 x 1, 16 B' in text
    assert '["frame"] DataFrame 1 x 1' in text
    assert '["epoch"] 3' in text
    with plane.edit("model") as draft:
        assert "tree of 6 leaves" in shown(draft.tree).text


def test_json_is_shown_as_its_text_alone(plane: Plane) -> None:
    plane["config"] = {"a": [1, {"b": 2}], "c": "<b>"}
    plane["list"] = [[1, 2], 3]
    assert plane["config"]._repr_mimebundle_() == plane["list"]._repr_mimebundle_() == {}


def test_a_large_tree_shows_a_bounded_number_of_leaves(plane: Plane) -> None:
    plane["wide"] = {f"{HOSTILE}{number}": np.ones(1) for number in range(12_000)}
    text = shown(plane["wide"]).text
    assert "tree of more than" in text
    assert HOSTILE[:20] in text
    assert len(plane["wide"]._repr_mimebundle_()["text/html"]) < 30_000
    deep: Any = np.ones(1)
    for _ in range(150):
        deep = [deep]
    plane["deep"] = deep
    assert "tree of 1 leaf" in shown(plane["deep"]).text
    plane["odd"] = {"large": 10**4000, "text": "x" * 10_000, "array": np.ones(1)}
    assert len(plane["odd"]._repr_mimebundle_()["text/html"]) < 3_000


def test_what_would_turn_text_around_is_a_question_mark(plane: Plane) -> None:
    plane["pay\u202e001\u200b"] = {"\u202eline\nline": np.ones(1)}
    assert "pay?001?" in page_of(plane.layout().html()).text
    assert '["?line\\nline"]' in shown(plane["pay\u202e001\u200b"]).text


def test_a_pool_shows_who_has_its_connections_and_what_to_do() -> None:
    server = Server()
    with ConnectionPool(server.connect, name=HOSTILE, max_size=1, timeout=0.01) as pool:
        with pool.connection():
            with pytest.raises(shmplane.PoolTimeout):
                pool.acquire()
            page = shown(pool)
        assert f"ConnectionPool {HOSTILE}: 1 of 1 connections" in page.text
        assert "1 used" in page.text
        assert "1 timed out" in page.text
        assert f"{Path(__file__).name}:" in page.text
        pool.pause()
        assert "Warning: the pool is paused. Cure: resume() lets callers through." in shown(pool).text
        assert "1 idle" in shown(pool).text
        pool.resume()
    assert "Warning: the pool is closed. Cure: make a new one." in shown(pool).text


def test_every_warning_of_a_pool_has_its_cure() -> None:
    server = Server()
    server.fail = OSError(HOSTILE)
    pool = ConnectionPool(server.connect, name="p", timeout=0.05)
    with pytest.raises(shmplane.PoolTimeout):
        pool.acquire()
    page = shown(pool)
    pool.close()
    assert "the last connect failed: OSError" in page.text
    assert page.text.count("Warning:") == page.text.count("Cure:") == 1


async def use_async_pool() -> str:
    server = Server()
    async with AsyncConnectionPool(server.connect, name="tasks", max_size=2) as pool, pool.connection():
        return shown(pool).text


def test_a_pool_for_asyncio_shows_the_same() -> None:
    import asyncio

    text = asyncio.run(use_async_pool())
    assert "AsyncConnectionPool tasks: 1 of 2 connections" in text
    assert "room for 1" in text


def test_a_cache_shows_its_tiers_and_how_often_something_was_found(tmp_path: Path) -> None:
    with Cache(tmp_path / "<b>", memory="1MiB", disk="16MiB") as cache:
        cache["a"] = np.zeros(1000)
        cache.get("a")
        cache.get("b")
        cache["too large"] = np.zeros(2 << 20, "u1")
        text = shown(cache).text
        assert "<b>" in text
        assert "found 1 of 2, 50.0%" in text
        assert "of 1.00 MiB" in text
        assert "Cure: open the cache with a larger memory=." in text
        assert text.count("Warning:") == text.count("Cure:")
    assert set(cache._repr_mimebundle_()) == {"text/plain"}


def test_a_cache_whose_plane_is_held_or_gone_shows_its_line(tmp_path: Path) -> None:
    with Plane.temporary(capacity="16MiB") as plane, Cache(tmp_path, memory="1MiB", disk="8MiB", plane=plane) as cache:
        with lock_taken(plane) as neighbour:
            assert set(cache._repr_mimebundle_()) == {"text/plain"}
            assert neighbour.has_it
        plane.destroy()
        assert set(cache._repr_mimebundle_()) == {"text/plain"}


def test_what_shows_them_is_loaded_when_they_are_shown() -> None:
    code = """
import sys, shmplane
pool = shmplane.ConnectionPool(object)
with shmplane.Plane.temporary() as plane:
    plane["x"] = [1]
    plane["x"], plane.attach("x")
    loaded = [name for name in sys.modules if name.endswith(("markup", "display", "picture_html"))]
    print([name for name in loaded if name.startswith("shmplane")])
    pool._repr_mimebundle_(), plane.attach("x")._repr_mimebundle_(), plane._repr_mimebundle_()
    print([name for name in ("pyarrow", "pandas", "ipywidgets", "IPython") if name in sys.modules])
"""
    assert run_python(code).stdout.splitlines() == ["[]", "[]"]
