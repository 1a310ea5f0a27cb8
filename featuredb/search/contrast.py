"""What fires on some texts and not on others, by a dictionary's activations on both.

Rule: arrays in, arrays out, as in `fired`.
"""

from __future__ import annotations

import numpy as np

from featuredb.search.fired import SAME, Fired, Ranked, scores
from featuredb.search.running import Figures


def rank_contrast(here: Fired, figures: Figures, n_texts: int, n_others: int) -> Ranked:
    """Features by what they score on the texts less what they score on the others; only those with more on the texts.

    here: of the texts and, after them, the others. A feature's value on either side is the mean over its texts, 0
    where it does not fire, and both sides are scored against one largest activation. Values that differ by less than
    SAME of the larger are equal. Each feature is shown on the text where its value is largest, the first of several.
    """
    n_features = len(figures.n_fires)
    on_texts = here.text < n_texts
    value, other = (
        np.bincount(here.feature[side], weights=here.value[side], minlength=n_features) / n
        for side, n in ((on_texts, n_texts), (~on_texts, n_others))
    )
    largest = np.zeros(n_features)
    np.maximum.at(largest, here.feature, here.largest)
    entries = np.flatnonzero(on_texts & (here.value != 0))
    order = np.lexsort((here.text[entries], -np.abs(here.value[entries]), here.feature[entries]))
    feature, first, fires_on = np.unique(here.feature[entries][order], return_index=True, return_counts=True)
    value, other, largest = value[feature], other[feature], largest[feature]
    score = scores(value, feature, largest, figures) - scores(other, feature, largest, figures)
    sizes = np.abs(value), np.abs(other)
    kept = np.flatnonzero(sizes[0] - sizes[1] > SAME * np.maximum(*sizes))
    kept = kept[np.lexsort((feature[kept], -score[kept]))]
    return Ranked(feature[kept], entries[order[first[kept]]], value[kept], other[kept], score[kept], fires_on[kept])
