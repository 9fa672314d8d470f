"""A PostgreSQL cluster of our own in a temporary directory."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

MAX_SESSIONS = 43  #: of which PostgreSQL keeps 3 for superusers


def find_binaries() -> Path:
    """Where ``initdb`` and ``pg_ctl`` are; in CI they have to be somewhere."""
    found = shutil.which("initdb")
    candidates = [Path(found).parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for directory in candidates:
        if (directory / "pg_ctl").exists():
            return directory
    reason = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Cluster:
    """Made with ``initdb``, started with ``pg_ctl``, never as root, gone afterwards."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = _someone_else() if os.geteuid() == 0 else None
        # A unix socket's path has little room.
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._data = self.directory / "data"
        self.port = _free_port()
        if self._user is not None:
            shutil.chown(self.directory, self._user)

    def __enter__(self) -> Self:
        try:
            trust = ["-A", "trust", "-U", "tester", "--no-sync", "--locale=C", "-E", "UTF8"]
            self._run("initdb", "-D", str(self._data), *trust)
            self.start()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        with self._admin() as conn:
            conn.execute("create role app login")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.directory,
            "max_connections": MAX_SESSIONS, "fsync": "off", "full_page_writes": "off",
            "shared_buffers": "16MB", "dynamic_shared_memory_type": "mmap",
        }  # fmt: skip
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self.directory / "log")
        self._run("pg_ctl", "start", "-w", "-s", "-D", str(self._data), "-l", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "immediate", "-D", str(self._data), check=False)

    def restart(self) -> None:
        """As an operator does it: sessions are cut, then there is nobody for a moment."""
        self._run("pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", str(self._data))
        self.start()

    def ensure_running(self) -> None:
        if self._run("pg_ctl", "status", "-D", str(self._data), check=False).returncode != 0:
            self.start()

    def dsn(self, port: int | None = None, *, host: str | None = None) -> str:
        """For libpq; over the unix socket, or over TCP when a port is given."""
        host = host or ("127.0.0.1" if port else str(self.directory))
        return f"host={host} port={port or self.port} user=app dbname=postgres connect_timeout=5"

    def sessions(self) -> int:
        """How many sessions users have at this moment."""
        with self._admin() as conn:
            query = "select count(*) from pg_stat_activity where usename = 'app'"
            return int(conn.execute(query).fetchone()[0])

    def _admin(self) -> Any:
        import psycopg

        dsn = self.dsn().replace("user=app", "user=tester")
        return psycopg.connect(dsn, autocommit=True)

    def _run(self, program: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # The postmaster inherits what we pass, so its output goes to a file and not to a pipe.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._binaries / program), *args],
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
                cwd=self.directory,
                stdout=output,
                stderr=output,
                text=True,
                check=False,
            )
            output.seek(0)
            if check and done.returncode:
                pytest.fail(f"{program} failed: {output.read()}", pytrace=False)
        return done


def _someone_else() -> str:
    for user in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(user).pw_name
        except KeyError:
            continue
    pytest.fail("PostgreSQL does not run as root, and there is no other user", pytrace=False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
