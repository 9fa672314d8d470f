"""Jupyter: ``%load_ext shmplane`` and what it brings.

It is imported by the root's ``load_ipython_extension`` alone, in a process that has IPython.
"""

from .keep import load, unload

__all__ = ["load", "unload"]
