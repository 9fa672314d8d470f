"""Drafts: private, writable images of one version, committed as the next one or thrown away."""

from .array_draft import ArrayDraft
from .json_draft import JsonDraft
from .opening import open_draft

__all__ = ["ArrayDraft", "JsonDraft", "open_draft"]
