"""Reading segments: the few questions that answers about one feature ask, each in a few milliseconds.

One DuckDB connection stays open with the segments it has met attached read-only; they never change, so nothing has to
be looked at twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import NotFound
from featuredb.store.catalog import DictionaryRow, RunRow, SegmentRow
from featuredb.store.sql import attach_segment
from featuredb.store.store import Store

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

KINDS = ("top", "sample")
"""The kinds of example, by their number in a segment."""

_FEATURE = "select * from feature where feature = $feature"
_FIGURES = "select n_fires, density, max from feature order by feature"
_EXAMPLES = """
    select kind, rank, context, position, activation, window_start, "window"
    from example where feature = $feature and rank < $most order by kind, rank
"""
_CONTEXTS = """
    select context, tokens, piece_starts, piece_ends, piece_documents
    from context where context in (select unnest($contexts))
"""
_DOCUMENTS = "select document, name from document where document in (select unnest($documents))"
_TOKENS = "select text from token order by token"
_KEPT = """
    select context, tokens, piece_starts, piece_ends
    from context where context >= $first and context < $past order by context
"""
_N_CONTEXTS = "select coalesce(max(context) + 1, 0) from context"
_PLACES = "select feature, context, position from example"
_PLACES_IN = f"{_PLACES} where context in (select unnest($contexts))"
_EXAMPLES_OF = """
    select feature, context, position from example
    where feature in (select unnest($features)) order by feature, kind, rank
"""
_PANEL_OF = """
    select context, position, activation from panel
    where feature = $feature and context in (select unnest($contexts)) order by context, position
"""
_COUNTS_OF = """
    select feature, count(distinct context) as n from example
    where feature in (select unnest($features)) group by feature
"""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """Where one run's segment of one dictionary lies, and the run's figures that readers need."""

    dictionary: str
    run: str
    path: str
    contexts: str
    n_tokens: int

    @staticmethod
    def newest(session: Session, dictionary: DictionaryRow) -> SegmentRef:
        """The segment of the dictionary's latest run. Raises NotFound where it has none."""
        found = session.execute(
            select(SegmentRow, RunRow)
            .join(RunRow, SegmentRow.run_id == RunRow.id)
            .where(SegmentRow.dictionary_id == dictionary.id)
            .order_by(RunRow.id.desc())
            .limit(1)
        ).first()
        if found is None:
            raise NotFound(f"{dictionary.name} has no run", hint="`featuredb ingest model` makes one")
        segment, run = found
        return SegmentRef(dictionary.name, run.key, segment.path, f"runs/{run.key}/contexts.duckdb", run.n_tokens)

    @staticmethod
    def newest_of(session: Session, dictionaries: Sequence[DictionaryRow]) -> list[SegmentRef]:
        """The segment of each dictionary's latest run, in one look. Raises NotFound where one has none."""
        owner = SegmentRow.dictionary_id
        found = session.execute(
            select(owner, SegmentRow.path, RunRow.key, RunRow.n_tokens)
            .join(RunRow, SegmentRow.run_id == RunRow.id)
            .where(owner.in_([dictionary.id for dictionary in dictionaries]))
            .order_by(RunRow.id)
        )
        newest = {row[0]: row for row in found}
        refs = []
        for dictionary in dictionaries:
            if dictionary.id not in newest:
                raise NotFound(f"{dictionary.name} has no run", hint="`featuredb ingest model` makes one")
            _, path, key, n_tokens = newest[dictionary.id]
            refs.append(SegmentRef(dictionary.name, key, path, f"runs/{key}/contexts.duckdb", n_tokens))
        return refs


