"""``TableDraft``: another set of columns and rows, in which what was not touched is shared with the version before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ... import codecs
from ...manifest import MAX_REFERENCES, SMALL_NBYTES
from ..blocks.publish import contents_of, store
from .draft import Draft
from .versions import TableVersion, store_composition

if TYPE_CHECKING:
    import pyarrow as pa

    from ...codecs import Composition
    from ..blocks.claims import Lease
    from ..process.attachment import Attachment

__all__ = ["TableDraft"]

#: what a chain of edits may hold beside twice what lives
_SPARE_NBYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class _New:
    """A piece of a column that the draft brings. Those of one group have the same rows and become one part.

    The group of a whole column is its length; that of added rows is negative.
    """

    group: int
    array: pa.ChunkedArray


@dataclass(frozen=True, eq=False)
class _Column:
    label: Any
    how: Any  #: the pandas recipe of the column
    field: pa.Field
    pieces: tuple[codecs.Piece | _New, ...]
    is_index: bool = field(default=False, kw_only=True)


class TableDraft(Draft, kinds=("table",)):
    """Private changes to a table: its columns by name, and rows at its end.

    ``draft["fee"] = column`` replaces or adds, ``del draft["fee"]``, ``draft.append(rows)``, ``draft.rename({"a": "b"})``.
    Untouched columns and row groups are shared with the old version, not copied; the commit writes what is new.
    A table from pandas or Polars keeps its kind. ``draft.table`` is a preview in Arrow.
    """

    _called = "a table"
    _use = "draft.table, draft[name] = column, draft.append(rows), draft.rename(names)"

    def __init__(self, attachment: Attachment, name: str, base: Lease) -> None:
        super().__init__(attachment, name, base)
        self._old = TableVersion(base)
        said, schema = self._old.said, self._old.schema
        labels = codecs.labels_of(said.origin, schema)
        self._num_rows = said.num_rows
        self._columns = [
            _Column(label, how, schema.field(at), said.columns[at]) for at, (label, how) in enumerate(labels)
        ] + [
            _Column(None, None, schema.field(at), said.columns[at], is_index=True)
            for at in range(len(labels), len(schema))
        ]
        self._groups = 0
        self._touched = False
        self._table: pa.Table | None = None

    @property
    def table(self) -> pa.Table:
        """The table as it would be published, zero-copy."""
        with self._mutex:
            self._check_open()
            if self._table is None:
                self._table = self._assemble()
            return self._table

    @property
    def column_names(self) -> list[Any]:
        """The names of the columns, without those of a pandas index."""
        self._check_open()
        return [column.label for column in self._columns if not column.is_index]

    def __getitem__(self, name: Any) -> pa.ChunkedArray:
        """A column as it is now."""
        return self.table.column(self._find(name))

    def __contains__(self, name: object) -> bool:
        return name in self.column_names

    def __setitem__(self, name: Any, values: Any) -> None:
        """Replace or add a column: an array or column of any library, or a list, of one value a row; or one value for all.

        In a table from pandas, a pandas Series goes by the labels of its rows, as in pandas; anything else by position.

        Raises:
            ValueError: it has another length, or no row for some of the table's labels.
            UnsupportedValue: it cannot be stored.
        """
        with self._mutex:
            self._check_open()
            import pyarrow as pa

            values = codecs.align_column(self._old.said.origin, name, values, lambda: self.table)
            array, how = codecs.column_to_arrow(self._old.said.origin, name, values, num_rows=self._num_rows)
            if len(array) != self._num_rows and self._columns:
                raise ValueError(f"column {name!r} has {len(array):,} values and the table {self._num_rows:,} rows")
            column = _Column(name, how, pa.field(codecs.title_of(name), array.type), (_New(len(array), array),))
            names = self.column_names
            changed = list(self._columns)
            if name in names:
                changed[self._find(name)] = column
            else:
                changed.insert(len(names), column)
            codecs.check_labels(self._old.said.origin, [each.label for each in changed if not each.is_index])
            self._change(changed, len(array))

    def __delitem__(self, name: Any) -> None:
        """Leave a column out; ``KeyError`` when there is none of that name."""
        with self._mutex:
            self._check_open()
            at = self._find(name)
            changed = self._columns[:at] + self._columns[at + 1 :]
            codecs.check_labels(self._old.said.origin, [each.label for each in changed if not each.is_index])
            self._change(changed, self._num_rows)

    def rename(self, names: Mapping[Any, Any]) -> None:
        """Give columns other names; ``KeyError`` for one that is not there, ``ValueError`` when two would be the same."""
        with self._mutex:
            self._check_open()
            new = {self._find(old): name for old, name in names.items()}
            changed = [
                replace(column, label=new[at], field=column.field.with_name(codecs.title_of(new[at])))
                if at in new
                else column
                for at, column in enumerate(self._columns)
            ]
            codecs.check_labels(self._old.said.origin, [each.label for each in changed if not each.is_index])
            if any(old != name for old, name in names.items()):
                self._change(changed, self._num_rows)

    def append(self, rows: Any) -> None:
        """Add rows at the end; ``ValueError`` naming the field when they are of another schema."""
        with self._mutex:
            self._check_open()
            said = self._said()
            table = codecs.align_rows(rows, codecs.form_of(said), lambda: self.table.slice(0, 0))
            if not table.num_rows:
                return
            group = self._groups = self._groups + 1
            changed = [
                replace(column, pieces=(*column.pieces, _New(-group, array)))
                for column, array in zip(self._columns, table.columns, strict=True)
            ]
            total = self._num_rows + table.num_rows
            self._change(changed, total)

    # The new version

    def _find(self, name: Any) -> int:
        self._check_open()
        for at, column in enumerate(self._columns):
            if not column.is_index and column.label == name:
                return at
        raise KeyError(f"the table has no column {name!r}; it has {', '.join(map(repr, self.column_names))}")

    def _change(self, columns: list[_Column], num_rows: int) -> None:
        self._columns, self._num_rows = columns, num_rows
        self._touched, self._table = True, None

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        old = self._old.schema
        labels = [(column.label, column.how) for column in self._columns if not column.is_index]
        metadata = codecs.metadata_with(self._old.said.origin, old, labels) if self._touched else old.metadata
        return pa.schema([column.field for column in self._columns], metadata=metadata)

    def _said(self) -> Composition:
        """What the draft is, but for its pieces."""
        return self._old.said._replace(num_rows=self._num_rows, schema=self._schema().serialize().to_pybytes())

    def _assemble(self) -> pa.Table:
        import pyarrow as pa

        found = self._old.read(
            piece for column in self._columns for piece in column.pieces if isinstance(piece, codecs.Piece)
        )
        arrays = [
            codecs.join_chunks(
                column.field,
                (found[piece] if isinstance(piece, codecs.Piece) else piece.array for piece in column.pieces),
                self._num_rows,
            )
            for column in self._columns
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema())

    def _publish(self) -> Lease | None:
        if not self._touched:
            return None
        said, table, sources = self._said(), self.table, self._old.sources
        nbytes = codecs.nbytes_of(table)
        parts = _Parts(self._columns)
        encoded = [codecs.encode_table(part) for part in parts.tables()]
        held = sum(sources[part].body_nbytes for part in parts.used) + sum(part.nbytes for part in encoded)
        if (
            not parts.used
            or nbytes <= SMALL_NBYTES
            or len(parts.used) + len(encoded) > MAX_REFERENCES
            or held > 2 * nbytes + _SPARE_NBYTES
        ):
            whole = codecs.encode_table(table, said.origin)
            return store(self._attachment, self._target, contents_of(whole), whole)
        return store_composition(
            self._attachment,
            self._target,
            said._replace(columns=parts.columns),
            nbytes=nbytes,
            parts=encoded,
            references=[sources[part].row for part in parts.used],
        )

    def _drop_image(self) -> None:
        self._table = None
        del self._columns, self._old


class _Parts:
    """The parts of a new version, numbered: those of the old one that are still in use, then one for each group."""

    def __init__(self, columns: list[_Column]) -> None:
        pieces = [piece for column in columns for piece in column.pieces]
        self.used = sorted({piece.part for piece in pieces if isinstance(piece, codecs.Piece)})
        self._groups: dict[int, list[pa.ChunkedArray]] = {
            piece.group: [] for piece in pieces if not isinstance(piece, codecs.Piece)
        }
        numbers = {part: number for number, part in enumerate(self.used)}
        new_numbers = {group: len(self.used) + number for number, group in enumerate(self._groups)}
        self.columns = tuple(
            tuple(
                codecs.Piece(numbers[piece.part], piece.position)
                if isinstance(piece, codecs.Piece)
                else codecs.Piece(new_numbers[piece.group], self._add(piece))
                for piece in column.pieces
            )
            for column in columns
        )

    def _add(self, piece: _New) -> int:
        members = self._groups[piece.group]
        members.append(piece.array)
        return len(members) - 1

    def tables(self) -> list[pa.Table]:
        """What each new part holds; its columns have numbers for names."""
        import pyarrow as pa

        return [
            pa.Table.from_arrays(arrays, names=[str(at) for at in range(len(arrays))])
            for arrays in self._groups.values()
        ]
