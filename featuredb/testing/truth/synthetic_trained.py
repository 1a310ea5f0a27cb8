"""A dictionary trained on a synthetic world by the trainer that users have, and what it absorbed, found from the truth.

Rule: nothing is put in here. What went wrong in training is told by comparing with the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.audit.requests import Floats32
from featuredb.testing.truth.synthetic import Absorption, SyntheticWorld, as_request
from featuredb.testing.truth.synthetic_world import Shape, World, draw_world, fired

if TYPE_CHECKING:
    import torch

    from featuredb.dictionary import Dictionary

MATCH = 0.5
"""Least cosine at which a trained feature stands for a true one."""

MISSED, SEEN = 0.2, 0.6
"""A trained feature has lost a word where it fires on less than the first share of it, and on the second of another."""

CARRIED = 0.1
"""Least cosine of an absorber's decoder row with the direction of what it absorbed."""

BORNE = 0.4
"""Least of that direction's part of the hidden vector that the absorber brings. Source of both: the absorption metrics
of SAEBench; Karvonen et al. (2025), arXiv:2503.09532."""

BATCH = 1_024
"""Rows of a training step."""


def trained_request(
    seed: int = 0,
    shape: Shape | None = None,
    *,
    world: World | None = None,
    n_features: int | None = None,
    k: int = 3,
    n_steps: int = 1_500,
) -> SyntheticWorld:
    """A top-k dictionary trained on a world's hidden vectors, by default with as many features as are true.

    k: fewer than fire at a time make it absorb. What it absorbed is found from the truth: words of a feature's concept
    on which it is silent, though it fires on others, while a feature that points the concept's way fires.
    """
    world = world or draw_world(seed, shape)
    hidden = world.hidden(np.arange(world.true.n_tokens))
    dictionary = _train(hidden, n_features or world.true.n_features, k, n_steps, seed)
    firings = _encoded(dictionary, hidden)
    assert dictionary.w_enc is not None
    decoder, encoder = dictionary.w_dec[:, 0].numpy(), np.ascontiguousarray(dictionary.w_enc.numpy().T)
    stands_for = _matched(decoder, world.vectors)
    return as_request(world, firings, (decoder, encoder), stands_for, _found(world, firings, decoder, stands_for))


def agreement(synthetic: SyntheticWorld) -> tuple[float, float]:
    """F1 and MCC of a dictionary: the mean over its features of how well each fires where the true feature does that it
    stands for (0 where it stands for none), and the mean cosine of rows matched with true directions, one to one.

    Source: the figures of sae-lens's synthetic benchmark, whose F1 takes the nearest true feature, matched or not.
    """
    from scipy.optimize import linear_sum_assignment

    fired, true = synthetic.request.panel, synthetic.world.true
    f1 = np.zeros(fired.n_features)
    for feature, concept in enumerate(synthetic.stands_for.tolist()):
        if concept >= 0:
            ours, theirs = fired.of(feature)[0], true.of(concept)[0]
            both = len(np.intersect1d(ours, theirs, assume_unique=True))
            f1[feature] = 2 * both / max(1, len(ours) + len(theirs))
    rows = synthetic.request.directions.decoder(range(fired.n_features))
    cosines = np.abs(rows @ synthetic.world.vectors.T) / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return float(f1.mean()), float(cosines[linear_sum_assignment(-cosines)].mean())


def _train(hidden: Floats32, n_features: int, k: int, n_steps: int, seed: int) -> Dictionary:
    import torch

    from featuredb.plugins import Registry
    from featuredb.training import TrainingPlan

    def rows() -> Iterator[torch.Tensor]:
        random = np.random.default_rng((20_264, seed))
        while True:
            yield torch.from_numpy(hidden[random.integers(0, len(hidden), BATCH)])

    plan = TrainingPlan(
        d_in=hidden.shape[1],
        n_features=n_features,
        n_tokens=BATCH * n_steps,
        architecture="topk",
        k=k,
        lr=3e-3,
        batch_size=BATCH,
        seed=seed,
        dead_after=100,
        checkpoint_every=n_steps,
        hook="layers.0.resid_post",
    )
    with TemporaryDirectory() as folder:
        trained = Registry.installed().trainer("train").train(plan, rows(), Path(folder), lambda progress: None)
        (dictionary,) = Registry.installed().ingest("saelens").load(str(trained))
        return dictionary


def _encoded(dictionary: Dictionary, hidden: Floats32) -> Fired:
    import torch

    tokens, features, values = [], [], []
    for low in range(0, len(hidden), 8_192):
        drawn = dictionary.encode(torch.from_numpy(hidden[low : low + 8_192])).numpy()
        token, feature = np.nonzero(drawn)
        tokens.append(token + low)
        features.append(feature)
        values.append(drawn[token, feature])
    feature, token = np.concatenate(features), np.concatenate(tokens)
    return fired(feature, token, np.concatenate(values), dictionary.n_features, len(hidden))


def _matched(decoder: Floats32, vectors: Floats32) -> NDArray[np.int64]:
    """(n_features,) the true feature of each one's own that points most nearly its way."""
    from scipy.optimize import linear_sum_assignment

    unit = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-12)
    cosines = unit @ vectors.T
    found = np.full(len(decoder), -1, np.int64)
    ours, theirs = linear_sum_assignment(-cosines)
    right = cosines[ours, theirs] >= MATCH
    found[ours[right]] = theirs[right]
    return found


def _found(world: World, firings: Fired, decoder: Floats32, stands_for: NDArray[np.int64]) -> tuple[Absorption, ...]:
    start, by_token, strength = firings.by_token
    unit = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-12)
    found: list[Absorption] = []
    places = {word: np.flatnonzero(world.passages.token == word) for words in world.words.values() for word in words}
    for feature in np.flatnonzero(np.isin(stands_for, list(world.children))).tolist():
        concept = int(stands_for[feature])
        fires = np.zeros(firings.n_tokens, np.bool_)
        fires[firings.of(feature)[0]] = True
        words = [word for word in world.words[concept] if len(places[word])]
        rate = {word: float(fires[places[word]].mean()) for word in words}
        if max(rate.values(), default=0.0) < SEEN:
            continue
        toward = unit @ world.vectors[concept]
        lost: dict[int, list[str]] = {}
        for word in (word for word in words if rate[word] < MISSED):
            carried = np.zeros(len(decoder))
            for token in places[word].tolist():
                there = slice(int(start[token]), int(start[token + 1]))
                carried[by_token[there]] += strength[there] * toward[by_token[there]]
            carried[(toward < CARRIED)] = 0
            absorber, per_token = int(carried.argmax()), float(carried.max()) / len(places[word])
            if absorber != feature and per_token >= BORNE:  # a true feature's strength is 1 on average
                lost.setdefault(absorber, []).append(world.passages.texts[word])
        found += [Absorption(feature, absorber, tuple(texts)) for absorber, texts in lost.items()]
    return tuple(found)
