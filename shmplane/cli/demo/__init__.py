"""``shmplane demo``: the main job, on real data, with a killed worker in the middle.

``story`` tells it step by step; ``data`` finds and reads the input, ``questions`` says what is computed, ``worker``
and ``crew`` are the two ends of the worker processes, ``crash`` kills one of them, ``change`` edits and appends,
``report`` shows the results.
"""

from .story import demo

__all__ = ["demo"]
