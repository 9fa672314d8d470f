"""``--all-users``: a command for every user who has planes in a root, as that user. For root.

Rule 1. Root reads nothing of a user's itself: a child that has become that user does (``system.users``).
Rule 2. Only a directory counts that belongs to the user in its name; what else is called so is said and left alone.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ..system import run_as
from .exits import OK, PROBLEMS, UNREADABLE, USAGE, Failed, failure_of
from .output import Output

__all__ = ["as_every_user", "check_all_users", "run_for_all_users"]

_PREFIX = "shmplane-"


class User(NamedTuple):
    """Somebody who has, or had, planes in a root."""

    uid: int
    gid: int
    name: str


def check_all_users(options: Namespace) -> None:
    """``--all-users`` is for root, and for all planes of a user."""
    if os.geteuid():
        raise Failed(USAGE, "--all-users is for root: nobody else may look into the planes of other users")
    if getattr(options, "plane", None) is not None or getattr(options, "layout", None) is not None:
        raise Failed(USAGE, "--all-users is for all planes: leave out the plane, or run the command as its user")


def run_for_all_users(command: Callable[[Namespace, Output], int], options: Namespace, out: Output) -> int:
    """``command`` as every user. Tables and lists become one, with a column or fields for the user."""
    check_all_users(options)
    reports = as_every_user(options.root, lambda: _recorded(command, options, out.width), out)
    told = [(user, report) for user, report in reports if report is not None]
    if options.json:
        out.json(**_merged(told, options.root))
    else:
        _show(told, out)
    for user, report in told:
        for message in report["messages"]:
            out.message(f"{user.name}: {message}")
    if not told and not options.json:
        out.message(f"no planes in {options.root}")
    failed = len(told) < len(reports) or any(report["code"] for _, report in told)
    return PROBLEMS if failed else OK


def as_every_user(root: str, work: Callable[[], Any], out: Output) -> list[tuple[User, Any]]:
    """What ``work()`` returns, made of what JSON can say, as each user in turn; None when that failed, which is said."""
    found: list[tuple[User, Any]] = []
    for user in _users(root, out):
        said = run_as(user.uid, user.gid, lambda: json.dumps(work()).encode())
        try:
            found.append((user, None if said is None else json.loads(said)))
        except ValueError:
            found.append((user, None))
        if found[-1][1] is None:
            out.message(f"{user.name}: the process that looked as this user was ended; try again")
    return found


def _users(root: str, out: Output) -> list[User]:
    """Those with a directory in a root, by their number."""
    users = []
    for entry in os.listdir(root) if os.path.isdir(root) else ():
        number = entry.removeprefix(_PREFIX)
        if not entry.startswith(_PREFIX) or not (number.isascii() and number.isdigit()) or str(int(number)) != number:
            continue
        try:
            found = os.lstat(f"{root}/{entry}")
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == int(number):
            users.append(_user(found))
        else:
            out.message(f"{root}/{entry}: left alone, it is no directory of user {number}")
    return sorted(users)


def _user(found: os.stat_result) -> User:
    try:
        known = pwd.getpwuid(found.st_uid)
    except KeyError:
        return User(found.st_uid, found.st_gid, str(found.st_uid))
    return User(found.st_uid, known.pw_gid, known.pw_name)


class _Recorder(Output):
    """What a command would have printed."""

    def __init__(self, width: int) -> None:
        self.width: int = width
        self.lines_: list[str] = []
        self.messages: list[str] = []
        self.tables: list[tuple[Sequence[str], list[Sequence[str]], str]] = []
        self.fields: dict[str, Any] = {}

    def line(self, text: str = "") -> None:
        self.lines_.append(text)

    def cut(self, text: str) -> None:
        self.lines_.append(text)

    def json(self, **fields: Any) -> None:
        self.fields = fields

    def message(self, text: str) -> None:
        self.messages.append(text)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], *, left: str = "") -> None:
        self.tables.append((head, list(rows), left))


def _recorded(command: Callable[[Namespace, Output], int], options: Namespace, width: int) -> dict[str, Any]:
    out = _Recorder(width)
    try:
        code = command(options, out)
    except UNREADABLE as error:
        failed = failure_of(error)
        code = PROBLEMS if failed is None else failed.code
        out.message(str(failed or error))
    return {
        "code": code,
        "lines": out.lines_,
        "tables": out.tables,
        "messages": out.messages,
        "fields": out.fields,
    }


def _merged(told: list[tuple[User, dict[str, Any]]], root: str) -> dict[str, Any]:
    """The objects of all users as one of the same fields: lists with a user in each entry, sums of numbers."""
    merged: dict[str, Any] = {"root": root, "users": [{"uid": user.uid, "user": user.name} for user, _ in told]}
    for user, report in told:
        for name, value in report["fields"].items():
            if isinstance(value, list):
                entries = [{"uid": user.uid, "user": user.name, **entry} for entry in value]
                merged.setdefault(name, []).extend(entries)
            elif isinstance(value, int) and not isinstance(value, bool):
                merged[name] = merged.get(name, 0) + value
            else:
                merged[name] = value
    return merged


def _show(told: list[tuple[User, dict[str, Any]]], out: Output) -> None:
    tables = [(user, table) for user, report in told for table in report["tables"]]
    if tables:
        head, _, left = tables[0][1]
        rows = [(user.name, *row) for user, table in tables for row in table[1]]
        out.table(("USER", *head), rows, left=f"USER {left}")
    for user, report in told:
        for line in report["lines"]:
            out.cut(f"{user.name}: {line}")
