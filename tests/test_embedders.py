"""Models of texts: what every embedder keeps, ours run for real and offline, and what is said where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featuredb.plugins import Embedder, Registry, TextEmbedding
from featuredb.testing.embedders import EmbedderContract
from tests.toy_embedder import toys


@pytest.mark.slow
class TestSentenceTransformers(EmbedderContract):
    plugin_name = "sentence-transformers"

    def test_it_gives_what_the_library_gives(self, model: TextEmbedding) -> None:
        from sentence_transformers import SentenceTransformer

        from featuredb_plugins.sentence_transformers import _packaged

        texts = ["capital letters", "the price of fish"]
        theirs = SentenceTransformer(_packaged()).encode(texts, normalize_embeddings=True)
        assert model.embed(texts) == pytest.approx(theirs, abs=1e-5)
        assert model.width == 384

    def test_a_folder_of_the_same_model_has_another_id(self, plugin: Embedder, model: TextEmbedding) -> None:
        from featuredb_plugins.sentence_transformers import _packaged

        other = plugin.load(_packaged())
        assert other.id.startswith(f"{plugin.name}:{_packaged()}@")
        assert np.allclose(other.embed(["x"]), model.embed(["x"]), atol=1e-5)


class TestToy(EmbedderContract):
    plugin_name = "toy"

    @pytest.fixture
    def registry(self) -> Registry:
        return toys()


def test_without_the_extra_the_error_names_it() -> None:
    """In a process of its own, where the library cannot be imported."""
    program = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from featuredb.plugins import Registry\n"
        "from featuredb.errors import PluginFailed\n"
        "try: Registry.installed().embedder('sentence-transformers').load(None)\n"
        "except PluginFailed as error: print(error.message, '|', error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "sentence-transformers is not installed | pip install 'featuredb[embed]'\n"


@pytest.mark.slow
def test_the_packaged_model_needs_no_network(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('it went to the network')\n"
        "socket.socket.connect = refuse\n"
        "from featuredb.plugins import Registry\n"
        "print(Registry.installed().embedder('sentence-transformers').load(None).embed(['x']).shape)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("(1, 384)\n", "")
