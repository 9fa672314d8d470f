"""``TreeDraft``: a tree whose arrays are written in place, in one private image of the block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...codecs import tree_over
from ...errors import UnsupportedValue
from .array_draft import ImageDraft

if TYPE_CHECKING:
    from ..blocks.claims import Lease

__all__ = ["TreeDraft"]


class TreeDraft(ImageDraft, kinds=("tree",)):
    """A private image of a tree: the same containers, with arrays that are written in place.

    ``draft.tree["weights"][17] = 3.0``; the commit costs the pages that were touched (4 KiB each), whatever the size and
    number of the leaves. Leaves that are no arrays are as a reader has them. Replacing, adding or removing a leaf is
    refused: put the value anew.

    ``tree`` may be kept after the end; it stays private.
    """

    _called = "a tree"
    _use = "draft.tree"

    @property
    def tree(self) -> Any:
        """The containers, with writable and private arrays."""
        return self._writable()

    @tree.setter
    def tree(self, tree: Any) -> None:
        if tree is not self._writable():
            raise UnsupportedValue(
                f"the draft of {self._name!r} has the tree that was put: change its arrays in place, or put the value anew: "
                f"plane[{self._name!r}] = value",
                name=self._name,
                kind=self._kind,
            )

    def _show(self, base: Lease, body: memoryview) -> Any:
        return tree_over(base.root(), body)
