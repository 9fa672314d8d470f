"""How a pool shows itself in a notebook: how many connections are in use, who has them, and what is to be seen to.

It is told from statistics, findings and texts that were taken before; nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..markup import QUIET, bar, box, div, facts, text, warning
from ..observe import seconds as show_seconds

if TYPE_CHECKING:
    from ..observe import Health
    from .statistics import Histogram, PoolStatistics

__all__ = ["html_of_pool"]

_TITLE = "margin:0 0 1px 0;font-weight:bold"
_USED, _BEING_MADE, _IDLE = "#3f73ad", "#8a6a3b", "#2f855a"
_MOST_HOLDERS = 10
_LONGEST_HOLDER = 160


def html_of_pool(kind: str, stats: PoolStatistics, health: Health, holders: Sequence[str]) -> str:
    """A pool as HTML; ``holders`` say where each connection in use was taken, the longest holder first."""
    parts = [
        div(_TITLE, text(f"{kind} {stats.name}: {stats.size:,} of {stats.max_size:,} connections", 120)),
        bar(_shares(stats)),
        *(warning(check.found, check.cure) for check in health.checks if check.status != "pass"),
        facts(
            (
                ("now", _now(stats)),
                ("handed out", f"{stats.acquires:,}{_times('waited', stats.wait_time)}"),
                ("given back", f"{stats.use_time.count:,}{_times('used', stats.use_time)}"),
                ("opened", f"{stats.connects:,}{_times('it took', stats.connect_time)}"),
                ("failed", _failed(stats)),
            )
        ),
    ]
    if holders:
        shown = holders[:_MOST_HOLDERS]
        parts += [div(_TITLE, "in use by"), *(div("", text(holder, _LONGEST_HOLDER)) for holder in shown)]
        more = len(holders) - len(shown)
        parts.append(div(QUIET, f"and {more:,} more") if more else "")
    return box(parts)


def _shares(stats: PoolStatistics) -> list[tuple[float, str, str]]:
    other = max(0, stats.size - stats.used - stats.idle)
    return [
        (stats.used, f"{stats.used:,} used", f"background-color:{_USED};color:#fff"),
        (stats.idle, f"{stats.idle:,} idle", f"background-color:{_IDLE};color:#fff"),
        (other, f"{other:,} opening or closing", f"background-color:{_BEING_MADE};color:#fff"),
        (max(0, stats.max_size - stats.size), f"room for {stats.max_size - stats.size:,}", ""),
    ]


def _now(stats: PoolStatistics) -> str:
    state = "closed; " if stats.is_closed else "paused; " if stats.paused else ""
    return (
        f"{state}{stats.used:,} used, {stats.idle:,} idle, {stats.connecting:,} connecting, {stats.waiting:,} waiting"
    )


def _times(what: str, histogram: Histogram) -> str:
    if not histogram.count:
        return ""
    most = histogram.quantile(0.99)
    known = (
        f"at most {show_seconds(most)}" if most < float("inf") else f"more than {show_seconds(histogram.bounds[-1])}"
    )
    return f"; {what} {show_seconds(histogram.mean)} on average, 99 of 100 {known}"


def _failed(stats: PoolStatistics) -> str:
    failures = (
        ("timed out", stats.timeouts), ("refused", stats.refused), ("connects", stats.connect_errors),
        ("closed as broken", stats.discarded), ("dropped without release", stats.dropped), ("held too long", stats.leaked),
    )  # fmt: skip
    return ", ".join(f"{count:,} {what}" for what, count in failures if count) or "nothing"
