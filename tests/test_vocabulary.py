"""One word for each idea: words that were retired do not come back in names of modules, classes, functions, attributes.

Names are split into words, so ``let_go``, ``_LetGo`` and ``lets_go_on`` are told apart. Local variables are free.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "shmplane"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: what is not said any more, and what is said instead; "=" before it: only where it is the whole name
RETIRED = {
    # Give back what dead processes held; *recovery* is for the dirty word.
    "reap": "reclaim", "reaps": "reclaims", "reaped": "reclaimed", "reaper": "reclaim",
    "collect": "reclaim", "collecting": "reclaim",
    "cool": "reclaim", "cooled": "reclaimed", "dissolve": "reclaim", "dissolved": "reclaimed",
    # End one's own claim.
    "let go": "release or free", "lets go": "releases", "unhold": "release",
    "give back": "release", "given back": "released",
    # Undo what is unfinished.
    "give up": "abandon", "given up": "abandoned", "take back": "abandon", "withdraw": "abandon",
    "return small": "abandon", "return pages": "abandon",
    # Make a row or segment reusable.
    "retire": "free", "retired": "freed", "bury": "free", "buried": "freed", "exhume": "reuse",
    # Remove a file; the state of its segment is DOOMED.
    "doom": "remove",
    # This process in a plane is its attachment; a part is a block that others show pieces of.
    "take part": "take_slot", "taking part": "attached", "taken part": "attached", "local part": "permits",
    "=hold": "open", "holdings": "claims",
    # Threads and workers are no employees.
    "crew": "workers", "hire": "start", "hired": "started", "hiring": "starting", "staff": "threads",
    "=hand": "worker", "=hands": "workers", "dismiss": "stop", "dismissed": "stopped",
    "shell": "base", "front": "base",
    # What says what it does.
    "calm": "needs_no_plan", "lower": "to_arrow", "elevate": "from_arrow",
}  # fmt: skip
#: names of modules say what is in them, not that somebody is doing it
RETIRED_MODULES = {"opening": "open", "frame": "envelope", "frames": "origin", "coordinated": "coordination"}

#: Where a word means something else: a place, and names in it.
ALLOWED: dict[str, set[str]] = {
    "shmplane/integrations/prometheus/collector.py": {"collect"},  # what prometheus_client calls
    "shmplane/integrations/prometheus/using.py": {"collect"},
    "shmplane/manifest/policies/fifo.py": {"_hand"},  # of a clock
}


def name_of(module: Path) -> str:
    return str(module.relative_to(REPOSITORY))


@functools.cache
def words_of(name: str) -> tuple[str, ...]:
    """``_LetGo`` is let, go; ``takes_part_in`` is takes, part, in."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name))


def retired_in(name: str) -> Iterator[str]:
    words = words_of(name)
    for wrong, right in RETIRED.items():
        parts = tuple(wrong.removeprefix("=").split())
        if words == parts or (
            not wrong.startswith("=")
            and any(words[start : start + len(parts)] == parts for start in range(len(words) - len(parts) + 1))
        ):
            yield f"{name}: say {right}, not {' '.join(parts)}"


def names_in(module: ast.Module) -> Iterator[str]:
    """What a module defines: classes, functions, attributes of objects, and what stands at its top."""
    for node in ast.walk(module):
        match node:
            case ast.ClassDef(name=name, body=body):
                yield name
                yield from _assigned(body)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
    yield from _assigned(module.body)


def _assigned(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def offences(module: Path) -> list[str]:
    text = module.read_text(encoding="utf-8")
    allowed = ALLOWED.get(name_of(module), set())
    found = {wrong for name in set(names_in(ast.parse(text))) - allowed for wrong in retired_in(name)}
    if module.stem in RETIRED_MODULES:
        found.add(f"{module.name}: call it {RETIRED_MODULES[module.stem]}")
    return sorted(found | set(retired_in(module.stem)))


def test_no_name_has_a_word_that_was_retired() -> None:
    assert MODULES
    assert {name_of(module): found for module in MODULES if (found := offences(module))} == {}


def test_what_is_allowed_is_there() -> None:
    for place, names in ALLOWED.items():
        assert names <= set(names_in(ast.parse((REPOSITORY / place).read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("_LetGo", ("let", "go")),
        ("take_part", ("take", "part")),
        ("MAX_IDS", ("max", "ids")),
        ("OFDLock", ("ofd", "lock")),
    ],
)
def test_a_name_is_made_of_words(name: str, words: tuple[str, ...]) -> None:
    assert words_of(name) == words


def test_a_word_is_found_in_a_name_and_not_within_another_word() -> None:
    assert list(retired_in("reap_dead"))
    assert list(retired_in("TakePart"))
    assert not list(retired_in("reappear"))
    assert not list(retired_in("outlet_gone"))
    assert list(retired_in("_hold"))
    assert not list(retired_in("hold_imports"))
