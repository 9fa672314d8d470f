"""What holds the code in shape, checked on the source."""

from __future__ import annotations

import ast
import functools
import importlib
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shmplane.manifest import schema
from shmplane.tables import Table

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "shmplane"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Lines of code: documentation, comments and blank lines may take what they need.
LONGEST_MODULE = 300
#: What users hold is the manual: it has every public method in one place, each short, and leads to who does it.
FACES = {PACKAGE / "plane" / "plane.py"}
LONGEST_FACE, LONGEST_METHOD_OF_A_FACE = 400, 16
#: A safety comment stands at most this many lines above the statement that it is about.
NEAR = 6

#: Only ``shmplane/system`` talks to the kernel in these ways.
SYSTEM_MODULES = {"_posixshmem", "_posixsubprocess", "ctypes", "fcntl", "mmap"}
SYSTEM_CALLS = {
    "copy_file_range", "dup", "dup2", "fork", "ftruncate", "link", "memfd_create", "open", "pidfd_open",
    "posix_fallocate", "posix_madvise", "pread", "preadv", "pwrite", "pwritev", "register_at_fork",
    "sendfile", "splice", "truncate",
}  # fmt: skip

#: The columns of all tables of the manifest: words that all processes of a plane share.
COLUMNS = {name for table in Table.__subclasses__() if table.__module__ == schema.__name__ for name in table.declared}
#: Stored by the attachment where a transaction begins and ends: as calls they would be the dearest part of a small one.
MARKS = {"dirty", "holder", "scanned", "takes"}

#: What makes ctypes harmless: it describes types or loads a library, and touches no memory.
HARMLESS_CTYPES = {
    "CDLL", "CFUNCTYPE", "POINTER", "PyDLL", "Structure", "byref", "c_char_p", "c_int", "c_long",
    "c_longlong", "c_size_t", "c_uint32", "c_uint64", "c_ulong", "c_void_p", "create_string_buffer",
    "get_errno", "set_errno", "sizeof",
}  # fmt: skip
#: Names that mean a raw address or a fixed mapping wherever they occur.
RAW = {"MAP_FIXED", "addressof", "foreign_buffer", "from_address", "memmove", "memset", "string_at"}


@functools.cache
def source(module: Path) -> str:
    return module.read_text(encoding="utf-8")


@functools.cache
def tree(module: Path) -> ast.Module:
    return ast.parse(source(module), filename=str(module))


def name_of(module: Path) -> str:
    return str(module.relative_to(REPOSITORY))


def faults(modules: list[Path], found: Callable[[Path], Iterator[str]]) -> list[str]:
    """What is found in the modules, of which there are some, each with its place."""
    assert modules
    return [f"{name_of(module)}, {fault}" for module in modules for fault in found(module)]


def test_imports_go_one_way() -> None:
    run = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", run, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_are_entered_by_their_init() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("shmplane", cache_dir=None)
    entered_by_the_side_door = sorted(
        f"{importer} imports {imported}"
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.count(".") > 1 and importer.split(".")[:2] != imported.split(".")[:2]
    )
    assert entered_by_the_side_door == []


def test_a_module_is_short_enough_to_hold_one_idea() -> None:
    lengths = {module: len(_lines_of_code(source(module))) for module in MODULES}
    assert {
        name_of(module): length
        for module, length in lengths.items()
        if length > (LONGEST_FACE if module in FACES else LONGEST_MODULE)
    } == {}


