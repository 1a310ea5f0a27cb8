"""Proving a store whole: bytes, row counts, indices against vectors, files against the catalog. Reports, mends nothing.

A file is parsed only when its bytes are those that were committed, so that no damage can mislead or crash a parser.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import selectinload

from featuredb.errors import FeatureDBError
from featuredb.store.catalog import DictionaryRow, FileRow, LeftoverRow, RunRow, SegmentRow
from featuredb.store.files import sha256_of
from featuredb.store.indices import Indexed, decoder_index, encoder_index, response_index
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES, SEGMENT_SCHEMA, Columns, Layout
from featuredb.store.published import PUBLISHED
from featuredb.store.remove import sweep
from featuredb.store.store import Store
from featuredb.store.vectors import Rows

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """Something wrong in a store."""

    object: str
    """The file's path below the store's root, or the name of the catalog's thing."""
    fault: str
    """What is wrong with it."""


@dataclass(frozen=True, slots=True)
class _Catalog:
    """The rows that the checks need, read in one snapshot."""

    files: list[FileRow]
    segments: list[SegmentRow]
    """Without those that point to no run or dictionary, which SQLite itself reports."""
    runs: list[RunRow]
    dictionaries: list[DictionaryRow]
    leftovers: set[str]


def check(store: Store, *, progress: Callable[[str, int], None] = lambda path, n_bytes: None) -> list[Fault]:
    """Every fault found, by object; none means that the store is whole. Reads every byte.

    progress: told of each file and its bytes once it is read. What interrupted removals left is deleted first.
    """
    with contextlib.suppress(FeatureDBError, SQLAlchemyError):  # a read-only or damaged store can still be checked
        sweep(store)
    faults = _catalog_faults(store)
    try:
        catalog = _read_catalog(store)
    except (FeatureDBError, SQLAlchemyError, ValueError, TypeError) as error:
        return sorted({*faults, Fault(store.paths.catalog.name, f"cannot be read: {error}")})
    good = set()
    for file in catalog.files:
        fault = _file_fault(store.paths, file)
        if fault is None:
            good.add(file.path)
        else:
            faults.append(Fault(file.path, fault))
        progress(file.path, file.n_bytes)
    faults += _ownership_faults(store, catalog)
    for run in catalog.runs:
        faults += _run_faults(store, run, good)
    for segment in catalog.segments:
        faults += _segment_faults(store, segment, good)
    for dictionary in catalog.dictionaries:
        faults += _index_faults(store.paths, dictionary, good)
    return sorted(_still_true(store, catalog, faults))


def _catalog_faults(store: Store) -> list[Fault]:
    name = store.paths.catalog.name
    faults = []
    try:
        with store.reading() as session:
            found = session.scalars(text("pragma integrity_check(10)")).all()
            faults += [Fault(name, str(line)) for line in found if line != "ok"]
            for table, row, parent, _ in session.execute(text("pragma foreign_key_check")):
                faults.append(Fault(name, f"row {row} of {table} points to no row of {parent}"))
    except (FeatureDBError, SQLAlchemyError, ValueError) as error:
        faults.append(Fault(name, f"cannot be read: {error}"))
    return faults


def _read_catalog(store: Store) -> _Catalog:
    segments = select(SegmentRow).options(selectinload(SegmentRow.run), selectinload(SegmentRow.dictionary))
    with store.reading() as session:
        return _Catalog(
            list(session.scalars(select(FileRow).order_by(FileRow.path))),
            [segment for segment in session.scalars(segments) if segment.run and segment.dictionary],
            list(session.scalars(select(RunRow).order_by(RunRow.key))),
            list(session.scalars(select(DictionaryRow).order_by(DictionaryRow.name))),
            set(session.scalars(select(LeftoverRow.path))),
        )


def _file_fault(paths: Layout, file: FileRow) -> str | None:
    path = paths.root / file.path
    try:
        if not path.is_file():
            return "missing"
        n_bytes = path.stat().st_size
        if n_bytes != file.n_bytes:
            return f"changed: {n_bytes} bytes, {file.n_bytes} when it was written"
        if sha256_of(path) != file.sha256:
            return "changed: its bytes are not those that were written (sha256)"
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    return None


def _ownership_faults(store: Store, catalog: _Catalog) -> Iterator[Fault]:
    """Files that nobody owns, and rows that no file answers for."""
    paths = store.paths
    owned = {file.path for file in catalog.files}
    for path in _needed(paths, catalog):
        if path not in owned:
            yield Fault(path, "the catalog needs it and has no record of it")
    committed = {run.key for run in catalog.runs}
    # A run between its last rename and its commit, or one killed there, still has its work folder: not a fault.
    unfinished = {folder.name for folder in _inside(paths, "work") if folder.is_dir()} - committed
    for top in ("dictionaries", "runs"):
        for path in sorted(_files_below(paths, top)):
            if path in owned or path in catalog.leftovers:
                continue
            if unfinished and (top == "dictionaries" or path.split("/")[1] in unfinished):
                continue
            yield Fault(path, "nothing in the catalog owns it")


def _needed(paths: Layout, catalog: _Catalog) -> Iterator[str]:
    for run in catalog.runs:
        yield f"runs/{run.key}/contexts.duckdb"
    for segment in catalog.segments:
        yield segment.path
        if segment.moments is not None:
            yield segment.moments
    for dictionary in catalog.dictionaries:
        if dictionary.kind == PUBLISHED:
            continue
        yield f"dictionaries/{dictionary.name}/weights.safetensors"
        yield f"dictionaries/{dictionary.name}/decoder.faiss"


