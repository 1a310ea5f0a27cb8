"""Published labels as rows of the catalog and back: what is checked, what is known already, what goes in provenance.

Rule: one label is one row, failed ones with a reason and no text; nothing is read from files here but the stage.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput
from featuredb.labels.publication import Publication, PublishedLabel, PublishedScore
from featuredb.labels.published_files import LARGEST
from featuredb.labels.table import FAILED, FROM_FILE, MAX_LENGTH, PROPOSED, checked_text
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.published import as_json
from featuredb.visible import visible

_BATCH = 2_000
# Models' answers break lines where a label has none; any other control character makes a label unusable.
_BREAKS = re.compile(r"[\t\n\r\v\f]+")
_FIGURES = ("low", "high", "seed")
"""Of a score's details, those that have a column of their own."""


@dataclass(frozen=True, slots=True)
class Added:
    """What came of staged labels."""

    n_labels: int = 0
    n_known: int = 0
    n_failed: int = 0
    """Of those added, the ones that cannot be used; each has a row that says why."""
    n_scores: int = 0
    n_scores_known: int = 0

    def plus(self, other: Added) -> Added:
        names = ("n_labels", "n_known", "n_failed", "n_scores", "n_scores_known")
        return Added(**{name: getattr(self, name) + getattr(other, name) for name in names})


class LabelStage:
    """Labels on their way to the catalog, in a file: they are read long before its one transaction may begin."""

    def __init__(self, path: Path, publication: Publication) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._path = path
        self._publication = publication
        self.n = 0

    def add(self, feature: int, labels: Sequence[PublishedLabel]) -> None:
        for label in labels:
            staged = {"feature": feature, **_staged(self._publication, label)}
            self._file.write(as_json(staged, f"a label of feature {feature}") + "\n")
            self.n += 1

    def add_to(self, session: Session, dictionary_id: int, *, empty: bool) -> Added:
        """Adds what is not there yet. empty: the dictionary has no labels, so nothing needs to be looked up."""
        self._file.close()
        added = Added()
        look_up = not empty
        with self._path.open(encoding="utf-8") as file:
            rows = (json.loads(line) for line in file)
            while batch := list(islice(rows, _BATCH)):
                added = added.plus(_add(session, dictionary_id, batch, look_up=look_up))
                look_up = True  # the next batch may begin with labels of the last one's last feature
        return added

    def __enter__(self) -> LabelStage:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _staged(publication: Publication, label: PublishedLabel) -> dict[str, Any]:
    extra = dict(label.extra)
    reason, note = extra.pop("failed", None), extra.pop("note", None)
    predicate = extra.pop("predicate", None)
    model, author = _short(label.model), _short(label.author)
    text = None
    if reason is None:
        try:
            text = checked_text(_BREAKS.sub(" ", label.text))
        except BadInput as error:
            reason = error.message
    provenance = {
        "publisher": publication.publisher,
        "publication": publication.name,
        "labeler": _short(label.labeler),
        "model": model,
        "author": author,
    }
    created_at = extra.pop("created_at", None)
    said = {name: value for name, value in provenance.items() if value}
    return {
        "text": text,
        "labeler": _signed(publication.publisher, _short(label.labeler) or "unknown"),
        "status": FAILED if reason is not None else PROPOSED,
        "author": author,
        "note": _short(note if reason is None else str(reason), MAX_LENGTH),
        "predicate": predicate if isinstance(predicate, dict) else None,
        "provenance": said | ({"extra": extra} if extra else {}),
        "created_at": created_at,
        "scores": [_staged_score(publication.publisher, score) for score in label.scores],
    }


def _staged_score(publisher: str, score: PublishedScore) -> dict[str, Any]:
    details = dict(score.details)
    measured = math.isfinite(score.value)
    reason = details.pop("reason", None)
    row: dict[str, Any] = {}
    for name in _FIGURES:
        fits = _is_count(details.get(name), 2**63) if name == "seed" else _is_number(details.get(name))
        row[name] = details.pop(name) if fits else None
    return row | {
        "scorer": _signed(publisher, _short(score.scorer) or "unknown"),
        "value": score.value if measured else None,
        "reason": None if measured else _short(str(reason or "the publisher gives no figure"), MAX_LENGTH),
        "n": score.n if _is_count(score.n) else None,
        "failed": score.failed if _is_count(score.failed) else None,
        "baseline": score.baseline if _is_number(score.baseline) else None,
        "judge": _short(score.judge),
        "details": details,
    }


def _short(text: object, length: int = 200) -> str | None:
    """A publisher's word for something, fit for a line; None for anything but text, and for none."""
    return visible(_BREAKS.sub(" ", text).strip())[:length] or None if isinstance(text, str) else None


def _is_count(value: object, past: int = 2**31) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < past


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _signed(publisher: str, name: str) -> str:
    return name if name == FROM_FILE else f"{publisher}:{name}"


def _unsigned(publisher: str | None, name: str) -> str:
    return name if publisher is None else name.removeprefix(f"{publisher}:")


def _add(session: Session, dictionary_id: int, batch: Sequence[dict[str, Any]], *, look_up: bool) -> Added:
    """Adds one batch; labels of a feature that are the same are one, and get the scores of both."""
    known = _known(session, dictionary_id, batch) if look_up else {}
    now = datetime.now(UTC)
    new: dict[tuple[object, ...], dict[str, Any]] = {}
    for staged in batch:
        key = _key(staged["feature"], staged["labeler"], staged)
        if key not in known and key not in new:
            new[key] = _label_row(dictionary_id, staged, now)
    statement = insert(LabelRow).returning(LabelRow.id, sort_by_parameter_order=True)
    ids = known | dict(zip(new, session.scalars(statement, list(new.values())) if new else (), strict=True))
    scores, n_scores_known = _new_scores(session, batch, ids, known)
    if scores:
        session.execute(insert(ScoreRow), scores)
    return Added(
        n_labels=len(new),
        n_known=len(batch) - len(new),
        n_failed=sum(row["status"] == FAILED for row in new.values()),
        n_scores=len(scores),
        n_scores_known=n_scores_known,
    )


