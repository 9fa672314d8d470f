"""One thread per process that turns a change of its wake word into the waking of asyncio tasks.

It exists only while tasks wait, and looks in slices, so it is gone within 100 ms after the last of them.
"""

from __future__ import annotations

import _thread
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...system import own, wait_for_change
from ..process.registry import Registry

if TYPE_CHECKING:
    import asyncio

    from ..process.attachment import Attachment

__all__ = ["Waker", "running_loop"]

_SLICE_S = 0.05


def running_loop() -> asyncio.AbstractEventLoop:
    """The asyncio loop that runs in this thread; ``RuntimeError`` when it is another kind of event loop."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except own(RuntimeError):
        raise RuntimeError(
            "waiting asynchronously needs asyncio; on another event loop use the blocking call in a thread"
        ) from None


class Waker(Registry):
    def __init__(self, attachment: Attachment) -> None:
        self._known = weakref.ref(attachment)
        self._mutex = threading.Lock()
        self._waiting: dict[asyncio.Future[None], tuple[asyncio.AbstractEventLoop, Callable[[], bool]]] = {}
        self._running = False

    async def wait(
        self,
        loop: asyncio.AbstractEventLoop,
        sequence: int,
        seconds: float,
        is_meant: Callable[[], bool] = lambda: True,
    ) -> None:
        """Until the wake word is not ``sequence`` any more, or ``seconds`` are over.

        ``is_meant`` says whether a change matters to this task, so that it does not wake a thousand for one.
        """
        attachment = self._known()
        if attachment is None:
            return
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _finish, future)
        try:
            with self._mutex:
                self._waiting[future] = loop, is_meant
                if not self._running:
                    # Without a thread (there are too many) the timer alone ends the wait.
                    self._running = self._start(attachment, sequence)
            if attachment.wake_sequence() == sequence:
                await future
        finally:
            timer.cancel()
            with self._mutex:
                self._waiting.pop(future, None)

    def _start(self, attachment: Attachment, sequence: int) -> bool:
        try:
            # The thread keeps the attachment, and with it the memory that it waits on.
            _thread.start_new_thread(self._watch, (attachment, sequence))
        except own(RuntimeError):
            return False
        return True

    def _watch(self, attachment: Attachment, sequence: int) -> None:
        while True:
            wait_for_change(attachment.wake_address(), sequence, _SLICE_S)
            now = attachment.wake_sequence()
            with self._mutex:
                if not self._waiting:
                    self._running = False
                    return
                waiting = list(self._waiting.items()) if now != sequence else []
            sequence = now
            for future, (loop, is_meant) in waiting:
                if not is_meant():
                    continue
                try:
                    loop.call_soon_threadsafe(_finish, future)
                except own(RuntimeError):
                    with self._mutex:
                        self._waiting.pop(future, None)  # its loop was closed

    def begin_again_in_child(self) -> None:
        """Nobody waits and no thread runs."""
        self._mutex = threading.Lock()
        self._waiting.clear()
        self._running = False


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
