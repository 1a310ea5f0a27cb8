"""Dictionaries that somebody published without weights: how one is committed, and reading any dictionary in bulk.

Rule: rows in and out; what a publication means, and how features are written for others, is decided in the labels room.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, PluginFailed
from featuredb.store.catalog import LeftoverRow, SegmentRow
from featuredb.store.files import FileRecord
from featuredb.store.layout import RADIUS
from featuredb.store.remove import sweep
from featuredb.store.runs import RunRecord, SegmentRecord, _check_files, _dictionary, _file, _model, _run
from featuredb.store.segments import KINDS, SegmentRef
from featuredb.store.sql import attach_segment
from featuredb.store.store import Store

PUBLISHED = "published"
"""The kind of a dictionary that has no weights here, and of the table of what its segment cannot hold otherwise."""

WHOLE = ("windows", "whole")
"""In a segment's meta: examples have their activations on the whole text, not on RADIUS tokens beside the peak."""

_FEATURES = "select * from kept.feature where feature in (select unnest($features)) order by feature"
_EXTRA = "select feature, extra from kept.published where feature in (select unnest($features))"
_EXAMPLES = """
    select feature, kind, rank, context, position, activation, window_start, "window"
    from kept.example where feature in (select unnest($features)) and rank < $most order by feature, kind, rank
"""
_CONTEXTS = """
    select context, tokens, piece_starts, piece_ends, piece_documents
    from text.context where context in (select unnest($contexts))
"""
_DOCUMENTS = "select document, name from text.document where document in (select unnest($documents))"
_TOKENS = "select text from text.token order by token"
_META = "select key, value from kept.meta"
_HAS_EXTRA = "select 1 from duckdb_tables() where database_name = 'kept' and table_name = $table"


def as_json(value: object, what: str) -> str:
    """A publication's value as JSON. Raises PluginFailed where JSON cannot say it, which is its reader's mistake."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PluginFailed(f"{what} cannot be kept: {error}", hint="its reader must give what JSON can say") from error


def commit_published(
    store: Store,
    run: RunRecord,
    segment: SegmentRecord,
    files: Sequence[FileRecord],
    also: Callable[[Session, int], None],
) -> None:
    """Makes a published dictionary visible, in one transaction with what `also` adds to it.

    also: given the session and the dictionary's id. Every file must lie at its final path before.
    Raises BadInput when a dictionary of that name is there already, StoreUnusable when a file is not as it was written.
    """
    with store.session() as session:
        _check_files(store.paths, [segment], files)
        model = _model(session, run.model)
        row = _run(session, run, model)
        dictionary = _dictionary(session, segment.dictionary, model)
        if dictionary.kind != PUBLISHED:
            raise BadInput(f"{dictionary.name!r} is in the store already, with weights")
        session.add(
            SegmentRow(
                run_id=row.id,
                dictionary_id=dictionary.id,
                path=segment.path,
                moments=None,
                n_features=segment.n_features,
                n_examples=segment.n_examples,
                n_panel=segment.n_panel,
            )
        )
        for file in files:
            _file(session, file, row.id, {dictionary.name: dictionary.id})
        # A file that a removal had still to delete has an owner again.
        session.execute(delete(LeftoverRow).where(LeftoverRow.path.in_([file.path for file in files])))
        also(session, dictionary.id)
    sweep(store)


@dataclass(frozen=True, slots=True)
class KeptText:
    """An example with its text."""

    kind: str
    rank: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """One for each token; the stored steps of 1/255 of the strongest."""
    document: str | None


class BulkReader:
    """Reads figures and examples of many features at a time from one dictionary's newest segment."""

    def __init__(self, store: Store, segment: SegmentRef) -> None:
        import duckdb

        self._connection = duckdb.connect(
            config={"threads": 1, "autoload_known_extensions": "false", "autoinstall_known_extensions": "false"}
        )
        try:
            attach_segment(self._connection, store, segment.contexts, "text")
            attach_segment(self._connection, store, segment.path, "kept")
            meta = self._connection.execute(_META).fetchall()
            found = self._connection.execute(_HAS_EXTRA, {"table": PUBLISHED}).fetchone()
            self._texts = [text for (text,) in self._connection.execute(_TOKENS).fetchall()]
        except BaseException:
            self._connection.close()
            raise
        self._whole = WHOLE in meta
        self._has_extra = found is not None

    def features(self, indices: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The rows of figures of some features; tokens as texts, `extra` what the publisher says beside."""
        rows = {row["feature"]: row for row in self._rows(_FEATURES, {"features": list(indices)})}
        for row in rows.values():
            for name in ("promoted", "suppressed"):
                texts = [self._texts[token] for token in row[name]]
                row[name] = tuple(zip(texts, row.pop(f"{name}_values"), strict=True))
            row["extra"] = {}
        if self._has_extra:
            for found in self._rows(_EXTRA, {"features": list(indices)}):
                rows[found["feature"]]["extra"] = json.loads(found["extra"])
        return rows

    def examples(self, indices: Sequence[int], most: int) -> dict[int, list[KeptText]]:
        """Up to `most` examples of each kind of some features, by kind and rank."""
        rows = self._rows(_EXAMPLES, {"features": list(indices), "most": most}) if most else []
        numbers = sorted({row["context"] for row in rows})
        contexts = {row["context"]: row for row in self._rows(_CONTEXTS, {"contexts": numbers})} if rows else {}
        documents = sorted({number for row in contexts.values() for number in row["piece_documents"]})
        names = {row["document"]: row["name"] for row in self._rows(_DOCUMENTS, {"documents": documents})}
        found: dict[int, list[KeptText]] = {}
        for row in rows:
            text = self._text(row, contexts[row["context"]], names)
            found.setdefault(row["feature"], []).append(text)
        return found

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> BulkReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _text(self, row: Mapping[str, Any], context: Mapping[str, Any], names: Mapping[int, str]) -> KeptText:
        position = row["position"]
        low, high, document = 0, len(context["tokens"]), None
        pieces = (context["piece_starts"], context["piece_ends"], context["piece_documents"])
        for start, end, number in zip(*pieces, strict=True):
            if start <= position < end:
                low, high, document = start, end, names.get(number)
        if not self._whole:  # further away nothing is known of the activation
            low, high = max(low, position - RADIUS), min(high, position + RADIUS + 1)
        activations = [0.0] * (high - low)
        for place, share in enumerate(row["window"], row["window_start"] - low):
            if 0 <= place < len(activations):
                activations[place] = share / 255 * row["activation"]
        tokens = tuple(self._texts[token] for token in context["tokens"][low:high])
        return KeptText(KINDS[row["kind"]], row["rank"], tokens, tuple(activations), document)

    def _rows(self, statement: str, params: dict[str, object]) -> list[dict[str, Any]]:
        cursor = self._connection.execute(statement, params)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
