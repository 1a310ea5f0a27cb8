"""Scores of labels by scorers: which labels are asked for, what each is held against, and how a run goes on.

Rule: a scorer is handed the scoring half of the documents and nothing else; a figure that failed is a row with its
reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from featuredb.errors import PluginFailed
from featuredb.labels.answers import AnswerCache
from featuredb.labels.decoys import Decoys
from featuredb.labels.evidence import Evidence
from featuredb.labels.make import SECONDS_BETWEEN_COMMITS, check_options, check_seed
from featuredb.labels.requests import LabelToScore, Scored, ScoreRequest
from featuredb.labels.table import FAILED, shown_label
from featuredb.labels.workshop import Workshop
from featuredb.plugins import Registry, Scorer, guarded_iter
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.rows import plain
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.refs import check_index, get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

FIT_SCORERS = ("predicate-fit", "embedding", "detection", "fuzzing")
"""Those that say how well a label fits what its feature fires on, and so choose the one that is shown. Ranks among
other labels saturate, and what a feature causes is another question."""

DEFAULT_SCORERS = ("predicate-fit", "embedding", "rank")
"""Those that ask no language model."""


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """Which labels are to be scored, and how."""

    dictionary: str
    scorer: str
    features: tuple[int, ...] | None = None
    all_labels: bool = False
    """Every usable label of a feature, where otherwise only the shown one is scored."""
    options: Mapping[str, str] = field(default_factory=dict)
    embedder: str | None = None
    seed: int = 0
    again: bool = False
    """Score anew what this scorer has scored with the same seed."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a scorer's run did."""

    scorer: str
    n_scored: int
    n_failed: int
    n_known: int
    n_under_sampled: int


def score_labels(
    store: Store,
    reader: SegmentReader,
    plan: ScoringPlan,
    progress: ProgressReport = silent,
    workshop: Workshop | None = None,
) -> Scoring:
    """Runs one scorer; figures are kept as they come, so that an interrupted run goes on where it stopped.

    workshop: of the plan's dictionary and embedder, to share what an earlier scorer loaded.
    Raises NotFound for an unknown dictionary, feature, scorer or embedder, BadInput for an option that the scorer has
    not or a seed that is none.
    """
    check_seed(plan.seed)
    plugin = Registry.installed().scorer(plan.scorer)
    check_options(plugin.name, plugin.options, plan.options)
    with store.reading() as session:
        dictionary = get_dictionary(session, plan.dictionary)
        for index in plan.features or ():
            check_index(dictionary, index)
        segment = SegmentRef.newest(session, dictionary)
    labels = _labels(store, dictionary.id, plan)
    key = key_of(plugin, plan)
    known = set() if plan.again else _scored(store, plugin.name, key)
    with Evidence(store, reader, segment, "scoring") as evidence:
        enough = [label for label in labels if evidence.n_fires[label.feature] >= ENOUGH_FIRINGS]
        asked = [label for label in enough if label.label_id not in known]
        # Held against every feature's label, also where only a few are asked for.
        pool = _labels(store, dictionary.id, ScoringPlan(plan.dictionary, plan.scorer))
        pool = [label for label in pool if evidence.n_fires[label.feature] >= ENOUGH_FIRINGS]
        request = ScoreRequest(
            evidence=evidence,
            labels=asked,
            decoys=Decoys(pool, evidence.density, plan.seed).draw,
            workshop=workshop or Workshop(store, reader, segment, plan.embedder),
            options=plan.options,
            seed=plan.seed,
            answers=AnswerCache(store),
            progress=progress,
        )
        keeper = _Keeper(store, plugin.name, plan.seed, key)
        left = {label.label_id for label in asked}
        try:
            for scored in guarded_iter(plugin.name, iter(plugin.score(request)) if asked else iter(())):
                if scored.label_id not in left:
                    raise PluginFailed(f"scorer {plugin.name!r} answered for a label that was not asked")
                left.discard(scored.label_id)
                keeper.add(scored)
                progress(Progress(f"score ({plugin.name})", len(asked) - len(left), len(asked), "labels"))
        finally:
            keeper.commit()
    return Scoring(
        scorer=plugin.name,
        n_scored=keeper.n_scored,
        n_failed=keeper.n_failed,
        n_known=len(enough) - len(asked),
        n_under_sampled=len(labels) - len(enough),
    )


