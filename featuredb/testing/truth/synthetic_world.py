"""A world whose features are all known: when each fires, how strongly, in what direction, and on which words.

Rule: what is true, drawn with sae-lens's synthetic module. What dictionaries make of it is in `synthetic.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.store.passages import Passages

Kind = Literal["circle", "line", "independent", "bundle"]
"""circle, line: points of which one at a time fires, their directions on a ring or a straight line beside a shared one.
bundle: as many directions as members, one at a time too. independent: directions near each other, firings unrelated."""

TOGETHER = 0.6
"""Share of a group's directions that its members have in common, so that their cosines are those that weekdays and
months have in real dictionaries. Source: Engels et al. (2025), arXiv:2405.14860."""

UNEVEN = 0.1
"""Length of what is random in each direction of a circle or line, beside 1."""

SPREAD = 0.25
"""Standard deviation of strengths, beside their mean of 1."""

N_FILLERS = 120
"""Words that say nothing about the trees."""

CHUNK = 8_192
"""Tokens drawn at a time."""


@dataclass(frozen=True)
class Shape:
    """How large a world is, and what is in it."""

    n_tokens: int = 65_536
    width: int = 96
    """Of hidden vectors."""
    n_trees: int = 8
    """Three levels each, of which a token is on one branch at most: its word tells which."""
    n_free: int = 96
    """Features of no tree and no group, weakly correlated; their words are anything."""
    groups: tuple[tuple[Kind, int], ...] = (
        *(("circle", 7), ("circle", 12), ("line", 9)),
        *((("independent", 2),) * 16 + (("bundle", 4),) * 4),
    )
    """Kind and members of each."""
    tree_rate: float = 0.8
    """P(a token is on a tree)."""
    group_rate: float = 0.01
    """P(a member of a group fires)."""
    free_rate: tuple[float, float] = (0.08, 0.005)
    """Of the commonest and the rarest free feature; Zipf's law between, exponent 0.5."""
    context_length: int = 128
    contexts_per_document: int = 2


@dataclass(frozen=True)
class Node:
    """One feature of a tree."""

    feature: int
    parent: int | None
    depth: int
    """0 for a root."""
    words: tuple[int, ...]
    """Token ids of the tokens where it fires and none below it does."""


@dataclass(frozen=True)
class Group:
    """Features that belong together, or only look so."""

    kind: Kind
    features: tuple[int, ...]


@dataclass(frozen=True)
class World:
    """Features that are true, n of them, and what they do on some text; all of it is on the panel."""

    passages: Passages
    true: Fired
    """Their firings."""
    vectors: NDArray[np.float32]
    """(n, width) the direction of each, of length 1."""
    nodes: tuple[Node, ...]
    """Of all trees, parents before children."""
    groups: tuple[Group, ...]
    seed: int

    @cached_property
    def children(self) -> dict[int, tuple[int, ...]]:
        """The children of each feature that has any."""
        parents = dict.fromkeys(node.parent for node in self.nodes if node.parent is not None)
        return {p: tuple(node.feature for node in self.nodes if node.parent == p) for p in parents}

    @cached_property
    def words(self) -> dict[int, tuple[int, ...]]:
        """The token ids on which each feature of a tree fires, and it fires on no others."""
        found: dict[int, tuple[int, ...]] = {}
        for node in reversed(self.nodes):
            below = [word for child in self.children.get(node.feature, ()) for word in found[child]]
            found[node.feature] = (*node.words, *below)
        return found

    def hidden(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(places), width) what a model would hold there: each firing feature's direction, times its strength."""
        start, feature, activation = self.true.by_token
        rows = np.zeros((len(places), self.vectors.shape[1]), np.float32)
        counts = start[places + 1] - start[places]
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(start[places], counts) + within
        owner = np.repeat(np.arange(len(places)), counts)
        for low in range(0, len(at), 65_536):
            part = slice(low, low + 65_536)
            np.add.at(rows, owner[part], self.vectors[feature[at[part]]] * activation[at[part], None])
        return rows


