"""Made-up traces: the three shapes that tell policies apart. Nobody's real load; each is the same on every run."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable

from .replay import Request

__all__ = ["SYNTHETIC", "loop", "scan", "zipf"]


def zipf(requests: int = 100_000, *, keys: int = 10_000, skew: float = 1.0, sized: bool = False) -> list[Request]:
    """Few keys are asked for often, most seldom: key k with a chance of 1 / k^skew.

    ``sized``: log-normal sizes from some hundred bytes to some megabytes that do not depend on how often a key is asked for.
    """
    choose = random.Random(1)  # noqa: S311 - a trace, no secret
    reach = list(itertools.accumulate(1 / rank**skew for rank in range(1, keys + 1)))
    sizes = [int(choose.lognormvariate(9, 2)) + 1 if sized else 1 for _ in range(keys)]
    picked = (bisect.bisect_left(reach, choose.random() * reach[-1]) for _ in range(requests))
    return [Request(key, sizes[key]) for key in picked]


def scan(requests: int = 100_000, *, keys: int = 5_000, every: int = 1_000, length: int = 1_000) -> list[Request]:
    """Zipf, and now and then somebody reads a long row of things once."""
    asked, made, fresh = zipf(requests, keys=keys), [], itertools.count(keys)
    for number, request in enumerate(asked):
        made.append(request)
        if number % (every + length) == every:
            made += [Request(next(fresh)) for _ in range(length)]
    return made[:requests]


def loop(requests: int = 100_000, *, keys: int = 1_500, around: int = 6) -> list[Request]:
    """Somebody reads a set again and again from its beginning, larger than the cache, beside others who ask as in ``zipf``."""
    others = iter(zipf(requests, keys=5_000))
    looped = itertools.cycle(range(100_000, 100_000 + keys))
    return [Request(next(looped)) if number % around < around // 2 else next(others) for number in range(requests)]


#: by name; made when called
SYNTHETIC: dict[str, Callable[[], list[Request]]] = {
    "zipf 0.8": lambda: zipf(skew=0.8),
    "zipf 1.0": zipf,
    "zipf 1.2": lambda: zipf(skew=1.2),
    "zipf with scans": scan,
    "zipf with a loop": loop,
    "zipf 1.0, sized": lambda: zipf(sized=True),
}
