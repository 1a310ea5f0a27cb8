"""The indices beside a store's vectors: which there are, whether they belong to their vectors, and making them again.

An index is nothing but a quicker way to its vectors' answers. Where there are few vectors none is needed, and where one
is missing, stale or of other vectors it is made, moved into place and entered in the catalog in one transaction.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from sqlalchemy import select

from featuredb.errors import FeatureDBError, StoreUnusable
from featuredb.progress import ProgressReport, silent
from featuredb.store import vectors
from featuredb.store.catalog import DictionaryRow, FileRow
from featuredb.store.engine import disk_errors
from featuredb.store.files import FileRecord, describe_file, rename_into_place, sha256_of
from featuredb.store.index import CodedIndex
from featuredb.store.layout import Layout
from featuredb.store.mapped import Matrix, Rows
from featuredb.store.moments import read_moments
from featuredb.store.store import Store

SAMPLE = 64
"""Rows of an index compared with their vectors."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Indexed:
    """Directions of a dictionary, and the index over them."""

    role: str
    path: Path
    """Of the index."""
    vectors: str
    """The file of the directions, below the store's root."""
    rows: Rows
    unit: bool
    """Whether they are compared at unit length."""
    through: Callable[[], Matrix | None] = field(default=lambda: None)
    """What takes them into the frame of the index, see `Moments.of_responses`; None where that is their own."""

    def is_needed(self) -> bool:
        """Whether there are too many to look at one by one."""
        return len(self.rows) > vectors.EXACT_ROWS

    def write(self, path: Path, *, of: str, report: ProgressReport = silent) -> None:
        """Writes the index at `path`. of: the SHA-256 of the directions' file."""
        vectors.write_index(self.rows, path, unit=self.unit, through=self.through(), of=of, report=report)

    def fault(self) -> str | None:
        """What is wrong between the index that is there and its directions; None when nothing is."""
        sample = np.linspace(0, len(self.rows) - 1, min(SAMPLE, len(self.rows))).astype(np.int64)
        return vectors.index_fault(self.path, self.rows, sample, unit=self.unit, through=self.through())


def decoder_index(layout: Layout, name: str) -> Indexed:
    """The index over a dictionary's decoder rows; of several outputs, the last one's."""
    weights = layout.weights(name)
    rows = Rows(weights, "w_dec")
    return Indexed("decoder-index", layout.decoder_index(name), layout.relative(weights), rows, unit=True)


def encoder_index(layout: Layout, name: str) -> Indexed:
    """The index over a dictionary's encoder columns; its decoder rows where these are its encoder."""
    weights = layout.weights(name)
    rows = encoder_rows(layout, name)
    return Indexed("encoder-index", layout.encoder_index(name), layout.relative(weights), rows, unit=True)


def response_index(layout: Layout, key: str, name: str, moments: Path) -> Indexed:
    """The index over the response directions that a run found, in the frame in which its hook's vectors are white."""
    response = layout.response(key, name)
    rows = Rows(response, "response")
    return Indexed(
        "response-index",
        layout.response_index(key, name),
        layout.relative(response),
        rows,
        unit=False,
        through=lambda: read_moments(moments).of_responses(),
    )


def encoder_rows(layout: Layout, name: str) -> Rows:
    """A dictionary's encoder columns as rows (F, d_in); matching pursuit encodes by its decoder."""
    from featuredb.errors import NotFound

    try:
        return Rows(layout.weights(name), "w_enc", columns=True)
    except NotFound:
        return Rows(layout.weights(name), "w_dec")


def usable_index(
    store: Store, index: Indexed, dictionary_id: int, run_id: int | None, say: Say, report: ProgressReport = silent
) -> CodedIndex | None:
    """The index, made first where it has to be; None where none is needed, or it cannot be kept.

    dictionary_id, run_id: who owns the file. say: told why an index is made. report: told how far that is.
    """
    if not index.is_needed():
        return None
    of = _digest(store, index.vectors)
    reason = _unusable(store, index, of)
    if reason is not None:
        name = store.paths.relative(index.path)
        say(f"{name}: {reason}; making it from {len(index.rows):,} directions, once")
        try:
            _make(store, index, of, dictionary_id, run_id, report)
        except StoreUnusable as error:
            say(f"{name} cannot be kept ({error.message}): every direction is looked at instead, which is slower")
            return None
    found = vectors.read_index(index.path)
    return found if isinstance(found, CodedIndex) else None


def _digest(store: Store, path: str) -> str:
    """The SHA-256 of a file, as the catalog has it; empty where it has none."""
    with store.reading() as session:
        return session.scalar(select(FileRow.sha256).where(FileRow.path == path)) or ""


def _unusable(store: Store, index: Indexed, of: str) -> str | None:
    """Why the index that is there cannot be used; None when it can."""
    with store.reading() as session:
        row = session.scalar(select(FileRow).where(FileRow.path == store.paths.relative(index.path)))
    if row is None:
        return "there is none yet"
    try:
        stat = index.path.stat()
    except FileNotFoundError:
        return "it is missing"
    version = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if stat.st_size != row.n_bytes or _sha256(index.path, *version) != row.sha256:
        return "it is not what was written"
    try:
        found = vectors.read_index(index.path)
    except FeatureDBError as error:
        return error.message
    if not isinstance(found, CodedIndex):
        return "it is of an earlier form"
    if (len(found), found.width) != (len(index.rows), index.rows.width):
        return "it is of other directions"
    if found.of != of:
        return "it is of earlier directions"
    source = index.rows.path.stat()
    if source.st_mtime_ns > stat.st_mtime_ns and _doubtful(index, *version, source.st_mtime_ns, source.st_size):
        return "it is older than its directions, and does not fit them"
    return None


@lru_cache(maxsize=64)
def _sha256(path: Path, *version: int) -> str:
    return sha256_of(path)


_looked_at: set[tuple[object, ...]] = set()


def _doubtful(index: Indexed, *version: int) -> bool:
    """Whether an index does not fit. Copies of a store have ages in any order, so age alone says nothing."""
    key = (str(index.path), *version)
    if key in _looked_at:
        return False
    if index.fault() is not None:
        return True
    _looked_at.add(key)
    return False


def _make(
    store: Store, index: Indexed, of: str, dictionary_id: int, run_id: int | None, report: ProgressReport
) -> None:
    unfinished = store.paths.work / f"{index.path.name}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with disk_errors(store.path):
            index.write(unfinished, of=of, report=report)
            record = describe_file(unfinished, store.paths.relative(index.path), index.role)
        with store.session() as session:
            if session.get(DictionaryRow, dictionary_id) is None:
                raise StoreUnusable("its dictionary was removed just now")
            rename_into_place(unfinished, index.path)
            row = session.scalar(select(FileRow).where(FileRow.path == record.path)) or FileRow(path=record.path)
            session.add(_entered(row, record, dictionary_id, run_id))
    finally:
        unfinished.unlink(missing_ok=True)


def _entered(row: FileRow, record: FileRecord, dictionary_id: int, run_id: int | None) -> FileRow:
    row.n_bytes, row.sha256, row.role = record.n_bytes, record.sha256, record.role
    row.dictionary_id, row.run_id = dictionary_id, run_id
    return row
