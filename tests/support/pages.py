"""The pages of documentation, and the Python in them.

Blocks of Python under one heading share a namespace, as a reader would type them one after the other. A block
that cannot run here has an HTML comment with the reason above it: ``<!-- no-run: needs two hosts -->``; its types are
checked all the same.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
PAGES = [
    README,
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "bench" / "README.md",
    REPOSITORY / "shmplane" / "DESIGN.md",
    REPOSITORY / "shmplane" / "GUIDE.md",
    REPOSITORY / "shmplane" / "connections" / "README.md",
]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)")
_NO_RUN = re.compile(r"<!-- no-run: \S.* -->")


@dataclass(frozen=True, slots=True)
class Example:
    """The blocks below one heading, each line at its place in the page, so that tracebacks point there."""

    heading: str
    line: int
    source: str
    page: str = ""

    @property
    def file_name(self) -> str:
        return f"{re.sub(r'[^a-z]', '_', self.page.lower())}_{self.line}.py"


def examples(text: str, *, all_of_them: bool = False, page: str = "") -> list[Example]:
    """Those that run, or also those that cannot run here."""
    lines = text.splitlines()
    found: dict[tuple[int, str], list[str]] = {}
    heading, at, above = "", 1, ""
    number = 0
    while number < len(lines):
        line = lines[number]
        fence = _FENCE.match(line)
        if fence:
            first = number + 1
            number = next(n for n in range(first, len(lines)) if lines[n].strip() == "```")
            if fence["language"] == "python" and (all_of_them or not _NO_RUN.fullmatch(above)):
                script = found.setdefault((at, heading), [])
                script += [""] * (first - len(script))
                script += textwrap.dedent("\n".join(lines[first:number])).splitlines()
        elif line.startswith("#"):
            heading, at = line.lstrip("# "), number + 1
        above = line.strip() or above
        number += 1
    return [Example(heading, line, "\n".join(script), page) for (line, heading), script in found.items()]


def examples_of_pages(*, all_of_them: bool = False) -> list[Example]:
    return [
        example
        for page in PAGES
        for example in examples(
            page.read_text(encoding="utf-8"), all_of_them=all_of_them, page=str(page.relative_to(REPOSITORY))
        )
    ]
