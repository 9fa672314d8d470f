"""What a plane must look like, judged from facts alone: which blocks live, which go, and what each segment becomes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .roots import emptied_segments, is_rooted, reach
from .states import DOOMED, FREE, LIVE, MAKING, USED, WARM, kept_for, row_of_name_word, version_matches

__all__ = ["Facts", "Verdict", "judge"]


@dataclass(slots=True)
class Facts:
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


@dataclass(slots=True)
class Verdict:
    """What has to be true afterwards."""

    living: set[int] = field(default_factory=set)  #: block rows that stay
    freed: list[int] = field(default_factory=list)  #: block rows that go
    named: dict[int, int] = field(default_factory=dict)  #: block row -> the name row that counts
    emptied_names: list[int] = field(default_factory=list)  #: name rows whose word points nowhere
    referenced: dict[int, int] = field(default_factory=dict)
    warm: list[int] = field(default_factory=list)  #: segments that nobody uses and that are whole
    doomed: list[int] = field(default_factory=list)  #: segments whose file has to go
    emptied: set[int] = field(default_factory=set)  #: segments that were in use and are not any more


def judge(facts: Facts) -> Verdict:
    """Decide from the facts. Pure."""
    verdict = Verdict()
    states = facts.block_states
    _judge_names(facts, verdict)
    known = _Known(facts, verdict.named)
    verdict.living = reach((row for row in range(len(states)) if is_rooted(known, row)), known.references)
    for row in verdict.living:
        for other in known.references(row):
            verdict.referenced[other] = verdict.referenced.get(other, 0) + 1
    verdict.freed = [row for row, state in enumerate(states) if state != FREE and row not in verdict.living]
    _judge_segments(facts, verdict)
    return verdict


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
        return kept_for(self.facts.block_owners[row]) in self.facts.alive

    def is_being_made(self, row: int) -> bool:
        return self.facts.block_owners[row] - 1 in self.facts.alive

    def references(self, row: int) -> list[int]:
        states = self.facts.block_states
        others = self.facts.block_references.get(row, ())
        return [other for other in others if 0 <= other < len(states) and states[other] == LIVE]


def _judge_names(facts: Facts, verdict: Verdict) -> None:
    """A rename killed in the middle leaves two names for a block; its row says which one counts."""
    for name_row, word in enumerate(facts.name_words):
        row = row_of_name_word(word)
        if row < 0:
            continue
        if not _is_live(facts, name_row, word):
            verdict.emptied_names.append(name_row)
        elif row not in verdict.named:
            verdict.named[row] = name_row
        elif facts.block_names[row] == name_row + 1:
            verdict.emptied_names.append(verdict.named[row])
            verdict.named[row] = name_row
        else:
            verdict.emptied_names.append(name_row)


def _is_live(facts: Facts, name_row: int, word: int) -> bool:
    row = row_of_name_word(word)
    return (
        row < len(facts.block_states)
        and facts.name_lengths[name_row] > 0
        and facts.block_states[row] == LIVE
        # A rename killed in the middle has given the block the version of its next name already.
        and (version_matches(word, facts.block_versions[row]) or facts.block_names[row] != name_row + 1)
    )


def _judge_segments(facts: Facts, verdict: Verdict) -> None:
    used = {facts.block_segments[row] - 1 for row in verdict.living}
    for row, state in enumerate(facts.segment_states):
        alive = facts.segment_owners[row] - 1 in facts.alive
        if state == WARM or (state == USED and not facts.segment_slabs[row] and row not in used):
            (verdict.doomed if facts.segment_exported[row] else verdict.warm).append(row)
        elif (
            (state == DOOMED and not alive)
            or (state == MAKING and not alive and row not in used)
            or (state == MAKING and not facts.segment_slabs[row] and row not in used)
        ):
            verdict.doomed.append(row)
    verdict.emptied = emptied_segments((facts.block_segments[row] - 1 for row in verdict.freed), used)
    verdict.emptied.update(row for row in verdict.doomed if facts.segment_states[row] == MAKING)
    verdict.emptied.intersection_update(range(len(facts.segment_states)))