def draw_world(seed: int, shape: Shape | None = None) -> World:
    """A world of that shape; the same seed gives the same."""
    import torch

    shape = shape or Shape()
    random = np.random.default_rng((20_261, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, nodes, groups = _generator(shape, seed)
        true = _drawn(generator, shape.n_tokens)
        vectors = _vectors(generator.num_features, groups, shape.width, random)
    n_words = N_FILLERS + sum(len(node.words) for node in nodes)
    token = _words_of(true, nodes, random)
    return World(_passages(token, shape, n_words, seed), true, vectors, nodes, groups, seed)


def _generator(shape: Shape, seed: int) -> tuple[Any, tuple[Node, ...], tuple[Group, ...]]:
    """sae-lens's generator of activations, and what is in it."""
    import torch
    from sae_lens import synthetic

    roots, nodes = _trees(shape, seed)
    rate = np.zeros(len(nodes))
    for node in nodes:
        siblings = [other.feature for other in nodes if other.parent == node.parent]
        share = 1 / np.sqrt(1 + np.arange(len(siblings)))
        above = shape.tree_rate if node.parent is None else 0.72 * rate[node.parent]
        rate[node.feature] = above * share[siblings.index(node.feature)] / share.sum()
    n = len(nodes)
    groups = []
    for kind, size in shape.groups:
        groups.append(Group(kind, tuple(range(n, n + size))))
        n += size
    rates = [rate, np.full(n - len(nodes), shape.group_rate)]
    if shape.n_free:
        high, low = shape.free_rate
        rates.append(synthetic.zipfian_firing_probabilities(shape.n_free, 0.5, high, low).numpy())
    exclusive = [g for g in groups if g.kind != "independent"]
    top = [synthetic.HierarchyNode(None, roots, True)] if roots else []
    top += [
        synthetic.HierarchyNode(None, [synthetic.HierarchyNode(f) for f in group.features], True) for group in exclusive
    ]
    base = torch.from_numpy(np.concatenate(rates)).float()
    hierarchy = synthetic.Hierarchy(top, None)
    corrected = (base * hierarchy.compute_probability_correction_factors(base)).clamp(max=0.98)
    factor, rest = synthetic.generate_random_low_rank_correlation_matrix(len(base), 12, 0.08, seed)
    grouped = slice(len(nodes), n)
    factor[grouped], rest[grouped] = 0, 1  # what is planted as independent is
    generator = synthetic.ActivationGenerator(
        len(base),
        corrected,
        std_firing_magnitudes=SPREAD,
        modify_activations=synthetic.hierarchy_modifier(top) if top else None,
        correlation_matrix=synthetic.LowRankCorrelationMatrix(factor, rest),
    )
    return generator, nodes, tuple(groups)


def _trees(shape: Shape, seed: int) -> tuple[list[Any], tuple[Node, ...]]:
    """Trees of exclusive children, as sae-lens makes them, and the same as Nodes with their words."""
    from sae_lens import synthetic

    if not shape.n_trees:
        return [], ()
    config = synthetic.HierarchyConfig(shape.n_trees, (3, 4), max_depth=2, mutually_exclusive_portion=1.0)
    roots = synthetic.generate_hierarchy(16 * shape.n_trees, config, seed).roots
    found: list[Node] = []

    def walk(level: list[Any], parent: int | None, depth: int) -> Iterator[tuple[int, int | None, int]]:
        for node in level:
            yield node.feature_index, parent, depth
            yield from walk(list(node.children), node.feature_index, depth + 1)

    word = N_FILLERS
    for feature, parent, depth in sorted(walk(roots, None, 0)):
        n_words = 3 - min(depth, 1)
        found.append(Node(feature, parent, depth, tuple(range(word, word + n_words))))
        word += n_words
    return roots, tuple(found)


def _drawn(generator: Any, n_tokens: int) -> Fired:
    tokens, features, values = [], [], []
    for low in range(0, n_tokens, CHUNK):
        drawn = generator.sample(min(CHUNK, n_tokens - low)).numpy()
        token, feature = np.nonzero(drawn)
        tokens.append(token + low)
        features.append(feature)
        values.append(drawn[token, feature])
    return fired(
        np.concatenate(features), np.concatenate(tokens), np.concatenate(values), generator.num_features, n_tokens
    )


def fired(
    feature: NDArray[Any], token: NDArray[Any], activation: NDArray[Any], n_features: int, n_tokens: int
) -> Fired:
    """Firings in any order, as those of a panel that is all of the text."""
    order = np.lexsort((token, feature))
    return Fired(
        n_features=n_features,
        tokens=np.arange(n_tokens, dtype=np.int64),
        start=np.concatenate([[0], np.cumsum(np.bincount(feature, minlength=n_features))]).astype(np.int64),
        column=token[order].astype(np.int32),
        activation=activation[order].astype(np.float32),
    )


def _vectors(n: int, groups: tuple[Group, ...], width: int, random: np.random.Generator) -> NDArray[np.float32]:
    import torch
    from sae_lens import synthetic

    def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))

    apart = torch.from_numpy(unit(random.standard_normal((n, width)))).float()
    rows = synthetic.orthogonalize_embeddings(apart, num_steps=60).numpy().astype(np.float64)
    for group in groups:
        size = len(group.features)
        shared, *axes = np.linalg.qr(random.standard_normal((width, 3)))[0].T
        if group.kind == "circle":
            angle = 2 * np.pi * np.arange(size) / size
            own = np.outer(np.cos(angle), axes[0]) + np.outer(np.sin(angle), axes[1])
        elif group.kind == "line":
            own = np.outer(np.linspace(-1.5, 1.5, size), axes[0])
        else:
            own = random.standard_normal((size, width))
            own = unit(own - np.outer(own @ shared, shared))
        if group.kind in ("circle", "line"):
            own = own + UNEVEN * unit(random.standard_normal((size, width)))
        rows[list(group.features)] = np.sqrt(TOGETHER) * shared + np.sqrt(1 - TOGETHER) * own
    return unit(rows).astype(np.float32)


