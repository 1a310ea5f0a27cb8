"""The catalog: what is small, relational and changes. Rows and connections only; no files and no answers here.

Types are those that SQLite and PostgreSQL share, so that the same models serve a catalog given by URL.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    QueuePool,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from featuredb.errors import FeatureDBError, StoreBusy, StoreUnusable

BUSY_SECONDS = 30.0
"""How long a writer waits for another one before it gives up with StoreBusy."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC, whatever the database keeps of time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Constraints are named by rule, so that a later migration can find each on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: String,
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


def _now() -> datetime:
    return datetime.now(UTC)


class ModelRow(Base):
    """A model whose activations were captured; another fingerprint is another row."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("name", "fingerprint"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    source: Mapped[str]
    fingerprint: Mapped[str]
    architecture: Mapped[str]
    n_layers: Mapped[int]
    d_model: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=_now)


class DictionaryRow(Base):
    """A dictionary whose weights the store holds."""

    __tablename__ = "dictionary"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    source: Mapped[str]
    plugin: Mapped[str]
    hook: Mapped[str]
    hooks_out: Mapped[list[str]]
    n_features: Mapped[int]
    d_in: Mapped[int]
    d_out: Mapped[int]
    fingerprint: Mapped[str]
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), index=True)
    trained: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    model: Mapped[ModelRow] = relationship()


class CorpusRow(Base):
    """A corpus that runs read."""

    __tablename__ = "corpus"
    __table_args__ = (UniqueConstraint("spec", "plugin"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    spec: Mapped[str]
    plugin: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=_now)


class RunRow(Base):
    """One finished ingest. Its key is a hash of everything that changes what it leaves."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"), index=True)
    corpus_id: Mapped[int] = mapped_column(ForeignKey("corpus.id"), index=True)
    n_tokens: Mapped[int] = mapped_column(BigInteger)
    n_contexts: Mapped[int] = mapped_column(BigInteger)
    n_kept: Mapped[int]
    context_length: Mapped[int]
    packing: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    model: Mapped[ModelRow] = relationship()
    corpus: Mapped[CorpusRow] = relationship()
    segments: Mapped[list[SegmentRow]] = relationship(back_populates="run", order_by="SegmentRow.id")


class SegmentRow(Base):
    """What one run leaves of one dictionary: a DuckDB file, and the vectors beside it."""

    __tablename__ = "segment"
    __table_args__ = (UniqueConstraint("run_id", "dictionary_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"))
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id"), index=True)
    path: Mapped[str] = mapped_column(unique=True)
    moments: Mapped[str | None]
    n_features: Mapped[int]
    n_examples: Mapped[int] = mapped_column(BigInteger)
    n_panel: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=_now)

    run: Mapped[RunRow] = relationship(back_populates="segments")
    dictionary: Mapped[DictionaryRow] = relationship()


class FileRow(Base):
    """A file the store answers for, by its path below the root."""

    __tablename__ = "file"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    role: Mapped[str]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)
    dictionary_id: Mapped[int | None] = mapped_column(ForeignKey("dictionary.id"), index=True)


class LabelRow(Base):
    """One label of one feature, and where it came from. A failed one has a reason in `note` and no text."""

    __tablename__ = "label"
    __table_args__ = (Index(None, "dictionary_id", "feature_index"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    dictionary_id: Mapped[int] = mapped_column(ForeignKey("dictionary.id"))
    feature_index: Mapped[int]
    text: Mapped[str | None] = mapped_column(Text)
    labeler: Mapped[str]
    status: Mapped[str]
    author: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(Text)
    provenance: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=_now)

    dictionary: Mapped[DictionaryRow] = relationship()


class LeftoverRow(Base):
    """A file whose owner is gone from the catalog and which is still to be deleted."""

    __tablename__ = "leftover"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)


def catalog_engine(path: Path, *, busy_seconds: float = BUSY_SECONDS, new: bool = False) -> Engine:
    """An engine on the SQLite file at `path`, which is made when `new`; nothing is opened yet.

    Connections made with the execution option `writes` take SQLite's write lock when they begin (BEGIN IMMEDIATE), so
    that two writers queue where they would fail; the others read one snapshot and never wait.
    """

    def connect() -> sqlite3.Connection:
        if new:
            connection = _connect(f"{path.as_uri()}?mode=rwc", busy_seconds)
            connection.execute("pragma journal_mode = wal")
            return connection
        try:
            return _connect(f"{path.as_uri()}?mode=rw", busy_seconds)
        except sqlite3.OperationalError as error:
            if not path.is_file() or not _is_cannot_open(error):
                raise
        # A folder that cannot be written cannot hold the shared-memory file that WAL readers use. When no writer
        # left a log, the file is the whole catalog and nobody can be changing it.
        log = path.with_name(path.name + "-wal")
        unchanging = not log.exists() or log.stat().st_size == 0
        return _connect(f"{path.as_uri()}?{'immutable=1' if unchanging else 'mode=ro'}", busy_seconds)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("begin immediate" if writes else "begin")

    return engine


def _connect(uri: str, busy_seconds: float) -> sqlite3.Connection:
    # isolation_level None leaves BEGIN to the listener above: Python's own begins too late for a snapshot.
    connection = sqlite3.connect(
        uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma schema_version")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_cannot_open(error: sqlite3.OperationalError) -> bool:
    return (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


@contextmanager
def catalog_errors(path: Path) -> Iterator[None]:
    """Turns the database's own errors about the catalog at `path` into StoreBusy and StoreUnusable."""
    try:
        yield
    except DBAPIError as error:
        translated = _translated(path, error.orig)
        if translated is None:
            raise
        raise translated from error
    except sqlite3.Error as error:
        translated = _translated(path, error)
        if translated is None:
            raise
        raise translated from error


def _translated(path: Path, error: BaseException | None) -> FeatureDBError | None:
    damaged = StoreUnusable(f"{path} is damaged: {error}", hint="restore it from a copy")
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return damaged if "Could not decode" in str(error) else None
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(f"{path} is locked by another process", hint="run the command again when it has finished")
        case sqlite3.SQLITE_FULL:
            return StoreUnusable(f"no room left on the disk of {path}", hint="free some space and run it again")
        case sqlite3.SQLITE_READONLY:
            return StoreUnusable(f"{path} cannot be written", hint="check its permissions and those of its folder")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreUnusable(f"{path} cannot be opened", hint="check its permissions and those of its folder")
        case sqlite3.SQLITE_IOERR:
            return StoreUnusable(f"{path} cannot be read or written: {error}", hint="check the disk it lies on")
        case sqlite3.SQLITE_NOTADB:
            return StoreUnusable(f"{path} is not a catalog, or is damaged", hint="restore it from a copy")
        case sqlite3.SQLITE_CORRUPT:
            return damaged
    return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full or unwritable disk met while writing below `path` into StoreUnusable."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(path, error.errno) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            where = error.filename if error.filename is not None else path
            raise StoreUnusable(f"{where} cannot be written", hint="check its permissions") from error
        raise
    except FeatureDBError:
        raise
    except Exception as error:
        # DuckDB and safetensors say it in errors of their own, in the system's words.
        reason = next((number for number in _FULL if os.strerror(number) in str(error)), None)
        if reason is None:
            raise
        raise _no_room(path, reason) from error


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _no_room(path: Path, reason: int) -> StoreUnusable:
    if reason == errno.EFBIG:
        return StoreUnusable(
            f"a file of {path} would grow larger than is allowed", hint="raise the limit (ulimit -f) and run it again"
        )
    return StoreUnusable(f"no room left on the disk of {path}", hint="free some space and run it again")
