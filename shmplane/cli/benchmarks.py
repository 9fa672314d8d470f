"""``shmplane bench``: the benchmarks, which come with the source and not with the installed package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

from .exits import NOT_FOUND, Failed

if TYPE_CHECKING:
    from argparse import Namespace

    from .output import Output

__all__ = ["bench"]


def bench(options: Namespace, out: Output) -> int:
    if not _is_importable():
        raise Failed(
            NOT_FOUND,
            "the benchmarks are not installed. They come with the source: in a checkout, "
            "`pip install -e '.[all]'`, then `shmplane bench` or `python -m bench`.",
        )
    out.flush()
    return subprocess.run([sys.executable, "-m", "bench", *options.handed_on], check=False).returncode


def _is_importable() -> bool:
    """Ours, and not another package of that name."""
    try:
        return importlib.util.find_spec("bench.harness") is not None
    except ModuleNotFoundError:
        return False
