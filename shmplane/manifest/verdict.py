"""What a plane must look like, judged from facts alone: which blocks live, which go, and what each segment becomes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .roots import emptied_segments, is_rooted, reach
from .states import DOOMED, FREE, LIVE, MAKING, QUEUED, USED, WARM, kept_for, row_of_name_word, version_matches

__all__ = ["Facts", "Verdict", "judge"]


class Facts(NamedTuple):
    """The facts. Lists are by row."""

    alive: set[int]  #: slots in use whose token is held
    now: int
    block_states: Sequence[int]
    block_versions: Sequence[int]
    block_owners: Sequence[int]
    block_segments: Sequence[int]
    block_names: Sequence[int]
    block_lingers: Sequence[int]
    block_expiries: Sequence[int]
    block_references: Mapping[int, Sequence[int]]
    leased: set[int]  #: rows leased by a living process
    name_words: Sequence[int]
    name_lengths: Sequence[int]
    segment_states: Sequence[int]
    segment_owners: Sequence[int]
    segment_slabs: Sequence[int]
    segment_exported: Sequence[int]
    segment_places: Sequence[int]


class Verdict(NamedTuple):
    """What has to be true afterwards."""

    living: set[int]  #: block rows that stay
    freed: list[int]  #: block rows that go
    named: dict[int, int]  #: block row -> the name row that counts
    emptied_names: list[int]  #: name rows whose word points nowhere
    referenced: dict[int, int]
    warm: list[int]  #: segments that nobody uses and that are whole
    doomed: list[int]  #: segments whose file has to go
    emptied: set[int]  #: segments that were in use and are not any more


def judge(facts: Facts) -> Verdict:
    """Decide from the facts. Pure."""
    states = facts.block_states
    named, emptied_names = _judge_names(facts)
    known = _Known(facts, named)
    living = reach((row for row in range(len(states)) if is_rooted(known, row)), known.references)
    referenced: dict[int, int] = {}
    for row in living:
        for other in known.references(row):
            referenced[other] = referenced.get(other, 0) + 1
    freed = [row for row, state in enumerate(states) if state != FREE and row not in living]
    used = {facts.block_segments[row] - 1 for row in living}
    warm, doomed = _judge_segments(facts, used)
    emptied = emptied_segments((facts.block_segments[row] - 1 for row in freed), used)
    emptied.update(row for row in doomed if facts.segment_states[row] == MAKING)
    emptied.intersection_update(range(len(facts.segment_states)))
    return Verdict(living, freed, named, emptied_names, referenced, warm, doomed, emptied)


class _Known(NamedTuple):
    """What keeps a block, from the facts."""

    facts: Facts
    named: Mapping[int, int]

    def state_of(self, row: int) -> int:
        return self.facts.block_states[row]

    def is_named(self, row: int) -> bool:
        return row in self.named

    def is_leased(self, row: int) -> bool:
        return row in self.facts.leased

    def is_lingering(self, row: int) -> bool:
        return bool(self.facts.block_lingers[row]) and self.facts.block_expiries[row] > self.facts.now

    def is_kept(self, row: int) -> bool:
        owner = self.facts.block_owners[row]
        return owner >= QUEUED or kept_for(owner) in self.facts.alive

    def is_being_made(self, row: int) -> bool:
        return self.facts.block_owners[row] - 1 in self.facts.alive

    def references(self, row: int) -> list[int]:
        states = self.facts.block_states
        others = self.facts.block_references.get(row, ())
        return [other for other in others if 0 <= other < len(states) and states[other] == LIVE]


def _judge_names(facts: Facts) -> tuple[dict[int, int], list[int]]:
    """A rename killed in the middle leaves two names for a block; its row says which one counts."""
    named: dict[int, int] = {}
    emptied: list[int] = []
    for name_row, word in enumerate(facts.name_words):
        row = row_of_name_word(word)
        if row < 0:
            continue
        if not _is_live(facts, name_row, word):
            emptied.append(name_row)
        elif row not in named:
            named[row] = name_row
        elif facts.block_names[row] == name_row + 1:
            emptied.append(named[row])
            named[row] = name_row
        else:
            emptied.append(name_row)
    return named, emptied


def _is_live(facts: Facts, name_row: int, word: int) -> bool:
    row = row_of_name_word(word)
    return (
        row < len(facts.block_states)
        and facts.name_lengths[name_row] > 0
        and facts.block_states[row] == LIVE
        # A rename killed in the middle has given the block the version of its next name already.
        and (version_matches(word, facts.block_versions[row]) or facts.block_names[row] != name_row + 1)
    )


def _judge_segments(facts: Facts, used: set[int]) -> tuple[list[int], list[int]]:
    """Which nobody uses and are whole, and which have to go."""
    warm: list[int] = []
    doomed: list[int] = []
    for row, state in enumerate(facts.segment_states):
        alive = facts.segment_owners[row] - 1 in facts.alive
        is_slab, is_spilled, is_unused = facts.segment_slabs[row] > 0, facts.segment_places[row] > 0, row not in used
        if state == WARM or (state == USED and is_unused and (is_spilled or not is_slab)):
            (doomed if facts.segment_exported[row] or is_spilled else warm).append(row)
        # A slab, and a copy for the spill directory, are made without a block; whoever makes one lives.
        elif (state == DOOMED and not alive) or (
            state == MAKING and is_unused and not (alive and (is_slab or is_spilled))
        ):
            doomed.append(row)
    return warm, doomed
