"""What every reader of publications and every exporter must keep, ours and a stranger's.

class TestMine(ReaderContract):
    plugin_name = "mine"

    def make_source(self, folder: Path) -> Path:
        return write_a_small_one(folder)

class TestMineOut(ExporterContract):
    plugin_name = "mine"
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from featuredb.database import FeatureDB
from featuredb.errors import FeatureDBError, NotFound
from featuredb.labels.export import MARK, export
from featuredb.labels.publication import ExportRequest, Publication, PublishedFeature
from featuredb.plugins import Exporter, LabelReader, Registry


class ReaderContract:
    """The tests of one reader; `make_source` writes something it reads, of two features or more."""

    plugin_name: str
    """Its entry point's name."""

    def make_source(self, folder: Path) -> Path:
        """A source below an empty folder."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self) -> Registry:
        """The plugins that are installed; override it to test one that is not."""
        return Registry.installed()

    @pytest.fixture
    def plugin(self, registry: Registry) -> LabelReader:
        return registry.label_reader(self.plugin_name)

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        folder = tmp_path / "source"
        folder.mkdir()
        return self.make_source(folder)

    @pytest.fixture
    def publication(self, plugin: LabelReader, source: Path) -> Publication:
        return plugin.read(source)

    def test_name_is_the_entry_points_with_a_version(self, plugin: LabelReader) -> None:
        assert re.fullmatch(re.escape(self.plugin_name) + r"\.v[1-9]\d*", plugin.name)

    def test_first_docstring_line_says_what_it_reads(self, plugin: LabelReader) -> None:
        assert (type(plugin).__doc__ or "").strip().splitlines()[0].strip()

    def test_its_source_is_recognised_and_nothing_else(self, plugin: LabelReader, source: Path, tmp_path: Path) -> None:
        assert plugin.recognises(source) is True
        for nothing in (tmp_path / "no" / "such" / "thing", tmp_path / "none"):
            assert plugin.recognises(nothing) is False
        empty = tmp_path / "empty"
        empty.mkdir()
        assert plugin.recognises(empty) is False

    def test_missing_source_is_not_found(self, plugin: LabelReader, tmp_path: Path) -> None:
        for nothing in (tmp_path / "no" / "such" / "thing", tmp_path / "none"):
            with pytest.raises(NotFound):
                plugin.read(nothing)

    def test_features_come_by_index_each_once_and_within_bounds(self, publication: Publication) -> None:
        indices = [feature.index for feature in publication.features]
        assert len(indices) >= 2
        assert indices == sorted(set(indices))
        assert all(0 <= index < publication.n_features for index in indices)

    def test_features_can_be_read_again(self, publication: Publication) -> None:
        assert list(publication.features) == list(publication.features)

    def test_what_is_read_is_fit_to_be_kept(self, publication: Publication) -> None:
        assert publication.name
        assert publication.publisher
        for text in texts(publication):
            assert "\0" not in text
            text.encode("utf-8")  # half a surrogate pair would raise
        for feature in publication.features:
            for example in feature.examples:
                assert len(example.tokens) == len(example.activations)
                assert all(map(math.isfinite, example.activations))

    def test_reading_leaves_the_source_as_it_was(self, plugin: LabelReader, source: Path) -> None:
        before = contents(source)
        list(plugin.read(source).features)
        assert contents(source) == before

    def test_a_cut_file_is_refused_or_says_less(self, plugin: LabelReader, source: Path) -> None:
        """Whatever is cut off, nothing but our own errors comes of it."""
        for path in sorted(contents(source)):
            file = source if source.is_file() else source / path
            whole = file.read_bytes()
            for length in {0, 1, len(whole) // 2, len(whole) - 1} & set(range(len(whole))):
                file.write_bytes(whole[:length])
                with suppress(FeatureDBError):
                    list(plugin.read(source).features)
            file.write_bytes(whole)


class ExporterContract:
    """The tests of one exporter, on a small store of two dictionaries."""

    plugin_name: str
    """Its entry point's name."""
    dictionary: str
    """One of `db`'s."""

    @pytest.fixture
    def db(self) -> FeatureDB:
        raise NotImplementedError("give the contract a `db` fixture")

    @pytest.fixture
    def registry(self) -> Registry:
        """The plugins that are installed; override it to test one that is not."""
        return Registry.installed()

    @pytest.fixture
    def plugin(self, registry: Registry) -> Exporter:
        return registry.exporter(self.plugin_name)

    def test_name_is_the_entry_points_with_a_version(self, plugin: Exporter) -> None:
        assert re.fullmatch(re.escape(self.plugin_name) + r"\.v[1-9]\d*", plugin.name)

    def test_it_fills_the_folder_and_writes_nowhere_else(self, plugin: Exporter, db: FeatureDB, tmp_path: Path) -> None:
        folder = tmp_path / "out"
        folder.mkdir()
        before = contents(db.path)
        n_features = plugin.write(ExportRequest(db, self.dictionary), folder)
        assert n_features > 0
        assert contents(folder)
        assert {path: digest for path, digest in contents(db.path).items() if "catalog" not in path} == {
            path: digest for path, digest in before.items() if "catalog" not in path
        }
        assert sorted(path.name for path in tmp_path.iterdir() if path != db.path) == ["out"]

    def test_the_same_store_gives_the_same_bytes(self, plugin: Exporter, db: FeatureDB, tmp_path: Path) -> None:
        found = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            plugin.write(ExportRequest(db, self.dictionary), tmp_path / name)
            found.append(contents(tmp_path / name))
        assert found[0] == found[1]

    def test_an_export_appears_whole(self, registry: Registry, db: FeatureDB, tmp_path: Path) -> None:
        done = export(db, self.dictionary, self.plugin_name, tmp_path / "out", registry=registry)
        assert done.n_files == len(contents(tmp_path / "out").keys() - {MARK})
        assert sorted(path.name for path in tmp_path.iterdir() if path != db.path) == ["out"]

    def test_an_unknown_dictionary_is_not_found(self, registry: Registry, db: FeatureDB, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            export(db, "no-such-dictionary", self.plugin_name, tmp_path / "out", registry=registry)
        assert not (tmp_path / "out").exists()


def contents(source: Path) -> dict[str, str]:
    """Every file of a source, or the source that is a file, with a digest of its bytes."""
    found = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    named = {path.name if path == source else path.relative_to(source).as_posix(): path for path in found}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items()}


def texts(publication: Publication) -> Iterator[str]:
    """Every text of a publication that a store would keep."""
    for feature in publication.features:
        yield from _feature_texts(feature)


def _feature_texts(feature: PublishedFeature) -> Iterator[str]:
    yield from (text for text, _ in (*feature.promoted, *feature.suppressed))
    for example in feature.examples:
        yield from example.tokens
        yield example.source or ""
    for label in feature.labels:
        yield from (label.text, label.labeler, label.model or "", label.author or "")
        yield from (score.scorer for score in label.scores)
