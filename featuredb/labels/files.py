"""Labels from CSV and JSONL files: read a row at a time, checked, staged and then taken all at once or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.orm import Session, aliased

from featuredb.errors import BadInput, FeatureDBError, NotFound
from featuredb.labels.table import FROM_FILE, PROPOSED, checked_text
from featuredb.store.catalog import DictionaryRow, LabelRow, ScoreRow
from featuredb.store.refs import FeatureRef, check_index, get_dictionary
from featuredb.store.store import Store

_BATCH = 10_000

_STAGED = Table(
    "staged_label",
    MetaData(),
    Column("row", Integer, primary_key=True),
    Column("dictionary_id", Integer),
    Column("feature_index", Integer),
    Column("text", Text),
    Column("author", String),
    Column("note", Text),
    Column("provenance", Text),
    Column("score", Double),
    Index("ix_staged_label", "dictionary_id", "feature_index"),
    prefixes=["TEMPORARY"],
)
"""The rows of a file, on their way. From here they become labels in one statement, which keeps the full-text index
four times faster than as many statements do."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    n_added: int
    n_known: int
    """Rows passed over: the same text by the same author was imported for the feature before."""


def import_labels(store: Store, path: Path, *, author: str | None = None, dictionary: str | None = None) -> Imported:
    """Adds the labels of a CSV or JSONL file with the fields feature and text, or none.

    note, author and score may be there; a score, from 0 to 1, is what the file says of its label, and one stated for
    a label that was imported before takes the place of what was said then. dictionary: the one meant by rows that give
    an index alone. Raises NotFound when there is no such file, BadInput naming the row of the first one that cannot be
    taken; then nothing of the file is kept.
    """
    with store.session() as session:
        _STAGED.create(session.connection())
        n_rows = _stage(session, path, _Reader(session, path, author, dictionary))
        if not n_rows:
            raise BadInput(
                f"{path} holds no labels", hint='write rows of feature and text, such as my-sae/12,"capitals"'
            )
        n_added = _take(session)
        _STAGED.drop(session.connection())
    return Imported(n_added, n_rows - n_added)


