"""A process pool whose large values travel as blocks, and whose tasks may outlive a worker.

``packing`` takes the buffers out of what is pickled, ``message`` is what goes through the pipe instead, ``sending`` is the end
of who asks, ``worker`` the other one, with ``carrying`` for what is large and ``images`` for what stays mapped. ``pool``
is what users see, ``retrying`` the tasks that run again. Everything is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..system import late_names

if TYPE_CHECKING:
    from .pool import ProcessPoolExecutor
    from .statistics import ExecutorStatistics

__getattr__ = late_names(
    __name__,
    {
        ".pool": "ProcessPoolExecutor",
        ".statistics": "ExecutorStatistics",
    },
)

__all__ = ["ExecutorStatistics", "ProcessPoolExecutor"]
