"""The pieces of documents as one string, and the way between its characters and the tokens.

Rule: characters, words and lines only; what they mean in a language is told elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.store.passages import Passages

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]

BORDER = "\x00\n"
"""Stands between two pieces, so that no pattern that stays on its line, or skips white space, reaches the next."""

BLANK = " \t\n\r\f\v"

_BYTES = re.compile(r"((?:\\x[89a-f][0-9a-f])+)")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]{1,2}\b)?")
_NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Runs:
    """Stretches of the text, in order and without overlap, and which different strings they are."""

    start: Places
    end: Places
    string: NDArray[np.int32]
    """(n,) index into `strings`."""
    strings: list[str]

    def having(self, test: Callable[[str], bool]) -> Mask:
        """(n,) whether each run's string passes a test; each different string is tested once."""
        passes = np.fromiter((test(string) for string in self.strings), np.bool_, len(self.strings))
        return passes[self.string] if len(self.strings) else np.zeros(0, np.bool_)


class Text:
    """N tokens in n pieces as one string, a BORDER after each piece.

    Tokens of a byte-level vocabulary may hold a part of a character. All tokens that share a character lie on it, so
    that tokens overlap there; a character that has lost bytes at a piece's border reads as U+FFFD.
    """

    def __init__(self, passages: Passages) -> None:
        self.passages = passages
        self.n_tokens = passages.n_tokens
        strings, self.start, self.end = _spell(passages)
        self.string = "".join(strings)
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        self.piece_end: Places = np.cumsum(lengths) - len(BORDER)
        self.piece_start: Places = self.piece_end - lengths + len(BORDER)

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """(n_characters,) code points."""
        return np.frombuffer(self.string.encode("utf-32-le", "surrogatepass"), np.uint32)

    @cached_property
    def visible(self) -> Mask:
        """(n_characters,) whether each is neither blank nor part of a border."""
        return ~np.isin(self.codes, np.array([0, *map(ord, BLANK)], np.uint32))

    @cached_property
    def token_of(self) -> NDArray[np.int32]:
        """(n_characters,) the first token that lies on each; the last token before it, on a border."""
        first = np.maximum(self.start, np.concatenate([[0], np.maximum.accumulate(self.end)[:-1]]))
        count = np.bincount(first[self.end > first], minlength=len(self.string) + 1)[:-1]
        owners = np.flatnonzero(self.end > first)
        if not len(owners):
            return np.zeros(len(self.string), np.int32)
        found: NDArray[np.int32] = owners[np.maximum(np.cumsum(count) - 1, 0)].astype(np.int32)
        return found

    @cached_property
    def _shared(self) -> tuple[Places, Places]:
        """Tokens that begin inside a character of an earlier one, and the first token on that character."""
        wide = np.flatnonzero(self.end > self.start)
        owner = self.token_of[self.start[wide]]
        other = owner != wide
        return wide[other], owner[other].astype(np.int64)

    def over(self, start: Places, end: Places) -> Mask:
        """(N,) whether each token lies on one of the characters of some stretches; empty stretches hold none."""
        start, end = np.asarray(start, np.int64), np.asarray(end, np.int64)
        filled = end > start
        steps = np.zeros(self.n_tokens + 1, np.int32)
        if filled.any():
            np.add.at(steps, self.token_of[start[filled]], 1)
            np.subtract.at(steps, self.token_of[end[filled] - 1] + 1, 1)
        mask: Mask = np.cumsum(steps)[:-1] > 0
        mask &= self.end > self.start
        late, owner = self._shared
        mask[late] |= mask[owner]
        return mask

    def matching(self, pattern: str | re.Pattern[str], group: int = 0, *, within: Mask | None = None) -> Mask:
        """(N,) whether each token lies on a match of a pattern, or on one of its groups, blanks at its ends aside.

        within: (n_characters,) where a match has to begin. A pattern that begins with ^ finds nothing where a piece
        from the middle of a document begins, which need not be the beginning of a line.
        """
        compiled = re.compile(pattern)
        found = [(match.start(), *match.span(group)) for match in compiled.finditer(self.string)]
        whole, first, last = np.array(found, np.int64).reshape(-1, 3).T
        start, end = self.trimmed(first, last)
        kept = (start >= 0) & (end > start)
        if compiled.pattern.startswith("^"):
            kept &= ~np.isin(whole, self.piece_start[self.passages.offset > 0])
        if within is not None:
            kept[kept] = within[start[kept]]
        return self.over(start[kept], end[kept])

    def trimmed(self, start: Places, end: Places) -> tuple[Places, Places]:
        """The stretches without blanks at their ends; those of blanks alone end where they start."""
        first = np.append(self._following, len(self.codes))[np.clip(start, 0, len(self.codes))]
        last = self._preceding[np.clip(end - 1, 0, max(0, len(self.codes) - 1))] + 1 if len(self.codes) else end
        return np.where(start < 0, -1, np.minimum(first, end)), np.maximum(last, np.minimum(first, end))

    @cached_property
    def _following(self) -> Places:
        """(n_characters,) the first character at or after each that is not blank."""
        return _next(self.visible)

    @cached_property
    def _preceding(self) -> Places:
        """(n_characters,) the last character at or before each that is not blank; -1 where there is none."""
        return len(self.visible) - 1 - _next(self.visible[::-1])[::-1]

    def over_pairs(self, pairs: Iterable[tuple[int, int]]) -> Mask:
        """The same as `over`, of stretches given one by one."""
        stretches = np.array(list(pairs), np.int64).reshape(-1, 2)
        return self.over(stretches[:, 0], stretches[:, 1])

    def holding(self, characters: Mask) -> Mask:
        """(N,) whether each token lies on one of some characters. characters: (n_characters,)."""
        total = np.concatenate([[0], np.cumsum(characters)])
        mask: Mask = total[self.end] > total[self.start]
        return mask

    def at(self, characters: Mask, place: Places) -> Mask:
        """Whether a character is one of some, at places that may lie past the end or be -1 for none."""
        inside = (place >= 0) & (place < len(characters))
        mask: Mask = inside & characters[np.where(inside, place, 0)]
        return mask

    @cached_property
    def head(self) -> Places:
        """(N,) each token's first character that is not blank; -1 of blank tokens."""
        found = np.append(self._following, len(self.codes))[self.start]
        return np.where(found < self.end, found, -1)

    @cached_property
    def tail(self) -> Places:
        """(N,) each token's last character that is not blank; -1 of blank tokens."""
        found = np.append(self._preceding, -1)[np.maximum(self.end, 1) - 1]
        return np.where((found >= self.start) & (self.end > self.start), found, -1)

    @cached_property
    def words(self) -> Runs:
        """Words of letters, with an English clitic: "don't" is one."""
        return self.runs(_WORD)

    @cached_property
    def names(self) -> Runs:
        """Runs of letters, digits and underscores."""
        return self.runs(_NAME)

    def runs(self, pattern: str | re.Pattern[str]) -> Runs:
        """All matches of a pattern."""
        start, end, string, known = [], [], [], dict[str, int]()
        for match in re.compile(pattern).finditer(self.string):
            start.append(match.start())
            end.append(match.end())
            string.append(known.setdefault(match[0], len(known)))
        return Runs(np.array(start, np.int64), np.array(end, np.int64), np.array(string, np.int32), list(known))

    def of_token(self, runs: Runs) -> NDArray[np.int32]:
        """(N,) the first run that each token lies on; -1 where there is none."""
        if not len(runs.start):
            return np.full(self.n_tokens, -1, np.int32)
        found = np.searchsorted(runs.end, self.start, side="right")
        inside = found < len(runs.start)
        inside &= (runs.start[np.where(inside, found, 0)] < self.end) & (self.end > self.start)
        return np.where(inside, found, -1).astype(np.int32)


