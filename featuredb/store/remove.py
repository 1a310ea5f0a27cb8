"""Removing a dictionary and all that only it needed. The catalog forgets first, in one transaction; then files go."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from featuredb.store.catalog import (
    CorpusRow,
    DictionaryRow,
    FileRow,
    LabelRow,
    LeftoverRow,
    ModelRow,
    RunRow,
    SegmentRow,
)
from featuredb.store.engine import disk_errors
from featuredb.store.files import delete_file
from featuredb.store.refs import get_dictionary
from featuredb.store.store import Store


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with a dictionary."""

    dictionary: str
    n_runs: int
    """Runs that had no other dictionary."""
    n_labels: int
    n_files: int
    n_bytes: int


def remove_dictionary(store: Store, name: str) -> Removed:
    """Removes a dictionary, its segments and labels, and the runs, corpora and models that nothing else uses.

    A reader that has its files open finishes its answer; one that comes later gets NotFound. Raises NotFound.
    """
    with store.session() as session:
        dictionary = get_dictionary(session, name)
        run_ids = set(session.scalars(select(SegmentRow.run_id).where(SegmentRow.dictionary_id == dictionary.id)))
        session.execute(delete(SegmentRow).where(SegmentRow.dictionary_id == dictionary.id))
        kept = set(session.scalars(select(SegmentRow.run_id).where(SegmentRow.run_id.in_(run_ids))))
        gone = run_ids - kept
        files = _files(session, dictionary.id, gone, kept)
        labels = list(session.scalars(select(LabelRow.id).where(LabelRow.dictionary_id == dictionary.id)))
        waiting = set(session.scalars(select(LeftoverRow.path)))
        session.add_all(LeftoverRow(path=file.path) for file in files if file.path not in waiting)
        for file in files:
            session.delete(file)
        session.flush()
        session.execute(delete(LabelRow).where(LabelRow.dictionary_id == dictionary.id))
        session.execute(delete(RunRow).where(RunRow.id.in_(gone)))
        session.execute(delete(DictionaryRow).where(DictionaryRow.id == dictionary.id))
        _forget_unused(session)
    sweep(store)
    return Removed(name, len(gone), len(labels), len(files), sum(file.n_bytes for file in files))


def sweep(store: Store) -> int:
    """Deletes the files that removals, this one's or an interrupted one's, have left; returns how many there were."""
    with store.reading() as session:
        if session.scalar(select(LeftoverRow.id).limit(1)) is None:
            return 0
    # Under the write lock, so that no run can be given back a file between our look and its deletion.
    with store.session() as session, disk_errors(store.path):
        owned = set(session.scalars(select(FileRow.path)))
        rows = session.scalars(select(LeftoverRow)).all()
        for row in rows:
            if row.path not in owned:
                delete_file(store.paths, row.path)
            session.delete(row)
        return len(rows)


def _files(session: Session, dictionary_id: int, gone: set[int], kept: set[int]) -> list[FileRow]:
    """The dictionary's own files, those of runs that go, and moments that no segment left in a kept run needs."""
    own = FileRow.dictionary_id == dictionary_id
    files = list(session.scalars(select(FileRow).where(own | FileRow.run_id.in_(gone))))
    needed = set(session.scalars(select(SegmentRow.moments).where(SegmentRow.run_id.in_(kept))))
    shared = select(FileRow).where(FileRow.run_id.in_(kept), FileRow.role == "moments", FileRow.dictionary_id.is_(None))
    return files + [file for file in session.scalars(shared) if file.path not in needed]


def _forget_unused(session: Session) -> None:
    """Forgets corpora that no run reads, and models that neither a run nor a dictionary names."""
    session.execute(delete(CorpusRow).where(CorpusRow.id.not_in(select(RunRow.corpus_id))))
    session.execute(
        delete(ModelRow).where(
            ModelRow.id.not_in(select(RunRow.model_id)), ModelRow.id.not_in(select(DictionaryRow.model_id))
        )
    )
