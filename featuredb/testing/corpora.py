"""What every corpus plugin must keep. A plugin's own tests subclass CorpusContract and say where a source is."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest

from featuredb.corpora import open_corpus
from featuredb.corpus import CorpusOptions, Document
from featuredb.errors import NotFound
from featuredb.plugins import Corpus, Registry


class CorpusContract:
    """Subclass it, set `plugin_name` and write `make_source`:

    class TestHaiku(CorpusContract):
        plugin_name = "haiku"

        def make_source(self, folder: Path) -> str: ...
    """

    plugin_name: str
    """Its entry point's name."""
    missing_source = "no/such/folder/source"
    """A source that is not there."""
    n_read = 100
    """Documents a test reads at most, so that a big corpus costs little."""

    def make_source(self, folder: Path) -> str:
        """A source of two documents or more; `folder` is empty, and may be left so."""
        raise NotImplementedError

    @pytest.fixture
    def registry(self) -> Registry:
        """The plugins that are installed; override it to test one that is not."""
        return Registry.installed()

    @pytest.fixture
    def plugin(self, registry: Registry) -> Corpus:
        return registry.corpus(self.plugin_name)

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        folder = tmp_path / "source"
        folder.mkdir()
        return self.make_source(folder)

    def read(self, plugin: Corpus, source: str, options: CorpusOptions | None = None) -> list[Document]:
        return list(islice(plugin.documents(source, options or CorpusOptions()), self.n_read))

    def test_name_is_the_entry_points_with_a_version(self, plugin: Corpus) -> None:
        assert re.fullmatch(re.escape(self.plugin_name) + r"\.v[1-9]\d*", plugin.name)

    def test_suffixes_are_lower_case_and_begin_with_a_dot(self, plugin: Corpus) -> None:
        assert isinstance(plugin.suffixes, tuple)
        assert all(re.fullmatch(r"\.[^A-Z/]+", suffix) for suffix in plugin.suffixes)

    def test_first_docstring_line_says_what_it_reads(self, plugin: Corpus) -> None:
        assert (type(plugin).__doc__ or "").strip().splitlines()[0].strip()

    def test_source_gives_documents_of_text(self, plugin: Corpus, source: str) -> None:
        documents = self.read(plugin, source)
        assert len(documents) >= 2
        assert all(isinstance(document, Document) for document in documents)
        for document in documents:
            assert document.name
            document.text.encode("utf-8")  # half a surrogate pair would raise

    def test_same_documents_in_the_same_order_twice(self, plugin: Corpus, source: str) -> None:
        first = self.read(plugin, source)
        assert self.read(plugin, source) == first

    def test_document_names_are_unique(self, plugin: Corpus, source: str) -> None:
        names = [document.name for document in self.read(plugin, source)]
        assert len(set(names)) == len(names)

    def test_two_readings_at_once_do_not_disturb_each_other(self, plugin: Corpus, source: str) -> None:
        one = plugin.documents(source, CorpusOptions())
        first = next(one)
        other = self.read(plugin, source)
        assert [first, *islice(one, self.n_read - 1)] == other

    def test_stopping_early_is_no_error(self, plugin: Corpus, source: str) -> None:
        assert len(list(islice(plugin.documents(source, CorpusOptions()), 1))) == 1

    def test_skipping_bad_rows_changes_nothing_where_there_are_none(self, plugin: Corpus, source: str) -> None:
        told: list[str] = []
        skipping = CorpusOptions(skip_bad_rows=True, on_skip=told.append)
        assert self.read(plugin, source, skipping) == self.read(plugin, source)
        assert told == []

    def test_missing_source_is_not_found(self, plugin: Corpus) -> None:
        with pytest.raises(NotFound):
            list(plugin.documents(self.missing_source, CorpusOptions()))

    def test_spec_opens_it(self, registry: Registry, plugin: Corpus, source: str) -> None:
        spec = f"{self.plugin_name}:{source}" if source else self.plugin_name
        assert list(islice(open_corpus(spec, registry=registry), self.n_read)) == self.read(plugin, source)
