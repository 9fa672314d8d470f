"""mypy and pyright, run on files as a user would run them.

pyright is the one in the wheel ``basedpyright``, set to pyright's own standard mode: that wheel brings its JavaScript engine
along, while the one called ``pyright`` downloads both when it is first run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.requires import require

REPOSITORY = Path(__file__).parents[2]


def mypy_faults(*files: Path) -> str:
    """What mypy says in strict mode, with the repository's settings for libraries without types."""
    require(importlib.util.find_spec("mypy") is not None, "mypy")
    settings = REPOSITORY / "pyproject.toml"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", settings, "--strict", *files],
        cwd=REPOSITORY,
        env={**os.environ, "MYPYPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def pyright_faults(folder: Path) -> list[str]:
    """What pyright says of the files in a folder, which gets its settings."""
    settings = {
        "typeCheckingMode": "standard",
        "reportMissingTypeStubs": False,
        "reportMissingModuleSource": False,
        "extraPaths": [str(REPOSITORY)],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    found = _pyright("--project", str(folder))["generalDiagnostics"]
    return [f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}" for one in found]


def untyped_symbols() -> tuple[list[str], list[str]]:
    """What is exported and has no known type, and what type checkers may infer in different ways."""
    found = _pyright("--verifytypes", "shmplane", "--ignoreexternal")["typeCompleteness"]["symbols"]
    exported = [symbol for symbol in found if symbol["isExported"]]
    unknown = [symbol["name"] for symbol in exported if not symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]]
    return unknown, [symbol["name"] for symbol in exported if symbol["isTypeAmbiguous"]]


def _pyright(*options: str) -> dict[str, Any]:
    require(importlib.util.find_spec("basedpyright") is not None, "basedpyright")
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, *options],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().startswith("{"), done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
