"""Findings as answers: rows worst first, what a feature's are in words, and the flags in every other answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.audit.checks import chosen_checks, descriptions, severity
from featuredb.audit.findings import current_findings, flags_of
from featuredb.audit.gather import labels_to_judge
from featuredb.labels.table import shown_labels
from featuredb.plugins import bare
from featuredb.records import FindingRow
from featuredb.store import catalog
from featuredb.store.refs import get_dictionary
from featuredb.store.store import Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which findings of a dictionary."""

    features: tuple[int, ...] | None = None
    """None: of all."""
    checks: tuple[str, ...] = ()
    """Names of findings, or of checks; none: all."""
    source: str | None = None
    """Of this labeler's labels, where otherwise those of the shown labels are wanted."""
    every: bool = False
    """Also what checks made of features that they did not flag."""

    def names(self, finding: catalog.FindingRow) -> bool:
        """Whether one of the names is this finding's or its check's."""
        wanted = {bare(name) for name in self.checks}
        return not wanted or finding.name in wanted or bare(finding.plugin) in wanted


def read_findings(store: Store, dictionary: str, wanted: Wanted) -> list[FindingRow]:
    """Findings of a dictionary, the worst first: wrong labels, then other faults, then what only describes.

    Raises NotFound for a check of which nothing is kept and that is not installed.
    """
    with store.reading() as session:
        row = get_dictionary(session, dictionary)
        _check_names(session, row.id, wanted.checks)
        found = current_findings(
            session, row.id, wanted.features, every=wanted.every, judged=_judged(store, row.id, wanted.source)
        )
        return _rows(session, row, [pair for pair in found if wanted.names(pair[0])])


def _check_names(session: Session, dictionary_id: int, names: Sequence[str]) -> None:
    """Raises NotFound for a name that neither an installed check nor a kept finding has."""
    if not names:
        return
    kept = select(catalog.FindingRow.name, catalog.FindingRow.plugin).distinct()
    known = {
        bare(said)
        for pair in session.execute(kept.where(catalog.FindingRow.dictionary_id == dictionary_id))
        for said in pair
    }
    unknown = [name for name in names if bare(name) not in known]
    if unknown:
        chosen_checks(unknown)


def _judged(store: Store, dictionary_id: int, source: str | None) -> dict[int, int] | None:
    """The labels that a labeler's findings are about, by feature; None for those that are shown."""
    if source is None:
        return None
    labels = labels_to_judge(store, dictionary_id, source)
    return {feature: label.label_id for feature, label in labels.items()}


def _badness(finding: catalog.FindingRow, described: Collection[str]) -> tuple[bool, int, float, int]:
    return not finding.flagged, severity(finding.name, described), -finding.score, finding.feature_index


def findings_of(session: Session, dictionary: catalog.DictionaryRow, feature: int) -> tuple[FindingRow, ...]:
    """A feature's findings, the worst first."""
    return tuple(_rows(session, dictionary, current_findings(session, dictionary.id, [feature])))


def _rows(
    session: Session,
    dictionary: catalog.DictionaryRow,
    found: Sequence[tuple[catalog.FindingRow, catalog.VerdictRow | None]],
) -> list[FindingRow]:
    """Findings of a dictionary as answers, the worst first."""
    if not found:
        return []
    described = descriptions()
    features = {finding.feature_index for finding, _ in found}
    labels = shown_labels(session, dictionary.id, features)
    judged = _texts(session, [finding.label_id for finding, _ in found if finding.label_id is not None])
    flags = flags_of(session, dictionary.id, features)
    return [
        _row(dictionary.name, finding, verdict, labels.get(finding.feature_index), judged, flags)
        for finding, verdict in sorted(found, key=lambda pair: _badness(pair[0], described))
    ]


def _texts(session: Session, label_ids: Sequence[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(0, len(label_ids), 500):
        wanted = catalog.LabelRow.id.in_(label_ids[start : start + 500])
        rows = session.execute(select(catalog.LabelRow.id, catalog.LabelRow.text).where(wanted))
        found |= {number: text for number, text in rows if text is not None}
    return found


def _row(
    dictionary: str,
    finding: catalog.FindingRow,
    verdict: catalog.VerdictRow | None,
    label: str | None,
    judged: dict[int, str],
    flags: dict[int, tuple[str, ...]],
) -> FindingRow:
    evidence: dict[str, Any] = dict(finding.evidence)
    if "others" in evidence:
        evidence["others"] = [f"{dictionary}/{index}" for index in evidence["others"]]
    return FindingRow(
        dictionary=dictionary,
        index=finding.feature_index,
        label=label,
        flags=flags.get(finding.feature_index, ()),
        check=finding.name,
        score=finding.score,
        evidence=evidence,
        suggestion=finding.suggestion,
        p=finding.p,
        q=finding.q,
        flagged=finding.flagged,
        judged=None if finding.label_id is None else judged.get(finding.label_id),
        plugin=finding.plugin,
        verdict=None if verdict is None else verdict.verdict,
        note=None if verdict is None else verdict.note,
        created_at=finding.created_at,
    )
