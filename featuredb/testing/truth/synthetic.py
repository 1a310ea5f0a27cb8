"""The true dictionary of a synthetic world, with absorption put in, to be audited as one of a store would be.

Rule: the form of a request, and what is true of it. What is trained on a world is in `synthetic_trained.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest, Floats32, Places
from featuredb.labels.requests import LabelToScore
from featuredb.labels.split import half_of
from featuredb.store.passages import Examples, PanelFirings, Passages
from featuredb.testing.truth.planted import Plant, Planted
from featuredb.testing.truth.synthetic_world import Kind, Shape, World, draw_world, fired

ABSORBING = 0.5
"""Share of features with children of which one child absorbs them."""

WIDTH = 64
"""Of vectors of texts."""


@dataclass(frozen=True)
class Absorption:
    """A feature that is silent on some words of its concept, because another feature fires in its place."""

    feature: int
    absorber: int
    words: tuple[str, ...]
    """Texts of the tokens on which it is silent."""


@dataclass(frozen=True)
class SyntheticWorld:
    """A dictionary to be audited, and what is true of it."""

    request: AuditRequest
    world: World
    stands_for: NDArray[np.int64]
    """(n_features,) the true feature that each stands for; -1 for none."""
    absorptions: tuple[Absorption, ...]
    groups: tuple[tuple[Kind, tuple[int, ...]], ...]
    """Kind and features of each planted group, those that the dictionary has."""

    @cached_property
    def words(self) -> dict[int, tuple[str, ...]]:
        """The tokens of each feature that stands for one of a tree: where its concept is true."""
        texts = self.world.passages.texts
        true = {feature: tuple(texts[word] for word in words) for feature, words in self.world.words.items()}
        return {f: true[t] for f, t in enumerate(self.stands_for.tolist()) if t in true}


def synthetic_request(
    seed: int = 0, shape: Shape | None = None, *, world: World | None = None, absorbing: float = ABSORBING
) -> SyntheticWorld:
    """The true dictionary of a world, in which children have absorbed a share of the features above them.

    The parent is silent wherever the absorbing child fires, whose decoder row carries the parent's direction beside its
    own, so that little is lost of the hidden vectors.
    """
    world = world or draw_world(seed, shape)
    absorptions = _absorptions(world, absorbing, seed)
    decoder, encoder = world.vectors.copy(), world.vectors.copy()
    activation, silent = world.true.activation.copy(), np.zeros(len(world.true.activation), np.bool_)
    for one in absorptions:
        decoder[one.absorber] = world.vectors[one.absorber] + world.vectors[one.feature]
        encoder[one.feature] -= world.vectors[one.absorber]
        length = float(np.linalg.norm(decoder[one.absorber]))
        decoder[one.absorber] /= length
        start = world.true.start
        activation[start[one.absorber] : start[one.absorber + 1]] *= length
        column, _ = world.true.of(one.feature)
        there = np.isin(column, world.true.of(one.absorber)[0], assume_unique=True)
        silent[start[one.feature] : start[one.feature + 1]] |= there
    true = world.true
    firings = fired(true.feature[~silent], true.column[~silent], activation[~silent], true.n_features, true.n_tokens)
    stands_for = np.arange(true.n_features)
    return as_request(world, firings, (decoder, encoder), stands_for, absorptions)


def _absorptions(world: World, share: float, seed: int) -> tuple[Absorption, ...]:
    """One child in the place of each of some parents; no absorber is absorbed itself."""
    random = np.random.default_rng((20_262, seed))
    found: list[Absorption] = []
    texts = world.passages.texts
    for parent in sorted(world.children):
        if random.random() < share and parent not in {one.absorber for one in found}:
            child = int(random.choice(world.children[parent]))
            found.append(Absorption(parent, child, tuple(texts[word] for word in world.words[child])))
    return tuple(found)


def as_request(
    world: World,
    firings: Fired,
    rows: tuple[Floats32, Floats32],
    stands_for: NDArray[np.int64],
    absorptions: tuple[Absorption, ...],
) -> SyntheticWorld:
    """A dictionary made ready to be audited. rows: decoder and encoder, (n_features, width) each.

    Features that stand for one of a tree get the label that is true of it.
    """
    everything = WorldFirings(world.passages, firings)
    directions = WorldDirections(*rows)
    labels = {}
    for feature, concept in enumerate(stands_for.tolist()):
        if concept in world.words:
            texts = [world.passages.texts[word] for word in world.words[concept]]
            said = "the words " + ", ".join(text.strip() for text in texts)
            labels[feature] = LabelToScore(feature + 1, feature, said, {"token": texts})
    request = AuditRequest(
        features=range(firings.n_features),
        everything=everything,
        audit=everything.half("scoring"),
        labeling=everything.half("labeling"),
        panel=Fired.read(everything),
        labels=labels,
        directions=directions,
        states=WorldStates(world),
        texts=WordTexts(),
        seed=world.seed,
    )
    back = {concept: feature for feature, concept in enumerate(stands_for.tolist()) if concept >= 0}
    groups = [(group.kind, tuple(back[f] for f in group.features if f in back)) for group in world.groups]
    return SyntheticWorld(request, world, stands_for, absorptions, tuple(groups))


class WorldFirings:
    """Firings of a dictionary on a world's text, or on some of its pieces."""

    def __init__(self, passages: Passages, firings: Fired, pieces: NDArray[np.int64] | None = None) -> None:
        self.n_features = firings.n_features
        self.n_fires: NDArray[np.int64] = firings.n_fires
        self.density: NDArray[np.float64] = firings.n_fires / firings.n_tokens
        self.largest: Floats32 = np.zeros(self.n_features, np.float32)
        np.maximum.at(self.largest, firings.feature, firings.activation)
        self._whole, self._firings = passages, firings
        self.passages = passages if pieces is None else _some_pieces(passages, pieces)
        self._here = np.full(firings.n_tokens, -1, np.int64)
        kept = np.ones(passages.n_tokens, np.bool_) if pieces is None else np.isin(passages.piece, pieces)
        self._here[kept] = np.arange(np.count_nonzero(kept))

    def half(self, half: str) -> WorldFirings:
        """Those of one half of the documents."""
        names = self._whole.names
        mine = [half_of(names[document]) == half for document in self._whole.document.tolist()]
        return WorldFirings(self._whole, self._firings, np.flatnonzero(mine))

    def panel(self, first: int, last: int) -> PanelFirings:
        part = slice(int(self._firings.start[first]), int(self._firings.start[last]))
        at = self._here[self._firings.column[part]]
        here = at >= 0
        return PanelFirings(self._firings.feature[part][here], at[here], self._firings.activation[part][here])

    def examples(self, first: int, last: int) -> Examples:
        return self._kept.examples(first, last)

    @cached_property
    def _kept(self) -> Planted:
        """Examples are chosen as for planted features; that takes a while, and few ask for them."""
        plants = []
        for feature in range(self.n_features):
            column, activation = self._firings.of(feature)
            plants.append(Plant(feature, column.astype(np.int64), activation, float(self.density[feature])))
        return Planted(_Silent(self), plants, self._whole)


