"""A user's own SQL over the store: segments as views, the catalog's tables beside them, and nothing else in reach.

Each statement gets a DuckDB of its own in memory, which is locked before the statement is seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, Boolean, DateTime, Float, Integer, Table, select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, Interrupted, NotFound, StoreUnusable, nearest
from featuredb.store.catalog import Base, DictionaryRow, RunRow, SegmentRow
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES, Columns
from featuredb.store.store import Store

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

CATALOG_TABLES = ("model", "dictionary", "corpus", "run", "segment", "file", "label", "score", "finding", "verdict")
SEGMENT_VIEWS = ("feature", "example", "panel", "context", "document", "token", "meta")
TABLES = (*SEGMENT_VIEWS, *CATALOG_TABLES)
"""Every table a statement can name."""

_LISTING = {"show", "describe", "desc", "information_schema", "duckdb_views", "duckdb_tables", "duckdb_columns"}
_LOCK = (
    # Without a folder to spill to, a statement that outgrows the memory ends with an error and never writes.
    "set temp_directory = ''",
    "set python_enable_replacements = false",
    "set enable_external_access = false",
    "set lock_configuration = true",
)


@dataclass(frozen=True, slots=True)
class _Segment:
    run: str
    dictionary: str | None
    """None for a run's contexts."""
    path: str


