"""``RemoveIPC`` of systemd-logind: whether a user's files in ``/dev/shm`` go when the last session of the user ends.

The option is read as systemd does: the first ``logind.conf`` in the order of directories, then all drop-ins
``logind.conf.d/*.conf`` by file name, where a name in an earlier directory hides the same name in a later one; the last word
counts. Where nobody says it, systemd's own default is yes, or what the comment in the shipped file says it was built with.

Source: logind.conf(5). Users below 1000 (system users) and users who linger keep their files.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from .checks import Check

__all__ = ["check_logout", "removes_ipc"]

_DIRECTORIES = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd")
_FIRST_USER = 1000
_REMOVED_FROM = "/dev/shm/"  # noqa: S108 - where logind removes files
_YES = {"yes", "true", "1", "on", "y", "t"}
_SAID = re.compile(r"\s*RemoveIPC\s*=\s*(\w*)")
_BUILT_WITH = re.compile(r"#\s*RemoveIPC\s*=\s*(\w+)")


def check_logout(root: str, *, top: Path = Path("/"), uid: int | None = None) -> Check:
    """What becomes of planes in ``root`` when the user logs out."""
    uid = os.geteuid() if uid is None else uid
    if not (top / "run/systemd/system").is_dir():
        return Check("logout", "pass", "no systemd here that removes files of users who log out")
    if not f"{os.path.realpath(root)}/".startswith(_REMOVED_FROM):
        return Check("logout", "pass", f"systemd removes nothing in {root} when a user logs out")
    removes, said_by = removes_ipc(top)
    if not removes:
        return Check("logout", "pass", f"RemoveIPC=no ({said_by}): planes stay when a user logs out")
    if uid < _FIRST_USER:
        return Check("logout", "pass", f"RemoveIPC=yes concerns users from {_FIRST_USER} on; this is {uid}")
    user = _name_of(uid)
    if (top / "var/lib/systemd/linger" / user).exists():
        return Check("logout", "pass", f"RemoveIPC=yes, but user {user} lingers: planes stay after a logout")
    return Check(
        "logout",
        "warn",
        f"systemd removes the files of user {user} in {root} when the last session of {user} ends (RemoveIPC=yes, "
        f"{said_by}), under processes that still run: nohup, cron, tmux",
        f"`loginctl enable-linger {user}`; or RemoveIPC=no under [Login] in /etc/systemd/logind.conf.d/shmplane.conf, then "
        f"`systemctl restart systemd-logind`; or run it as a system user (below {_FIRST_USER}).",
    )


def removes_ipc(top: Path = Path("/")) -> tuple[bool, str]:
    """Whether logind removes IPC objects, and which file says so."""
    removes, said_by = True, "systemd's default"
    for path in _files(top):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in _login_section(text):
            built_with, said = _BUILT_WITH.fullmatch(line), _SAID.fullmatch(line)
            if built_with and said_by == "systemd's default":
                removes = built_with[1].lower() in _YES
            if said:
                removes, said_by = (said[1].lower() in _YES if said[1] else True), f"/{path.relative_to(top)}"
    return removes, said_by


def _files(top: Path) -> Iterator[Path]:
    """The files that count, in the order in which they are read."""
    main = (top / directory / "logind.conf" for directory in _DIRECTORIES)
    yield from list(filter(Path.is_file, main))[:1]
    drop_ins: dict[str, Path] = {}
    for directory in _DIRECTORIES:
        for path in (top / directory / "logind.conf.d").glob("*.conf"):
            drop_ins.setdefault(path.name, path)
    yield from (drop_ins[name] for name in sorted(drop_ins))


def _login_section(text: str) -> Iterator[str]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Login]":
            yield line


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
