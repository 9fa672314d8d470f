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
import weakref
from collections.abc import Callable
from concurrent.futures import process
from multiprocessing import util
from multiprocessing.reduction import ForkingPickler
from pickle import loads
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ShmplaneError
from ..system import own, wait_for_end
from .message import Failure, Message, Origin, in_pipe
from .packing import pack
from .plain import LEAST_THRESHOLD, is_plain

if TYPE_CHECKING:
    from .carrying import Carrier

__all__ = ["read_call", "read_pickle", "receivers", "run_call", "start"]


class Receiver(Protocol):
    """An executor of this process: who reads what its workers send."""

    def receive(self, message: bytes | Message) -> Any:
        """The value, or a ``Failure``."""

    def is_in(self, attachment: Any) -> bool:
        """Whether its blocks are in that plane."""


#: by the token that stands in what their workers send
receivers: weakref.WeakValueDictionary[bytes, Receiver] = weakref.WeakValueDictionary()


class _Worker:
    """What this process knows as a worker."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.pid = os.getpid()
        self.busy = threading.Lock()
        self.has_plain = origin.threshold >= LEAST_THRESHOLD
        self._carrier: Carrier | None = None

    @property
    def carrier(self) -> Carrier:
        """Its side of the plane, which it joins when that is first needed."""
        if self._carrier is None:
            from .carrying import Carrier

            self._carrier = Carrier(self.origin)
        return self._carrier

    def send(self, value: Any) -> bytes | Message:
        """A result as a message, or as a pickle when that is all of it."""
        origin = self.origin
        try:
            packed = pack(value, origin.threshold, origin.pickler)
            if not packed.buffers and packed.nbytes < origin.threshold:
                return b"".join(packed.stream)
            try:
                return self.carrier.send(packed)
            except own(ShmplaneError, OSError):
                return in_pipe(packed, [None] * len(packed.buffers))
        finally:
            self.forget_call()

    def forget_call(self) -> None:
        """The result is on its way, or cannot be: what the call was given is needed no more."""
        if self._carrier is not None:
            self._carrier.forget_call()


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
    if type(message) is bytes:
        return read_pickle(message)
    worker = _this
    if worker is None:
        return Failure(RuntimeError("this process is no worker of an executor"))
    try:
        return worker.carrier.read(Message(*message))
    except BaseException as error:  # noqa: BLE001 - as in ``read``; the plane may be gone
        return Failure(error)


def read_pickle(pickled: bytes) -> Any:
    """The value of a pickle, or a ``Failure``: see ``reading``."""
    try:
        return loads(pickled)  # noqa: S301 - from our own worker, or from whom we work for
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the task's, and not the pool's
        return Failure(error)


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
        worker.forget_call()
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
