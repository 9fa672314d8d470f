"""What is small at first sight, and read without running anything: it needs no care, which is half of a tiny task's time."""

from __future__ import annotations

from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

__all__ = ["LEAST_THRESHOLD", "is_plain", "is_plain_call"]

#: no plain result is as large, and no call that is sent as one; with a lower threshold nothing is plain
LEAST_THRESHOLD = 32_768
_ATOMS = frozenset((type(None), bool, int, float, complex))
_TEXTS = frozenset((str, bytes))
_LISTS = frozenset((list, tuple))
_FUNCTIONS = frozenset((FunctionType, BuiltinFunctionType))
_LONGEST_TEXT = 64
_MOST_ITEMS = 16
_LARGEST = 1 << 64


def is_plain(value: Any, depth: int = 2) -> bool:
    """Numbers, short text, and short lists of them; False when in doubt."""
    kind = type(value)
    if kind in _ATOMS:
        return kind is not int or -_LARGEST < value < _LARGEST
    if kind in _TEXTS:
        return len(value) <= _LONGEST_TEXT
    if kind in _LISTS and depth and len(value) <= _MOST_ITEMS:
        for item in value:  # noqa: SIM110 - a generator would take as long again
            if not is_plain(item, depth - 1):
                return False
        return True
    return False


def is_plain_call(call: tuple[Any, ...]) -> bool:
    """A function that is known by its name, or that of a chunk of a map, with plain arguments."""
    fn, args, kwargs = call
    if type(fn) is partial and not fn.keywords and len(fn.args) == 1:
        fn = fn.func if type(fn.args[0]) in _FUNCTIONS else None
    return type(fn) in _FUNCTIONS and not kwargs and is_plain(args, 3)
