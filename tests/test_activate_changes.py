"""What is remembered of a catalog between texts is forgotten when anybody changes it."""

from __future__ import annotations

from pathlib import Path

import featuredb
from featuredb.store.changes import Changes
from tests import small_store


def test_the_version_stays_until_somebody_commits(tmp_path: Path) -> None:
    with small_store.build(tmp_path / "small.fdb") as store, featuredb.open(tmp_path / "small.fdb") as other:
        changes = Changes(store)
        first = changes.version()
        assert first is not None
        with store.reading():
            assert changes.version() == first
        with featuredb.open(store.path) as same:
            same.add_label("alpha/1", "cats")
        second = changes.version()
        other.add_label("alpha/1", "dogs")
        third = changes.version()
        assert len({first, second, third}) == 3
        assert changes.version() == third
        changes.close()
        assert changes.version() is not None, "it is opened again"
        changes.close()


def test_where_the_version_cannot_be_told_it_is_none(tmp_path: Path) -> None:
    with small_store.build(tmp_path / "small.fdb") as store:
        store.paths.catalog.rename(tmp_path / "elsewhere.sqlite")
        assert Changes(store).version() is None
