"""What predicates look at: tokens, text, lines and code of some passages, each worked out when first asked for.

Rule: one token one answer, from its own piece of a document; nothing crosses the border of a piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.predicates.code import Code
from featuredb.predicates.text import Mask, Places, Text
from featuredb.store.passages import Passages

TAB = 8
"""Columns to the next stop of a tab, as Python counts them."""


class View:
    """The N tokens of some passages, as predicates see them."""

    def __init__(self, passages: Passages) -> None:
        self.passages = passages
        self.n_tokens = passages.n_tokens

    @cached_property
    def text(self) -> Text:
        return Text(self.passages)

    @cached_property
    def code(self) -> Code:
        return Code(self.text)

    @cached_property
    def lines(self) -> Lines:
        return Lines(self.text)

    @cached_property
    def piece(self) -> NDArray[np.int32]:
        """(N,)"""
        return self.passages.piece

    @cached_property
    def within(self) -> Places:
        """(N,) how many tokens of its piece come before each."""
        return np.arange(self.n_tokens) - self.passages.start[:-1][self.piece]

    @cached_property
    def offset(self) -> Places:
        """(N,) each token's place in its document."""
        return self.passages.offset[self.piece] + self.within

    def table(self, test: Callable[[str], bool]) -> Mask:
        """(N,) whether each token's text passes a test, which is made once for each different token."""
        mask: Mask = self.of_vocabulary(test)[self.passages.token]
        return mask

    def of_vocabulary(self, test: Callable[[str], bool]) -> Mask:
        """(n_vocabulary,) whether the text of each token that occurs passes a test."""
        texts = self.passages.texts
        found = np.zeros(len(texts), np.bool_)
        for token in self._distinct:
            found[token] = test(texts[token])
        return found

    def places(self, texts: Iterable[str]) -> Places:
        """Where the tokens of some texts are, in no order; from an index, so that rare ones cost next to nothing."""
        order, first = self._by_token
        found = [order[first[token] : first[token + 1]] for text in set(texts) for token in self.tokens_of(text)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def tokens_of(self, text: str) -> list[int]:
        """The ids that are shown as a text, of those that occur."""
        return self._ids.get(text, [])

    @cached_property
    def _by_token(self) -> tuple[Places, Places]:
        """(N,) the places by token id, and where those of each id begin."""
        token = self.passages.token
        order = np.argsort(token, kind="stable")
        return order, np.searchsorted(token[order], np.arange(len(self.passages.texts) + 1))

    @cached_property
    def _ids(self) -> dict[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for token in self._distinct:
            ids.setdefault(self.passages.texts[token], []).append(token)
        return ids

    @cached_property
    def _distinct(self) -> list[int]:
        distinct: list[int] = np.unique(self.passages.token).tolist()
        return distinct

    def before(self, mask: Mask, steps: int = 1) -> Mask:
        """(N,) whether the token `steps` before each, in its own piece, is marked."""
        if steps == 0:
            return mask
        moved = np.zeros(self.n_tokens, np.bool_)
        moved[steps:] = mask[:-steps]
        moved &= self.within >= steps
        return moved

    def after(self, mask: Mask) -> Mask:
        """(N,) whether the token after each, in its own piece, is marked."""
        moved = np.zeros(self.n_tokens, np.bool_)
        moved[:-1] = mask[1:]
        moved[self.passages.start[1:] - 1] = False
        return moved

    def words(self, test: Callable[[str], bool]) -> Mask:
        """(N,) whether each token lies on a word, of letters alone, that passes a test."""
        runs = self.text.words
        chosen = runs.having(test)
        return self.text.over(runs.start[chosen], runs.end[chosen])

    @cached_property
    def word(self) -> NDArray[np.int32]:
        """(N,) the word, of letters alone, that each token is a piece of, by number in `text.words`; -1 for none."""
        return self.text.of_token(self.text.words)

    @cached_property
    def word_before(self) -> NDArray[np.int32]:
        """(N,) the word before that one, in the same piece; -1 where there is none."""
        words = self.text.words
        piece = np.searchsorted(self.text.piece_start, words.start, side="right")
        follows = np.append(False, piece[1:] == piece[:-1])[: len(piece)]
        known = self.word > 0
        known[known] = follows[self.word[known]]
        return np.where(known, self.word - 1, -1).astype(np.int32)

    def at_words(self, words: NDArray[np.int32], test: Callable[[str], bool]) -> Mask:
        """(N,) whether the word that each token has passes a test. words: (N,) numbers in `text.words`, -1 for none."""
        passing = np.append(self.text.words.having(test), False)
        found: Mask = passing[words]
        return found

    def names(self, test: Callable[[str], bool]) -> Mask:
        """(N,) whether each token lies on a run of letters, digits and underscores that passes a test."""
        runs = self.text.names
        chosen = runs.having(test)
        return self.text.over(runs.start[chosen], runs.end[chosen])

    def pattern(self, pattern: str, group: int = 0) -> Mask:
        """(N,) whether each token lies on a match of a pattern, blanks at its ends aside; ^ and $ are ends of lines."""
        return self.text.matching(re.compile(pattern, re.MULTILINE), group)

    def of_pieces(self, test: Callable[[str], bool]) -> Mask:
        """(N,) whether the name of each token's document passes a test."""
        names = self.passages.names
        passes = {document: test(name) for document, name in names.items()}
        of_piece = np.array([passes[document] for document in self.passages.document.tolist()], np.bool_)
        mask: Mask = of_piece[self.piece] if self.n_tokens else np.zeros(0, np.bool_)
        return mask

    @cached_property
    def blank(self) -> Mask:
        """(N,) tokens of white space alone; tokens of no character at all are not among them."""
        return (self.text.head < 0) & (self.text.end > self.text.start)

    @cached_property
    def prose(self) -> Mask:
        """(N,) tokens on a character of prose."""
        return self.text.holding(self.prose_characters)

    @cached_property
    def is_python(self) -> Mask:
        return self.of_pieces(lambda name: name.endswith((".py", ".pyi")))

    @cached_property
    def prose_characters(self) -> Mask:
        """(n_characters,) of documents that are no source, and of docstrings and comments in those that are."""
        marks = np.zeros(len(self.text.string) + 1, np.int32)
        code = self.code
        for start, end in [*(each.inside for each in code.literals if each.docstring), *code.comments]:
            marks[start] += 1
            marks[max(start, end)] -= 1
        inside = np.cumsum(marks)[:-1] > 0
        python = np.zeros(len(inside), np.bool_)
        for piece in code.pieces:
            python[self.text.piece_start[piece] : self.text.piece_end[piece]] = True
        return inside | ~python

    def in_prose(self, pattern: str, group: int = 0) -> Mask:
        """The same as `pattern`, of matches that begin in prose."""
        return self.text.matching(re.compile(pattern, re.MULTILINE), group, within=self.prose_characters)


class Lines:
    """The lines of all pieces; a piece from the middle of a document begins with what is left of a line."""

    def __init__(self, text: Text) -> None:
        self.text = text
        breaks = np.flatnonzero(text.codes == ord("\n"))
        # The newline of a border ends no line of the text.
        border = text.codes[np.maximum(breaks - 1, 0)] == 0
        inner = breaks[~border]
        self.start: Places = np.sort(np.concatenate([text.piece_start, inner + 1]))
        """(L,) the first character of each line."""
        piece = np.searchsorted(text.piece_start, self.start, side="right") - 1
        following = np.searchsorted(inner, self.start)
        bounded = np.append(inner, len(text.codes))
        ended = bounded[following] < text.piece_end[piece] if len(piece) else np.zeros(0, np.bool_)
        self.end: Places = np.where(ended, bounded[following], text.piece_end[piece])
        """(L,) its newline, or the end of the piece."""
        self.ended = ended
        """(L,) whether the piece shows its end."""
        first = self.start == text.piece_start[piece]
        self.begun = ~first | (text.passages.offset[piece] == 0)
        """(L,) whether the piece shows its beginning."""
        self.piece = piece
        visible = np.concatenate([np.flatnonzero(text.visible), [len(text.codes)]])
        self.head: Places = visible[np.searchsorted(visible, self.start)]
        """(L,) its first character that is not blank; somewhere behind it, where it is blank."""
        self.blank = self.head >= self.end
        self.tail: Places = visible[np.maximum(np.searchsorted(visible, self.end) - 1, 0)]
        """(L,) its last character that is not blank."""

    @cached_property
    def indent(self) -> Places:
        """(L,) columns before the first character that is not blank; -1 of blank lines and of ends of lines."""
        columns = np.where(self.blank | ~self.begun, -1, self.head - self.start)
        tabs = np.concatenate([[0], np.cumsum(self.text.codes == ord("\t"))])
        for line in np.flatnonzero((columns > 0) & (tabs[self.head] > tabs[self.start])).tolist():
            lead = self.text.string[self.start[line] : self.head[line]]
            columns[line] = len(lead.expandtabs(TAB))
        return columns

    @cached_property
    def above(self) -> Places:
        """(L,) the indentation of the last line before each that is not blank, in its piece; -1 where none is shown."""
        shown = self.indent >= 0
        last = np.maximum.accumulate(np.where(shown, np.arange(len(shown)), -1))
        before = np.concatenate([[-1], last[:-1]])
        same = (before >= 0) & (self.piece[np.maximum(before, 0)] == self.piece)
        return np.where(same, self.indent[np.maximum(before, 0)], -1)

    @cached_property
    def of_token(self) -> Places:
        """(N,) the line of each token's first character that is not blank; of a blank one, the line it leads to."""
        text = self.text
        place = np.where(text.head >= 0, text.head, np.maximum(text.end - 1, text.start))
        newline = text.at(text.codes == ord("\n"), place)
        return np.searchsorted(self.start, place + newline, side="right") - 1

    def over(self, lines: Mask) -> Mask:
        """(N,) whether each token that is not blank lies on one of some lines. lines: (L,)."""
        chosen = lines & ~self.blank
        return self.text.over(self.head[chosen], self.tail[chosen] + 1)
