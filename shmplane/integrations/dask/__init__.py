"""Dask: blocks travel through a graph as handles on the same host, and as bytes to another.

Importing this registers ``Block`` with Dask, in every process that it reaches: a worker imports it with the first block that
comes. ``array`` and ``dataframe`` make Dask's collections of a block, whose partitions are views of it.
"""

from __future__ import annotations

from .hosts import use
from .partitions import array, dataframe
from .sending import register

__all__ = ["array", "dataframe", "use"]

register()
