"""The parent's end of the workers: hire, ask, kill, dismiss. None outlives the ``with`` block."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from ..exits import PROBLEMS, Failed
from .worker import work

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

__all__ = ["Crew", "Hand"]

PATIENCE_S = 300.0
_ENDING = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def _ending_later() -> Iterator[None]:
    """Ctrl-C in the middle of a start would leave the child with half a program, of which it complains loudly.

    The mask is for the child, which inherits it. It does not keep a signal from this process when other threads run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDING}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


class Hand:
    """One worker."""

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self._process, self._connection = process, connection

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def has_ended(self) -> bool:
        """It is gone, or has answered: both are news when its work has no end."""
        return self._connection.poll(0)

    def tell(self, request: str, *arguments: Any) -> None:
        """Send a request; ``Failed`` when the worker is gone."""
        try:
            self._connection.send((request, *arguments))
        except (BrokenPipeError, ConnectionResetError):
            raise self._lost() from None

    def answer(self) -> Any:
        """Wait for the answer to what was told; an error of the worker is raised here."""
        try:
            if not self._connection.poll(PATIENCE_S):
                raise Failed(PROBLEMS, f"worker {self.pid} has said nothing for {PATIENCE_S:.0f} s")
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._lost() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, request: str, *arguments: Any) -> Any:
        self.tell(request, *arguments)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken everything back."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def dismiss(self, patience_s: float) -> None:
        """Let it end by itself, or kill it."""
        self._connection.close()
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()

    def _lost(self) -> Failed:
        self._process.join(5.0)
        return Failed(
            PROBLEMS, f"worker {self.pid} has ended, exit code {self._process.exitcode}; is there memory enough?"
        )


class Crew:
    """All workers. They start side by side and are waited for together."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._hired: list[Hand] = []

    def hire(self, number: int) -> list[Hand]:
        """Start workers; return when all have done their imports."""
        hands = [self._start() for _ in range(number)]
        for hand in hands:
            hand.answer()
        return hands

    def _start(self) -> Hand:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs,), daemon=True)
        with _ending_later():
            process.start()
        theirs.close()
        hand = Hand(process, ours)
        self._hired.append(hand)
        return hand

    def dismiss(self, hands: Sequence[Hand] | None = None, *, patience_s: float = 10.0) -> None:
        """End some workers, or all."""
        for hand in list(self._hired if hands is None else hands):
            self._hired.remove(hand)
            hand.dismiss(patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        self.dismiss(patience_s=10.0 if kind is None else 0.0)
