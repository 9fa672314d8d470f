"""Tickets, as anybody may send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmplane.flight import Request, pack_ticket, parse_ticket


@pytest.mark.parametrize(
    "request_",
    [
        Request("prices"),
        Request("prices/2026:é"),
        Request("prices", ("a", "b")),
        Request("prices", (), (0, 10)),
        Request("prices", None, (5, 5)),
    ],
)
def test_a_ticket_says_what_was_asked_for(request_: Request) -> None:
    assert parse_ticket(pack_ticket(request_)) == request_


def test_a_plain_request_is_the_name_alone() -> None:
    assert pack_ticket(Request("prices/2026")) == b"prices/2026"


@pytest.mark.parametrize(
    "ticket",
    [
        b"",
        b"\xff",
        b"a\nb",
        b"x" * 121,
        b"\0",
        b"\0{",
        b"\0[]",
        b"\0null",
        b"\0" + b"[" * 100_000,
        b'\0{"columns": []}',
        b'\0{"name": 1}',
        b'\0{"name": ""}',
        b'\0{"name": "x", "columns": "ab"}',
        b'\0{"name": "x", "columns": [1]}',
        b'\0{"name": "x", "rows": [1]}',
        b'\0{"name": "x", "rows": [2, 1]}',
        b'\0{"name": "x", "rows": [-1, 1]}',
        b'\0{"name": "x", "rows": [true, 1]}',
        b'\0{"name": "x", "rows": [0, 1e9]}',
        b'\0{"name": "x", "path": "/etc/passwd"}',
        b'\0{"name": "x", "columns": ["' + b"c" * 300_000 + b'"]}',
    ],
)
def test_what_is_no_ticket_is_refused(ticket: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_ticket(ticket)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(ticket: bytes) -> None:
    try:
        found = parse_ticket(ticket)
    except (ValueError, TypeError):
        return
    assert parse_ticket(pack_ticket(found)) == found
