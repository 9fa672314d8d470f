"""The commands, their options and their help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from .. import __version__
from ..observe import default_root
from .exits import USAGE, Failed

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["_Parser"]

__all__ = ["make_parser"]

_EXITS = "exit codes: 0 ok, 1 problems found, 2 usage, 3 not found, 4 busy or refused"


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="shmplane",
        description="Named blocks in shared memory: look at planes, clean up, try it out.",
        epilog=_examples(
            ("shmplane demo", "see what it does, on real data"),
            ("shmplane ls", "planes of this user"),
            ("shmplane ls market --json", "the blocks of one, for programs"),
            ("shmplane gc --dry-run", "what ended processes left behind"),
        )
        + f"\n\n{_EXITS}",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"shmplane {__version__}")
    where = "where the planes lie (default: $SHMPLANE_ROOT or /dev/shm)"
    parser.add_argument("--root", default=default_root(), metavar="DIR", help=where)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (_ls, _info, _map, _top, _health, _metrics, _gc, _doctor, _rm, _load, _save, _serve, _demo, _bench):
        add(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As every other failure: one message on stderr, also when that is closed."""
        raise Failed(USAGE, f"{message}; see `{self.prog} --help`")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=79)


def _command(
    commands: Commands,
    name: str,
    what: str,
    *,
    run: str,
    examples: Sequence[tuple[str, str]],
    json: bool = True,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=_examples(*examples),
        formatter_class=_Formatter,
    )
    command.set_defaults(run=run, json=False)
    # Also after the command; left out, the value from before it stays.
    command.add_argument("--root", default=argparse.SUPPRESS, metavar="DIR", help="where the planes lie")
    if json:
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return command


def _examples(*examples: tuple[str, str]) -> str:
    width = max(len(command) for command, _ in examples)
    return "examples:\n" + "\n".join(f"  {command.ljust(width)}   {what}" for command, what in examples)


def _ls(commands: Commands) -> None:
    command = _command(
        commands,
        "ls",
        "list planes, or the blocks of one",
        run="listing:ls",
        examples=[
            ("shmplane ls", "planes: blocks, memory, processes, leases"),
            ("shmplane ls market", "its blocks by name, then those without one"),
            ("shmplane ls market --json", "the same for programs, names in full"),
        ],
    )
    command.add_argument("plane", nargs="?", metavar="PLANE", help="a plane's name")
    _all_users(command)


def _all_users(command: argparse.ArgumentParser) -> None:
    command.add_argument("--all-users", action="store_true", help="the planes of every user (for root)")


def _info(commands: Commands) -> None:
    command = _command(
        commands,
        "info",
        "show all about a plane, or about a block",
        run="details:info",
        examples=[
            ("shmplane info market", "memory, processes and what they hold"),
            ("shmplane info market prices", "dtype or schema, version, who leases it"),
        ],
    )
    command.add_argument("plane", metavar="PLANE", help="a plane's name")
    command.add_argument("block", nargs="?", metavar="BLOCK", help="a block's name")


def _health(commands: Commands) -> None:
    command = _command(
        commands,
        "health",
        "check planes, for probes and alerts",
        run="checking:health",
        examples=[
            ("shmplane health market", "exit code 1 when anything is to be done"),
            ("shmplane health --json", "every plane of this user, check by check"),
        ],
    )
    command.add_argument("plane", nargs="?", metavar="PLANE", help="a plane's name; without it: all of them")


def _metrics(commands: Commands) -> None:
    command = _command(
        commands,
        "metrics",
        "print what planes count, for Prometheus",
        run="counted:metrics",
        examples=[
            ("shmplane metrics market", "the text format, as Collector(plane) tells it"),
            ("shmplane metrics", "every plane of this user, with the label plane"),
            ("shmplane metrics market --json", "the same for other programs"),
        ],
    )
    command.add_argument("plane", nargs="?", metavar="PLANE", help="a plane's name; without it: all of them")


def _map(commands: Commands) -> None:
    command = _command(
        commands,
        "map",
        "show the memory of a plane: a bar a segment, and who leases what",
        run="mapped:map_plane",
        examples=[
            ("shmplane map market", "segments, blocks and processes, what versions share"),
            ("shmplane map market --json", "the same for programs"),
        ],
    )
    command.add_argument("plane", metavar="PLANE", help="a plane's name")


def _top(commands: Commands) -> None:
    command = _command(
        commands,
        "top",
        "watch planes, or the processes, locks and blocks of one",
        run="top:top",
        examples=[
            ("shmplane top", "a row for each plane; enter shows one"),
            ("shmplane top market", "processes, leases, rates, locks, memory"),
            ("shmplane top market --seconds 5", "look less often; q quits, s sorts"),
        ],
        json=False,
    )
    command.add_argument("plane", nargs="?", metavar="PLANE", help="a plane's name; without it: all of them")
    how_often = "between two looks, 0.1 to 3600 (default: 1)"
    command.add_argument("--seconds", type=_seconds, default=1.0, metavar="S", help=how_often)


