"""Prometheus, by its library ``prometheus_client``: host-wide figures from any one process, without a multiprocess directory.

``Collector`` tells what planes, their connection pools and caches count.
"""

from __future__ import annotations

from .collector import Collector

__all__ = ["Collector"]
