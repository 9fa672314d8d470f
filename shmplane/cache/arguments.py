"""The arguments of a call as a key: defaults filled in, keywords in one order, arrays and tables by what is in them.

A block, and an array that shows one, count by its version: it is immutable, so nothing of it has to be read.
"""

from __future__ import annotations

import inspect
import struct
import sys
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedValue
from ..plane import Block, origin_of
from ..system import own
from .keys import encode_key
from .values import encode_value

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer

__all__ = ["key_of_call"]

_DEEPEST = 32
_PLAIN = (str, bytes, int, float, bool, type(None))


def key_of_call(
    fn: Callable[..., Any],
    signature: inspect.Signature,
    version: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[object, ...]:
    """A key for ``fn(*args, **kwargs)``; ``TypeError`` when the call, or an argument, cannot be one."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    digest = blake2b(digest_size=20)
    for name, value in bound.arguments.items():
        digest.update(_sized(name.encode()))
        try:
            _add(digest, value, 0)
        except UnsupportedValue as error:
            raise TypeError(
                f"argument {name!r} of {fn.__qualname__} is a {type(value).__qualname__}, which is no part of a key: {error} "
                f"Give memoize a function of what it depends on."
            ) from error
    return ("memoize", fn.__module__, fn.__qualname__, "" if version is None else str(version), digest.digest())


def _add(digest: Any, value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise UnsupportedValue(f"it is nested more than {_DEEPEST} deep.")
    kind = type(value)
    if kind in _PLAIN:
        digest.update(_sized(b"\xffNaN" if value != value else encode_key(value)))  # noqa: PLR0124 - NaN is equal to nothing
    elif kind in (tuple, list):
        digest.update(b"(" if kind is tuple else b"[")
        digest.update(struct.pack("<Q", len(value)))
        for item in value:
            _add(digest, item, depth + 1)
    elif kind is dict:
        _add_all(digest, b"{", [_digest_of(pair, depth) for pair in value.items()])
    elif kind in (set, frozenset):
        _add_all(digest, b"<", [_digest_of(item, depth) for item in value])
    elif isinstance(value, Block) and value.kind != "mutable":
        digest.update(b"B" + _sized(repr(value.__reduce__()[1]).encode()))
    elif not _add_origin(digest, value):
        _add_content(digest, value.array() if isinstance(value, Block) else value)


def _add_all(digest: Any, tag: bytes, parts: list[bytes]) -> None:
    """In an order of their own."""
    digest.update(tag + struct.pack("<Q", len(parts)) + b"".join(sorted(parts)))


def _digest_of(value: Any, depth: int) -> bytes:
    digest = blake2b(digest_size=20)
    _add(digest, value, depth + 1)
    return digest.digest()


class _Hashed:
    """A sink that keeps a hash of what is written: bodies are written once and in ascending order."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, offset: int, data: Buffer) -> None:
        self._digest.update(struct.pack("<Q", offset))
        self._digest.update(memoryview(data).cast("B"))


def _add_origin(digest: Any, value: Any) -> bool:
    """Whether it is an array that shows a block, by which it was added then."""
    array = _array_of(value)
    origin = None if array is None else origin_of(array)
    if array is None or origin is None:
        return False
    shown = (type(value).__name__, origin, repr(array.dtype), array.shape, array.strides)
    digest.update(b"O" + _sized(repr(shown).encode()))
    return True


def _array_of(value: Any) -> npt.NDArray[Any] | None:
    """An array as it is, and one of a view of bytes; loads nothing that is not loaded."""
    np = sys.modules.get("numpy")
    if np is None:
        return None
    if type(value) is memoryview and value.format == "B" and value.contiguous:
        return np.asarray(value)  # type: ignore[no-any-return]
    return value if type(value) is np.ndarray else None


def _add_content(digest: Any, value: Any) -> None:
    try:
        encoded = encode_value(value)
    except own(UnsupportedValue) as error:
        raise UnsupportedValue(str(error)) from None
    digest.update(b"V" + _sized(encoded.kind.encode()) + _sized(encoded.frame))
    encoded.write_to(_Hashed(digest))


def _sized(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data