class Sql:
    """Runs read-only statements over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def run(
        self,
        text: str,
        params: Mapping[str, object] | None = None,
        *,
        dictionaries: Collection[str] | None = None,
        runs: Collection[str] | None = None,
    ) -> pa.Table:
        """The rows of one SELECT-like statement, with `$name` for each of `params`.

        Views over the segments of every committed run, `run` and then `dictionary` as their first columns: feature,
        example, panel and meta (`dictionary` is null where it tells of a run's contexts); with `run` alone, since a
        run's dictionaries share them: context, document and token. Beside them the tables of the catalog.
        dictionaries, runs: open the segments of these alone; None opens all that the statement needs.
        Raises BadInput for a statement that cannot be run, or that would do more than read the store.
        """
        import duckdb

        words = {word.lower() for word in re.findall(r"\w+", text)}
        if words & _LISTING:
            words |= set(TABLES)
        connection = duckdb.connect(
            ":memory:", config={"autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
        )
        try:
            _check_statement(connection, text, params or {})
            with self._store.reading() as session:
                segments = list(_segments(session, dictionaries, runs)) if words & set(SEGMENT_VIEWS) else []
                for name in CATALOG_TABLES:
                    if name in words:
                        _copy_table(connection, session, Base.metadata.tables[name])
            _attach(connection, self._store, segments, words)
            for setting in _LOCK:
                connection.execute(setting)
            with _statement_errors():
                return connection.sql(text, params=dict(params or {})).to_arrow_table()
        finally:
            connection.close()


def _check_statement(connection: duckdb.DuckDBPyConnection, text: str, params: Mapping[str, object]) -> None:
    import duckdb

    with _statement_errors():
        statements = connection.extract_statements(text)
    if len(statements) != 1:
        count = "no statement" if not statements else f"{len(statements)} statements"
        raise BadInput(f"{count} where one is needed", hint="write one select")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        what = statements[0].type.name.lower()
        raise BadInput(f"a statement of kind {what} cannot be run here", hint="the store is read only: write a select")
    wanted = set(statements[0].named_parameters)
    for name in sorted(wanted - set(params)):
        raise BadInput(f"parameter ${name} has no value", hint=f"give one for each of {_listed(wanted)}")
    for name in sorted(set(params) - wanted):
        hint = nearest(name, wanted, otherwise=f"it has {_listed(wanted)}" if wanted else "it has none")
        raise BadInput(f"the statement has no parameter ${name}", hint=hint)


def _segments(
    session: Session, dictionaries: Collection[str] | None, runs: Collection[str] | None
) -> Iterator[_Segment]:
    """The committed segments, each run's contexts before its first one."""
    found = (
        select(RunRow.key, DictionaryRow.name, SegmentRow.path)
        .join(SegmentRow.run)
        .join(SegmentRow.dictionary)
        .order_by(RunRow.id, SegmentRow.id)
    )
    if dictionaries is not None:
        found = found.where(DictionaryRow.name.in_(dictionaries))
    if runs is not None:
        found = found.where(RunRow.key.in_(runs))
    last = None
    for key, name, path in session.execute(found):
        if key != last:
            yield _Segment(key, None, f"runs/{key}/contexts.duckdb")
            last = key
        yield _Segment(key, name, path)


def _attach(connection: duckdb.DuckDBPyConnection, store: Store, segments: Iterable[_Segment], words: set[str]) -> None:
    """Attaches the segments that the named views need, read only, and makes those views."""
    parts: dict[str, list[str]] = {name: [] for name in SEGMENT_VIEWS if name in words}
    for number, segment in enumerate(segments):
        tables = CONTEXT_TABLES if segment.dictionary is None else FEATURE_TABLES
        needed = [name for name in parts if name in tables]
        if not needed:
            continue
        attach_segment(connection, store, segment.path, f"segment_{number}")
        for name in needed:
            parts[name].append(_part(name, tables[name], segment, f"segment_{number}"))
    for name, selects in parts.items():
        columns = FEATURE_TABLES.get(name) or CONTEXT_TABLES[name]
        empty = _part(name, columns, _Segment("", None if name in CONTEXT_TABLES else "", ""), None)
        connection.execute(f'create view "{name}" as {" union all ".join(selects) or empty}')


def attach_segment(connection: duckdb.DuckDBPyConnection, store: Store, path: str, name: str) -> None:
    """Attaches the segment at `path` below the store's root, read only, as `name`.

    Raises NotFound when it was removed meanwhile, StoreUnusable when it is damaged.
    """
    import duckdb

    file = store.path / path
    try:
        connection.execute(f'attach $path as "{name}" (read_only)', {"path": str(file)})
    except duckdb.Error as error:
        if not file.exists():
            raise NotFound(f"{path} is gone from the store", hint="was its dictionary removed just now?") from error
        raise StoreUnusable(f"{path} cannot be read: {_first_line(error)}", hint="run `featuredb check`") from error


def _part(name: str, columns: Columns, segment: _Segment, source: str | None) -> str:
    """One segment's share of a view; without a source, its columns and no rows."""
    shared = name in CONTEXT_TABLES and name != "meta"
    first = [f"{_literal(segment.run)}::varchar as run"]
    if not shared:
        owner = "null" if segment.dictionary is None else _literal(segment.dictionary)
        first.append(f"{owner}::varchar as dictionary")
    if source is None:
        listed = first + [f'null::{kind} as "{column}"' for column, kind in columns]
        return f"select {', '.join(listed)} where false"
    listed = first + [f'"{column}"' for column, _ in columns]
    return f'select {", ".join(listed)} from "{source}".main."{name}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _copy_table(connection: duckdb.DuckDBPyConnection, session: Session, table: Table) -> None:
    """Copies one of the catalog's tables, as it stands in the session's snapshot."""
    import pyarrow as pa

    rows = session.execute(select(table)).all()
    columns, kinds = [], []
    for number, column in enumerate(table.columns):
        values = [_plain(row[number], column.type) for row in rows]
        kind = _arrow_type(pa, column.type)
        columns.append(pa.array(values, kind))
        kinds.append(pa.field(column.name, kind))
    connection.register("incoming", pa.Table.from_arrays(columns, schema=pa.schema(kinds)))
    connection.execute(f'create table "{table.name}" as select * from incoming')
    connection.unregister("incoming")


def _arrow_type(pa: Any, kind: object) -> Any:
    if isinstance(kind, (Integer, BigInteger)):
        return pa.int64()
    if isinstance(kind, Float):
        return pa.float64()
    if isinstance(kind, Boolean):
        return pa.bool_()
    return pa.timestamp("us") if isinstance(getattr(kind, "impl", kind), DateTime) else pa.string()


def _plain(value: Any, kind: object) -> Any:
    if isinstance(kind, JSON):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


@contextmanager
def _statement_errors() -> Iterator[None]:
    """Turns DuckDB's errors about a user's statement into ours."""
    import duckdb

    try:
        yield
    except duckdb.InterruptException as error:
        raise Interrupted("the statement was interrupted") from error
    except (duckdb.IOException, duckdb.InternalException, duckdb.FatalException) as error:
        raise StoreUnusable(_first_line(error), hint="run `featuredb check`") from error
    except duckdb.OutOfMemoryException as error:
        raise BadInput("the statement needs more memory than there is", hint="narrow it with where or limit") from error
    except duckdb.PermissionException as error:
        raise BadInput("a statement reads the store, and no other file", hint=_TABLES_HINT) from error
    except duckdb.CatalogException as error:
        raise _unknown(error) from error
    except duckdb.Error as error:
        if "Corrupt" in str(error):
            raise StoreUnusable(_first_line(error), hint="run `featuredb check`") from error
        raise BadInput(_first_line(error), hint=_second_line(error)) from error


_TABLES_HINT = "its tables: " + ", ".join(TABLES)


def _unknown(error: Exception) -> BadInput:
    """An unknown table or function, with what there is in its place."""
    table = re.search(r"Table with name (\S+) does not exist", str(error))
    if table is None:
        return BadInput(_first_line(error), hint=_second_line(error))
    return BadInput(f"no table called {table[1]!r}", hint=nearest(table[1], TABLES, otherwise=_TABLES_HINT))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def _second_line(error: Exception) -> str | None:
    lines = str(error).strip().split("\n")
    return lines[1][:300] if len(lines) > 1 and lines[1].startswith(("Did you mean", "Candidate")) else None


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(names))
