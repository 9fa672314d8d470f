"""Tables: columns of aligned 8-byte words over shared memory.

A class that declares columns is the only description of a table; its size, the layout's fingerprint, the picture that
``doctor`` prints and the golden test all derive from it. Rows lie one behind the other, a column is a strided view, so
a row is one or two cache lines and a table grows by reserving what lies behind it.

Law: only one aligned 8-byte word is ever published at a time (measured: no torn read in 10^9 through
``memoryview.cast("Q")``; a row written as one ``struct`` of four fields is seen half-written).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Protocol, overload

__all__ = [
    "Column",
    "Table",
    "Text",
    "WORD_NBYTES",
    "column",
    "columns",
    "fingerprint",
    "text",
    "view_column",
    "viewed_lazily",
]

WORD_NBYTES = 8


class Column(Protocol):
    """One word per row."""

    @overload
    def __getitem__(self, row: int, /) -> int: ...
    @overload
    def __getitem__(self, rows: slice, /) -> Column: ...
    def __setitem__(self, row: int, value: int, /) -> None: ...
    def __len__(self) -> int: ...
    def tolist(self) -> list[int]: ...
    def tobytes(self) -> bytes: ...


class _Declared(NamedTuple):
    words: int
    meaning: str
    grouped: bool = False  #: columns of one meaning, not a text


def column(meaning: str) -> Any:
    """Declare a column; ``meaning`` says what the word is, its unit and who writes it."""
    return _Declared(1, meaning)


def columns(count: int, meaning: str) -> Any:
    """Declare ``count`` columns of one meaning: a tuple of them."""
    return _Declared(count, meaning, grouped=True)


def text(words: int, meaning: str) -> Any:
    """Declare ``words`` words of UTF-8 in each row."""
    return _Declared(words, meaning)


class Text:
    """Bytes of fixed room in each row; the length is kept in a column of its own.

    Attributes:
        memory: the whole file; a row's text starts at ``start + row * step`` of it and has at most ``room`` bytes.
    """

    __slots__ = ("memory", "room", "start", "step")

    def __init__(self, memory: memoryview, start: int, step: int, room: int) -> None:
        self.memory: memoryview = memory
        self.start: int = start
        self.step: int = step
        self.room: int = room

    def read(self, row: int, length: int) -> bytes:
        start = self.start + row * self.step
        return bytes(self.memory[start : start + min(length, self.room)])

    def write(self, row: int, data: bytes) -> None:
        start = self.start + row * self.step
        self.memory[start : start + len(data)] = data


def view_column(words: memoryview, first: int, step: int, rows: int) -> Column:
    """The words of one column. Tests put a column in its place that kills its process at the k-th store."""
    return words[first : first + max(0, (rows - 1) * step + 1) : step]


class Table:
    """Base of all tables; subclasses only declare columns.

    Attributes:
        start: the first word of the table.
        rows: how many rows there are.
    """

    start: int
    rows: int

    declared: ClassVar[dict[str, _Declared]] = {}
    row_words: ClassVar[int] = 0
    offsets: ClassVar[dict[str, int]] = {}  #: of each column in a row, in words

    def __init_subclass__(cls) -> None:
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, _Declared)}
        if not declared:
            return  # what ``viewed_lazily`` makes has the columns of its base
        cls.declared = declared
        for name in cls.declared:
            delattr(cls, name)
        cls.row_words, cls.offsets = 0, {}
        for name, item in cls.declared.items():
            cls.offsets[name] = cls.row_words
            cls.row_words += item.words

    def __init__(self, words: memoryview, start: int, rows: int) -> None:
        self._words, self.start, self.rows = words, start, rows
        for name in self.declared:
            setattr(self, name, self._view(name))

    def _view(self, name: str) -> Any:
        item, words, step = self.declared[name], self._words, self.row_words
        position = self.start + self.offsets[name]
        if item.grouped:
            return tuple(view_column(words, position + index, step, self.rows) for index in range(item.words))
        if item.words == 1:
            return view_column(words, position, step, self.rows)
        return Text(words.cast("B"), position * WORD_NBYTES, step * WORD_NBYTES, item.words * WORD_NBYTES)

    def span(self, row: int, rows: int) -> tuple[int, int]:
        """Offset and length in bytes of ``rows`` rows from ``row``."""
        width = self.row_words * WORD_NBYTES
        return self.start * WORD_NBYTES + row * width, rows * width

    @classmethod
    def describe(cls) -> Iterator[tuple[str, int, str]]:
        """Name, words and meaning of each column, in order."""
        for name, item in cls.declared.items():
            yield name, item.words, item.meaning


class _Lazy:
    """Columns that are viewed when they are first asked for.

    Not in every table: a class with ``__getattr__`` makes each access of a column slower.
    """

    def __init__(self, words: memoryview, start: int, rows: int) -> None:
        self._words, self.start, self.rows = words, start, rows

    def __getattr__(self, name: str) -> Any:
        if name not in type(self).declared:  # type: ignore[attr-defined]
            raise AttributeError(f"{type(self).__name__} has no column {name!r}")
        found = self._view(name)
        setattr(self, name, found)
        return found


_lazy: dict[str, Any] = {}


def viewed_lazily(table: type[Table]) -> Any:
    """The same table for a copy that few columns are read of: they are viewed when they are first asked for."""
    name = f"{table.__module__}.{table.__name__}"
    return _lazy[name] if name in _lazy else _lazy.setdefault(name, type(table.__name__, (_Lazy, table), {}))


def fingerprint(tables: list[type[Table]]) -> int:
    """A number that changes when any column is added, moved or resized."""
    drawing = ";".join(
        f"{table.__name__}({','.join(f'{name}:{words}' for name, words, _ in table.describe())})" for table in tables
    )
    return zlib.crc32(drawing.encode()) << 32 | zlib.adler32(drawing.encode())
