"""A sink and a memory without a plane: what the codecs see of shared memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from shmplane import codecs


class RecordingSink:
    """Takes each byte exactly once, in ascending order, without gaps."""

    def __init__(self, nbytes: int) -> None:
        self.body = bytearray(nbytes)
        self.end = 0
        self.writes = 0

    def write(self, offset: int, data: Any) -> None:
        view = memoryview(data)
        assert view.c_contiguous
        assert view.nbytes, "nothing is written without bytes"
        assert offset == self.end, f"wrote at {offset}, expected {self.end}"
        self.end += view.nbytes
        assert self.end <= len(self.body), "wrote past the size that was announced"
        self.body[offset : self.end] = view.cast("B")
        self.writes += 1


class DiscardingSink:
    """Counts bytes and keeps none, so that memory measurements see the codec alone."""

    def __init__(self) -> None:
        self.nbytes = 0

    def write(self, offset: int, data: Any) -> None:
        self.nbytes += memoryview(data).nbytes


class Lease:
    """Owns a read-only mapping; when it dies, so does the memory."""

    def __init__(self, body: bytes | bytearray) -> None:
        file = os.memfd_create("body")
        try:
            os.write(file, body or b"\0")
            self.mapping = mmap.mmap(file, max(len(body), 1), prot=mmap.PROT_READ)
        finally:
            os.close(file)


class LeasedMemory:
    def __init__(self, body: bytes | bytearray) -> None:
        self.lease = Lease(body)
        self.nbytes = len(body)
        self.address: int = np.frombuffer(self.lease.mapping, "u1").__array_interface__["data"][0]

    def copy(self, nbytes: int) -> bytes:
        return self.lease.mapping[:nbytes]

    def window(self, nbytes: int) -> None:
        return None


def body_of(encoded: codecs.Encoded) -> bytearray:
    """The bytes that ``encoded`` writes; checks that they are as many as announced."""
    sink = RecordingSink(encoded.nbytes)
    encoded.write_to(sink)
    assert sink.end == encoded.nbytes
    return sink.body


def store(value: Any, codec: str | None = None) -> tuple[codecs.Encoded, LeasedMemory]:
    encoded = codecs.encode(value, codec)
    return encoded, LeasedMemory(body_of(encoded))


def open_stored(value: Any, codec: str | None = None) -> tuple[str, Any]:
    """Kind and root of a value that was stored and opened."""
    encoded, memory = store(value, codec)
    return encoded.kind, codecs.CODECS[encoded.kind].open(encoded.frame, memory)


def round_trip(value: Any, codec: str | None = None) -> Any:
    """What a reader gets for ``value``."""
    return codecs.present(*open_stored(value, codec))


def convert(value: Any, as_: str) -> Any:
    return codecs.as_kind(*open_stored(value), as_)


def points_into(memory: LeasedMemory) -> Callable[[int], bool]:
    """Whether an address lies in ``memory``."""
    return lambda address: memory.address <= address < memory.address + max(memory.nbytes, 1)
