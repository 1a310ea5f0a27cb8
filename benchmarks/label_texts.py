"""Labels to measure searching with: a seeded grammar over the words of Python's own documentation, by a Zipf law.

Nothing here is about features; what counts is that words are as rare and as common as they are in real labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np

EXPONENT = 1.07
"""Of the words' frequencies by rank; natural language lies between 1 and 1.1."""

LEADS = (
    *("references to", "mentions of", "terms related to", "phrases about", "words in"),
    *("the word", "the start of", "the end of", "punctuation after", "technical terms for"),
)
FORMS = (
    "{lead} {a} {b}",
    "{lead} {a} and {b}",
    "{lead} {a} in {b} {c}",
    "{a} {b}",
    "{a} {b} and {c} {d}",
    "{lead} {a} {b} followed by {c}",
    "{a}, {b} and {c} in code about {d}",
    "the token {a} inside {b}",
    "{lead} {a} or {b}, especially when they describe {c} {d}",
)


def vocabulary(n_documents: int = 700) -> list[str]:
    """Words and parts of identifiers in Python's documentation and library, the most frequent first."""
    from featuredb.corpora import open_corpus

    counts: Counter[str] = Counter()
    for document in islice(open_corpus("python-docs"), n_documents):
        counts.update(re.findall(r"[a-z]{3,}", document.text.lower()))
    return [word for word, count in counts.most_common() if count > 1]


def label_texts(n: int, words: list[str], seed: int = 0) -> Iterator[str]:
    """n labels, the same ones for the same words and seed."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(words) + 1) ** EXPONENT
    weights /= weights.sum()
    for start in range(0, n, 10_000):
        size = min(10_000, n - start)
        drawn = random.choice(len(words), (size, 4), p=weights)
        leads, forms = random.integers(len(LEADS), size=size), random.integers(len(FORMS), size=size)
        for row, lead, form in zip(drawn.tolist(), leads.tolist(), forms.tolist(), strict=True):
            a, b, c, d = (words[index] for index in row)
            yield FORMS[form].format(lead=LEADS[lead], a=a, b=b, c=c, d=d)
