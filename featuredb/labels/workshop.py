"""What a labeler or scorer may need beside the text: model, vectors, neighbours, embedder; loaded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.plugins import Embedder, Registry, TextEmbedding
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store
from featuredb.store.vectors import Rows, nearest

if TYPE_CHECKING:
    from featuredb.dictionary import Dictionary
    from featuredb.model import Model

DEFAULT_EMBEDDER = "sentence-transformers"

MOST_KEPT = 100_000
"""Texts whose vectors are kept: about 150 MB of a small embedder's."""


class Workshop:
    """One dictionary of a store and its tools. What is loaded stays loaded.

    embedder: "PLUGIN" or "PLUGIN:SOURCE". Raises NotFound where no such plugin is installed.
    """

    def __init__(self, store: Store, reader: SegmentReader, segment: SegmentRef, embedder: str | None = None) -> None:
        self._store = store
        self._reader = reader
        self._segment = segment
        self._embedder = embedder or DEFAULT_EMBEDDER
        if embedder:
            self._embedding_plugin()  # a name that nobody has is said before anything runs
        self._vectors: dict[str, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """The dictionary's name."""
        return self._segment.dictionary

    @cached_property
    def hook(self) -> str:
        """Where the dictionary reads."""
        with self._store.reading() as session:
            return get_dictionary(session, self.name).hook

    def contexts(self, numbers: Sequence[int]) -> list[list[int]]:
        """The tokens of kept contexts of the newest run, in the order of their numbers as given."""
        found = self._reader.contexts(self._segment, numbers)
        return [found[number]["tokens"] for number in numbers]

    @property
    def hook_out(self) -> str:
        """Where the dictionary writes: its last output's hook, or where it reads if it says nothing else."""
        with self._store.reading() as session:
            row = get_dictionary(session, self.name)
            return row.hooks_out[-1] if row.hooks_out else row.hook

    @cached_property
    def model(self) -> Model:
        """The dictionary's model, as its newest run loaded it. Raises BadInput where its weights have changed."""
        from featuredb.search.running import Running

        return Running(self._store, self._reader).open(self.name).model

    @cached_property
    def dictionary(self) -> Dictionary:
        """The dictionary's weights."""
        from featuredb.dictionary import Dictionary

        return Dictionary.read(self._store.paths.weights(self.name))

    @cached_property
    def decoder(self) -> Rows:
        """Decoder rows, (n_features, d), read from the disk as they are asked for."""
        return Rows(self._store.paths.weights(self.name), "w_dec")

    def neighbours(self, feature: int, n: int) -> list[int]:
        """The n features whose decoder rows point most nearly the same way, nearest first; none for a row of zeros."""
        direction = self.decoder.take([feature])[0]
        if not direction.any():
            return []
        found = nearest(self._store.paths.decoder_index(self.name), self.decoder, direction, n, skip=(feature,))
        return [neighbour.index for neighbour in found]

    def promoted(self, feature: int) -> list[tuple[str, float]]:
        """The output tokens its decoder row raises most, with their logits per unit activation; may be empty."""
        row = self._reader.feature(self._segment, feature)
        texts = self._reader.tokens(self._segment)
        return [(texts[token], value) for token, value in zip(row["promoted"], row["promoted_values"], strict=True)]

    @cached_property
    def embedder(self) -> TextEmbedding:
        """The model of texts. Raises PluginFailed naming the extra that is not installed."""
        return self._embedding_plugin().load(self._embedder.partition(":")[2] or None)

    def _embedding_plugin(self) -> Embedder:
        return Registry.installed().embedder(self._embedder.partition(":")[0])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), width) unit vectors; those of the last MOST_KEPT texts are kept."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            if len(self._vectors) + len(new) > MOST_KEPT:
                self._vectors.clear()
                new = list(dict.fromkeys(texts))
            self._vectors |= dict(zip(new, self.embedder.embed(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])
