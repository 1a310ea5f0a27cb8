"""Whether a feature fires on other things early than late, of the same tokens in the same documents.

A stratum is one token in one document. Where it is met both before and after a cut, the firings there should fall as
the token's occurrences do: with n tokens, a share p of them early, and k firings, D = k_early - k p is 0 but for
chance. Strata of a token are added up, |.| is taken of each token's sum, and tokens are added up. So a topic that
changes, or documents that differ, count for nothing: only a token that the feature answers to early and not late, or
late and not early, does. With M = k_early (1 - p) + k_late p in place of D, the sum is what a whole switch would give;
their quotient is the *switched* share, 0 to 1.

Under the null early and late may change names, all strata of a document together: draws flip the sign of a document's
D. Source: the wild cluster bootstrap's signs; Cameron, Gelbach and Miller (2008), Rev. Econ. Stat. 90(3). Several cuts
are tried, and the null is of the largest of them.

Rule: arrays in, arrays out; thresholds and sentences are a check's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featuredb.audit.panel import Fired
from featuredb.store.passages import Passages

CUTS = (1 / 8, 1 / 4, 1 / 2)
"""Where a context, or a document, is divided into early and late: shares of its length."""

N_DRAWS = 100

BLOCK = 256
"""Features worked on at a time."""

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Axis:
    """Where the panel's tokens lie along a context or a document."""

    name: str
    early: Mask
    """(n_cuts, n_tokens) whether a token lies before each cut."""
    cuts: tuple[str, ...]
    """Each cut in words, such as "position 32"."""


def context_axis(passages: Passages, tokens: Places) -> Axis:
    """Position in the context. tokens: the panel's places, ascending."""
    piece = np.searchsorted(passages.start, tokens, side="right") - 1
    position = passages.position[piece] + tokens - passages.start[piece]
    longest = int((passages.position + np.diff(passages.start)).max(initial=1))
    edges = [max(1, round(longest * cut)) for cut in CUTS]
    return Axis("context", np.stack([position < edge for edge in edges]), tuple(f"position {edge}" for edge in edges))


def document_axis(passages: Passages, tokens: Places) -> Axis:
    """Part of the document, as far as its text is kept."""
    piece = np.searchsorted(passages.start, tokens, side="right") - 1
    offset = passages.offset[piece] + tokens - passages.start[piece]
    numbers, which = np.unique(passages.document, return_inverse=True)
    length = np.zeros(len(numbers))
    np.maximum.at(length, which.ravel(), passages.offset + np.diff(passages.start))
    part = offset / np.maximum(1, length[which.ravel()[piece]])
    return Axis("document", np.stack([part < cut for cut in CUTS]), tuple(f"{cut:.1%}" for cut in CUTS))


class Strata:
    """The panel's tokens by token and document, and how many of each lie before every cut of an axis."""

    def __init__(self, passages: Passages, tokens: Places, axis: Axis) -> None:
        piece = np.searchsorted(passages.start, tokens, side="right") - 1
        documents, document = np.unique(passages.document[piece], return_inverse=True)
        self.n_documents = len(documents)
        token = passages.token[tokens].astype(np.int64)
        key, self.of_token = np.unique(token * max(1, self.n_documents) + document.ravel(), return_inverse=True)
        self.token, self.document = key // max(1, self.n_documents), key % max(1, self.n_documents)
        n = np.bincount(self.of_token, minlength=len(key))
        self.axis = axis
        self.share = np.stack([np.bincount(self.of_token[early], minlength=len(key)) / n for early in axis.early])
        """(n_cuts, n_strata) of a stratum's tokens, those before the cut."""


@dataclass(frozen=True)
class Shift:
    """What a block of features does along one axis; (n_features,) each."""

    switched: Floats
    """0 to 1, at the cut of the largest z, chance taken off; NaN where no token is met on both sides."""
    z: Floats
    """The largest over cuts of the sum, in the null's standard deviations."""
    p: Floats
    """Of z, by a gamma distribution with the mean, spread and skew of the draws' largest z."""
    cut: Places
    """Where the switch is most nearly."""
    at_cut: Floats
    """The switched share there."""
    n_matched: Floats
    """Firings in strata that are met on both sides, at the cut of the largest z."""


def shifts(fired: Fired, strata: Strata, seed: int) -> Iterator[tuple[int, int, Shift]]:
    """Every block of features with what it does along the axis."""
    random = np.random.default_rng((seed, strata.n_documents))
    signs = random.choice(np.array([-1.0, 1.0]), size=(N_DRAWS, strata.n_documents))
    for first in range(0, fired.n_features, BLOCK):
        last = min(first + BLOCK, fired.n_features)
        yield first, last, shift(fired, first, last, strata, signs)


