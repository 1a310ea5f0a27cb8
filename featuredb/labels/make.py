"""Labels made by labelers: which features are asked for, what is kept of the proposals, and how a run goes on.

Rule: a labeler is handed the labeling half of the documents and nothing else; what it says is checked before it is
kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select

from featuredb.errors import BadInput, FeatureDBError, PluginFailed, nearest
from featuredb.labels.answers import AnswerCache
from featuredb.labels.evidence import Evidence
from featuredb.labels.requests import LabelRequest, Proposal
from featuredb.labels.table import FAILED, PROPOSED, checked_text
from featuredb.labels.workshop import Workshop
from featuredb.plugins import Labeler, Registry, guarded, guarded_iter
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.rows import plain
from featuredb.search.scope import ENOUGH_FIRINGS
from featuredb.store.catalog import LabelRow
from featuredb.store.refs import check_index, get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

SECONDS_BETWEEN_COMMITS = 2.0

AT_ONCE = 500
"""Features asked for in one statement."""

LARGEST_SEED = 2**63 - 1
"""What the catalog can hold; NumPy takes none below 0."""

DEFAULT_LABELER = "plain"


@dataclass(frozen=True, slots=True)
class LabelingPlan:
    """Which features are to be labeled, and by whom."""

    dictionary: str
    labeler: str = DEFAULT_LABELER
    features: tuple[int, ...] | None = None
    """None: all that fire often enough."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The labeler's own."""
    embedder: str | None = None
    seed: int = 0
    again: bool = False
    """Label features anew that this labeler has labeled with the same options."""


@dataclass(frozen=True, slots=True)
class Labeling:
    """What a labeler's run did."""

    labeler: str
    n_labeled: int
    n_failed: int
    n_known: int
    """Features it had labeled before, with the same options."""
    n_under_sampled: int
    """Features that fire too seldom to be labeled."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """What a labeler's run would ask of a language model; zeros for one that asks none."""

    labeler: str
    n_features: int
    n_requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None


def make_labels(store: Store, reader: SegmentReader, plan: LabelingPlan, progress: ProgressReport = silent) -> Labeling:
    """Runs one labeler; proposals are kept as they come, so that an interrupted run goes on where it stopped.

    Raises NotFound for an unknown dictionary, feature, labeler or embedder, BadInput for an option that the labeler has
    not or a seed that is none.
    """
    with _prepared(store, reader, plan, progress) as job:
        keeper = _Keeper(store, job.dictionary_id, job.plugin.name, job.request_key, job.run)
        _run(job.plugin, job.request, keeper, progress)
        return Labeling(
            labeler=job.plugin.name,
            n_labeled=keeper.n_labeled,
            n_failed=keeper.n_failed,
            n_known=job.n_enough - len(job.request.features),
            n_under_sampled=job.n_wanted - job.n_enough,
        )


def estimate_labels(store: Store, reader: SegmentReader, plan: LabelingPlan) -> Estimated:
    """What `make_labels` would ask and cost at most; nothing is asked and nothing kept."""
    with _prepared(store, reader, plan, silent) as job:
        asked, estimate = len(job.request.features), getattr(job.plugin, "estimate", None)
        if estimate is None or not asked:
            return Estimated(job.plugin.name, asked)
        found = guarded(job.plugin.name, lambda: estimate(job.request))
        return Estimated(job.plugin.name, asked, found.n_requests, found.tokens_in, found.tokens_out, found.cost)


@dataclass(frozen=True, slots=True)
class _Job:
    """A plan with all it needs."""

    plugin: Labeler
    dictionary_id: int
    run: str
    request_key: str
    request: LabelRequest
    n_wanted: int
    n_enough: int


@contextmanager
def _prepared(store: Store, reader: SegmentReader, plan: LabelingPlan, progress: ProgressReport) -> Iterator[_Job]:
    check_seed(plan.seed)
    plugin = Registry.installed().labeler(plan.labeler)
    check_options(plugin.name, plugin.options, plan.options)
    with store.reading() as session:
        dictionary = get_dictionary(session, plan.dictionary)
        wanted = range(dictionary.n_features) if plan.features is None else sorted(set(plan.features))
        for index in wanted if plan.features is not None else ():
            check_index(dictionary, index)
        segment = SegmentRef.newest(session, dictionary)
    request_key = key_of(plugin, plan, segment.run)
    with Evidence(store, reader, segment, "labeling") as evidence:
        enough = [index for index in wanted if evidence.n_fires[index] >= ENOUGH_FIRINGS]
        known = set() if plan.again else _labeled(store, dictionary.id, plugin.name, request_key)
        features = [index for index in enough if index not in known]
        request = LabelRequest(
            evidence=evidence,
            features=features,
            workshop=Workshop(store, reader, segment, plan.embedder),
            options=plan.options,
            seed=plan.seed,
            answers=AnswerCache(store),
            progress=progress,
        )
        yield _Job(plugin, dictionary.id, segment.run, request_key, request, len(wanted), len(enough))


