"""Drafts: private, writable images of one version, committed as the next one or thrown away; and appends."""

from .appending import append_rows
from .array_draft import ArrayDraft, TreeDraft
from .draft import Draft, open_draft
from .json_draft import JsonDraft
from .table_draft import TableDraft

__all__ = ["ArrayDraft", "Draft", "JsonDraft", "TableDraft", "TreeDraft", "append_rows", "open_draft"]