class SegmentReader:
    """Reads the segments of one store. Several threads may share it; they take turns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._attached: dict[str, str] = {}
        self._current = ""
        self._tokens: dict[str, list[str]] = {}
        self._documents: dict[str, dict[int, str]] = {}

    def feature(self, segment: SegmentRef, index: int) -> dict[str, Any]:
        """The feature's row of figures."""
        return self._rows(segment.path, _FEATURE, {"feature": index})[0]

    def figures(self, segment: SegmentRef) -> dict[str, Any]:
        """n_fires, density and max of every feature, as arrays by column."""
        with self._turn:
            connection = self._using(segment.path)
            columns: dict[str, Any] = connection.execute(_FIGURES).fetchnumpy()
        return columns

    def examples(self, segment: SegmentRef, index: int, most: int) -> list[dict[str, Any]]:
        """Up to `most` examples of each kind, by kind and rank, with kind as a word."""
        rows = self._rows(segment.path, _EXAMPLES, {"feature": index, "most": most})
        return [row | {"kind": KINDS[row["kind"]]} for row in rows]

    def panel_of(self, segment: SegmentRef, index: int, contexts: Sequence[int]) -> list[dict[str, Any]]:
        """A feature's firings in some contexts of the panel: context, position, activation; in order."""
        return self._rows(segment.path, _PANEL_OF, {"feature": index, "contexts": sorted(set(contexts))})

    def contexts(self, segment: SegmentRef, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The contexts of those numbers: tokens and pieces."""
        rows = self._rows(segment.contexts, _CONTEXTS, {"contexts": sorted(set(numbers))}) if numbers else []
        return {row["context"]: row for row in rows}

    def documents(self, segment: SegmentRef, numbers: Sequence[int]) -> dict[int, str]:
        """The names of those documents."""
        known = self._documents.setdefault(segment.run, {})
        if new := sorted(set(numbers) - known.keys()):
            rows = self._rows(segment.contexts, _DOCUMENTS, {"documents": new})
            known.update((row["document"], row["name"]) for row in rows)
        return {number: known[number] for number in numbers if number in known}

    def tokens(self, segment: SegmentRef) -> list[str]:
        """The display text of every token id of the run's model."""
        if segment.run not in self._tokens:
            with self._turn:
                found = self._using(segment.contexts).execute(_TOKENS).fetchall()
            self._tokens[segment.run] = [text for (text,) in found]
        return self._tokens[segment.run]

    def kept_text(self, segment: SegmentRef, step: int) -> Iterator[pa.Table]:
        """The run's contexts in order, `step` numbers at a time: context, tokens, piece_starts, piece_ends."""
        with self._turn:
            ((n,),) = self._using(segment.contexts).execute(_N_CONTEXTS).fetchall()
        for first in range(0, n, step):
            with self._turn:
                found = self._using(segment.contexts).sql(_KEPT, params={"first": first, "past": first + step})
                table = found.to_arrow_table()
            yield table

    def example_places(self, segment: SegmentRef, contexts: Sequence[int] | None = None) -> dict[str, Any]:
        """feature, context and position of every example, or of those in some contexts, as arrays."""
        with self._turn:
            connection = self._using(segment.path)
            found = (
                connection.sql(_PLACES)
                if contexts is None
                else connection.sql(_PLACES_IN, params={"contexts": contexts})
            )
            table = found.to_arrow_table()
        return {name: table.column(name).to_numpy() for name in table.column_names}

    def example_counts(self, segment: SegmentRef, features: Sequence[int]) -> dict[str, Any]:
        """How many contexts are examples of each of some features, as arrays: feature and n."""
        with self._turn:
            found = self._using(segment.path).execute(_COUNTS_OF, {"features": features})
            columns: dict[str, Any] = found.fetchnumpy()
        return columns

    def examples_of(self, segment: SegmentRef, features: Sequence[int]) -> list[dict[str, Any]]:
        """feature, context and position of the examples of some features, each's by kind and rank."""
        return self._rows(segment.path, _EXAMPLES_OF, {"features": features})

    def across(self, databases: Mapping[str, str], statement: str, params: Mapping[str, object]) -> dict[str, Any]:
        """The columns of one statement over several segments, as arrays. `{name}` in it stands for the database whose
        path below the store's root `databases` gives for the name."""
        with self._turn:
            for path in databases.values():
                connection = self._using(path)
            known = {name: self._attached[path] for name, path in databases.items()}
            columns: dict[str, Any] = connection.execute(statement.format(**known), dict(params)).fetchnumpy()
        return columns

    def close(self) -> None:
        with self._turn:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._attached.clear()
            self._current = ""

    def _rows(self, path: str, statement: str, params: dict[str, object]) -> list[dict[str, Any]]:
        with self._turn:
            cursor = self._using(path).execute(statement, params)
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _using(self, path: str) -> duckdb.DuckDBPyConnection:
        """The connection, with the segment at `path` as the database that statements speak of."""
        import duckdb

        if self._connection is None:
            self._connection = duckdb.connect(
                # One thread: the questions are small, and handing them out would take longer than answering.
                config={"threads": 1, "autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
            )
        if path not in self._attached:
            name = f"segment_{len(self._attached)}"
            attach_segment(self._connection, self._store, path, name)
            self._attached[path] = name
        if path != self._current:
            self._connection.execute(f"use {self._attached[path]}")
            self._current = path
        return self._connection
