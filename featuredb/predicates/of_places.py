"""Predicates of where a token stands in its context and document, and of what it repeats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask
from featuredb.predicates.view import View

NEARBY = 64
"""How many tokens back an earlier one is looked for."""


def _since(view: View, key: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how many tokens ago, in the same piece, the key was the same; a large number where it never was.

    key: (N,) below 2**31, -1 where nothing is to be found.
    """
    n = view.n_tokens
    word = (view.piece.astype(np.int64) << 32) | (key & 0x7FFFFFFF)
    order = np.argsort(word, kind="stable")
    since = np.full(n, np.iinfo(np.int64).max)
    again = word[order[1:]] == word[order[:-1]]
    since[order[1:][again]] = (order[1:] - order[:-1])[again]
    since[key < 0] = np.iinfo(np.int64).max
    return since


def _earlier(most: int) -> Callable[[View], Mask]:
    return lambda view: _since(view, view.passages.token.astype(np.int64)) <= most


def _pairs(view: View) -> NDArray[np.int64]:
    """(N,) a number for each different pair of a token and the one before it; -1 at the beginning of a piece."""
    token = view.passages.token.astype(np.int64)
    joined = token.copy()
    joined[1:] += (token[:-1] + 1) << 31
    numbers = np.unique(joined, return_inverse=True)[1].astype(np.int64)
    return np.where(view.within > 0, numbers, -1)


def _pair_again(view: View) -> Mask:
    return _since(view, _pairs(view)) < np.iinfo(np.int64).max


def _may_go_on(view: View) -> Mask:
    """Tokens that occurred before in the piece: what came after them then may come again."""
    return _since(view, view.passages.token.astype(np.int64)) < np.iinfo(np.int64).max


def _position(low: int, high: int) -> Callable[[View], Mask]:
    """Tokens at some places of their context; a token that opens every context is not counted."""

    def tokens(view: View) -> Mask:
        opener = int(view.passages.position.min(initial=1) > 0)
        place = view.passages.position[view.piece] + view.within - opener
        mask: Mask = (place >= low) & (place < high)
        return mask

    return tokens


def _in_document(low: int, high: int) -> Callable[[View], Mask]:
    return lambda view: (view.offset >= low) & (view.offset < high)


def _file(name: str, noun: str, when: str, test: Callable[[str], bool]) -> Predicate:
    return Predicate(f"file.{name}", noun, when, lambda view: view.of_pieces(test), wide=True)


FOREVER = 1 << 40

PLACES = (
    Predicate("place.context_first", "first tokens of a context", "first in its context", _position(0, 1), wide=True),
    Predicate(
        "place.context_start",
        "the first eight tokens of a context",
        "among a context's first eight tokens",
        _position(0, 8),
        wide=True,
    ),
    Predicate(
        "place.context_early", "the first 64 tokens of a context", "early in its context", _position(0, 64), wide=True
    ),
    Predicate(
        "place.context_late",
        "tokens after the first 128 of a context",
        "late in its context",
        _position(128, FOREVER),
        wide=True,
    ),
    Predicate(
        "place.document_first", "first tokens of a document", "first in its document", _in_document(0, 1), wide=True
    ),
    Predicate(
        "place.document_start",
        "the first 32 tokens of a document",
        "at the very beginning of a document",
        _in_document(0, 32),
        wide=True,
    ),
    Predicate(
        "place.document_early",
        "the first 256 tokens of a document",
        "early in a document",
        _in_document(0, 256),
        wide=True,
    ),
    Predicate(
        "place.document_late",
        "tokens after the first 4,096 of a document",
        "late in a document",
        _in_document(4096, FOREVER),
        wide=True,
    ),
)

REPEATS = (
    Predicate(
        "repeat.previous", "tokens that repeat the one before", "same as the token before", _earlier(1), wide=True
    ),
    Predicate(
        "repeat.second",
        "tokens that repeat the one two before",
        "same as the token two before",
        lambda view: _since_is(view, 2),
        wide=True,
    ),
    Predicate(
        "repeat.nearby",
        "tokens that occurred shortly before",
        "repeated from shortly before",
        _earlier(NEARBY),
        wide=True,
    ),
    Predicate(
        "repeat.pair",
        "pairs of tokens that occurred before",
        "where a pair of tokens comes again",
        _pair_again,
        wide=True,
    ),
    Predicate(
        "repeat.passage",
        "passages that occurred before",
        "in a passage that occurred before",
        lambda view: _in_step(view),
        wide=True,
    ),
)

FILES = (
    _file("python", "Python source", "in Python source", lambda name: name.endswith((".py", ".pyi"))),
    _file(
        "text",
        "documents that are no Python source",
        "outside Python source",
        lambda name: not name.endswith((".py", ".pyi")),
    ),
    _file(
        "markup",
        "documentation files",
        "in a documentation file",
        lambda name: name.lower().endswith((".md", ".rst", ".txt", ".html")),
    ),
    _file("tests", "test files", "in a test file", lambda name: "test" in name.lower()),
)


def _since_is(view: View, steps: int) -> Mask:
    token = view.passages.token
    same = np.zeros(view.n_tokens, np.bool_)
    same[steps:] = (token[steps:] == token[:-steps]) & (view.within[steps:] >= steps)
    return same


def _in_step(view: View) -> Mask:
    """The induction pattern: this token and the two before it came, in this order, before."""
    pairs = _pairs(view)
    joined = np.where(view.within > 1, pairs, -1)
    before = np.concatenate([[-1], pairs[:-1]])
    known, numbers = np.unique(np.stack([joined, before]), axis=1, return_inverse=True)
    del known
    key = np.where((joined >= 0) & (before >= 0), numbers.ravel().astype(np.int64), -1)
    return _since(view, key) < np.iinfo(np.int64).max


PREDICATES = (*PLACES, *REPEATS, *FILES)
