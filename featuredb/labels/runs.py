"""Several labelers or scorers over one dictionary, one after the other, and what came of each in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import select

from featuredb.errors import BadInput
from featuredb.label_records import EstimateRow, LabelingRow, ScoringRow
from featuredb.labels.make import DEFAULT_LABELER, LabelingPlan, estimate_labels, make_labels
from featuredb.labels.score import DEFAULT_SCORERS, ScoringPlan, score_labels
from featuredb.labels.shares import above_baseline
from featuredb.labels.workshop import Workshop
from featuredb.progress import ProgressReport, silent
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.refs import FeatureRef, get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store


@dataclass(frozen=True, slots=True)
class LabelWork:
    """What is asked of labelers or scorers."""

    dictionary: str
    plugins: tuple[str, ...] = ()
    """Their names; the defaults where there are none."""
    features: tuple[str, ...] | None = None
    """References, "dictionary/index" or the index alone; None for all."""
    options: Mapping[str, str] = field(default_factory=dict)
    embedder: str | None = None
    seed: int = 0
    again: bool = False
    all_labels: bool = False


def run_labelers(
    store: Store, reader: SegmentReader, work: LabelWork, progress: ProgressReport = silent
) -> list[LabelingRow]:
    """Runs the labelers of `work`; what each did. Raises as `make_labels` does."""
    rows = []
    for name in work.plugins or (DEFAULT_LABELER,):
        done = make_labels(store, reader, _labeling(work, name), progress)
        rows.append(
            LabelingRow(
                dictionary=work.dictionary,
                labeler=done.labeler,
                labeled=done.n_labeled,
                failed=done.n_failed,
                known=done.n_known,
                under_sampled=done.n_under_sampled,
            )
        )
    return rows


def estimate_labelers(store: Store, reader: SegmentReader, work: LabelWork) -> list[EstimateRow]:
    """What the labelers of `work` would ask of language models; nothing is asked. Raises as `make_labels` does."""
    rows = []
    for name in work.plugins or (DEFAULT_LABELER,):
        found = estimate_labels(store, reader, _labeling(work, name))
        rows.append(
            EstimateRow(
                dictionary=work.dictionary,
                labeler=found.labeler,
                features=found.n_features,
                requests=found.n_requests,
                tokens_in=found.tokens_in,
                tokens_out=found.tokens_out,
                cost=found.cost,
            )
        )
    return rows


def _labeling(work: LabelWork, labeler: str) -> LabelingPlan:
    return LabelingPlan(
        work.dictionary, labeler, indices(work), work.options, work.embedder, seed=work.seed, again=work.again
    )


def run_scorers(
    store: Store, reader: SegmentReader, work: LabelWork, progress: ProgressReport = silent
) -> list[ScoringRow]:
    """Runs the scorers of `work`; what each did, and where its figures lie. Raises as `score_labels` does."""
    features = indices(work)
    with store.reading() as session:
        workshop = Workshop(
            store, reader, SegmentRef.newest(session, get_dictionary(session, work.dictionary)), work.embedder
        )
    rows = []
    for name in work.plugins or DEFAULT_SCORERS:
        plan = ScoringPlan(
            work.dictionary,
            name,
            features,
            work.all_labels,
            options=work.options,
            embedder=work.embedder,
            seed=work.seed,
            again=work.again,
        )
        done = score_labels(store, reader, plan, progress, workshop)
        median, baseline, above = _summary(store, work, done.scorer, features)
        rows.append(
            ScoringRow(
                dictionary=work.dictionary,
                scorer=done.scorer,
                scored=done.n_scored,
                failed=done.n_failed,
                known=done.n_known,
                under_sampled=done.n_under_sampled,
                median=median,
                median_baseline=baseline,
                above_baseline=above,
            )
        )
    return rows


def indices(work: LabelWork) -> tuple[int, ...] | None:
    """The features asked for, by index. Raises BadInput for one of another dictionary."""
    if work.features is None:
        return None
    found = set()
    for text in work.features:
        ref = FeatureRef.parse(text if "/" in text else f"{work.dictionary}/{text}")
        if ref.dictionary != work.dictionary:
            raise BadInput(f"{text} is not a feature of {work.dictionary}", hint="label one dictionary at a time")
        found.add(ref.index)
    return tuple(sorted(found))


def _summary(
    store: Store, work: LabelWork, scorer: str, features: tuple[int, ...] | None
) -> tuple[float | None, float | None, float | None]:
    """Median of the scores and of their baselines, and the share whose interval lies above the baseline."""
    found = (
        select(LabelRow.feature_index, ScoreRow.value, ScoreRow.low, ScoreRow.baseline, ScoreRow.details)
        .join(LabelRow, ScoreRow.label_id == LabelRow.id)
        .where(ScoreRow.scorer == scorer, ScoreRow.seed == work.seed, ScoreRow.reason.is_(None))
    )
    with store.reading() as session:
        dictionary = get_dictionary(session, work.dictionary)
        rows = session.execute(found.where(LabelRow.dictionary_id == dictionary.id)).all()
    wanted = None if features is None else set(features)
    rows = [row for row in rows if wanted is None or row[0] in wanted]
    if not rows:
        return None, None, None
    baselines = [row[3] for row in rows if row[3] is not None]
    judged = [above for row in rows if (above := above_baseline(*row[2:])) is not None]
    return (
        float(np.median([row[1] for row in rows])),
        float(np.median(baselines)) if baselines else None,
        float(np.mean(judged)) if judged else None,
    )
