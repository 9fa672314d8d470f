"""``judge``: from the facts alone, what lives and what goes. Pure, so it is tried on facts that no kill ever left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane.manifest.states import (
    CREATING,
    DEAD,
    DOOMED,
    FREE,
    LIVE,
    MAKING,
    USED,
    WARM,
    pack_name_word,
    row_of_name_word,
    version_matches,
)
from shmplane.manifest.verdict import Facts, Verdict, judge

NOW = 1_000
ALIVE, GONE = 1, 2


Rows = dict[int, dict[str, Any]]


def facts(
    *, blocks: Rows | None = None, names: dict[int, int] | None = None, segments: Rows | None = None, leased: Any = ()
) -> Facts:
    """Rows by number, each with what is not as in a live block of version 1, or in a segment in use.

    ``names`` is the word of each name row; the process of slot 1 is alive, that of slot 2 is not.
    """
    words = _filled(names or {}, 0)
    of_block, of_segment = _filled(blocks or {}, {"state": FREE}), _filled(segments or {}, {"state": FREE})

    def column(name: str, default: int = 0, rows: list[dict[str, Any]] = of_block) -> list[int]:
        return [row.get(name, default) for row in rows]

    return Facts(
        alive={ALIVE},
        now=NOW,
        block_states=column("state", LIVE),
        block_versions=column("version", 1),
        block_owners=[owner + 1 for owner in column("owner", -1)],
        block_segments=[segment + 1 for segment in column("segment", -1)],
        block_names=[name + 1 for name in column("name", -1)],
        block_lingers=column("linger"),
        block_expiries=column("expires"),
        block_references={row: of["shows"] for row, of in enumerate(of_block) if "shows" in of},
        leased=set(leased),
        name_words=words,
        name_lengths=[int(row in (names or {})) for row in range(len(words))],
        segment_states=column("state", USED, of_segment),
        segment_owners=[owner + 1 for owner in column("owner", -1, of_segment)],
        segment_slabs=column("slab", 0, of_segment),
        segment_exported=column("exported", 0, of_segment),
        segment_places=column("place", 0, of_segment),
    )


def _filled(rows: dict[int, Any], empty: Any) -> list[Any]:
    return [rows.get(row, empty) for row in range(max(rows, default=-1) + 1)]


def word(row: int, version: int = 1) -> int:
    return pack_name_word(row, version)


# Blocks

LIVES: dict[str, Facts] = {
    "named": facts(blocks={0: {"name": 0}}, names={0: word(0)}),
    "leased by a living process": facts(blocks={0: {}}, leased={0}),
    "lingering": facts(blocks={0: {"linger": 5, "expires": NOW + 1}}),
    "being created by a living process": facts(blocks={0: {"state": CREATING, "owner": ALIVE}}),
    "shown by a named one": facts(blocks={0: {}, 1: {"name": 0, "shows": [0]}}, names={0: word(1)}),
    "shown by a leased one": facts(blocks={0: {}, 1: {"shows": [0]}}, leased={1}),
}
GOES: dict[str, Facts] = {
    "held by nobody": facts(blocks={0: {}}),
    "lingered long enough": facts(blocks={0: {"linger": 5, "expires": NOW}}),
    "being created by a dead process": facts(blocks={0: {"state": CREATING, "owner": GONE}}),
    "half freed": facts(blocks={0: {"state": DEAD}}),
    "half freed and leased": facts(blocks={0: {"state": DEAD}}, leased={0}),
    "named at another version": facts(blocks={0: {"name": 0, "version": 2}}, names={0: word(0, 1)}),
    "shown by one that goes": facts(blocks={0: {}, 1: {"shows": [0]}}),
}


@pytest.mark.parametrize("case", LIVES.values(), ids=LIVES)
def test_a_block_lives_that_is(case: Facts) -> None:
    verdict = judge(case)
    assert 0 in verdict.living
    assert verdict.freed == []


@pytest.mark.parametrize("case", GOES.values(), ids=GOES)
def test_a_block_goes_that_is(case: Facts) -> None:
    verdict = judge(case)
    assert 0 in verdict.freed
    assert verdict.living == set()


def test_of_the_two_names_of_a_half_done_rename_the_blocks_row_says_which_counts() -> None:
    for counts, other in ((0, 1), (1, 0)):
        verdict = judge(facts(blocks={0: {"name": counts}}, names={0: word(0), 1: word(0)}))
        assert verdict.named == {0: counts}
        assert verdict.emptied_names == [other]


def test_a_rename_that_had_raised_the_version_only_keeps_the_old_name() -> None:
    verdict = judge(facts(blocks={0: {"name": 1, "version": 7}}, names={0: word(0, 3), 1: 0}))
    assert verdict.named == {0: 0}
    assert verdict.living == {0}


@pytest.mark.parametrize("row", [1, 5, 2**24 - 3])
def test_a_name_that_points_to_no_live_block_is_emptied(row: int) -> None:
    verdict = judge(facts(blocks={0: {"name": 1}, 1: {"state": FREE}}, names={0: word(row), 1: word(0)}))
    assert verdict.emptied_names == [0]
    assert verdict.named == {0: 1}


def test_references_are_counted_from_the_living_only() -> None:
    verdict = judge(
        facts(blocks={0: {}, 1: {"name": 0, "shows": [0]}, 2: {"name": 1, "shows": [0]}, 3: {"shows": [0]}},
              names={0: word(1), 1: word(2)})
    )  # fmt: skip
    assert verdict.referenced == {0: 2}
    assert verdict.freed == [3]


def test_a_forged_reference_leads_nowhere() -> None:
    verdict = judge(facts(blocks={0: {"state": FREE}, 1: {"name": 0, "shows": [0, 9, -1]}}, names={0: word(1)}))
    assert verdict.living == {1}
    assert verdict.referenced == {}


# Segments

LIVING = {0: {"segment": 0, "name": 0}}
SEGMENTS: dict[str, tuple[Facts, str | None]] = {
    "in use by a living block": (facts(blocks=LIVING, names={0: word(0)}, segments={0: {}}), None),
    "left by its block": (facts(segments={0: {}}), "warm"),
    "left by its block, and other programs may have it": (facts(segments={0: {"exported": 1}}), "doomed"),
    "warm": (facts(segments={0: {"state": WARM}}), "warm"),
    "warm, and other programs may have it": (facts(segments={0: {"state": WARM, "exported": 1}}), "doomed"),
    "a slab": (facts(segments={0: {"slab": 3}}), None),
    "a slab that a living process makes": (facts(segments={0: {"state": MAKING, "slab": 3, "owner": ALIVE}}), None),
    "a slab that a dead one made": (facts(segments={0: {"state": MAKING, "slab": 3, "owner": GONE}}), "doomed"),
    "being made for no block": (facts(segments={0: {"state": MAKING, "owner": ALIVE}}), "doomed"),
    "being removed by a living process": (facts(segments={0: {"state": DOOMED, "owner": ALIVE}}), None),
    "half removed": (facts(segments={0: {"state": DOOMED, "owner": GONE}}), "doomed"),
    "free": (facts(segments={0: {"state": FREE}}), None),
}


@pytest.mark.parametrize(("case", "becomes"), SEGMENTS.values(), ids=SEGMENTS)
def test_a_segment_that_is(case: Facts, becomes: str | None) -> None:
    verdict = judge(case)
    assert {"warm": verdict.warm, "doomed": verdict.doomed} == {
        what: [0] if what == becomes else [] for what in ("warm", "doomed")
    }


def test_a_segment_that_is_being_made_for_a_living_block_stays() -> None:
    block = {"state": CREATING, "owner": ALIVE, "segment": 0}
    verdict = judge(facts(blocks={0: block}, segments={0: {"state": MAKING, "owner": ALIVE}}))
    assert verdict.warm == verdict.doomed == []


# Any facts

ROWS, NAMES, SEGMENT_ROWS, SLOTS = 6, 5, 4, 3


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Also what no kill can leave: names of one block, references in circles, rows that are not there."""

    def column(values: st.SearchStrategy[int], rows: int = ROWS) -> list[int]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    versions = column(st.integers(0, 3))
    row = st.integers(0, ROWS + 1)
    words = st.one_of(st.just(0), st.builds(pack_name_word, row, st.integers(0, 3)))
    return Facts(
        alive=draw(st.sets(st.integers(0, SLOTS - 1))),
        now=NOW,
        block_states=column(st.sampled_from([FREE, CREATING, LIVE, LIVE, DEAD])),
        block_versions=versions,
        block_owners=column(st.integers(0, SLOTS)),
        block_segments=column(st.integers(0, SEGMENT_ROWS)),
        block_names=column(st.integers(0, NAMES)),
        block_lingers=column(st.integers(0, 1)),
        block_expiries=column(st.integers(NOW - 1, NOW + 1)),
        block_references=draw(st.dictionaries(st.integers(0, ROWS - 1), st.lists(st.integers(-1, ROWS), max_size=3))),
        leased=draw(st.sets(st.integers(0, ROWS - 1))),
        name_words=column(words, NAMES),
        name_lengths=column(st.integers(0, 1), NAMES),
        segment_states=column(st.sampled_from([FREE, MAKING, USED, WARM, DOOMED]), SEGMENT_ROWS),
        segment_owners=column(st.integers(0, SLOTS), SEGMENT_ROWS),
        segment_slabs=column(st.integers(0, 2), SEGMENT_ROWS),
        segment_exported=column(st.integers(0, 1), SEGMENT_ROWS),
        segment_places=column(st.integers(0, 1), SEGMENT_ROWS),
    )


