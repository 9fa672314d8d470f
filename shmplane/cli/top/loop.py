"""Looks, draws, and waits for a key or for the time of the next look."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing

from rich.console import Console, Group

from ..exits import OK
from ..output import color_system
from .looking import Look, Overview, PlaneWatch, look_at_all
from .screen import draw, order_of
from .terminal import Keys, keys
from .view import View, press

__all__ = ["show"]

_LEAST = (20, 4)


def show(plane: str | None, root: str, seconds: float) -> int:
    """Show a plane, or all of them, until the user quits. What cannot be opened at all is an error before anything is drawn."""
    if plane is not None:
        with closing(PlaneWatch(plane, root)) as watch:
            watch.sample()
    console = Console(color_system=color_system(), highlight=False, markup=False, emoji=False)
    with keys(sys.stdin.fileno()) as pressed, console.screen(hide_cursor=True):
        try:
            _run(console, pressed, View(plane), root=root, seconds=seconds)
        except OSError:
            if os.isatty(sys.stdout.fileno()):
                raise
    return OK


def _run(console: Console, pressed: Keys, view: View, *, root: str, seconds: float) -> None:
    while not view.quit:
        if view.plane is None:
            view = _run_one(console, pressed, view, lambda: look_at_all(root), seconds)
        else:
            with closing(PlaneWatch(view.plane, root)) as watch:
                view = _run_one(console, pressed, view, watch.look, seconds)


def _run_one(console: Console, pressed: Keys, view: View, look: Callable[[], Look | Overview], seconds: float) -> View:
    """Until another plane, or none, is to be shown."""
    plane, seen, due = view.plane, look(), time.monotonic() + seconds
    while view.plane == plane and not view.quit:
        _draw(console, view, seen)
        key = pressed.wait(due - time.monotonic())
        if key is not None and key != "resize":
            order = order_of(view, seen)
            view = press(view, key, order, len(order))
        if time.monotonic() >= due:
            due = time.monotonic() + seconds
            seen = seen if view.paused else look()
    return view


def _draw(console: Console, view: View, seen: Look | Overview) -> None:
    found = os.get_terminal_size(sys.stdout.fileno())
    width, height = (max(given, least) for given, least in zip(found, _LEAST, strict=True))
    console.size = (width, height)
    lines = draw(view, seen, width, height, time.strftime("%H:%M:%S"))
    console.update_screen(Group(*lines))
