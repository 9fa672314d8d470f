"""The binary format: aligned 8-byte words in columns."""

from .table import WORD_NBYTES, Column, Table, Text, column, columns, fingerprint, text, view_column, viewed_lazily

__all__ = [
    "WORD_NBYTES",
    "Column",
    "Table",
    "Text",
    "column",
    "columns",
    "fingerprint",
    "text",
    "view_column",
    "viewed_lazily",
]
