"""Brings a catalog to this featuredb's revision. Alembic runs the revisions; it is imported only when one must run."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from featuredb.errors import StoreUnusable
from featuredb.store.engine import BUSY_SECONDS, catalog_engine, catalog_errors, disk_errors
from featuredb.store.layout import Layout


@dataclass(frozen=True, slots=True)
class Migrated:
    """What `migrate` did: the revisions before and after, and the copy it kept of the older catalog."""

    before: str
    after: str
    copy: Path | None
    """None when the catalog was at its newest revision already."""


@cache
def migrations_folder() -> Path:
    """Where the revisions are installed."""
    spec = find_spec("featuredb_migrations")
    if spec is None or not spec.submodule_search_locations:
        raise StoreUnusable("featuredb_migrations is not installed", hint="install featuredb again")
    return Path(next(iter(spec.submodule_search_locations)))


def known_revisions() -> list[str]:
    """This featuredb's revisions, oldest first, read from the names of their files."""
    files = (migrations_folder() / "versions").glob("r*_*.py")
    return sorted(file.stem.split("_")[0].removeprefix("r") for file in files)


def upgrade(connection: Connection) -> None:
    """Runs every revision that the catalog on `connection` lacks, inside the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


def check_revision(connection: Connection, path: Path) -> str:
    """The catalog's revision when it is this featuredb's own. Raises StoreUnusable otherwise."""
    revision = read_revision(connection, path)
    known = known_revisions()
    if revision not in known:
        raise StoreUnusable(
            f"{path.parent} was made by a newer featuredb (catalog revision {revision}, newest known {known[-1]})",
            hint="upgrade featuredb: pip install --upgrade featuredb",
        )
    if revision != known[-1]:
        raise StoreUnusable(
            f"{path.parent} was made by an older featuredb (catalog revision {revision}, needed {known[-1]})",
            hint=f"run: featuredb migrate --db {path.parent}",
        )
    return revision


def read_revision(connection: Connection, path: Path) -> str:
    """The catalog's revision. Raises StoreUnusable when the database has none, and so is no catalog."""
    kept = inspect(connection).has_table("alembic_version")
    row = connection.execute(text("select version_num from alembic_version")).first() if kept else None
    if row is None:
        raise StoreUnusable(f"{path} is not a featuredb catalog", hint="name another folder with --db")
    return str(row[0])


def migrate(root: Path, *, busy_seconds: float = BUSY_SECONDS) -> Migrated:
    """Migrates the store at `root`, keeping a copy of the older catalog beside it. Nothing happens to a current one.

    Raises StoreUnusable when there is no store, when its catalog is newer than this featuredb, or the disk is full.
    """
    root = root.expanduser().resolve()
    path = Layout(root).catalog
    if not path.is_file():
        raise StoreUnusable(f"no store at {root}", hint="name another folder with --db")
    with _engine(path, busy_seconds) as connection:
        before = read_revision(connection, path)
        if before == known_revisions()[-1]:
            return Migrated(before, before, None)
        if before not in known_revisions():
            check_revision(connection, path)
        copy = path.with_name(f"{path.name}.{before}.bak")
        # The write lock is held: what is copied is what is migrated.
        _copy_database(path, copy)
        upgrade(connection)
        after = read_revision(connection, path)
    return Migrated(before, after, copy)


@contextmanager
def _engine(path: Path, busy_seconds: float) -> Iterator[Connection]:
    engine = catalog_engine(path, busy_seconds=busy_seconds)
    try:
        with catalog_errors(path), engine.execution_options(writes=True).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _copy_database(path: Path, copy: Path) -> None:
    unfinished = copy.with_name(copy.name + ".tmp")
    with disk_errors(copy), catalog_errors(path):
        unfinished.unlink(missing_ok=True)
        source = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        target = sqlite3.connect(unfinished)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(unfinished, copy)
