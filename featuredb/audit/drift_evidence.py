"""What shows that a feature drifts: its tokens before and after a cut, how far they differ, and how far the states do.

Rule: one feature at a time, for those that are flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.requests import AuditRequest, States

N_FLIPS = 99
"""Draws in which documents' early and late firings change places."""

N_STATES = 48
"""Firings on either side whose states are looked at."""

N_BACKGROUND = 512
"""Tokens on either side whose mean state is taken off."""

N_TOKENS, N_EXAMPLES = 6, 4

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sides:
    """One feature's firings on the panel, early and late."""

    at: Places
    activation: NDArray[np.float32]
    early: Mask
    document: Places


def sides(request: AuditRequest, feature: int, early: Mask) -> Sides:
    """early: (n panel tokens,) whether a token lies before the cut."""
    column, activation = request.panel.of(feature)
    passages, at = request.everything.passages, request.panel.tokens[column]
    piece = np.searchsorted(passages.start, at, side="right") - 1
    return Sides(at, activation, early[column], passages.document[piece].astype(np.int64))


def told(request: AuditRequest, found: Sides) -> dict[str, Any]:
    """Tokens and contexts of either side, as JSON can say them."""
    passages = request.everything.passages
    early, late = (_tokens(passages.token[found.at[side]], passages.texts) for side in (found.early, ~found.early))
    strongest = np.argsort(-found.activation, kind="stable")
    piece = np.searchsorted(passages.start, found.at, side="right") - 1
    examples = list[int]()
    for side in (found.early, ~found.early):
        contexts = dict.fromkeys(passages.context[piece[strongest[side[strongest]]]].tolist())
        examples += [context for context in contexts if context not in examples][:N_EXAMPLES]
    return {"early": early, "late": late, "examples": examples}


def token_shift(request: AuditRequest, found: Sides, random: np.random.Generator) -> tuple[float, float]:
    """Jensen-Shannon divergence of the two sides' tokens in bits, less its mean where documents' sides change places;
    and the chance of as much in these draws."""
    from featuredb.audit.chance import empirical_p

    _, token = np.unique(request.everything.passages.token[found.at], return_inverse=True)
    documents, document = np.unique(found.document, return_inverse=True)
    value = _divergence(token, found.early)
    flips = random.random((N_FLIPS, len(documents))) < 0.5
    null = [_divergence(token, found.early ^ flip[document]) for flip in flips]
    return value - float(np.mean(null)), empirical_p(value, null)


def state_shift(
    states: States, found: Sides, background: tuple[Floats, Floats], random: np.random.Generator
) -> float | None:
    """How far the mean states of the two sides lie apart, in standard deviations of what flipped documents give.

    background: the mean state of all tokens of either side, which is taken off. None where a side has one firing.
    """
    chosen = [random.permutation(np.flatnonzero(side))[:N_STATES] for side in (found.early, ~found.early)]
    if min(map(len, chosen)) < 2:
        return None
    both = np.concatenate(chosen)
    order = np.argsort(found.at[both])
    vectors = np.empty((len(both), len(background[0])))
    vectors[order] = states.at(found.at[both][order])
    early = found.early[both]
    vectors -= np.where(early[:, None], background[0], background[1])
    documents, document = np.unique(found.document[both], return_inverse=True)
    flips = random.random((N_FLIPS, len(documents))) < 0.5
    null = np.array([_distance(vectors, early ^ flip[document]) for flip in flips])
    spread = float(np.nanstd(null))
    return float((_distance(vectors, early) - np.nanmean(null)) / spread) if spread > 0 else None


def mean_states(states: States, tokens: Places, early: Mask, random: np.random.Generator) -> tuple[Floats, Floats]:
    """The mean state of some of the panel's tokens on either side of a cut. Raises BadInput without a model."""

    def mean(side: Mask) -> Floats:
        chosen = random.permutation(tokens[side])[:N_BACKGROUND]
        return np.asarray(states.at(np.sort(chosen)).astype(np.float64).mean(axis=0))

    return mean(early), mean(~early)


def _tokens(ids: NDArray[np.int32], texts: Sequence[str]) -> list[str]:
    """The texts of the most frequent tokens."""
    found, count = np.unique(ids, return_counts=True)
    return [texts[token] for token in found[np.argsort(-count, kind="stable")][:N_TOKENS]]


def _divergence(token: Places, early: Mask) -> float:
    n = int(token.max(initial=0)) + 1
    one, other = (np.bincount(token[side], minlength=n) / max(1, side.sum()) for side in (early, ~early))
    return _entropy((one + other) / 2) - (_entropy(one) + _entropy(other)) / 2


def _entropy(share: Floats) -> float:
    kept = share[share > 0]
    return float(-(kept * np.log2(kept)).sum())


def _distance(vectors: Floats, early: Mask) -> float:
    if not early.any() or early.all():
        return float("nan")
    return float(np.linalg.norm(vectors[early].mean(axis=0) - vectors[~early].mean(axis=0)))