@dataclass
class _Reader:
    """Makes staged rows of a file's fields."""

    session: Session
    path: Path
    author: str | None
    dictionary: str | None
    known: dict[str, DictionaryRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.opening = json.dumps({"file": self.path.name})[:-1]  # of every row's provenance

    def staged(self, number: int, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            name = fields["feature"].strip()
            ref = FeatureRef.parse(name if self.dictionary is None or "/" in name else f"{self.dictionary}/{name}")
            owner = self.known.get(ref.dictionary)
            if owner is None:
                owner = self.known[ref.dictionary] = get_dictionary(self.session, ref.dictionary)
            note, by = fields.get("note"), fields.get("author") or self.author
            return {
                "row": number,
                "dictionary_id": owner.id,
                "feature_index": check_index(owner, ref.index),
                "text": checked_text(fields["text"]),
                "author": checked_text(by, "author") if by else None,
                "note": checked_text(note, "note") if note else None,
                "provenance": f'{self.opening}, "row": {number}}}',
                "score": _score(fields.get("score")),
            }
        except FeatureDBError as error:
            raise type(error)(f"{self.path}, row {number}: {error.message}", hint=error.hint) from error


def _score(given: object) -> float | None:
    """The score in a field: a number from 0 to 1, or none where it is empty."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    try:
        if isinstance(given, bool) or not isinstance(given, int | float | str):
            raise ValueError
        score = float(given)
    except (ValueError, OverflowError):
        raise BadInput(f"the score {given!r} is no number", hint="scores go from 0 to 1") from None
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise BadInput(f"the score {given!r} is not from 0 to 1", hint="leave it empty where there is none")
    return score


def _stage(session: Session, path: Path, reader: _Reader) -> int:
    """Puts every row of the file into the staging table, each label once; how many rows there were."""
    rows = (reader.staged(number, fields) for number, fields in _read(path))
    n_rows = 0
    while batch := list(islice(rows, _BATCH)):
        session.execute(insert(_STAGED), batch)
        n_rows += len(batch)
    earlier = _STAGED.alias()
    again = select(literal(1)).where(_same(_STAGED, earlier), earlier.c.row < _STAGED.c.row)
    session.execute(delete(_STAGED).where(again.exists()))
    return n_rows


def _take(session: Session) -> int:
    """Makes labels of the staged rows that are none yet, and keeps the scores that are stated; how many are new."""
    label = aliased(LabelRow)
    known = select(label.id).where(label.labeler == FROM_FILE, _same(_STAGED, label)).exists()
    columns = ("dictionary_id", "feature_index", "text", "author", "note", "provenance")
    new = select(
        *(_STAGED.c[name] for name in columns),
        literal(FROM_FILE),
        literal(PROPOSED),
        literal(datetime.now(UTC), LabelRow.created_at.type),
    )
    before = session.scalar(select(func.count()).select_from(LabelRow)) or 0
    statement = insert(LabelRow).from_select(
        [*columns, "labeler", "status", "created_at"], new.where(~known).order_by(_STAGED.c.row)
    )
    session.execute(statement)
    after = session.scalar(select(func.count()).select_from(LabelRow)) or 0
    if session.scalar(select(_STAGED.c.row).where(_STAGED.c.score.is_not(None)).limit(1)) is not None:
        _keep_scores(session)
    return after - before


def _keep_scores(session: Session) -> None:
    """Gives each staged row's label its stated score, in the place of another one that a file stated before."""
    owner = and_(LabelRow.labeler == FROM_FILE, _same(_STAGED, LabelRow), _STAGED.c.score.is_not(None))
    other = select(literal(1)).where(LabelRow.id == ScoreRow.label_id, owner, _STAGED.c.score != ScoreRow.value)
    session.execute(
        delete(ScoreRow).where(ScoreRow.scorer == FROM_FILE, other.exists()),
        execution_options={"synchronize_session": False},
    )
    kept = select(ScoreRow.id).where(ScoreRow.label_id == LabelRow.id, ScoreRow.scorer == FROM_FILE).exists()
    stated = select(
        LabelRow.id, literal(FROM_FILE), _STAGED.c.score, literal(datetime.now(UTC), ScoreRow.created_at.type)
    ).where(owner, ~kept)
    session.execute(insert(ScoreRow).from_select(["label_id", "scorer", "value", "created_at"], stated))


def _same(staged: Any, other: Any) -> Any:
    """That a staged row and another one, or a label, are of one feature and say the same by the same author."""
    theirs = other.c if hasattr(other, "c") else other
    return and_(
        staged.c.dictionary_id == theirs.dictionary_id,
        staged.c.feature_index == theirs.feature_index,
        staged.c.text == theirs.text,
        staged.c.author.is_not_distinct_from(theirs.author),
    )


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row's number in the file, from 1 and counting the lines, and its fields."""
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}.get(path.suffix.lower())
    if read is None:
        raise BadInput(f"{path} is neither CSV nor JSONL", hint="name it .csv or .jsonl")
    try:
        for number, fields in read(path):
            fields.setdefault("text", fields.get("label"))  # people call that column either
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


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            there = set(reader.fieldnames or ())
            missing = [name for name in ("feature", "text") if name not in there]
            if missing and not (missing == ["text"] and "label" in there):
                raise BadInput(f"{path} has no column {missing[0]!r}", hint="its first line must name feature and text")
            for fields in reader:
                if None in fields:
                    raise BadInput(f"{path}, row {reader.line_num}: more fields than columns", hint="quote commas")
                yield reader.line_num, fields
        except csv.Error as error:
            raise BadInput(f"{path}, row {reader.reader.line_num}: {error}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
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
            optional |= {name: fields[name] for name in ("feature", "text", "label", "score") if name in fields}
            yield number, optional
