"""A worker: reads calls, runs them, and sends results as blocks that are kept for the process it works for.

Rule 1. It joins the plane when a value is first too large for the pipe.
Rule 2. What goes back is pickled by ``multiprocessing`` as it is in any other pool; only the items of results of *this* process
are written differently, so that a pool which a task opens for itself is none of ours.
Rule 3. It ends with the process it works for, when no task runs: the standard library's workers would wait for ever.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import process
from multiprocessing import util
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ShmplaneError
from ..system import own, wait_for_end
from .message import EncodedParts, Failure, Message, Place, Slice
from .packing import pack
from .plain import LEAST_THRESHOLD, is_plain
from .receivers import receivers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..plane import Presence
    from .packing import Packed

__all__ = ["Origin", "read_call", "run_call", "start"]


class Origin(NamedTuple):
    """The process that a worker works for, and how it wants its results."""

    root: str
    plane: str
    instance: int
    presence: Presence
    token: bytes
    threshold: int
    pickler: str
    pid: int


class _Worker:
    """What this process knows as a worker."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.pid = os.getpid()
        self.busy = threading.Lock()
        self.has_plain = origin.threshold >= LEAST_THRESHOLD
        self._joined: Any = None

    def attachment(self) -> Any:
        """Its part in the plane, taken when it is first needed."""
        if self._joined is None:
            from ..plane import attachment_of_handle

            origin = self.origin
            self._joined = attachment_of_handle(origin.root, origin.plane, origin.instance, None)
        return self._joined[0]

    def send(self, value: Any) -> bytes | Message:
        """A result as a message, or as a pickle when that is all of it."""
        origin = self.origin
        packed = pack(value, origin.threshold, origin.pickler)
        if not packed.buffers and packed.nbytes < origin.threshold:
            return b"".join(packed.stream)
        # What was kept is told of in any case: the reader takes it, or it would stay.
        shown: list[Slice | None] = [None] * len(packed.buffers)
        try:
            for number, raw in enumerate(packed.buffers):
                shown[number] = self._keep_shown(packed, raw)
            return self._put(packed, shown)
        except own(ShmplaneError, OSError):
            sources = [found or bytearray(raw) for found, raw in zip(shown, packed.buffers, strict=True)]
            piped = packed.nbytes + sum(len(source) for source in sources if isinstance(source, bytearray))
            return Message(b"".join(packed.stream), None, tuple(sources), piped)

    def _put(self, packed: Packed, shown: list[Slice | None]) -> Message:
        from ..plane import is_present, put_kept

        origin, attachment = self.origin, self.attachment()
        if not is_present(attachment, origin.presence):
            raise ShmplaneError("the process that asked has left the plane")
        is_large = packed.nbytes >= origin.threshold
        parts: list[list[Any]] = [[origin.token], packed.stream if is_large else []]
        sources: list[int | Slice] = []
        for found, raw in zip(shown, packed.buffers, strict=True):
            if found is None:
                sources.append(len(parts))
                parts.append([raw])
            else:
                sources.append(found)
        place = None
        if is_large or len(parts) > 2:
            lease = put_kept(attachment, EncodedParts(parts), origin.presence.slot)
            place = Place(lease.facts.row, lease.facts.generation)
        return Message(None if is_large else b"".join(packed.stream), place, tuple(sources))

    def _keep_shown(self, packed: Packed, raw: memoryview) -> Slice | None:
        """The slice of a block of that plane which the buffer shows, kept for the reader; None: it has to be copied."""
        from ..plane import keep_for
        from .slices import shown_slice

        if not packed.is_read_only(raw):
            return None
        shown = shown_slice(raw)
        if shown is None:
            return None
        lease, found = shown
        is_whole = lease.facts.row == found.place.row
        if not is_whole or lease.attachment is not self.attachment():
            return None
        return found._replace(is_kept=True) if keep_for(lease.attachment, lease, self.origin.presence.slot) else None


_this: _Worker | None = None


def start(origin: Origin, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """What a worker begins with; then what the user wants it to begin with."""
    global _this  # noqa: PLW0603 - a process is one worker
    _this = _Worker(origin)
    ForkingPickler.register(process._ResultItem, _reduce_item)
    util.Finalize(None, _leave_planes, exitpriority=1)
    threading.Thread(target=_end_with, args=(_this,), name="shmplane-worker", daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _leave_planes() -> None:
    """What ``atexit`` does in other processes: a temporary plane goes with its last process, also one that a fork inherited."""
    if "shmplane.plane.process.close" in sys.modules:
        from ..plane import leave_at_exit

        leave_at_exit()


def _end_with(worker: _Worker) -> None:
    """Leave, between two tasks, once the process that this one works for has ended."""
    wait_for_end(worker.origin.pid)
    worker.busy.acquire()
    os._exit(1)


# Calls


def read_call(message: bytes | tuple[Any, ...]) -> Any:
    """What unpickling a call makes: function, arguments and keywords, or a ``Failure``."""
    from .reading import read

    return read(message if isinstance(message, bytes) else Message(*message), _take)


def _take(place: Place) -> Any:
    """The block of a call."""
    from .reading import lease_of

    worker = _this
    if worker is None:
        raise RuntimeError("this process is no worker of an executor")
    worker.attachment()  # it stays in the plane from now on
    origin = worker.origin
    return lease_of(Slice(origin.root, origin.plane, origin.instance, place, 0, 0, is_kept=False))


def run_call(call: Any) -> Any:
    """Run what ``read_call`` made."""
    if type(call) is Failure:
        raise call.error
    fn, args, kwargs = call
    worker = _this
    if worker is None:
        return fn(*args, **kwargs)
    with worker.busy:
        return fn(*args, **kwargs)


# Results


def _reduce_item(item: Any) -> Any:
    """How an item of results is pickled: the value apart, so that reading it cannot fail where nobody would catch it."""
    worker = _this
    if worker is None or worker.pid != os.getpid():
        return object.__reduce_ex__(item, 4)
    is_error = item.exception is not None
    if not is_error and worker.has_plain and is_plain(item.result):
        return object.__reduce_ex__(item, 4)
    message = worker.send(item.exception if is_error else item.result)
    return read_result, (
        item.work_id,
        item.exit_pid,
        is_error,
        worker.origin.token,
        message if type(message) is bytes else tuple(message),
    )


def read_result(
    work_id: int, exit_pid: int | None, is_error: bool, token: bytes, message: bytes | tuple[Any, ...]
) -> Any:
    """What unpickling an item of results makes, in the process that asked."""
    receiver = receivers.get(token)
    if receiver is None:
        value: Any = Failure(RuntimeError("the executor of this result is gone"))
    else:
        value = receiver.receive(message if isinstance(message, bytes) else Message(*message))
    if type(value) is Failure:
        is_error, value = True, value.error
    result = {"exception": value} if is_error else {"result": value}
    return process._ResultItem(work_id, exit_pid=exit_pid, **result)
