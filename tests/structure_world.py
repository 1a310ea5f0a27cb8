"""A small dictionary with a duplicate, a split, an absorbed feature and labels shared, all of it known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.audit.requests import AuditRequest
from featuredb.labels.requests import LabelToScore
from tests.planted_run import PlantedRun, contexts_of

LENGTH, N_CONTEXTS, N_KINDS, N_FEATURES, WIDTH = 50, 400, 20, 24, 64
N = LENGTH * N_CONTEXTS

TWIN, COPY, LEFT, RIGHT, ABSORBED, ABSORBER = range(6)
HOLE = 12
"""The kind of token that ABSORBED is silent on."""

TEXTS = [f" w{kind}" for kind in range(N_KINDS)]


def world(*, turns: bool = False) -> AuditRequest:
    """TWIN and COPY are one, LEFT and RIGHT parts of one by document, ABSORBER stands in for ABSORBED on HOLE.

    turns: the twins take turns, where otherwise they fire together. The other features fire on one kind of token each.
    """
    random = np.random.default_rng(7)
    token = random.integers(0, N_KINDS, N)
    document = np.arange(N) // LENGTH // 5
    fires = np.zeros((N, N_FEATURES), np.bool_)
    fires[:, TWIN] = fires[:, COPY] = (token < 3) & (random.random(N) < 0.9)
    if turns:
        first = random.random(N) < 0.5
        fires[:, TWIN] &= first
        fires[:, COPY] &= ~first
    fires[:, LEFT] = np.isin(token, [5, 6, 7]) & (document % 2 == 0)
    fires[:, RIGHT] = np.isin(token, [5, 6, 7]) & (document % 2 == 1)
    fires[:, ABSORBED] = np.isin(token, [10, 11, 13, 14]) & (random.random(N) < 0.9)
    fires[:, ABSORBER] = (token == HOLE) & (random.random(N) < 0.9)
    for feature in range(6, N_FEATURES):
        fires[:, feature] = (token == feature % N_KINDS) & (random.random(N) < 0.5)
    activations = np.where(fires, random.uniform(1, 2, fires.shape), 0).astype(np.float32)
    run = PlantedRun(contexts_of(token, LENGTH, TEXTS), activations, N_CONTEXTS, 8)
    return _request(run, _rows(random))


def _rows(random: np.random.Generator) -> NDArray[np.float32]:
    rows = random.standard_normal((N_FEATURES, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[COPY] = rows[TWIN] + 0.01 * random.standard_normal(WIDTH)
    rows[RIGHT] = rows[LEFT] + rows[RIGHT]
    rows[ABSORBER] += rows[ABSORBED]
    return rows.astype(np.float32)


class Known:
    """Rows that are all there."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows

    def decoder(self, features: Sequence[int]) -> NDArray[np.float32]:
        return self.rows[list(features)]

    encoder = decoder

    def nearest(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        unit = self.rows / np.linalg.norm(self.rows, axis=1, keepdims=True)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -np.inf)
        order = np.argsort(-cosine, axis=1)[:, :n]
        return order, np.take_along_axis(cosine, order, axis=1)


def _request(run: PlantedRun, rows: NDArray[np.float32]) -> AuditRequest:
    def says(feature: int, kinds: list[int]) -> LabelToScore:
        return LabelToScore(feature + 100, feature, f"label of {kinds}", {"token": [TEXTS[kind] for kind in kinds]})

    labels = {
        TWIN: says(TWIN, [0, 1, 2]),
        LEFT: says(LEFT, [5, 6, 7]),
        RIGHT: says(RIGHT, [5, 6, 7]),
        ABSORBED: says(ABSORBED, [10, 11, 12, 13, 14]),
        ABSORBER: says(ABSORBER, [HOLE]),
    }
    return AuditRequest(
        features=range(run.n_features),
        everything=run.evidence,
        audit=run.evidence,
        labeling=run.evidence,
        panel=Fired.read(run.evidence),
        labels=labels,
        directions=Known(rows),
        states=cast(Any, None),
        texts=cast(Any, None),
    )