def shift(fired: Fired, first: int, last: int, strata: Strata, signs: Floats) -> Shift:
    """What features first to last (left out) do along an axis. signs: (n_draws, n_documents) of 1 and -1."""
    part = slice(int(fired.start[first]), int(fired.start[last]))
    feature = np.repeat(np.arange(last - first), np.diff(fired.start[first : last + 1]))
    column = fired.column[part]
    key, cell = np.unique(feature * len(strata.token) + strata.of_token[column], return_inverse=True)
    owner, stratum = key // max(1, len(strata.token)), key % max(1, len(strata.token))
    fires = np.bincount(cell, minlength=len(key)).astype(np.float64)
    n, n_cuts = last - first, len(strata.share)
    found, drawn = np.zeros((n_cuts, n)), np.zeros((n_cuts, len(signs), n))
    most, matched = np.zeros((n_cuts, n)), np.zeros((n_cuts, n))
    for cut in range(n_cuts):
        share = strata.share[cut][stratum]
        early = np.bincount(cell[strata.axis.early[cut][column]], minlength=len(key))
        both = np.flatnonzero((share > 0) & (share < 1))
        off = (early - fires * share)[both]
        most[cut] = np.bincount(owner, early * (1 - share) + (fires - early) * share, n)
        matched[cut] = np.bincount(owner[both], fires[both], n)
        found[cut], drawn[cut] = _sums(off, owner[both], stratum[both], strata, signs, n)
    return _largest(found, drawn, most, matched)


def _sums(off: Floats, owner: Places, stratum: Places, strata: Strata, signs: Floats, n: int) -> tuple[Floats, Floats]:
    """(n,) sums over tokens of |sum over documents|, and (n_draws, n) the same with documents' signs flipped.

    Cells are by feature, then token, then document: those of one token lie together.
    """
    token = strata.token[stratum]
    new = np.append(True, (owner[1:] != owner[:-1]) | (token[1:] != token[:-1]))[: len(off)]
    begins = np.flatnonzero(new)
    if not len(begins):
        return np.zeros(n), np.zeros((len(signs), n))
    size = np.diff(np.append(begins, len(off)))
    sums = np.abs(np.add.reduceat(off, begins))
    found = np.bincount(owner[begins], sums, n).astype(np.float64)
    # A token of one document gives the same whatever its sign.
    alone = np.bincount(owner[begins], np.where(size == 1, sums, 0), n).astype(np.float64)
    several = np.repeat(size > 1, size)
    off, document = off[several].astype(np.float32), strata.document[stratum[several]]
    begins = np.flatnonzero(new[several])
    drawn = np.repeat(alone[None], len(signs), axis=0)
    if len(begins):
        whose = owner[several][begins]
        for draw, sign in enumerate(signs.astype(np.float32)):
            drawn[draw] += np.bincount(whose, np.abs(np.add.reduceat(off * sign[document], begins)), n)
    return found, drawn


def _largest(found: Floats, drawn: Floats, most: Floats, matched: Floats) -> Shift:
    """What the cuts together say. found, most, matched: (n_cuts, n); drawn: (n_cuts, n_draws, n).

    A whole switch is in the spread of the draws too, so that z hardly grows beyond what makes it sure. Where the switch
    is, is told by the largest share among the cuts whose z is half the largest.
    """
    mean, spread = drawn.mean(axis=1), drawn.std(axis=1)
    safe = np.where(spread > 1e-9, spread, np.inf)
    z = (found - mean) / safe
    null = ((drawn - mean[:, None]) / safe[:, None]).max(axis=0)
    shares = np.divide(found - mean, most, out=np.full(most.shape, np.nan), where=most > 0)
    surest, column = z.argmax(axis=0), np.arange(z.shape[1])
    best = z[surest, column]
    told = np.where((z >= best / 2) & (most > 0), np.nan_to_num(shares, nan=-1.0), -np.inf)
    cut = told.argmax(axis=0)
    return Shift(
        switched=shares[surest, column],
        z=best,
        p=gamma_tail(best, null),
        cut=cut.astype(np.int64),
        at_cut=shares[cut, column],
        n_matched=matched[surest, column],
    )


def gamma_tail(value: Floats, null: Floats) -> Floats:
    """(n,) chance of values as large, by a gamma distribution with each null's mean, spread and skew. null: (draws, n).

    Never less than 1e-12; 1 where the null has no spread. Source: Winkler et al. (2016), NeuroImage 141, section 2.8.
    """
    import torch

    mean, spread = null.mean(axis=0), null.std(axis=0)
    flat = spread <= 1e-9
    safe = np.where(flat, 1.0, spread)
    skew = np.clip((((null - mean) / safe) ** 3).mean(axis=0), 0.05, None)
    shape = 4 / skew**2
    x = shape + (value - mean) / safe * np.sqrt(shape)
    tail = torch.special.gammaincc(torch.from_numpy(shape), torch.from_numpy(np.maximum(x, 0))).numpy()
    return np.where(flat, 1.0, np.clip(tail, 1e-12, 1.0))
