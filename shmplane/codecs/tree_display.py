"""How a tree shows itself in a notebook: a row for each leaf, where it is, what it is and how large.

No leaf's values are read. A JSON value has the same containers, and shows itself as any ``dict`` or ``list`` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..markup import QUIET, box, div, facts, text
from ..system import own
from .where import HERE, Path, text_of_path

__all__ = ["mimebundle_of_tree"]

#: what is shown as it is, after the large leaves
_PLAIN = (str, int, float, bool, type(None))
_MOST_LEAVES = 30
_MOST_LOOKED_AT = 10_000
_LONGEST_PATH = 100


class _Leaf(NamedTuple):
    path: Path
    value: Any

    @property
    def is_plain(self) -> bool:
        return type(self.value) in _PLAIN


def mimebundle_of_tree(tree: Any) -> dict[str, str]:
    """Its leaves as HTML; nothing for a value without arrays, tables or buffers. Never raises.

    Cost: at most 10,000 leaves are looked at.
    """
    try:
        return _mimebundle(tree)
    except own(Exception):  # a leaf that cannot even say how large it is: its text says why
        return {}


def _mimebundle(tree: Any) -> dict[str, str]:
    leaves, is_whole = _leaves(tree)
    large = [leaf for leaf in leaves if not leaf.is_plain]
    if not large:
        return {}
    nbytes = sum(_nbytes(leaf.value) for leaf in large)
    some = "" if is_whole else "more than "
    title = f"tree of {some}{len(leaves):,} {'leaf' if len(leaves) == 1 else 'leaves'}, {some}{nbytes:,} B"
    shown = [*large, *(leaf for leaf in leaves if leaf.is_plain)][:_MOST_LEAVES]
    more = len(leaves) - len(shown)
    parts = [
        div("font-weight:bold", text(title)),
        facts((_where(leaf), text(_said_of(leaf), _LONGEST_PATH)) for leaf in shown),
        div(QUIET, f"and {some}{more:,} more") if more else "",
    ]
    return {"text/html": box(parts)}


def _leaves(tree: Any) -> tuple[list[_Leaf], bool]:
    """The leaves in their order, and whether these are all."""
    found: list[_Leaf] = []
    stack: list[Iterator[_Leaf]] = [iter([_Leaf(HERE, tree)])]
    looked_at = 0
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
            continue
        looked_at += 1
        if looked_at > _MOST_LOOKED_AT:
            return found, False
        if isinstance(item.value, (dict, list, tuple)):
            stack.append(_children(item))
        else:
            found.append(item)
    return found, True


def _children(item: _Leaf) -> Iterator[_Leaf]:
    children = item.value.items() if isinstance(item.value, dict) else enumerate(item.value)
    return (_Leaf((item.path, key), child) for key, child in children)


def _where(leaf: _Leaf) -> str:
    return text(text_of_path(leaf.path).removeprefix("value"), _LONGEST_PATH)


def _said_of(leaf: _Leaf) -> str:
    """``ndarray float32 1,000 x 10, 40,000 B``: whatever has a dtype, a shape or a size says so."""
    value = leaf.value
    if leaf.is_plain:
        return repr(value[:_LONGEST_PATH] if isinstance(value, str) else value)
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    words = [type(value).__name__]
    if dtype is not None:
        words.append(str(dtype))
    if isinstance(shape, tuple):
        words.append(" x ".join(f"{length:,}" for length in shape) or "()")
    size = _nbytes(value)
    return " ".join(words) + (f", {size:,} B" if size else "")


def _nbytes(value: Any) -> int:
    found = getattr(value, "nbytes", 0)
    return found if isinstance(found, int) else 0
