"""Mapped files, for data that is larger than memory or need not be read whole."""

from .mapped import MappedFile, map_file

__all__ = ["MappedFile", "map_file"]
