"""How well a method's directions tell texts that they were not made of. Vectors in, figures out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featuredb.concepts.auroc import auroc
from featuredb.concepts.methods import Method, Vectors32
from featuredb.concepts.texts import Texts

FOLDS = 5
Folds = NDArray[np.int64]


def folds(texts: Texts, *, paired: bool, seed: int) -> Folds | None:
    """(n,) the fold of each of `texts.all`, in which it is left out; None where there is too little to leave out.

    Five folds, or as many as the smaller side has texts. Each has texts of both sides, in nearly the same shares. A
    text that is given twice is left out as one; otherwise the seed decides.
    paired: whether text i of one side goes with text i of the other; then the two are left out as one as well. Of two
        texts that are alike but for the concept, one that stayed would draw the direction away from the other, and the
        figure would come out far below one half.
    """
    draw = np.random.default_rng(seed)
    if paired:
        groups = _joined_pairs(texts)
        sides = [np.concatenate([groups, groups])]
    else:
        sides = [np.array(_numbered(side)) for side in (texts.positive, texts.negative)]
    n_folds = min(FOLDS, *(int(side.max()) + 1 for side in sides))
    if n_folds < 2:
        return None
    dealt = []
    for side in sides:
        order = draw.permutation(int(side.max()) + 1)
        dealt.append((np.argsort(order) % n_folds)[side])
    return np.concatenate(dealt).astype(np.int64)


def held_out(
    method: Method, positive: Sequence[Vectors32], negative: Sequence[Vectors32], fold: Folds | None
) -> dict[str, Any]:
    """The AUROC of texts left out of the making, with its 95% interval; None where too few are left to make from.

    positive, negative: each text's vectors (n_vectors, d). A text's score is the mean of its vectors' products with
    the direction made of the other folds; it is compared with texts of its own fold, for other folds have others.

    The interval is that of the texts; that folds share what they were made of is not in it, which no interval can know
    (Bengio and Grandvalet 2004, JMLR 5). Simulated, it holds the whole direction's AUROC 86 to 97 times in 100.
    """
    figures: dict[str, Any] = {
        "auroc": None,
        "auroc_low": None,
        "auroc_high": None,
        "n_held_out": None,
        "n_positive": len(positive),
        "n_negative": len(negative),
    }
    if fold is None:
        return figures
    is_positive = np.arange(len(fold)) < len(positive)
    vectors = [*positive, *negative]
    scores = np.zeros(len(fold))
    for each in np.unique(fold):
        rest = fold != each
        ours, theirs = np.flatnonzero(rest & is_positive), np.flatnonzero(rest & ~is_positive)
        if min(len(ours), len(theirs)) < method.least_to_fit:
            return figures
        direction = method.make(
            np.concatenate([vectors[at] for at in ours]), np.concatenate([vectors[at] for at in theirs])
        )
        for at in np.flatnonzero(~rest):
            scores[at] = vectors[at].mean(axis=0, dtype=np.float64) @ direction.astype(np.float64)
    found = auroc(scores, is_positive, fold)
    return figures | {
        "auroc": found.value,
        "auroc_low": found.low,
        "auroc_high": found.high,
        "n_held_out": len(fold),
    }


def _numbered(texts: Sequence[str]) -> list[int]:
    """A number for each text, from 0 in order of first appearance; the same for the same text."""
    seen: dict[str, int] = {}
    return [seen.setdefault(text, len(seen)) for text in texts]


def _joined_pairs(texts: Texts) -> NDArray[np.int64]:
    """A number for each pair, the same for pairs that share a text, be it by way of others."""
    group = list(range(len(texts.positive)))
    owner: dict[str, int] = {}
    for pair, members in enumerate(zip(texts.positive, texts.negative, strict=True)):
        for text in members:
            other = group[owner.setdefault(text, pair)]
            group = [group[pair] if each == other else each for each in group]
    return np.array(_numbered([str(each) for each in group]))
