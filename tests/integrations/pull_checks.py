"""A program that pulls blocks from another host, and prints what became of each check as JSON.

Started by ``test_two_hosts.py`` on the near one of two hosts; it starts ``shmplane serve`` on the far one. With ``sweep`` as a
last argument, server and receiver are killed at every part that comes, otherwise at two.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import shmplane
from tests.support.hosts import Host
from tests.support.processes import DEADLINE_S

TOKEN = "open sesame"
#: how many parts the large blocks below come in, about, and at which of them somebody is killed
PARTS = 12
SWEPT = range(PARTS) if sys.argv[-1] == "sweep" else range(0, PARTS, PARTS // 2)


def values() -> dict[str, Any]:
    """What the far plane has, made alike on both hosts."""
    rng = np.random.default_rng(5)
    return {
        "array": rng.random((1000, 600)),
        "table": pa.table({"x": rng.random(200_000), "s": [f"row {number}" for number in range(200_000)]}),
        "pandas": pd.DataFrame({"a": [1, 2, 3], "c": list("xyz")}, index=pd.Index([5, 6, 7], name="key")),
        "tree": {"a": rng.random(50_000), "b": b"xy", "n": [1, (2, 3)]},
        "json": {"limit": 5, "names": ["é", None]},
        "bytes": rng.bytes(300_000),
        "parts": rng.bytes(PARTS * (2 << 20)),
        "rows": pa.table({"x": rng.random(PARTS * (2 << 20) // 8)}),
    }


class Far(NamedTuple):
    """The far host, with a directory that both see."""

    host: Host
    directory: Path

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[tuple[str, int]]:
        """``shmplane serve`` there; its URL, and its process."""
        (self.directory / "token").write_text(TOKEN)
        listen = ("--host", self.host.address, "--token-file", str(self.directory / "token"))
        command = (sys.executable, "-m", "shmplane", "serve", "there", "--json", *listen, *options)
        with self.host.start(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                assert process.stdout is not None
                said = json.loads(process.stdout.readline())
                yield said["url"], process.pid
                process.terminate()
                assert process.wait(DEADLINE_S) in (0, -signal.SIGKILL)
            finally:
                process.kill()


def pull(plane: shmplane.Plane, url: str, name: str, **options: Any) -> shmplane.Block:
    return plane.pull(url, name, token=TOKEN, **options)


def refuses(error: type[Exception], call: Callable[[], object], said: str = "") -> None:
    with pytest.raises(error, match=said):
        call()


def is_same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    return bool(one.equals(other) if hasattr(one, "equals") else one == other)


class Before:
    """What a plane had, that it has to have again."""

    def __init__(self, plane: shmplane.Plane) -> None:
        self._plane = plane
        self._found = self._look()

    def _look(self) -> tuple[object, ...]:
        self._plane.gc()
        self._plane.trim()
        said = self._plane.stats()
        return (
            [(block.name, block.version) for block in self._plane.blocks()],
            (said.used_nbytes, said.segments, said.leases, said.processes),
            sorted(os.path.join(path, file) for path, _, files in os.walk(self._plane.root) for file in files),
        )

    def comes_back(self) -> None:
        until = time.monotonic() + DEADLINE_S
        while (found := self._look()) != self._found and time.monotonic() < until:
            time.sleep(0.01)
        assert found == self._found


# The checks


def every_kind_comes_as_it_was(far: Far, plane: shmplane.Plane) -> None:
    refuses(shmplane.PlaneNotFound, lambda: shmplane.Plane("there", create=False))
    with far.serving() as (url, _):
        for name, value in values().items():
            with pull(plane, url, name) as block:
                assert (block.name, block.version) == (name, 1)
                assert is_same(value, plane[name]), name
        assert pull(plane, url, "table", columns=["s"]).table().column_names == ["s"]
    plane.update(dict.fromkeys(plane, 0))


def who_may_not_read_is_refused(far: Far, plane: shmplane.Plane) -> None:
    with far.serving() as (url, _):
        for token in (None, "open", TOKEN + "!"):
            refuses(shmplane.PlaneSecurityError, partial(plane.pull, url, "json", token=token), "token")
        for name in ("missing", "../../../etc/passwd", "/etc/passwd", "there/manifest"):
            refuses(shmplane.BlockNotFound, partial(pull, plane, url, name))
        refuses(ValueError, lambda: pull(plane, url, "table", columns=["q"]), "no column 'q'")


def nothing_listens_there_without_a_token(far: Far, plane: shmplane.Plane) -> None:
    command = (sys.executable, "-m", "shmplane", "serve", "there", "--host", far.host.address)
    with far.host.start(*command, stderr=subprocess.PIPE, text=True) as process:
        _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 4, said
    assert "--token-file" in said


def a_plane_that_fills_up_in_the_middle_keeps_what_it_had(far: Far, plane: shmplane.Plane) -> None:
    with far.serving() as (url, _), shmplane.Plane("narrow", capacity="8MiB") as narrow:
        for name in ("parts", "rows"):
            narrow[name] = "as before"
            before = Before(narrow)
            refuses(shmplane.PlaneFull, partial(pull, narrow, url, name))
            before.comes_back()
        narrow.destroy()


def a_server_that_is_killed_at_any_part_leaves_nothing(far: Far, plane: shmplane.Plane) -> None:
    before = Before(plane)
    for name in ("parts", "rows"):
        for part in SWEPT:
            with far.serving() as (url, pid):
                pull_until(plane, url, name, part, partial(os.kill, pid, signal.SIGKILL))
            before.comes_back()


def a_receiver_that_is_killed_at_any_part_leaves_nothing(far: Far, plane: shmplane.Plane) -> None:
    program = "from tests.integrations.pull_checks import be_killed; be_killed"
    with far.serving() as (url, _):
        subprocess.run([sys.executable, "-c", f"{program}({url!r})", sys.argv[-1]], check=True)


def be_killed(url: str) -> None:
    """The receiver, and who looks what it has left: of a process that has no threads of gRPC's yet, which no fork survives."""
    with shmplane.Plane("here", create=False) as plane:
        before = Before(plane)
        for name in ("parts", "rows"):
            for part in SWEPT:
                child = os.fork()
                if child == 0:
                    pull_until(plane, url, name, part, partial(os.kill, os.getpid(), signal.SIGKILL))
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
                before.comes_back()


