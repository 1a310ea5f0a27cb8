"""Connections to the catalog, and what the database's and the disk's own errors mean in our words."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from featuredb.errors import FeatureDBError, StoreBusy, StoreUnusable

BUSY_SECONDS = 30.0
"""How long a writer waits for another one before it gives up with StoreBusy."""


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
