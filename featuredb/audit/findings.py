"""Findings in the catalog: written by audits, read into answers, and judged in the end by people.

Rule: a finding about a label counts for a feature only while that label is the one shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from featuredb.audit.requests import Judged
from featuredb.errors import BadInput, NotFound, nearest
from featuredb.labels.table import checked_text, shown_label_ids
from featuredb.plugins import bare
from featuredb.store.catalog import DictionaryRow, FindingRow, VerdictRow

Asked: TypeAlias = Select[*tuple[Any, ...]]

Verdict = Literal["confirmed", "dismissed"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""What a person can say of a finding: that it is right, or that it is none. A dismissed one is no flag."""

AT_ONCE = 500
"""Values in one statement: SQLite takes no more than so many."""

MANY = 5_000
"""Features from which a dictionary's findings are read whole."""


def keep_findings(
    session: Session,
    dictionary_id: int,
    plugin: str,
    judged: Sequence[tuple[str, Judged]],
    features: Sequence[int],
    labels: Collection[int],
    seed: int,
) -> None:
    """Writes what a check made of some features, in place of what it, or an earlier version, made of them before.

    judged: each with the name of its finding. features: all that were asked for. labels: ids of those that were judged;
    what was found of a feature's other labels stays.
    """
    known = set(labels)
    earlier_versions = FindingRow.plugin.startswith(f"{bare(plugin)}.v", autoescape=True)
    for part in _parts(features):
        earlier = select(FindingRow.id, FindingRow.label_id).where(
            FindingRow.dictionary_id == dictionary_id, earlier_versions, FindingRow.feature_index.in_(part)
        )
        gone = [number for number, label in session.execute(earlier) if label is None or label in known]
        session.execute(delete(FindingRow).where(FindingRow.id.in_(gone)))
    session.add_all(
        FindingRow(
            dictionary_id=dictionary_id,
            feature_index=one.feature,
            plugin=plugin,
            name=name,
            score=one.score,
            flagged=one.flagged,
            p=one.p,
            q=one.q,
            label_id=one.label_id,
            evidence=dict(one.evidence),
            suggestion=one.suggestion,
            seed=seed,
        )
        for name, one in judged
    )


def current_findings(
    session: Session,
    dictionary_id: int,
    features: Collection[int] | None = None,
    *,
    every: bool = False,
    judged: Mapping[int, int] | None = None,
) -> list[tuple[FindingRow, VerdictRow | None]]:
    """What checks have found of some features (None: all), each with the latest verdict on it; a feature's by age.

    every: also what they made of features that they did not flag. judged: the label of each feature of which findings
    are wanted, by number; None: of the one that is shown.
    """
    wanted = select(FindingRow).where(FindingRow.dictionary_id == dictionary_id).order_by(FindingRow.id)
    if not every:
        wanted = wanted.where(FindingRow.flagged)
    found = _of_features(session.scalars, wanted, FindingRow.feature_index, features)
    found = _about(found, _shown(session, dictionary_id, found) if judged is None else judged)
    verdicts = _latest(session.scalars, select(VerdictRow), dictionary_id, found)
    return [(row, verdicts.get((row.feature_index, row.name, row.label_id))) for row in found]


