"""Prometheus, by its library ``prometheus_client``: host-wide figures from any one process, without a multiprocess directory.

``Collector`` tells what planes, their connection pools and caches count. ``use`` makes an application's own metrics host-wide:
``using`` puts itself in the place of the library's value class, and tells what all processes have counted.
"""

from __future__ import annotations

from .collector import Collector
from .using import use

__all__ = ["Collector", "use"]
