"""A store on disk: making it, opening it, and sessions on its catalog. What is done with a session lies elsewhere."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from featuredb.errors import StoreUnusable
from featuredb.store.catalog import FileRow
from featuredb.store.engine import BUSY_SECONDS, catalog_engine, catalog_errors, disk_errors
from featuredb.store.files import describe_file, sync_file
from featuredb.store.layout import Layout
from featuredb.store.migrate import check_revision, upgrade


class Store:
    """The store at `path`. Any number of processes may read it while one writes.

    Raises StoreUnusable, here and in every method, when the disk or the catalog cannot be used, and StoreBusy when
    another process held the catalog's write lock for longer than `busy_seconds`.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        """The store's folder, absolute."""
        self.paths = Layout(path)
        """Every path inside it."""
        self._readers = engine
        self._writers = engine.execution_options(writes=True)

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, busy_seconds: float = BUSY_SECONDS) -> Store:
        """A new, empty store; it appears whole or not at all. Raises StoreUnusable when something lies there."""
        root = _absolute(path)
        _check_free(root)
        with disk_errors(root):
            root.parent.mkdir(parents=True, exist_ok=True)
            unfinished = root.with_name(f".{root.name}-{secrets.token_hex(6)}.new")
            unfinished.mkdir()
        try:
            _fill(Layout(unfinished))
            with disk_errors(root):
                try:
                    os.rename(unfinished, root)
                except OSError:
                    _check_free(root)  # another process may have made it meanwhile
                    raise
                sync_file(root.parent)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return cls.open(root, busy_seconds=busy_seconds)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, create: bool = False, busy_seconds: float = BUSY_SECONDS) -> Store:
        """The store at `path`; with `create`, made first where nothing is.

        Raises StoreUnusable when there is none, when it is no store, or when its catalog is older or newer than ours.
        """
        root = _absolute(path)
        layout = Layout(root)
        if not layout.catalog.is_file():
            if not create or (root.exists() and (not root.is_dir() or any(root.iterdir()))):
                raise _no_store(root)
            try:
                return cls.create(root, busy_seconds=busy_seconds)
            except StoreUnusable:
                if not layout.catalog.is_file():
                    raise
        engine = catalog_engine(layout.catalog, busy_seconds=busy_seconds)
        try:
            with catalog_errors(layout.catalog), engine.begin() as connection:
                check_revision(connection, layout.catalog)
        except BaseException as error:
            engine.dispose()
            if isinstance(error, UnicodeDecodeError):  # Python's, of SQLite's own words about a damaged schema
                raise StoreUnusable(f"{layout.catalog} is damaged", hint="restore it from a copy") from error
            raise
        return cls(root, engine)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session on one snapshot of the catalog. Waits for nobody; what it changes is never kept."""
        with catalog_errors(self.paths.catalog), Session(self._readers, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session that may change the catalog: committed when the block ends, undone when it raises.

        It holds the catalog's one write lock from its first statement, so keep long work outside.
        """
        with catalog_errors(self.paths.catalog), Session(self._writers, expire_on_commit=False) as session:
            yield session
            session.commit()

    def register_file(
        self, session: Session, path: Path, role: str, *, run_id: int | None = None, dictionary_id: int | None = None
    ) -> FileRow:
        """The catalog's row of a file below the store's folder, added or brought up to date. Reads the whole file."""
        found = describe_file(path, self.paths.relative(path.resolve()), role)
        row = session.scalar(select(FileRow).where(FileRow.path == found.path))
        if row is None:
            row = FileRow(path=found.path)
            session.add(row)
        row.n_bytes, row.sha256, row.role = found.n_bytes, found.sha256, role
        row.run_id, row.dictionary_id = run_id, dictionary_id
        return row

    def close(self) -> None:
        """Lets go of the catalog. Sessions still open are not touched."""
        self._readers.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(path).expanduser().resolve()


def _check_free(root: Path) -> None:
    if Layout(root).catalog.is_file():
        raise StoreUnusable(f"{root} is a store already", hint="open it, or name another folder")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise _no_store(root)


def _no_store(root: Path) -> StoreUnusable:
    if not root.exists():
        return StoreUnusable(
            f"no store at {root}", hint="`featuredb ingest` makes one; --db or FEATUREDB_DB names another"
        )
    what = "a folder without a catalog" if root.is_dir() else "a file"
    return StoreUnusable(f"{root} is no store: it is {what}", hint="name another folder with --db or FEATUREDB_DB")


def _fill(layout: Layout) -> None:
    """Makes the folders and the catalog of a new store."""
    with disk_errors(layout.root):
        for folder in (layout.dictionaries, layout.runs, layout.work):
            folder.mkdir()
    engine = catalog_engine(layout.catalog, new=True)
    try:
        with catalog_errors(layout.catalog), engine.execution_options(writes=True).begin() as connection:
            upgrade(connection)
    finally:
        engine.dispose()
    sync_file(layout.catalog)
