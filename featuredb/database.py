"""FeatureDB, the one class a user's Python needs: each method is one call into the room that does the work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from featuredb.progress import ProgressReport, silent
from featuredb.records import FaultRow, FeatureCard, FiredFeature, LabelRow, RunRow
from featuredb.rows import Record, Rows

if TYPE_CHECKING:
    import pyarrow

    from featuredb.capture.plan import Plan
    from featuredb.capture.request import IngestRequest, TrainRequest
    from featuredb.search.activate import Activator
    from featuredb.store.queries import Query
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store

DEFAULT_PATH = "features.fdb"
Kind = Literal["models", "dictionaries", "corpora", "runs"]


class FeatureDB:
    """A store and what can be asked of it. Errors are those of `featuredb.errors`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.store.path

    def ingest(self, request: IngestRequest | Plan, progress: ProgressReport = silent) -> RunRow:
        """Runs a corpus through a model and keeps what every feature does; the committed run.

        request: or the plan that `featuredb.capture.ingest.prepare` made of one.

        A finished run is not run again, and an interrupted one goes on where it stopped.
        """
        from featuredb.capture.ingest import ingest, prepare
        from featuredb.capture.request import IngestRequest
        from featuredb.search.listing import list_runs

        plan = prepare(request) if isinstance(request, IngestRequest) else request
        notes = ingest(self.store, plan, progress)
        (row,) = (row for row in list_runs(self.store) if row.run == plan.key)
        return replace(row, notes=notes)

    def train(self, request: TrainRequest, progress: ProgressReport = silent) -> Path:
        """Trains a dictionary on a model's activations; the folder that `ingest` then takes."""
        from featuredb.capture.train import train

        return train(request, progress)

    def feature(self, feature: str, n_examples: int = 10) -> FeatureCard:
        """The card of a feature, "dictionary/index", with up to n_examples examples of each kind."""
        from featuredb.search.cards import read_card
        from featuredb.store.refs import FeatureRef

        return read_card(self.store, self._reader, FeatureRef.parse(feature), n_examples)

    def activate(self, text: str, dictionaries: Sequence[str] | None = None, limit: int = 20) -> Rows[FiredFeature]:
        """The features that fire on a text, those that say most first; None asks all dictionaries."""
        return Rows(self._activator.activate(text, dictionaries, limit), FiredFeature)

    def sql(self, text: str, **params: Any) -> pyarrow.Table:
        """The rows of one read-only statement over the segments and the catalog."""
        from featuredb.store.sql import Sql

        return Sql(self.store).run(text, params)

    def query(self, name: str, **params: Any) -> pyarrow.Table:
        """The rows of a named query."""
        from featuredb.store.queries import run_query

        return run_query(self.store, name, params)

    def queries(self) -> list[Query]:
        """The named queries there are."""
        from featuredb.store.queries import queries

        return queries()

    def check(self) -> Rows[FaultRow]:
        """What in the store is not as the catalog says; empty for a whole one."""
        from featuredb.store.check import check

        return Rows((FaultRow(object=fault.object, fault=fault.fault) for fault in check(self.store)), FaultRow)

    def ls(self, kind: Kind) -> Rows[Any]:
        """The store's models, dictionaries, corpora or runs, oldest first."""
        from featuredb.search import listing

        listed: dict[str, Any] = {
            "models": listing.list_models,
            "dictionaries": listing.list_dictionaries,
            "corpora": listing.list_corpora,
            "runs": listing.list_runs,
        }
        rows: Rows[Record] = listed[kind](self.store)
        return rows

    def add_label(self, feature: str, text: str, author: str | None = None, note: str | None = None) -> LabelRow:
        """Gives a feature a label by hand."""
        from featuredb.labels.table import add_label
        from featuredb.search.cards import label_row
        from featuredb.store.refs import FeatureRef

        ref = FeatureRef.parse(feature)
        with self.store.session() as session:
            return label_row(ref, add_label(session, ref, text, author=author, note=note))

    def labels(self, feature: str | None = None) -> Rows[LabelRow]:
        """The labels of one feature, or of all."""
        from featuredb.search.listing import list_labels
        from featuredb.store.refs import FeatureRef

        return list_labels(self.store, None if feature is None else FeatureRef.parse(feature))

    def import_labels(self, path: str | Path) -> int:
        """Adds the labels of a CSV or JSONL file, all or none; how many were new."""
        from featuredb.labels.table import import_labels

        return import_labels(self.store, Path(path)).n_added

    def remove_dictionary(self, name: str) -> None:
        """Removes a dictionary with its segments and labels; runs, models and corpora left unused go with it."""
        from featuredb.store.remove import remove_dictionary

        if "_reader" in self.__dict__:
            self._reader.close()
        remove_dictionary(self.store, name)

    def close(self) -> None:
        """Lets go of the store's files."""
        if "_reader" in self.__dict__:
            self._reader.close()
        self.store.close()

    def __enter__(self) -> FeatureDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FeatureDB({str(self.path)!r})"

    @cached_property
    def _reader(self) -> SegmentReader:
        from featuredb.store.segments import SegmentReader

        return SegmentReader(self.store)

    @cached_property
    def _activator(self) -> Activator:
        from featuredb.search.activate import Activator

        return Activator(self.store, self._reader)


def open(path: str | os.PathLike[str] | None = None, *, create: bool = False) -> FeatureDB:  # noqa: A001
    """The store at `path`, by default the folder that FEATUREDB_DB names, or `features.fdb`.

    create: make a new store where there is none. Raises StoreUnusable where there is none, or it cannot be used.
    """
    from featuredb.store.store import Store

    return FeatureDB(Store.open(path or os.environ.get("FEATUREDB_DB") or DEFAULT_PATH, create=create))
