"""How a cache shows itself in a notebook: how full its tiers are, how often something was found, and what is to be seen to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..markup import QUIET, bar, box, div, facts, text, warning
from ..observe import nbytes as show_nbytes
from ..observe import some

if TYPE_CHECKING:
    from .tally import CacheStatistics, TierStatistics

__all__ = ["html_of_cache"]

_TITLE = "margin:0 0 1px 0;font-weight:bold"
_LINE = "margin:6px 0 1px 0"
_LONGEST = 200


def html_of_cache(directory: str, policy: str, stats: CacheStatistics) -> str:
    """A cache as HTML; ``stats`` are those of all processes."""
    asked = stats.hits + stats.misses
    parts = [
        div(_TITLE, text(f"cache {directory}", _LONGEST)),
        div(QUIET, f"{text(policy)}; counted over all processes that have it open"),
        *(warning(what, cure) for what, cure in _advice(stats)),
        *_tier("memory", "M", "#3f73ad", stats.memory),
        *_tier("disk", "D", "#8a6a3b", stats.disk),
        facts(
            (
                ("found", f"{stats.hits:,} of {asked:,}" + (f", {stats.hits / asked:.1%}" if asked else "")),
                ("where", f"{stats.memory.hits:,} in memory, {stats.disk.hits:,} on disk"),
                ("computed", f"{stats.computes:,}; {stats.stale_hits:,} old values handed out meanwhile"),
                ("evicted", f"{stats.memory.evictions:,} from memory, {stats.disk.evictions:,} from disk"),
            )
        ),
    ]
    return box(parts)


def _tier(name: str, letter: str, colour: str, tier: TierStatistics) -> Iterator[str]:
    share = tier.nbytes / max(tier.limit_nbytes, 1)
    said = f"{name}: {show_nbytes(tier.nbytes)} of {show_nbytes(tier.limit_nbytes)}, {share:.0%}"
    yield div(_LINE, said)
    free = max(0, tier.limit_nbytes - tier.nbytes)
    yield bar(((tier.nbytes, letter, f"background-color:{colour};color:#fff"), (free, "", "")))


def _advice(stats: CacheStatistics) -> Iterator[tuple[str, str]]:
    if stats.damaged:
        yield (
            f"{some(stats.damaged, 'item')} on disk were damaged and count as missing",
            "see to the disk; what is missing is computed anew",
        )
    if stats.past_disk:
        yield (
            f"the disk tier had no room for {some(stats.past_disk, 'value')}",
            "open the cache with a larger disk=",
        )
    if stats.past_memory:
        yield f"memory had no room for {some(stats.past_memory, 'value')}", "open the cache with a larger memory="
