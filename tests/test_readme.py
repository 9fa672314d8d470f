"""The code of the README and of the other pages runs as printed, and what they name and link to is there.

``tests/types`` checks its types.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from shmplane.manifest import FORMAT
from tests.support.pages import PAGES, README, REPOSITORY, Example, examples, examples_of_pages
from tests.support.processes import run_python

MOST_LINES_OF_THE_README = 250
DEADLINE_S = 60
#: of the README, run by a test of its own
TWO_PROCESSES = "Two processes"
EXAMPLES = [example for example in examples_of_pages() if example.heading != TWO_PROCESSES]


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


def test_the_two_processes_of_the_readme_share_a_data_frame(plane_root: Path, tmp_path: Path) -> None:
    section = README.read_text(encoding="utf-8").split(f"\n## {TWO_PROCESSES}\n")[1].split("\n## ")[0]
    sources = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(sources) == 2
    for number, source in enumerate(sources):
        script = tmp_path / f"terminal_{number}.py"
        script.write_text(source, encoding="utf-8")
        printed = run_python(script, deadline=DEADLINE_S, cwd=tmp_path).stdout
    assert "151.75" in printed
    assert "fee" in printed


def test_the_readme_has_the_number_of_the_format() -> None:
    assert f"now number {FORMAT}." in README.read_text(encoding="utf-8")


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
