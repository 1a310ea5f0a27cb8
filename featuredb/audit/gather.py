"""A store's dictionary made ready to be audited: its halves, its panel, the labels to be judged and what checks need.

Rule: what is there and where it comes from; nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from sqlalchemy import select

from featuredb.audit.directions import StoredDirections
from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest
from featuredb.audit.states import ModelStates
from featuredb.errors import NotFound, nearest
from featuredb.labels.evidence import Evidence
from featuredb.labels.requests import LabelToScore
from featuredb.labels.table import FAILED, shown_label
from featuredb.labels.workshop import Workshop
from featuredb.plugins import bare
from featuredb.progress import ProgressReport, silent
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.refs import check_index, get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store


@contextmanager
def open_request(
    store: Store,
    reader: SegmentReader,
    dictionary: str,
    *,
    features: Sequence[int] | None = None,
    source: str | None = None,
    embedder: str | None = None,
    options: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: ProgressReport = silent,
) -> Iterator[AuditRequest]:
    """All that checks of one dictionary may use, while it is open.

    features: those to audit, by index; None: all. source: judge the newest label of this labeler ("neuronpedia",
    "file.v1"), where otherwise the shown one is judged. Raises NotFound for what is not there.
    """
    with store.reading() as session:
        row = get_dictionary(session, dictionary)
        asked = sorted({check_index(row, index) for index in features}) if features is not None else None
        segment = SegmentRef.newest(session, row)
    labels = labels_to_judge(store, row.id, source)
    with ExitStack() as stack:
        everything, audit, labeling = (
            stack.enter_context(Evidence(store, reader, segment, half)) for half in (None, "scoring", "labeling")
        )
        workshop = Workshop(store, reader, segment, embedder)
        yield AuditRequest(
            features=range(everything.n_features) if asked is None else asked,
            everything=everything,
            audit=audit,
            labeling=labeling,
            panel=Fired.read(everything),
            labels=labels,
            directions=StoredDirections(workshop),
            states=ModelStates(workshop, everything),
            texts=workshop,
            scores=_Scores(store, row.id).of,
            options=options or {},
            seed=seed,
            progress=progress,
        )


def labels_to_judge(store: Store, dictionary_id: int, source: str | None) -> dict[int, LabelToScore]:
    """The label of each feature that is shown, or the newest that one labeler made, by feature.

    Raises NotFound where no label is by that labeler.
    """
    statement = select(LabelRow).where(
        LabelRow.dictionary_id == dictionary_id, LabelRow.status != FAILED, LabelRow.text.is_not(None)
    )
    by_feature: dict[int, list[LabelRow]] = {}
    labelers = set()
    with store.reading() as session:
        for label in session.scalars(statement.order_by(LabelRow.feature_index, LabelRow.id)):
            labelers.add(label.labeler)
            if source is None or source in (label.labeler, bare(label.labeler)):
                by_feature.setdefault(label.feature_index, []).append(label)
    if source is not None and not by_feature:
        known = sorted(labelers)
        listed = f"there are labels by {', '.join(known)}" if known else "there are no labels"
        raise NotFound(f"no label is by {source!r}", hint=nearest(source, known, otherwise=listed))
    found = {}
    for feature, rows in by_feature.items():
        chosen = shown_label(rows) if source is None else rows[-1]
        if chosen is not None and chosen.text is not None:
            found[feature] = LabelToScore(chosen.id, feature, chosen.text, chosen.predicate)
    return found


class _Scores:
    """What scorers made of labels, read when first asked for."""

    def __init__(self, store: Store, dictionary_id: int) -> None:
        self._store, self._dictionary_id = store, dictionary_id
        self._found: dict[int, dict[str, float]] | None = None

    def of(self, label_id: int) -> Mapping[str, float]:
        if self._found is None:
            self._found = self._read()
        return self._found.get(label_id, {})

    def _read(self) -> dict[int, dict[str, float]]:
        statement = (
            select(ScoreRow.label_id, ScoreRow.scorer, ScoreRow.value)
            .join(LabelRow, ScoreRow.label_id == LabelRow.id)
            .where(LabelRow.dictionary_id == self._dictionary_id, ScoreRow.value.is_not(None))
            .order_by(ScoreRow.id)
        )
        found: dict[int, dict[str, float]] = {}
        with self._store.reading() as session:
            for label, scorer, value in session.execute(statement):
                if value is not None and np.isfinite(value):
                    found.setdefault(label, {})[bare(scorer)] = float(value)
        return found
