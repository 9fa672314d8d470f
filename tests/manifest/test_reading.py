"""A reader of the manifest: it answers as a transaction does, and cannot write."""

from __future__ import annotations

from shmplane.manifest import Manifest, Reader, Transaction
from shmplane.manifest.allocation import Allocation
from shmplane.manifest.index import NameIndex
from tests.support.inside import transaction_for


def _asks(reader: Reader) -> list[object]:
    return [
        reader.all_names(), reader.count_names(), reader.current(b"nothing"), reader.is_seen(b"nothing"),
        reader.lease_rows(), reader.holders(0), reader.is_leased(0), reader.unleased_segments(),
        reader.exported_segments(), reader.is_current(0, 0),
    ]  # fmt: skip


def test_a_reader_answers_and_leaves_every_word_as_it_was(manifest: Manifest) -> None:
    tx = transaction_for(manifest, 0)
    tx.name_row(b"nothing")
    before = bytes(memoryview(manifest.words).cast("B"))
    assert _asks(Reader(manifest)) == _asks(tx)
    assert bytes(memoryview(manifest.words).cast("B")) == before


def test_a_reader_owns_nothing_that_writes(manifest: Manifest) -> None:
    owned = [type(thing) for thing in vars(Reader(manifest)).values()]
    assert not {Allocation, NameIndex, Transaction} & set(owned)
    assert not hasattr(Reader(manifest), "space")
