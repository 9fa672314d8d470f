"""``shmplane load`` and ``shmplane save``: files to blocks and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import ShmplaneError
from ..observe import nbytes
from .exits import OK, PROBLEMS, Failed
from .output import Output, printable, progress

if TYPE_CHECKING:
    from argparse import Namespace


__all__ = ["load", "save"]


def load(options: Namespace, out: Output) -> int:
    from ..plane import Plane

    with _telling(), Plane(options.plane, root=options.root) as plane, progress(options.file) as bar:
        block = plane.load(options.block, options.file, format=options.format, progress=bar)
        with block:
            out.message(f"{printable(options.block)}: {block.kind}, {nbytes(block.nbytes)}, version {block.version}")
    return OK


def save(options: Namespace, out: Output) -> int:
    from ..plane import Plane

    with _telling(), Plane(options.plane, create=False, root=options.root) as plane:
        plane.save(options.block, options.file, format=options.format)
        out.message(f"{printable(options.block)}: written to {printable(options.file)}")
    return OK


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """A file that is not what it should be is no fault of this program."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if isinstance(error, ShmplaneError):
            raise
        raise Failed(PROBLEMS, str(error)) from error
