"""Who shares memory with whom: which hosts the processes of a cluster are on, as each of them knows it.

What a process sees under a root is told by the boot of the kernel, the file system and the user: two processes of which these
are equal see the same planes. Containers of one machine are hosts of their own when each has its own ``/dev/shm``. Processes
with another release of this library are as on another host: they may not be able to read each other's planes.

Rule 1. A plugin of the scheduler asks every worker, again whenever one comes or goes, and tells all of them and the clients.
Rule 2. What is not known counts as another host: then bytes travel, which are right everywhere. So is a worker that has no
        answer, such as one without this module.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import distributed
from distributed.diagnostics.plugin import SchedulerPlugin

from ... import __version__

if TYPE_CHECKING:
    from distributed import Client, Scheduler

__all__ = ["Host", "everyone_sees", "host_of", "is_scheduler_alone", "use"]

#: boot of the kernel, device and inode of a root, user, and release of this library
Host = tuple[str, int, int, int, str]

_TOPIC = "shmplane-hosts"
_UNKNOWN: Host = ("unknown", 0, 0, 0, "")
#: what workers and schedulers of this process were told; None: nothing yet
_told: frozenset[Host] | None = None
#: by client, what it was told last
_told_to: dict[str, frozenset[Host] | None] = {}
_mutex = threading.RLock()


def host_of(root: str) -> Host:
    """What this process sees under a root; ``_UNKNOWN`` when there is nothing, or nobody can say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        found = os.stat(root)
    except OSError:
        return _UNKNOWN
    return boot, found.st_dev, found.st_ino, os.geteuid(), __version__


def host_of_default_root() -> Host:
    """That of planes that were opened without a ``root``."""
    return host_of(os.environ.get("SHMPLANE_ROOT") or "/dev/shm")  # noqa: S108 - it is what planes have


def use(client: Client) -> Any:
    """Have a cluster find out which of its processes share memory, now and whenever a worker comes.

    It is called for a client by itself when it sends its first block; of an asynchronous client it has to be awaited before,
    or its blocks travel as bytes. ``shmplane`` has to be installed where the scheduler runs.
    """
    with _mutex:
        if _told_to.get(client.id) is not None:
            return _nothing() if client.asynchronous else None
        _told_to[client.id] = None
    client.subscribe_topic(_TOPIC, lambda event: _hear(client.id, event[1]))
    return client.sync(_use, client)


async def _use(client: Client) -> None:
    await client.register_plugin(_Hosts())
    _hear(client.id, await client.run_on_scheduler(_what_scheduler_knows))


async def _nothing() -> None: ...


def _hear(client_id: str, hosts: Iterable[Iterable[Any]] | None) -> None:
    _told_to[client_id] = None if hosts is None else frozenset(_host(host) for host in hosts)


def _host(said: Iterable[Any]) -> Host:
    boot, device, inode, user, release = said
    return str(boot), int(device), int(inode), int(user), str(release)


def everyone_sees(host: Host) -> bool:
    """Whether all processes that a block of this process may go to are known to see the same planes."""
    if host == _UNKNOWN:
        return False
    workers = _living(distributed.Worker)
    known = [_told] if workers or _living(distributed.Scheduler) else []
    if not workers:
        known += [_known_by(client) for client in _living(distributed.Client)]
    # Without a cluster, whoever gets a handle is a child of this process.
    return all(hosts == frozenset([host]) for hosts in known)


def _living(kind: Any) -> list[Any]:
    """Those of Dask's objects in this process that are not closed."""
    return [one for one in list(kind._instances) if getattr(one.status, "name", one.status) != "closed"]


def _known_by(client: Client) -> frozenset[Host] | None:
    # Its loop cannot wait for itself, and says that it is asynchronous.
    if client.id not in _told_to and not client.asynchronous:
        with suppress(Exception):  # whatever keeps it from being known: then it is not
            use(client)
    return _told_to.get(client.id)


def is_scheduler_alone() -> bool:
    """Whether what arrives in this process is on its way to a worker."""
    return bool(_living(distributed.Scheduler)) and not _living(distributed.Worker) and not _living(distributed.Client)


# In the scheduler, and in the workers


class _Hosts(SchedulerPlugin):  # type: ignore[misc]
    """Asks and tells; there is one in a scheduler."""

    name = "shmplane-hosts"
    idempotent = True
    _scheduler: Scheduler

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        await self._learn()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # noqa: ARG002 - all are asked
        # A worker does not answer before it has been added, which waits for this method: so it is asked later.
        self._know(None)
        self._learn_soon()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:  # noqa: ARG002 - all are asked
        self._learn_soon()

    def _learn_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._learn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _know(self, hosts: list[Host] | None) -> None:
        _tell(hosts)
        self._scheduler.log_event(_TOPIC, hosts)

    async def _learn(self) -> None:
        asked = set(self._scheduler.workers)
        answers = await self._run(host_of_default_root)
        found = {_host(answer) if isinstance(answer, (tuple, list)) else _UNKNOWN for answer in answers}
        hosts = sorted({host_of_default_root(), *found})
        await self._run(_tell, hosts)
        if asked == set(self._scheduler.workers):  # else whoever has asked after us knows better
            self._know(hosts)

    async def _run(self, function: Any, *args: Any) -> list[Any]:
        message = {"op": "run", "function": pickle.dumps(function), "args": pickle.dumps(args), "kwargs": None}
        answers = await self._scheduler.broadcast(msg=message, on_error="return")
        return [_result(answer) for answer in answers.values()]


def _result(answer: Any) -> Any:
    found = answer.get("result") if isinstance(answer, dict) else None
    data = getattr(found, "data", found)
    header = getattr(found, "header", None)
    return data if header is None else distributed.protocol.deserialize(header, found.frames)  # type: ignore[union-attr]


def _tell(hosts: Iterable[Host] | None) -> None:
    global _told  # noqa: PLW0603 - what one process knows
    _told = None if hosts is None else frozenset(hosts)


def _what_scheduler_knows() -> list[Host] | None:
    return None if _told is None else sorted(_told)
