"""JSON documents: stored as text, so that any program can read them, and decoded once for all readers of a process.

Rule 1. What is stored comes back equal: keys are ``str``, numbers are finite, text is valid Unicode.
        The one exception is the tuple, which comes back as a list.
Rule 2. What can be written can be read: the depth is limited to what every supported Python decodes.

The text is copied out of shared memory when a block is opened; a document needs no lease for what it holds.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import ref

from ..errors import UnsupportedValue
from ..system import own
from .envelope import corrupt
from .raw import EncodedBytes, read_bytes
from .read_only import ReadOnlyDict, ReadOnlyList, freeze
from .where import find

if TYPE_CHECKING:
    from .base import Memory

__all__ = [
    "MAX_DEPTH",
    "SMALL_DOCUMENT_NBYTES",
    "decode_document",
    "dump",
    "encode_checked",
    "encode_document",
    "is_document",
    "is_leaf",
    "open_document",
    "is_text_or_number",
    "present_document",
    "too_deep",
]

SMALL_DOCUMENT_NBYTES = 16 * 1024  #: of text that is remembered with its value, whether somebody has it or not

MAX_DEPTH = 200  #: of lists and dicts within each other

_LONGEST_INT_BITS = 14_000  #: Python writes and reads integers of at most 4,300 digits

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
    """Describe a JSON value, or raise ``UnsupportedValue`` saying what in it is none, and where."""
    if not is_document(value, is_text_or_number):
        raise UnsupportedValue(
            f"{find(value, _is_foreign, _is_no_key)} is no JSON value: a JSON value is made of dict (whose keys are str), "
            f"list, tuple, str, int, float, bool and None. Put values with arrays or tables in them without codec=."
        )
    return encode_checked(value)


def encode_checked(value: Any) -> EncodedBytes:
    """Describe what ``is_document`` says is one."""
    text = dump(value, value)
    return EncodedBytes(text, len(text), "json", b"J")


def dump(value: Any, whole: Any) -> bytes:
    """The text of a value that stands for ``whole``, in which the place of what has no text is looked for."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
        return text.encode()
    except own(UnicodeEncodeError) as error:
        raise UnsupportedValue(
            f"{find(whole, _is_no_text, _is_no_text)}: the text is not valid Unicode (it has a lone surrogate): {error.reason}"
        ) from error
    except own(ValueError) as error:
        raise UnsupportedValue(
            f"{find(whole, _is_no_number)}: JSON has no such number: {error}; replace it, for example by None"
        ) from error
    except own(RecursionError) as error:
        raise UnsupportedValue("the value is nested too deeply to be written from here") from error


def _is_no_text(leaf: Any) -> bool:
    return isinstance(leaf, str) and any("\ud800" <= character <= "\udfff" for character in leaf)


def _is_no_number(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return not math.isfinite(leaf)
    return isinstance(leaf, int) and leaf.bit_length() > _LONGEST_INT_BITS


def is_document(value: Any, is_leaf: Callable[[Any], bool]) -> bool:
    """Whether a value is made of what JSON has; ``UnsupportedValue`` when it is nested too deeply, or contains itself.

    Looks at one level of nesting at a time, so that neither depth nor a cycle can exhaust the stack.

    Args:
        is_leaf: is asked of what is no container and of no plain type.
    """
    level = [value]
    try:
        for _ in range(MAX_DEPTH + 1):
            # By identity, or a list that contains itself twice would double with each level.
            level = list({id(child): child for item in level for child in _to_look_into(item, is_leaf)}.values())
            if not level:
                return True
            if not isinstance(level[0], (dict, list, tuple)) and not is_leaf(level[0]):
                return False  # as in a dict of a thousand arrays
    except own(_Foreign):
        return False
    raise too_deep()


class _Foreign(Exception):
    """Something is no JSON."""


def too_deep() -> UnsupportedValue:
    """What is raised for more levels than can be read everywhere."""
    return UnsupportedValue(
        f"the value is nested more than {MAX_DEPTH} deep, or contains itself; flatten it or put it in parts",
        max_depth=MAX_DEPTH,
    )


def _to_look_into(value: Any, is_leaf: Callable[[Any], bool]) -> Iterable[Any]:
    """The children of ``value`` that may be none of JSON; ``_Foreign`` when it is none itself."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise _Foreign
        children: Iterable[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    elif is_leaf(value):
        return ()
    else:
        raise _Foreign
    if _LEAVES.issuperset(map(type, children)):
        return ()
    return [child for child in children if type(child) not in _LEAVES]


def is_text_or_number(value: Any) -> bool:
    """Whether it is a leaf of JSON, or of a type made from one: an enum's member, a ``float64`` of NumPy."""
    return isinstance(value, (str, int, float)) or value is None


def is_leaf(value: Any) -> bool:
    """The same without the scalars of NumPy, which are arrays."""
    numpy = sys.modules.get("numpy")
    return is_text_or_number(value) and (numpy is None or not isinstance(value, getattr(numpy, "generic", ())))


def _is_foreign(leaf: Any) -> bool:
    return not is_text_or_number(leaf)


def _is_no_key(key: Any) -> bool:
    return not isinstance(key, str)


def open_document(frame: bytes, memory: Memory, _: object = ()) -> Document:
    """Copy the text out of ``memory``."""
    return Document(read_bytes(frame, memory, b"J"))


def present_document(root: Document) -> Any:
    """The decoded value: read-only, and one for all readers while any of them has it."""
    return root.value()


def decode_document(root: Document) -> Any:
    """The value, decoded anew: plain and private."""
    return decode(root.text, "its text is no JSON")


def decode(text: bytes, problem: str) -> Any:
    """The value of a text; ``PlaneCorrupt`` that says what is wrong."""
    try:
        return json.loads(text)
    except own(ValueError, RecursionError) as error:
        corrupt(problem, error)
