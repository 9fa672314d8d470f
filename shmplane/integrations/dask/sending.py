"""A block on its way: a handle, and its bytes unless everybody is known to see the plane.

Dask unpickles a graph in the scheduler and pickles each task anew for its worker. So what a graph refers to is leased by the
scheduler, where that sees the plane, until Dask forgets the task. In between, the process that has sent a handle keeps its
lease for half a minute. A scheduler that does not see the plane passes on what came, unopened.

Rule 1. Who sees the plane attaches the very version that was sent. When that cannot be had, the bytes that came with it do.
Rule 2. Who does not see it puts the bytes into a temporary plane of its own process, of which the block is then one.
Rule 3. Processes that have no part in a cluster pickle blocks as ever.
"""

from __future__ import annotations

import copyreg
import pickle
import threading
import time
from collections import deque
from typing import Any

from dask.base import normalize_token
from dask.sizeof import sizeof

from ... import Block, Plane, Records, ShmplaneError
from .hosts import Host, everyone_sees, host_of, is_scheduler_alone

__all__ = ["register"]

_KEPT_S = 30.0
_HANDLE_NBYTES = 300


def register() -> None:
    """Have Dask, and whatever pickles, send blocks like this."""
    copyreg.pickle(Block, _reduce)
    sizeof.register(Block, lambda _: _HANDLE_NBYTES)  # its memory is the plane's
    normalize_token.register(Block, lambda block: ("shmplane.Block", *Block.__reduce__(block)[1]))


def _reduce(block: Block) -> tuple[Any, ...]:
    handle = Block.__reduce__(block)  # a function and its arguments, of which the first is the root
    host = host_of(str(handle[1][0]))
    if everyone_sees(host):
        _sent.keep(block)
        return handle
    return _arrive, (host, handle, block.kind, _portable(_sent_value(block)))


def _sent_value(block: Block) -> Any:
    value = block.value()
    return list(value) if block.kind == "records" else value  # what shows records pickles as a handle


def _portable(value: Any) -> Any:
    """The value with its buffers as pickles have them: out of band where that is possible."""
    if isinstance(value, (memoryview, bytearray)):
        return pickle.PickleBuffer(value)
    if isinstance(value, dict):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_portable, value)) if type(value) in (list, tuple) else list(map(_portable, value))
    return value


def _arrive(host: Host, handle: tuple[Any, ...], kind: str, value: Any) -> Any:
    """What unpickling does."""
    attach, arguments = handle
    if host == host_of(str(arguments[0])):
        try:
            return attach(*arguments)
        except ShmplaneError:
            pass  # it is gone, or cannot be opened here; and it has come with its bytes
    if is_scheduler_alone():
        return _Parcel(host, handle, kind, value)
    sent = Records(value) if kind == "records" else value
    return _arrivals().put(None, sent, codec="pickle" if kind == "pickle" else None, linger=0)


class _Parcel:
    """A block that a scheduler passes on."""

    def __init__(self, *contents: Any) -> None:
        self._contents = contents

    def __reduce__(self) -> tuple[Any, ...]:
        *head, value = self._contents
        return _arrive, (*head, _portable(value))


_arrivals_mutex = threading.Lock()
_arrivals_plane: Plane | None = None


def _arrivals() -> Plane:
    """Where this process keeps what came as bytes."""
    global _arrivals_plane  # noqa: PLW0603 - one for a process
    with _arrivals_mutex:
        if _arrivals_plane is None or _arrivals_plane.closed:
            # Whoever sends to this process has it run what he likes already: that is what Dask is for.
            _arrivals_plane = Plane.temporary(trust_pickle=True)
        return _arrivals_plane


class _Sent:
    """Leases of what was sent a moment ago."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._blocks: deque[tuple[float, Block]] = deque()
        self._timer: threading.Timer | None = None

    def keep(self, block: Block) -> None:
        with self._mutex:
            self._blocks.append((time.monotonic() + _KEPT_S, block))
            self._wait()

    def _wait(self) -> None:
        is_running = self._timer is not None and self._timer.is_alive()  # in a forked child it is not
        if self._blocks and not is_running:
            self._timer = threading.Timer(max(0.0, self._blocks[0][0] - time.monotonic()), self._drop)
            self._timer.daemon = True
            self._timer.start()

    def _drop(self) -> None:
        with self._mutex:
            now = time.monotonic()
            while self._blocks and self._blocks[0][0] <= now:
                self._blocks.popleft()
            self._timer = None  # it is this one that ends
            self._wait()


_sent = _Sent()
