"""Values to blocks and back: the only entrance to the codecs.

``encode`` chooses how a value is stored, in the order of the public contract; the codec of its kind in ``CODECS`` brings it
back, ``as_kind`` as something else. No library is imported before a value of its kind is met.
"""

from .array import array_over, describe_array, grow_array
from .base import BytesSink, CopiedMemory, Encoded, Memory, Sink, room_in
from .batches import TableStream
from .borrow import memory_behind
from .choose import encode_by_rank, gather_rows
from .codec import Codec, Description
from .composed import (
    Composition,
    Part,
    Piece,
    check_composition,
    composition_of,
    flatten,
    is_composed,
    join_chunks,
    pack_composition,
    read_pieces,
)
from .document import SMALL_DOCUMENT_NBYTES, decode_document
from .editing import align_column, check_labels, column_to_arrow, labels_of, metadata_with, title_of
from .envelope import seal, unseal
from .kinds import (
    AS_KINDS,
    CODECS,
    KINDS,
    as_kind,
    as_table,
    as_tensors,
    check_as,
    check_values,
    describe,
    encode,
    encode_rows,
    open_table,
    present,
    tree_over,
)
from .raw import EncodedBytes, open_body
from .records import Records, grown_records
from .rows import TableForm, align_rows, form_of
from .table import check_origin, check_table, encode_table, find_columns, nbytes_of, parse_schema
from .tree import encode_tree

__all__ = [
    "align_column", "align_rows", "array_over", "as_kind", "AS_KINDS", "as_table", "as_tensors", "check_as",
    "check_composition", "check_labels", "check_origin", "check_table", "check_values", "Codec", "CODECS",
    "BytesSink", "column_to_arrow", "Composition", "composition_of", "CopiedMemory", "decode_document",
    "describe",
    "describe_array", "Description", "encode", "encode_by_rank", "encode_rows", "encode_table", "encode_tree",
    "Encoded", "EncodedBytes", "find_columns", "flatten", "form_of", "gather_rows", "grow_array",
    "grown_records", "is_composed", "join_chunks", "KINDS", "labels_of", "Memory", "memory_behind",
    "metadata_with", "nbytes_of", "open_body", "open_table", "pack_composition", "parse_schema", "Part",
    "Piece", "present", "read_pieces", "Records", "room_in", "seal", "Sink", "SMALL_DOCUMENT_NBYTES",
    "TableForm", "TableStream", "title_of", "tree_over", "unseal",
]  # fmt: skip
