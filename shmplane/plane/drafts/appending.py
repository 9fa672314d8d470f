"""Appending rows; to a table: they become a part of their own, and the current version gets one reference more.

Under the lock the part is added to whatever the current version is by then: an append never starts over because others
were faster, so nobody starves and each lands exactly once.

Parts are merged like the digits of a binary counter: when the youngest are together as large as the one before them, the
new rows are written together with all of those as one part. So the parts grow with the logarithm of the appends, and a
row is copied again about log2(appends) / 2 times. That is tried once, for the version that was seen; if it moved on, the
rows are added alone and a later append merges them. (``array_appending`` has the rows of arrays.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...codecs import (
    Piece,
    align_rows,
    composition_of,
    encode_rows,
    encode_table,
    form_of,
    gather_rows,
    grown_records,
    nbytes_of,
    open_body,
)
from ...errors import Conflict, UnsupportedValue
from ...manifest import KINDS, MAX_REFERENCES, SMALL_NBYTES
from ...names import check_block_name
from ...system import own
from ..blocks.claims import claims_of, lease_current, read_frame
from ..blocks.publish import (
    Prepared,
    abandon,
    contents_of,
    prepare,
    publish_in,
    retry_after_reclaim,
    store,
    with_slabs,
)
from ..blocks.putting import put
from ..blocks.target import Target
from .array_appending import append_to_array, wait_for_turn
from .versions import TableVersion, contents_of_composition, store_composition

if TYPE_CHECKING:
    import pyarrow as pa

    from ...codecs import Composition, Encoded, TableForm
    from ...manifest import Transaction
    from ..blocks.claims import Lease
    from ..process.attachment import Attachment

__all__ = ["append_rows"]

#: so many are left after merging, so that appends that cannot merge find room
_MOST_AFTER_MERGING = MAX_REFERENCES - 4
#: merged rows up to this size become one piece a column, at the price of a private copy
_COMBINED_NBYTES = 8 << 20


def append_rows(attachment: Attachment, name: str, rows: Any) -> Lease:
    """Add rows to the table or array of that name, or create it; the lease on the new version."""
    encoded_name, rows = check_block_name(name), gather_rows(rows)  # what is read once cannot begin again
    if isinstance(rows, Iterator):
        rows = list(rows)
    for attempts in itertools.count():
        # Each turn finds another block there than the one before: made, deleted or of another schema meanwhile.
        found = attachment.look(lease_current, attachment, encoded_name)
        lease = _create(attachment, encoded_name, rows) if found is None else _append(found[0], encoded_name, rows)
        if lease is not None:
            return lease
        wait_for_turn(attempts)
    raise AssertionError("count() ends never")


def _create(attachment: Attachment, name: bytes, rows: Any) -> Lease | None:
    encoded = encode_rows(rows)
    try:
        return put(attachment, encoded, Target(name, expected_version=0))
    except own(Conflict):
        return None


def _append(base: Lease, name: bytes, rows: Any) -> Lease | None:
    """The new version; None when the table is another one by now."""
    kind = KINDS[base.facts.kind]
    if kind == "array":
        return append_to_array(base, name, rows)
    if kind == "records":
        return _append_records(base, name, rows)
    if kind != "table":
        raise UnsupportedValue(
            f"append adds rows to a table or an array, and records to records; block {name.decode()!r} is of kind {kind}",
            kind=kind,
        )
    version = TableVersion(base)
    form = form_of(version.said)
    table = align_rows(rows, form, version.sample)
    if not table.num_rows:
        return base
    encoded = encode_table(table.replace_schema_metadata(None))  # the description of the whole has it
    merging = _how_many_to_merge(version, encoded.nbytes)
    if merging:
        try:
            return _publish_merged(version, name, table, merging=merging)
        except own(Conflict):
            pass
    if len(version.said.schema) + 6 * sum(map(len, version.said.columns)) > SMALL_NBYTES // 2:
        return _append_wide(version, name, encoded, table.num_rows)
    attachment = base.attachment
    return retry_after_reclaim(attachment, _add, attachment, name, form, encoded, table.num_rows)


def _append_records(base: Lease, name: bytes, values: Any) -> Lease | None:
    """All is written again: records lie in one block, one behind the other."""
    base.open()
    encoded = grown_records(base.frame(), open_body(base), values)
    try:
        return store(base.attachment, Target(name, base=base.facts.row), contents_of(encoded), encoded)
    except own(Conflict):
        return None


# Merging


def _how_many_to_merge(version: TableVersion, nbytes: int) -> int:
    """How many of the youngest parts are written again together with new rows of ``nbytes``."""
    columns = version.said.columns
    sizes = []
    for pieces in zip(*(reversed(pieces) for pieces in columns), strict=False):
        # Only parts that have these rows of every column can be merged.
        if len({piece.part for piece in pieces}) > 1:
            break
        sizes.append(version.sources[pieces[0].part].body_nbytes)
    merged, younger = 0, nbytes
    for count, size in enumerate(sizes, 1):
        if size <= younger:
            merged = count
        younger += size
    needed = len(version.sources) + 1 - _MOST_AFTER_MERGING
    if needed > merged:
        # If edits left too many parts with single columns, everything becomes one.
        merged = needed if needed <= len(sizes) else max(map(len, columns))
    return merged


def _publish_merged(version: TableVersion, name: bytes, rows: pa.Table, *, merging: int) -> Lease:
    import pyarrow as pa

    attachment, said = version.lease.attachment, version.said
    num_rows = said.num_rows + rows.num_rows
    table = _combined(pa.concat_tables([version.table(last=merging), rows]))
    target = Target(name, base=version.lease.facts.row)
    if merging >= max(map(len, said.columns)):
        whole = encode_table(table, said.origin)
        return store(attachment, target, contents_of(whole), whole)
    encoded = encode_table(table.replace_schema_metadata(None))
    kept = [pieces[:-merging] for pieces in said.columns]
    used = sorted({piece.part for pieces in kept for piece in pieces})
    columns = tuple(
        (*(Piece(used.index(part), position) for part, position in pieces), Piece(len(used), index))
        for index, pieces in enumerate(kept)
    )
    merged = said._replace(num_rows=num_rows, columns=columns)
    references = [version.sources[part].row for part in used]
    nbytes = sum(version.sources[part].body_nbytes for part in used) + encoded.nbytes
    return store_composition(attachment, target, merged, nbytes=nbytes, parts=[encoded], references=references)


def _combined(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    if nbytes_of(table) > _COMBINED_NBYTES:
        return table
    try:
        return table.combine_chunks()
    except own(pa.ArrowException):
        return table  # Arrow cannot join every type


# Adding a part to what is current


def _added(said: Composition, part: int, num_rows: int) -> Composition:
    columns = tuple((*pieces, Piece(part, index)) for index, pieces in enumerate(said.columns))
    total = said.num_rows + num_rows
    return said._replace(num_rows=total, columns=columns)


def _add(attachment: Attachment, name: bytes, form: TableForm, encoded: Encoded, num_rows: int) -> Lease | None:
    part = prepare(attachment, contents_of(encoded), encoded)
    lease: Lease | None = None
    try:
        lease = with_slabs(attachment, _add_to_current, attachment, name, form, part, num_rows)
        return lease
    finally:
        if lease is None:
            abandon(attachment, part)


def _add_to_current(  # noqa: PLR0917 - an operation is called by position
    tx: Transaction, attachment: Attachment, name: bytes, form: TableForm, part: Prepared, num_rows: int
) -> Lease | None:
    """The current version, whichever it is, with one part more; None when it is of another form."""
    name_row, row = tx.current(name)
    if row < 0:
        return None
    facts = tx.facts(row)
    if facts.codec != "table":
        return None
    said = composition_of(read_frame(facts, attachment.memory.readable(facts)))
    sources = facts.references or (facts,)
    if form_of(said) != form or len(sources) >= MAX_REFERENCES:
        return None
    contents = contents_of_composition(
        _added(said, len(sources), num_rows), facts.body_nbytes + part.contents.body_nbytes
    )
    if contents.nbytes > SMALL_NBYTES:
        return None
    block = Prepared(contents, bytearray(contents.frame), None)
    references, group, until = [source.row for source in sources], tx.blocks.group[row], tx.blocks.until[row]
    new_row = publish_in(tx, attachment, name_row, block, parts=[part], references=references, group=group, until=until)
    return claims_of(attachment).new_lease(attachment, tx.facts(new_row))


def _append_wide(version: TableVersion, name: bytes, encoded: Encoded, num_rows: int) -> Lease | None:
    """A table whose description is too large to be written under the lock: only the version that was seen is added to."""
    attachment, facts = version.lease.attachment, version.lease.facts
    said = _added(version.said, len(version.sources), num_rows)
    references = [source.row for source in version.sources]

    target, nbytes = Target(name, base=facts.row), facts.body_nbytes + encoded.nbytes
    try:
        return store_composition(attachment, target, said, nbytes=nbytes, parts=[encoded], references=references)
    except own(Conflict):
        return None