def a_network_that_goes_down_at_any_part_leaves_nothing(far: Far, plane: shmplane.Plane) -> None:
    before = Before(plane)
    with far.serving() as (url, _):
        for name in ("parts", "rows"):
            try:
                pull_until(plane, url, name, PARTS // 3, far.host.unplug, timeout=3.0)
            finally:
                far.host.plug()
            before.comes_back()
            reach(url)
        assert pull(plane, url, "json").version == 1


def reach(url: str) -> None:
    """Wait for the network: a pull that begins before it is back hears nothing for seconds, while TCP tries again."""
    host, _, port = url.rpartition("/")[2].partition(":")
    until = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=0.2).close()
        except OSError:
            assert time.monotonic() < until, "the network does not come back"
        else:
            return


def pull_until(
    plane: shmplane.Plane, url: str, name: str, part: int, act: Callable[[], object], **options: Any
) -> None:
    """Pull a block, and act when so many parts of it have come: then it is not all there, or it came before that."""
    from shmplane.flight import Incoming

    come, taken = Incoming.read_next_batch, 0
    block: shmplane.Block | None = None

    def counted(incoming: Incoming) -> Any:
        nonlocal taken
        if taken == part:
            act()
        taken += 1
        return come(incoming)

    with mock.patch.object(Incoming, "read_next_batch", counted):
        with contextlib.suppress(shmplane.PullFailed):
            block = pull(plane, url, name, **options)
    assert taken > part
    if block is not None:  # all was on its way already
        assert is_same(values()[name], block.value())
        block.close()
        del plane[name]
        gc.collect()


CHECKS = [
    every_kind_comes_as_it_was,
    who_may_not_read_is_refused,
    nothing_listens_there_without_a_token,
    a_plane_that_fills_up_in_the_middle_keeps_what_it_had,
    a_server_that_is_killed_at_any_part_leaves_nothing,
    a_receiver_that_is_killed_at_any_part_leaves_nothing,
    a_network_that_goes_down_at_any_part_leaves_nothing,
]

FILL = """
import shmplane
from tests.integrations.pull_checks import values

shmplane.Plane("there", capacity="512MiB").update(values())
"""


def main(*where: str) -> None:
    host = Host(where[2], int(where[3]))
    said: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as directory:
        far = Far(host, Path(directory))
        with host.start(sys.executable, "-c", FILL) as process:
            assert process.wait(DEADLINE_S) == 0
        for check in CHECKS:
            began = time.monotonic()
            with shmplane.Plane("here", capacity="256MiB") as plane:
                try:
                    check(far, plane)
                    said[check.__name__] = None
                except Exception:
                    said[check.__name__] = traceback.format_exc()
                plane.destroy()
            print(f"{time.monotonic() - began:.1f} s {check.__name__}", file=sys.stderr)
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
