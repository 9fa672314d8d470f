"""What the user of ``top`` has chosen, and what each key changes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["View", "press"]

#: by what rows can be sorted, in the order of the key that goes on to the next
PLANE_SORTS = ("name", "used", "blocks", "leases", "processes", "age")
PROCESS_SORTS = ("leased", "leases", "permits", "pid", "age")


@dataclass(frozen=True, slots=True)
class View:
    """What is shown.

    Attributes:
        plane: which one; None: a row for each.
        chosen: among several; the plane came from a row, so there is a way back.
        sort: position in the sorts of what is shown.
        reverse: the smallest first; for names, ages and PIDs the other way round.
        row: of the planes, the one that is marked; of the processes, the first that is shown.
        paused: what was seen last stays.
        quit: that was all.
    """

    plane: str | None = None
    chosen: bool = False
    sort: int = 0
    reverse: bool = False
    row: int = 0
    paused: bool = False
    quit: bool = False

    @property
    def sorts(self) -> tuple[str, ...]:
        return PLANE_SORTS if self.plane is None else PROCESS_SORTS

    @property
    def sorted_by(self) -> str:
        return self.sorts[self.sort % len(self.sorts)]


_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}


def press(view: View, key: str, planes: list[str], most: int) -> View:
    """The view after a key.

    Args:
        planes: their names in the order of the rows, where those are shown.
        most: how many rows there are.
    """
    if key in _STEPS:
        return replace(view, row=min(max(0, view.row + _STEPS[key]), max(0, most - 1)))
    if key == "enter" and view.plane is None and view.row < len(planes):
        return View(planes[view.row], chosen=True)
    if key in ("escape", "left", "backspace") and view.chosen:
        return View()
    return _CHANGES[key](view) if key in _CHANGES else view


def _quit(view: View) -> View:
    return replace(view, quit=True)


def _pause(view: View) -> View:
    return replace(view, paused=not view.paused)


_CHANGES: dict[str, Callable[[View], View]] = {
    "q": _quit,
    "Q": _quit,
    "interrupt": _quit,
    "s": lambda view: replace(view, sort=(view.sort + 1) % len(view.sorts), row=0),
    "r": lambda view: replace(view, reverse=not view.reverse, row=0),
    " ": _pause,
    "p": _pause,
}
