"""An export is there whole or not at all, and nothing is deleted for it that an export did not write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from featuredb.database import FeatureDB
from featuredb.errors import BadInput, NotFound, PluginFailed
from featuredb.labels.export import MARK, export
from featuredb.labels.publication import ExportRequest
from featuredb.plugins import Registry
from featuredb.testing.readers import contents
from tests.small_publications import plugins, scored_db


@pytest.fixture
def db(tmp_path: Path) -> Iterator[FeatureDB]:
    with scored_db(tmp_path / "small.fdb") as small:
        yield small


def out(db: FeatureDB, exporter: str, path: Path, **more: Any) -> Path:
    return export(db, "alpha", exporter, path, registry=plugins(), **more).path


def test_nothing_is_overwritten_without_force(db: FeatureDB, tmp_path: Path) -> None:
    target = out(db, "csv", tmp_path / "out")
    before = contents(target)
    with pytest.raises(BadInput, match="is there already"):
        out(db, "jsonl", target)
    assert contents(target) == before
    out(db, "jsonl", target, force=True)
    assert sorted(contents(target)) == [MARK, "labels.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "small.fdb"]


def test_only_an_export_is_ever_replaced(db: FeatureDB, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    os.symlink(precious, tmp_path / "link")
    for target in (precious, tmp_path / "file", tmp_path / "link", tmp_path):
        with pytest.raises(BadInput):
            out(db, "csv", target, force=True)
    assert (precious / "thesis.tex").read_text() == "x"


def test_an_empty_folder_is_filled(db: FeatureDB, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (out(db, "csv", tmp_path / "out") / "labels.csv").is_file()


def test_never_into_the_store(db: FeatureDB, tmp_path: Path) -> None:
    before = contents(db.path)
    for target in (db.path, db.path / "out", db.path / "runs", tmp_path):
        with pytest.raises(BadInput, match="would lie in one another"):
            out(db, "csv", target, force=True)
    assert contents(db.path).keys() == before.keys()


class Stops:
    """An exporter that does not come to its end."""

    name = "stops.v1"
    error: type[BaseException] = KeyboardInterrupt

    def write(self, request: ExportRequest, folder: Path) -> int:
        (folder / "half").write_text("x")
        raise self.error("stopped")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, BadInput])
def test_an_exporter_that_stops_leaves_nothing(
    db: FeatureDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    registry = Registry([EntryPoint("stops", f"{__name__}:Stops", "featuredb.exporters")])
    monkeypatch.setattr(type(registry.exporter("stops")), "error", error)
    expected = PluginFailed if error is ZeroDivisionError else error
    for target in (tmp_path / "out", out(db, "csv", tmp_path / "there")):
        before = contents(target) if target.exists() else None
        with pytest.raises(expected):
            export(db, "alpha", "stops", target, force=True, registry=registry)
        assert (contents(target) if target.exists() else None) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.fdb", "there"]


def test_unknown_names(db: FeatureDB, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no exporter plugin called 'cvs'"):
        out(db, "cvs", tmp_path / "out")
    with pytest.raises(BadInput, match="cannot write -1 examples"):
        out(db, "csv", tmp_path / "out", n_examples=-1)
    assert not (tmp_path / "out").exists()
