"""The commands, their options and their help."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple, NoReturn

from .. import __version__
from ..observe import default_root
from .exits import USAGE, Failed

__all__ = ["make_parser"]

_EXITS = "exit codes: 0 ok, 1 problems found, 2 usage, 3 not found, 4 busy or refused"
_FORMATS = "npy, npz, parquet, arrow, feather, csv, safetensors or raw; default: what the end of its name says"


class _Option(NamedTuple):
    """An argument, and what ``add_argument`` is told of it."""

    name: str
    told: dict[str, Any]


class _Command(NamedTuple):
    """A command, what it does, ``module:function`` that does it, its options, and examples without the program's name."""

    name: str
    what: str
    run: str
    options: list[_Option]
    examples: dict[str, str]


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shmplane",
        description="Named blocks in shared memory: look at planes, clean up, try it out.",
        epilog=f"{_shown(_EXAMPLES)}\n\n{_EXITS}",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"shmplane {__version__}")
    where = "where the planes lie (default: $SHMPLANE_ROOT or /dev/shm)"
    parser.add_argument("--root", default=default_root(), metavar="DIR", help=where)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, what, run, options, examples in _COMMANDS:
        description, epilog = what[0].upper() + what[1:] + ".", _shown(examples)
        command = commands.add_parser(
            name, help=what, description=description, epilog=epilog, formatter_class=_Formatter
        )
        command.set_defaults(run=run, json=False)
        # Also after the command; left out, the value from before it stays.
        command.add_argument("--root", default=argparse.SUPPRESS, metavar="DIR", help="where the planes lie")
        for option in options:
            command.add_argument(option.name, **option.told)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As every other failure: one message on stderr, also when that is closed."""
        raise Failed(USAGE, f"{message}; see `{self.prog} --help`")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=79)


def _shown(examples: dict[str, str]) -> str:
    width = max(map(len, examples))
    return "examples:\n" + "\n".join(f"  shmplane {call.ljust(width)}   {what}" for call, what in examples.items())


def _seconds(text: str) -> float:
    try:
        given = float(text)
    except ValueError:
        given = 0.0
    if not 0.1 <= given <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return given


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535, or 0 for any that is free")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not 2 to 64: one is killed, and one has to survive")
    return int(text)


def _option(name: str, what: str, metavar: str | None = None, **told: Any) -> _Option:
    """One with a value, whose ``metavar`` is that of the help."""
    return _Option(name, {"help": what, "metavar": metavar, **told})


def _flag(name: str, what: str, **told: Any) -> _Option:
    return _Option(name, {"help": what, "action": "store_true", **told})


_PLANE = _option("plane", "a plane's name", "PLANE")
_PLANE_OR_NONE = _option("plane", "a plane's name", "PLANE", nargs="?")
_PLANE_OR_ALL = _option("plane", "a plane's name; without it: all of them", "PLANE", nargs="?")
_JSON = _flag("--json", "one JSON object on stdout")
_ALL_USERS = _flag("--all-users", "the planes of every user (for root)")
_BLOCK_AND_FILE = [
    _option("block", "a block's name", "NAME"),
    _option("file", "a path", "FILE"),
    _option("--format", _FORMATS, "FORMAT"),
]

_EXAMPLES = {
    "demo": "see what it does, on real data",
    "ls": "planes of this user",
    "ls market --json": "the blocks of one, for programs",
    "gc --dry-run": "what ended processes left behind",
}
_COMMANDS = [
    _Command(
        "ls",
        "list planes, or the blocks of one",
        "listing:ls",
        [_JSON, _PLANE_OR_NONE, _ALL_USERS],
        {
            "ls": "planes: blocks, memory, processes, leases",
            "ls market": "its blocks by name, then those without one",
            "ls market --json": "the same for programs, names in full",
        },
    ),
    _Command(
        "info",
        "show all about a plane, or about a block",
        "details:info",
        [_JSON, _PLANE, _option("block", "a block's name", "BLOCK", nargs="?")],
        {
            "info market": "memory, processes and what they hold",
            "info market prices": "dtype or schema, version, who leases it",
        },
    ),
    _Command(
        "map",
        "show the memory of a plane: a bar a segment, and who leases what",
        "details:map_plane",
        [_JSON, _PLANE],
        {
            "map market": "segments, blocks and processes, what versions share",
            "map market --json": "the same for programs",
        },
    ),
    _Command(
        "top",
        "watch planes, or the processes, locks and blocks of one",
        "top:top",
        [
            _PLANE_OR_ALL,
            _option("--seconds", "between two looks, 0.1 to 3600 (default: 1)", "S", type=_seconds, default=1.0),
        ],
        {
            "top": "a row for each plane; enter shows one",
            "top market": "processes, leases, rates, locks, memory",
            "top market --seconds 5": "look less often; q quits, s sorts",
        },
    ),
    _Command(
        "health",
        "check planes, for probes and alerts",
        "checking:health",
        [_JSON, _PLANE_OR_ALL],
        {
            "health market": "exit code 1 when anything is to be done",
            "health --json": "every plane of this user, check by check",
        },
    ),
    _Command(
        "metrics",
        "print what planes count, for Prometheus",
        "counted:metrics",
        [_JSON, _PLANE_OR_ALL],
        {
            "metrics market": "the text format, as Collector(plane) tells it",
            "metrics": "every plane of this user, with the label plane",
            "metrics market --json": "the same for other programs",
        },
    ),
    _Command(
        "gc",
        "reclaim what ended processes held",
        "reclaiming:gc",
        [_JSON, _PLANE_OR_ALL, _flag("--dry-run", "only show what would be reclaimed"), _ALL_USERS],
        {"gc": "every plane of this user", "gc market --dry-run": "show it and change nothing"},
    ),
    _Command(
        "doctor",
        "check the host and every plane, and name the cure",
        "checking:doctor",
        [
            _JSON,
            _ALL_USERS,
            _option("--layout", "print the columns of the binary format instead", "PLANE", nargs="?", const=""),
        ],
        {
            "doctor": "exit code 1 when anything is to be done",
            "doctor --layout": "the binary format, column by column",
            "doctor --layout market": "with the place of each table in that plane",
        },
    ),
    _Command(
        "rm",
        "remove blocks, or a whole plane",
        "reclaiming:rm",
        [
            _PLANE,
            _option("blocks", "names of blocks", "BLOCK", nargs="*"),
            _flag("--plane", "remove the plane with all its blocks", dest="whole"),
            _flag("--force", "also what is leased, or too damaged to be opened"),
        ],
        {
            "rm market prices volumes": "refuses (exit code 4) if one is leased",
            "rm market prices --force": "takes the name; readers keep the memory",
            "rm market --plane": "ends the plane for every process",
        },
    ),
    _Command(
        "load",
        "read a file into a block, and make the plane if it is not there",
        "transferring:load",
        [_PLANE, *_BLOCK_AND_FILE],
        {
            "load market flights flights.parquet": "a table",
            "load models llm model.safetensors": "a dict of arrays, for every process",
        },
    ),
    _Command(
        "save",
        "write a block to a file, whole or not at all",
        "transferring:save",
        [_PLANE, *_BLOCK_AND_FILE],
        {"save market flights flights.parquet": "what was there is replaced"},
    ),
    _Command(
        "serve",
        "let other hosts read a plane, by Arrow Flight",
        "serving:serve",
        [
            _JSON,
            _PLANE,
            _option("--host", "address to listen at (default: 127.0.0.1)", "HOST", default="127.0.0.1"),
            _option("--port", "default: 0, any that is free", "PORT", type=_port, default=0),
            _option("--token-file", "only for those who have the token in its first line", "FILE"),
            _option("--tls-cert", "the server's certificate, in PEM", "FILE"),
            _option("--tls-key", "its private key, in PEM", "FILE"),
        ],
        {
            "serve market": "on this host alone, on a free port",
            "serve market --host 0.0.0.0 --port 8815 --token-file F": "for other hosts",
        },
    ),
    _Command(
        "demo",
        "share a real table with workers, kill one, and look",
        "demo.story:tell",
        [
            _JSON,
            _option("--data", "csv, parquet, arrow or npy instead of the flights", "FILE"),
            _option("--workers", "worker processes, 2 to 64 (default: 4)", "N", type=_workers, default=4),
            _flag("--keep", "leave the plane there at the end"),
        ],
        {
            "demo": "the flights that left New York in 2013",
            "demo --data my.parquet": "a table or array of your own",
            "demo --workers 8 --keep": "leaves the plane for `shmplane info`",
        },
    ),
    _Command(
        "bench",
        "run the benchmarks of a source checkout, like python -m bench",
        "benchmarks:bench",
        [],
        {"bench --quick": "all of them, under a minute", "bench put_steady get": "some of them"},
    ),
]
