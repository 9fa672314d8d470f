"""Connections that are nothing but a record of what was done to them, and permits held by file locks."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path


class Server:
    """Makes connections, counts those that are open, and fails when it is told to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[Conn] = []
        self.open = 0
        self.most_open = 0
        self.fail: BaseException | None = None
        self.hang: threading.Event | None = None
        self.delay = 0.0

    def connect(self) -> Conn:
        if self.hang is not None:
            self.hang.wait(10)
        if self.delay:
            time.sleep(self.delay)
        if self.fail is not None:
            raise self.fail
        return self.make()

    def make(self) -> Conn:
        conn = Conn(self)
        with self.lock:
            self.made.append(conn)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        return conn

    def forget(self) -> None:
        """Drop the record, so that a dropped connection becomes garbage."""
        self.made.clear()


class Conn:
    """A connection to a ``Server``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.closed = False
        self.broken = False
        self.checks = self.resets = 0

    def note_reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        with self.server.lock:
            assert not self.closed, "closed twice"
            self.closed = True
            self.server.open -= 1


def works(conn: Conn) -> bool:
    """A check for ``Conn``."""
    conn.checks += 1
    return not (conn.broken or conn.closed)


def until(condition, timeout: float = 10.0) -> None:
    """Wait for something that happens in the background."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


class FakePlane:
    """Gives permits like a plane does, by file locks in a directory: the kernel frees them at death."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = str(directory)

    @property
    def directory_path(self) -> Path:
        return Path(self.directory)

    def _host_permits(self, name: str, limit: int) -> FilePermits:
        return FilePermits(Path(self.directory), name, limit)


class FilePermits:
    """The contract of ``HostPermits``: a locked file is a permit, another one a place in the queue."""

    def __init__(self, directory: Path, name: str, limit: int) -> None:
        self._directory = directory
        self._name = name
        self._limit = limit
        self._held: list[int] = []
        self._mutex = threading.Lock()
        self._waiting: int | None = None
        self._closed = False

    def _open(self, what: str) -> int:
        return os.open(self._directory / f"{self._name}.{what}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _lock(self, what: str) -> int | None:
        descriptor = self._open(what)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _take(self) -> bool:
        for number in range(self._limit):
            descriptor = self._lock(f"permit-{number}")
            if descriptor is not None:
                with self._mutex:
                    if not self._closed:
                        self._held.append(descriptor)
                        return True
                os.close(descriptor)
                return False
        return False

    def try_acquire(self) -> bool:
        return not self.waiting_elsewhere() and self._take()

    def acquire(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        place = self._enter_queue()
        try:
            while not self._closed and time.monotonic() < deadline:
                if not any(earlier < place for earlier in self._places()) and self._take():
                    return True
                time.sleep(0.005)
            return False
        finally:
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                (self._directory / f"{self._name}.place-{place}").unlink()
                os.close(waiting)

    def _enter_queue(self) -> int:
        """Behind everyone who waits."""
        place = max(self._places(), default=-1) + 1
        while True:
            waiting = self._lock(f"place-{place}")
            if waiting is not None:
                # Who left in this moment took the file away; a lock on that would be seen by nobody.
                if os.fstat(waiting).st_nlink:
                    self._waiting = waiting
                    return place
                os.close(waiting)
            place += 1

    def _places(self) -> list[int]:
        numbers = [int(path.name.rpartition("-")[2]) for path in self._directory.glob(f"{self._name}.place-*")]
        return [number for number in numbers if self._is_taken(number)]

    def _is_taken(self, place: int) -> bool:
        try:
            descriptor = os.open(self._directory / f"{self._name}.place-{place}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that those who look do not see each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def waiting_elsewhere(self) -> int:
        return max(0, len(self._places()) - (self._waiting is not None))

    def release(self) -> None:
        with self._mutex:
            if self._held:
                os.close(self._held.pop())

    def close(self) -> None:
        with self._mutex:
            self._closed = True
        while self._held:
            self.release()


def permits_in_use(directory: Path, name: str, limit: int) -> int:
    """How many permits are held, over all processes."""
    permits = FilePermits(directory, name, limit)
    free = 0
    while permits._take():
        free += 1
    permits.close()
    return limit - free
