"""What chance alone finds: how high the best of a dictionary's features scores with directions drawn at random.

A score says something only beside this. Among thousands of features one is always near, and in a stream whose variance
lies mostly along a few directions much nearer than in an even one: a direction drawn evenly from the sphere would be
too easy to beat there, because concepts, as differences of activations, lie where the activations vary. So directions
are drawn with the covariance of the hook's own vectors where a run has it, v = S^(1/2) z, and evenly where none has.

A read-out is no such difference but one that went through the covariance's inverse, S^-1 S^(1/2) z: for concepts that
are, or are made, read-outs, the correlations' baseline is of directions drawn so.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from featuredb.concepts.vectors import Kind
from featuredb.errors import StoreUnusable
from featuredb.hooknames import same_tensor
from featuredb.search.spaces import Floats, Side, Space
from featuredb.store.catalog import BaselineRow, DictionaryRow, RunRow
from featuredb.store.store import Store

N_DRAWS = 100
SEED = 0
SHARE = 95
"""The percentile that is the baseline."""
MOST_VALUES = 1 << 31
"""Values of the directions above which fewer draws are made: the pass over the file is then what takes the time."""
FEW_DRAWS = 40

VERSION = 1
"""Kept with the figures; figures of another version are worked out anew."""

_MEASURE = {"decoder": "cosine_decoder", "encoder": "cosine_encoder", "response": "correlation"}


@dataclass(frozen=True, slots=True)
class Baseline:
    """The best feature's score over random directions."""

    median: float
    high: float
    """The 95th percentile."""
    n: int
    """Directions drawn."""


def baseline(
    store: Store, space: Space, side: Side, output: int = -1, kind: Kind = "unknown", seed: int = SEED
) -> Baseline | None:
    """The baseline of a dictionary's ranked features, kept in the catalog once worked out; None without such features.

    A store that cannot be written keeps nothing, and the same figures are worked out the next time.
    """
    if not space.ranked.any():
        return None
    measure = _MEASURE[side]
    if side == "decoder" and output not in (-1, len(space.place.outputs) - 1):
        measure += f":{output}"
    filtered = side == "response" and kind != "unknown"
    if filtered:
        measure += ":filtered"
    with store.reading() as session:
        row = _find(session, space, measure, seed)
        if row is not None and row.figures.get("version") == VERSION:
            return Baseline(row.figures["median"], row.figures["high"], row.n)
    draws = _draw(space, side, output, seed, filtered=filtered)
    best = space.best(side, draws, output)
    found = Baseline(float(np.median(best)), float(np.percentile(best, SHARE)), len(best))
    with suppress(StoreUnusable), store.session() as session:
        _keep(session, space, measure, seed, found)
    return found


def permuted_baseline(values: Floats, positive: NDArray[np.bool_], seed: int = SEED) -> Baseline:
    """The best AUROC of (n_texts, F) values when the texts' signs are dealt out at random, over as many deals.

    values: of features that fire on some text; those of the others are one half, the least that the best can be.
    """
    from featuredb.concepts.auroc import midranks

    random = np.random.default_rng(seed)
    n, n_positive = len(positive), int(positive.sum())
    dealt = np.zeros((N_DRAWS, n))
    for row in dealt:
        row[random.permutation(n)[:n_positive]] = 1.0
    best = np.full(N_DRAWS, 0.5)
    step = max(1, (1 << 22) // n)
    for start in range(0, values.shape[1], step):
        ranks = midranks(np.ascontiguousarray(values[:, start : start + step], np.float64))
        above = dealt @ ranks - n_positive * (n_positive + 1) / 2
        np.maximum(best, above.max(axis=1, initial=0.0) / (n_positive * (n - n_positive)), out=best)
    return Baseline(float(np.median(best)), float(np.percentile(best, SHARE)), N_DRAWS)


def _draw(space: Space, side: Side, output: int, seed: int, *, filtered: bool) -> Floats:
    """(n, width) directions."""
    place = space.place
    width = place.d_out if side == "decoder" else place.d_in
    n = N_DRAWS if place.n_features * width <= MOST_VALUES else FEW_DRAWS
    draws = np.random.default_rng(seed).standard_normal((n, width))
    moments = space.moments
    elsewhere = side == "decoder" and same_tensor(place.outputs[output]) != same_tensor(place.hook)
    if moments is None or elsewhere:
        return draws
    if filtered:
        return np.asarray(np.linalg.solve(moments.root.T, draws.T).T, np.float64)
    return draws @ moments.root.T


def _find(session: Session, space: Space, measure: str, seed: int) -> BaselineRow | None:
    place = space.place
    return session.scalar(
        select(BaselineRow).where(
            BaselineRow.dictionary_id == place.dictionary_id,
            BaselineRow.run_id.is_(None) if place.run_id is None else BaselineRow.run_id == place.run_id,
            BaselineRow.measure == measure,
            BaselineRow.seed == seed,
        )
    )


def _keep(session: Session, space: Space, measure: str, seed: int, found: Baseline) -> None:
    place = space.place
    owned = session.get(DictionaryRow, place.dictionary_id) is not None
    if not owned or (place.run_id is not None and session.get(RunRow, place.run_id) is None):
        return  # removed meanwhile
    row = _find(session, space, measure, seed)
    if row is None:
        row = BaselineRow(dictionary_id=place.dictionary_id, run_id=place.run_id, measure=measure, seed=seed)
        session.add(row)
    row.n = found.n
    row.figures = {"version": VERSION, "median": found.median, "high": found.high, "percentile": SHARE}