def _labels(store: Store, dictionary_id: int, plan: ScoringPlan) -> list[LabelToScore]:
    """The labels to score, by feature."""
    statement = select(LabelRow).where(LabelRow.dictionary_id == dictionary_id, LabelRow.status != FAILED)
    by_feature: dict[int, list[LabelRow]] = {}
    with store.reading() as session:
        for row in session.scalars(statement.order_by(LabelRow.feature_index, LabelRow.id)):
            by_feature.setdefault(row.feature_index, []).append(row)
    wanted = None if plan.features is None else set(plan.features)
    chosen: list[LabelRow] = []
    for feature, rows in sorted(by_feature.items()):
        if wanted is None or feature in wanted:
            shown = shown_label(rows)
            chosen += rows if plan.all_labels else [] if shown is None else [shown]
    return [LabelToScore(row.id, row.feature_index, row.text, row.predicate) for row in chosen if row.text is not None]


def key_of(plugin: Scorer, plan: ScoringPlan) -> str:
    """A hash of all that may change a scorer's figures: another judge's or embedder's stand beside the first's."""
    skip = getattr(plugin, "indifferent", ())
    options = {name: value for name, value in plan.options.items() if name not in skip}
    asked = [plugin.name, options, plan.embedder, plan.seed]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _scored(store: Store, scorer: str, key: str) -> set[int]:
    found = select(ScoreRow.label_id, ScoreRow.details).where(ScoreRow.scorer == scorer, ScoreRow.reason.is_(None))
    with store.reading() as session:
        return {label for label, details in session.execute(found) if details.get("request") == key}


class _Keeper:
    """Checks figures and writes them to the catalog every few seconds."""

    def __init__(self, store: Store, scorer: str, seed: int, key: str) -> None:
        self._store = store
        self._scorer = scorer
        self._seed = seed
        self._key = key
        self._waiting: list[ScoreRow] = []
        self._committed_at = time.monotonic()
        self.n_scored = self.n_failed = 0

    def add(self, scored: Scored) -> None:
        reason = scored.failed
        if reason is None and (scored.value is None or not math.isfinite(scored.value)):
            reason = "the scorer gave no number"
        if reason is None:
            self.n_scored += 1
        else:
            self.n_failed += 1
        self._waiting.append(
            ScoreRow(
                label_id=scored.label_id,
                scorer=self._scorer,
                value=None if reason is not None else scored.value,
                low=scored.low,
                high=scored.high,
                n=scored.n,
                failed=scored.failed_answers,
                baseline=scored.baseline,
                judge=scored.judge,
                seed=self._seed,
                reason=reason,
                details=plain({**scored.details, "request": self._key}),
            )
        )
        if time.monotonic() - self._committed_at > SECONDS_BETWEEN_COMMITS:
            self.commit()

    def commit(self) -> None:
        if self._waiting:
            with self._store.session() as session:
                there = sorted({row.label_id for row in self._waiting})
                alive: set[int] = set()
                for start in range(0, len(there), 500):
                    part = there[start : start + 500]
                    alive |= set(session.scalars(select(LabelRow.id).where(LabelRow.id.in_(part))))
                    earlier = select(ScoreRow.id, ScoreRow.details).where(
                        ScoreRow.scorer == self._scorer, ScoreRow.label_id.in_(part)
                    )
                    same = [number for number, said in session.execute(earlier) if said.get("request") == self._key]
                    session.execute(delete(ScoreRow).where(ScoreRow.id.in_(same)))
                # A label that was removed while it was scored takes its figure with it.
                session.add_all(row for row in self._waiting if row.label_id in alive)
                session.flush()
                update_gains(session, sorted(alive))
            self._waiting = []
        self._committed_at = time.monotonic()


def update_gains(session: Session, labels: Sequence[int]) -> None:
    """Works out anew how far those labels' scores of fit lie from their baselines (0) to perfect (1), on average."""
    for start in range(0, len(labels), 500):
        part = labels[start : start + 500]
        found = select(ScoreRow.label_id, ScoreRow.value, ScoreRow.baseline).where(
            ScoreRow.label_id.in_(part),
            or_(*(ScoreRow.scorer.startswith(f"{name}.v", autoescape=True) for name in FIT_SCORERS)),
            ScoreRow.value.is_not(None),
            ScoreRow.baseline.is_not(None),
            ScoreRow.baseline < 1.0,
            ScoreRow.seed.is_not(None),  # what a file states was not measured here
        )
        gains: dict[int, list[float]] = {}
        for label, value, baseline in session.execute(found):
            assert value is not None
            assert baseline is not None  # they were chosen so
            gains.setdefault(label, []).append((value - baseline) / (1.0 - baseline))
        session.execute(
            update(LabelRow),
            [{"id": label, "gain": fmean(gains[label]) if label in gains else None} for label in part],
        )
