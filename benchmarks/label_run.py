"""A run whose features are planted: the demo's own text in contexts, and activations of which every one is known.

Rule: what labelers and scorers are handed has the form a real run has; what is true of it stays here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.label_concepts import Concept, token_mask
from featuredb.labels.split import Half, half_of
from featuredb.store.layout import RADIUS
from featuredb.store.passages import Examples, PanelFirings, Passages

if TYPE_CHECKING:
    from featuredb.labels.evidence import Evidence

LENGTH, N_PANEL, N_SAMPLES = 256, 512, 64
"""As the demo has them."""

WEAK = 0.35
"""Strength of false firings beside true ones."""

PERSISTENCE = 0.5
"""How much of the noise of one token is that of the token before: false firings come in runs."""


@dataclass(frozen=True)
class Corpus:
    """Some text in contexts, and which concepts each of its N tokens is of."""

    passages: Passages
    truth: NDArray[np.bool_]
    """(N, n_concepts)"""

    def half(self, half: Half) -> NDArray[np.int64]:
        """The pieces of one half of the documents."""
        names = self.passages.names
        mine = [half_of(names[document]) == half for document in self.passages.document.tolist()]
        return np.flatnonzero(mine)

    def in_half(self, half: Half) -> NDArray[np.bool_]:
        """(N,) whether each token is of that half."""
        found: NDArray[np.bool_] = np.isin(self.passages.piece, self.half(half))
        return found


def read_corpus(concepts: Sequence[Concept], n_tokens: int) -> Corpus:
    """The first text of `python-docs`, tokenized and packed as the demo does, with its concepts."""
    from transformers import AutoTokenizer

    from featuredb.capture.contexts import Packing, pack
    from featuredb.capture.hashing import hash_contexts
    from featuredb.corpora import open_corpus
    from featuredb.demo.tour import model_folder
    from featuredb.model.tokens import special_ids, token_texts

    tokenizer = AutoTokenizer.from_pretrained(str(model_folder()))
    marks: list[NDArray[np.bool_]] = []
    seen: list[Any] = []

    def encode(text: str) -> NDArray[np.int32]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = np.asarray(found["offset_mapping"], np.int64).reshape(-1, 2)
        name = seen[-1].name
        marks.append(np.stack([token_mask(concept, name, text, offsets) for concept in concepts], axis=1))
        return np.asarray(found["input_ids"], np.int32)

    def documents() -> Any:
        for document in open_corpus("python-docs"):
            seen.append(document)
            yield document

    bos = tokenizer.bos_token_id
    packing = Packing("concat", LENGTH, bos, bos)
    contexts = list(pack(documents(), encode, packing, special_ids(tokenizer), n_tokens))
    panel = np.argsort(hash_contexts(0, np.arange(len(contexts))))[:N_PANEL]
    pieces = [(number, piece) for number, context in enumerate(contexts) for piece in context.pieces]
    lengths = [piece.end - piece.start for _, piece in pieces]
    passages = Passages(
        token=np.concatenate([contexts[number].ids[piece.start : piece.end] for number, piece in pieces]),
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        context=np.array([number for number, _ in pieces], np.int32),
        position=np.array([piece.start for _, piece in pieces], np.int32),
        document=np.array([piece.document for _, piece in pieces], np.int32),
        offset=np.array([piece.offset for _, piece in pieces], np.int32),
        panel=np.isin([number for number, _ in pieces], panel),
        names={piece.document: piece.name for _, piece in pieces},
        texts=token_texts(tokenizer, len(tokenizer)),
    )
    truth = [
        marks[piece.document][piece.offset : piece.offset + n] for (_, piece), n in zip(pieces, lengths, strict=True)
    ]
    return Corpus(passages, np.concatenate(truth))


@dataclass(frozen=True)
class Noise:
    """How far a feature is from its concept."""

    recall: float
    """Share of the concept's tokens it fires on."""
    false: float
    """Share of all other tokens it fires on, weakly."""


