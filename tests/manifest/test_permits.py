"""Permits and tickets in shared memory: who may take one, in which order, and what the dead give back."""

from __future__ import annotations

import pytest

from shmplane import PlaneFull
from shmplane.manifest import NO_TICKET, Coordination, Manifest, watch_bit


def process(manifest: Manifest, slot: int) -> Coordination:
    """What the process of ``slot`` sees."""
    manifest.processes.state[slot] = 1
    made = Coordination(manifest)
    made.slot = slot
    made.back_rows()
    return made


@pytest.fixture
def processes(manifest: Manifest) -> list[Coordination]:
    return [process(manifest, slot) for slot in range(4)]


def test_as_many_permits_can_be_taken_as_there_are(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 2)
    taken = [each.try_take(row, NO_TICKET, 0) for each in processes]
    assert taken == [True, True, False, False]
    assert processes[3].free(row) == 0
    assert processes[3].holders(row) == {0: 1, 1: 1}
    processes[0].give(row)
    assert processes[2].try_take(row, NO_TICKET, 0)


def test_who_stands_in_line_comes_before_who_does_not(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 1)
    assert processes[0].try_take(row, NO_TICKET, 0)
    ticket = processes[1].new_ticket()
    processes[1].show_ticket(row, ticket)
    processes[0].give(row)
    assert not processes[2].try_take(row, NO_TICKET, 0)
    assert processes[1].try_take(row, ticket, 0)


def test_the_line_is_served_in_the_order_of_its_tickets(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 1)
    assert processes[0].try_take(row, NO_TICKET, 0)
    tickets = {slot: processes[slot].new_ticket() for slot in (3, 1, 2)}
    for slot, ticket in tickets.items():
        processes[slot].show_ticket(row, ticket)
    assert processes[0].waiting_elsewhere(row) == 3
    giver, order = 0, []
    for _ in tickets:
        processes[giver].give(row)
        (winner,) = [slot for slot, ticket in tickets.items() if processes[slot].try_take(row, ticket, 0)]
        processes[winner].show_ticket(row, 0)
        tickets[winner] = NO_TICKET
        order.append(winner)
        giver = winner
    assert order == [3, 1, 2]


def test_who_stands_behind_others_of_its_own_process_waits_for_them(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 1)
    assert not processes[0].try_take(row, processes[0].new_ticket(), ahead=1)


def test_giving_a_permit_wakes_whose_turn_it_is_and_nobody_else(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 1)
    assert processes[0].try_take(row, NO_TICKET, 0)
    for slot in (2, 1):
        processes[slot].show_ticket(row, processes[slot].new_ticket())
    processes[0].woken.clear()
    processes[0].give(row)
    assert processes[0].woken == {2}


def test_more_permits_wake_more(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 1)
    assert processes[0].try_take(row, NO_TICKET, 0)
    for slot in (1, 2, 3):
        processes[slot].show_ticket(row, processes[slot].new_ticket())
    processes[0].woken.clear()
    processes[0].resize(row, 3)
    assert processes[0].woken == {1, 2}


def test_fewer_permits_than_are_held_are_owed(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 2)
    assert all(each.try_take(row, NO_TICKET, 0) for each in processes[:2])
    processes[0].resize(row, 1)
    assert processes[0].free(row) == -1
    processes[0].give(row)
    assert not processes[2].try_take(row, NO_TICKET, 0)


def test_who_does_not_take_its_turn_is_passed_over_and_comes_first_when_it_goes_on(
    processes: list[Coordination], manifest: Manifest
) -> None:
    row = processes[0].open(b"s:x", 1)
    stopped, other = processes[1].new_ticket(), processes[2].new_ticket()
    processes[1].show_ticket(row, stopped)
    processes[2].show_ticket(row, other)
    assert not processes[2].try_take(row, other, 0)
    manifest.semaphores.freed[row] -= 1_000_000_001  # free for a second
    assert processes[2].try_take(row, other, 0)
    processes[2].show_ticket(row, 0)
    processes[2].give(row)
    assert processes[3].try_take(row, processes[3].new_ticket(), 0), "who was passed over holds up nobody"
    processes[1].show_ticket(row, stopped)
    processes[3].give(row)
    assert not processes[2].try_take(row, processes[2].new_ticket(), 0)
    assert processes[1].try_take(row, stopped, 0)


def test_what_a_dead_process_held_and_waited_for_comes_back(processes: list[Coordination], manifest: Manifest) -> None:
    rows = [processes[0].open(b"s:%d" % number, 1) for number in range(3)]
    assert all(processes[1].try_take(row, NO_TICKET, 0) for row in rows[:2])
    processes[1].show_ticket(rows[2], processes[1].new_ticket())
    processes[2].show_ticket(rows[0], processes[2].new_ticket())
    processes[0].woken.clear()
    assert processes[0].clear(1) == 2
    assert [processes[0].free(row) for row in rows] == [1, 1, 1]
    assert processes[0].woken == {2}
    assert processes[0].clear(1) == 0
    assert manifest.processes.coordinates[1] == 0


def test_a_process_that_joins_in_the_slot_of_another_holds_nothing(
    processes: list[Coordination], manifest: Manifest
) -> None:
    row = processes[0].open(b"s:x", 1)
    manifest.permit_rows(1)[0][row] = 7
    manifest.processes.coordinates[1] = 0
    process(manifest, 1)
    assert manifest.permit_rows(1)[0][row] == 0


def test_a_semaphore_keeps_its_count_while_anybody_uses_it(processes: list[Coordination]) -> None:
    row = processes[0].open(b"s:x", 2)
    assert processes[0].try_take(row, NO_TICKET, 0)
    assert processes[1].open(b"s:x", 5) == row
    assert processes[1].permits(row) == 2
    processes[0].give(row)
    processes[1].open(b"s:x", 5)
    assert processes[0].permits(row) == 5


def test_rows_that_nobody_uses_are_used_again_and_say_so_by_their_generation(
    processes: list[Coordination], manifest: Manifest
) -> None:
    one = processes[0]
    kept = one.open(b"s:kept", 1)
    assert one.try_take(kept, NO_TICKET, 0)
    rows = [one.open(b"s:%d" % number, 1) for number in range(manifest.semaphores.rows - 1)]
    generation = one.generation(rows[0])
    assert one.open(b"s:new", 1) == rows[0]
    assert not one.is_current(rows[0], generation)
    assert one.find(b"s:0") == -1
    assert one.find(b"s:kept") == kept


def test_when_all_semaphores_are_in_use_the_plane_is_full(processes: list[Coordination], manifest: Manifest) -> None:
    one = processes[0]
    for number in range(manifest.semaphores.rows):
        assert one.try_take(one.open(b"s:%d" % number, 1), NO_TICKET, 0)
    with pytest.raises(PlaneFull, match="release some"):
        one.open(b"s:one more", 1)


def test_a_new_version_wakes_those_who_watch_a_name_of_that_hash(
    processes: list[Coordination], manifest: Manifest
) -> None:
    processes[1].watch(watch_bit(7))
    processes[2].watch(watch_bit(8))
    assert manifest.header.watchers[0] == 2
    processes[0].woken.clear()
    processes[0].wake_watchers(7)
    assert processes[0].woken == {1}
    processes[1].watch(0)
    assert manifest.header.watchers[0] == 1
    processes[0].wake_everybody()
    assert processes[0].woken == {0, 1, 2, 3}
