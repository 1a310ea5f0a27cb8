"""Labels of features, and the rule by which one of a feature's is shown. No labeler runs here, and no file is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput
from featuredb.labels.shares import above_baseline
from featuredb.store.catalog import LabelRow, ScoreRow
from featuredb.store.refs import FeatureRef, get_feature

MAX_LENGTH = 2_000
"""Characters in the longest label."""

BY_HAND = "hand.v1"
"""The labeler of labels that a person wrote one at a time."""

FROM_FILE = "file.v1"
"""The labeler of labels read from a file."""

VERIFIED = "verified"
"""Status of a label that a person stands behind."""

PROPOSED = "proposed"
"""Status of a label that nobody has looked at."""

FAILED = "failed"
"""Status of a label that could not be made; it has no text, and is never shown."""

SCORE_FIELDS = ("scorer", "value", "low", "high", "n", "failed", "baseline", "judge", "reason", "details")
"""What an answer says of a score, beside whether it is above its baseline."""

SHOWN_RULE = (
    "verified by a person before proposed; then the farthest from baseline to perfect by its held-out scores of fit, "
    "on average, where a label without them counts as at its baseline; then the newest"
)
"""How a feature's shown label is chosen, in words for users."""


def add_label(
    session: Session, ref: FeatureRef | str, text: str, *, author: str | None = None, note: str | None = None
) -> LabelRow:
    """The new label, verified, that a person gives a feature.

    Raises NotFound for an unknown feature, BadInput for a text that is empty, longer than MAX_LENGTH characters, or
    has control characters.
    """
    dictionary, index = get_feature(session, ref)
    row = LabelRow(
        dictionary_id=dictionary.id,
        feature_index=index,
        text=checked_text(text),
        labeler=BY_HAND,
        status=VERIFIED,
        author=None if author is None else checked_text(author, "author"),
        note=None if note is None else checked_text(note, "note"),
        provenance={},
    )
    session.add(row)
    session.flush()
    return row


def labels_of(session: Session, ref: FeatureRef | str) -> list[LabelRow]:
    """All of a feature's labels, failed ones too, the shown one first. Raises NotFound."""
    dictionary, index = get_feature(session, ref)
    found = select(LabelRow).where(LabelRow.dictionary_id == dictionary.id, LabelRow.feature_index == index)
    return sorted(session.scalars(found), key=_rank)


def shown_label(labels: Iterable[LabelRow]) -> LabelRow | None:
    """The one of a feature's labels to show, by SHOWN_RULE and never a failed one; None when there is none."""
    return min(_usable(labels), key=_rank, default=None)


def shown_labels(session: Session, dictionary_id: int, indices: Collection[int]) -> dict[int, str]:
    """The text to show for each of some features of a dictionary that has one, by feature index."""
    return {index: label.text for index, label in _shown(session, dictionary_id, indices).items()}


def shown_label_ids(session: Session, dictionary_id: int, indices: Collection[int]) -> dict[int, int]:
    """The same, the number of each label."""
    return {index: label.id for index, label in _shown(session, dictionary_id, indices).items()}


def _shown(session: Session, dictionary_id: int, indices: Collection[int]) -> dict[int, Any]:
    shown: dict[int, Any] = {}
    wanted = sorted(set(indices))
    # Columns, not whole labels: every answer asks this of each of its features.
    columns = (
        LabelRow.feature_index,
        LabelRow.text,
        LabelRow.status,
        LabelRow.gain,
        LabelRow.created_at,
        LabelRow.id,
    )
    for start in range(0, len(wanted), 500):  # SQLite takes no more than so many values in one statement
        found = select(*columns).where(
            LabelRow.dictionary_id == dictionary_id, LabelRow.feature_index.in_(wanted[start : start + 500])
        )
        for label in _usable(session.execute(found)):
            other = shown.get(label.feature_index)
            shown[label.feature_index] = label if other is None else min(label, other, key=_rank)
    return shown


def shown_ids(dictionary_id: int) -> Select[tuple[int, int]]:
    """A select of each feature's shown label in a dictionary, by SHOWN_RULE: id, feature_index."""
    place = func.row_number().over(
        partition_by=LabelRow.feature_index,
        order_by=[
            case((LabelRow.status == VERIFIED, 0), else_=1),
            func.coalesce(LabelRow.gain, 0.0).desc(),
            LabelRow.created_at.desc(),
            LabelRow.id.desc(),
        ],
    )
    usable = (LabelRow.dictionary_id == dictionary_id, LabelRow.status != FAILED, LabelRow.text.is_not(None))
    ranked = select(LabelRow.id, LabelRow.feature_index, place.label("place")).where(*usable).subquery()
    return select(ranked.c.id, ranked.c.feature_index).where(ranked.c.place == 1)


def scores_of(session: Session, labels: Sequence[LabelRow]) -> dict[int, tuple[dict[str, Any], ...]]:
    """The scores of each of some labels that has any, by label id, the oldest first, as answers say them."""
    wanted = sorted(label.id for label in labels)
    found: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(wanted), 500):
        rows = select(ScoreRow).where(ScoreRow.label_id.in_(wanted[start : start + 500])).order_by(ScoreRow.id)
        for row in session.scalars(rows):
            said = {name: getattr(row, name) for name in SCORE_FIELDS}
            said["above_baseline"] = above_baseline(row.low, row.baseline, row.details)
            found.setdefault(row.label_id, []).append(said)
    return {label_id: tuple(scores) for label_id, scores in found.items()}


def _usable(labels: Iterable[Any]) -> Iterator[Any]:
    return (label for label in labels if label.status != FAILED and label.text is not None)


def _rank(label: Any) -> tuple[int, float, float, int]:
    order = {VERIFIED: 0, FAILED: 2}.get(label.status, 1)
    return order, -(label.gain or 0.0), -label.created_at.timestamp(), -label.id


def checked_text(text: str, what: str = "label") -> str:
    """The text without the spaces around it. Raises BadInput when it cannot be a label."""
    text = text.strip()
    if not text:
        raise BadInput(f"the {what} is empty", hint="say what the feature fires on")
    if len(text) > MAX_LENGTH:
        raise BadInput(f"the {what} has {len(text):,} characters", hint=f"at most {MAX_LENGTH:,} are kept")
    if found := _UNPRINTABLE.search(text):
        name = f"U+{ord(found[0]):04X}"
        raise BadInput(f"the {what} has a control character, {name} at {found.start()}", hint="write plain text")
    return text


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters, line and paragraph separators, half pairs, and the marks that reorder what is displayed."""