def _inside(paths: Layout, top: str) -> Iterator[Path]:
    folder = paths.root / top
    if folder.is_dir():
        yield from folder.iterdir()


def _files_below(paths: Layout, top: str) -> Iterator[str]:
    for path in (paths.root / top).rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield paths.relative(path).encode("utf-8", "backslashreplace").decode()  # a name may be any bytes


def _run_faults(store: Store, run: RunRow, good: set[str]) -> list[Fault]:
    path = f"runs/{run.key}/contexts.duckdb"
    if path not in good:
        return []
    expected = {"context": run.n_kept}
    return [Fault(path, fault) for fault in _duckdb_faults(store, path, CONTEXT_TABLES, expected, None)]


def _segment_faults(store: Store, segment: SegmentRow, good: set[str]) -> list[Fault]:
    faults = []
    if segment.n_features != segment.dictionary.n_features:
        fault = f"the catalog gives it {segment.n_features} features, its dictionary {segment.dictionary.n_features}"
        faults.append(Fault(segment.path, fault))
    if segment.path in good:
        expected = {"feature": segment.n_features, "example": segment.n_examples, "panel": segment.n_panel}
        found = _duckdb_faults(store, segment.path, FEATURE_TABLES, expected, segment.run.n_kept)
        faults += [Fault(segment.path, fault) for fault in found]
    response = store.paths.relative(store.paths.response(segment.run.key, segment.dictionary.name))
    if response in good:
        fault_or_none = _response_fault(store.paths, response, segment.n_features)
        if fault_or_none is not None:
            faults.append(Fault(response, fault_or_none))
        elif segment.moments in good:
            moments = store.paths.root / segment.moments
            index = response_index(store.paths, segment.run.key, segment.dictionary.name, moments)
            faults += _index_fault(store.paths, index, good)
    return faults


def _duckdb_faults(
    store: Store, path: str, tables: dict[str, Columns], expected: dict[str, int], n_kept: int | None
) -> Iterator[str]:
    """What is wrong inside a DuckDB file. n_kept: the run's kept contexts, for a segment that refers to them."""
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        connection.execute('attach $path as "segment" (read_only)', {"path": str(store.path / path)})
        columns = connection.execute(
            "select table_name, column_name, data_type from duckdb_columns() where database_name = 'segment'"
        ).fetchall()
        have = {(table, column): kind for table, column, kind in columns}
        broken = set()
        for table, wanted in tables.items():
            for column, kind in wanted:
                found = have.get((table, column))
                if found != kind.replace("REAL", "FLOAT"):
                    broken.add(table)
                    yield f"table {table} has no column {column} {kind}" + (f" but one {found}" if found else "")
        for table in expected.keys() - broken:
            count = _count(connection, f'select count(*) from "segment"."{table}"')
            if count != expected[table]:
                yield f"{count} rows in table {table}, {expected[table]} in the catalog"
        if n_kept is not None:
            for table in {"example", "panel"} - broken:
                outside = _count(
                    connection, f'select count(*) from "segment"."{table}" where context not between 0 and {n_kept - 1}'
                )
                if outside:
                    yield f"{outside} rows of table {table} name no kept context"
        if "meta" not in broken:
            row = connection.execute("select value from segment.meta where key = 'schema_version'").fetchone()
            if row is None or row[0] != SEGMENT_SCHEMA:
                yield f"schema version {row[0] if row else 'missing'}, not {SEGMENT_SCHEMA}"
    except duckdb.Error as error:
        yield f"cannot be read: {str(error).strip().splitlines()[0]}"
    finally:
        connection.close()


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _response_fault(paths: Layout, path: str, n_features: int) -> str | None:
    try:
        rows = Rows(paths.root / path, "response")
    except FeatureDBError as error:
        return error.message
    return None if len(rows) == n_features else f"{len(rows)} rows for {n_features} features"


def _index_faults(paths: Layout, dictionary: DictionaryRow, good: set[str]) -> list[Fault]:
    weights = paths.weights(dictionary.name)
    if paths.relative(weights) not in good:
        return []
    try:
        rows = Rows(weights, "w_dec")
    except FeatureDBError as error:
        return [Fault(paths.relative(weights), error.message)]
    if len(rows) != dictionary.n_features:
        return [Fault(paths.relative(weights), f"{len(rows)} decoder rows for {dictionary.n_features} features")]
    indices = (decoder_index(paths, dictionary.name), encoder_index(paths, dictionary.name))
    return [fault for index in indices for fault in _index_fault(paths, index, good)]


def _index_fault(paths: Layout, index: Indexed, good: set[str]) -> list[Fault]:
    path = paths.relative(index.path)
    fault = index.fault() if path in good else None
    return [] if fault is None else [Fault(path, fault)]


def _still_true(store: Store, before: _Catalog, faults: list[Fault]) -> set[Fault]:
    """The faults, without those of files that changed hands while we looked: removed, or committed, meanwhile."""
    try:
        with store.reading() as session:
            now = set(session.scalars(select(FileRow.path))) | set(session.scalars(select(LeftoverRow.path)))
    except (FeatureDBError, SQLAlchemyError, ValueError):
        return set(faults)
    then = {file.path for file in before.files}
    moved = (now ^ then) - before.leftovers
    return {fault for fault in faults if fault.object not in moved}
