"""The documents of the benchmark: which are for texts and which for the truth, their tokens, and what each token is.

Rule: a document's side is chosen by a hash of its name, so that no document is ever on two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.concepts import Concept, token_mask
from benchmarks.planted.source import Source

if TYPE_CHECKING:
    from featuredb.corpus import Document
    from featuredb.model import Model

Side = Literal["texts", "tune", "judge"]
"""Contrasting texts are cut from the first; thresholds of the truth are set on the second, and judged on the third."""

SIDES: tuple[Side, ...] = ("texts", "texts", "tune", "judge")
MOST_TOKENS = 8_000
"""Tokens taken of one document, in a row, from a place that a hash of its name chooses: none outweighs the others."""

COPIES = frozenset({"pydoc_data/topics.py"})
"""Files that hold the text of other documents."""


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """A stretch of a document, and which concepts each of its tokens is of."""

    name: str
    text: str
    ids: NDArray[np.int32]
    """(n,) tokens of the text."""
    offsets: NDArray[np.int64]
    """(n, 2) characters of the text that each token holds."""
    marks: NDArray[np.bool_]
    """(n, n_concepts)."""


def side(name: str) -> Side:
    return SIDES[_hash(name, "side") % len(SIDES)]


def chosen(documents: Iterable[Document], wanted: Side, ingested: Collection[str]) -> Iterator[Document]:
    """The documents of one side, in their order. The truth's are none that the store has seen."""
    for document in documents:
        seen = wanted != "texts" and document.name in ingested
        if side(document.name) == wanted and not seen and document.name not in COPIES:
            yield document


def marked(documents: Iterable[Document], model: Model, concepts: Sequence[Concept], n_tokens: int) -> Iterator[Marked]:
    """Stretches of documents until they hold `n_tokens`; a document that this Python cannot parse is left out."""
    left = n_tokens
    for document in documents:
        if left <= 0:
            return
        try:
            is_code = document.name.endswith(".py")
            source = Source.of_code(document.text) if is_code else Source.of_prose(document.text)
        except SyntaxError:
            continue
        start, end = _stretch(document, model, min(left, MOST_TOKENS))
        text = document.text[start:end]
        ids, offsets = _tokens(model, text)
        marks = [token_mask(concept, source, offsets + start) for concept in concepts]
        yield Marked(document.name, text, ids, offsets, np.stack(marks, axis=1))
        left -= len(ids)


def _stretch(document: Document, model: Model, n: int) -> tuple[int, int]:
    """The characters of n tokens of a document, or of all where it has fewer."""
    _, offsets = _tokens(model, document.text)
    first = _hash(document.name, "start") % max(1, len(offsets) - n + 1)
    return int(offsets[first, 0]), int(offsets[min(first + n, len(offsets)) - 1, 1])


def _tokens(model: Model, text: str) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return np.asarray(encoded["input_ids"], np.int32), np.asarray(encoded["offset_mapping"], np.int64).reshape(-1, 2)


def _hash(name: str, what: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=what.encode()).digest(), "little")