def _seconds(text: str) -> float:
    try:
        given = float(text)
    except ValueError:
        given = 0.0
    if not 0.1 <= given <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return given


def _gc(commands: Commands) -> None:
    command = _command(
        commands,
        "gc",
        "reclaim what ended processes held",
        run="reclaiming:gc",
        examples=[
            ("shmplane gc", "every plane of this user"),
            ("shmplane gc market --dry-run", "show it and change nothing"),
        ],
    )
    command.add_argument("plane", nargs="?", metavar="PLANE", help="a plane's name; without it: all of them")
    command.add_argument("--dry-run", action="store_true", help="only show what would be reclaimed")
    _all_users(command)


def _doctor(commands: Commands) -> None:
    command = _command(
        commands,
        "doctor",
        "check the host and every plane, and name the cure",
        run="checking:doctor",
        examples=[
            ("shmplane doctor", "exit code 1 when anything is to be done"),
            ("shmplane doctor --layout", "the binary format, column by column"),
            ("shmplane doctor --layout market", "with the place of each table in that plane"),
        ],
    )
    _all_users(command)
    command.add_argument(
        "--layout", nargs="?", const="", metavar="PLANE", help="print the columns of the binary format instead"
    )


def _rm(commands: Commands) -> None:
    command = _command(
        commands,
        "rm",
        "remove blocks, or a whole plane",
        run="removing:rm",
        examples=[
            ("shmplane rm market prices volumes", "refuses (exit code 4) if one is leased"),
            ("shmplane rm market prices --force", "takes the name; readers keep the memory"),
            ("shmplane rm market --plane", "ends the plane for every process"),
        ],
        json=False,
    )
    command.add_argument("plane", metavar="PLANE", help="a plane's name")
    command.add_argument("blocks", nargs="*", metavar="BLOCK", help="names of blocks")
    command.add_argument("--plane", dest="whole", action="store_true", help="remove the plane with all its blocks")
    command.add_argument("--force", action="store_true", help="also what is leased, or too damaged to be opened")


_FORMATS = "npy, npz, parquet, arrow, feather, csv, safetensors or raw; default: what the end of its name says"


def _load(commands: Commands) -> None:
    command = _command(
        commands,
        "load",
        "read a file into a block, and make the plane if it is not there",
        run="transferring:load",
        examples=[
            ("shmplane load market flights flights.parquet", "a table"),
            ("shmplane load models llm model.safetensors", "a dict of arrays, for every process"),
        ],
        json=False,
    )
    _file(command)


def _save(commands: Commands) -> None:
    command = _command(
        commands,
        "save",
        "write a block to a file, whole or not at all",
        run="transferring:save",
        examples=[("shmplane save market flights flights.parquet", "what was there is replaced")],
        json=False,
    )
    _file(command)


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument("plane", metavar="PLANE", help="a plane's name")
    command.add_argument("block", metavar="NAME", help="a block's name")
    command.add_argument("file", metavar="FILE", help="a path")
    command.add_argument("--format", metavar="FORMAT", help=_FORMATS)


def _serve(commands: Commands) -> None:
    command = _command(
        commands,
        "serve",
        "let other hosts read a plane, by Arrow Flight",
        run="serving:serve",
        examples=[
            ("shmplane serve market", "on this host alone, on a free port"),
            ("shmplane serve market --host 0.0.0.0 --port 8815 --token-file F", "for other hosts"),
        ],
    )
    command.add_argument("plane", metavar="PLANE", help="a plane's name")
    command.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to listen at (default: 127.0.0.1)"
    )
    command.add_argument("--port", type=_port, default=0, metavar="PORT", help="default: 0, any that is free")
    command.add_argument("--token-file", metavar="FILE", help="only for those who have the token in its first line")
    command.add_argument("--tls-cert", metavar="FILE", help="the server's certificate, in PEM")
    command.add_argument("--tls-key", metavar="FILE", help="its private key, in PEM")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535, or 0 for any that is free")
    return int(text)


def _demo(commands: Commands) -> None:
    command = _command(
        commands,
        "demo",
        "share a real table with workers, kill one, and look",
        run="demo.story:tell",
        examples=[
            ("shmplane demo", "the flights that left New York in 2013"),
            ("shmplane demo --data my.parquet", "a table or array of your own"),
            ("shmplane demo --workers 8 --keep", "leaves the plane for `shmplane info`"),
        ],
    )
    command.add_argument("--data", metavar="FILE", help="csv, parquet, arrow or npy instead of the flights")
    how_many = "worker processes, 2 to 64 (default: 4)"
    command.add_argument("--workers", type=_workers, default=4, metavar="N", help=how_many)
    command.add_argument("--keep", action="store_true", help="leave the plane there at the end")


def _workers(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not 2 to 64: one is killed, and one has to survive")
    return int(text)


def _bench(commands: Commands) -> None:
    _command(
        commands,
        "bench",
        "run the benchmarks of a source checkout, like python -m bench",
        run="benchmarks:bench",
        examples=[
            ("shmplane bench --quick", "all of them, under a minute"),
            ("shmplane bench put_steady get", "some of them"),
        ],
        json=False,
    )
