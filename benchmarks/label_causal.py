"""Whether what a feature does speaks for its own label: on all-MiniLM-L6-v2, which is the embedder of the labels too.

A feature's decoder row is added inside the model; the way the embedding of neutral text moves is held against the
embeddings of labels, which nobody showed the model's insides to. The control is the same under another feature's row.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Bench, Figure, spread

if TYPE_CHECKING:
    from featuredb.database import FeatureDB

N_FEATURES = 250
N_SEEDS = 3
FIRST_SEED = 101
"""The method was chosen on seeds below."""
OWN, THREE_WAY, CONTROL = 0.95, 0.90, 0.05
DENSE = 0.03
"""Share of tokens above which a feature is a mixture that few words tell; it is in the figures above all the same."""
BOUND, CONTEXTUAL = 0.8, 0.5
"""Shares of a feature's variance that the token alone explains: above the first it is bound to tokens."""


@dataclass(frozen=True)
class Found:
    """One feature under one seed."""

    feature: int
    own: float
    """Share of other labels that its effect speaks for less than for its own."""
    permuted: float
    """The same under the effect of another feature."""
    n: int
    density: float

    @property
    def three_way(self) -> float:
        """How often its own label is chosen among it and two others."""
        below = self.own * self.n
        return below * (below - 1) / (self.n * (self.n - 1))


def measure(bench: Bench) -> list[Figure]:
    import featuredb
    from featuredb.testing.truth.minilm import NAME, QUICK, Size, minilm_store

    path = minilm_store(bench.folder / "minilm.fdb", QUICK if bench.quick else Size())
    with featuredb.open(path) as db:
        db.label(NAME)
        bench.say("labelled")
        bound = explained_by_tokens(db)
        seeds = []
        for seed in range(FIRST_SEED, FIRST_SEED + bench.choose(N_SEEDS, 1)):
            seeds.append(_found(db, seed, bench.choose(N_FEATURES, 10)))
            mean = statistics.mean(one.own for one in seeds[-1])
            bench.say(f"seed {seed}: {mean:.3f} of {len(seeds[-1])} features")
    return _figures(seeds, bound)


def _figures(seeds: Sequence[Sequence[Found]], bound: dict[int, float]) -> list[Figure]:
    own = [statistics.mean(one.own for one in found) for found in seeds]
    three = [statistics.mean(one.three_way for one in found) for found in seeds]
    control = [statistics.mean(one.permuted for one in found) for found in seeds]
    n = len({one.feature for found in seeds for one in found})
    how = f"all-MiniLM-L6-v2, layers.3, top-k 16; labels of `plain`; {n} features, {len(seeds)} seeds"
    figures = [
        Figure("label_causal: own label", f"≥ {OWN}", spread(own), f"share of comparisons won; {how}", min(own) >= OWN),
        Figure("label_causal: one of three", f"≥ {THREE_WAY}", spread(three), "the same", min(three) >= THREE_WAY),
        Figure(
            "label_causal: another's effect",
            f"0.50 ± {CONTROL}",
            spread(control),
            "the same labels under the effect of another feature's decoder row",
            all(abs(value - 0.5) <= CONTROL for value in control),
        ),
    ]
    sparse = [[one for one in found if one.density <= DENSE] for found in seeds]
    said = spread([statistics.mean(one.own for one in found) for found in sparse if found])
    of_three = spread([statistics.mean(one.three_way for one in found) for found in sparse if found])
    how = f"those that fire on {DENSE:.0%} of tokens or fewer; one of three: {of_three}"
    figures.append(Figure("label_causal: sparse features", "", said, how))
    strata = (("bound to tokens", BOUND, 1.0), ("between", CONTEXTUAL, BOUND), ("contextual", -np.inf, CONTEXTUAL))
    for name, low, high in strata:
        mine = [one.own for found in seeds for one in found if low < bound[one.feature] <= high]
        features = {one.feature for found in seeds for one in found if low < bound[one.feature] <= high}
        if mine:
            said = f"{statistics.mean(mine):.3f}"
            how = f"{len(features)} features of whose variance the token explains "
            how += f"more than {low}" if high == 1.0 else f"{high} or less" if low < 0 else f"{low} to {high}"
            figures.append(Figure(f"label_causal: {name}", "", said, how))
    return figures


def _found(db: FeatureDB, seed: int, n: int) -> list[Found]:
    """The scores of n features drawn by the seed."""
    from sqlalchemy import select

    from featuredb.store.catalog import LabelRow, ScoreRow
    from featuredb.testing.truth.minilm import NAME

    with db.store.reading() as session:
        labelled = sorted(session.scalars(select(LabelRow.feature_index).where(LabelRow.text.is_not(None))).all())
    chosen = np.random.default_rng((3, seed)).permutation(labelled)[:n]
    db.score(NAME, scorers=["causal"], features=[f"{NAME}/{index}" for index in chosen.tolist()], seed=seed)
    wanted = select(LabelRow.feature_index, ScoreRow.value, ScoreRow.details, ScoreRow.n)
    wanted = wanted.join(LabelRow, ScoreRow.label_id == LabelRow.id)
    wanted = wanted.where(ScoreRow.scorer.startswith("causal."), ScoreRow.seed == seed, ScoreRow.value.is_not(None))
    density = db.sql("select density from feature order by feature")["density"].to_numpy()
    with db.store.reading() as session:
        return [
            Found(feature, value, details["permuted"], compared, float(density[feature]))
            for feature, value, details, compared in session.execute(wanted)
        ]


def explained_by_tokens(db: FeatureDB) -> dict[int, float]:
    """By feature, the share of the variance of its activation that the token alone explains, on the panel.

    Each token's mean is that of the labeling half's panel, the variance that of the scoring half's.
    """
    from featuredb.labels.evidence import Evidence
    from featuredb.store.refs import get_dictionary
    from featuredb.store.segments import SegmentRef
    from featuredb.testing.truth.minilm import NAME

    with db.store.reading() as session:
        segment = SegmentRef.newest(session, get_dictionary(session, NAME))
    dense, tokens = [], []
    for half in ("labeling", "scoring"):
        with Evidence(db.store, db._reader, segment, half) as evidence:
            passages, n = evidence.passages, evidence.n_features
            at = np.flatnonzero(passages.on_panel)
            fired = evidence.panel(0, n)
            table = np.zeros((len(at), n), np.float32)
            table[np.searchsorted(at, fired.at), fired.feature] = fired.activation
            dense.append(table)
            tokens.append(passages.token[at])
    seen, place = np.unique(tokens[0], return_inverse=True)
    means = np.zeros((len(seen), dense[0].shape[1]), np.float32)
    np.add.at(means, place, dense[0])
    means /= np.bincount(place)[:, None]
    where = np.minimum(np.searchsorted(seen, tokens[1]), len(seen) - 1)
    guess = np.where((seen[where] == tokens[1])[:, None], means[where], dense[0].mean(axis=0))
    variance = dense[1].var(axis=0)
    left = ((dense[1] - guess) ** 2).mean(axis=0)
    return {index: float(1 - left[index] / variance[index]) for index in np.flatnonzero(variance).tolist()}
