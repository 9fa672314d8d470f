"""How a block shows itself: its metadata in one line, and in a notebook as a small table.

Nothing of the value is read; what a name or a schema says is escaped, since anybody may have chosen it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ...markup import box, facts, text
from ...system import own

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["mimebundle_of_block", "text_of_block"]

_MOST_COLUMNS = 50
_MOST_IN_TEXT = 6
_LONGEST_IN_TEXT = 60
_LONGEST = 130  #: longer than every name


class Described(Protocol):
    """A block, as far as it shows itself."""

    @property
    def name(self) -> str | None: ...
    @property
    def version(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def schema(self) -> Any: ...
    @property
    def created(self) -> datetime: ...
    @property
    def leases(self) -> int: ...
    @property
    def _leaves(self) -> int | None: ...
    @property
    def closed(self) -> bool: ...


def text_of_block(block: Described) -> str:
    """``<Block 'prices' version 3: array float64 (1000, 3), 24,000 B>``, of bounded length. Never raises."""
    try:
        said = f"{block.kind}{_what(block)}"
    except own(Exception):  # a library that the kind needs is missing, or the plane was destroyed before anybody asked
        said = block.kind
    return f"<Block {block.name!r} version {block.version}: {said}, {block.nbytes:,} B{', closed' * block.closed}>"


def _what(block: Described) -> str:
    shape, dtype = block.shape, block.dtype
    if dtype is not None:
        return f" {_cut(str(dtype))} {shape}"
    if block._leaves is not None:
        return f" of {block._leaves:,} {'leaf' if block._leaves == 1 else 'leaves'}"
    if block.schema is None or shape is None:
        return ""
    names = [_cut(str(name)) for name in block.schema.names[:_MOST_IN_TEXT]]
    more = ", ..." if shape[1] > len(names) else ""
    return f" of {shape[0]:,} rows x {shape[1]:,} columns ({', '.join(names)}{more})"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_IN_TEXT else f"{text[:_LONGEST_IN_TEXT]}..."


def mimebundle_of_block(block: Described) -> dict[str, str]:
    """The block as ``text/plain`` and ``text/html``."""
    rows = ((fact, "".join(f"<div>{text(line, _LONGEST)}</div>" for line in said)) for fact, said in _facts(block))
    return {"text/plain": repr(block), "text/html": box([facts(rows)])}


def _facts(block: Described) -> Iterator[tuple[str, list[str]]]:
    """What there is to say, each in lines."""
    yield "block", ["anonymous" if block.name is None else block.name]
    yield "version", [str(block.version)]
    yield "kind", [block.kind]
    yield "size", [f"{block.nbytes:,} B"]
    if block.dtype is not None:
        yield "dtype", [str(block.dtype)]
    if block.shape is not None:
        yield "shape", [" x ".join(f"{length:,}" for length in block.shape) or "()"]
    if block._leaves is not None:
        yield "leaves", [f"{block._leaves:,}"]
    if block.schema is not None:
        yield "columns", list(_columns(block))
    yield "created", [f"{block.created:%Y-%m-%d %H:%M:%S}"]
    yield "leases", [str(block.leases)]
    yield "handle", ["closed" if block.closed else "open"]


def _columns(block: Described) -> Iterator[str]:
    schema: Any = block.schema
    for number, field in enumerate(schema):
        if number == _MOST_COLUMNS:
            yield f"and {len(schema) - number:,} more"
            return
        yield f"{field.name}: {field.type}"
