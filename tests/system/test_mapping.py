"""A private mapping that is lent for edit after edit."""

from __future__ import annotations

from shmplane.system import PrivateMapping
from tests.support.inside import loans_remembered


def test_loans_that_have_ended_are_not_remembered_however_many_there_were() -> None:
    mapping = PrivateMapping(4096)
    kept = mapping.lend()
    for _ in range(100):
        mapping.lend().release()
    assert mapping.loans == 101
    assert mapping.is_lent
    assert loans_remembered(mapping) <= 2
    del kept
    assert not mapping.is_lent
