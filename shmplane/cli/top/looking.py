"""What ``top`` sees: each look is a picture to draw, and what cannot be seen is said in its place, with the reason.

A plane is opened once and kept open for reading, until it ends or cannot be read; then each look tries to open it again.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from ...observe import Reading, Sample, Summary, plane_names, rates, reading, sample_of, summary_of
from ..exits import UNREADABLE, of_each

__all__ = ["Look", "Overview", "PlaneWatch", "look_at_all"]


@dataclass(frozen=True, slots=True)
class Overview:
    """All planes of a root; of those that cannot be read, why."""

    planes: tuple[Summary, ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """One plane; ``problem`` says why it cannot be seen, and ``sample`` is then what was seen last."""

    name: str
    sample: Sample | None = None
    rates: dict[str, float] | None = None
    problem: str | None = None


def look_at_all(root: str) -> Overview:
    found, unreadable = of_each(plane_names(root), lambda name: summary_of(name, root))
    return Overview(tuple(found.values()), unreadable)


class PlaneWatch:
    """Looks at one plane again and again."""

    def __init__(self, name: str, root: str) -> None:
        self._name, self._root = name, root
        self._opened = ExitStack()
        self._plane: Reading | None = None
        self._before: Sample | None = None

    def look(self) -> Look:
        """What is there now; never fails for what another process did to the plane."""
        try:
            sample = self.sample()
        except UNREADABLE as error:
            self.close()
            return Look(self._name, self._before, None, str(error))
        found, self._before = rates(self._before, sample), sample
        return Look(self._name, sample, found)

    def sample(self) -> Sample:
        """The same, or why not as an exception."""
        if self._plane is None:
            self._plane = self._opened.enter_context(reading(self._name, self._root))
        return sample_of(self._plane)

    def close(self) -> None:
        self._plane = None
        self._opened.close()
