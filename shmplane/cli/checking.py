"""``shmplane doctor``: what can be wrong with the host and the planes, and the cure; ``shmplane health``: planes alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from .. import observe
from ..manifest import FORMAT, fingerprint_of_format
from .exits import OK, PROBLEMS
from .output import Output, printable
from .users import as_every_user, check_all_users

if TYPE_CHECKING:
    from argparse import Namespace


__all__ = ["doctor", "health"]


def doctor(options: Namespace, out: Output) -> int:
    if options.all_users:
        check_all_users(options)
    if options.layout is not None:
        return _layout(options, out)
    checks: list[observe.Check] = []
    for check in (*observe.check_host(options.root), *_check_planes(options, out)):
        checks.append(check)
        if not options.json:
            _show(check, out)
    status = observe.Health.of(checks).status
    if options.json:
        out.json(root=options.root, status=status, checks=[asdict(check) for check in checks])
    elif status == "pass":
        out.message("no problems found")
    else:
        counts = [f"{sum(check.status == kind for check in checks)} {kind}" for kind in ("fail", "warn")]
        out.message(f"problems found: {', '.join(counts)}")
    return OK if status == "pass" else PROBLEMS


def health(options: Namespace, out: Output) -> int:
    """One plane, check by check, or a line each for all."""
    if options.plane is None:
        checks = list(observe.check_planes(options.root))
    else:
        checks = list(observe.plane_checks(observe.snapshot_of(options.plane, options.root)))
    found = observe.Health.of(checks)
    if options.json:
        out.json(
            root=options.root, plane=options.plane, status=found.status, checks=[asdict(check) for check in checks]
        )
    else:
        for check in checks:
            _show(check, out)
        if not checks:
            out.message(f"no planes in {options.root}")
    return OK if found.status == "pass" else PROBLEMS


def _check_planes(options: Namespace, out: Output) -> Iterator[observe.Check]:
    """Those of this user, or with ``--all-users`` of everybody."""
    if not options.all_users:
        yield from observe.check_planes(options.root)
        return
    for user, checks in as_every_user(
        options.root, lambda: [asdict(check) for check in observe.check_planes(options.root)], out
    ):
        for fields in checks or ():
            check = observe.Check(**fields)
            yield replace(check, name=f"{check.name} of {user.name}", cure=_cure_by_root(check.cure, user.name))


def _cure_by_root(cure: str, user: str) -> str:
    if cure.startswith("shmplane gc"):
        return "shmplane gc --all-users"
    return f"as user {user}: {cure}" if cure else ""


def _show(check: observe.Check, out: Output) -> None:
    head = f"{check.status:<5} {printable(check.name):<13}  "
    for index, line in enumerate(textwrap.wrap(printable(check.found), out.width - len(head), break_on_hyphens=False)):
        out.line((head if index == 0 else " " * len(head)) + line)
    if check.cure:
        cure = textwrap.wrap(check.cure, out.width - 24, break_on_hyphens=False, break_long_words=False)
        for index, line in enumerate(cure):
            out.line(" " * 21 + ("-> " if index == 0 else "   ") + line)


def _layout(options: Namespace, out: Output) -> int:
    if options.layout:
        with observe.reading(options.layout, options.root) as plane:
            tables, size = observe.describe_format(plane.manifest), plane.manifest.nbytes
            header = plane.manifest.header
            words = {"format": header.format[0], "fingerprint": f"{header.fingerprint[0]:#018x}"}
            said = f"{options.layout}: {{}}, {observe.nbytes(size)}, sparse"
    else:
        tables, said = observe.describe_format(), "This release: {}"
        words = {"format": FORMAT, "fingerprint": f"{fingerprint_of_format():#018x}"}
    if options.json:
        described = [asdict(table) for table in tables]
        out.json(root=options.root, plane=options.layout or None, **words, tables=described)
        return OK
    out.line("Words of 8 bytes, little-endian, one store each; rows lie one behind the other.")
    out.line(said.format(f"format {words['format']}, fingerprint {words['fingerprint']}"))
    for table in tables:
        _show_table(table, out)
    return OK


def _show_table(table: observe.TableFacts, out: Output) -> None:
    place = ""
    if table.start is not None and table.rows is not None:
        rows = "1 row" if table.rows == 1 else f"{observe.count(table.rows)} rows"
        place = f", {rows} from byte {observe.count(table.start)}"
    out.line()
    out.line(f"{table.name}: {table.row_nbytes} B a row{place}")
    width = max(len(column.name) for column in table.columns)
    for column in table.columns:
        head = f"  +{column.offset:<4} {column.nbytes:>3} B  {column.name:<{width}}  "
        for index, line in enumerate(textwrap.wrap(column.meaning, max(20, out.width - len(head)))):
            out.line((head if index == 0 else " " * len(head)) + line)
