"""``%%keep NAME...``: what a cell computed survives the kernel.

The values go to the plane ``jupyter``, under the names of their variables. When the cell runs again and all of them are there,
they are attached instead. A second block remembers which cell they came from, so that one that was changed since is told of.

Rule 1. A cell that raises keeps nothing, and takes nothing away.
Rule 2. What a variable is afterwards does not depend on whether the cell ran: both times it is what the plane gives.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import shlex
from typing import Any

from ..errors import ClosedError, ShmplaneError
from ..plane import Plane

__all__ = ["PLANE", "load", "unload"]

#: the plane that everything is kept in
PLANE = "jupyter"
_ORIGIN = "%%keep/"
_USAGE = "%%keep [--again] NAME...: the variables that the cell computes; --again runs it although they are kept"


class _Keeper:
    """The magic, and the plane, which stays open: views of it are in the notebook's variables."""

    def __init__(self, shell: Any) -> None:
        self._ipython = shell
        self._plane: Plane | None = None

    def plane(self) -> Plane:
        if self._plane is not None:
            try:
                len(self._plane)
            except ClosedError:  # it was destroyed
                self._plane = None
        if self._plane is None:
            self._plane = Plane(PLANE)
        return self._plane

    def close(self) -> None:
        if self._plane is not None:
            self._plane.close()

    def keep(self, line: str, cell: str) -> None:
        """Attach variables that an earlier run of this cell computed, or run it and keep them.

        %%keep [--again] NAME...

        The values are in the plane "jupyter", under the variables' names, until they are deleted there (`del
        shmplane.Plane("jupyter")["x"]`), `shmplane rm jupyter --plane`, or a reboot. They are read-only views of shared memory.
        """
        names, again = _parse(line)
        plane, origin = self.plane(), hashlib.sha256(cell.strip().encode()).hexdigest()
        if not again and all(name in plane for name in names):
            self._attach(plane, names, origin)
            return
        result = self._ipython.run_cell(cell)
        if not result.success:
            return  # it was shown already
        namespace = self._ipython.user_ns
        missing = [name for name in names if name not in namespace]
        if missing:
            raise _usage_error(f"the cell has run and there is no variable {', '.join(missing)}")
        for name in names:
            with plane.put(name, namespace[name]) as block:
                plane[_ORIGIN + name] = {"cell": origin, "version": block.version}
            namespace[name] = plane[name]
        print(f"kept in plane {PLANE!r}: {', '.join(names)}")  # noqa: T201 - a cell's output

    def _attach(self, plane: Plane, names: list[str], origin: str) -> None:
        self._ipython.user_ns.update({name: plane[name] for name in names})
        versions = [f"{name} version {plane.attach(name).version}" for name in names]
        said = f"attached from plane {PLANE!r}, the cell did not run: {', '.join(versions)}"
        if any(_origin_of(plane, name) not in (None, origin) for name in names):
            said += "\nThe cell has changed since these were computed: %%keep --again runs it."
        print(said)  # noqa: T201 - a cell's output


def _origin_of(plane: Plane, name: str) -> str | None:
    """The cell that computed a value; None when somebody else put it."""
    known = plane.get(_ORIGIN + name)
    if not isinstance(known, dict) or known.get("version") != plane.attach(name).version:
        return None
    return str(known.get("cell"))


def _parse(line: str) -> tuple[list[str], bool]:
    try:
        words = shlex.split(line)
    except ValueError:
        raise _usage_error(_USAGE) from None
    names = [word for word in words if word != "--again"]
    if not names or not all(name.isidentifier() for name in names):
        raise _usage_error(_USAGE)
    return list(dict.fromkeys(names)), "--again" in words


def _usage_error(text: str) -> Exception:
    error: Exception = importlib.import_module("IPython.core.error").UsageError(text)
    return error


_keepers: dict[int, _Keeper] = {}


def load(shell: Any) -> None:
    """What ``%load_ext shmplane`` does."""
    keeper = _keepers.setdefault(id(shell), _Keeper(shell))
    shell.register_magic_function(keeper.keep, magic_kind="cell", magic_name="keep")


def unload(shell: Any) -> None:
    """What ``%unload_ext shmplane`` does; views that were attached stay valid."""
    keeper = _keepers.pop(id(shell), None)
    shell.magics_manager.magics["cell"].pop("keep", None)
    if keeper is not None:
        with contextlib.suppress(ShmplaneError):  # it is gone
            keeper.close()