@pytest.mark.parametrize("module", sorted(FACES), ids=name_of)
def test_a_face_only_leads_to_who_does_it(module: Path) -> None:
    lines = _lines_of_code(source(module))
    functions = [node for node in ast.walk(tree(module)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {node.name: len(lines & set(range(node.body[0].lineno, _last_line(node) + 1))) for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_METHOD_OF_A_FACE} == {}


def test_documentation_is_not_counted_as_code() -> None:
    text = '''"""A module\n\nof three lines."""\n\n# a comment\nx = """text\nof two lines"""  # and one\n\n\n'''
    text += '''def f() -> None:\n    """One sentence."""\n\n    return g(\n        x,\n    )\n'''
    assert _lines_of_code(text) == {6, 7, 10, 13, 14, 15}


def _lines_of_code(text: str) -> set[int]:
    """The lines on which a token stands that is neither a comment nor of a docstring."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in layout
        for line in range(token.start[0], token.end[0] + 1)
    }
    return lines - {line for node in ast.walk(ast.parse(text)) for line in _lines_of_docstring(node)}


def _lines_of_docstring(node: ast.AST) -> range:
    has_one = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(node, has_one) or ast.get_docstring(node, clean=False) is None:
        return range(0)
    return range(node.body[0].lineno, _last_line(node.body[0]) + 1)


def test_a_module_opens_with_its_theory() -> None:
    silent = [name_of(module) for module in MODULES if not ast.get_docstring(tree(module))]
    assert silent == [], "say what it is, its rules, what can race"


def test_only_the_system_package_makes_system_calls() -> None:
    outside = [path for path in MODULES if PACKAGE / "system" not in path.parents]
    assert faults(outside, lambda module: _system_calls(tree(module))) == []


def _system_calls(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(origin), level=0, names=names):
                imported = [origin, *(f"os.{alias.name}" for alias in names if origin == "os")]
            case ast.Attribute(value=ast.Name(id="os"), attr=call):
                imported = [f"os.{call}"]
            case _:
                continue
        for name in imported:
            if name.split(".")[0] in SYSTEM_MODULES or name.removeprefix("os.") in SYSTEM_CALLS:
                yield f"line {node.lineno}: {name}"


def test_only_the_manifest_package_stores_shared_words() -> None:
    outside = [path for path in MODULES if PACKAGE / "manifest" not in path.parents]
    assert faults(outside, _stores_outside) == []


def _stores_outside(module: Path) -> Iterator[str]:
    allowed = MARKS if module == PACKAGE / "plane" / "process" / "attachment.py" else set()
    return (store for store in _stores(tree(module)) if not any(f".{mark}[" in store for mark in allowed))


def test_a_store_is_seen_however_it_is_written() -> None:
    text = "tx.header.dirty[0] = 1\nblocks.referenced[row] -= 1\na.names.word[1], b = 2, 3\nself.leases[row] = lease"
    assert len(list(_stores(ast.parse(text)))) == 3


@pytest.mark.parametrize(("module", "reader"), [("reading", "Reader"), ("index", "NameLookup")])
def test_who_only_reads_the_manifest_cannot_write_it(module: str, reader: str) -> None:
    code = tree(PACKAGE / "manifest" / f"{module}.py")
    (found,) = [node for node in code.body if isinstance(node, ast.ClassDef) and node.name == reader]
    assert list(_stores(ast.Module([found], []))) == []


def _stores(module: ast.Module) -> Iterator[str]:
    """Assignments to a row of what is called like a column."""
    for node in ast.walk(module):
        match node:
            case ast.Subscript(value=ast.Attribute(attr=name), ctx=ast.Store()) if name in COLUMNS:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_what_is_used_of_a_late_module_is_public_there() -> None:
    """A late module has what its ``__all__`` says, and nothing else."""
    used = [
        (name_of(module), late, node.attr)
        for module in MODULES
        for variable, late in _late_modules(tree(module)).items()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == variable
    ]
    assert used
    assert [use for use in used if use[2] not in importlib.import_module(use[1]).__all__] == []


def _late_modules(module: ast.Module) -> dict[str, str]:
    """The modules that ``late`` makes, by the names that they have here."""
    return {
        variable: name
        for node in ast.walk(module)
        if isinstance(node, ast.Assign)
        for match_ in [re.fullmatch(r"(\w+) = late\('([\w.]+)'\)", ast.unparse(node))]
        if match_
        for variable, name in [match_.groups()]
    }


def test_every_raw_address_says_why_it_is_safe() -> None:
    dangerous = {f"{name_of(module)}:{line}" for module in MODULES for line in _dangerous_lines(module)}
    explained = {
        f"{name_of(module)}:{line}"
        for module in MODULES
        for line, end in _dangerous_lines(module).items()
        if _has_safety_comment(module, line, end)
    }
    assert dangerous - explained == set()
    assert dangerous, "the library lays mappings over each other; to find nothing is to look wrongly"


def _has_safety_comment(module: Path, line: int, end: int) -> bool:
    near = source(module).splitlines()[max(0, line - 1 - NEAR) : end]
    return any("# Safety:" in text for text in near)


@functools.cache
def _dangerous_lines(module: Path) -> dict[int, int]:
    """First and last line of each statement that calls into C or handles a raw address."""
    foreign = _foreign_functions(tree(module))
    found: dict[int, int] = {}
    for statement in _simple_statements(tree(module)):
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or _defines_a_constant(statement):
            continue
        if any(_is_dangerous(node, foreign) for part in _own_parts(statement) for node in ast.walk(part)):
            found[statement.lineno] = max(_last_line(part) for part in _own_parts(statement))
    return found


def _simple_statements(module: ast.Module) -> Iterator[ast.stmt]:
    return (node for node in ast.walk(module) if isinstance(node, ast.stmt))


def _own_parts(statement: ast.stmt) -> list[ast.AST]:
    """The expressions of a statement, without the statements inside it."""
    return [
        part
        for part in ast.iter_child_nodes(statement)
        if not isinstance(part, (ast.stmt, ast.ExceptHandler, ast.match_case, ast.arguments))
    ]


def _last_line(part: ast.AST) -> int:
    return getattr(part, "end_lineno", None) or 0


def _defines_a_constant(statement: ast.stmt) -> bool:
    """``MAP_FIXED = 0x10`` names the danger; it is not one."""
    match statement:
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            return isinstance(value, (ast.Constant, ast.List))
    return False


def _foreign_functions(module: ast.Module) -> set[str]:
    """Names bound to a loaded library, or to a function of one."""
    foreign: set[str] = set()
    for statement in module.body:
        if isinstance(statement, ast.Assign) and (
            _root(statement.value) in foreign or _loads_a_library(statement.value)
        ):
            foreign |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return foreign


def _loads_a_library(value: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"CDLL", "PyDLL"}
        for node in ast.walk(value)
    )


def _is_dangerous(node: ast.AST, foreign: set[str]) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.lstrip("_") in RAW:
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="ctypes"), attr=name)):
            return name not in HARMLESS_CTYPES
        case ast.Call(func=function):
            return _root(function) in foreign
    return False


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def test_tests_reach_inside_through_one_door() -> None:
    """What the package does not promise is asked for in ``tests/support/inside.py``, so that a move breaks one file."""
    doors = {"_attachment", "_facts", "_host_meter", "_host_permits", "_recent", "_roster", "_words"}
    reaching = sorted(
        f"{name_of(module)}:{node.lineno} {node.attr}"
        for module in (REPOSITORY / "tests").rglob("*.py")
        if module.name != "inside.py"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr in doors and not _is_of_self(node)
    )
    assert reaching == []


def _is_of_self(node: ast.Attribute) -> bool:
    """A test's own attribute, or one that it overrides."""
    match node.value:
        case ast.Name(id="self") | ast.Call(func=ast.Name(id="super")):
            return True
    return False


#: where an exception of a signal handler may come out of any call
ASKING = ("system", "manifest", "plane", "codecs", "files")


def test_every_except_asks_whose_exception_it_is() -> None:
    """``except own(OSError)`` and ``ignoring(OSError)``: what a signal handler raises passes them (see ``system.handlers``)."""
    modules = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in ASKING]
    assert {path.relative_to(PACKAGE).parts[0] for path in modules} == set(ASKING)
    assert faults(modules, lambda module: _unasking(tree(module))) == []


def _unasking(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.ExceptHandler(body=[ast.Raise(exc=None)]) | ast.ExceptHandler(type=ast.Name(id="BaseException")):
                continue  # it raises it again: the second kind is checked to do so by ruff (BLE001)
            case ast.ExceptHandler(type=ast.Call(func=ast.Name(id="own"))):
                continue
            case ast.ExceptHandler():
                yield f"line {node.lineno}: except {ast.unparse(node.type) if node.type else ''}"
            case ast.Name(id="suppress") | ast.Attribute(attr="suppress"):
                yield f"line {node.lineno}: suppress"
            # Each has an except of its own.
            case ast.Attribute(
                value=ast.Attribute(attr="path"), attr="exists" | "isdir" | "isfile" | "realpath" | "lexists"
            ):
                yield f"line {node.lineno}: os.path.{node.attr}: system.exists, or os.stat"