class _Silent:
    """Firings of which only the figures are known."""

    def __init__(self, of: WorldFirings) -> None:
        self.n_features, self.passages = of.n_features, of.passages
        self.n_fires, self.density, self.largest = of.n_fires, of.density, of.largest

    def panel(self, first: int, last: int) -> PanelFirings:
        return PanelFirings(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def examples(self, first: int, last: int) -> Examples:
        none, places = np.zeros(0, np.int32), np.zeros(0, np.int64)
        values = np.zeros(0, np.float32)
        kinds = np.zeros(0, np.uint8)
        return Examples(none, kinds, none, places, values, places, places, values, np.zeros(1, np.int64))


def _some_pieces(whole: Passages, pieces: NDArray[np.int64]) -> Passages:
    counts = np.diff(whole.start)[pieces]
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    names = ("context", "position", "document", "offset", "panel")
    return replace(
        whole,
        token=whole.token[np.repeat(whole.start[pieces], counts) + within],
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        **{name: getattr(whole, name)[pieces] for name in names},
    )


class WorldDirections:
    """Rows that are at hand."""

    def __init__(self, decoder: Floats32, encoder: Floats32) -> None:
        self._decoder, self._encoder = decoder, encoder

    def decoder(self, features: Sequence[int]) -> Floats32:
        return self._decoder[np.asarray(features, np.int64)]

    def encoder(self, features: Sequence[int]) -> Floats32:
        return self._encoder[np.asarray(features, np.int64)]

    def nearest(self, n: int) -> tuple[NDArray[np.int64], Floats32]:
        found, cosines = self._nearest
        missing = max(0, n - found.shape[1])
        padded = np.pad(found, ((0, 0), (0, missing)), constant_values=-1)
        return padded[:, :n], np.pad(cosines, ((0, 0), (0, missing)))[:, :n]

    @cached_property
    def _nearest(self) -> tuple[NDArray[np.int64], Floats32]:
        unit = self._decoder / np.maximum(np.linalg.norm(self._decoder, axis=1, keepdims=True), 1e-12)
        near = unit @ unit.T
        np.fill_diagonal(near, -np.inf)
        order = np.argsort(-near, axis=1, kind="stable")[:, :-1]
        return order.astype(np.int64), np.take_along_axis(near, order, axis=1)


class WorldStates:
    """Hidden vectors of a world, which has no layers but one."""

    def __init__(self, world: World) -> None:
        self._world = world

    def at(self, places: Places) -> Floats32:
        return self._world.hidden(np.asarray(places, np.int64))

    def layers(self, places: Places) -> Mapping[str, Floats32]:
        return {"hidden": self.at(places)}


class WordTexts:
    """Embeds texts as the words they hold: near when they share words. Its own embedder."""

    id = "words of a synthetic world"
    width = WIDTH

    @property
    def embedder(self) -> WordTexts:
        return self

    def embed(self, texts: Sequence[str]) -> Floats32:
        rows = np.stack([sum((_word_vector(word) for word in text.split()), np.full(WIDTH, 1e-6)) for text in texts])
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _word_vector(word: str) -> NDArray[np.float64]:
    from zlib import crc32

    return np.random.default_rng(crc32(word.strip(",").encode())).standard_normal(WIDTH)
