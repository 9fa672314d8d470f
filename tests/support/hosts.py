"""Two hosts on one machine: network namespaces joined by a veth pair, each with a ``/dev/shm`` of its own.

A network namespace alone still shares its memory, and the boot of the kernel is the same in all: so each host has a mount
namespace as well, in which a tmpfs of its own lies on ``/dev/shm``. Both are held by a process that ends when its input does,
so also when the tests are killed; with the last process in them the kernel removes namespaces, addresses and memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import requires

_HOLD = "mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm && ip link set lo up && echo ready && exec cat >/dev/null"
_LINK = "shm0"
_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Host:
    """Where a program can be started; ``pid``: of the process that holds it."""

    address: str
    pid: int

    def start(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program there, with the default root. The process is the program itself, which a signal reaches."""
        environment = {key: value for key, value in os.environ.items() if key != "SHMPLANE_ROOT"}
        environment.update(options.pop("env", {}))
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", f"--wd={os.getcwd()}", "--"]
        return subprocess.Popen([*enter, *command], env=environment, **options)

    def unplug(self) -> None:
        """Cut the network: nobody is told, and what is sent gets lost."""
        _run(self, "ip", "link", "set", _LINK, "down")

    def plug(self) -> None:
        _run(self, "ip", "link", "set", _LINK, "up")


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    with _held("10.203.0.1") as near, _held("10.203.0.2") as far:
        _run(near, "ip", "link", "add", _LINK, "type", "veth", "peer", "name", _LINK, "netns", str(far.pid))
        for host in (near, far):
            _run(host, "ip", "address", "add", f"{host.address}/30", "dev", _LINK)
            host.plug()
        yield near, far


def require_hosts() -> None:
    """Skip the test unless there can be two hosts; in CI fail, and say why there cannot."""
    reason = _why_not()
    requires.require(reason is None, f"two hosts need root with CAP_NET_ADMIN and CAP_SYS_ADMIN, and `ip`: {reason}")


@functools.cache
def _why_not() -> str | None:
    try:
        with two_hosts():
            return None
    except (OSError, RuntimeError) as error:
        return str(error)


@contextlib.contextmanager
def _held(address: str) -> Iterator[Host]:
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOLD]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != "ready\n":
                raise RuntimeError(f"{' '.join(command[:5])}: {holder.stderr.read().strip()}")
            yield Host(address, holder.pid)
        finally:
            holder.kill()


def _run(host: Host, *command: str) -> None:
    with host.start(*command, stderr=subprocess.PIPE, text=True) as process:
        _, said = process.communicate(timeout=_DEADLINE_S)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {said.strip()}")