def carried_out(facts: Facts, verdict: Verdict) -> Facts:
    """The facts afterwards: the stores of ``rebuild`` that are facts, by a process that lives."""
    states, versions, names = list(facts.block_states), list(facts.block_versions), list(facts.block_names)
    words, segments, owners = list(facts.name_words), list(facts.segment_states), list(facts.segment_owners)
    for name_row in verdict.emptied_names:
        words[name_row] = 0
    for row, name_row in verdict.named.items():
        if not version_matches(words[name_row], versions[row]):
            versions[row] = words[name_row] >> 24
        names[row] = name_row + 1
    for row in verdict.freed:
        states[row] = FREE
    for row in verdict.warm:
        segments[row] = WARM
    for row in verdict.doomed:
        segments[row], owners[row] = DOOMED, min(facts.alive) + 1
    return facts._replace(
        block_states=states,
        block_versions=versions,
        block_names=names,
        name_words=words,
        segment_states=segments,
        segment_owners=owners,
    )


@given(facts=any_facts())
def test_every_block_either_lives_or_goes(facts: Facts) -> None:
    verdict = judge(facts)
    assert not verdict.living & set(verdict.freed)
    assert verdict.living | set(verdict.freed) == {row for row, state in enumerate(facts.block_states) if state != FREE}


