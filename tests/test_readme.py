"""The code of the README and of the other pages runs as printed, and passes mypy in strict mode and pyright.

Blocks of Python under one heading share a namespace, as a reader would type them one after the other. A block
that cannot run here has an HTML comment with the reason above it: ``<!-- no-run: needs two hosts -->``; its types are
checked all the same.
"""

from __future__ import annotations

import re
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkers import mypy_faults, pyright_faults
from tests.support.processes import run_python

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
PAGES = [
    README,
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "bench" / "README.md",
    REPOSITORY / "shmplane" / "DESIGN.md",
    REPOSITORY / "shmplane" / "GUIDE.md",
    REPOSITORY / "shmplane" / "connections" / "README.md",
]
MOST_LINES_OF_THE_README = 250
DEADLINE_S = 60

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


EXAMPLES = examples_of_pages()
TYPED = examples_of_pages(all_of_them=True)


def test_every_page_is_tested() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if (REPOSITORY / ".git").exists():  # not in a source distribution
        assert {REPOSITORY / line for line in tracked.stdout.splitlines()} - {REPOSITORY / "CHANGELOG.md"} == set(PAGES)
    assert {example.page for example in EXAMPLES} >= {
        "README.md",
        "shmplane/GUIDE.md",
        "shmplane/connections/README.md",
    }


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_THE_README


@pytest.mark.parametrize(
    "command", ["pip install -e '.[all]' && shmplane demo", "pip install -e '.[all,test]' && pytest"]
)
def test_the_readme_has_the_two_commands(command: str) -> None:
    assert command in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"`([\w./]+/[\w.]*|[\w/]+\.(?:py|ipynb|toml))`", prose))
    folders = REPOSITORY, REPOSITORY / "shmplane", REPOSITORY / "tests"
    assert [path for path in named if not any((folder / path).exists() for folder in folders)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.page}:{example.line}-{example.heading}")
def test_an_example_runs(example: Example, plane_root: Path, tmp_path: Path) -> None:
    # A file, not -c: examples start processes by the spawn method, which imports the main module again.
    script = tmp_path / "example.py"
    script.write_text(example.source, encoding="utf-8")
    run_python(script, deadline=DEADLINE_S, cwd=tmp_path)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Each example as a file, whose lines are those of its page."""
    folder = tmp_path_factory.mktemp("typed")
    files = [folder / example.file_name for example in TYPED]
    for file, example in zip(files, TYPED, strict=True):
        file.write_text(example.source + "\n", encoding="utf-8")
    return files


@pytest.mark.timeout(300)
def test_the_examples_pass_mypy_in_strict_mode(typed: list[Path]) -> None:
    assert len(typed) >= len(EXAMPLES)
    assert mypy_faults(*typed) == ""


@pytest.mark.timeout(300)
def test_the_examples_pass_pyright(typed: list[Path]) -> None:
    assert pyright_faults(typed[0].parent) == []


@pytest.mark.timeout(300)
def test_both_checkers_find_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text('import shmplane\n\nwith shmplane.Plane("x") as plane:\n    plane.put(3, 3)\n', encoding="utf-8")
    assert "wrong.py:4" in mypy_faults(wrong)
    assert [fault.split(": ")[0] for fault in pyright_faults(tmp_path)] == ["wrong.py:4"]


def test_blocks_below_one_heading_run_together_and_keep_their_lines() -> None:
    text = "# A\n```python\nx = 1\n```\ntext\n```python\nprint(x)\n```\n## B\n```python\ny = 2\n```\n"
    first, second = examples(text)
    assert first.source.splitlines() == ["", "", "x = 1", "", "", "", "print(x)"]
    assert (second.heading, second.source.strip()) == ("B", "y = 2")


def test_a_block_with_a_reason_above_it_does_not_run() -> None:
    text = "# A\n<!-- no-run: needs two hosts -->\n```python\nfail()\n```\n```text\nnot python\n```\n"
    assert examples(text) == []
    assert len(examples(text, all_of_them=True)) == 1


def test_a_hash_in_a_block_is_no_heading() -> None:
    text = "# A\n```python\n# comment\nx = 1\n```\n```python\nx\n```\n"
    assert [example.heading for example in examples(text)] == ["A"]
