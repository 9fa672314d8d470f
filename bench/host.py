"""What a figure was taken on: without it a number means nothing."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("shmplane", "numpy", "pyarrow", "psutil", "lmdb", "diskcache")


def describe_host() -> dict[str, Any]:
    """The facts that explain a figure, without anything that names the machine."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_nbytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def show_host(host: dict[str, Any]) -> str:
    """The same in two lines."""
    libraries = ", ".join(f"{name} {version}" for name, version in host["libraries"].items() if version)
    return (
        f"{host['date']}: {host['cpu']}, {host['cores']} cores, {host['memory_nbytes'] >> 30} GiB, "
        f"load {host['load'][0]}; Linux {host['kernel']} {host['machine']}\n{host['python']}; {libraries}"
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
