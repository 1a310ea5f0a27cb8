"""FeatureDB, the one class a user's Python needs: each method is one call into the room that does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from featuredb.audit_methods import AuditMethods
from featuredb.label_methods import LabelMethods
from featuredb.progress import ProgressReport, silent
from featuredb.records import (
    CorrelatedFeature,
    FaultRow,
    FeatureCard,
    FiredFeature,
    FoundFeature,
    OfFeature,
    RunRow,
    SimilarFeature,
    TextTokens,
)
from featuredb.rows import Record, Rows

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import ArrayLike

    from featuredb.audit.flags import Flags
    from featuredb.capture.plan import Plan
    from featuredb.capture.request import IngestRequest, TrainRequest
    from featuredb.concepts.concepts import Concepts
    from featuredb.maps.points import MapPoint, TrajectoryPoint
    from featuredb.search.activate import Activator
    from featuredb.search.correlate import Measure
    from featuredb.search.fired import By
    from featuredb.search.search import Searcher
    from featuredb.search.similar import Nearness
    from featuredb.store.queries import Query
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store

DEFAULT_PATH = "features.fdb"
Answer = TypeVar("Answer", bound=OfFeature)
Kind = Literal["models", "dictionaries", "corpora", "runs"]


class FeatureDB(LabelMethods, AuditMethods):
    """A store and what can be asked of it. Errors are those of `featuredb.errors`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.store.path

    @property
    def concepts(self) -> Concepts:
        """The store's concepts: named directions, and what can be done with them."""
        from featuredb.concepts.concepts import Concepts

        return Concepts(self.store)

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

    def activate(
        self,
        texts: str | Sequence[str],
        dictionaries: Sequence[str] | None = None,
        limit: int = 20,
        by: By = "max",
        contrast: str | Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        all_features: bool = False,
        *,
        features: Sequence[str] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Rows[FiredFeature]:
        """The features that fire on a text, or on any of several, those that say most first; None asks all.

        by: what counts of a feature on a text: its "max"imum, its "mean" over the tokens, or its activation at the
        "last" token. contrast: texts whose features are taken away: the answer is ranked by the difference of scores.
        all_features: every feature that fires, whatever the limit. features: only these, "dictionary/index". Dead and
        under-sampled features are not left out, for what fires here fires; their flags say what they are.
        say: told, in sentences, what a reader of the answer should know.
        """
        from featuredb.search.activate import asked

        what = asked(texts, dictionaries, None if all_features else limit, by, contrast, layers, features)
        return self._flagged(self._activator.activate(what, say), FiredFeature)

    def activate_tokens(
        self,
        texts: str | Sequence[str],
        dictionaries: Sequence[str] | None = None,
        limit: int = 20,
        by: By = "max",
        layers: Sequence[int] | None = None,
        *,
        per_token: int = 3,
        features: Sequence[str] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Rows[TextTokens]:
        """Each text token by token, with the features that say most at each; arguments are those of `activate`."""
        from featuredb.search.activate import asked

        what = asked(texts, dictionaries, limit, by, None, layers, features)
        return Rows(self._flags.on_tokens(self._activator.tokens(what, per_token, say)), TextTokens)

    def search(
        self,
        query: str = "",
        dictionaries: Sequence[str] | None = None,
        limit: int = 20,
        ways: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        all_features: bool = False,
        *,
        density: tuple[float, float] = (0.0, 1.0),
        flags: Sequence[str] = (),
        without: Sequence[str] = (),
        labelled: bool | None = None,
        min_score: float | None = None,
        regex: bool = False,
        embedder: str | None = None,
        progress: ProgressReport = silent,
        say: Callable[[str], None] = lambda text: None,
    ) -> Rows[FoundFeature]:
        """The features that a text finds: in labels by keyword and by meaning, and in what examples say; best first.

        query: words, "phrases in quotes", prefix*, -excluded, OR; empty lists the features that the other arguments let
        pass, those that fire most often first. ways: of "label", "meaning" and "example"; None: all. regex: the query
        is a regular expression, looked for in examples. dictionaries to min_score: what a feature must be, as
        `featuredb.search.filters.FeatureFilter` has it. embedder: NAME[:SOURCE] of what compares meanings.
        progress: told of labels that are embedded first. say: told, in sentences, what a reader should know.
        """
        from featuredb.search.filters import FeatureFilter
        from featuredb.search.search import SearchQuery

        where = FeatureFilter(
            None if dictionaries is None else tuple(dictionaries),
            None if layers is None else tuple(layers),
            density,
            tuple(flags),
            tuple(without),
            labelled,
            min_score,
            all_features,
        )
        asked = SearchQuery(query, where, None if ways is None else tuple(ways), regex, embedder, limit)
        return self._flagged(self._searcher.search(asked, progress, say), FoundFeature)

    def correlate(
        self,
        what: str | Path | ArrayLike,
        by: Measure | None = None,
        dictionaries: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        hook: str | None = None,
        limit: int = 20,
        all_features: bool = False,
        *,
        say: Callable[[str], None] = lambda text: None,
        progress: ProgressReport = silent,
    ) -> Rows[CorrelatedFeature]:
        """The features that score highest with a vector, or with a concept's at each dictionary's hook; highest first.

        what: a concept's name, a file of vectors, or a row of numbers. by: "correlation", "cosine", "encoder" or
        "auroc"; None: correlation, or cosine where a run has kept no moments. hook: of several vectors the one that is
        wanted, or where one belongs that does not say. all_features: rank dead and under-sampled ones too. say: told,
        in sentences, what a reader should know. progress: told of texts that are run and of an index that is made.
        """
        from featuredb.search.correlate import CorrelateQuery, Later, correlate

        query = CorrelateQuery(what, by, dictionaries, layers, hook, limit, all_features)
        activator = Later(lambda: self._activator)
        return self._flagged(correlate(self.store, self._reader, activator, query, say, progress), CorrelatedFeature)

    def similar(
        self,
        feature: str,
        by: Nearness = "decoder",
        dictionaries: Sequence[str] | None = None,
        everywhere: bool = False,
        limit: int = 20,
        all_features: bool = False,
        *,
        say: Callable[[str], None] = lambda text: None,
        progress: ProgressReport = silent,
    ) -> Rows[SimilarFeature]:
        """The features nearest to one, "dictionary/index", nearest first; in its own dictionary where none is named.

        by: "decoder" or "encoder" for the cosine of these directions, "cofiring" for the share of the panel's tokens on
        which both fire. everywhere: look in every dictionary that can be compared. The other arguments are those of
        `correlate`.
        """
        from featuredb.search.similar import SimilarQuery, similar

        query = SimilarQuery(feature, by, dictionaries, everywhere, limit, all_features)
        return self._flagged(similar(self.store, self._reader, query, say, progress), SimilarFeature)

    def map(
        self,
        dictionary: str,
        *,
        seed: int = 0,
        neighbors: int = 15,
        all_features: bool = False,
        force: bool = False,
        plot: str | os.PathLike[str] | None = None,
        progress: ProgressReport = silent,
    ) -> Rows[MapPoint]:
        """A dictionary's features, each with a place near those of near decoder directions; kept in the store.

        all_features: also those that never fire. force: lay it out again. plot: also draw it, to a .png or .svg.
        """
        from featuredb.maps.dictionary_map import MapRequest, read_map
        from featuredb.maps.plots import check_plot, plot_map
        from featuredb.maps.points import MapPoint

        request = MapRequest(dictionary, seed, neighbors, all_features, force)
        path = None if plot is None else check_plot(plot)
        points = self._flagged(read_map(self.store, self._reader, request, progress), MapPoint)
        if path is not None:
            plot_map(points, path)
        return points

    def trajectory(
        self,
        what: str | Sequence[str],
        *,
        model: str | None = None,
        token: Literal["last", "mean"] | None = None,
        components: int = 2,
        raw: bool = False,
        plot: str | os.PathLike[str] | None = None,
        progress: ProgressReport = silent,
    ) -> Rows[TrajectoryPoint]:
        """The path of texts, or of a concept's texts, through the layers, in the first principal components.

        what: concepts or texts; a concept's name wins. raw: states as long as they are. plot: also draw it, to a .png
        or .svg. The other arguments are those of `featuredb.maps.trajectory.TrajectoryRequest`.
        """
        from featuredb.maps.plots import check_plot, plot_trajectory
        from featuredb.maps.points import TrajectoryPoint
        from featuredb.maps.trajectory import TrajectoryRequest, read_trajectory

        asked = (what,) if isinstance(what, str) else tuple(what)
        path = None if plot is None else check_plot(plot)
        request = TrajectoryRequest(asked, model, token, components, raw)
        points = read_trajectory(self.store, self._activator, request, progress)
        if path is not None:
            plot_trajectory(points, path)
        return Rows(points, TrajectoryPoint)

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

    def remove_dictionary(self, name: str) -> None:
        """Removes a dictionary with its segments and labels; runs, models and corpora left unused go with it."""
        from featuredb.store.remove import remove_dictionary

        if "_reader" in self.__dict__:
            self._reader.close()
        remove_dictionary(self.store, name)

    def close(self) -> None:
        """Lets go of the store's files."""
        if "_activator" in self.__dict__:
            self._activator.close()
        if "_flags" in self.__dict__:
            self._flags.close()
        if "_reader" in self.__dict__:
            self._reader.close()
        self.store.close()

    def __enter__(self) -> FeatureDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FeatureDB({str(self.path)!r})"

    def _flagged(self, answers: Iterable[Answer], of: type[Answer]) -> Rows[Answer]:
        """The answers with what audits found of their features."""
        return Rows(self._flags.on(answers), of)

    @cached_property
    def _flags(self) -> Flags:
        from featuredb.audit.flags import Flags

        return Flags(self.store)

    @cached_property
    def _reader(self) -> SegmentReader:
        from featuredb.store.segments import SegmentReader

        return SegmentReader(self.store)

    @cached_property
    def _searcher(self) -> Searcher:
        from featuredb.search.search import Searcher

        return Searcher(self.store, self._reader)

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
