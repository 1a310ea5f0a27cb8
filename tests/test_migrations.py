"""Migrations: they make what the models say, bring old catalogs forward with a copy kept, and refuse newer ones."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select, text

from featuredb.errors import StoreUnusable
from featuredb.labels import labels_of
from featuredb.store import Store, migrate
from featuredb.store.catalog import Base, ModelRow
from featuredb.store.check import check
from featuredb.store.engine import catalog_engine
from featuredb.store.migrate import Migrated, known_revisions, migrations_folder
from featuredb.store.migrate import migrate as run_migrate
from tests.small_store import build

STORED = sorted((Path(__file__).parent / "catalogs").glob("*.sql"))
"""A catalog with rows in every table, dumped at each revision ever released; never made anew."""


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A featuredb with one more revision than ours."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_folder(), folder)
    (folder / "versions" / "r9999_mood.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision = '9999'\ndown_revision = '{known_revisions()[-1]}'\n"
        "def upgrade():\n"
        "    op.add_column('label', sa.Column('mood', sa.String()))\n"
        "    if op.get_bind().execute(sa.text(\"select count(*) from label where text = 'break'\")).scalar():\n"
        "        raise RuntimeError('half way')\n"
    )
    monkeypatch.setattr(migrate, "migrations_folder", lambda: folder)


def restore(dump: Path, folder: Path) -> Path:
    folder.mkdir()
    for inside in ("dictionaries", "runs", "work"):
        (folder / inside).mkdir()
    connection = sqlite3.connect(folder / "catalog.sqlite")
    connection.executescript(dump.read_text("utf-8"))
    connection.execute("pragma journal_mode = wal")
    connection.close()
    return folder


def test_models_and_migrations_agree(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    Store.create(tmp_path / "new.fdb").close()
    engine = catalog_engine(tmp_path / "new.fdb" / "catalog.sqlite")
    with engine.connect() as connection:
        options = {
            "compare_server_default": True,
            "include_object": lambda _, name, *__: "label_fts" not in (name or ""),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_revisions_by_file_name_are_alembics_own() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == known_revisions()
    assert len(scripts.get_heads()) == 1


def test_every_past_catalog_is_stored() -> None:
    assert [dump.stem for dump in STORED] == known_revisions()


@pytest.mark.parametrize("dump", STORED, ids=lambda dump: str(dump.stem))
def test_a_stored_catalog_comes_forward(dump: Path, tmp_path: Path) -> None:
    folder = restore(dump, tmp_path / "old.fdb")
    before = dump.stem
    migrated = run_migrate(folder)
    assert (migrated.before, migrated.after) == (before, known_revisions()[-1])
    with Store.open(folder) as store, store.reading() as session:
        assert [one.text for one in labels_of(session, "alpha/3")] == ["capital letters"]
        before_it = re.findall(r"create table (\w+)", dump.read_text("utf-8").lower())
        for mapper in Base.registry.mappers:
            if mapper.class_.__tablename__ in before_it and mapper.class_.__tablename__ != "leftover":
                assert session.scalars(select(mapper.class_)).all()
        found = session.execute(text("select rowid from label_fts where label_fts match 'capital'"))
        assert len(found.all()) == 1


def test_a_current_catalog_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "small.fdb").close()
    monkeypatch.chdir(tmp_path)
    head = known_revisions()[-1]
    assert run_migrate(Path("small.fdb")) == Migrated(head, head, None)


@pytest.mark.usefixtures("later")
def test_an_older_catalog_is_offered_migration_and_a_copy_kept(tmp_path: Path) -> None:
    folder = restore(STORED[-1], tmp_path / "old.fdb")
    with pytest.raises(StoreUnusable, match="made by an older featuredb") as caught:
        Store.open(folder)
    assert caught.value.hint == f"run: featuredb migrate --db {folder}"
    migrated = run_migrate(folder)
    copy = folder / f"catalog.sqlite.{STORED[-1].stem}.bak"
    assert migrated == Migrated(STORED[-1].stem, "9999", copy)
    with Store.open(folder) as store, store.session() as session:
        session.execute(text("update label set mood = 'glad'"))
    kept = sqlite3.connect(copy)
    assert kept.execute("select version_num from alembic_version").fetchall() == [(STORED[-1].stem,)]
    assert kept.execute("select text from label").fetchall() == [("capital letters",)]
    kept.close()
    assert run_migrate(folder).copy is None


@pytest.mark.usefixtures("later")
def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    folder = restore(STORED[-1], tmp_path / "old.fdb")
    with sqlite3.connect(folder / "catalog.sqlite") as connection:
        connection.execute("update label set text = 'break'")
    connection.close()
    with pytest.raises(RuntimeError, match="half way"):
        run_migrate(folder)
    left = sqlite3.connect(folder / "catalog.sqlite")
    assert left.execute("select version_num from alembic_version").fetchall() == [(STORED[-1].stem,)]
    assert "mood" not in [row[1] for row in left.execute("pragma table_info(label)")]
    left.close()


def test_a_newer_catalog_is_refused_and_untouched(tmp_path: Path) -> None:
    with build(tmp_path / "small.fdb") as store, store.session() as session:
        session.execute(text("update alembic_version set version_num = '9999'"))
    before = store.paths.catalog.read_bytes()
    for attempt in (Store.open, run_migrate, lambda path: Store.open(path, create=True)):
        with pytest.raises(StoreUnusable, match="made by a newer featuredb") as caught:
            attempt(tmp_path / "small.fdb")
        assert caught.value.exit_code == 6
        assert caught.value.hint == "upgrade featuredb: pip install --upgrade featuredb"
    assert store.paths.catalog.read_bytes() == before


def test_what_is_no_store_is_not_migrated(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no store at"):
        run_migrate(tmp_path)
    sqlite3.connect(tmp_path / "catalog.sqlite").close()
    with pytest.raises(StoreUnusable, match="is not a featuredb catalog"):
        run_migrate(tmp_path)


def test_a_store_comes_through_whole(tmp_path: Path) -> None:
    with build(tmp_path / "small.fdb") as store:
        assert check(store) == []
        with store.reading() as session:
            assert session.scalars(select(ModelRow.name)).all() == ["tiny"]
