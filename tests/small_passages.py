"""Passages made of plain texts: pieces of documents, cut into tokens by one pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featuredb.store.passages import Passages

TOKEN = re.compile(r" ?[^\W\d_]+|\d|_+|\n[ \t]*| +|[^\S\n ]|[^\w\s]{1,3}")
"""A word with the space before it, a digit, a line break with what follows it, up to three marks."""


@dataclass(frozen=True)
class Piece:
    """A piece of a document; it begins the document where its offset is 0."""

    text: str
    name: str = "a.txt"
    offset: int = 0
    tokens: Sequence[str] | None = None
    """Its tokens, where not the pattern's."""


def passages_of(*pieces: Piece, panel: Sequence[bool] | None = None) -> Passages:
    """Each piece in a context of its own, after an opener, all on the panel unless told otherwise."""
    cut = [list(TOKEN.findall(piece.text)) if piece.tokens is None else list(piece.tokens) for piece in pieces]
    for piece, tokens in zip(pieces, cut, strict=True):
        assert piece.tokens is not None or "".join(tokens) == piece.text, "the pattern left something out"
    vocabulary = {text: number for number, text in enumerate(dict.fromkeys(text for tokens in cut for text in tokens))}
    names = {name: number for number, name in enumerate(dict.fromkeys(piece.name for piece in pieces))}
    n = len(pieces)
    return Passages(
        token=np.array([vocabulary[text] for tokens in cut for text in tokens], np.int32),
        start=np.cumsum([0, *map(len, cut)]).astype(np.int64),
        context=np.arange(n, dtype=np.int32),
        position=np.ones(n, np.int32),
        document=np.array([names[piece.name] for piece in pieces], np.int32),
        offset=np.array([piece.offset for piece in pieces], np.int32),
        panel=np.ones(n, np.bool_) if panel is None else np.array(panel, np.bool_),
        names={number: name for name, number in names.items()},
        texts=list(vocabulary),
    )


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text without its ⟦marks⟧, and the characters they enclosed."""
    spans, plain, at = [], "", 0
    for part in re.finditer(r"⟦(.*?)⟧", text, re.DOTALL):
        plain += text[at : part.start()]
        spans.append((len(plain), len(plain) + len(part[1])))
        plain += part[1]
        at = part.end()
    return plain + text[at:], spans