@given(facts=any_facts())
def test_what_a_root_reaches_lives_and_nothing_else_does(facts: Facts) -> None:
    verdict = judge(facts)

    def is_root(row: int) -> bool:
        state = facts.block_states[row]
        held = row in facts.leased or (facts.block_lingers[row] and facts.block_expiries[row] > facts.now)
        named = row in verdict.named
        return bool(
            (state == LIVE and (held or named)) or (state == CREATING and facts.block_owners[row] - 1 in facts.alive)
        )

    reached = {row for row in range(ROWS) if is_root(row)}
    while True:
        shown = {other for row in reached for other in facts.block_references.get(row, ())}
        more = {row for row in shown if 0 <= row < ROWS and facts.block_states[row] == LIVE}
        if more <= reached:
            break
        reached |= more
    assert verdict.living == reached


@given(facts=any_facts())
def test_every_block_has_at_most_one_name_and_every_word_counts_or_is_emptied(facts: Facts) -> None:
    verdict = judge(facts)
    counting = list(verdict.named.values())
    assert len(set(counting)) == len(counting)
    assert sorted([*counting, *verdict.emptied_names]) == [row for row, found in enumerate(facts.name_words) if found]
    for row, name_row in verdict.named.items():
        assert row_of_name_word(facts.name_words[name_row]) == row
        assert facts.block_states[row] == LIVE


