"""Compiles the core while a wheel is built, or in place for an editable install. Run by hatchling.

Without a compiler or the headers of Python, and with ``SHMPLANE_PURE=1``, the wheel is one of Python alone, and a line says so.
By hand: ``python shmplane/core/build_hook.py [FLAG...]`` compiles in place, for example with ``-fsanitize=address,undefined``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any
from zlib import crc32

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface as Hook
except ImportError:
    Hook = object  # hatchling is there only while something is built

_HERE = Path(__file__).parent
_BUILT = "_core.abi3.so"


def compile_core(built: Path, *flags: str) -> str | None:
    """Compile into the file ``built``; why that failed, or None. Whatever is wrong, no install fails for it."""
    if "t" in sys.abiflags or sys.implementation.name != "cpython":
        return "this Python has no GIL"
    headers = sysconfig.get_path("include")
    if not os.path.exists(f"{headers}/Python.h"):
        return f"{headers} has no Python.h (on Debian: apt install python3-dev)"
    why = None
    for compiler in _compilers():
        why = _compile(compiler, built, [f"-I{headers}", *flags])
        if why is None:
            return None
    return why


def _compilers() -> list[str]:
    """Who asks for one gets that one; the one that this Python was built with may be on another machine."""
    asked = os.environ.get("CC")
    return [asked] if asked else list(dict.fromkeys([str(sysconfig.get_config_var("CC") or "cc"), "cc", "gcc"]))


def _compile(compiler: str, built: Path, flags: list[str]) -> str | None:
    source = _HERE / "_core.c"
    # All that is compiled, in the order in which ``source_checksum`` reads it.
    sources = sorted([*_HERE.glob("*.c"), *_HERE.glob("*.h")])
    how = ["-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden", "-shared"]
    # Under another name first: a library that a process has loaded must not change under it.
    made = built.with_name(f".{built.name}.{os.getpid()}")
    try:
        checksum = f"-DSOURCE={crc32(b''.join(each.read_bytes() for each in sources))}u"
        command = [*shlex.split(compiler), *how, checksum, *flags, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            return f"{compiler}: {(done.stderr.strip().splitlines() or ['no message'])[0]}"
        made.replace(built)
    except (OSError, ValueError) as error:
        return f"{compiler}: {error}"
    finally:
        made.unlink(missing_ok=True)
    return None


def _main() -> None:
    failed = compile_core(_HERE / _BUILT, *sys.argv[1:])
    if failed is not None:
        raise SystemExit(f"shmplane: the core was not built: {failed}")


class CompileCore(Hook):  # type: ignore[misc] # see above
    """What hatchling calls before and after it makes a wheel."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("SHMPLANE_PURE", "0") not in {"", "0"}:
            return
        if version == "editable":
            built = _HERE / _BUILT
        else:
            self._folder = tempfile.TemporaryDirectory()
            built = Path(self._folder.name) / _BUILT
        failed = compile_core(built)
        if failed is not None:
            self.app.display_warning(f"shmplane: without the compiled core, in Python alone: {failed}")
            return
        if version != "editable":
            build_data["force_include"][str(built)] = f"shmplane/core/{_BUILT}"
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if self._folder is not None:
            self._folder.cleanup()


if __name__ == "__main__":
    _main()
