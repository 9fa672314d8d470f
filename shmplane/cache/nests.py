"""Who writes to a cache's directory: a locked file for each process, so that the kernel says who is gone.

What a writer begins, it reserves under the name of its lock file. When that can be locked by somebody else, the writer has
ended, however it did, and what it had reserved is given back.
"""

from __future__ import annotations

import os
import threading

from ..system import begin_again_in_forks, create_file_into, exists, ignoring, open_file, own, try_flock

__all__ = ["Nests"]


class Nests:
    """The lock files in a directory, of which one is ours from the first time that it is asked for."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._mutex = threading.Lock()
        self._fds: list[int] = []
        self._name = ""
        with ignoring(FileExistsError):
            os.mkdir(directory, 0o700)
        begin_again_in_forks(self)

    def ours(self) -> str:
        """The name of this process's, which is locked."""
        with self._mutex:
            while not self._name:
                self._close()  # what a call had made that was interrupted
                name = os.urandom(8).hex()
                path = os.path.join(self._directory, name)
                create_file_into(self._fds, path)
                # A collector may have taken the newborn file for a dead one's.
                if try_flock(self._fds[-1]) and exists(path):
                    self._name = name
                else:
                    os.close(self._fds.pop())
            return self._name

    def is_dead(self, name: str) -> bool:
        """Whether the process that has, or had, this lock file is gone."""
        if name == self._name:
            return False
        path = os.path.join(self._directory, os.path.basename(name))
        try:
            fd = open_file(path, writable=True)
        except own(FileNotFoundError):
            return True
        except own(OSError):
            return False
        try:
            return try_flock(fd)
        finally:
            os.close(fd)

    def clear(self) -> None:
        """Remove the lock files of processes that are gone; what they had reserved has been given back."""
        with ignoring(OSError):
            for name in os.listdir(self._directory):
                if name != self._name and self.is_dead(name):
                    os.unlink(os.path.join(self._directory, name))

    def leave(self) -> None:
        """Ours ends."""
        with self._mutex:
            if self._name:
                with ignoring(OSError):
                    os.unlink(os.path.join(self._directory, self._name))
            self._close()

    def begin_again_in_child(self) -> None:
        """In a forked child: the lock is the parent's, and ours to let go of."""
        self._mutex = threading.Lock()
        self._close()

    def _close(self) -> None:
        self._name = ""
        while self._fds:
            os.close(self._fds.pop())
