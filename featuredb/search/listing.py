"""Lists of what the catalog holds, as answers. Reads the catalog alone."""

from __future__ import annotations

from sqlalchemy import func, select

from featuredb.label_records import LabelRow
from featuredb.labels.table import labels_of, scores_of
from featuredb.records import CorpusRow, DictionaryRow, ModelRow, RunRow
from featuredb.rows import Rows
from featuredb.search.cards import label_row
from featuredb.store import catalog
from featuredb.store.refs import FeatureRef
from featuredb.store.store import Store


def list_models(store: Store) -> Rows[ModelRow]:
    with store.reading() as session:
        found = session.scalars(select(catalog.ModelRow).order_by(catalog.ModelRow.id)).all()
        return Rows(
            (
                ModelRow(
                    model=row.name,
                    source=row.source,
                    architecture=row.architecture,
                    n_layers=row.n_layers,
                    d_model=row.d_model,
                    fingerprint=row.fingerprint,
                    created_at=row.created_at,
                )
                for row in found
            ),
            ModelRow,
        )


def list_dictionaries(store: Store) -> Rows[DictionaryRow]:
    segment, run, dictionary = catalog.SegmentRow, catalog.RunRow, catalog.DictionaryRow
    with store.reading() as session:
        figures = {
            owner: (n_runs, n_tokens)
            for owner, n_runs, n_tokens in session.execute(
                select(segment.dictionary_id, func.count(), func.sum(run.n_tokens))
                .join(run, segment.run_id == run.id)
                .group_by(segment.dictionary_id)
            )
        }
        rows = []
        for row in session.scalars(select(dictionary).order_by(dictionary.id)):
            n_runs, n_tokens = figures.get(row.id, (0, 0))
            rows.append(
                DictionaryRow(
                    dictionary=row.name,
                    model=row.model.name,
                    hook=row.hook,
                    n_features=row.n_features,
                    kind=row.kind,
                    runs=n_runs,
                    n_tokens=n_tokens,
                    source=row.source,
                    plugin=row.plugin,
                    created_at=row.created_at,
                )
            )
        return Rows(rows, DictionaryRow)


def list_corpora(store: Store) -> Rows[CorpusRow]:
    run, corpus = catalog.RunRow, catalog.CorpusRow
    with store.reading() as session:
        found = session.execute(
            select(corpus, func.count(run.id))
            .outerjoin(run, run.corpus_id == corpus.id)
            .group_by(corpus.id)
            .order_by(corpus.id)
        )
        return Rows(
            (
                CorpusRow(corpus=row.name, spec=row.spec, plugin=row.plugin, runs=n_runs, created_at=row.created_at)
                for row, n_runs in found
            ),
            CorpusRow,
        )


def list_runs(store: Store) -> Rows[RunRow]:
    with store.reading() as session:
        rows = [
            RunRow(
                run=row.key,
                model=row.model.name,
                corpus=row.corpus.name,
                dictionaries=tuple(segment.dictionary.name for segment in row.segments),
                n_tokens=row.n_tokens,
                n_contexts=row.n_contexts,
                context_length=row.context_length,
                packing=row.packing,
                seed=row.seed,
                created_at=row.created_at,
            )
            for row in session.scalars(select(catalog.RunRow).order_by(catalog.RunRow.id))
        ]
        return Rows(rows, RunRow)


def list_labels(store: Store, ref: FeatureRef | None) -> Rows[LabelRow]:
    """The labels of one feature, the shown one first; or of all, by dictionary, feature and age."""
    label, dictionary = catalog.LabelRow, catalog.DictionaryRow
    with store.reading() as session:
        if ref is not None:
            found = [(row, ref) for row in labels_of(session, ref)]
        else:
            rows = session.execute(
                select(label, dictionary.name)
                .join(dictionary, label.dictionary_id == dictionary.id)
                .order_by(dictionary.name, label.feature_index, label.id)
            )
            found = [(row, FeatureRef(name, row.feature_index)) for row, name in rows]
        scores = scores_of(session, [row for row, _ in found])
        return Rows((label_row(of, row, scores.get(row.id, ())) for row, of in found), LabelRow)