def _words_of(true: Fired, nodes: tuple[Node, ...], random: np.random.Generator) -> NDArray[np.int32]:
    """(N,) a word for each token: one of the deepest feature of a tree that fires there, or a filler."""
    share = 1 / np.sqrt(1 + np.arange(N_FILLERS))
    token = random.choice(N_FILLERS, true.n_tokens, p=share / share.sum()).astype(np.int32)
    for node in sorted(nodes, key=lambda node: node.depth):
        column, _ = true.of(node.feature)
        token[column] = random.choice(np.array(node.words), len(column))
    return token


def _passages(token: NDArray[np.int32], shape: Shape, n_words: int, seed: int) -> Passages:
    start = np.arange(0, len(token) + shape.context_length, shape.context_length).clip(max=len(token))
    context = np.arange(len(start) - 1, dtype=np.int32)
    document = context // shape.contexts_per_document
    return Passages(
        token=token,
        start=start.astype(np.int64),
        context=context,
        position=np.zeros(len(context), np.int32),
        document=document,
        offset=(context % shape.contexts_per_document * shape.context_length).astype(np.int32),
        panel=np.ones(len(context), np.bool_),
        names={number: f"world {seed}, document {number}" for number in np.unique(document).tolist()},
        texts=[spelled(word) for word in range(n_words)],
    )


def spelled(word: int) -> str:
    """A word's text: a blank and letters, no two words alike."""
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    letters = ""
    for _ in range(3):
        word, place = divmod(word, len(consonants) * len(vowels))
        letters += consonants[place // len(vowels)] + vowels[place % len(vowels)]
    return f" {letters}"
