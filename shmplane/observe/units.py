"""Bytes, counts and times as people read them."""

from __future__ import annotations

__all__ = ["count", "nbytes", "seconds", "some"]


def nbytes(size: float) -> str:
    """``7 B``, ``48.4 MiB``; three digits."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.{_decimals(value)}f} {unit}"


def count(number: int) -> str:
    return f"{number:,}"


def some(number: int, noun: str) -> str:
    """``1 lease``, ``2 processes``."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def seconds(time: float) -> str:
    """``3.1 ms``, ``2 h``: small times with three digits, long ones as their largest unit."""
    for limit, scale, unit in ((0.0009995, 1e6, "µs"), (0.9995, 1e3, "ms"), (120.0, 1.0, "s")):
        if abs(time) < limit:
            value = time * scale
            return f"{value:.{_decimals(value)}f} {unit}"
    for limit, scale, unit in ((7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if time < limit:
            return f"{time / scale:.0f} {unit}"
    return f"{time / 86_400:.0f} d"


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
