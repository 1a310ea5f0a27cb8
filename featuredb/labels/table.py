"""Labels given by hand or from a file, and the rule by which one of a feature's is shown. No labeler runs here."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, FeatureDBError, NotFound
from featuredb.store.catalog import DictionaryRow, LabelRow
from featuredb.store.refs import FeatureRef, check_index, get_dictionary, get_feature
from featuredb.store.store import Store

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

SHOWN_RULE = "verified by a person before proposed, then the newest"
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
    usable = [label for label in labels if label.status != FAILED and label.text is not None]
    return min(usable, key=_rank, default=None)


def shown_labels(session: Session, dictionary_id: int, indices: Collection[int]) -> dict[int, str]:
    """The text to show for each of some features of a dictionary that has one, by feature index."""
    by_feature: dict[int, list[LabelRow]] = {}
    wanted = sorted(set(indices))
    for start in range(0, len(wanted), 500):  # SQLite takes no more than so many values in one statement
        found = select(LabelRow).where(
            LabelRow.dictionary_id == dictionary_id, LabelRow.feature_index.in_(wanted[start : start + 500])
        )
        for label in session.scalars(found):
            by_feature.setdefault(label.feature_index, []).append(label)
    shown = {index: shown_label(labels) for index, labels in by_feature.items()}
    return {index: label.text for index, label in shown.items() if label is not None and label.text is not None}


def _rank(label: LabelRow) -> tuple[int, float, int]:
    order = {VERIFIED: 0, FAILED: 2}.get(label.status, 1)
    return order, -label.created_at.timestamp(), -label.id


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    n_added: int
    n_known: int
    """Rows passed over: the same text by the same author was imported for the feature before."""


def import_labels(store: Store, path: Path, *, author: str | None = None, dictionary: str | None = None) -> Imported:
    """Adds the labels of a CSV or JSONL file with the fields feature and text (note and author may be there), or none.

    dictionary: the one meant by rows that give an index alone. Raises NotFound when there is no such file, BadInput
    naming the row of the first one that cannot be taken; then nothing of the file is kept.
    """
    rows = list(_read(path))
    if not rows:
        raise BadInput(f"{path} holds no labels", hint='write rows of feature and text, such as my-sae/12,"capitals"')
    added = 0
    dictionaries: dict[str, DictionaryRow] = {}
    with store.session() as session:
        known = {
            (label.dictionary_id, label.feature_index, label.text, label.author)
            for label in session.scalars(select(LabelRow).where(LabelRow.labeler == FROM_FILE))
        }
        for number, fields in rows:
            try:
                ref = _ref(fields["feature"].strip(), dictionary)
                owner = dictionaries.get(ref.dictionary) or get_dictionary(session, ref.dictionary)
                dictionaries[ref.dictionary] = owner
                label = _label(owner, check_index(owner, ref.index), fields, author)
            except FeatureDBError as error:
                raise type(error)(f"{path}, row {number}: {error.message}", hint=error.hint) from error
            label.provenance = {"file": path.name, "row": number}
            key = (label.dictionary_id, label.feature_index, label.text, label.author)
            if key not in known:
                known.add(key)
                session.add(label)
                added += 1
    return Imported(added, len(rows) - added)


def _ref(text: str, dictionary: str | None) -> FeatureRef:
    return FeatureRef.parse(text if dictionary is None or "/" in text else f"{dictionary}/{text}")


def _label(dictionary: DictionaryRow, index: int, fields: dict[str, str], author: str | None) -> LabelRow:
    note, by = fields.get("note"), fields.get("author") or author
    return LabelRow(
        dictionary_id=dictionary.id,
        feature_index=index,
        text=checked_text(fields["text"]),
        labeler=FROM_FILE,
        status=PROPOSED,
        author=checked_text(by, "author") if by else None,
        note=checked_text(note, "note") if note else None,
    )


def checked_text(text: str, what: str = "label") -> str:
    """The text without the spaces around it. Raises BadInput when it cannot be a label."""
    text = text.strip()
    if not text:
        raise BadInput(f"the {what} is empty", hint="say what the feature fires on")
    if len(text) > MAX_LENGTH:
        raise BadInput(f"the {what} has {len(text):,} characters", hint=f"at most {MAX_LENGTH:,} are kept")
    for position, character in enumerate(text):
        # Control, surrogate, line and paragraph separators, and the marks that reorder what is displayed.
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _REORDERING:
            name = f"U+{ord(character):04X}"
            raise BadInput(f"the {what} has a control character, {name} at {position}", hint="write plain text")
    return text


_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _read(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row's number in the file, from 1 and counting the lines, and its fields."""
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}.get(path.suffix.lower())
    if read is None:
        raise BadInput(f"{path} is neither CSV nor JSONL", hint="name it .csv or .jsonl")
    try:
        for number, fields in read(path):
            for name in ("feature", "text"):
                if not isinstance(fields.get(name), str):
                    raise BadInput(f"{path}, row {number}: no {name}", hint="each row needs feature and text")
            yield number, fields
    except FileNotFoundError as error:
        raise NotFound(f"no file at {path}") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: {error.reason}", hint="save it as UTF-8") from error


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            missing = {"feature", "text"} - set(reader.fieldnames or ())
            if missing:
                raise BadInput(
                    f"{path} has no column {min(missing)!r}", hint="its first line must name feature and text"
                )
            for fields in reader:
                if None in fields:
                    raise BadInput(f"{path}, row {reader.line_num}: more fields than columns", hint="quote commas")
                yield reader.line_num, fields
        except csv.Error as error:
            raise BadInput(f"{path}, row {reader.reader.line_num}: {error}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{path}, row {number}: {error}", hint="each line is one JSON object") from error
            if not isinstance(fields, dict):
                raise BadInput(f"{path}, row {number}: not an object", hint='write {"feature": ..., "text": ...}')
            optional = {name: fields[name] for name in ("note", "author") if isinstance(fields.get(name), str)}
            yield number, {name: fields[name] for name in ("feature", "text") if name in fields} | optional