@given(facts=any_facts())
def test_a_named_live_block_of_the_version_of_its_name_lives(facts: Facts) -> None:
    """Stated without ``named``: nobody who reads by name may lose what he finds."""
    verdict = judge(facts)
    for name_row, found in enumerate(facts.name_words):
        row = row_of_name_word(found)
        if found and facts.name_lengths[name_row] and row < ROWS and facts.block_states[row] == LIVE:
            if version_matches(found, facts.block_versions[row]):
                assert row in verdict.living


@given(facts=any_facts())
def test_references_are_those_of_the_living(facts: Facts) -> None:
    verdict = judge(facts)
    shown = [other for row in verdict.living for other in facts.block_references.get(row, ())]
    counted = {row: shown.count(row) for row in set(shown) if 0 <= row < ROWS and facts.block_states[row] == LIVE}
    assert verdict.referenced == counted


@given(facts=any_facts())
def test_no_segment_in_use_is_taken_from_a_living_block(facts: Facts) -> None:
    verdict = judge(facts)
    assert not set(verdict.warm) & set(verdict.doomed)
    for row in verdict.living:
        segment = facts.block_segments[row] - 1
        if segment >= 0 and facts.segment_states[segment] == USED:
            assert segment not in verdict.warm
            assert segment not in verdict.doomed


@given(facts=any_facts())
def test_what_other_programs_may_have_open_is_never_used_again(facts: Facts) -> None:
    assert not [row for row in judge(facts).warm if facts.segment_exported[row]]


@given(facts=any_facts().filter(lambda facts: bool(facts.alive)))
def test_judging_what_was_carried_out_changes_nothing_more(facts: Facts) -> None:
    """So whoever is killed in the middle of recovery leaves the same work to the next."""
    first = judge(facts)
    second = judge(carried_out(facts, first))
    assert second.freed == second.emptied_names == second.doomed == []
    assert (second.living, second.named, second.referenced) == (first.living, first.named, first.referenced)
    assert second.warm == first.warm


@given(facts=any_facts().filter(lambda facts: bool(facts.alive)), data=st.data())
def test_carrying_a_verdict_out_half_way_leads_to_the_same_end(facts: Facts, data: st.DataObject) -> None:
    """A kill between two stores of ``rebuild``: what is left is judged alike."""
    verdict = judge(facts)
    part = verdict._replace(
        freed=verdict.freed[: data.draw(st.integers(0, len(verdict.freed)))],
        warm=verdict.warm[: data.draw(st.integers(0, len(verdict.warm)))],
        doomed=verdict.doomed[: data.draw(st.integers(0, len(verdict.doomed)))],
    )
    halfway = carried_out(facts, part)
    assert carried_out(halfway, judge(halfway)) == carried_out(facts, verdict)


@given(facts=any_facts())
def test_who_died_keeps_nothing(facts: Facts) -> None:
    """Without leases and with nobody alive, only names and linger times hold."""
    verdict = judge(facts._replace(alive=set(), leased=set()))
    held = set(verdict.named) | {
        row for row in range(ROWS) if facts.block_lingers[row] and facts.block_expiries[row] > NOW
    }
    for row in verdict.living:
        assert facts.block_states[row] == LIVE
        assert row in held or row in verdict.referenced