def check_seed(seed: int) -> None:
    """Raises BadInput for a seed that cannot be kept or drawn from."""
    if not 0 <= seed <= LARGEST_SEED:
        raise BadInput(f"{seed} is no seed", hint="give a whole number from 0 to 2**63 - 1")


def check_options(plugin: str, known: Sequence[str], given: Mapping[str, str]) -> None:
    """Raises BadInput for an option that a plugin has not."""
    for name in given:
        if name not in known:
            listed = f"it takes {', '.join(known)}" if known else "it takes none"
            raise BadInput(f"{plugin} has no option {name!r}", hint=nearest(name, known, otherwise=listed))


def key_of(plugin: Labeler, plan: LabelingPlan, run: str) -> str:
    """A hash of all that may change a labeler's answers; options that a plugin calls `indifferent`, such as a budget or
    a number of threads, do not."""
    skip = getattr(plugin, "indifferent", ())
    options = {name: value for name, value in plan.options.items() if name not in skip}
    asked = [plugin.name, options, plan.embedder, plan.seed, run]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _labeled(store: Store, dictionary_id: int, labeler: str, request: str) -> set[int]:
    with store.reading() as session:
        rows = session.execute(
            select(LabelRow.feature_index, LabelRow.provenance).where(
                LabelRow.dictionary_id == dictionary_id, LabelRow.labeler == labeler, LabelRow.status != FAILED
            )
        )
        return {index for index, provenance in rows if provenance.get("request") == request}


def _run(plugin: Labeler, request: LabelRequest, keeper: _Keeper, progress: ProgressReport) -> None:
    if not request.features:
        return
    asked = set(request.features)
    try:
        for proposal in _answers(plugin, request):
            if proposal.feature not in asked:
                raise PluginFailed(f"labeler {plugin.name!r} answered for {proposal.feature}, which was not asked")
            asked.discard(proposal.feature)
            keeper.add(proposal)
            done = len(request.features) - len(asked)
            progress(Progress(f"label ({plugin.name})", done, len(request.features), "features"))
    finally:
        keeper.commit()  # what is made is kept, also when the rest is not to be had


def _answers(plugin: Labeler, request: LabelRequest) -> Iterator[Proposal]:
    return guarded_iter(plugin.name, iter(plugin.label(request)))


class _Keeper:
    """Checks proposals and writes them to the catalog every few seconds."""

    def __init__(self, store: Store, dictionary_id: int, labeler: str, request: str, run: str) -> None:
        self._store = store
        self._dictionary_id = dictionary_id
        self._labeler = labeler
        self._origin = {"request": request, "run": run}
        self._waiting: list[LabelRow] = []
        self._committed_at = time.monotonic()
        self.n_labeled = self.n_failed = 0

    def add(self, proposal: Proposal) -> None:
        row = self._row(proposal)
        if row.status == FAILED:
            self.n_failed += 1
        else:
            self.n_labeled += 1
        self._waiting.append(row)
        if time.monotonic() - self._committed_at > SECONDS_BETWEEN_COMMITS:
            self.commit()

    def commit(self) -> None:
        if self._waiting:
            with self._store.session() as session:
                there = sorted({row.feature_index for row in self._waiting})
                for start in range(0, len(there), AT_ONCE):
                    # An earlier attempt that failed has been made good, or fails anew.
                    earlier = select(LabelRow.id, LabelRow.provenance).where(
                        LabelRow.dictionary_id == self._dictionary_id,
                        LabelRow.feature_index.in_(there[start : start + AT_ONCE]),
                        LabelRow.labeler == self._labeler,
                        LabelRow.status == FAILED,
                    )
                    same = [
                        number
                        for number, provenance in session.execute(earlier)
                        if provenance.get("request") == self._origin["request"]
                    ]
                    if same:
                        session.execute(delete(LabelRow).where(LabelRow.id.in_(same)))
                session.add_all(self._waiting)
            self._waiting = []
        self._committed_at = time.monotonic()

    def _row(self, proposal: Proposal) -> LabelRow:
        text, reason, predicate = proposal.text, proposal.failed, proposal.predicate
        if reason is None:
            try:
                text = checked_text(text or "")
                predicate = None if predicate is None else _checked_predicate(predicate)
            except FeatureDBError as error:
                text, reason, predicate = None, error.message, None
        return LabelRow(
            dictionary_id=self._dictionary_id,
            feature_index=proposal.feature,
            text=None if reason is not None else text,
            labeler=self._labeler,
            status=PROPOSED if reason is None else FAILED,
            note=reason,
            predicate=predicate,
            provenance=plain({**proposal.provenance, **self._origin}),
        )


def _checked_predicate(expression: dict[str, Any]) -> dict[str, Any]:
    from featuredb.predicates.expression import check

    return check(expression)