def flags_of(session: Session, dictionary_id: int, features: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Names of the findings of some features, the worst first; those that a person dismissed are left out."""
    # Columns, not whole findings with their evidence: every answer asks this of each of its features.
    columns = (FindingRow.feature_index, FindingRow.name, FindingRow.score, FindingRow.label_id)
    wanted = select(*columns).where(FindingRow.dictionary_id == dictionary_id, FindingRow.flagged)
    rows = _of_features(session.execute, wanted.order_by(FindingRow.id), FindingRow.feature_index, features)
    rows = _about(rows, _shown(session, dictionary_id, rows))
    said = select(VerdictRow.feature_index, VerdictRow.name, VerdictRow.label_id, VerdictRow.verdict)
    verdicts = _latest(session.execute, said, dictionary_id, rows)
    found: dict[int, list[str]] = {}
    for row in sorted(rows, key=lambda row: -row.score):
        verdict = verdicts.get((row.feature_index, row.name, row.label_id))
        if verdict is None or verdict.verdict != "dismissed":
            found.setdefault(row.feature_index, []).append(row.name)
    return {feature: tuple(dict.fromkeys(names)) for feature, names in found.items()}


def flagged_features(session: Session, dictionary_id: int, name: str) -> list[int]:
    """The features that have a finding of that name."""
    statement = select(FindingRow.feature_index).where(
        FindingRow.dictionary_id == dictionary_id, FindingRow.name == name, FindingRow.flagged
    )
    features = set(session.scalars(statement))
    return sorted(feature for feature, flags in flags_of(session, dictionary_id, features).items() if name in flags)


def give_verdict(
    session: Session,
    dictionary: DictionaryRow,
    feature: int,
    name: str | None,
    verdict: Verdict,
    author: str | None = None,
    note: str | None = None,
) -> list[tuple[FindingRow, VerdictRow]]:
    """Keeps what a person says of a feature's finding of that name, or of all its findings (None); those findings.

    Raises BadInput for an unknown verdict, NotFound where there is no such finding.
    """
    if verdict not in VERDICTS:
        raise BadInput(f"{verdict!r} is no verdict", hint=f"say {' or '.join(VERDICTS)}")
    found = [row for row, _ in current_findings(session, dictionary.id, [feature])]
    chosen = [row for row in found if name in (None, row.name)]
    if not chosen:
        what = f"no finding {name!r}" if name else "no finding"
        names = sorted({row.name for row in found})
        hint = f"there are {', '.join(names)}" if names else "`featuredb audit` looks for some"
        raise NotFound(f"{dictionary.name}/{feature} has {what}", hint=nearest(name or "", names, otherwise=hint))
    said = []
    for row in chosen:
        kept = VerdictRow(
            dictionary_id=dictionary.id,
            feature_index=feature,
            name=row.name,
            label_id=row.label_id,
            verdict=verdict,
            author=None if author is None else checked_text(author, "author"),
            note=None if note is None else checked_text(note, "note"),
        )
        session.add(kept)
        said.append((row, kept))
    session.flush()
    return said


def _of_features(
    ask: Callable[[Asked], Iterable[Any]],
    wanted: Asked,
    feature: InstrumentedAttribute[int],
    features: Collection[int] | None,
) -> list[Any]:
    """The rows of a select that are about some features (None: all).

    ask: the session's `scalars` or `execute`. feature: the column that says whose a row is.
    """
    if features is None:
        return list(ask(wanted))
    if len(features) > MANY:
        kept = set(features)
        return [row for row in ask(wanted) if row.feature_index in kept]
    return [row for part in _parts(sorted(features)) for row in ask(wanted.where(feature.in_(part)))]


def _shown(session: Session, dictionary_id: int, rows: Iterable[Any]) -> dict[int, int]:
    """The shown label of each feature that has a finding about a label, by number."""
    return shown_label_ids(session, dictionary_id, {row.feature_index for row in rows if row.label_id is not None})


def _about(rows: Iterable[Any], judged: Mapping[int, int]) -> list[Any]:
    """The findings that are about no label, or about the one that `judged` has for their feature."""
    return [row for row in rows if row.label_id is None or judged.get(row.feature_index) == row.label_id]


def _latest(
    ask: Callable[[Asked], Iterable[Any]], wanted: Asked, dictionary_id: int, found: Iterable[Any]
) -> dict[tuple[int, str, int | None], Any]:
    """The latest verdict on each of some findings that has any, by feature, name and label."""
    wanted = wanted.where(VerdictRow.dictionary_id == dictionary_id).order_by(VerdictRow.id)
    rows = _of_features(ask, wanted, VerdictRow.feature_index, {row.feature_index for row in found})
    return {(row.feature_index, row.name, row.label_id): row for row in rows}


def _parts(values: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(values), AT_ONCE):
        yield list(values[start : start + AT_ONCE])
