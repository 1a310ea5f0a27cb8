"""What every embedder plugin must keep. A plugin's own tests subclass EmbedderContract and say where a model is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from featuredb.errors import NotFound
from featuredb.plugins import Embedder, Registry, TextEmbedding

TEXTS = ["capital letters", "words in capital letters", "the price of fish", "", " ", "日本語", "a\nb", "x" * 5_000]


class EmbedderContract:
    """Subclass it, set `plugin_name`, and write `make_source` where the plugin has no model of its own:

    class TestWordCounts(EmbedderContract):
        plugin_name = "word-counts"
    """

    plugin_name: str
    """Its entry point's name."""
    missing_source = "no/such/folder/of/a/model"
    """A source that is not there."""
    near = ("capital letters", "words in capital letters")
    far = "the price of fish"
    """Two texts that mean nearly the same, and one that does not."""

    def make_source(self, folder: Path) -> str | None:
        """A source of a model; `folder` is empty, and may be left so. None: the plugin's own choice."""
        return None

    @pytest.fixture
    def registry(self) -> Registry:
        """The plugins that are installed; override it to test one that is not."""
        return Registry.installed()

    @pytest.fixture
    def plugin(self, registry: Registry) -> Embedder:
        return registry.embedder(self.plugin_name)

    @pytest.fixture
    def model(self, plugin: Embedder, tmp_path: Path) -> TextEmbedding:
        folder = tmp_path / "source"
        folder.mkdir()
        return plugin.load(self.make_source(folder))

    def test_name_is_the_entry_points_with_a_version(self, plugin: Embedder) -> None:
        assert re.fullmatch(re.escape(self.plugin_name) + r"\.v[1-9]\d*", plugin.name)

    def test_first_docstring_line_says_what_it_takes(self, plugin: Embedder) -> None:
        assert (type(plugin).__doc__ or "").strip().splitlines()[0].strip()

    def test_id_names_the_plugin_and_its_model(self, plugin: Embedder, model: TextEmbedding) -> None:
        assert model.id.startswith(plugin.name)

    def test_every_text_gets_a_row_of_unit_length(self, model: TextEmbedding) -> None:
        vectors = model.embed(TEXTS)
        assert vectors.shape == (len(TEXTS), model.width)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-3)

    def test_no_texts_give_no_rows(self, model: TextEmbedding) -> None:
        assert model.embed([]).shape == (0, model.width)

    def test_a_texts_vector_depends_on_nothing_but_the_text(self, model: TextEmbedding) -> None:
        together = model.embed(TEXTS)
        alone = np.concatenate([model.embed([text]) for text in TEXTS])
        assert together == pytest.approx(alone, abs=1e-3)
        assert model.embed(TEXTS[::-1])[::-1] == pytest.approx(together, abs=1e-3)

    def test_loaded_twice_it_is_the_same_model(self, plugin: Embedder, model: TextEmbedding, tmp_path: Path) -> None:
        folder = tmp_path / "again"
        folder.mkdir()
        again = plugin.load(self.make_source(folder))
        assert again.width == model.width
        assert again.embed(TEXTS) == pytest.approx(model.embed(TEXTS), abs=1e-5)

    def test_texts_that_mean_the_same_are_nearer(self, model: TextEmbedding) -> None:
        one, same, other = model.embed([*self.near, self.far])
        assert one @ same > one @ other

    def test_missing_source_is_not_found(self, plugin: Embedder) -> None:
        with pytest.raises(NotFound):
            plugin.load(self.missing_source)

    def test_nothing_is_printed(self, plugin: Embedder, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "quiet"
        folder.mkdir()
        plugin.load(self.make_source(folder)).embed(TEXTS)
        assert capfd.readouterr() == ("", "")
