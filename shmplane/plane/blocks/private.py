"""Private pages of a block's body: writable, zero-copy until they are written, and never reaching the block.

A private mapping shows later writes to pages that it has not copied. The blocks below never change while they are leased,
so the pages hold the lease of their block until the last view of them is garbage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...codecs import array_over, as_kind, as_tensors, open_body
from ...manifest import KINDS
from ...system import Mapping, dirty_runs
from ..memory.compositions import has_pages

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .claims import Lease

__all__ = ["PrivateBody", "copy_body", "image_of", "private_array", "tensors_of"]


class PrivateBody(NamedTuple):
    """A private, writable image of a body."""

    lease: Lease
    view: memoryview
    mapping: Mapping | None  #: None: it is a copy

    def written(self) -> npt.NDArray[np.int64] | None:
        """First page and number of pages of each run that was written; None: not known. Nobody writes meanwhile."""
        if self.mapping is None:
            return None
        return dirty_runs(self.mapping, self._clean)

    def _clean(self) -> memoryview:
        self.lease.open()
        return open_body(self.lease)


def copy_body(lease: Lease) -> memoryview:
    """A private copy of the body."""
    import numpy as np

    lease.open()
    return np.frombuffer(open_body(lease), np.uint8).copy().data


def private_array(lease: Lease) -> npt.NDArray[Any]:
    """A private, writable array over an array's or bytes' body; the latter as ``uint8``."""
    import numpy as np

    body = private_body(lease)
    return array_over(lease.frame(), body) if lease.facts.codec == "array" else np.frombuffer(body, np.uint8)


def private_body(lease: Lease) -> memoryview:
    """A private, writable image of the body; of what changes in place a copy, which does not."""
    return image_of(lease).view


def image_of(lease: Lease) -> PrivateBody:
    """The same, which also tells what of it was written."""
    facts = lease.facts
    if not has_pages(facts) or KINDS[facts.kind] == "mutable":
        return PrivateBody(lease, copy_body(lease), None)
    mapping = lease.attachment.compositions.private(facts, kept=lease)
    return PrivateBody(lease, mapping.view[: facts.body_nbytes], mapping)


def tensors_of(lease: Lease) -> Any:
    """The value as tensors of torch; what shows pages is private and can be written, and keeps the lease."""
    lease.open()
    found = as_tensors(lease.facts.codec, lease.frame(), lease, lambda: private_body(lease))
    return as_kind(lease.facts.codec, lease.root(), "torch") if found is None else found