def _key(feature: int, labeler: str, said: Mapping[str, Any]) -> tuple[object, ...]:
    """What makes two labels the same one."""
    text = said["text"] if said["text"] is not None else (FAILED, said["note"])
    return feature, labeler, text, said["author"], (said["provenance"] or {}).get("model")


def _known(session: Session, dictionary_id: int, batch: Sequence[dict[str, Any]]) -> dict[tuple[object, ...], int]:
    """The ids of the labels that the batch's features have, by what makes them the same; the oldest of equals."""
    features = sorted({staged["feature"] for staged in batch})
    found: dict[tuple[object, ...], int] = {}
    for start in range(0, len(features), 500):  # SQLite takes no more than so many values in one statement
        rows = select(LabelRow).where(
            LabelRow.dictionary_id == dictionary_id, LabelRow.feature_index.in_(features[start : start + 500])
        )
        for row in session.scalars(rows.order_by(LabelRow.id)):
            said = {"text": row.text, "note": row.note, "author": row.author, "provenance": row.provenance}
            found.setdefault(_key(row.feature_index, row.labeler, said), row.id)
    session.expunge_all()
    return found


def _label_row(dictionary_id: int, staged: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    names = ("text", "labeler", "status", "author", "note", "predicate", "provenance")
    row = {name: staged[name] for name in names}
    # Of two labels the newer is shown: a date in the future must not keep one on top.
    created_at = min(moment(staged["created_at"]) or now, now)
    return row | {"dictionary_id": dictionary_id, "feature_index": staged["feature"], "created_at": created_at}


def moment(text: object) -> datetime | None:
    """The moment that a publisher's text names, taken as UTC where it names no zone; None for any other text."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _new_scores(
    session: Session,
    batch: Sequence[dict[str, Any]],
    ids: Mapping[tuple[object, ...], int],
    known: Mapping[tuple[object, ...], int],
) -> tuple[list[dict[str, Any]], int]:
    kept = _kept_scores(session, sorted(set(known.values())))
    now = datetime.now(UTC)
    rows = []
    n_known = 0
    for staged in batch:
        label_id = ids[_key(staged["feature"], staged["labeler"], staged)]
        for score in staged["scores"]:
            mark = (label_id, *_score_mark(score))
            if mark in kept:
                n_known += 1
                continue
            kept.add(mark)
            rows.append(score | {"label_id": label_id, "created_at": now})
    return rows, n_known


def _kept_scores(session: Session, labels: Sequence[int]) -> set[tuple[object, ...]]:
    kept: set[tuple[object, ...]] = set()
    for start in range(0, len(labels), 500):
        for row in session.scalars(select(ScoreRow).where(ScoreRow.label_id.in_(labels[start : start + 500]))):
            said = {name: getattr(row, name) for name in ("scorer", "judge", "value", "n", "failed", "reason")}
            kept.add((row.label_id, *_score_mark(said)))
    session.expunge_all()
    return kept


def _score_mark(score: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(score[name] for name in ("scorer", "judge", "value", "n", "failed", "reason"))


def published_labels(
    session: Session, rows: Iterable[LabelRow], publisher: str | None
) -> Iterator[tuple[int, PublishedLabel]]:
    """Labels of the catalog as a publisher's own, each with its feature: failed ones left out, and the publisher's
    mark taken off its own names.

    publisher: whose form they are written in; labels of others keep all of their labeler's name.
    """
    usable = [row for row in rows if row.status != FAILED and row.text is not None]
    scores: dict[int, list[ScoreRow]] = {}
    for start in range(0, len(usable), 500):
        ids = [row.id for row in usable[start : start + 500]]
        for score in session.scalars(select(ScoreRow).where(ScoreRow.label_id.in_(ids)).order_by(ScoreRow.id)):
            scores.setdefault(score.label_id, []).append(score)
    for row in usable:
        yield row.feature_index, _published(row, scores.get(row.id, []), publisher)


def _published(row: LabelRow, scores: Sequence[ScoreRow], publisher: str | None) -> PublishedLabel:
    given = dict(row.provenance)
    imported = isinstance(given.get("publisher"), str)
    own = publisher if given.get("publisher") == publisher else None
    extra = dict(given.get("extra") or {}) if imported else {"provenance": given} if given else {}
    extra |= {"note": row.note} if row.note else {}
    extra |= {"predicate": row.predicate} if row.predicate else {}
    extra["created_at"] = row.created_at.isoformat()
    label = PublishedLabel(
        text=row.text or "",
        labeler=_unsigned(own, row.labeler),
        model=given.get("model") if isinstance(given.get("model"), str) else None,
        author=row.author,
        extra=extra,
    )
    return replace(label, scores=tuple(_published_score(score, own) for score in scores))


def _published_score(row: ScoreRow, own: str | None) -> PublishedScore:
    details = dict(row.details)
    details |= {name: getattr(row, name) for name in _FIGURES if getattr(row, name) is not None}
    details |= {"reason": row.reason} if row.reason is not None else {}
    return PublishedScore(
        scorer=_unsigned(own, row.scorer),
        value=math.nan if row.value is None else row.value,
        n=row.n,
        failed=row.failed,
        baseline=row.baseline,
        judge=row.judge,
        details=details,
    )
