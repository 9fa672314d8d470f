"""Keys: which there are, their typed encoding, and the names of blocks that are made of it.

A key is taken by its exact type, so that 1, 1.0 and True are three keys; -0.0 is 0.0. The encoding can be read back (the
rows of the database have it, for iteration) and no two keys have the same; its hash of 20 bytes names the block.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Any

__all__ = ["Key", "decode_key", "digest_of", "encode_key", "title_of"]

Key = Any  #: str, bytes, int, float, bool, None, or a tuple of these

_DEEPEST = 32
_LONGEST_TITLE = 80
_LONGEST_NBYTES = 1 << 20
_LENGTH = struct.Struct(">I")
_FLOAT = struct.Struct(">d")
_CONVERSIONS = (
    "Convert it first: .item() of a NumPy scalar, .value of an enum, tuple() of a list, str() of a path or UUID."
)


def encode_key(key: Key) -> bytes:
    """The typed encoding; ``TypeError`` for other types, ``ValueError`` for NaN and for what is too long or deep."""
    encoded = _encode(key, 0)
    if len(encoded) > _LONGEST_NBYTES:
        raise ValueError(f"a key has at most {_LONGEST_NBYTES:,} B, this one {len(encoded):,}; use a hash of it")
    return encoded


def digest_of(encoded: bytes) -> str:
    """20 bytes of hash, in hexadecimal."""
    return blake2b(encoded, digest_size=20).hexdigest()


def title_of(key: Key) -> str:
    """The key for a message."""
    title = repr(key)
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 3]}..."


def _encode(key: Key, depth: int) -> bytes:
    kind = type(key)
    if kind is str:
        return _sized(b"s", key.encode("utf-8", "surrogatepass"))
    if kind is int:
        return _sized(b"i", key.to_bytes(key.bit_length() // 8 + 1, "big", signed=True))
    if kind is bytes:
        return _sized(b"b", key)
    if kind is tuple:
        if depth == _DEEPEST:
            raise ValueError(f"a key is a tuple in at most {_DEEPEST} others; use a hash of it")
        return b"(" + _LENGTH.pack(len(key)) + b"".join(_encode(item, depth + 1) for item in key)
    return _encode_constant(key)


def _encode_constant(key: Key) -> bytes:
    kind = type(key)
    if key is None:
        return b"n"
    if kind is bool:
        return b"t" if key else b"f"
    if kind is float:
        if key != key:  # noqa: PLR0124 - NaN is the one that differs from itself
            raise ValueError("NaN is no key: it is equal to nothing, so nothing would be found by it")
        return b"d" + _FLOAT.pack(key + 0.0)  # -0.0 + 0.0 is 0.0
    raise TypeError(
        f"a key is a str, bytes, int, float, bool, None or a tuple of these, by their exact types, not "
        f"{kind.__module__}.{kind.__qualname__}. {_CONVERSIONS}"
    )


def _sized(tag: bytes, data: bytes) -> bytes:
    return tag + _LENGTH.pack(len(data)) + data


def decode_key(encoded: bytes) -> Key:
    """The key of an encoding; ``ValueError`` when it is none."""
    try:
        key, end = _decode(encoded, 0, 0)
    except (struct.error, IndexError, RecursionError) as error:
        raise ValueError("not a key of this cache") from error
    if end != len(encoded):
        raise ValueError("not a key of this cache: something follows it")
    return key


def _decode(data: bytes, start: int, depth: int) -> tuple[Key, int]:
    tag = data[start : start + 1]
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], start + 1
    if tag == b"d":
        return _FLOAT.unpack_from(data, start + 1)[0], start + 9
    (length,) = _LENGTH.unpack_from(data, start + 1)
    position = start + 5
    if tag == b"(":
        if depth == _DEEPEST or length > len(data):
            raise ValueError("not a key of this cache: too many or too deep")
        items = []
        for _ in range(length):
            item, position = _decode(data, position, depth + 1)
            items.append(item)
        return tuple(items), position
    if length > len(data) - position:
        raise ValueError("not a key of this cache: it is cut off")
    body, end = data[position : position + length], position + length
    if tag == b"s":
        return body.decode("utf-8", "surrogatepass"), end
    if tag == b"b":
        return body, end
    if tag == b"i":
        return int.from_bytes(body, "big", signed=True), end
    raise ValueError("not a key of this cache: unknown type")


_CONSTANTS: dict[bytes, Key] = {b"n": None, b"t": True, b"f": False}
