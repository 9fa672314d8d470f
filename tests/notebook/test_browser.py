"""What planes, blocks, trees, pools and caches look like in a real JupyterLab in a real browser.

The outputs are those that a kernel would send (IPython's formatters make them); one notebook is trusted, since it is signed,
the other is not, and JupyterLab's own sanitizer goes over it. Both are looked at in light and dark. Not part of the default
run, as JupyterLab is large: ``pip install jupyterlab``, ``apt-get install chromium``, ``pytest -m browser``. The screenshots go
to the directory that ARTEFACTS names.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

import shmplane
from tests.notebook import chromium
from tests.support.inside import nobody_looks_for_the_dead
from tests.support.processes import Child
from tests.support.requires import require

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
HOSTILE = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
SCALE = 1.25  #: of the screenshots

#: What there is to know of each output that has HTML: what a reader sees, and how well.
MEASURE = """
(() => {
  const colour = text => (text.match(/[0-9.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (top, below, share) => top.slice(0, 3).map((part, index) => part * share + below[index] * (1 - share));
  const ground = node => {
    if (!node) return [255, 255, 255];
    const [r, g, b, alpha = 1] = colour(getComputedStyle(node).backgroundColor);
    return alpha === 1 ? [r, g, b] : over([r, g, b], ground(node.parentElement), alpha);
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (node, end) => {
    let share = 1;
    for (let part = node; part && part !== end; part = part.parentElement) share *= Number(getComputedStyle(part).opacity);
    const below = ground(node);
    const [r, g, b] = colour(getComputedStyle(node).color);
    const [more, less] = [light(over([r, g, b], below, share)), light(below)].sort((a, b) => b - a);
    return (more + 0.05) / (less + 0.05);
  };
  return [...document.querySelectorAll('.jp-OutputArea-output.jp-RenderedHTMLCommon')].map(output => {
    const box = output.firstElementChild;
    const nodes = [...output.querySelectorAll('*')];
    const edge = output.getBoundingClientRect().right + 0.5;
    const said = nodes.filter(node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()));
    const {x, y, width, height} = box.getBoundingClientRect();
    return {
      words: output.innerText,
      tags: [...new Set(nodes.map(node => node.tagName.toLowerCase()))].sort(),
      width: box.getBoundingClientRect().width,
      beyond: nodes.filter(node => node.getBoundingClientRect().right > edge).map(node => node.outerHTML.slice(0, 200)),
      faint: said.filter(node => contrast(node, output) < 4.5).map(node => [contrast(node, output), node.innerText]),
      coloured: [...new Set(nodes.map(node => getComputedStyle(node).backgroundColor))].length,
      box: {x: x + scrollX - 8, y: y + scrollY - 8, width: width + 16, height: height + 16},
    };
  });
})()
"""


class Seen(NamedTuple):
    """A notebook as it was shown: each output's facts in a wide window, in a narrow one, and in another font."""

    wide: list[dict[str, Any]]
    narrow: list[dict[str, Any]]
    serif: list[dict[str, Any]]
    was_hit: bool


def reads(name: str) -> Iterator[str]:
    plane = shmplane.Plane(name)
    views = plane["prices"], plane["flights"]
    yield f"{len(views)}"


def outputs(directory: Path) -> Iterator[dict[str, str]]:
    """What a kernel would send for each cell."""
    show: Any = importlib.import_module("IPython.core.formatters").DisplayFormatter().format
    with shmplane.Plane("market", capacity="256MiB") as plane:
        plane["prices"] = np.zeros((8_192, 512))
        plane["flights"] = pa.table({"hour": np.arange(200_000) % 24, "km": np.arange(200_000.0)})
        plane["model"] = {"layers": [np.zeros((256, 512), "f4"), np.zeros(512, "f4")], "epoch": 3}
        plane["config"] = {"limit": 5}
        before = plane["prices"]
        with Child(reads, plane.name) as reader, Child(reads, plane.name) as victim:
            reader.next()
            victim.next()
            with plane.edit("prices") as draft:
                draft.array[1_000:1_200] = 1.0
                draft.array[5_000] = 2.0
            with plane.edit("flights") as edited:
                edited["fare"] = np.ones(200_000)
            view = plane["prices"]
            with nobody_looks_for_the_dead():  # who ends a draft's lease now would reclaim what the victim held
                victim.kill()
                yield show(replace(plane.layout(), root="/dev/shm"))[0]
        yield show(plane.attach("flights"))[0]
        yield show(plane["model"])[0]
        del before, view
        plane.destroy()
    with shmplane.Plane.temporary(capacity="64MiB") as plane:
        plane[HOSTILE] = {HOSTILE: np.zeros(1_000)}
        plane["table"] = pa.table({HOSTILE: np.zeros(20_000), "other": np.zeros(20_000)})
        with plane.edit("table") as edited:
            edited["other"] = np.ones(20_000)
        plane["x" * 120] = plane["é" * 60] = 1
        yield show(plane)[0]
        yield show(plane.attach(HOSTILE))[0]
        yield show(plane[HOSTILE])[0]
    with shmplane.ConnectionPool(threading.Lock, close=id, name=HOSTILE, max_size=4, timeout=0.01) as pool:
        with pool.connection(), pool.connection():
            pool.pause()
            yield show(pool)[0]
    with shmplane.Cache(directory / "<b>results", memory="1MiB", disk="8MiB") as cache:
        cache["a"] = np.zeros(50_000)
        cache.get("a")
        cache["b"] = np.zeros(2 << 20, "u1")
        yield show(cache)[0]


def notebook_of(shown: list[dict[str, str]]) -> Any:
    made: Any = importlib.import_module("nbformat.v4")
    cells = [
        made.new_code_cell("plane", outputs=[made.new_output("execute_result", data, execution_count=1)])
        for data in shown
    ]
    return made.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Seen]:
    """Both notebooks in both themes."""
    require(chromium.find_chromium() is not None, "Chromium (Debian: apt-get install chromium)")
    require(importlib.util.find_spec("jupyterlab") is not None, "JupyterLab (pip install jupyterlab)")
    lab: Any = importlib.import_module("tests.notebook.lab")
    directory = tmp_path_factory.mktemp("browser")
    artefacts = Path(os.environ.get("ARTEFACTS", directory))
    artefacts.mkdir(parents=True, exist_ok=True)
    shown = list(outputs(directory))
    server = lab.Lab(directory)
    for name in ("trusted", "untrusted"):
        server.add(name, notebook_of(shown), trusted=name == "trusted")
    found = {}
    with server, chromium.Chromium(directory) as browser:
        for name in ("trusted", "untrusted"):
            browser.resize(1_100, 4_000, scale=SCALE)
            browser.call("Page.navigate", url=server.page_of(name))
            browser.wait("jupyterapp")
            browser.run("jupyterapp.restored.then(() => true)")
            for theme in THEMES:
                browser.wait(f"document.querySelectorAll('.jp-RenderedHTMLCommon table').length >= {len(shown)}")
                found[name, theme] = look(browser, theme, artefacts / f"layout-{name}-{theme}")
    return found


def look(browser: chromium.Chromium, theme: str, path: Path) -> Seen:
    browser.run(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: '{THEMES[theme]}'}}).then(() => true)")
    browser.wait(f"document.body.dataset.jpThemeName == '{THEMES[theme]}'")
    time.sleep(0.5)  # the colours come with a style sheet
    wide = measure(browser, 1_100)
    browser.screenshot(path.with_suffix(".png"))
    browser.screenshot(path.with_name(f"{path.name}-first.png"), wide[0]["box"])
    narrow = measure(browser, 500)
    browser.run(
        "document.head.insertAdjacentHTML('beforeend', '<style id=font>* { font-family: serif !important }</style>')"
    )
    serif = measure(browser, 1_100)
    browser.run("document.getElementById('font').remove()")
    return Seen(wide, narrow, serif, bool(browser.run("window.hit")))


