"""The table and the JSON file. A target that was not reached, and a case that failed, are shown as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.harness import Row

HEADER = ("what", "ours", "target", "baseline", "peers in this run", "verdict")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case gave: rows, or the error that ended it after them."""

    case: str
    rows: list[Row]
    seconds: float
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "seconds": round(self.seconds, 2),
            "rows": [row.as_dict() for row in self.rows],
            "error": self.error,
        }


def show_table(outcomes: list[Outcome]) -> str:
    """A Markdown table, aligned for reading as plain text."""
    lines = [HEADER, *(line for outcome in outcomes for line in _lines(outcome))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
             for line in lines]  # fmt: skip
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(shown)


def count(outcomes: list[Outcome]) -> str:
    """One sentence: how many targets were met, missed, and how many cases failed."""
    verdicts = [row.met for outcome in outcomes for row in outcome.rows]
    failed = sum(outcome.error is not None for outcome in outcomes)
    return f"{verdicts.count(True)} targets met, {verdicts.count(False)} missed, {failed} cases failed"


def _lines(outcome: Outcome) -> list[tuple[str, ...]]:
    lines = [_line(row) for row in outcome.rows]
    if outcome.error:
        lines.append((outcome.case, "ERROR", "", "", outcome.error.splitlines()[-1][:100], "ERROR"))
    return lines


def _line(row: Row) -> tuple[str, ...]:
    ours = _figure(row.value, row.unit) + (f" ({row.ours})" if row.ours else "")
    peers = ", ".join(f"{name} {_figure(value, row.unit)}" for name, value in row.peers.items())
    target = "" if row.target is None else f"<= {_figure(row.target, row.unit)}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return (row.what + (f" [{row.note}]" if row.note else ""), ours, target, row.baseline, peers, verdict)


def _figure(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".strip()