def _next(marks: Mask) -> Places:
    """(n,) the place of the first mark at or after each place; n where there is none."""
    n = len(marks)
    places = np.where(marks, np.arange(n), n)
    found: Places = np.minimum.accumulate(places[::-1])[::-1]
    return found


def _spell(passages: Passages) -> tuple[list[str], Places, Places]:
    """Each piece's text with its BORDER, and where each token's characters start and end."""
    texts, start = passages.texts, passages.start
    distinct = np.unique(passages.token)
    broken = np.zeros(len(texts), np.bool_)
    broken[distinct] = [_BYTES.search(texts[token]) is not None for token in distinct.tolist()]
    length = np.zeros(len(texts), np.int64)
    length[distinct] = [len(texts[token]) for token in distinct.tolist()]
    wide = length[passages.token]
    begins, n_wide = np.zeros(passages.n_tokens, np.int64), np.zeros(passages.n_tokens, np.int64)
    strings, at = [], 0
    damaged = np.add.reduceat(broken[passages.token], start[:-1]) if passages.n_tokens else np.zeros(0)
    for piece, (low, high) in enumerate(zip(start[:-1].tolist(), start[1:].tolist(), strict=True)):
        ids = passages.token[low:high]
        if damaged[piece]:
            string, first, last = _join([texts[token] for token in ids.tolist()])
            begins[low:high], n_wide[low:high] = at + first, last - first
        else:
            string = "".join([texts[token] for token in ids.tolist()])
            begins[low:high] = at + np.cumsum(wide[low:high]) - wide[low:high]
            n_wide[low:high] = wide[low:high]
        strings.append(string + BORDER)
        at += len(string) + len(BORDER)
    return strings, begins, begins + n_wide


def _join(tokens: list[str]) -> tuple[str, Places, Places]:
    """The text of tokens some of which show bytes as \\xe2, and where each one's characters start and end."""
    raw = [b"".join(_bytes(part) for part in _BYTES.split(token) if part) for token in tokens]
    joined = b"".join(raw).decode("utf-8", "surrogateescape")
    lengths = [len(character.encode("utf-8", "surrogateescape")) for character in joined]
    character = np.repeat(np.arange(len(joined)), lengths)
    ends = np.cumsum([len(part) for part in raw])
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    filled = ends > starts
    bounded = np.append(character, len(joined))
    first = bounded[starts]
    last = np.where(filled, bounded[np.maximum(ends - 1, 0)] + 1, first)
    return re.sub("[\udc80-\udcff]", "\ufffd", joined), first.astype(np.int64), last.astype(np.int64)


def _bytes(part: str) -> bytes:
    if _BYTES.fullmatch(part):
        return bytes.fromhex(part.replace("\\x", ""))
    return part.encode("utf-8", "replace")
