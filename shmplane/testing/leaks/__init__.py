"""A leak report: ``python -m shmplane.testing.leaks [--out leaks] [--cycles 200] [module:function]``.

The function is called again and again, in a process of its own and in a root of planes of its own, under memray. What has
grown between the first calls, which fill caches, and the last one is reported: planes, segments, leases, permits and
descriptors by our own count, memory by memray's. Without a function it is the library's own cycle of put, get and close.

What memray sees and what it does not:

* It counts allocations that were not freed, a location at a time, in this process and in workers of ``multiprocessing`` (spawn,
  forkserver and fork) and Python programs that end by themselves; a process that was killed, or that
  forks beside running threads, may have no figures: the report says how many.
* A mapping counts in full and a segment that is never unlinked not at all. So shared memory is counted by us.
* What an import allocates stays and is left out. Python's and Arrow's own pools are switched off: each allocation counts.
"""

from __future__ import annotations

__all__: list[str] = []