def measure(browser: chromium.Chromium, width: int) -> list[dict[str, Any]]:
    browser.resize(width, 4_000, scale=SCALE)
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found: list[dict[str, Any]] = browser.run(MEASURE)
    return found


def test_all_of_it_is_shown_and_nothing_else(seen: dict[tuple[str, str], Seen]) -> None:
    for notebook in seen.values():
        market, block, tree, hostile, _, _, pool, cache = [output["words"] for output in notebook.wide]
        for words in (
            "plane market in /dev/shm: 256 MiB",
            "Warning: 1 process ended and left",
            "Cure:",
            "shmplane gc market",
            "prices v2",
            "superseded",
            "ended",
            "pages from prices version 1",
            "pages from edits",
            "2 columns from flights version 1: hour, km",
            "fare",
        ):
            assert words in market
        assert "fare: double" in block
        assert '["layers"][0]' in tree
        assert HOSTILE[:20] in hostile
        assert "2 used" in pool
        assert "Cure: resume() lets callers through." in pool
        assert "found" in cache
        for output in notebook.wide:
            assert output["tags"] in (
                ["div", "table", "tbody", "td", "th", "tr"],
                ["div", "table", "tbody", "td", "tr"],
            )


def test_nobodys_name_is_run(seen: dict[tuple[str, str], Seen]) -> None:
    assert not any(notebook.was_hit for notebook in seen.values())


def test_a_notebook_that_is_not_trusted_looks_the_same(seen: dict[tuple[str, str], Seen]) -> None:
    for theme in THEMES:
        for trusted, untrusted in zip(seen["trusted", theme].wide, seen["untrusted", theme].wide, strict=True):
            assert untrusted["words"] == trusted["words"]
            assert untrusted["coloured"] == trusted["coloured"]
            assert untrusted["box"]["height"] == pytest.approx(trusted["box"]["height"], abs=40)


def test_all_text_can_be_read_in_light_and_dark(seen: dict[tuple[str, str], Seen]) -> None:
    assert [output["faint"] for notebook in seen.values() for output in notebook.wide if output["faint"]] == []


def test_it_is_at_most_760_px_wide_and_fits_a_narrow_window_in_any_font(seen: dict[tuple[str, str], Seen]) -> None:
    for notebook in seen.values():
        assert [output["width"] for output in notebook.wide if output["width"] > 760] == []
        for outputs_seen in (notebook.wide, notebook.narrow, notebook.serif):
            assert [output["beyond"] for output in outputs_seen if output["beyond"]] == []
