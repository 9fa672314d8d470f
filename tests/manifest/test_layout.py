"""The binary format against a picture of it that is checked in: a change of the format is never an accident."""

from __future__ import annotations

from pathlib import Path

from shmplane.manifest import (
    BLOCK_STATES,
    CELL_NBYTES,
    FORMAT,
    KINDS,
    MAX_METERS,
    MAX_REFERENCES,
    METER_WORDS,
    SEGMENT_STATES,
    Manifest,
    fingerprint_of_format,
)
from shmplane.observe import describe_format

GOLDEN = Path(__file__).with_name("layout.txt")
_HOW_TO_CHANGE = """\
# The format of a plane's manifest. The test in test_layout.py compares it with the classes that declare it.
#
# A process must never read a plane of another layout. So when this picture changes on purpose:
#   1. raise FORMAT (shmplane/manifest/store.py), once for each release that changes it;
#   2. python -m tests.manifest.test_layout > tests/manifest/layout.txt
#   3. say it in CHANGELOG.md: planes of earlier releases have to be removed or read with those.
"""


def picture() -> str:
    lines = [_HOW_TO_CHANGE, f"format {FORMAT}", f"fingerprint {fingerprint_of_format():#018x}", ""]
    for table in describe_format():
        lines.append(f"{table.name}, {table.row_nbytes} B a row")
        lines += [f"    {column.offset:4} {column.name}" for column in table.columns]
    codes = {"block states": BLOCK_STATES, "segment states": SEGMENT_STATES, "kinds": KINDS}
    lines += [
        "",
        *(f"{what}: {', '.join(f'{code} {name}' for code, name in of.items())}" for what, of in codes.items()),
    ]
    lines.append(f"{MAX_REFERENCES} references a block, {MAX_METERS} meters of {METER_WORDS} words")
    lines.append(f"cells: {' '.join(map(str, CELL_NBYTES))}")
    return "\n".join(lines) + "\n"


def test_the_layout_is_the_one_that_was_agreed_on() -> None:
    assert picture() == GOLDEN.read_text(encoding="utf-8"), "on purpose? layout.txt says in its first lines what to do"


def test_no_two_tables_of_a_manifest_overlap(manifest: Manifest) -> None:
    placed = [table for table in describe_format(manifest) if table.start is not None and table.rows is not None]
    end = 0
    for table in placed:
        assert table.start is not None
        assert table.rows is not None
        assert table.start % 4096 == 0
        assert table.start >= end
        end = table.start + table.rows * table.row_nbytes
    assert end <= manifest.nbytes


if __name__ == "__main__":
    print(picture(), end="")
