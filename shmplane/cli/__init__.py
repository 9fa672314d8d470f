"""The command line.

Rule 1. Data goes to stdout, messages to stderr; the exit code says how it went (``exits``).
Rule 2. A command's module is loaded when the command is called, NumPy and pyarrow only by those that need them.
Rule 3. What reads a plane changes nothing in it and does not take part in it.
Rule 4. A reader that closes the pipe has had enough: no message, no traceback.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..names import check_block_name, check_plane_name
from .exits import NOT_FOUND, OK, USAGE, Failed, failure_of
from .output import Output, utf_8
from .parser import make_parser

if TYPE_CHECKING:
    import argparse
    from types import ModuleType

__all__ = ["main"]

#: packages that a command's own extra brings, which has the command's name
_OF_EXTRAS = {"psutil", "rich"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 ok, 1 problems found, 2 usage, 3 not found, 4 busy or refused."""
    out = Output()
    try:
        try:
            code = _run(argv, out)
        finally:
            out.flush()
        return code
    except BrokenPipeError:
        out.abandon()
        return OK
    except KeyboardInterrupt:
        out.message("interrupted")
        return 130
    except Exception as error:
        failed = failure_of(error)
        if failed is None:
            raise
        out.message(str(failed))
        return failed.code


def _run(argv: Sequence[str] | None, out: Output) -> int:
    parser = make_parser()
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows bench is for the benchmarks, options and all.
    handed_on = given[1:] if given[:1] == ["bench"] and not {"-h", "--help"}.intersection(given) else []
    try:
        options = parser.parse_args(given[:1] if handed_on else given)
    except SystemExit as end:  # argparse has printed its help or its complaint
        return end.code if isinstance(end.code, int) else USAGE
    if options.command is None:
        out.message("which command? `shmplane --help` lists them, with examples")
        return USAGE
    module, _, function = options.run.partition(":")
    command: Callable[[argparse.Namespace, Output], int] = getattr(_load(options.command, module), function)
    options.handed_on = handed_on
    if argv is None:
        _decode(options)
    _check(options)
    return command(options, out)


def _load(command: str, module: str) -> ModuleType:
    """The module of a command; ``Failed`` when it needs a package that the command's extra brings."""
    try:
        return importlib.import_module(f".{module}", __name__)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OF_EXTRAS:
            raise
        raise Failed(NOT_FOUND, f"{command} needs {missing}: pip install 'shmplane[{command}]'") from error


def _decode(options: argparse.Namespace) -> None:
    """Names of blocks are UTF-8, whatever the locale says that arguments are."""
    if getattr(options, "block", None) is not None:
        options.block = utf_8(options.block)
    if getattr(options, "blocks", None):
        options.blocks = [utf_8(block) for block in options.blocks]


def _check(options: argparse.Namespace) -> None:
    """Names that cannot be are mistakes of usage, before anything is opened."""
    if not options.root.startswith("/"):
        raise Failed(USAGE, f"--root {options.root!r}: write the absolute path of a directory")
    try:
        for plane in (getattr(options, "plane", None), getattr(options, "layout", None)):
            if plane is not None and not (plane == "" and options.command == "doctor"):
                check_plane_name(plane)
        for block in (getattr(options, "block", None), *getattr(options, "blocks", ())):
            if block is not None:
                check_block_name(block)
    except ValueError as error:
        raise Failed(USAGE, str(error)) from error