def plant(truth: NDArray[np.bool_], noise: Noise, random: np.random.Generator) -> NDArray[np.float32]:
    """(N,) activations of a feature that stands for a concept. truth: (N,)."""
    n = len(truth)
    strength = random.gamma(4, 0.25, n)
    wander = random.standard_normal(n)
    for _ in range(4):  # an autoregression, as far as it is felt
        wander[1:] += PERSISTENCE * wander[:-1]
        wander /= np.sqrt(1 + PERSISTENCE**2)
    false = ~truth & (wander > np.quantile(wander, 1 - noise.false)) if noise.false else np.zeros(n, np.bool_)
    true = truth & (random.random(n) < noise.recall)
    return np.where(true, strength, np.where(false, WEAK * strength, 0)).astype(np.float32)


class PlantedEvidence:
    """What Evidence would show of planted features, on one half of the documents."""

    def __init__(self, corpus: Corpus, activations: NDArray[np.float32], half: Half, seed: int = 0) -> None:
        """activations: (N, n_features)."""
        self.half = half
        self.dictionary = "planted"
        self._corpus = corpus
        self._activations = activations
        self.n_features = activations.shape[1]
        self.n_fires = (activations != 0).sum(axis=0)
        self.density = self.n_fires / len(activations)
        self.largest = activations.max(axis=0)
        self._pieces = corpus.half(half)
        whole = corpus.passages
        counts = np.diff(whole.start)[self._pieces]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        self._from = np.repeat(whole.start[self._pieces], counts) + within
        """(n,) where each token of this half is among all."""
        self.passages = replace(
            whole,
            token=whole.token[self._from],
            start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            **{
                name: getattr(whole, name)[self._pieces]
                for name in ("context", "position", "document", "offset", "panel")
            },
        )
        self._seed = seed

    @property
    def evidence(self) -> Evidence:
        """Itself, as those who expect a real run's see it."""
        return cast("Evidence", self)

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """(n, n_concepts) of this half's tokens."""
        found: NDArray[np.bool_] = self._corpus.truth[self._from]
        return found

    def panel(self, first: int, last: int) -> PanelFirings:
        on_panel = np.flatnonzero(self.passages.on_panel)
        feature, place = np.nonzero(self._activations[self._from[on_panel], first:last].T)
        at = on_panel[place]
        values = self._activations[self._from[at], feature + first]
        return PanelFirings((feature + first).astype(np.int32), at, values)

    def examples(self, first: int, last: int) -> Examples:
        """The uniform sample alone: nobody here looks at the strongest."""
        parts = [self._sampled(feature) for feature in range(first, last)]
        owner = np.repeat(np.arange(first, last), [len(at) for at, _ in parts]).astype(np.int32)
        at = np.concatenate([at for at, _ in parts])
        rank = np.concatenate([rank for _, rank in parts])
        passages = self.passages
        piece = np.searchsorted(passages.start, at, side="right") - 1
        low = np.maximum(at - RADIUS, passages.start[piece])
        high = np.minimum(at + RADIUS + 1, passages.start[piece + 1])
        peak = self._activations[self._from[at], owner]
        windows = [
            np.rint(255 * self._activations[self._from[a:b], feature] / top) / 255
            for a, b, feature, top in zip(low.tolist(), high.tolist(), owner.tolist(), peak.tolist(), strict=True)
        ]
        return Examples(
            feature=owner,
            kind=np.ones(len(at), np.uint8),
            rank=rank.astype(np.int32),
            at=at,
            activation=peak,
            low=low,
            high=high,
            shares=np.concatenate([*windows, np.zeros(0)]).astype(np.float32),
            first=np.concatenate([[0], np.cumsum(high - low)]).astype(np.int64),
        )

    def _sampled(self, feature: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The strongest tokens of the sampled contexts that lie in this half, and the contexts' ranks."""
        whole = self._corpus.passages
        fires = np.flatnonzero(self._activations[:, feature])
        context = whole.context[np.searchsorted(whole.start, fires, side="right") - 1]
        order = np.lexsort((fires, -self._activations[fires, feature], context))
        first = np.flatnonzero(np.append(True, np.diff(context[order]) != 0))[: len(fires)]
        peaks = fires[order[first]] if len(fires) else fires
        chosen = np.random.default_rng((self._seed, feature)).permutation(len(peaks))[:N_SAMPLES]
        place = np.searchsorted(self._from, peaks[chosen])
        mine = (place < len(self._from)) & (self._from[np.minimum(place, len(self._from) - 1)] == peaks[chosen])
        return place[mine], np.flatnonzero(mine)
