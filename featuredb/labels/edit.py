"""What a person does to labels that are there: standing behind one, and taking one away."""

from __future__ import annotations

from sqlalchemy.orm import Session

from featuredb.errors import BadInput, NotFound
from featuredb.labels.table import FAILED, VERIFIED, checked_text, labels_of, shown_label
from featuredb.store.catalog import LabelRow
from featuredb.store.refs import FeatureRef


def verify_label(
    session: Session,
    ref: FeatureRef | str,
    *,
    label_id: int | None = None,
    author: str | None = None,
    note: str | None = None,
) -> LabelRow:
    """The label, the shown one where none is named, that a person now stands behind; it is shown from now on.

    Who verified it and when is added to its provenance; its text, labeler and scores stay as they are.
    Raises NotFound where the feature has no such label, BadInput where that label failed and has no text.
    """
    labels = labels_of(session, ref)
    label = shown_label(labels) if label_id is None else _chosen(labels, ref, label_id)
    if label is None:
        raise NotFound(f"{ref} has no label to verify", hint=f"give it one: featuredb label add {ref} TEXT")
    if label.status == FAILED:
        raise BadInput(f"label {label.id} of {ref} failed and has no text", hint="verify another, or add one")
    label.status = VERIFIED
    said = {"author": None if author is None else checked_text(author, "author")}
    if note is not None:
        said["note"] = checked_text(note, "note")
    label.provenance = {**label.provenance, "verified": said}
    session.flush()
    return label


def remove_labels(
    session: Session, ref: FeatureRef | str, *, label_id: int | None = None, every: bool = False
) -> list[LabelRow]:
    """The labels taken away with their scores: the one of that number, or every one of the feature.

    Raises NotFound where there is none, BadInput where the feature has several and none is named.
    """
    labels = labels_of(session, ref)
    if not labels:
        raise NotFound(f"{ref} has no label", hint=f"`featuredb label ls {ref}` lists them")
    if label_id is not None:
        labels = [_chosen(labels, ref, label_id)]
    elif len(labels) > 1 and not every:
        numbers = ", ".join(str(label.id) for label in labels)
        raise BadInput(f"{ref} has {len(labels)} labels", hint=f"name one with --id ({numbers}), or give --all")
    for label in labels:
        session.delete(label)
    session.flush()
    return labels


def _chosen(labels: list[LabelRow], ref: FeatureRef | str, label_id: int) -> LabelRow:
    for label in labels:
        if label.id == label_id:
            return label
    numbers = ", ".join(str(label.id) for label in labels) or "none"
    raise NotFound(f"{ref} has no label {label_id}", hint=f"its labels: {numbers}")
