"""A picture that draws itself anew in a notebook, until it is stopped or there is nothing more to draw.

Rule 1. The thread holds what it draws weakly, and is a daemon: neither keeps a plane, or the kernel, from ending.
Rule 2. It ends at the first failure to draw or to show, and says so in its place; it never raises into a cell.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import weakref
from collections.abc import Callable
from html import escape
from typing import Any

from ..errors import ClosedError

__all__ = ["Watch", "watch"]

#: what is drawn already, so that a cell that runs again does not leave the picture before it running
_running: weakref.WeakKeyDictionary[Any, Watch] = weakref.WeakKeyDictionary()

Drawn = dict[str, str]


class Watch:
    """A picture that is updated in its cell. Made by ``plane.watch()``; ``stop()`` ends it."""

    def __init__(self, subject: weakref.ref[Any], draw: Callable[[Any], Drawn | None], seconds: float) -> None:
        self._subject, self._draw, self._seconds = subject, draw, seconds
        self._stopped = threading.Event()
        self._handle: Any = None
        self._thread = threading.Thread(target=self._run, name="shmplane-watch", daemon=True)

    @property
    def running(self) -> bool:
        """Whether the picture is still updated."""
        return self._thread.is_alive() and not self._stopped.is_set()

    def stop(self) -> None:
        """End it; what was drawn last stays. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def start(self, first: Drawn) -> None:
        """Show the first picture, and go on in the background."""
        display = importlib.import_module("IPython.display").display
        self._handle = display(first, raw=True, display_id=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            subject = self._subject()
            if subject is None:
                break
            try:
                drawn = self._draw(subject)
                if drawn is not None:  # else the plane is busy: what is shown stays for a moment more
                    self._handle.update(drawn, raw=True)
            except ClosedError as error:
                self._say(f"no longer updated: {error}")
                break
            except Exception:  # noqa: BLE001 - the kernel is ending, or the front end is gone
                break
            finally:
                del subject
        self._stopped.set()

    def _say(self, text: str) -> None:
        with contextlib.suppress(Exception):  # there is nobody left to tell
            self._handle.update({"text/plain": text, "text/html": f"<div>{escape(text)}</div>"}, raw=True)

    def __repr__(self) -> str:
        state = f"every {self._seconds:g} s; stop() ends it" if self.running else "stopped"
        return f"<Watch: {state}>"


def watch(subject: Any, draw: Callable[[Any], Drawn | None], seconds: float) -> Watch:
    """Show what ``draw(subject)`` returns, and again every ``seconds``; None means that it cannot be told just now.

    Raises:
        RuntimeError: this is no IPython or Jupyter.
        ValueError: ``seconds`` is not above 0.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds is a number, not {type(seconds).__name__}")
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError(f"seconds is above 0, not {seconds}")
    shell = sys.modules.get("IPython")
    if shell is None or shell.get_ipython() is None:
        raise RuntimeError("watch() draws in a notebook or in IPython; elsewhere print(plane.layout().text())")
    before = _running.pop(subject, None)
    if before is not None:
        before.stop()
    made = Watch(weakref.ref(subject), draw, seconds)
    first = draw(subject)
    made.start(first if first is not None else {"text/plain": "busy; the picture follows"})
    _running[subject] = made
    return made
