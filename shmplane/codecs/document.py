"""JSON documents: stored as text, so that any program can read them, and decoded once for all readers of a process.

Rule 1. What is stored comes back equal: keys are ``str``, numbers are finite, text is valid Unicode.
        The one exception is the tuple, which comes back as a list.
Rule 2. What can be written can be read: the depth is limited to what every supported Python decodes.

The text is copied out of shared memory when a block is opened; a document needs no lease for what it holds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import ref

from ..errors import UnsupportedValue
from ..system import own
from .envelope import corrupt
from .raw import EncodedBytes, read_bytes
from .read_only import ReadOnlyDict, ReadOnlyList, freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .base import Memory

__all__ = [
    "SMALL_DOCUMENT_NBYTES",
    "Document",
    "decode_document",
    "encode_document",
    "open_document",
    "present_document",
]

SMALL_DOCUMENT_NBYTES = 16 * 1024  #: of text that is remembered with its value, whether somebody has it or not

MAX_DEPTH = 200  #: of lists and dicts within each other

_LEAVES = frozenset((str, int, float, bool, type(None)))


class Document:
    """The text of a document, and its value once it was decoded.

    A small document is remembered as it is, with its value. A larger one only lives as long as somebody has its value:
    then it is the value that keeps the document.
    """

    __slots__ = ("__weakref__", "_find", "text")

    def __init__(self, text: bytes) -> None:
        self.text: bytes = text
        self._find: Callable[[], Any] | None = None

    def value(self) -> Any:
        """The value, read-only, the same for all."""
        value = None if self._find is None else self._find()
        return self._decode() if value is None else value

    def _decode(self) -> Any:
        value = freeze(decode_document(self))
        if isinstance(value, (ReadOnlyDict, ReadOnlyList)) and len(self.text) > SMALL_DOCUMENT_NBYTES:
            value.origin = self
            self._find = ref(value)
        else:
            self._find = lambda: value
        return value


def encode_document(value: Any) -> EncodedBytes:
    """Describe a JSON value, or raise ``UnsupportedValue`` saying what in it is none."""
    _check(value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
        encoded = text.encode()
    except own(UnicodeEncodeError) as error:
        raise UnsupportedValue(f"the text is not valid Unicode (it has a lone surrogate): {error.reason}") from error
    except own(ValueError) as error:
        raise UnsupportedValue(f"JSON has no such number: {error}; replace it, for example by None") from error
    except own(RecursionError) as error:
        raise UnsupportedValue("the value is nested too deeply to be written from here") from error
    return EncodedBytes(encoded, len(encoded), "json", b"J")


def _check(value: Any) -> None:
    """Look at one level of nesting at a time, so that neither depth nor a cycle can exhaust the stack."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        # By identity, or a list that contains itself twice would double with each level.
        level = list({id(child): child for container in level for child in _containers(container)}.values())
        if not level:
            return
    raise UnsupportedValue(
        f"the value is nested more than {MAX_DEPTH} deep, or contains itself; flatten it or put it in parts",
        max_depth=MAX_DEPTH,
    )


def _containers(value: Any) -> Iterable[Any]:
    """The children of ``value`` that have to be looked into; ``value`` itself must be of JSON."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise UnsupportedValue(f"JSON keys are str; found {key!r} of type {type(key).__name__}", key=repr(key))
        children: Iterable[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    elif isinstance(value, (str, int, float)) or value is None:
        return ()
    else:
        raise UnsupportedValue(
            f"a JSON value is made of dict, list, tuple, str, int, float, bool and None; "
            f"found {type(value).__name__}. Put arrays and tables as blocks of their own, "
            f'or use codec="pickle".',
            type=type(value).__name__,
        )
    if _LEAVES.issuperset(map(type, children)):
        return ()
    return [child for child in children if type(child) not in _LEAVES]


def open_document(frame: bytes, memory: Memory, _: object = ()) -> Document:
    """Copy the text out of ``memory``."""
    return Document(read_bytes(frame, memory, b"J"))


def present_document(root: Document) -> Any:
    """The decoded value: read-only, and one for all readers while any of them has it."""
    return root.value()


def decode_document(root: Document) -> Any:
    """The value, decoded anew: plain and private."""
    try:
        return json.loads(root.text)
    except own(ValueError) as error:
        corrupt("its text is no JSON", error)
