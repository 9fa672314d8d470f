"""One thread per process that turns a change of its wake word into the waking of asyncio tasks.

It exists only while tasks wait, and looks in slices, so it is gone within 100 ms after the last of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..system import wait_for_change

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Waker"]

_SLICE_S = 0.05


class Waker:
    def __init__(self, address: Callable[[], int], sequence: Callable[[], int]) -> None:
        self._address, self._sequence = address, sequence
        self._mutex = threading.Lock()
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._running = False

    async def wait(self, sequence: int, seconds: float) -> None:
        """Until the wake word is not ``sequence`` any more, or ``seconds`` are over."""
        try:
            import asyncio

            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "waiting asynchronously needs asyncio; on another event loop use the blocking call in a thread"
            ) from None
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _finish, future)
        with self._mutex:
            self._waiting[future] = loop
            start = not self._running
            self._running = True
        try:
            if start:
                threading.Thread(target=self._watch, args=(sequence,), name="shmplane-waker", daemon=True).start()
            if self._sequence() != sequence:
                return
            await future
        finally:
            timer.cancel()
            with self._mutex:
                self._waiting.pop(future, None)

    def _watch(self, sequence: int) -> None:
        while True:
            wait_for_change(self._address(), sequence, _SLICE_S)
            now = self._sequence()
            with self._mutex:
                if not self._waiting:
                    self._running = False
                    return
                woken = list(self._waiting.items()) if now != sequence else []
            sequence = now
            for future, loop in woken:
                try:
                    loop.call_soon_threadsafe(_finish, future)
                except RuntimeError:
                    with self._mutex:
                        self._waiting.pop(future, None)  # its loop was closed

    def after_fork(self) -> None:
        """In a child: nobody waits and no thread runs."""
        self._mutex = threading.Lock()
        self._waiting.clear()
        self._running = False


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
